"""Tokens of one text by expert, gates of each token, scores of the options, and what steering an expert changes."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="inspect",
    title="Which expert takes which word",
    shows="Each word has the colour and number of the expert with its largest gate; the bars are the gates of all experts.",
    defines=(
        "Gates are those of a real forward pass of the run as it stands, in evaluation mode, at the linear chosen. "
        "Router: the probability before the largest are kept. An expert of one linear has nothing but its number in common with those of another.",
        "Muted: the router cannot choose the expert. Forced: every token goes to it alone. The scores are the softmax over the options. "
        "Accuracy is counted on the same validation rows with and without steering.",
    ),
    live=False,
)
