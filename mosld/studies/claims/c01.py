"""C1: MoSLD trains far fewer parameters than MoLA. Exact counts, no runs."""

from mosld.studies.claims.claim import Claim

CLAIM = Claim(
    id="C1",
    title="MoSLD trains far fewer parameters than MoLA",
    says="13.9 M against 22.3 M trainable parameters on LLaMA2-7B (its table prints them 100 times too large; the digits agree)",
    printed=None,
    contrasts=(),
    plain="Sharing one matrix between all experts saves what the others would each have kept. How much is arithmetic: nothing is trained.",
    differs="Nothing differs: the counts are those of the paper's own model, rank and layers.",
    change="Nothing short of another definition of the layer.",
    settings=(),
    readings=(),
)
