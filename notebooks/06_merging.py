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
# # 6 · Merging
#
# **You will see** two ways to one model for many tasks, on the same tasks and with the same number of training questions: one adapter trained on the
# mixture, or one adapter a task, merged afterwards. Merging needs no common training: the tasks' owners never have to meet.
#
# **You need** notebook 1; notebook 4 for mixtures. The runs take about two minutes.
#
# A *task vector* is what fine-tuning on one task added to the weights. *Task Arithmetic* adds them up, times a coefficient. *TIES* keeps each
# vector's largest entries and the sign most of them agree on. *AdaMerging* and *Concrete* learn coefficients, or a mask, by making the merged model
# more certain on questions without answers. These questions are held-out ones here, not the test questions that the papers use.
#
# **In the page of the lab** (`python app.py`): lesson 8, and Merging in the room Compare, <http://127.0.0.1:7860/?lesson=8>.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from mosld import figures
from mosld.config import RunConfig
from mosld.merging import task_arithmetic
from mosld.merging.config import MERGES, MergeConfig
from mosld.merging.methods import run
from mosld.merging.sources import open_bench
from mosld.studies.runs import train_all
from mosld.studies.statistics import paired_interval

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps and seeds to learn from
SEEDS = range(1 if FAST else 3)
TASKS = ("world/mood", "world/meant", "world/place", "world/tense")
STEPS = 2 if FAST else 50  # of one task's adapter

base = RunConfig(
    method="lora",
    arms="",
    steps=STEPS,
    layers=2 if FAST else 0,
    eval_rows=10 if FAST else 100,
    eval_every=1000,
    probe_every=1000,
)
# the mixture has as many questions of each task as the task's own adapter
mixture = base.replace(tasks=dict.fromkeys(TASKS, 1.0), steps=STEPS * len(TASKS))

runs = {}
for seed in SEEDS:
    for task in TASKS:
        runs[f"{seed}/{task[6:]}"] = base.replace(tasks={task: 1.0}, seed=seed)
    runs[f"mixture/lora-{seed}"] = mixture.replace(seed=seed)
    runs[f"mixture/mosld-{seed}"] = mixture.replace(method="mosld", seed=seed)

folder = Path(tempfile.mkdtemp())  # name a folder of your own and finished runs are kept
logs = train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress())

# %% [markdown]
# ## How much of each task vector?
#
# Task Arithmetic has one coefficient: 0 is the bare backbone, and with a single task 1 would be the fine-tuned model. Here four vectors are added.
# Accuracy on validation rows, means over seeds with 95 % bands:

# %%
benches = {seed: open_bench([folder / str(seed) / task[6:] for task in TASKS]) for seed in SEEDS}
LAMBDAS = (0.0, 0.5, 1.0) if FAST else (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3)

rows = []
for seed, bench in benches.items():
    for lam in LAMBDAS:
        accuracy = bench.accuracy(task_arithmetic.merge(bench.vectors, [lam] * len(TASKS)), part="validation")
        rows += [
            {"seed": seed, "lambda": lam, "task": task, "accuracy": value} for task, value in accuracy.items()
        ]
sweep = pd.DataFrame(rows)
mean_by_lambda = sweep.groupby("lambda").accuracy.mean()
best = float(mean_by_lambda.idxmax())
print(f"best coefficient on validation rows: {best} with {mean_by_lambda.max():.3f}")
figures.curves(
    sweep,
    "lambda",
    "accuracy",
    "task",
    "Task Arithmetic",
    "coefficient of every task vector",
    "accuracy on validation rows",
)

# %% [markdown]
# ## The methods
#
# All merge the same four adapters of each seed: Task Arithmetic with 0.3, as in its paper, and with the best coefficient from above. AdaMerging and
# Concrete run for fewer steps, at a higher rate, than in their papers.

# %%
merging = MergeConfig(
    merge_batch=8, ada_steps=2 if FAST else 25, ada_lr=0.02, concrete_steps=2 if FAST else 25, concrete_lr=0.2
)
METHODS = ("task-arithmetic", "ties", "adamerging-layer", "concrete-arithmetic")

