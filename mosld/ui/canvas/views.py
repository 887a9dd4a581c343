"""What each picture shows and how its quantities are defined; how it is drawn is in the .js of its name. `VIEWS`: all of them by name."""

from html import escape

from mosld.ui.canvas.base import View

# Of slow motion, which takes one batch through one adapted linear.
STAGES = ("x", "gate", "mask", "A x", "B", "sum")


class Steps(View):
    """A figure with numbered stages, Back, Play and Next, and a hint to the stage shown; `walk.js` wires them."""

    def html(self) -> str:
        numbered = "".join(f'<li><button type="button" data-stage="{i}"><b>{i + 1}</b> {escape(name)}</button></li>' for i, name in enumerate(STAGES))
        moves = "".join(f'<button type="button" class="walk-{name.lower()}">{name}</button>' for name in ("Back", "Play", "Next"))
        machine = '<div class="walk-machine lab-machine"></div>'
        bar = f'<div class="walk-bar" hidden><ol>{numbered}</ol><div class="walk-moves">{moves}</div></div><p class="walk-hint" role="status"></p>'
        return super().html().replace('<div class="lab-drawing">', bar + machine + '<div class="lab-drawing">', 1)


_ALL = (
    View(
        name="imbalance",
        title="Is A updated more than B?",
        shows="Four ways to measure it, each as log2 of A over B: above 0 is more for A, 0 is even.",
        defines=(
            "1. Updates: tokens that reach A over tokens that reach one B. 2. Gradients: size of the gradient of A over that of B. 3. Steps: size "
            "of what the optimiser adds. 4. Relative steps: size of that step over the size of the weight.",
            "Sizes are root mean squares per entry, so that a matrix's shape does not tilt the comparison; B is the mean over experts. A value "
            "that is undefined, as over B = 0 at the start, is a gap. The definitions can disagree, even in sign: an optimiser such as AdamW "
            "divides the size of gradients away. With two arms, Δ is the second minus the first at the step shown.",
        ),
        file="probed",
    ),
    View(
        name="loss",
        title="Training loss",
        shows="How surprised each arm is by the right answers of its batch; all arms see the same batches.",
        defines=(
            "Mean over the questions of a step's batch of minus the log of the probability given to the right option, in nats. The balance loss "
            "and other extra losses are left out. Smoothing is an exponential mean; the faint line is the raw loss.",
        ),
        choices=(
            ("smooth", "Smoothing", (("0", "none"), ("0.6", "some"), ("0.9", "much"))),
            ("log", "Axis", (("linear", "linear"), ("log", "log"))),
        ),
    ),
    View(
        name="router",
        title="How the routers decide",
        shows="Are all experts used, is the router sure, and does its choice tell tasks apart?",
        defines=(
            "Evenness: entropy of the mean gate over log E. Effective experts: exp of that entropy. Idle: load under 1 / (10 E). Entropy a token: "
            "mean entropy of a token's own gate, in nats. Task information: mutual information of expert and task, in bits.",
            "Each is the mean over the chosen layers and linears.",
        ),
        file="probed",
    ),
    View(
        name="norms",
        title="How large the matrices have grown",
        shows="One bar an expert: the shared A, each B, their product, and what each expert asks of A.",
        defines=(
            "Frobenius norms. B starts at zero, so BA does too. Bars of one column share their scale over layers and arms.",
            "Share of A: where A is shared, its gradient is a sum over experts, dL/dA = sum of G_e with G_e = (g_e dL/dy B_e)^T x; the bar is the "
            "norm of G_e. Empty where A is not shared.",
        ),
    ),
    View(
        name="inspect",
        title="Which expert takes which word",
        shows="Each word has the colour and number of the expert with its largest gate; the bars are the gates of all experts.",
        defines=(
            "Gates are those of a real forward pass of the run as it stands, in evaluation mode, at the linear chosen. Router: the probability "
            "before the largest are kept. An expert of one linear has nothing but its number in common with those of another.",
            "Muted: the router cannot choose the expert. Forced: every token goes to it alone. The scores are the softmax over the options. "
            "Accuracy is counted on the same validation rows with and without steering.",
        ),
        live=False,
    ),
    View(
        name="updates",
        title="Do the experts learn different things?",
        shows="Cosine between two experts' updates B A: near 1 they do the same, near 0 nothing in common, below 0 they work against each other.",
        defines=(
            "The update of expert e is the matrix B_e A_e (scale alpha / rank left out); the cosine is that of two such matrices as long vectors. "
            "With two arms the last matrix has the experts of the first as rows, those of the second as columns. A dash: an update that is still "
            "zero.",
            "Bars are the singular values of each update, largest first. Stable rank is the sum of their squares over the largest square: how "
            "many directions the update really uses, of the r it could.",
        ),
        choices=(("linear", "Linear", (("", "–"),)),),
        live=False,
        file="geometry",
    ),
    View(
        name="conflict",
        title="Do the tasks pull in opposite directions?",
        shows="Cosine between two tasks' gradients on A and on the experts' B: blue pulls together, orange pulls apart. Framed: a task against "
        "itself.",
        defines=(
            "Each task's gradient is that of the cross-entropy of 32 of its training questions (always the same ones), without dropout and extra "
            "losses, taken between two steps; it changes nothing in the run. The gradient on B is that of all experts' B together.",
            "In the framed cells two halves of a task's own questions, 16 each, are compared: where they agree little, the gradient is mostly "
            "chance, and so are the cosines beside it. A dash is a gradient of zero, as that of A while B is still zero; dots are a task still to "
            "come.",
        ),
        choices=(("linear", "Linear", (("", "–"),)),),
        live=False,
        file="geometry",
    ),
    View(
        name="overlay",
        title="Two of them, curve by curve",
        shows="Loss, accuracy, evenness of the routers and the four definitions of update imbalance; a hollow mark is the test questions.",
        defines=(
            "Loss: cross-entropy of the batch in nats. Accuracy: share of validation questions answered right; the mean over the tasks of the "
            "run's own mixture. Evenness: entropy of the mean gate over log E. Imbalance: log2 of A over the mean of B, 0 where both are updated "
            "alike. Evenness and imbalance are means over the adapted linears.",
            "Long curves are thinned to 300 points. Runs of different seeds have different rows and batches: one pair says little about a method.",
        ),
        live=False,
        file="curves",
    ),
    View(
        name="merge_course",
        title="Inside a merge",
        shows="What the method learned, step by step, or what its channel did to it.",
        defines=(
            "AdaMerging: λ of each task, one for all layers (task-wise) or one a linear (layer-wise). They move to make the merged model surer of "
            "its answers: entropy is the mean over questions of the entropy of its answer, in nats; no answer is looked at.",
            "Concrete: density is the mean probability that an entry of the shared mask is kept, a line a linear.",
            "After R-MTLLMF: each task's update is sent over a channel whose noise grows with the jammer's power, and the merge is scored on test "
            "questions, with and without the defence. The channel's noise is one draw, scaled: a curve shows the power, not the luck of the draw. "
            "The power axis is not to scale: after 0, each mark is twice the one before. 'Labelled steps alone' takes the defence's steps from "
            "the bare backbone, with nothing merged.",
        ),
        choices=(("into", "Look into", (("", "–"),)),),
        live=False,
        file="curves",
    ),
    Steps(
        name="walk",
        title="Slow motion through the machine",
        shows="The next batch of the run, stage by stage: real numbers of a few words.",
        defines=(
            "The numbers are caught in a forward pass of the run as it stands: the first numbers of each vector, and its length ‖·‖, the root of "
            "the sum of squares of all its numbers. Colour is the sign, and its strength the size within the stage.",
            "As in training: dropout acts, and the mask is a draw of the run's own generator, which is put back afterwards: looking changes "
            "nothing. As in evaluation: nothing is dropped.",
        ),
        live=False,
    ),
)
VIEWS: dict[str, View] = {view.name: view for view in _ALL}
