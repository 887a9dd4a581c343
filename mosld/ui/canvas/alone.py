"""Each task trained alone against the same task in the mixture."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="alone",
    title="Does a task gain or lose by the others?",
    shows="Accuracy on test rows: a filled circle for the task in the mixture, an open square for the task trained alone with the same settings.",
    defines=(
        "The number at the right is the accuracy in the mixture minus that alone. The short dashes mark chance. Settings, seed, rows and "
        "backbone are the same; with as many questions of its task as in the mixture, a task alone takes only its share of the steps.",
        "It is one run of each: a difference of a few points can be chance. Another seed is a quick check.",
    ),
    live=False,
)
