"""How one merge came about: coefficients, mask densities and entropies over its steps, or accuracy against a jammer's power."""

from mosld.ui.canvas.base import View

VIEW = View(
    name="merge_course",
    title="Inside a merge",
    shows="What the method learned, step by step, or what its channel did to it.",
    defines=(
        "AdaMerging: λ of each task, one for all layers (task-wise) or one a linear (layer-wise). They move to make the merged model surer of "
        "its answers: entropy is the mean over questions of the entropy of its answer, in nats; no answer is looked at.",
        "Concrete: density is the mean probability that an entry of the shared mask is kept, a line a linear.",
        "After R-MTLLMF: each task's update is sent over a channel whose noise grows with the jammer's power, and the merge is scored on test "
        "questions, with and without the defence. The channel's noise is one draw, scaled: a curve shows the power, not the luck of the draw. "
        "The power axis is not to scale: after 0, each mark is twice the one before. "
        "'Labelled steps alone' takes the defence's steps from the bare backbone, with nothing merged.",
    ),
    live=False,
)
