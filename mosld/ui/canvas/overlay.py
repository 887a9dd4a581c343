"""Two arms, of one run or of two, laid over one another: every curve in one picture."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="overlay",
    title="Two of them, curve by curve",
    shows="Loss, accuracy, evenness of the routers and the four definitions of update imbalance; accuracies at the last step are on test rows.",
    defines=(
        "Loss: cross-entropy of the batch in nats. Accuracy: share of validation questions answered right; the mean over the tasks of the run's own "
        "mixture. Evenness: entropy of the mean gate over log E. Imbalance: log2 of A over the mean of B, 0 where both are updated alike. "
        "Evenness and imbalance are means over the adapted linears.",
        "Long curves are thinned to 300 points. Runs of different seeds have different rows and batches: one pair says little about a method.",
    ),
    live=False,
)
