"""Do tasks pull A and B in the same direction or in opposite ones: cosines between their gradients."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="conflict",
    title="Do the tasks pull in opposite directions?",
    shows="Cosine between two tasks' gradients on A and on the experts' B: blue pulls together, orange pulls apart. Framed: a task against itself.",
    defines=(
        "Each task's gradient is that of the cross-entropy of 32 of its training questions (always the same ones), without dropout and extra losses, "
        "taken between two steps; it changes nothing in the run. The gradient on B is that of all experts' B together.",
        "In the framed cells two halves of a task's own questions, 16 each, are compared: where they agree little, the gradient is mostly chance, "
        "and so are the cosines beside it. A dash is a gradient of zero, as that of A while B is still zero; dots are a task still to come.",
    ),
    choices=(("linear", "Linear", (("", "–"),)),),
    live=False,
)
