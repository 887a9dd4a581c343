"""SiRA (Zhu et al., arXiv 2311.09179): LoRA experts behind a top-K router with dropout on the gate and a token capacity an expert.

    h = W x + alpha / r * sum_{k in top-K} g_k(x) B_k A_k x,   g = topK(dropout(softmax(W_g x))), renormalised

A_k as LoRA, B_k zero. In training each router probability is dropped at the rate q (the rest scaled by 1 / (1 - q)), and an expert
takes at most C = ceil(c K n / E) of the n real tokens: those with the largest gates; the others go on without it. In evaluation
neither acts, so that an answer does not depend on what else is in the batch. Balance loss E sum f_i p_i, with f_i counted before
the capacity cuts. Parameters a linear: E r (d_in + d_out) + E d_in.

Stated in the paper: top-K, a capacity, dropout on the gating network's output, an auxiliary loss. Unverified: q (.1), c (1.25), who
is turned away, that evaluation has no capacity, the balance coefficient (.01), the router's start.
"""

import torch
from torch import Tensor

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.kernel import mix


class SiRA(Adapter):
    """Separate experts that take only so many tokens."""

    hints = {"gate in training": "{router}In training some are dropped by chance, {left} are kept, and an expert that is full turns words away."}

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.site.experts == 1 or not self.training:
            return super().forward_tokens(x, call)
        p, _ = self.gates(x, call)
        call.kept = self.choose(p)  # the gate before the capacity, [E, N]
        gate = within_capacity(call.kept, self._top_k, self.config.option("capacity"), call.mask)
        down, up = self.factors()
        hidden = torch.matmul(down.to(x.dtype), x.t())
        return mix(call.frozen(x), hidden, gate, up, self.scale), p, gate

    @property
    def _top_k(self) -> int:
        return self.config.top_k or self.site.experts

    def choose(self, p: Tensor) -> Tensor:
        """Dropout on the probabilities [E, N], the K largest that are left kept, and renormalised if so set; a token may lose all of them."""
        keep = 1 - self.config.option("gate_dropout")
        left = p * torch.empty_like(p).bernoulli_(keep, generator=self.context.draws()).div_(keep)
        value, index = left.topk(self._top_k, 0, sorted=False)
        if self.config.renormalise == "yes":
            value = value / value.sum(0).clamp(min=torch.finfo(p.dtype).tiny)
        return torch.zeros_like(p).scatter(0, index, value)

    def extra_loss(self, p: Tensor, g: Tensor, call: Call) -> Tensor | None:
        return super().extra_loss(p, g if call.kept is None else call.kept, call)


def within_capacity(gate: Tensor, top_k: int, capacity: float, mask: Tensor | None) -> Tensor:
    """The gate [E, N] with zeros where an expert has had its fill: each keeps its ceil(capacity * top_k * n / E) largest of n tokens."""
    real = gate.detach() if mask is None else gate.detach() * mask
    n = gate.shape[1] if mask is None else mask.sum()
    place = real.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # [E, N], 0 for the largest gate
    kept = place < capacity * top_k * n / gate.shape[0]  # a whole number is below a bound just when it is below its ceiling
    return gate * (kept if mask is None else kept & (mask > 0))
