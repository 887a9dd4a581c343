"""Conditional MixLoRA (Shen et al., arXiv 2402.15896): for each text, r rows and r columns picked out of two pools make its A and B.

    h = W x + alpha / r * sum_{i<=r} u_i b_{q(i)} a_{p(i)} x
    p(1..r): the best r of  softmax(W_a xbar)                                      [E], independent factor selection
    q(1..r): the best r of  softmax(W_b xbar) + sum_{i<=r} softmax(a_{p(i)} V_i)   [E], with conditional factor selection

xbar is the mean of x over the text's tokens. Pools a [E, d_in] Gaussian, b [d_out, E] zero.
`experts` counts the pool in ranks: E = experts x rank (rank 4, experts 4 are the paper's E 16). The paper sets alpha = 2 E.
Parameters a linear: E (d_in + d_out) + 2 E d_in + r d_in E. No weight is built per text: all E rows are applied to all tokens, and the r
results that a text picked are moved to the places of the columns it picked.

u_i is the product of the two picked scores, each divided by the mean over its r picks. In the paper's own code the scores only choose, so that
the routers get no gradient; here they weigh too, and an even router weighs every factor by 1, as in the paper. With rank 1 that weight is
always 1 and the routers stay at their start.
Which picked row meets which picked column is not stated. Option `order`: 'pool' keeps both in the order of their pools, so that a row goes on
meeting the same column while the picks stay the same; 'score', as in the authors' code, joins the i-th best of both, and a tiny change of the
scores then joins other factors: in a trial of 120 steps its loss fell to 0.76, that of 'pool' to 0.3, LoRA's to 0.04.
Unverified too: the start of routers and V (N(0, .02^2)), the standard deviation of a (1 / sqrt(d_in)). In a decoder's row xbar covers question
and option.
Probes: expert e is row a_e with column b_e; its gate is the mean of its two weights u over r, the same for all tokens of a text.
"""

import dataclasses
import math

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.kernel import mix


class ConditionalMixLoRA(Adapter):
    """Low-rank factors chosen anew for every text."""

    hints = {
        "gate": "The whole text chooses {rank} rows and {rank} columns out of two pools of {of}; its words share the choice. "
        "A gate weighs the column with the row that is joined to it.",
        "hidden": "An expert is of rank one: the row of A that the text joins to it gives a single number.",
    }
    steerable = False
    whole_text = True
    by_text = True

    def build(self) -> None:
        r, E = self.config.rank, self.site.experts * self.config.rank
        self.site = dataclasses.replace(self.site, experts=E)

        def draw(*shape: int, std: float = 0.02) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, dtype=self.dtype).normal_(0, std, generator=self.context.generator))

        self.A = draw(E, self.d_in, std=1 / math.sqrt(self.d_in))
        self.B = nn.Parameter(torch.zeros(self.d_out, E, dtype=self.dtype))
        self.router_a, self.router_b = draw(E, self.d_in), draw(E, self.d_in)
        self.conditional = draw(r, self.d_in, E)  # V

    def scores(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of rows and columns [M, E], and the r picked of each [M, r]. x [M, L, d_in], mask [M, L] or None."""
        r = self.config.rank
        weight = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        mean = torch.bmm(weight[:, None], x)[:, 0] / weight.sum(1, keepdim=True).clamp(min=1)
        rows = (mean @ self.router_a.t()).softmax(1)
        picked = self.best(rows)
        after = torch.einsum("ed,idf->eif", self.A, self.conditional).softmax(2)  # [E, r, E]: what row e in place i asks for
        columns = (mean @ self.router_b.t()).softmax(1) + after[picked, torch.arange(r, device=x.device)].sum(1)
        return rows, columns, picked, self.best(columns)

    def best(self, scores: Tensor) -> Tensor:
        """The r best of every text's scores [M, E], in the order of the option: [M, r]."""
        picked = scores.topk(self.config.rank, 1).indices
        return picked.sort(1).values if self.config.option("order") == "pool" else picked

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        M, L = call.shape[:2] if len(call.shape) == 3 else (len(x), 1)  # without a sequence, every row of x is a text
        r, E, mask = self.config.rank, len(self.A), call.mask
        rows, columns, picked, met = self.scores(x.view(M, L, self.d_in).to(self.dtype), None if mask is None else mask.view(M, L))
        u, v = (_over_mean(s.gather(1, i)) for s, i in ((rows, picked), (columns, met)))
        chosen = (self.A.to(x.dtype) @ x.t()).view(E, M, L).gather(0, picked.t()[:, :, None].expand(r, M, L))
        hidden = chosen * (u * v).to(x.dtype).t()[:, :, None]
        z = hidden.new_zeros(E, M, L).scatter(0, met.t()[:, :, None].expand(r, M, L), hidden)
        y = mix(call.frozen(x), z.view(E, len(x)), None, self.B, self.scale)
        gate = torch.zeros_like(rows).scatter(1, picked, u).scatter_add(1, met, v) / (2 * r)
        p = (rows + columns / (1 + r)) / 2
        return y, p.repeat_interleave(L, 0).t(), gate.repeat_interleave(L, 0).t()

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        """Expert e is column b_e; what it gets is the picked row that the text joins to it."""
        M, L = shape[:2]
        mask = self.context.token_mask(shape)
        rows, columns, picked, met = self.scores(x.t().view(M, L, -1), None if mask is None else mask.view(M, L))
        u, v = (_over_mean(s.gather(1, i)) for s, i in ((rows, picked), (columns, met)))
        joined = torch.zeros_like(met.new_zeros(M, len(self.A))).scatter(1, met, picked).repeat_interleave(L, 0).t()  # [E, N]
        weight = torch.zeros_like(rows).scatter(1, met, u * v).repeat_interleave(L, 0).t()
        return {"hidden": (self.A @ x).gather(0, joined)[:, None], "up": self.products()[0], "weight": weight, "name": "a x"}

    def stacks(self, read=lambda p: p) -> tuple[Tensor, Tensor]:
        """Rows a_e [E, 1, d_in] and columns b_e [E, d_out, 1]."""
        return read(self.A)[:, None], read(self.B).t()[:, :, None]


def _over_mean(scores: Tensor) -> Tensor:
    """[M, r] over its mean: 1 where a text's picks score alike."""
    return scores / scores.mean(1, keepdim=True)
