"""The load-balance loss, and means over real tokens.

Shapes: N tokens, E experts.
"""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of values [n] over the real tokens, or over the texts where there is one value a text."""
    if mask is None or len(values) != len(mask):
        return values.mean()
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def balance_loss(p: Tensor, g: Tensor, mask: Tensor | None) -> Tensor:
    """E * sum_e f_e P_e over real tokens: 1 where balanced, 0 where there is no token (Switch Transformer, arXiv 2101.03961, equation 4).

    f_e is the share of all choices that fell on expert e, a constant to the gradient; P_e is the mean router probability.
    The paper's L_b = sum_k c_k s_k (arXiv 2412.08946) is the same up to counts in place of shares.
    """
    chosen = (g > 0).to(p.dtype)
    if mask is None:
        f, mean = chosen.sum(1), p.sum(1) / max(p.shape[1], 1)
    else:
        w = mask.to(p.dtype)
        f, mean = chosen @ w, p @ (w / w.sum().clamp(min=1))
    return p.shape[0] * (f / f.sum().clamp(min=1)) @ mean
