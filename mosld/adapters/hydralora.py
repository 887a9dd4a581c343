"""HydraLoRA (Tian et al., arXiv 2404.19245): one A, many heads B, all weighed by a dense softmax router.

    h = W x + alpha / r * sum_i softmax(W_g x)_i B_i A x

A as LoRA, B_i zero, no balance loss. A x is computed once for all heads (the public code does it once a head).
Parameters a linear: r d_in + E r d_out + E d_in. Unverified: the router's start.
"""

from mosld.adapters.adapter import Adapter


class HydraLoRA(Adapter):
    """Shared A, a B for each expert, every expert takes part for every token."""
