"""The stages of one forward pass, for slow motion: what comes in, what B gets, what each expert adds.

    y = W x + b + scale * sum_e weight_e up_e hidden_e,   hidden_e = down_e x (in some methods with a small step between)

A method says its own by `Adapter.stages`, in these names:

- hidden [1 or E, r, N], what the factor next to the output gets; name, how it is written; up [1 or E, d_out, r], that factor.
- weight [E, N], what each expert's vector is multiplied by, and scale: left out, they are the gate of the pass and alpha / r.

Shapes: N tokens, E experts, r rows of what B gets, d_in, d_out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from mosld.adapters.adapter import Adapter


def plain(a: Adapter, x: Tensor) -> dict[str, Any]:
    """What most methods do with tokens x [d_in, N]: down x, once or for each expert, with the mask where dropout acts."""
    dropped = {a.config.dropout_on: a.mask} if a.mask is not None else {}
    matrix = {"A": a.A, "B": a.B}
    matrix.update({on: matrix[on] * m for on, m in dropped.items() if on in matrix})
    down, up = (matrix["A"], matrix["B"]) if a.config.side == "input" else (matrix["B"], matrix["A"])
    x = x * dropped["activations"].t() if "activations" in dropped else x
    first = "A" if a.config.side == "input" else "B"
    first += "′" if first in dropped else ""
    shared = down.dim() == 2
    return {"hidden": (down[None] if shared else down) @ x, "up": heads(up), "name": f"{first} x" if shared or len(down) == 1 else f"{first}ₑ x"}


def heads(up: Tensor) -> Tensor:
    """[d_out, r] or [d_out, E, r] as [1 or E, d_out, r]."""
    return up[None] if up.dim() == 2 else up.permute(1, 0, 2)
