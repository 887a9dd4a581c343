"""C8: more experts in higher layers (2-4-6-8) beat the same number everywhere, which beat more in lower layers (8-6-4-2)."""

from mosld.studies.claims.claim import Claim, Contrast

CLAIM = Claim(
    id="C8",
    title="More experts in higher layers: 2-4-6-8 beats 5-5-5-5 beats 8-6-4-2",
    says="the ablation says so, while the set-up of the main runs says 8-6-4-2",
    printed=None,
    contrasts=(Contrast("2-4-6-8 minus 8-6-4-2", {"2-4-6-8": 1, "8-6-4-2": -1}),),
    further=(
        Contrast("2-4-6-8 minus 5-5-5-5", {"2-4-6-8": 1, "5-5-5-5": -1}),
        Contrast("2-8-8-2 minus 5-5-5-5", {"2-8-8-2": 1, "5-5-5-5": -1}),
    ),
    plain="A fixed number of experts can be put near the input, near the output, in the middle, or spread evenly. Does it matter where?",
    differs="The paper has 32 layers in four groups; MiniLM has six layers, so the same shapes are cut into six steps of equal total.",
    change="A deep model, whose lower and higher layers differ more.",
    settings=("minilm-world", "nano-world"),
)
