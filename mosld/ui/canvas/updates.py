"""Experts' updates at one linear: how alike they are, and how many directions each uses."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="updates",
    title="Do the experts learn different things?",
    shows="Cosine between two experts' updates B A: near 1 they do the same, near 0 nothing in common, below 0 they work against each other.",
    defines=(
        "The update of expert e is the matrix B_e A_e (scale alpha / rank left out); the cosine is that of two such matrices as long vectors. "
        "With two arms the last matrix has the experts of the first as rows, those of the second as columns. A dash: an update that is still zero.",
        "Bars are the singular values of each update, largest first. Stable rank is the sum of their squares over the largest square: "
        "how many directions the update really uses, of the r it could.",
    ),
    choices=(("linear", "Linear", (("", "–"),)),),
    live=False,
)
