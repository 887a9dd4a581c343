"""The arms and settings of the study by name, and the runs that an arm stands for.

- `ARMS`: name -> what it sets. `SETTINGS`: name -> `Setting`.
- `jobs(setting, arm, seed, rate)`: the runs of one arm and seed; one, but for `alone` arms, which train each task of the mixture apart.
"""

from __future__ import annotations

from dataclasses import replace

from mosld.config import ConfigError, RunConfig
from mosld.studies.claims.claim import Setting
from mosld.studies.claims.job import Job

WORLD = ("world/mood", "world/meant", "world/place", "world/tense", "world/actor", "world/kind")
OUTSIDE = ("world/opposite", "world/indoors", "world/number", "world/acted_on")  # two near a task of the mixture, one far, one at odds with one
REAL = ("real/arc_easy", "real/arc_challenge", "real/openbookqa", "real/commonsenseqa", "real/piqa", "real/siqa")
MMLU = ("real/mmlu",)

SETTINGS = {
    s.name: s
    for s in (
        Setting("minilm-world", "MiniLM, six world tasks", "minilm", WORLD, OUTSIDE, steps=200, recipe=3e-3, seeds=20),
        Setting("nano-world", "nano, six world tasks", "nano", WORLD, OUTSIDE, steps=400, recipe=3e-3, seeds=40, tuning=3, width=42),
        Setting("minilm-real", "MiniLM, six public sets", "minilm", REAL, MMLU, steps=200, recipe=1e-3, seeds=20, tuning=3),
        Setting("smollm2-real", "SmolLM2-135M, six public sets", "smollm2", REAL, MMLU, steps=150, recipe=1e-3, seeds=12, tuning=2, width=6),
        Setting("nano-long", "nano, three times as long", "nano", WORLD, OUTSIDE, steps=1200, recipe=3e-3, seeds=20, tuned=False),
        Setting("nano-sgd", "nano, plain SGD", "nano", WORLD, OUTSIDE, steps=400, recipe=0.5, seeds=20, more={"optimiser": "sgd"}, tuned=False),
    )
}

MOSLD = {"method": "mosld"}
ARMS: dict[str, dict] = {
    "LoRA": {"method": "lora"},
    "LoRA matched": {"method": "lora-matched"},
    "MoLA": {"method": "mola"},
    "HydraLoRA": {"method": "hydralora"},
    "MTL-LoRA": {"method": "mtl-lora"},
    "MoSL": {**MOSLD, "dropout": 0.0},
    "MoSLD": MOSLD,
    "MoSLD frozen A": {**MOSLD, "rate_a": 0.0},
    "MoSLD A x1/4": {**MOSLD, "rate_a": 0.25},
    "MoSLD A x4": {**MOSLD, "rate_a": 4.0},
    # the grid share x site; MoSLD is (A, A) and MoSL is (A, none)
    **{
        f"share {share}, drop {site}": {**MOSLD, "share": share, **({"dropout": 0.0} if site == "none" else {"dropout_on": site})}
        for share in ("A", "B", "none")
        for site in ("A", "B", "activations", "none")
        if (share, site) not in (("A", "A"), ("A", "none"))
    },
    **{f"p {p}": {**MOSLD, "dropout": p} for p in (0.2, 0.3, 0.5)},
    **{f"rank {r}": {**MOSLD, "rank": r} for r in (2, 4, 16, 32)},
    **{f"rank {r}, alpha {2 * r}": {**MOSLD, "rank": r, "alpha": 2.0 * r} for r in (2, 4, 16, 32)},
    **{name: {**MOSLD, "experts": name} for name in ("2-4-6-8", "5-5-5-5", "8-6-4-2", "2-8-8-2")},
    **{f"{arm}, {n} rows": {**MOSLD, "dropout": p, "rows": n} for arm, p in (("MoSL", 0.0), ("MoSLD", 0.1)) for n in (64, 256, 1024)},
    **{f"router {name}": {**MOSLD, "router": name} for name in ("text", "instruction", "task", "random", "hash", "uniform")},
    "router instruction x10": {**MOSLD, "router": "instruction", "rate_router": 10.0},
    "router text x10": {**MOSLD, "router": "text", "rate_router": 10.0},
    "LoRA alone": {"method": "lora"},
    "MoSLD alone": MOSLD,
}
# With six layers the four groups become six, in the same shape and with the same total for all.
SIX = {"2-4-6-8": "2-3-4-6-7-8", "5-5-5-5": "5-5-5-5-5-5", "8-6-4-2": "8-7-6-4-3-2", "2-8-8-2": "2-5-8-8-5-2"}
OWN = ("rows", "rate_a", "rate_router", "router")  # settings of a Job that are none of the schema's


def jobs(setting: Setting, arm: str, seed: int, rate: float | None = None) -> list[Job]:
    """The runs of `arm` with one seed. `rate`: None is the recipe's. Raises ConfigError for an unknown arm."""
    cached = (setting.name, setting.steps, arm, seed, rate)
    if cached not in _jobs:
        _jobs[cached] = _make(setting, arm, seed, rate)
    return _jobs[cached]


_jobs: dict[tuple, list[Job]] = {}  # an analysis asks for each many times, and checking a configuration takes a millisecond


def _make(setting: Setting, arm: str, seed: int, rate: float | None) -> list[Job]:
    if arm not in ARMS:
        raise ConfigError(f"arm: '{arm}' is not known; the arms are {', '.join(ARMS)}.")
    values = {"lr": rate or setting.recipe, **setting.more, **ARMS[arm]}
    own = {k: values.pop(k) for k in OWN if k in values}
    if "experts" in values and setting.backbone != "nano":
        values["experts"] = SIX[values["experts"]]
    common = {"backbone": setting.backbone, "steps": setting.steps, "batch": setting.batch, "seed": seed, "arms": ""}
    whole = RunConfig(**common, **values, tasks=setting.tasks, held_out=setting.held_out)
    if not arm.endswith(" alone"):
        return [Job(whole, **own)]
    steps = max(1, round(setting.steps / len(setting.tasks)))  # as many of a task's questions as the mixture shows
    return [Job(whole.replace(tasks={t: 1.0}, held_out=(), steps=steps), **own) for t in setting.tasks]


def quick(setting: Setting) -> Setting:
    """A tenth of the steps, three seeds, a hundred rows of a task: what a visitor runs. It settles nothing."""
    return replace(setting, steps=max(20, setting.steps // 10), seeds=3, tuning=1, scored=100)
