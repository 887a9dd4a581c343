"""MoSLD (Zhao et al., arXiv 2412.08946): a mixture of LoRA experts that share A, with dropout on the weights of A.

    h = W x + alpha / r * sum_{k in top-K} g_k(x) B_k A' x,   A' = mask * A / (1 - p) in training, A in evaluation

One mask an optimiser step's forward pass, element by element, for all tokens and experts. Router: softmax(W_r x), top-K = 2,
renormalised. A [r, d_in] Gaussian, B_k [d_out, r] zero. Parameters a linear: r d_in + E r d_out + E d_in. MoSL is p = 0.

Stated in the paper: all of the above and a balance loss sum_k c_k s_k. Unverified: the standard deviation of A (here
1 / sqrt(d_in), so that A x is of the size of x), the router's start (N(0, .02^2)), the balance coefficient (.01, on the Switch
form). The options `share`, `dropout_on` and `side` are the readings and ablations of the paper; the defaults are its method.
"""

import math

from torch import Tensor

from mosld.adapters.adapter import Adapter


class MoSLD(Adapter):
    """Experts with one A for all and a B for each."""

    def draw_a(self, a: Tensor, fan: int) -> None:
        a.normal_(0, 1 / math.sqrt(fan), generator=self.context.generator)
