"""Five numbers about the routers over the steps."""

from mosld.ui.canvas.base import LAYER, TARGET, View

VIEW = View(
    name="router",
    title="How the routers decide",
    shows="Are all experts used, is the router sure, and does its choice tell tasks apart?",
    defines=(
        "Evenness: entropy of the mean gate over log E. Effective experts: exp of that entropy. Idle: load under 1 / (10 E). "
        "Entropy a token: mean entropy of a token's own gate, in nats. Task information: mutual information of expert and task, in bits.",
        "Each is the mean over the chosen layers and linears.",
    ),
    choices=(LAYER, TARGET),
)
