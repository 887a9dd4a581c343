"""C3: dropout on the weights of the shared A adds to it."""

from mosld.studies.claims.claim import Claim, Contrast

SIZES = (64, 256, 1024)

CLAIM = Claim(
    id="C3",
    title="Dropout on the shared matrix makes it better",
    says="MoSL 70.88, MoSLD 71.56: the same layer without and with dropout of .1 on A",
    printed=0.68,
    contrasts=(Contrast("MoSLD minus MoSL", {"MoSLD": 1, "MoSL": -1}),),
    further=(
        Contrast("log-probability", {"MoSLD": 1, "MoSL": -1}, "likelihood", 0.02, "nats"),
        Contrast("gap between train and test: MoSL minus MoSLD", {"MoSL": 1, "MoSLD": -1}, "gap"),
        *(Contrast(f"with {n} rows a task", {f"MoSLD, {n} rows": 1, f"MoSL, {n} rows": -1}, tuned={}) for n in SIZES),
    ),
    plain=(
        "In training one entry in ten of the shared matrix is set to zero, anew at every step. That should keep it from learning its questions by "
        "heart, so it should help most where there are few questions to learn from."
    ),
    differs="The paper repeats its training rows ten times; here a row of the whole set is met once or twice.",
    settings=("minilm-world", "nano-world", "minilm-real", "smollm2-real", "nano-long"),
    change="Fewer rows or many more passes over them: the sizes below show which way it goes.",
)
