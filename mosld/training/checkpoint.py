"""What it takes to go on with a run bit for bit: adapters, optimiser states, dropout generators, step and hot values.

Each checkpoint is a folder of its own in the run directory, `checkpoint-<step>`: `arms/<n>/` is what `Handle.save` writes, `state.safetensors`
holds the rest. `checkpoint.json` names the folder that counts, with the sha256 of its files; it is replaced by one rename once the folder is
complete, so that a run killed at any moment has the old checkpoint or the new one. The old folder goes last.

- `save(trainer, folder)`, `load(trainer, folder)`.
- `arm_folder(folder, arm)`: where the last adapters of an arm are. `step(folder)`: of which step they are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mosld.config import ConfigError
from mosld.fetch import sha256
from mosld.files import flush, write, write_tensors

if TYPE_CHECKING:
    from mosld.training.trainer import Trainer

VALUES, TENSORS = "checkpoint.json", "state.safetensors"
PART = re.compile(r"\.(run\.json|frames\.jsonl|checkpoint\.json|trial)-\d+-\d+")  # as mosld.files names them
GENERATORS = 5056, 16  # bytes of the state of a generator on a processor, and on a CUDA device
NAME = re.compile(r"checkpoint-\d{6,}(-\d+)?")


def save(trainer: Trainer, folder: Path) -> None:
    """Write the state of every arm. Whatever ends this early leaves the checkpoint before."""
    place = _free(folder, trainer.step)
    tensors, arms = {}, []
    for i, arm in enumerate(trainer.arms):
        arm.handle.save(place / "arms" / str(i))
        tensors[f"{i}/generator"] = arm.handle.generator.get_state()
        for j, state in arm.optimiser.state_dict()["state"].items():
            tensors |= {f"{i}/{j}/{name}": value.contiguous() for name, value in state.items() if isinstance(value, Tensor)}
        arms.append({"lr": arm.lr, "dropout": arm.handle.dropout, "balance": arm.handle.balance})
    write_tensors(place / TENSORS, tensors)
    files = sorted(p for p in place.rglob("*") if p.is_file())
    for path in files:
        flush(path)
    values = {"folder": place.name, "step": trainer.step, "seconds": trainer.seconds, "changes": trainer.changes, "arms": arms}
    values["files"] = {path.relative_to(place).as_posix(): sha256(path) for path in files}
    write(folder / VALUES, json.dumps(values, indent=1))
    tidy(folder, place.name)


def tidy(folder: Path, keep: str | None) -> None:
    """Remove every other checkpoint, and what writes that were cut short have left."""
    for old in folder.iterdir():
        if NAME.fullmatch(old.name) and old.name != keep:
            shutil.rmtree(old, ignore_errors=True)
        elif PART.fullmatch(old.name):
            old.unlink(missing_ok=True)


def _free(folder: Path, step: int) -> Path:
    """A new folder for a checkpoint of this step; one that a kill left half made is not taken for it."""
    name, number = f"checkpoint-{step:06d}", 1
    while (folder / name).exists():
        number += 1
        name = f"checkpoint-{step:06d}-{number}"
    (folder / name).mkdir(parents=True)
    return folder / name


def arm_folder(folder: str | Path, arm: int = 0, at: int | None = None) -> Path:
    """The folder of an arm's adapters in a run's last checkpoint, as `Handle.load` takes it.

    Raises ConfigError where there is none, or where `at` is given and it is not of that step.
    """
    folder = Path(folder)
    values = _values(folder)
    if at is not None and values["step"] != at:
        raise ConfigError(f"resume: the adapters of '{folder}' are of step {values['step']}, not {at}; go on with the run first.")
    return _place(folder, values) / "arms" / str(arm)


def step(folder: str | Path) -> int | None:
    """The step of a run's last checkpoint; None where there is none, or none that can be read."""
    try:
        return json.loads((Path(folder) / VALUES).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def known(folder: str | Path) -> bool:
    """Whether a run has a checkpoint."""
    return (Path(folder) / VALUES).is_file()


def load(trainer: Trainer, folder: Path) -> None:
    """Put a saved state into a freshly built trainer. Everything is checked before anything is used. Raises ConfigError, naming the file."""
    values = _values(folder)
    place = _place(folder, values)
    for name, digest in values["files"].items():
        if not (place / name).is_file():
            raise ConfigError(f"resume: '{place.name}/{name}' of '{folder}' is missing; the run cannot go on.")
        if sha256(place / name) != digest:
            raise ConfigError(f"resume: '{place.name}/{name}' of '{folder}' is damaged: it is not what the checkpoint wrote.")
    if len(values["arms"]) != len(trainer.arms) or values["step"] > trainer.config.steps:
        raise _unfit(folder, "it is of another configuration")
    try:
        tensors = load_file(place / TENSORS)
    except (SafetensorError, OSError) as error:
        raise _unfit(folder, f"{TENSORS} cannot be read", error) from None
    expected, moved = dict(_expected(trainer)), []
    for name, tensor in tensors.items():
        if name not in expected:
            raise _unfit(folder, f"{TENSORS} has a tensor '{name[:60]}' that this run does not have")
        like = expected[name]
        if name.endswith("/generator") and {len(tensor), len(like)} == set(GENERATORS) and tensor.dtype == like.dtype:
            moved.append(name)
            continue
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            raise _unfit(folder, f"'{name}' in {TENSORS} is {list(tensor.shape)} of {tensor.dtype}, not {list(like.shape)} of {like.dtype}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise _unfit(folder, f"'{name}' in {TENSORS} is not finite")
    wanted = {n for n in expected if n.endswith("/generator")}
    wanted |= {n for n in expected if any(n.rpartition("/")[0] == m.rpartition("/")[0] for m in tensors)}  # of a parameter all states, or none
    if missing := sorted(wanted - set(tensors)):
        raise _unfit(folder, f"{TENSORS} lacks '{missing[0]}'")
    for i, arm in enumerate(trainer.arms):
        arm.handle.load(place / "arms" / str(i))
    for i, (arm, hot) in enumerate(zip(trainer.arms, values["arms"], strict=True)):
        try:
            if f"{i}/generator" in moved:
                arm.handle.generator.manual_seed(trainer.config.seed * 1_000_003 + values["step"])
            else:
                arm.handle.generator.set_state(tensors[f"{i}/generator"])
        except RuntimeError as error:
            raise _unfit(folder, f"'{i}/generator' is no state of a generator", error) from None
        arm.lr, arm.handle.dropout, arm.handle.balance = hot["lr"], hot["dropout"], hot["balance"]
        states: dict[int, dict] = {}
        for name, tensor in tensors.items():
            owner, _, rest = name.partition("/")
            if owner == str(i) and "/" in rest:
                states.setdefault(int(rest.partition("/")[0]), {})[rest.partition("/")[2]] = tensor
        arm.optimiser.load_state_dict({"state": states, "param_groups": arm.optimiser.state_dict()["param_groups"]})
    if trainer.main:
        tidy(folder, place.name)
    trainer.step, trainer.seconds, trainer.changes = values["step"], values["seconds"], list(values["changes"])
    if moved:
        trainer.changes.append("Dropout is drawn anew from here: the run goes on on another kind of device.")


def _unfit(folder: Path, what: str, error: Exception | None = None) -> ConfigError:
    return ConfigError(f"resume: the checkpoint of '{folder}' does not fit its run: {what}{f' ({error})' if error else ''}.")


def _values(folder: Path) -> dict[str, Any]:
    """What checkpoint.json says, its types checked. Raises ConfigError."""
    if not known(folder):
        raise ConfigError(f"resume: '{folder}' holds no {VALUES}; the run was stopped before its first checkpoint.")
    try:
        values = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        right = (
            isinstance(values["step"], int)
            and values["step"] >= 0
            and _number(values["seconds"], 0, 1e12)
            and NAME.fullmatch(values["folder"])
            and all(isinstance(note, str) for note in values["changes"])
            and all(_number(a["lr"], 0, 100) and _number(a["dropout"], 0, 0.9) and _number(a["balance"], 0, 10) for a in values["arms"])
            and all(_inside(name) and isinstance(digest, str) for name, digest in values["files"].items())
            and TENSORS in values["files"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        right = False
    if not right:
        raise ConfigError(f"resume: '{VALUES}' of '{folder}' is damaged: it is not what the checkpoint wrote.")
    return values


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _inside(name: str) -> bool:
    """Whether a name is that of a file within the checkpoint."""
    return re.fullmatch(rf"{re.escape(TENSORS)}|arms/\d+/[A-Za-z_.-]*[A-Za-z_]", name) is not None and ".." not in name


def _place(folder: Path, values: dict[str, Any]) -> Path:
    place = folder / values["folder"]
    if not place.is_dir():
        raise ConfigError(f"resume: '{values['folder']}' of '{folder}' is missing; the run cannot go on.")
    return place


def _expected(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a checkpoint of this run can hold, by name, with one of its shape and dtype.

    The optimiser states are those of torch.optim: AdamW counts steps and keeps two averages for each parameter, SGD without momentum none.
    """
    for i, arm in enumerate(trainer.arms):
        yield f"{i}/generator", arm.handle.generator.get_state()
        if isinstance(arm.optimiser, torch.optim.AdamW):
            for j, p in enumerate(p for group in arm.optimiser.param_groups for p in group["params"]):
                yield f"{i}/{j}/step", torch.tensor(0.0)
                yield f"{i}/{j}/exp_avg", p
                yield f"{i}/{j}/exp_avg_sq", p
