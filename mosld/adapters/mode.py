"""MoDE (Ning et al., arXiv 2408.01505): a mixture of dyadic experts, each rank-one column of B routed on its own.

    h = W x + alpha / r * sum_{i<=E} sum_{k<=r/p} R_k(x)_i B_ik A_k x,   R_k(x) = softmax_i(W_k x)

A [r, d_in] is shared and cut into r / p blocks A_k of p rows; expert i has a B_ik [d_out, p] for each; each block has a token router of
its own, dense over the E experts. p = 1 (the paper's) makes every B_ik A_k a dyad, a rank-one matrix.
A starts N(0, .01^2), B at zero. Parameters a linear: r d_in + E r d_out + (r / p) E d_in.

Unverified: the routers' start (here N(0, .02^2)) and the scale alpha / r, which the paper's equation does not have: alpha = rank gives it.
Probes: A and B as in MoSLD; the gate is the mean over the r / p routers.
"""

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.kernel import mix
from mosld.adapters.stages import heads
from mosld.config import AdapterConfig, ConfigError


class MoDE(Adapter):
    """One router for every block of rows of the shared A."""

    hints = {
        "gate": "{label} has a router for every row of A x; shown is their mean. They act on A x itself, "
        "two stages on, so that an expert's own weight is 1.",
        "hidden": "A (shared) squeezes x to r = {rows} numbers; each expert's gate for each of them is multiplied in.",
    }
    steerable = False

    @classmethod
    def check(cls, config: AdapterConfig) -> None:
        block = config.option("block")
        if block != int(block) or config.rank % block:
            raise ConfigError(f"options: block={block:g} is not allowed; give a whole number that divides the rank, {config.rank}.")

    def draw_a(self, a: Tensor, fan: int) -> None:
        a.normal_(0, 0.01, generator=self.context.generator)

    def add_router(self, d_in: int) -> None:
        """[r / p, E, d_in]: a router for each block; None where there is one expert, whose softmax is 1."""
        self.router = None
        if self.site.experts > 1:
            blocks = self.config.rank // int(self.config.option("block"))
            router = torch.empty(blocks, self.site.experts, d_in, dtype=self.dtype)
            self.router = nn.Parameter(router.normal_(0, 0.02, generator=self.context.generator))

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.router is None:
            return super().forward_tokens(x, call)
        blocks, E, _ = self.router.shape
        hidden = (self.A.to(x.dtype) @ x.t()).view(blocks, 1, -1, len(x))  # [r / p, 1, p, N]
        p = (self.router.flatten(0, 1) @ x.to(self.router.dtype).t()).view(blocks, E, 1, len(x)).softmax(1)  # [r / p, E, 1, N]
        z = (p.to(x.dtype) * hidden).transpose(0, 1).reshape(E * len(self.A), len(x))  # [E r, N], in the order of B's columns
        mean = p.mean((0, 2))
        return mix(call.frozen(x), z, None, self.B, self.scale), mean, mean

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        """Each block of rows of A x has its own gates: they are multiplied in before B, where the experts' weights are then all 1."""
        if self.router is None:
            return super().stages(x, shape)
        p = (self.router @ x).softmax(1).repeat_interleave(int(self.config.option("block")), 0).transpose(0, 1)  # [E, r, N]
        return {"hidden": p * (self.A @ x), "up": heads(self.B), "weight": torch.ones_like(p[:, 0]), "name": "Rₑ ∘ A x"}