tell = figures.progress()
rows, merges = [], {}
for seed, bench in benches.items():
    ways = {"one adapter a task": {t: logs[f"{seed}/{t[6:]}"].frames[-1].arms[0].accuracy[t] for t in TASKS}}
    ways["LoRA on the mixture"] = logs[f"mixture/lora-{seed}"].frames[-1].arms[0].accuracy
    ways["MoSLD on the mixture"] = logs[f"mixture/mosld-{seed}"].frames[-1].arms[0].accuracy
    ways[f"merged: Task Arithmetic at {best:g}"] = bench.accuracy(
        task_arithmetic.merge(bench.vectors, [best] * len(TASKS))
    )
    for method in METHODS:
        merges[method, seed] = run(method, bench, merging, tell)
        ways[f"merged: {MERGES[method].label}"] = bench.accuracy(merges[method, seed].updates)
    ways["untrained"] = bench.accuracy({})
    rows += [
        {"seed": seed, "way": way, "task": t, "accuracy": a}
        for way, values in ways.items()
        for t, a in values.items()
    ]
tell("All merges are done", 1)
results = pd.DataFrame(rows)

# %%
means = results.groupby(["way", "seed"], sort=False).accuracy.mean().reset_index()
figures.dots(
    means, "accuracy", "way", title=f"Mean accuracy on {len(TASKS)} tasks", xlabel="accuracy on test rows"
)

# %%
grid = results.groupby(["way", "task"], sort=False).accuracy.mean().unstack("task")
figures.heat(grid, list(grid.index), [t[6:] for t in grid.columns], "Mean accuracy by task")

# %% [markdown]
# ## Mixture against merging
#
# Each way minus LoRA on the mixture, seed by seed, with the 95 % interval over seeds. The adapters alone are no single model: they need to be told
# the task.

# %%
wide = means.pivot(index="seed", columns="way", values="accuracy")
lines = ["| way | minus LoRA on the mixture | |", "|---|---|---|"]
for way in means.way.unique():
    if way != "LoRA on the mixture":
        mean, low, high = paired_interval(list(wide[way]), list(wide["LoRA on the mixture"]))
        word = "above" if low > 0 else "below" if high < 0 else "not resolved by these seeds"
        lines.append(f"| {way} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] | {word} |")
Markdown("\n".join(lines))

# %% [markdown]
# ## What AdaMerging found
#
# Its coefficients, one a task and linear, by step; here the mean over linears, for the first seed. They start at 0.3.

# %%
coefficients = pd.DataFrame(merges["adamerging-layer", 0].coefficients)
by_step = coefficients.groupby(["step", "task"], sort=False).coefficient.mean().reset_index()
figures.curves(by_step, "step", "coefficient", "task", "AdaMerging, layer-wise", ylabel="mean coefficient")

# %% [markdown]
# *Seen* is what a method looks at besides the task vectors.

# %%
table = pd.DataFrame(
    [
        {
            "method": MERGES[m].label,
            "seen": MERGES[m].sees,
            "numbers learned": merges[m, 0].learned,
            "seconds": merges[m, 0].seconds,
        }
        for m in METHODS
    ]
)
table.round(1)

# %% [markdown]
# ## Questions to try
#
# 1. Let AdaMerging look at the test questions, as in its paper: `MergeConfig(unlabelled="test")`. How much of its gain is that?
# 2. Merge two tasks that conflict (`world/mood` and `world/opposite`). What can no coefficient mend?
# 3. `MergeConfig(jammer=...)` with the `mtllmf` methods sends the vectors over a jammed channel. How much power ruins the merge?
# 4. The mixture needed all data in one place and a new run for each new task. What would a fifth task cost each way?
#
# ## What was shown

# %%
zero = sweep[sweep["lambda"] == 0].set_index(["seed", "task"]).accuracy
for seed, bench in benches.items():
    bare = bench.accuracy({}, part="validation")
    assert all(zero[seed, task] == bare[task] for task in TASKS)  # coefficient 0 is the bare backbone
    assert len(bench.vectors) == len(TASKS)
assert (coefficients[coefficients.step == 0].coefficient - merging.lam).abs().max() < 1e-6
assert merges["adamerging-layer", 0].learned == len(TASKS) * len(benches[0].model.linears)
assert len(results) == len(SEEDS) * len(TASKS) * (len(METHODS) + 5)
