"""The Trainer as the page runs it: two arms beside one, and what probing adds."""

from __future__ import annotations

import statistics

from benchmarks.timing import Row, duration, ratio, take_turns
from mosld.config import RunConfig
from mosld.training import Trainer

FAR = 1000  # steps, so that no run ends while it is timed


def trainer(**settings) -> Trainer:
    """The default run but for what is given, past its first step, scored at its end only."""
    made = Trainer(RunConfig(**{"steps": FAR, "eval_every": FAR, "probe_every": FAR, **settings}))
    for _ in made.advance(2):
        pass
    return made


def measure(seconds: float) -> list[Row]:
    usual = RunConfig()
    runs = {
        "one arm": trainer(arms="dropout=0.1"),
        "one arm, probed": trainer(arms="dropout=0.1", probe_every=1),
        "two arms": trainer(),
        "two arms, probed": trainer(probe_every=1),
    }
    times = take_turns({name: lambda run=run: list(run.advance(1)) for name, run in runs.items()}, 2 * seconds, 6, wall=True)
    out = [Row("step of the Trainer, default run", name, duration(t)) for name, t in times.items()]
    out.append(Row("step of the Trainer, default run", "two arms over one", ratio(times["two arms"], times["one arm"])))
    for arms in ("one arm", "two arms"):
        added = [(p - t) / usual.probe_every / t for p, t in zip(times[f"{arms}, probed"], times[arms], strict=True)]
        low, middle, high = statistics.quantiles(added, n=4)
        share = f"{middle:.1%} ({low:.1%} to {high:.1%})"
        out.append(Row("step of the Trainer, default run", f"probing every {usual.probe_every} steps, {arms}: share of training time", share))
    return out
