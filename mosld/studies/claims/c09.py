"""C9: better out of domain than LoRA: tasks that were never trained on."""

from mosld.studies.claims.claim import Claim, Contrast

CLAIM = Claim(
    id="C9",
    title="Better out of domain than LoRA",
    says="trained on one set and tested on MMLU, MoSL and MoSLD lie above LoRA, as a figure",
    printed=None,
    contrasts=(Contrast("held-out tasks: MoSLD minus LoRA", {"MoSLD": 1, "LoRA": -1}, "outside"),),
    further=(
        Contrast("held-out tasks: MoSLD minus LoRA of matched size", {"MoSLD": 1, "LoRA matched": -1}, "outside"),
        Contrast("held-out tasks: MoSLD minus MoSL", {"MoSLD": 1, "MoSL": -1}, "outside"),
    ),
    plain="What was learned on six tasks is tried on others that were never trained. Which adapter has kept, or gained, more there?",
    differs="The paper trains on one set and tests on MMLU; here it is a mixture, and four other tasks of the same world (or MMLU).",
    settings=("minilm-world", "nano-world", "minilm-real", "smollm2-real", "nano-long"),
    change="Held-out tasks further from, or nearer to, what was trained; another rate, since a gentle one forgets less.",
)
