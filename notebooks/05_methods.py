# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · All methods side by side
#
# **You will see** every adapter method of the lab trained on the same batches of the same mixture with about the same number of trainable parameters,
# and what each of them costs in time. Without equal parameters one would compare sizes, not ideas; the plain LoRA here is as large as the mixtures.
#
# **You need** notebook 1. The runs take about three minutes on two idle cores.
#
# What this can show is small: two layers of one backbone, four generated tasks, a few seeds and one learning rate that was tuned for nobody. Read the
# intervals: they are over seeds, and never narrower than so many test questions allow.
#
# The equations stand in the files of `mosld/adapters`, one a method, each with its paper: MoSLD [2412.08946](https://arxiv.org/abs/2412.08946), MoLA
# [2402.08562](https://arxiv.org/abs/2402.08562), HydraLoRA [2404.19245](https://arxiv.org/abs/2404.19245), MTL-LoRA
# [2410.09437](https://arxiv.org/abs/2410.09437), MALoRA [2410.22782](https://arxiv.org/abs/2410.22782), MixLoRA
# [2404.15159](https://arxiv.org/abs/2404.15159) and more. That nine variants of LoRA, each at its own rate, lie within one or two points of one
# another is reported by [2602.04998](https://arxiv.org/abs/2602.04998).
#
# **In the page of the lab** (`python app.py`): room Compare, where runs lie side by side, <http://127.0.0.1:7860/?room=compare>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import os
import tempfile
import time
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from mosld import backbones, figures
from mosld.config import AdapterConfig, RunConfig
from mosld.counting import ModelShape, count
from mosld.registry import METHODS
from mosld.studies.runs import train_all
from mosld.studies.statistics import paired_interval
from mosld.training import Trainer

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps and seeds to learn from
SEEDS = range(1 if FAST else 3)
ROWS = 10 if FAST else 100  # test questions of each task
TASKS = ("world/mood", "world/meant", "world/place", "world/tense")

base = RunConfig(
    tasks=dict.fromkeys(TASKS, 1.0),
    arms="",
    steps=2 if FAST else 50,
    layers=2,
    eval_rows=ROWS,
    eval_every=1000,
    probe_every=1000,
)

# %% [markdown]
# ## Equal parameters
#
# The budget is MoSLD's count at rank 8 and 4 experts. Every other method gets the rank that comes nearest to it, and alpha grows with the rank so
# that alpha / rank is 2 for all. `LoRA of matched size` finds its rank by itself and is left out: the LoRA below is the same thing. MixLoRA puts its
# experts on the feed-forward linears, so its targets are up and down instead of q and v.

# %%
backbone = backbones.load(base.backbone, base.layers)
d, inner = backbone.d_model, backbone.model.config.intermediate_size
shape = ModelShape(
    backbone.n_layers, {"q": (d, d), "v": (d, d), "up": (d, inner), "down": (inner, d)}, weights=0
)


def parameters(**settings):
    """Trainable parameters of a method on this backbone, by arithmetic."""
    return count(AdapterConfig(**settings), shape, tasks=len(TASKS))


budget = parameters(method="mosld", rank=8)
chosen = {}
for method in METHODS:
    if method == "lora-matched":
        continue
    targets = ("up", "down") if method == "mixlora" else ("q", "v")
    sizes = {rank: parameters(method=method, rank=rank, targets=targets) for rank in range(1, 65)}
    rank = min(sizes, key=lambda r: abs(sizes[r] - budget))
    chosen[method] = {
        "method": method,
        "rank": rank,
        "alpha": 2.0 * rank,
        "targets": targets,
        "parameters": sizes[rank],
    }

table = pd.DataFrame(chosen.values()).assign(label=[METHODS[m].label for m in chosen])
table["of the budget"] = (table.parameters / budget).round(2)
table[["label", "rank", "targets", "parameters", "of the budget"]]

# %% [markdown]
# ## Accuracy
#
# Mean test accuracy over the tasks: a point is a mean over seeds with its 95 % interval. The rows, batches and seeds are the same for all. MTL-LoRA
# is told which task a question is from, the others are not.

# %%
settings = {m: {k: v for k, v in c.items() if k != "parameters"} for m, c in chosen.items()}
runs = {f"{m}-{seed}": base.replace(**settings[m], seed=seed) for m in chosen for seed in SEEDS}
folder = Path(tempfile.mkdtemp())  # name a folder of your own and finished runs are kept
logs = train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress())

rows = []
for method in chosen:
    for seed in SEEDS:
        accuracy = logs[f"{method}-{seed}"].frames[-1].arms[0].accuracy
        rows += [
            {"method": METHODS[method].label, "seed": seed, "task": task, "accuracy": value}
            for task, value in accuracy.items()
        ]
