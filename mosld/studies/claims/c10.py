"""C10: LoRA loses from mixing tasks, MoSLD gains. A difference in differences, so twice the seeds."""

from mosld.studies.claims.claim import Claim, Contrast

CLAIM = Claim(
    id="C10",
    title="Mixing tasks costs LoRA and pays for MoSLD",
    says="single to mixture: LoRA 69.57 to 69.15, MoSLD 70.20 to 71.56",
    printed=(71.56 - 70.20) - (69.15 - 69.57),
    contrasts=(Contrast("gain from mixing, MoSLD minus LoRA", {"MoSLD": 1, "MoSLD alone": -1, "LoRA": -1, "LoRA alone": 1}),),
    further=(
        Contrast("gain from mixing, MoSLD", {"MoSLD": 1, "MoSLD alone": -1}),
        Contrast("gain from mixing, LoRA", {"LoRA": 1, "LoRA alone": -1}),
    ),
    plain=(
        "Each task is trained alone and then all six together, with as many questions of each. What mixing does to an adapter is the difference; the "
        "claim is that it is worse for one adapter than for several experts."
    ),
    differs="The paper gives no parameter-matched LoRA here either, and its single runs are of different length.",
    change="Tasks that contradict one another more: the picture colours them by how far they do.",
    settings=("minilm-world", "nano-world"),
    seeds=40,
    readings=("recipe",),
)
