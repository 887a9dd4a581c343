"""C4: A is updated more often than each B_e, and dropout on A evens that out. Four definitions, two parts each."""

from mosld.studies.claims.claim import Claim, Contrast

IMBALANCE = ("updates", "gradient", "step", "relative step")  # the definitions of `mosld.probes.imbalance`, in its order

DELTA = 0.25  # of the logarithm to base 2; the count imbalance is log2(E / K) = 1 here

CLAIM = Claim(
    id="C4",
    title="A is updated more than each B, and dropout on A evens that out",
    says="stated as the reason for dropout on A; not measured",
    printed=None,
    contrasts=tuple(
        contrast
        for name in IMBALANCE
        for contrast in (
            Contrast(f"{name}: A ahead of B without dropout", {"MoSL": 1}, f"imbalance {name}", DELTA, "log2"),
            Contrast(f"{name}: nearer to balance with p .1", {"MoSL": 1, "MoSLD": -1}, f"size of imbalance {name}", DELTA, "log2"),
        )
    ),
    plain=(
        "All tokens pass through the shared matrix A, but each expert's own B sees only those sent to it. Is A therefore trained more, and does "
        "dropping entries of A even that out? What 'more' means can be counted in four ways: tokens met, size of the gradient, size of the step, "
        "and size of the step measured by the size of the weights."
    ),
    differs="The paper argues from how often A and B are updated, with AdamW, which divides the size of the gradient away.",
    change="Another optimiser: with SGD the step follows the gradient. A much larger p: at .1 a tenth of the updates is set against a factor of two.",
    settings=("minilm-world", "nano-world", "minilm-real", "smollm2-real", "nano-long", "nano-sgd"),
    readings=("recipe",),
    definitions=True,
)
