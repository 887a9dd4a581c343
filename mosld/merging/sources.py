"""Where task vectors come from: run directories of this lab, one task a run.

- `Run`: a finished run on disk. `find(folders)`: those in some folders.
- `Foreign`: a LoRA adapter that PEFT saved, and the task it is for.
- `read_vector(run)`: the task vector of its adapters.
- `open_bench(runs)`: a `Bench` from run directories. `export_peft(folder, out)`: a run's adapters in PEFT's format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from mosld import backbones, tasks
from mosld.adapters import attach
from mosld.config import ConfigError, RunConfig, to_text
from mosld.merging.bench import Bench
from mosld.merging.model import MergedModel
from mosld.merging.peft_format import read, write
from mosld.merging.vectors import TaskVector, task_vector
from mosld.training import RunLog, checkpoint

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


@dataclass(frozen=True)
class Foreign:
    """A LoRA adapter of PEFT's on disk, for one task."""

    folder: Path
    task: str

    def vector(self, linears: Sequence[str]) -> TaskVector:
        """Its task vector under the backbone's names of the linears. Raises ConfigError where they are not the same linears."""
        found = read(self.folder)
        out: TaskVector = {}
        for name, update in found.items():
            # PEFT names linears from the model that was trained, which may have a head above the backbone or be wrapped in it.
            own = [n for n in linears if n == name or name.endswith(f".{n}") or n.endswith(f".{name}")]
            if len(own) != 1:
                raise ConfigError(
                    f"peft: '{name[:80]}' in '{self.folder}' is no adapted linear of the backbone; adapted are {linears[0]} and its like."
                )
            out[own[0]] = update
        if len(out) != len(linears):
            missing = next(n for n in linears if n not in out)
            raise ConfigError(f"targets: the adapter in '{self.folder}' has nothing for '{missing}'; name its linears in --targets.")
        return out


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
    handle.load(checkpoint.arm_folder(run.folder, at=run.log.frames[-1].step))
    return task_vector(handle)


def open_bench(
    runs: Sequence[Run | Foreign | str | Path], held_out: Sequence[str] = (), progress: Progress | None = None, config: RunConfig | None = None
) -> Bench:
    """A bench from runs on one task each, or their folders, and PEFT adapters. Backbone, seed, linears and scored rows are those of `config`,
    by default the first run's.

    Raises ConfigError where there is none, a task comes twice, or they do not fit together, such as adapters of different backbones.
    """
    runs = [one for r in runs for one in ([r] if isinstance(r, (Run, Foreign)) else find([r], progress))]
    own = [r for r in runs if isinstance(r, Run)]
    if not runs or (config is None and not own):
        raise ConfigError("from: no finished run was given; merging needs the run of at least one task.")
    config = config or own[0].log.config
    names = [r.task if isinstance(r, Foreign) else r.log.tasks[0] for r in runs]
    for name, run in zip(names, runs, strict=True):
        if isinstance(run, Run):
            run.check(config)
        if names.count(name) > 1:
            raise ConfigError(f"from: '{name}' has more than one run; give one a task.")
    loaded = [tasks.load(name, config.seed, progress, config.instruction) for name in [*names, *held_out]]
    backbone = backbones.load(config.backbone, config.layers, config.max_tokens, config.temperature, progress)
    backbone.model.to(Accelerator().device)
    for run, task in zip(runs, loaded, strict=False):
        if isinstance(run, Run) and (run.log.data[task.name] != task.digest() or run.log.data["backbone"] != backbone.source):
            raise ConfigError(f"from: the rows or weights of '{run.folder}' are not those it was trained with.")
    linears = list(MergedModel(backbone, config.targets).linears)
    vectors = [run.vector(linears) if isinstance(run, Foreign) else read_vector(run, backbone) for run in runs]
    return Bench(backbone, loaded[: len(names)], vectors, config.targets, config.seed, config.eval_rows, tuple(loaded[len(names) :]))


def export_peft(folder: str | Path, out: str | Path, progress: Progress | None = None) -> list[Path]:
    """Write the adapters of a run in PEFT's format: `out`/<arm>, or `out`/<arm>/<task> for methods with an update a task. Returns the folders.

    Raises ConfigError for a method whose update depends on its input: `mosld.peft` loads those.
    """
    log = RunLog.load(folder)
    config = log.config
    backbone = backbones.load(config.backbone, config.layers, config.max_tokens, config.temperature, progress)
    written = []
    for i, label in enumerate(log.arms):
        own = config.arm(i).effective()
        handle = attach(backbone.replica(), own, own.seed, len(log.tasks), instance_dim=backbone.d_model)
        if any(a.token_routed and a.site.experts > 1 for a in handle.adapters):
            raise ConfigError(f"export: {own.label} routes by its input, so no LoRA adapter equals it; lora and mtl-lora can be exported.")
        handle.load(checkpoint.arm_folder(folder, i, at=log.frames[-1].step if log.frames else None))
        place = Path(out) / re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-")
        per_task = [*log.tasks] if handle.adapters[0].task_routed and len(log.tasks) > 1 else [None]
        for t, task in enumerate(per_task):
            where = place if task is None else place / re.sub(r"[^A-Za-z0-9.]+", "-", task).strip("-")
            write(task_vector(handle, t), where, backbone.source)
            written.append(where)
    return written
