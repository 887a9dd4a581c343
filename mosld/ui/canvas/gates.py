"""Router gates by layer, expert and task at the step shown."""

from mosld.ui.canvas.base import LAYER, PROJECTION, View

VIEW = View(
    name="gates",
    title="Where the router sends each task",
    shows="Stronger colour: more of a task's tokens go to this expert. Rows are layers, columns are experts.",
    defines=(
        "Load: share of a task's tokens, in the batch of the step, that the router sends to the expert; "
        "with top-k routing a token goes to k experts, so the shares sum to k. "
        "Mean gate: the expert's mean weight over those tokens.",
        "An empty cell means that the batch held no token of the task. With dense routing every expert gets every token; look at the mean gate then.",
    ),
    choices=(("measure", "Show", (("load", "load"), ("gate", "mean gate"))), LAYER, PROJECTION),
)
