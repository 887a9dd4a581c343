"""Merging against mixing: the same tasks as one merge of single-task adapters, and as adapters trained on their mixture.

    python -m mosld merge --tasks world/mood,world/place --methods task-arithmetic,ties,adamerging --out runs/merge

- Adapters of single tasks (method lora unless --method says otherwise) are trained into DIR/runs, or taken from run directories (--from) or
  from PEFT's folders (--peft TASK=DIR).
- `base_config`, `configurations`: what is to be trained. By default the runs on the mixture see as many questions as all single-task runs together.
- `compare`: one row a model, scored (`merge_table.py` writes them). `Keeper`: the merged models themselves, in DIR/models, and in DIR/adapters the
  single-task adapters in PEFT's format.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mosld.config import ConfigError, RunConfig, whole
from mosld.counting import duration
from mosld.files import trial
from mosld.merging.config import MERGES, SEES, MergeConfig
from mosld.studies.merge_table import SINGLE, Row, joined, write
from mosld.studies.statistics import mean

if TYPE_CHECKING:
    from mosld.merging.bench import Bench
    from mosld.merging.methods import Merge
    from mosld.merging.sources import Foreign, Run

Progress = Callable[[str, float | None], None]
DESCRIPTION = "Train adapters on one task each, merge them, and compare with adapters trained on the mixture; print a table, write it and the models."
QUIET = {"probe_every": 1000, "eval_every": 100000}  # accuracy at the end is all that is looked at
MODELS = ("best", "all", "none")


def add_arguments(parser) -> None:
    """The flags beside those of the schemas."""
    text = "run directories to use, or folders of them: runs on one task as adapters to merge, runs on the whole mixture as rows to compare with"
    parser.add_argument("--from", dest="folders", nargs="+", default=[], metavar="DIR", help=text)
    parser.add_argument("--peft", nargs="+", default=[], metavar="TASK=DIR", help="LoRA adapters that PEFT saved, each with the task it is for")
    parser.add_argument("--seeds", default="1", metavar="INT", help="repeat all of it with the seeds --seed, --seed + 1, ... Default: 1.")
    text = "models to write: the merge that is best on validation rows, all of them, or none. Default: best."
    parser.add_argument("--models", default="best", metavar="|".join(MODELS), help=text)
    parser.add_argument("--jobs", default="1", metavar="INT", help="processes that train side by side. Default: 1.")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory of runs, models and table; finished runs in it are not repeated")


def main(args, values: dict[str, str | None], merging: dict[str, str], progress: Progress) -> int:
    """Train what is missing, merge, print the table. `values`, `merging`: the flags of RunConfig and MergeConfig that were given, as texts.

    Returns 0, or 130 where the user stopped it. Raises ConfigError.
    """
    options = MergeConfig(**merging)
    jobs, seeds = whole("jobs", args.jobs, 1, 1000), whole("seeds", args.seeds, 1, 1000)
    if args.models not in MODELS:
        raise ConfigError(f"models: '{args.models[:40]}' is not allowed; choose one of {', '.join(MODELS)}.")
    trial(args.out)
    found: list[Run] = []
    if args.folders:
        from mosld.merging.sources import find

        found = find(args.folders, progress)
    foreign = read_foreign(args.peft)
    if seeds > 1 and (found or foreign):
        raise ConfigError("seeds: adapters that are there already have the seed they were trained with; leave out --seeds, or --from and --peft.")
    config = base_config(values, found, foreign)
    used: dict[str, Run | Foreign] = {**usable(config, found), **{_single(f.task): f for f in foreign}}
    missing = {n: configurations(config.replace(seed=config.seed + n), options, used) for n in range(seeds)}
    progress(_plan(config, options, missing, jobs), None)
    _mergeable(config)
    from mosld.studies.runs import train_all  # brings torch: not before the flags are known to be right

    out, tables, merges = Path(args.out), [], []
    try:
        for n, runs in missing.items():
            folder = out / "runs" if seeds == 1 else out / "runs" / f"seed{config.seed + n}"
            here = {**used, **_as_runs(train_all(runs, folder, jobs, progress), folder)}
            keeper = Keeper(out, args.models if n == 0 else "none", progress)
            rows, own = compare(config.replace(seed=config.seed + n), options, here, progress, keeper)
            tables.append(rows)
            merges.append(own)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on with what was trained.", file=sys.stderr)
        return 130
    print(write(out, config, options, joined(tables), merges))
    return 0


def _plan(config: RunConfig, options: MergeConfig, missing: dict[int, dict[str, RunConfig]], jobs: int) -> str:
    """What is about to be done and about how long it takes."""
    runs = [c for own in missing.values() for c in own.values()]
    steps = sum(c.steps for c in runs)
    learning = {"adamerging": options.ada_steps, "concrete": options.concrete_steps, "experts": options.expert_steps}
    merging = sum(n for name in options.methods for family, n in learning.items() if name.startswith(family))
    merging += options.ada_steps * ("concrete-adamerging" in options.methods)
    questions = merging * options.merge_batch * len(config.tasks) * len(missing)
    alike = max(1, steps // min(jobs, 2) + questions // config.batch)
    what = f"{len(runs)} runs to train ({steps:,} steps), then {len(options.methods)} ways to merge ({merging:,} steps)"
    return f"{what}: {duration(config, alike)} on two cores."


# what is trained


def read_foreign(texts: list[str]) -> list[Foreign]:
    """TASK=DIR to adapters. Raises ConfigError."""
    if not texts:
        return []
    from mosld.merging.sources import Foreign

    out = []
    for text in texts:
        task, eq, folder = text.partition("=")
        if not eq or not task or not folder:
            raise ConfigError(f"peft: '{text[:80]}' is not of the form TASK=DIR, such as world/mood=adapters/mood.")
        out.append(Foreign(Path(folder), task))
    return out


def base_config(values: dict, found: list[Run], foreign: Sequence[Foreign] = ()) -> RunConfig:
    """What all runs share: the flags given, over the settings of the first single-task run found. Raises ConfigError."""
    from mosld import tasks

    if "arms" in values:
        raise ConfigError("arms: merging trains one arm a run; name the adapters' method in --method, methods on the mixture in --beside.")
    singles = [run for run in found if run.single]
    base = {"method": "lora"}
    if singles:
        base = {**singles[0].log.config.model_dump(), "tasks": {run.log.tasks[0]: 1.0 for run in singles}}
    if foreign:
        base["tasks"] = {**(base.get("tasks") or {}), **{f.task: 1.0 for f in foreign}}
    config = tasks.settled(RunConfig(**{**base, **QUIET, **values, "arms": ""}))
    if len(config.tasks) < 2:
        raise ConfigError("tasks: one task alone has nothing to be merged with; give two or more.")
    return config


def _mergeable(config: RunConfig) -> None:
    """Refuse a method that has no single update a linear, before anything is trained; imports torch. Raises ConfigError."""
    from mosld.adapters import method_class

    cls, experts = method_class(config.method), max(config.effective().expert_counts)
    if cls.token_routed and experts > 1:
        raise ConfigError(f"method: {config.label} weighs its experts anew for every input and has no single update to merge; take lora or mtl-lora.")


def usable(config: RunConfig, found: list[Run]) -> dict[str, Run]:
    """The runs found that stand for one that would be trained, by its name. Raises ConfigError where one does not fit or comes twice."""
    out: dict[str, Run] = {}
    for run in found:
        if run.single and run.log.tasks[0] in config.tasks:
            name = _single(run.log.tasks[0])
        elif len(run.log.arms) == 1 and set(run.log.tasks) == set(config.tasks):
            name = _mixture(run.log.config.arm(0).method)
        else:
            continue
        run.check(config)
        if name in out:
            raise ConfigError(f"from: '{out[name].folder}' and '{run.folder}' are both {name}; give one of them.")
        out[name] = run
    return out


def configurations(config: RunConfig, options: MergeConfig, used: dict) -> dict[str, RunConfig]:
    """The runs still to be trained, by name: one a task, and one a method on the mixture. Raises ConfigError."""
    steps = options.mixture_steps or config.steps * len(config.tasks)
    runs = {_single(task): config.replace(tasks={task: 1.0}, held_out=()) for task in config.tasks}
    runs |= {_mixture(m): config.replace(method=m, steps=steps, options={} if m != config.method else config.options) for m in options.beside}
    return {name: own for name, own in runs.items() if name not in used}


def _single(task: str) -> str:
    return "single-" + re.sub(r"[^a-z0-9.]+", "-", task.lower()).strip("-")


def _mixture(method: str) -> str:
    return f"mixture-{method}"


def _as_runs(logs: dict, folder: Path) -> dict[str, Run]:
    from mosld.merging.sources import Run

    for name, log in logs.items():
        if log.frames[-1].event == "diverged":
            raise ConfigError(f"lr: {log.config.lr:g} is not allowed for {name}, whose loss diverges; choose a smaller learning rate.")
    return {name: Run(folder / name, log) for name, log in logs.items()}


# what is compared


def compare(
    config: RunConfig, options: MergeConfig, runs: dict[str, Run | Foreign], progress: Progress, keeper: Keeper
) -> tuple[list[Row], list[Merge]]:
    """A row for guessing, for the bare backbone, for the single-task adapters, for every run on the mixture and for every merge."""
    from mosld.merging.methods import run
    from mosld.merging.sources import Run, open_bench
    from mosld.merging.vectors import size

    singles = [runs[_single(task)] for task in config.tasks]
    bench = open_bench(singles, config.held_out, progress, config)
    scored = [*bench.tasks, *bench.held_out]
    adapters = sum(size(u) for v in bench.vectors for u in v.values())
    alone = [r.accuracy[0][t] if isinstance(r, Run) else bench.accuracy(v)[t] for t, r, v in zip(config.tasks, singles, bench.vectors, strict=True)]
    rows = [
        Row("chance", [{t.name: t.chance for t in scored}]),
        Row("commonest answer", [{t.name: t.majority for t in scored}]),
        Row("untrained backbone", [bench.accuracy({})]),
        Row(
            f"{config.label}, {SINGLE}",
            [dict(zip(config.tasks, alone, strict=True))],
            adapters,
            adapters,
            [sum(r.seconds for r in singles)] if all(isinstance(r, Run) for r in singles) else [],
            SEES["answers"],
        ),
    ]
    for name, r in runs.items():
        if name.startswith("mixture-"):
            count, label = r.log.parameters[0], r.log.config.arm(0).label
            rows.append(Row(f"{label} on the mixture, {r.log.config.steps} steps", [r.accuracy[0]], count, count, [r.seconds], SEES["answers"]))
    merges = []
    for name in options.methods:
        progress(f"{MERGES[name].label} …", None)
        merge = run(name, bench, options, progress)
        learned = merge.learned + (0 if name == "mtllmf-control" else adapters)
        rows.append(Row(MERGES[name].label, [merge.accuracy(bench)], learned, merge.stored, [merge.seconds], merge.sees))
        keeper.take(bench, merge)
        merges.append(merge)
    keeper.finish(bench)
    return rows, merges


# what is kept


class Keeper:
    """Writes merged models into `folder`/models/<method>: each one, the best on validation rows, or none; and forgets the others.

    A merge becomes a whole model (`AutoModel.from_pretrained` reads it); the adapters as experts, which no matrix equals, an adapter folder.
    """

    def __init__(self, folder: Path, which: str, progress: Progress):
        self.folder, self.which, self.progress = folder, which, progress
        self.best: tuple[float, Merge] | None = None

    def take(self, bench: Bench, merge: Merge) -> None:
        """A merge that was scored; what is not needed any more is let go."""
        if self.which == "best":
            found = mean(list(merge.accuracy(bench, "validation").values()))
            if self.best is None or found > self.best[0]:
                merge, self.best = (self.best[1] if self.best else None), (found, merge)
        elif self.which == "all":
            self.write(bench, merge)
        if merge is not None:
            merge.updates, merge.mixture = {}, None  # scored, counted, written: not kept for the methods that follow

    def finish(self, bench: Bench) -> None:
        """Write the best merge, and the single-task adapters in PEFT's format into `folder`/adapters/<task>."""
        from mosld.merging.peft_format import write as write_peft
        from mosld.merging.vectors import Factors

        if self.which == "none":
            return
        if self.best is not None:
            self.write(bench, self.best[1])
        for name, vector in zip(bench.names, bench.vectors, strict=True):
            if all(isinstance(u, Factors) for u in vector.values()):
                write_peft(vector, self.folder / "adapters" / _single(name).removeprefix("single-"), bench.backbone.source)

    def write(self, bench: Bench, merge: Merge) -> None:
        place = self.folder / "models" / merge.method.replace("++", "-plus")
        if merge.mixture is not None:
            merge.mixture.save(place)
        else:
            bench.save(merge.updates, place)
        self.progress(f"{MERGES[merge.method].label} is written into {place}.", None)
