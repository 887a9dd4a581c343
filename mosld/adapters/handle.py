"""Handle: what `attach` gives back. Everything one does with attached adapters.

parameters, count, train, fit, context, extra_loss, routing, save, load, merge, detach.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter, Context, Routing
from mosld.adapters.centroids import kmeans
from mosld.config import AdapterConfig, ConfigError

WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"
CENTROIDS = "centroids."  # what their names begin with in the file of weights


class Handle:
    """The adapters of one model. `adapters` lists them from the bottom of the model to its top."""

    def __init__(self, model: nn.Module, config: AdapterConfig, adapters: list[Adapter], replaced: list, flags: list, context: Context):
        self.model, self.config, self.adapters, self._context = model, config, adapters, context
        self._replaced, self._flags = replaced, flags
        self._explicit = False
        self._hooks = [model.register_forward_pre_hook(self._take_mask, with_kwargs=True)]

    def _take_mask(self, _, args, kwargs) -> None:
        """Without `context`, the model's own attention mask tells padding from text."""
        self._context.block.clear()
        if not self._explicit:
            mask = kwargs.get("attention_mask")
            self._context.mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None

    # training

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable tensors, as `<linear>.<A, B, router, ...>`; the frozen base is not among them."""
        for a in self.adapters:
            for name, p in a.named_parameters(recurse=True):
                if not name.startswith("base."):
                    yield f"{a.site.name}.{name}", p

    def parameters(self) -> list[nn.Parameter]:
        return [p for _, p in self.named_parameters()]

    def count(self) -> int:
        """Trainable parameters, from the tensors."""
        return sum(p.numel() for p in self.parameters())

    def train(self, mode: bool = True) -> None:
        """Training or evaluation mode of the adapters alone: dropout acts in training only."""
        for a in self.adapters:
            a.training = mode

    @property
    def dropout(self) -> float:
        return self._context.dropout

    @dropout.setter
    def dropout(self, rate: float) -> None:
        self._context.dropout = rate

    @property
    def balance(self) -> float:
        return self._context.balance

    @balance.setter
    def balance(self, coefficient: float) -> None:
        self._context.balance = coefficient

    @property
    def generator(self) -> torch.Generator:
        """Draws the dropout masks; its state belongs into a checkpoint."""
        return self._context.generator

    @contextmanager
    def context(
        self,
        mask: Tensor | None = None,
        task: Tensor | None = None,
        instance: Tensor | None = None,
        probing: bool = False,
        step: int | None = None,
    ):
        """What the forward (and backward) passes inside the block know of their texts.

        Args:
            mask: [M, L], 1 at real tokens; padding then counts in no balance loss and no routing figure.
            task: [M] index of each text's task, for methods that use it; without it every text is of task 0.
            instance: [M, d] sentence embedding of each text, for instance-routed methods.
            probing: also keep each expert's share of the gradient of a shared A.
            step: the optimiser step under way, counted from 1, for losses that set in late; without it they act at once.
        """
        c = self._context
        c.mask, c.task, c.instance, c.probing, c.step, self._explicit = mask, task, instance, probing, step, True
        try:
            yield self
        finally:
            c.mask = c.task = c.instance = c.step = None
            c.probing = self._explicit = False

    def extra_loss(self) -> Tensor | float:
        """Sum over the adapted linears of the last forward pass's balance and other extra losses, coefficients included."""
        losses = [a.aux for a in self.adapters if a.aux is not None]
        return torch.stack(losses).sum() if losses else 0.0

    def routing(self) -> dict[str, Routing]:
        """The last gates of every routed linear, by its name."""
        return {a.site.name: a.last for a in self.adapters if a.last is not None}

    # sentence embeddings

    @property
    def clusters(self) -> set[int]:
        """Numbers of centroids that the adapters route by; empty for methods that look at no sentence embedding."""
        return {a.clusters for a in self.adapters if a.clusters}

    def fit(self, embeddings: Tensor) -> None:
        """Find the centroids of a data set's sentence embeddings [n, instance_dim], once, before training."""
        self._context.centroids = {k: kmeans(embeddings, k) for k in self.clusters}

    # files

    def save(self, folder: str | Path) -> None:
        """Write adapter.safetensors (the trainable tensors, and centroids where there are any) and adapter.json (the configuration)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        c = self._context
        tensors = dict(self.named_parameters()) | {f"{CENTROIDS}{k}": points for k, points in c.centroids.items()}
        save_file({n: t.detach().contiguous() for n, t in tensors.items()}, folder / WEIGHTS)
        settings = {"config": self.config.model_dump(mode="json"), "tasks": c.tasks, "instance_dim": c.instance_dim}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1))

    def load(self, folder: str | Path) -> None:
        """Fill the adapters from a folder that `save` wrote. Raises ConfigError where names or shapes do not fit."""
        path = Path(folder) / WEIGHTS
        if not path.is_file():
            raise ConfigError(f"adapter: '{folder}' holds no {WEIGHTS}; give a folder that save wrote.")
        tensors, own = load_file(path), dict(self.named_parameters())
        points = {int(n.removeprefix(CENTROIDS)): tensors.pop(n) for n in sorted(tensors) if n.startswith(CENTROIDS)}
        wrong = sorted(set(tensors) ^ set(own)) or sorted(n for n in own if own[n].shape != tensors[n].shape)
        if wrong:
            raise ConfigError(f"adapter: '{wrong[0]}' in '{folder}' does not fit this model and configuration; attach with the saved {SETTINGS}.")
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(tensors[name])
        self._context.centroids = {k: p.to(self.adapters[0].weight.device) for k, p in points.items()}

    # the way back

    def detach(self) -> nn.Module:
        """Take the adapters out: the model is the base again, its weights untouched, what was trainable is so again."""
        for owner, child, module, _ in self._replaced:
            setattr(owner, child, module)
        for p, flag in self._flags:
            p.requires_grad_(flag)
        for hook in self._hooks:
            hook.remove()
        return self.model

    def merge(self, task: int | None = None) -> nn.Module:
        """Add the update to new copies of the frozen weights and take the adapters out. Replicas keep the old weights.

        Args:
            task: whose update it is, for task-routed methods, which have one a task.

        Raises ConfigError where the method routes by its input: no single matrix then equals the adapted linear.
        """
        label, tasks = self.config.label, self._context.tasks
        if any(a.token_routed and a.site.experts > 1 for a in self.adapters):
            raise ConfigError(
                f"merge: {label} weighs its experts anew for every input, so no single weight matrix equals it; lora and mtl-lora merge exactly."
            )
        if self.adapters[0].task_routed and tasks > 1 and (task is None or not 0 <= task < tasks):
            raise ConfigError(f"merge: {label} has one update a task, so task={task} is not allowed; give a task from 0 to {tasks - 1}.")
        deltas = {id(a): a.delta(task or 0) for a in self.adapters}
        self.detach()
        for _, _, module, new in self._replaced:
            parts = [new] if isinstance(new, Adapter) else new.parts
            rows = [p.weight + deltas[id(p)] if isinstance(p, Adapter) else p[0] for p in parts]
            weight = torch.cat(rows).detach()
            flipped = module.weight.shape != weight.shape or not isinstance(module, nn.Linear)
            module.weight = nn.Parameter(weight.t().contiguous() if flipped else weight, requires_grad=module.weight.requires_grad)
        return self.model


def saved_config(folder: str | Path) -> tuple[AdapterConfig, dict[str, int]]:
    """The configuration that `Handle.save` wrote and the further arguments (tasks, instance_dim) that `attach` needs."""
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise ConfigError(f"adapter: '{folder}' holds no {SETTINGS}; give a folder that save wrote.")
    data = json.loads(path.read_text())
    return AdapterConfig(**data["config"]), {"tasks": data["tasks"], "instance_dim": data["instance_dim"]}
