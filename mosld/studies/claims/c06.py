"""C6: accuracy falls as the dropout rate grows past .1."""

from mosld.studies.claims.claim import Claim, Contrast

RATES = {"MoSLD": 0.1, "p 0.2": 0.2, "p 0.3": 0.3, "p 0.5": 0.5}


def slope(xs: dict[str, float], over: float) -> dict[str, float]:
    """Weights of minus the least-squares slope, times `over`: the fall along a straight line."""
    centre = sum(xs.values()) / len(xs)
    total = sum((x - centre) ** 2 for x in xs.values())
    return {name: -over * (x - centre) / total for name, x in xs.items()}


CLAIM = Claim(
    id="C6",
    title="Accuracy falls as the dropout rate grows past .1",
    says="a 'general downward trend' beyond .1, as a figure",
    printed=None,
    contrasts=(Contrast("fall from p .1 to p .5 along the fitted line", slope(RATES, 0.4)),),
    further=(Contrast("p .1 minus p .5", {"MoSLD": 1, "p 0.5": -1}),),
    plain="Some dropout may help, too much must hurt. How soon does it, and by how much?",
    differs="The paper reads it off one run a rate.",
    change="Fewer training rows, where more dropout may pay.",
    settings=("minilm-world", "nano-world"),
    doses=("MoSL",),
)
