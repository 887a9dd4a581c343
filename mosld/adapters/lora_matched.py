"""LoRA of matched size: the baseline that a comparison of parameter-hungry methods needs (see arXiv 2508.05078).

    h = W x + alpha / r * B A x,   A [m, d_in], B [d_out, m]

m is the rank at which m (d_in + d_out) comes nearest to the count of the method named by the option `match` at the same linear,
with the same rank r, experts and other knobs (its own options at their defaults); never above full rank. So parameters are the
matched method's to within half of d_in + d_out a linear, and lie in the same layers. alpha and r keep their meaning: the scale is
the matched method's, not alpha / m. A and B start as in LoRA. Merges exactly. Parameters a linear: m (d_in + d_out).
"""

import dataclasses

import torch
from torch import nn

from mosld.adapters.lora import LoRA
from mosld.registry import LinearShape, matched_rank


class LoRAMatched(LoRA):
    """One low-rank update, as large as another method's experts together."""

    def build(self) -> None:
        c, site = self.config, self.site
        shape = LinearShape(self.d_in, self.d_out, c.rank, site.experts, self.context.tasks, site.target, c.share, c.side, c.options, c.router)
        self.site = dataclasses.replace(site, experts=1)
        a_in, m = c.side == "input", matched_rank(shape)
        self.A = nn.Parameter(self._empty(True, a_in, m, 1))
        self.B = nn.Parameter(torch.zeros_like(self._empty(True, not a_in, m, 1)))
        self.draw_a(self.A.data, self.d_in if a_in else self.d_out)
        self.router = None
