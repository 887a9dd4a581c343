"""C2: in a mixture of tasks MoSLD beats LoRA and MoLA, a LoRA of as many parameters among them."""

from mosld.studies.claims.claim import Claim, Contrast

CLAIM = Claim(
    id="C2",
    title="In a mixture of tasks MoSLD beats LoRA, and MoLA",
    says="LoRA 69.15, MoLA 70.00, MoSLD 71.56: averages of six tasks, one run each",
    printed=71.56 - 70.00,
    contrasts=(
        Contrast("MoSLD minus LoRA of matched size", {"MoSLD": 1, "LoRA matched": -1}),
        Contrast("MoSLD minus MoLA", {"MoSLD": 1, "MoLA": -1}),
    ),
    further=(
        Contrast("MoSLD minus LoRA of rank 8", {"MoSLD": 1, "LoRA": -1}),
        Contrast("MoSLD minus HydraLoRA", {"MoSLD": 1, "HydraLoRA": -1}),
        Contrast("MoSLD minus MTL-LoRA", {"MoSLD": 1, "MTL-LoRA": -1}),
        Contrast("log-probability: MoSLD minus LoRA of matched size", {"MoSLD": 1, "LoRA matched": -1}, "likelihood", 0.02, "nats"),
        Contrast("log-probability: MoSLD minus MoLA", {"MoSLD": 1, "MoLA": -1}, "likelihood", 0.02, "nats"),
    ),
    plain=(
        "One adapter has to learn six tasks at once. Do several small experts that share a matrix learn them better than one plain adapter? "
        "The fair opponent is a LoRA that may train as many numbers, which the paper leaves out, and MoLA, whose experts share nothing."
    ),
    differs="The paper trains LLaMA2-7B for ten epochs, one run a method, one rate for all, and has no LoRA of matched size.",
    settings=("minilm-world", "nano-world", "minilm-real", "smollm2-real", "nano-long"),
    change="Longer training, where experts have more to divide among themselves, or a mixture with sharper conflicts.",
)
