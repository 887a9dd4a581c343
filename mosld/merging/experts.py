"""From merging to mixing: the adapters of single tasks become the experts of one mixture, whose router is trained for a few steps.

    h = W x + sum_{t in top-K} g_t(x) up_t down_t x,   g = softmax(W_r x), the K largest kept and renormalised

Nothing of the adapters changes; the routers, one a linear, [T, d_in], start at N(0, .02^2) as MoLA's and learn on labelled questions of all
tasks. No single matrix equals the result, so it is kept as adapters (`Handle.save`) and not as a merged model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch.nn import functional as F

from mosld.adapters import Handle, attach
from mosld.backbones.base import Backbone, Batch
from mosld.config import AdapterConfig, ConfigError
from mosld.merging.vectors import Factors, TaskVector


def assemble(backbone: Backbone, vectors: Sequence[TaskVector], targets: tuple[str, ...], top_k: int = 2, seed: int = 0) -> Handle:
    """A mixture on a replica of the backbone whose expert t is task vector t, exactly. Smaller ranks are filled up with zeros.

    Raises ConfigError for task vectors that are not in factors: an expert is a pair of them.
    """
    if not all(isinstance(u, Factors) for v in vectors for u in v.values()):
        raise ConfigError("experts: an update that is one dense matrix is no low-rank expert; train the adapters of single tasks with lora.")
    rank = max(u.down.shape[0] for v in vectors for u in v.values())
    count = len(vectors)
    config = AdapterConfig(
        method="mola", rank=rank, alpha=rank, experts=str(count), top_k=min(top_k, count) if count > 1 else 0, balance=0.0, targets=targets
    )
    handle = attach(backbone.replica(), config, seed)
    own = dict(handle.named_parameters())
    with torch.no_grad():
        for name in vectors[0]:
            a, b = own[f"{name}.A"], own[f"{name}.B"]
            if count == 1:
                a, b = a[None], b[:, None]
            a.zero_()
            for t, v in enumerate(vectors):
                r = v[name].down.shape[0]
                a[t, :r] = v[name].down
                b[:, t, :r] = v[name].up
    return handle


def train_routers(
    handle: Handle,
    backbone: Backbone,
    batches: Callable[[int], Iterable[Batch]],
    tasks: int,
    steps: int = 50,
    lr: float = 3e-3,
    watch: Callable[[int, float], None] | None = None,
) -> int:
    """Adam on the routers alone, on the mean cross-entropy of one batch of each task a step; returns how many numbers were trained.

    `watch` is told (steps done, mean cross-entropy in nats before the step just done).
    """
    routers = [p for name, p in handle.named_parameters() if name.endswith(".router")]
    if not routers:
        return 0
    optimiser = torch.optim.Adam(routers, lr=lr)
    for step in range(steps):
        total = 0.0
        optimiser.zero_grad(set_to_none=True)
        for batch in batches(step):
            loss = F.cross_entropy(score(handle, backbone, batch), batch.answer) / tasks
            loss.backward(inputs=routers)
            total += float(loss.detach())
        optimiser.step()
        if watch:
            watch(step + 1, total)
    return sum(p.numel() for p in routers)


def score(handle: Handle, backbone: Backbone, batch: Batch) -> torch.Tensor:
    """Logits [N, O] of the mixture."""
    with handle.context(batch.attention_mask, batch.task):
        return backbone.score(batch, handle.model)
