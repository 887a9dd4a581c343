"""Fair timing: all candidates take turns in one process, in a new order each round, and what counts is the ratio within a round.

A busy machine slows a whole round, so that ratios hold where times do not. Given are medians, with quartiles in brackets. On one thread
of a processor the clock is the process's own (what other programs take is not counted), otherwise that on the wall.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

FROZEN, LORA = "frozen", "peft LoRA r 8"  # the two yardsticks: every ratio is to one of them
SKIPPED = 3  # first rounds, in which memory is still asked for the first time


@dataclass(frozen=True)
class Row:
    """One line of the table. `value` is what was measured, with its unit; the ratios are to the frozen part and to one peft LoRA."""

    work: str
    candidate: str
    value: str
    to_frozen: str = ""
    to_lora: str = ""


def take_turns(
    candidates: dict[str, Callable[[], object]], seconds: float, least: int = 12, settle: Callable[[], object] = lambda: None, wall: bool = False
) -> dict:
    """Seconds of each candidate in each round, `least` rounds or more. `settle` waits until the device has done what it was given. `wall`: by the
    clock on the wall in any case, for work that starts threads of its own."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order, turns = list(candidates), random.Random(0)
    clock = time.perf_counter if wall else _clock()
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < least + SKIPPED or time.perf_counter() < end:
        turns.shuffle(order)
        for name in order:
            candidates[name]()  # not measured: in training a step follows its like, and finds its code and memory at hand
            settle()
            start = clock()
            candidates[name]()
            settle()
            times[name].append(clock() - start)
        rounds += 1
    return {name: values[SKIPPED:] for name, values in times.items()}


def _clock() -> Callable[[], float]:
    import torch

    return time.process_time if torch.get_num_threads() == 1 and not torch.cuda.is_available() else time.perf_counter


def ratio(above: list[float], below: list[float]) -> str:
    """Median of the ratios within a round, quartiles in brackets."""
    low, middle, high = statistics.quantiles((a / b for a, b in zip(above, below, strict=True)), n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def duration(values: Iterable[float]) -> str:
    """A median with a unit that suits it."""
    value = statistics.median(values)
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms" if value >= 0.01 else f"{value * 1e6:.0f} us"


def rows(work: str, times: dict[str, list[float]], frozen: str = FROZEN, lora: str = LORA) -> list[Row]:
    """One row a candidate."""
    ratios = {name: tuple(ratio(t, times[over]) if over in times and name != over else "" for over in (frozen, lora)) for name, t in times.items()}
    return [Row(work, name, duration(t), *ratios[name]) for name, t in times.items()]


HEAD = ("| work | candidate | measured | to the frozen part | to one peft LoRA |", "|---|---|---|---|---|")


def line(row: Row) -> str:
    """One line of Markdown."""
    return f"| {row.work} | {row.candidate} | {row.value} | {row.to_frozen} | {row.to_lora} |"


def table(found: Iterable[Row]) -> str:
    """Markdown."""
    return "\n".join([*HEAD, *map(line, found)])


def machine() -> str:
    """Processor, threads and versions, in one line."""
    import peft
    import torch
    import transformers

    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    parts = [names[0] if names else platform.processor() or platform.machine(), f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"])
