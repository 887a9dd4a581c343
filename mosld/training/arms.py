"""Arms: copies of one frozen backbone with different adapters, trained in lockstep on the same batches.

- `Arm`: a replica, its adapters and its optimiser. `Share`: what one of several processes has of a batch.
- `share_prefix`: what lies below the first adapted layer is computed once a batch for all arms.
- `side_by_side`: the same work for every arm, on as many cores as there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mosld.adapters import attach
from mosld.backbones.base import Backbone, Batch
from mosld.config import RunConfig
from mosld.training.instances import Instances
from mosld.training.probe import starts

Result = TypeVar("Result")


class Share(NamedTuple):
    """The part of a step's batch that one of several processes has. Sums over processes are then what one process would have got."""

    questions: float  # weighs the cross-entropy, a mean over questions
    tokens: float  # weighs the extra losses, means over tokens; every process balances what it sees itself


ALL = Share(1.0, 1.0)


class Arm:
    """One arm. `config` is the run's configuration with this arm's values put in and the method's own filled in."""

    def __init__(self, name: str, config: RunConfig, backbone: Backbone, tasks: int):
        self.name, self.config, self.backbone = name, config.effective(), backbone
        self.model = backbone.replica()
        self.handle = attach(self.model, self.config, config.seed, tasks, instance_dim=backbone.d_model)
        self.handle.train(False)
        self.starts = starts(self.handle)  # the untrained routers, which the trained ones are compared with
        self.handle.generator = torch.Generator(self.handle.parameters()[0].device).manual_seed(config.seed)  # masks do not depend on other arms
        self.instances: Instances | None = None  # for methods that route by what a text is about
        self.lr = config.lr
        parameters = self.handle.groups(config.lr)
        if config.optimiser == "adamw":
            self.optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        else:
            self.optimiser = torch.optim.SGD(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1: it rises in a line over the warm-up, then stays."""
        return self.lr * min(1.0, step / max(self.config.warmup, 1))

    def backward(self, batch: Batch, probing: bool, step: int, share: Share = ALL) -> tuple[Tensor, float]:
        """Cross-entropy of the batch (a tensor without graph) and the extra losses, times this process's share of each; gradients are left
        in the parameters."""
        self.handle.train(True)
        self.optimiser.zero_grad(set_to_none=True)
        with self._context(batch, probing=probing, step=step):
            loss = F.cross_entropy(self.backbone.score(batch, self.model), batch.answer) * share.questions
            extra = self.handle.extra_loss() * share.tokens
            (loss + extra).backward()
        self.handle.train(False)
        return loss.detach(), float(extra.detach()) if isinstance(extra, Tensor) else extra

    def update(self, step: int) -> float:
        """One optimiser step; returns its learning rate."""
        rate = self.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["multiple"]
        self.optimiser.step()
        return rate

    def score(self, batch: Batch) -> Tensor:
        """Logits [N, O] of the batch's options, adapters in evaluation mode."""
        with self._context(batch):
            return self.backbone.score(batch, self.model)

    def _context(self, batch: Batch, **further):
        instance = None if self.instances is None else self.instances(batch)
        question = None if batch.option_mask is None else batch.attention_mask * ~batch.option_mask
        return self.handle.context(batch.attention_mask, batch.task, instance, question=question, instruction=batch.instruction, **further)


class Once(nn.Module):
    """A frozen module that several models share: asked again with the same tensor, it gives the last answer again."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self._asked: tuple[Tensor, bool] | None = None
        self._answer = None
        self._lock = threading.Lock()  # arms may ask side by side

    def forward(self, *args, **kwargs):
        tensor = next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        key = (tensor, torch.is_inference_mode_enabled())
        with self._lock:
            if self._asked is None or self._asked[0] is not tensor or self._asked[1] != key[1]:
                self._answer = self.module(*args, **kwargs)
                self._asked = key
            return self._answer


def share_prefix(arms: list[Arm]) -> None:
    """Let all arms use one computation of the embeddings and of the layers below every arm's first adapter."""
    if len(arms) < 2:
        return
    first = min(_first_layer(arm) for arm in arms)
    for path in _prefix(arms[0].model, first):
        once = Once(arms[0].model.get_submodule(path))
        for arm in arms:
            parent, _, child = path.rpartition(".")
            setattr(arm.model.get_submodule(parent), child, once)


def _first_layer(arm: Arm) -> int:
    """Number, in its list of layers, of the lowest layer that holds an adapter."""
    return min(int(part) for a in arm.handle.adapters for part in a.site.name.split(".") if part.isdigit())


def _prefix(model: nn.Module, layers: int) -> list[str]:
    """Paths of the embedding module and of the first `layers` layers."""
    paths = [next((n for n, _ in model.named_modules() if n.rpartition(".")[2] in ("embeddings", "embed_tokens", "wte")), None)]
    stack = next((n for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == model.config.num_hidden_layers), None)
    return [p for p in paths if p] + [f"{stack}.{i}" for i in range(layers)] * (stack is not None)


def side_by_side(work: Callable[[Arm], Result], arms: Sequence[Arm], workers: int) -> list[Result]:
    """What `work` gives for each arm, in their order. All end, then the first arm's error is raised.

    On a CPU as many arms are worked on at a time as there are `workers`. Each takes its part of the run's threads whatever their number, so that
    results do not depend on it. On another device the arms would wait for one another: there they go in order.
    """
    if len(arms) < 2 or arms[0].handle.parameters()[0].device.type != "cpu":
        return [work(arm) for arm in arms]
    threads = torch.get_num_threads()
    own = max(1, threads // len(arms))
    try:
        if workers < 2:
            begun = [partial(work, arm) for arm in arms]
        else:
            with ThreadPoolExecutor(min(workers, len(arms)), "arm", torch.set_num_threads, (own,)) as pool:
                begun = [_begin(pool, work, arm) for arm in arms]
        torch.set_num_threads(own)
        return [result() for result in begun]
    finally:
        torch.set_num_threads(threads)  # of this thread, and of those that the process starts from now on


def _begin(pool: ThreadPoolExecutor, work: Callable[[Arm], Result], arm: Arm) -> Callable[[], Result]:
    """What gives the result, at work already unless the process is about to end: then no thread can be started, and the step is made without."""
    try:
        return pool.submit(work, arm).result
    except RuntimeError:
        return partial(work, arm)
