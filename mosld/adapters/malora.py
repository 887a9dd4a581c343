"""MALoRA (Wang et al., arXiv 2410.22782): experts project from one shared low-dimensional space; what is saved widens them.

    h = W x + alpha / r * sum_{t in top-K} g_t(x) B_t P_t S_A x

Shapes: S_A [d, d_in] shared, P_t [rb, d], B_t [d_out, rb]; d = lam r E rows, rb = r + (1 - lam) r (rounded; at most d_in and d).
Start: B_t zero. K_t [d, d_in] uniform on +- 1 / sqrt(d_in), K_t = U_t S_t V_t; P_t = the first rb rows of U_t S_t / beta and
S_A = beta V_1, so that P_1 S_A is K_1 itself and all P_t S_A are of LoRA's size. The singular vectors come from the d x d Gram matrix
K_t K_t^T: a BERT-sized model starts in a fraction of a second.
Router: token softmax, top-K = 2, renormalised; balance loss E sum f_i p_i.
Parameters a linear: d d_in + E rb (d + d_out) + E d_in.

Unverified: the scale alpha / r (the equation shows none; alpha = r gives that), the balance coefficient (the paper says .001 and .01;
here .001), the router's start. For the probes A is S_A and B is B_t; the update of expert t is B_t (P_t S_A).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.kernel import mix
from mosld.adapters.stages import heads
from mosld.registry import LinearShape, malora_sizes


class MALoRA(Adapter):
    """Experts that share a projection S_A and keep a small P and a wide B each."""

    hints = {"hidden": "The shared projection S_A squeezes x, then each expert's own P narrows the result to {rows} numbers."}

    def build(self) -> None:
        c, E = self.config, self.site.experts
        d, rb = malora_sizes(LinearShape(self.d_in, self.d_out, c.rank, E, options=c.options))
        dtype, bound = self.dtype, 1 / math.sqrt(self.d_in)
        start = torch.empty(E, d, self.d_in).uniform_(-bound, bound, generator=self.context.generator).double()
        # K K^T = U S^2 U^T, with the squares in rising order; V = S^-1 U^T K
        squares, u = (t.flip(-1) for t in torch.linalg.eigh(start @ start.mT))
        sizes, beta = squares.clamp(min=0).sqrt(), c.option("beta")
        self.A = nn.Parameter((beta * (u[0].mT @ start[0]) / sizes[0][:, None]).to(dtype))
        self.P = nn.Parameter(((u * sizes[:, None]) / beta)[:, :rb].to(dtype).contiguous())
        self.B = nn.Parameter(torch.zeros(self.d_out, E, rb, dtype=dtype))
        self.add_router(self.d_in)

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        p = g = None
        if self.site.experts > 1:
            p, g = self.gates(x, call)
        hidden = torch.matmul(self.P.to(x.dtype), self.A.to(x.dtype) @ x.t())  # [E, rb, N]
        return mix(call.frozen(x), hidden, g, self.B, self.scale), p, g

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        return {"hidden": self.P @ (self.A @ x), "up": heads(self.B), "name": "Pₑ A x"}

    def stacks(self, read: Callable[[nn.Parameter], Tensor] = lambda p: p) -> tuple[Tensor, Tensor]:
        return read(self.A)[None], read(self.B).permute(1, 0, 2)

    def products(self) -> tuple[Tensor, Tensor]:
        return self.B.permute(1, 0, 2), self.P @ self.A
