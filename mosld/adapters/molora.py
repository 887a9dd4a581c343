"""MoLoRA (Zadouri et al., arXiv 2309.05444): LoRA experts with their own A and B, all weighed by a dense softmax router.

    h = W x + alpha / r * sum_i softmax(W_g x)_i B_i A_i x

A_i [r, d_in] starts as N(0, .02^2), B_i [d_out, r] at zero; no balance loss. Parameters a linear: E r (d_in + d_out) + E d_in.
Unverified: the router's start.
"""

from torch import Tensor

from mosld.adapters.adapter import Adapter


class MoLoRA(Adapter):
    """Separate experts, every one of which takes part for every token."""

    def draw_a(self, a: Tensor, fan: int) -> None:
        a.normal_(0, 0.02, generator=self.context.generator)
