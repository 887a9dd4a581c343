"""Adapters as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from mosld.config import AdapterConfig, ConfigError

if TYPE_CHECKING:
    from mosld.adapters.handle import Handle

WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"
CENTROIDS = "centroids."  # what their names begin with in the file of weights


def save(handle: Handle, folder: str | Path) -> None:
    """Write both files. Sharded tensors (FSDP2) are put together first, so every process must call this; the first one writes."""
    whole = {n: p.full_tensor() if hasattr(p, "full_tensor") else p for n, p in handle.kept().items()}
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    c = handle.context_now
    tensors = whole | {f"{CENTROIDS}{k}": t for k, t in c.centroids.items()}
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, folder / WEIGHTS)
    settings = {"config": handle.config.model_dump(mode="json"), "tasks": c.tasks, "instance_dim": c.instance_dim}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1))


def load(handle: Handle, folder: str | Path) -> None:
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise ConfigError(f"adapter: '{folder}' holds no {WEIGHTS}; give a folder that save wrote.")
    tensors, own = load_file(path), handle.kept()
    points = {int(n.removeprefix(CENTROIDS)): tensors.pop(n) for n in sorted(tensors) if n.startswith(CENTROIDS)}
    wrong = sorted(set(tensors) ^ set(own)) or sorted(n for n in own if own[n].shape != tensors[n].shape)
    if wrong:
        raise ConfigError(f"adapter: '{wrong[0]}' in '{folder}' does not fit this model and configuration; attach with the saved {SETTINGS}.")
    with torch.no_grad():
        for name, p in own.items():
            full = tensors[name]
            if hasattr(p, "full_tensor"):
                from torch.distributed.tensor import distribute_tensor  # slow to import, and of use to few

                full = distribute_tensor(full.to(p.device), p.device_mesh, p.placements)
            p.copy_(full)
    handle.context_now.centroids = {k: p.to(handle.parameters()[0].device) for k, p in points.items()}


def saved_config(folder: str | Path) -> tuple[AdapterConfig, dict[str, int]]:
    """The configuration that `Handle.save` wrote and the further arguments (tasks, instance_dim) that `attach` needs."""
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise ConfigError(f"adapter: '{folder}' holds no {SETTINGS}; give a folder that save wrote.")
    data = json.loads(path.read_text())
    return AdapterConfig(**data["config"]), {"tasks": data["tasks"], "instance_dim": data["instance_dim"]}


def from_pretrained(folder: str | Path) -> Handle:
    raise NotImplementedError


def push(handle: Handle, repo: str) -> str:
    raise NotImplementedError
