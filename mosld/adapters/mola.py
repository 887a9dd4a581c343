"""MoLA (Gao et al., arXiv 2402.08562): LoRA experts with their own A and B, token top-2 router, experts per layer as in 2-4-6-8.

    h = W x + alpha / r * sum_{k in top-2} g_k(x) B_k A_k x

A_k as LoRA, B_k zero; balance loss E sum f_i p_i with coefficient .001. Parameters a linear: E r (d_in + d_out) + E d_in.
Unverified: the router's start.
"""

from mosld.adapters.adapter import Adapter


class MoLA(Adapter):
    """Separate experts behind a top-K router."""
