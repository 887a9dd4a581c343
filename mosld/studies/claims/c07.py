"""C7: rank 8 is the peak. The paper keeps alpha at 16, so the scale alpha / r changes with the rank; tuned arms keep alpha / r at 2."""

from mosld.studies.claims.claim import Claim, Contrast

CLAIM = Claim(
    id="C7",
    title="Rank 8 is the peak",
    says="69.47, 70.45, 71.57, 70.97, 70.11 at ranks 2, 4, 8, 16, 32, with alpha 16 throughout",
    printed=71.57 - (69.47 + 70.11) / 2,
    contrasts=(
        Contrast(
            "rank 8 minus the mean of ranks 2 and 32",
            {"MoSLD": 1, "rank 2": -0.5, "rank 32": -0.5},
            tuned={"MoSLD": 1, "rank 2, alpha 4": -0.5, "rank 32, alpha 64": -0.5},
        ),
    ),
    further=(
        Contrast("rank 8 minus rank 32", {"MoSLD": 1, "rank 32": -1}, tuned={"MoSLD": 1, "rank 32, alpha 64": -1}),
        Contrast("rank 8 minus rank 2", {"MoSLD": 1, "rank 2": -1}, tuned={"MoSLD": 1, "rank 2, alpha 4": -1}),
    ),
    plain="The rank is how wide an expert is. Wider ones can learn more; is there a width from which more is worse?",
    differs="With alpha at 16 throughout, the paper's sweep makes the update sixteen times weaker from rank 2 to 32. Tuned arms keep alpha / r.",
    change="Harder tasks, which need more rank.",
    settings=("minilm-world", "nano-world"),
    doses=("rank 4", "rank 16"),
)
