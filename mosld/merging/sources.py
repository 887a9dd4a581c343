"""Where task vectors come from: run directories of this lab, one task a run.

- `Run`: a finished run on disk. `find(folders)`: those in some folders.
- `read_vector(run)`: the task vector of its adapters.
- `open_bench(runs)`: a `Bench` from run directories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from mosld import backbones, tasks
from mosld.adapters import attach
from mosld.config import ConfigError, RunConfig, to_text
from mosld.merging.bench import Bench
from mosld.merging.vectors import TaskVector, task_vector
from mosld.training import RunLog

Progress = Callable[[str, float | None], None]
SHARED = ("backbone", "layers", "max_tokens", "temperature", "seed", "targets", "eval_rows")  # must be the same in all runs that are put together


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    folder: Path
    log: RunLog

    @property
    def accuracy(self) -> list[dict[str, float]]:
        """Test accuracy of each arm."""
        return [arm.accuracy for arm in self.log.frames[-1].arms]

    @property
    def seconds(self) -> float:
        return self.log.frames[-1].seconds

    @property
    def single(self) -> bool:
        """One task, one arm: a task vector can be read from it."""
        return len(self.log.tasks) == 1 and len(self.log.arms) == 1

    def check(self, config: RunConfig) -> None:
        """Refuse to be put together with runs of `config` where what must be shared differs. Raises ConfigError, naming the field."""
        for name in SHARED:
            own, wanted = (to_text(name, getattr(c, name)) for c in (self.log.config, config))
            if own != wanted:
                raise ConfigError(f"{name}: {own} of the run in '{self.folder}' is not allowed beside {wanted} of the others; use one value.")


def find(folders: Sequence[str | Path], say: Progress | None = None) -> list[Run]:
    """The finished runs in these folders, or anywhere below them, in the order of their paths. Unfinished ones are named and left out.

    Raises ConfigError for a folder without a run.
    """
    out: list[Run] = []
    for folder in folders:
        paths = sorted(p.parent for p in Path(folder).rglob("run.json"))
        if not paths:
            raise ConfigError(f"from: '{folder}' holds no run; give run directories, or a folder of them.")
        for path in paths:
            log = RunLog.load(path)
            if log.frames and log.frames[-1].event == "end":
                out.append(Run(path, log))
            elif say:
                say(f"'{path}' is left out: the run did not reach its last step.", None)
    return out


def read_vector(run: Run, backbone) -> TaskVector:
    """The task vector of a run on one task. Raises ConfigError for several tasks or arms, or a method without a single update."""
    if not run.single:
        raise ConfigError(f"from: '{run.folder}' has {len(run.log.tasks)} tasks and {len(run.log.arms)} arms; task vectors need one of each.")
    config = run.log.config.arm(0)
    handle = attach(backbone.replica(), config, config.seed, instance_dim=backbone.d_model)
    handle.load(run.folder / "arms" / "0")
    return task_vector(handle)


def open_bench(runs: Sequence[Run | str | Path], held_out: Sequence[str] = (), progress: Progress | None = None) -> Bench:
    """A bench from runs on one task each, or their folders. Backbone, seed, linears and scored rows are theirs.

    Raises ConfigError where there is none, a task comes twice, or they do not fit together, such as adapters of different backbones.
    """
    runs = [r if isinstance(r, Run) else one for r in runs for one in ([r] if isinstance(r, Run) else find([r], progress))]
    if not runs:
        raise ConfigError("from: no finished run was given; merging needs the run of at least one task.")
    config = runs[0].log.config
    names = [r.log.tasks[0] for r in runs]
    for run in runs:
        run.check(config)
        if names.count(run.log.tasks[0]) > 1:
            raise ConfigError(f"from: '{run.log.tasks[0]}' has more than one run; give one a task.")
    loaded = [tasks.load(name, config.seed, progress, config.instruction) for name in [*names, *held_out]]
    backbone = backbones.load(config.backbone, config.layers, config.max_tokens, config.temperature, progress)
    backbone.model.to(Accelerator().device)
    for run, task in zip(runs, loaded, strict=False):
        if run.log.data[task.name] != task.digest() or run.log.data["backbone"] != backbone.source:
            raise ConfigError(f"from: the rows or weights of '{run.folder}' are not those it was trained with.")
    vectors = [read_vector(run, backbone) for run in runs]
    return Bench(backbone, loaded[: len(names)], vectors, config.targets, config.seed, config.eval_rows, tuple(loaded[len(names) :]))
