"""Training loss of every arm."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="loss",
    title="Training loss",
    shows="How surprised each arm is by the right answers of its batch; all arms see the same batches.",
    defines=(
        "Mean over the questions of a step's batch of minus the log of the probability given to the right option, in nats. "
        "The balance loss and other extra losses are left out. Smoothing is an exponential mean; the faint line is the raw loss.",
    ),
    choices=(
        ("smooth", "Smoothing", (("0", "none"), ("0.6", "some"), ("0.9", "much"))),
        ("log", "Axis", (("linear", "linear"), ("log", "log"))),
    ),
)
