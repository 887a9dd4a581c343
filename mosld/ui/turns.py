"""Who may train, and whose turn it is. No torch and no gradio here.

- `Places(most, memory)`: so many runs are under way, and so many bytes; who comes later waits in line and can ask for its place in it.
- `Turns(workers)`: of the runs under way so many compute at a time, in slices, so that all of them move. What nobody has seen a picture of
  comes before what somebody has, and a question before both.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mosld.backbones import Pool
from mosld.config import ConfigError

SLICE = 0.4  # seconds that a run computes while others wait
OPENING = 3.0  # the same of a run without a picture yet: slices would make all of them late
LINE = 32  # runs that wait for a place; the next one is told that the lab is busy
QUESTION, FIRST, TRAINING = range(3)  # ranks in the line for a turn


class Ticket:
    """One run's wish for a place. `size`: bytes it will need. `left()`: seconds until it gives the place back, None where nobody knows."""

    def __init__(self, size: int, left: Callable[[], float | None]):
        self.size, self.left, self.inside, self.withdrawn = size, left, False, False


class Places:
    """The places of one lab. Tickets come in first in, first out."""

    def __init__(self, most: int, memory: int):
        self.most, self.memory = most, memory
        self._line: list[Ticket] = []
        self._inside: list[Ticket] = []
        self._changed = threading.Condition()

    def ask(self, ticket: Ticket) -> None:
        """Stand in line. Raises ConfigError where it is full."""
        with self._changed:
            if len(self._line) >= LINE:
                raise ConfigError(f"runs: {len(self._line)} are waiting for a place already; please come back in a few minutes.")
            self._line.append(ticket)
            self._admit()

    def wait(self, ticket: Ticket) -> bool:
        """Wait until the ticket is inside, or withdrawn; whether it is inside."""
        with self._changed:
            self._changed.wait_for(lambda: ticket.inside or ticket.withdrawn)
            return ticket.inside

    def leave(self, ticket: Ticket) -> None:
        """Give the place back, or leave the line."""
        with self._changed:
            ticket.withdrawn, ticket.inside = True, False
            for group in (self._line, self._inside):
                if ticket in group:
                    group.remove(ticket)
            self._admit()

    def rank(self, ticket: Ticket) -> tuple[int, float | None]:
        """The ticket's place in the line, from 1 (0 is inside), and about how many seconds it will wait, None where nobody knows."""
        with self._changed:
            if ticket not in self._line:
                return 0, None
            place = self._line.index(ticket) + 1
            ends = sorted(left for left in (t.left() for t in self._inside) if left is not None)
        return place, ends[place - 1] if place <= len(ends) else None

    @property
    def busy(self) -> int:
        return len(self._inside)

    def _admit(self) -> None:
        while self._line and len(self._inside) < self.most:
            if self._inside and sum(t.size for t in self._inside) + self._line[0].size > self.memory:
                break
            ticket = self._line.pop(0)
            ticket.inside = True
            self._inside.append(ticket)
        self._changed.notify_all()


class Turn:
    """A turn at computing, held by one thread. `rank` may change. `waited`: seconds it has waited so far."""

    def __init__(self, turns: Turns, rank: int):
        self.turns, self.rank, self.waited, self._since = turns, rank, 0.0, 0.0

    def take(self) -> None:
        began = time.monotonic()
        self.turns.take(self.rank)
        self._since = time.monotonic()
        self.waited += self._since - began

    def pass_on(self) -> None:
        """Let another one compute, where one waits and this one's slice is over."""
        if self.turns.awaited(time.monotonic() - self._since, self.rank):
            self.turns.give()
            self.take()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside the block nothing is computed, and another one may."""
        self.turns.give()
        try:
            yield
        finally:
            self.take()


class Turns:
    """So many runs compute at a time, each with `threads` threads; who waits is let in by rank, then first in, first out. `pool`: of backbones that
    they share."""

    def __init__(self, workers: int, threads: int = 1, seconds: float = SLICE):
        self.workers, self.threads, self.seconds, self.pool = workers, threads, seconds, Pool()
        self._free = workers
        self._line: list[tuple[int, int, threading.Event]] = []
        self._number = itertools.count()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, rank: int = TRAINING) -> Iterator[Turn]:
        held = Turn(self, rank)
        held.take()
        try:
            yield held
        finally:
            self.give()

    def take(self, rank: int) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            heapq.heappush(self._line, (rank, next(self._number), mine))
        mine.wait()

    def give(self) -> None:
        with self._lock:
            if self._line:
                heapq.heappop(self._line)[2].set()
            else:
                self._free += 1

    @property
    def free(self) -> int:
        """Turns that nobody has."""
        return self._free

    def awaited(self, held: float, rank: int = TRAINING) -> bool:
        """Whether somebody waits whom a turn of this rank must make room for after `held` seconds: at once for a lower one."""
        with self._lock:
            first = self._line[0][0] if self._line else None
        if first is None or first > rank:
            return False
        return first < rank or held >= (self.seconds if rank == TRAINING else OPENING)
