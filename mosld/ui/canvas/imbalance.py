"""Update imbalance between A and the B of its experts, in four definitions."""

from mosld.ui.canvas.base import LAYER, TARGET, View

VIEW = View(
    name="imbalance",
    title="Is A updated more than B?",
    shows="Four ways to measure it, each as log2 of A over B: above 0 is more for A, 0 is even.",
    defines=(
        "1. Updates: tokens that reach A over tokens that reach one B. 2. Gradients: size of the gradient of A over that of B. "
        "3. Steps: size of what the optimiser adds. 4. Relative steps: size of that step over the size of the weight.",
        "Sizes are root mean squares per entry, so that a matrix's shape does not tilt the comparison; B is the mean over experts. "
        "A value that is undefined, as over B = 0 at the start, is a gap. The definitions can disagree, even in sign: "
        "an optimiser such as AdamW divides the size of gradients away. With two arms, Δ is the second minus the first at the step shown.",
    ),
    choices=(LAYER, TARGET),
)
