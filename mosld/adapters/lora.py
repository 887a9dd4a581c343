"""LoRA (Hu et al., arXiv 2106.09685): h = W x + alpha / r B A x.

A [r, d_in] starts uniform on +- 1 / sqrt(d_in) (the authors' code), B [d_out, r] at zero. No router. Merges into W exactly.
Parameters a linear: r (d_in + d_out).
"""

from mosld.adapters.adapter import Adapter


class LoRA(Adapter):
    """One low-rank update for all tasks and tokens."""

    token_routed = False