results = pd.DataFrame(rows)
means = results.groupby(["method", "seed"], sort=False).accuracy.mean().reset_index()
first = next(iter(logs.values()))
untrained = sum(first.untrained.values()) / len(TASKS)
figures.dots(
    means,
    "accuracy",
    "method",
    title="Mean accuracy at equal parameters",
    xlabel="accuracy on test rows (line: untrained)",
    zero=untrained,
    questions=ROWS * len(TASKS),
)

# %% [markdown]
# By task:

# %%
grid = results.groupby(["method", "task"], sort=False).accuracy.mean().unstack("task")
figures.heat(grid, list(grid.index), [t[6:] for t in grid.columns], "Mean accuracy by task")

# %% [markdown]
# Against MoSLD, seed by seed: another method's accuracy minus MoSLD's. With so many methods side by side, about one interval in twenty leaves out 0
# by chance.

# %%
wide = means.pivot(index="seed", columns="method", values="accuracy")
rest = [m for m in wide if m != "MoSLD"]
against = pd.concat(
    [
        wide[[m]].set_axis(["accuracy"], axis=1).assign(mosld=wide["MoSLD"], method=m).reset_index()
        for m in means.method.unique()
        if m != "MoSLD"
    ]
)
figures.dots(
    against,
    "accuracy",
    "method",
    title="Minus MoSLD, same seeds",
    xlabel="accuracy",
    zero=0,
    minus="mosld",
    questions=ROWS * len(TASKS),
)

# %%
groups = {"better than MoSLD": [], "worse than MoSLD": [], "not resolved": []}
for m in rest:
    mean, low, high = paired_interval(list(wide[m]), list(wide["MoSLD"]), rows=ROWS * len(TASKS))
    groups["better than MoSLD" if low > 0 else "worse than MoSLD" if high < 0 else "not resolved"].append(
        f"{m} ({mean:+.3f})"
    )
Markdown("\n".join(f"- {name}: {', '.join(members) or 'none'}" for name, members in groups.items()))

# %% [markdown]
# ## Time
#
# Milliseconds of a training step, backbone included: the methods take steps in turn, so that whatever else the machine does slows all of them alike,
# and the median of several rounds counts. `benchmarks/` measures speed with more care.

# %%
trainers = {m: Trainer(base.replace(**settings[m], eval_rows=10)) for m in chosen}
took = {METHODS[m].label: [] for m in chosen}
for _ in range(2 if FAST else 12):
    for method, trainer in trainers.items():
        began = time.perf_counter()
        list(trainer.advance(1))
        took[METHODS[method].label].append(1000 * (time.perf_counter() - began))

# without the first step, before which the bare backbone is scored
median = pd.DataFrame(took).iloc[1:].median().sort_values()
figures.bars(median, "A training step", "milliseconds", "{:.0f}")

# %% [markdown]
# ## Questions to try
#
# 1. Give every method its own best learning rate, chosen on validation rows. Does the order stay?
#    <details><summary>How</summary><code>python -m mosld compare --methods lora:lr=0.001,lora:lr=0.003,mosld:lr=0.001,mosld:lr=0.003 --seeds 3 --out
#    runs/rates</code>, then compare the best line of each. Notebook 8 does this for the claims of the paper: some verdicts flip.</details>
# 2. Double the budget, or quarter it. Who profits?
#    <details><summary>What to look for</summary>With a budget so small that a rank falls to 1 or 2, methods that spend on routers feel it first: the
#    router's E · d_in does not shrink with the rank.</details>
# 3. Mix tasks that conflict (`world/mood` and `world/opposite`). Do routed methods gain on plain LoRA?
#    <details><summary>What to look for</summary>A method that is told the task (MTL-LoRA) against those that must find it in the tokens.</details>
# 4. Which differences would you believe from these seeds?
#    <details><summary>A view</summary>Those whose interval is clear of 0 after a correction for so many comparisons, such as Holm's
#    (<code>mosld.studies.statistics.holm</code>), and that another budget or rate does not turn round.</details>
#
# ## What was shown

# %%
assert set(chosen) | {"lora-matched"} == set(METHODS)
for method in chosen:
    for seed in SEEDS:
        log = logs[f"{method}-{seed}"]
        assert log.parameters[0] == chosen[method]["parameters"] and log.frames[-1].event == "end"
        assert log.data == logs[f"mosld-{seed}"].data  # the same rows
assert table["of the budget"].between(0.7, 1.3).all(), table[["label", "parameters"]]
