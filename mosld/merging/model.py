"""The merged model: one frozen replica of the backbone with an update added to each adapted linear.

    y = (W + D) x + b,   D [d_out, d_in] dense or in factors

- `Merged`: one linear. `MergedModel`: all of them; `put` a merge into it, `score` with it, or take the gradient with respect to its weights.
- `gradients`: the loss of several batches and dL/dtheta of every merged linear. One merge a step, one backward pass a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.nn import functional as F

from mosld.adapters import attach
from mosld.adapters.adapter import Adapter
from mosld.backbones.base import Backbone, Batch
from mosld.config import AdapterConfig
from mosld.merging.vectors import Factors, TaskVector, Update, entries


class Merged(Adapter):
    """h = (W + D) x: a linear with an update that is not trained by itself."""

    token_routed = False

    def build(self) -> None:
        self.router = None
        self.put(None)

    def put(self, update: Update | None) -> None:
        """Add this to the frozen weight from now on; None: nothing."""
        factored = isinstance(update, Factors)
        self.factors_of = update if factored else None
        weight = self.weight.detach()
        self.total = weight if factored or update is None else weight + update

    def forward(self, x: Tensor, *_) -> Tensor:
        y = F.linear(x, self.total, self.bias)
        if self.factors_of is not None:
            y = y + F.linear(F.linear(x, self.factors_of.down), self.factors_of.up)
        return y


class MergedModel:
    """A replica of the backbone whose linears named by `targets` are `Merged`. It shares every weight with the backbone."""

    def __init__(self, backbone: Backbone, targets: tuple[str, ...]):
        self.backbone = backbone
        self.model = backbone.replica()
        handle = attach(self.model, AdapterConfig(method="lora", rank=1, targets=targets), cls=Merged)
        self.linears: dict[str, Merged] = {a.site.name: a for a in handle.adapters}

    def layer(self, name: str) -> int:
        """Number of the layer that a linear is in, from the bottom."""
        return self.linears[name].site.layer

    def put(self, updates: TaskVector) -> None:
        """Make this the merged model; linears that are not named are the frozen ones again."""
        for name, linear in self.linears.items():
            linear.put(updates.get(name))

    def leaves(self, updates: dict[str, Tensor]) -> dict[str, Tensor]:
        """`put` dense updates, and give back the merged weights as leaves of the graph, whose .grad backward fills."""
        self.put(updates)
        for linear in self.linears.values():
            linear.total = linear.total.detach().requires_grad_()
        return {name: linear.total for name, linear in self.linears.items()}

    def score(self, batch: Batch) -> Tensor:
        """Logits [N, O]."""
        return self.backbone.score(batch, self.model)

    @property
    def entries(self) -> int:
        """Weights of all merged linears."""
        return sum(entries(linear.weight) for linear in self.linears.values())


def gradients(
    model: MergedModel, updates: dict[str, Tensor], batches: Iterable[Batch], loss: Callable[[Tensor, Batch], Tensor], count: int
) -> tuple[float, dict[str, Tensor]]:
    """The mean of `loss(logits, batch)` over `count` batches, and its gradient dL/dtheta^l [d_out, d_in] at theta = W + updates.

    The graph of one batch is gone before the next is read, and the gradients of all are summed in place: what is kept is one merged weight
    and one gradient a linear, however many tasks the batches are of.
    """
    leaves = model.leaves(updates)
    total = 0.0
    for batch in batches:
        value = loss(model.score(batch), batch) / count
        value.backward()
        total += float(value.detach())
    return total, {name: leaf.grad for name, leaf in leaves.items()}
