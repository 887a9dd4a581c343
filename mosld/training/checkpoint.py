"""What it takes to go on with a run bit for bit: adapters, optimiser states, dropout generators, step and hot values.

In a run directory: `arms/<n>/` is what `Handle.save` writes, `checkpoint.safetensors` and `checkpoint.json` hold the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from mosld.config import ConfigError

if TYPE_CHECKING:
    from mosld.training.trainer import Trainer

TENSORS, VALUES = "checkpoint.safetensors", "checkpoint.json"


def save(trainer: Trainer, folder: Path) -> None:
    """Write the state of every arm."""
    tensors, arms = {}, []
    for i, arm in enumerate(trainer.arms):
        arm.handle.save(folder / "arms" / str(i))
        tensors[f"{i}/generator"] = arm.handle.generator.get_state()
        for j, state in arm.optimiser.state_dict()["state"].items():
            tensors |= {f"{i}/{j}/{name}": value.contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)}
        arms.append({"lr": arm.lr, "dropout": arm.handle.dropout, "balance": arm.handle.balance})
    save_file(tensors, folder / TENSORS)
    (folder / VALUES).write_text(json.dumps({"step": trainer.step, "seconds": trainer.seconds, "arms": arms}, indent=1))


def load(trainer: Trainer, folder: Path) -> None:
    """Put a saved state into a freshly built trainer. Raises ConfigError where a file is missing."""
    for name in (TENSORS, VALUES):
        if not (folder / name).is_file():
            raise ConfigError(f"resume: '{folder}' holds no {name}; the run was stopped before its first checkpoint.")
    values, tensors = json.loads((folder / VALUES).read_text()), load_file(folder / TENSORS)
    trainer.step, trainer.seconds = values["step"], values["seconds"]
    for i, (arm, hot) in enumerate(zip(trainer.arms, values["arms"], strict=True)):
        arm.handle.load(folder / "arms" / str(i))
        arm.handle.generator.set_state(tensors[f"{i}/generator"])
        arm.lr, arm.handle.dropout, arm.handle.balance = hot["lr"], hot["dropout"], hot["balance"]
        saved = arm.optimiser.state_dict()
        states: dict[int, dict] = {}
        for key, value in tensors.items():
            parts = key.split("/")
            if parts[0] == str(i) and len(parts) == 3:
                states.setdefault(int(parts[1]), {})[parts[2]] = value
        arm.optimiser.load_state_dict({"state": states, "param_groups": saved["param_groups"]})
