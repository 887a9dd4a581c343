"""C5: sharing A is better than sharing B. The main effect in the grid share x dropout site."""

from mosld.studies.claims.claim import Claim, Contrast

SITES = ("A", "B", "activations", "none")


def cell(share: str, site: str) -> str:
    return {("A", "A"): "MoSLD", ("A", "none"): "MoSL"}.get((share, site), f"share {share}, drop {site}")


def effect(first: str, second: str) -> dict[str, float]:
    return {cell(s, site): sign / len(SITES) for site in SITES for s, sign in ((first, 1), (second, -1))}


DROPOUT = {cell(s, site): sign / 3 for s in ("A", "B", "none") for site, sign in (("A", 1), ("none", -1))}

CLAIM = Claim(
    id="C5",
    title="Sharing A is better than sharing B",
    says="71.56 with A shared and dropped, 70.73 with B shared and dropped",
    printed=0.83,
    contrasts=(Contrast("A shared minus B shared, over all dropout sites", effect("A", "B")),),
    further=(
        Contrast("the paper's two cells", {"MoSLD": 1, cell("B", "B"): -1}),
        Contrast("A shared minus nothing shared", effect("A", "none")),
        Contrast("dropout on A minus no dropout, over all sharings", DROPOUT),
    ),
    plain=(
        "An expert is two matrices: A reads the input, B writes the answer. The paper shares A; others share B. Here every way of sharing is tried "
        "with every place for the dropout, so that the two are not mixed up."
    ),
    differs=(
        "The paper moves sharing and dropout together, so that its two numbers cannot tell which of them matters. B shared has another number of "
        "parameters where a layer is not square."
    ),
    change="Experts of very different size, or adapters on layers that are not square.",
    settings=("minilm-world", "nano-world", "minilm-real"),
)
