"""Handle: what `attach` gives back. Everything one does with attached adapters.

parameters, count, train, fit, context, extra_loss, join_loss, routing, add, switch, disabled, save, load, merge, detach; `Handle.of(model)` finds
it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mosld.adapters import files
from mosld.adapters.adapter import Adapter, Context, Routing
from mosld.adapters.centroids import kmeans
from mosld.adapters.frozen import REGISTRY, Registry
from mosld.adapters.layer import AdaptedLinear
from mosld.adapters.loss import extra_loss, join
from mosld.adapters.passes import Passes
from mosld.adapters.plan import Place
from mosld.config import AdapterConfig, ConfigError

NAME = "default"


@dataclass
class Set:
    """Adapters of one name."""

    config: AdapterConfig
    context: Context
    places: list[Place]
    adapters: list[Adapter]


class Handle:
    """The adapters of one model. `adapters` lists the active ones from the bottom of the model to its top."""

    def __init__(self, model: nn.Module, name: str, config: AdapterConfig, places: list[Place], adapters: list[list[Adapter]], context: Context):
        self.model = model
        self.active, self.enabled = name, True
        self._sets: dict[str, Set] = {}
        self._layers: dict[str, AdaptedLinear] = {}
        self._passes: Passes | None = None
        self._joined = None  # the hook of `join_loss`
        registry = model.__dict__.setdefault(REGISTRY, Registry())
        registry.freeze(model)
        registry.handles.append(self)
        self._put(name, config, places, adapters, context)

    @classmethod
    def of(cls, model: nn.Module) -> Handle:
        """The handle of an adapted model (of its copy too); of several, the one attached last. Raises ConfigError where there is none."""
        model = getattr(model, "module", model) if REGISTRY not in model.__dict__ else model
        registry = model.__dict__.get(REGISTRY)
        if registry is None or not registry.handles:
            raise ConfigError(f"model: this {type(model).__name__} has no adapters; attach some first.")
        return registry.handles[-1]

    from_pretrained = staticmethod(files.from_pretrained)

    # several adapters

    def _put(self, name: str, config: AdapterConfig, places: list[Place], adapters: list[list[Adapter]], context: Context) -> None:
        for place, own in zip(places, adapters, strict=True):
            layer = self._layers.get(place.name)
            if layer is None:
                layer = self._layers[place.name] = AdaptedLinear(place.module, place.parts)
                parent, _, child = place.name.rpartition(".")
                owner = self.model.get_submodule(parent)
                setattr(owner, child, layer)
                if isinstance(owner, nn.TransformerEncoderLayer):  # a hook keeps it from its fast path, which reads weights past their linears
                    layer.register_forward_pre_hook(_nothing)
            layer.add(name, own, place.parts)
        self._sets[name] = Set(config, context, places, [a for own in adapters for a in own])
        if self._passes is not None:
            self._passes.remove()
        self._passes = Passes(self.model, self._layers, self)
        self.switch(name)

    @property
    def names(self) -> list[str]:
        """Names of the sets of adapters."""
        return list(self._sets)

    def add(self, name: str, config: AdapterConfig, seed: int = 0, tasks: int = 1, instance_dim: int = 0) -> Handle:
        """Put a further set of adapters beside those there are, on the same linears or others, and make it the active one. Raises ConfigError."""
        from mosld.adapters.attach import draw

        if name in self._sets or "." in name or not name:
            raise ConfigError(f"name: '{name}' is not allowed; give a name without dots that is none of {', '.join(self._sets)}.")
        own = tuple(self._layers.values())
        with self._bare():
            places, adapters, context, config = draw(self.model, config, seed, tasks, instance_dim, own=own)
        training = any(a.training for a in self.adapters)
        self._put(name, config, places, adapters, context)
        self.train(training)
        return self

    def switch(self, name: str) -> None:
        """Make another set of adapters the active one: it answers, and it alone is trainable. Raises ConfigError."""
        if name not in self._sets:
            raise ConfigError(f"name: '{name}' is no set of adapters here; choose {', '.join(self._sets)}.")
        self.active = name
        for key, of in self._sets.items():
            for a in of.adapters:
                a.clear()
                a.requires_grad_(key == name)
        self._set_active(name if self.enabled else None)

    def remove(self, name: str) -> None:
        """Take out a set of adapters that is not the active one. Raises ConfigError."""
        if name not in self._sets or name == self.active:
            raise ConfigError(f"name: '{name}' cannot be taken out; choose {', '.join(n for n in self._sets if n != self.active) or 'detach'}.")
        for layer in self._layers.values():
            if name in layer.adapters:
                del layer.adapters[name]
        del self._sets[name]

    @contextmanager
    def disabled(self) -> Iterator[Handle]:
        """Inside the block the model is the base model: the reference of DPO, say."""
        self.enabled = False
        self._set_active(None)
        try:
            yield self
        finally:
            self.enabled = True
            self._set_active(self.active)

    def _set_active(self, name: str | None) -> None:
        for layer in self._layers.values():
            layer.active = name if name in layer.adapters else None

    @contextmanager
    def _bare(self) -> Iterator[None]:
        """Inside the block the frozen linears stand in their own places."""
        for name, layer in self._layers.items():
            self._place(name, layer.linear)
        try:
            yield
        finally:
            for name, layer in self._layers.items():
                self._place(name, layer)

    def _place(self, name: str, module: nn.Module) -> None:
        parent, _, child = name.rpartition(".")
        setattr(self.model.get_submodule(parent), child, module)

    # training

    @property
    def adapters(self) -> list[Adapter]:
        return self._sets[self.active].adapters

    @property
    def config(self) -> AdapterConfig:
        """The settled configuration of the active adapters."""
        return self._sets[self.active].config

    @property
    def context_now(self) -> Context:
        return self._sets[self.active].context

    _context = context_now

    @property
    def matched(self) -> dict[str, int]:
        """How many linears (or parts of fused ones) each target matched."""
        return dict(Counter(key for place in self._sets[self.active].places for key in place.keys))

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable tensors, as `<linear>.<A, B, router, ...>`; the frozen base is not among them."""
        for a in self.adapters:
            for name, p in a.named_parameters():
                yield f"{a.site.name}.{name}", p

    def parameters(self) -> list[nn.Parameter]:
        return [p for _, p in self.named_parameters()]

    def kept(self) -> dict[str, Tensor]:
        """What belongs into a file: the trainable tensors, and those that are fixed but drawn, such as a random router."""
        return dict(self.named_parameters()) | {f"{a.site.name}.{n}": b for a in self.adapters for n, b in a.named_buffers()}

    def groups(self, lr: float) -> list[dict]:
        """Parameter groups for an optimiser: the routers have `router_lr` times the rate; `multiple` says so, for schedules."""
        times = self.config.router_lr
        named = list(self.named_parameters())
        routers = [p for n, p in named if n.rpartition(".")[2].startswith("router")] if times != 1 else []
        others = [p for _, p in named if not any(p is r for r in routers)]
        return [{"params": ps, "lr": lr * m, "multiple": m} for ps, m in ((others, 1.0), (routers, times)) if ps]

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
    def generator(self) -> torch.Generator | None:
        """Draws the dropout masks, and its state then belongs into a checkpoint; None (as attached): torch's own generator of the device."""
        return self._context.stream

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        self._context.stream = generator

    @contextmanager
    def context(
        self,
        mask: Tensor | None = None,
        task: Tensor | None = None,
        instance: Tensor | None = None,
        probing: bool = False,
        step: int | None = None,
        question: Tensor | None = None,
        instruction: Tensor | None = None,
    ):
        """What the forward (and backward) passes inside the block know of their texts.

        Args:
            mask: [M, L], 1 at real tokens; padding then counts in no balance loss and no routing figure. Without it the model's own mask counts.
            task: [M] index of each text's task, for methods that use it; without it every text is of task 0.
            instance: [M, d] sentence embedding of each text, for instance-routed methods.
            probing: also keep each expert's share of the gradient of a shared A.
            question: [M, L], 1 at the question, of causal models: routers of whole texts read no further. Without it they read all so far.
            instruction: [M, L], 1 at the instruction, for the router that reads it. Without it the text is read, with a warning.
            step: the optimiser step under way, counted from 1, for losses that set in late; without it they act at once.
        """
        c = self._context
        c.mask, c.task, c.instance, c.probing, c.step, self._passes.explicit = mask, task, instance, probing, step, mask is not None
        c.question, c.instruction = question, instruction
        try:
            yield self
        finally:
            c.mask = c.task = c.instance = c.step = c.question = c.instruction = None
            c.probing = self._passes.explicit = False

    def extra_loss(self) -> Tensor | float:
        """Sum over the adapted linears of the last forward pass's balance and other extra losses, coefficients included.

        Raises ConfigError where gradient checkpointing of the reentrant kind ran the layers without gradients, so that there is none.
        """
        return extra_loss(self.adapters, self._context)

    def join_loss(self, on: bool = True) -> None:
        """From now on (until turned off) the model's own `outputs.loss` holds the extra losses: for trainers that take it as it is. See
        `mosld.adapters.loss`."""
        if self._joined is not None:
            self._joined.remove()
        self._joined = join(self.model, self.extra_loss) if on else None

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
        """Write adapter.safetensors (the trainable tensors, and centroids where there are any) and adapter.json (configuration and base)."""
        files.save(self, folder)

    def load(self, folder: str | Path, check_base: bool = True) -> None:
        """Fill the active adapters from a folder that `save` wrote. Raises ConfigError where it is damaged, does not fit, or (`check_base`) was
        trained on a base with other weights."""
        files.load(self, folder, check_base)

    def frozen(self) -> dict[str, nn.Module]:
        """The frozen linears under the active adapters, by name."""
        return {place.name: self._layers[place.name].linear for place in self._sets[self.active].places}

    def push_to_hub(self, repo: str, **options) -> str:
        """Save to a repository of the hub, with a model card: `mosld.adapters.files.push`. Returns its address. Raises ConfigError."""
        return files.push(self, repo, **options)

    # the way back

    def detach(self) -> nn.Module:
        """Take the adapters out: the model is the base again, its weights untouched, what was trainable is so again."""
        for name, layer in self._layers.items():
            self._place(name, layer.linear)
        self._passes.remove()
        self.join_loss(False)
        registry = self.model.__dict__.get(REGISTRY)
        if registry is not None and self in registry.handles:
            registry.handles.remove(self)
            if not registry.handles:  # another handle's base stays frozen
                registry.thaw()
                del self.model.__dict__[REGISTRY]
        return self.model

    def merge(self, task: int | None = None) -> nn.Module:
        """Add the active update to new copies of the frozen weights and take the adapters out. Replicas keep the old weights.

        Args:
            task: whose update it is, for task-routed methods, which have one a task.

        Raises ConfigError where the method routes by its input (no single matrix then equals the adapted linear), and for a quantised linear.
        """
        label, tasks = self.config.label, self._context.tasks
        if any(a.token_routed and a.site.experts > 1 for a in self.adapters):
            raise ConfigError(
                f"merge: {label} weighs its experts anew for every input, so no single weight matrix equals it; lora and mtl-lora merge exactly."
            )
        if self.adapters[0].task_routed and tasks > 1 and (task is None or not 0 <= task < tasks):
            raise ConfigError(f"merge: {label} has one update a task, so task={task} is not allowed; give a task from 0 to {tasks - 1}.")
        for name, layer in self._layers.items():
            layer.check_mergeable(name)
        deltas = {id(a): a.delta(task or 0) for a in self.adapters}
        self.detach()
        for layer in self._layers.values():
            if self.active in layer.adapters:
                layer.merge(self.active, deltas)
        return self.model


def _nothing(*_) -> None:
    """A hook whose being there is all that is wanted of it."""
