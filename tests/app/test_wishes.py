"""Whatever the order of wishes, and however quickly they come: the last one counts, and state, words, pages and disk agree."""

import json
import random
import threading
import time

import pytest

from mosld.config import ConfigError, RunConfig
from mosld.training.runlog import RunLog
from mosld.ui import carry
from mosld.ui.folders import runs
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions

TINY = {"batch": 2, "eval_rows": 10, "rank": 2, "tasks": "world/mood", "arms": "", "layers": 1, "max_tokens": 16, "steps": 12}
SEQUENCES, PARTS = 200, 8
WISHES = ("run", "run", "toggle", "toggle", "step", "step", "reset", "reload", "copy", "away")


class Page:
    """A page as `canvas/feed.js` is one: it asks for what it has not got, and keeps what it is told."""

    def __init__(self, session):
        self.session, self.run, self.at, self.mark = session, -1, 0, ""
        self.frames, self.state, self.note = [], "idle", ""

    def ask(self) -> bool:
        texts = self.session.news(self.run, self.at, self.mark)
        for m in map(json.loads, texts):
            if m["k"] == "run":
                self.run, self.frames = m["run"], list(m["frames"])
            elif m["k"] == "add":
                assert m["run"] == self.run and m["from"] == len(self.frames)
                self.frames += m["frames"]
            elif m["k"] == "clear":
                self.run, self.frames = -1, []
            self.at, self.mark = len(self.frames), m.get("mark", self.mark)
            self.state, self.note = m.get("state", self.state), m.get("note", self.note)
        return bool(texts)


def check(session, pages):
    """State, words, frames of every page, and what is on disk."""
    for page in pages:
        while page.ask():
            pass
        steps = [f[0] for f in page.frames]
        assert page.state == session.state and page.note == session.note
        assert steps == list(range(len(steps)))  # none is missing, none comes twice
        if session.state in ("paused", "ended"):
            folder = session.folder / f"run-{session.run:04d}"
            disk = RunLog.load(folder) if (folder / "run.json").exists() else None
            assert page.run == session.run and disk is not None and [f.step for f in disk.frames] == steps
            assert disk.config == session.config
        if session.state == "paused":
            assert str(steps[-1]) in page.note and steps[-1] < TINY["steps"]
        if session.state == "ended":
            assert steps[-1] == TINY["steps"] and page.note.startswith("All 12 steps")
        if session.state == "idle":
            assert page.frames == []


def at_rest(sessions):
    """Every place and every turn comes back."""
    end = time.monotonic() + 300
    while (sessions.places.busy or sessions.turns._free != sessions.turns.workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert sessions.places.busy == 0 and sessions.turns._free == sessions.turns.workers


@pytest.mark.parametrize("part", range(PARTS))
def test_the_last_wish_counts(tmp_path, part, monkeypatch):
    monkeypatch.setattr(carry, "AWAY_SECONDS", 10**6)  # nobody is missed, however slow the machine
    sessions = Sessions(Limits.from_environment({"MOSLD_THREADS": "1"}), tmp_path)
    for number in range(part, SEQUENCES, PARTS):
        rng = random.Random(number)
        visitor = f"v{number}"
        session = sessions.of(visitor)
        pages, last = [Page(session)], None
        for _ in range(rng.randint(2, 7)):
            wish, before = rng.choice(WISHES), session.state
            try:
                if wish == "run":
                    session.prepare(RunConfig(**TINY, seed=rng.randrange(99)))
                elif wish == "toggle":
                    session.toggle()
                elif wish == "step":
                    if session.busy or session.state == "paused":
                        session.go_on(2)
                    else:
                        session.prepare(RunConfig(**TINY), 2)
                elif wish == "reset":
                    session.halt()
                elif wish == "reload":  # the page goes and comes back, with another name and the key that it kept
                    visitor = f"{visitor}'"
                    if (found := sessions.attach(visitor, session.key)) is not None:
                        assert found is session
                        pages = [Page(session)]
                elif wish == "copy" and len(pages) < 3:
                    pages.append(Page(session))
                elif wish == "away" and session.rested(300):  # let go of, or the server was started anew: what is on disk comes back
                    sessions.drop(visitor)
                    found = sessions.attach(visitor, session.key) if runs(session.folder) else None
                    session = found or sessions.of(visitor)
                    pages = [Page(session)]
            except ConfigError as problem:
                assert wish == "toggle" and before in ("idle", "ended", "failed"), problem
                wish = None
            last = wish if wish in ("run", "step", "reset", "toggle") else last if wish is None else None
            for page in pages if rng.random() < 0.5 else ():
                page.ask()
            time.sleep(rng.choice((0, 0, 0.002, 0.05)))
        assert session.rested(300), (number, session.state)
        if last == "run":
            assert session.state == "ended", number
        if last == "reset":
            assert session.state == "idle", number
        if last == "step":
            assert session.state in ("paused", "ended"), number
        check(session, pages)
        sessions.drop(visitor)
    at_rest(sessions)


def test_wishes_of_many_threads_at_once(tmp_path):
    """Two tabs of one browser, pressed at random by four hands: nothing breaks, no place and no turn is lost."""
    sessions = Sessions(Limits.from_environment({}), tmp_path)
    session = sessions.of("a")
    faults = []

    def press(seed):
        rng = random.Random(seed)
        for _ in range(25):
            try:
                rng.choice((session.toggle, session.pause, session.halt, lambda: session.go_on(1), lambda: session.prepare(RunConfig(**TINY))))()
            except ConfigError:
                pass
            except BaseException as problem:
                faults.append(problem)
            time.sleep(rng.random() * 0.02)

    hands = [threading.Thread(target=press, args=(seed,)) for seed in range(4)]
    [hand.start() for hand in hands]
    [hand.join() for hand in hands]
    session.prepare(RunConfig(**TINY))
    assert session.rested(300) and faults == [] and session.state == "ended"
    page = Page(session)
    check(session, [page])
    at_rest(sessions)
