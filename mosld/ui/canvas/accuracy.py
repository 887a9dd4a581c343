"""Accuracy of each task over the steps, with chance and majority."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="accuracy",
    title="Accuracy on each task",
    shows="Held-out questions answered right; dotted is chance, dashed is always giving the commonest answer.",
    defines=(
        "Share of the task's validation questions for which the right option scores highest; on the test questions at the end of a run. "
        "Chance is the mean of 1 over the number of options; the commonest answer is taken from the training questions.",
        "Step 0 is the frozen backbone without training.",
    ),
)
