"""What a page about merging shows, as plain numbers: no figures, no interface. A `Bench` comes from `open_bench(run directories)`.

- Sliders, one lambda a task: `rescore(bench, {"world/mood": 0.3, ...})`, quick enough to follow a slider on a small backbone.
- AdaMerging's coefficients over time: `run("adamerging-layer", bench, config).coefficients`, rows of step, linear, layer, task, coefficient.
- Concrete's mask density: `run("concrete-arithmetic", bench, config).densities`, rows of step, linear, layer, density.
- Accuracy against the jammer's power, with and without the defence: `jamming(bench, config, budgets)`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mosld.merging import task_arithmetic
from mosld.merging.bench import Bench, mean
from mosld.merging.config import MergeConfig
from mosld.merging.methods import Progress, run

CASES = ("sum", "strongest")


def rescore(bench: Bench, lams: Mapping[str, float], rows: int = 30, part: str = "validation") -> dict:
    """Task Arithmetic with these coefficients (0 for a task that is not named), scored on the first `rows` rows of each task.

    Returns {"accuracy": {task: share}, "mean": over the merged tasks, "seconds": it took}. Validation rows by default: lambdas that were
    picked by looking at test rows would make those rows say too much.
    """
    began = time.perf_counter()
    accuracy = bench.accuracy(task_arithmetic.merge(bench.vectors, [lams.get(name, 0.0) for name in bench.names]), part, rows)
    return {"accuracy": accuracy, "mean": mean(accuracy, bench.names), "seconds": time.perf_counter() - began}


def jamming(
    bench: Bench,
    config: MergeConfig,
    budgets: Sequence[float],
    cases: Sequence[str] = CASES,
    rows: int = 0,
    part: str = "test",
    progress: Progress | None = None,
) -> list[dict]:
    """Accuracy against the jammer's power, with and without the defence.

    One row a budget, case and defence: {"jammer", "case", "defended", "mean", "accuracy": {task: share}, "jam": [power on each user]}.
    The channel's noise is the same draw in all rows, scaled, so that a curve shows the power and not the luck of the draw.
    """
    out = []
    for budget in budgets:
        for case in cases:
            for defended in (False, True):
                merge = run(f"mtllmf-{case}" + "-defended" * defended, bench, config.replace(jammer=budget), progress)
                accuracy = bench.accuracy(merge.updates, part, rows)
                jam = [user["jam"] for user in merge.jam]
                out.append(
                    {"jammer": budget, "case": case, "defended": defended, "mean": mean(accuracy, bench.names), "accuracy": accuracy, "jam": jam}
                )
    return out
