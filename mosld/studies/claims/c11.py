"""C11, the lab's own: what a router reads decides whether its experts specialise by task."""

from mosld.studies.claims.claim import Claim, Contrast

READS = ("text", "text x10", "instruction", "instruction x10", "task", "random", "hash", "uniform")
ARMS = {"token": "MoSLD", **{name: f"router {name}" for name in READS}}

CLAIM = Claim(
    id="C11",
    title="What a router reads decides whether its experts specialise",
    says="not in the paper: its routers read one token at a time; two seeds here found them blind to the task",
    printed=None,
    contrasts=(
        Contrast(
            "bits of task in the choice of expert: instruction (rate x10) minus token",
            {ARMS["instruction x10"]: 1, "MoSLD": -1},
            "information task",
            0.1,
            "bits",
        ),
    ),
    further=(
        Contrast("bits of task: token, trained minus untrained", {"MoSLD": 1, "router random": -1}, "information task", 0.1, "bits"),
        Contrast("bits of word: token, trained minus untrained", {"MoSLD": 1, "router random": -1}, "information word", 0.1, "bits"),
        Contrast("bits of task: told the task minus token", {"router task": 1, "MoSLD": -1}, "information task", 0.1, "bits"),
        Contrast("accuracy: instruction (rate x10) minus token", {ARMS["instruction x10"]: 1, "MoSLD": -1}),
        Contrast("accuracy: token minus untrained router", {"MoSLD": 1, "router random": -1}),
        Contrast("accuracy: token minus all experts alike", {"MoSLD": 1, "router uniform": -1}),
        Contrast("accuracy lost when gates are permuted over texts: token", {"MoSLD": 1}, "lost texts"),
        Contrast("accuracy lost when gates are permuted over texts: instruction (rate x10)", {ARMS["instruction x10"]: 1}, "lost texts"),
    ),
    plain=(
        "Experts are there so that each can take its own kind of question. A router that sees one word at a time can sort words, not questions. What "
        "happens if it reads the whole text, or the instruction that names the task, or is told the task, or chooses blindly?"
    ),
    differs="The paper's router, like MoLA's and HydraLoRA's, reads each token's own vector.",
    change="A deep model, in whose higher layers each token's vector says what the text is about.",
    settings=("minilm-world", "nano-world", "nano-long"),
    readings=("recipe",),
    doses=tuple(ARMS.values()),
)
