"""Norms of A, B, BA and of what each expert asks of a shared A, by layer and expert at the step shown."""

from mosld.ui.canvas.base import LAYER, TARGET, View

VIEW = View(
    name="norms",
    title="How large the matrices have grown",
    shows="One bar an expert: the shared A, each B, their product, and what each expert asks of A.",
    defines=(
        "Frobenius norms. B starts at zero, so BA does too. Bars of one column share their scale over layers and arms.",
        "Share of A: where A is shared, its gradient is a sum over experts, dL/dA = sum of G_e with G_e = (g_e dL/dy B_e)^T x; "
        "the bar is the norm of G_e. Empty where A is not shared.",
    ),
    choices=(LAYER, TARGET),
)
