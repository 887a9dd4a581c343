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
# mixture, or one adapter a task, merged afterwards; and a bridge between the two, the finished adapters as the experts of a mixture. Merging needs no
# common training: the tasks' owners never have to meet.
#
# **You need** notebook 1; notebook 4 for mixtures. The runs take about three minutes on two idle cores.
#
# Papers: Task Arithmetic [2212.04089](https://arxiv.org/abs/2212.04089), TIES [2306.01708](https://arxiv.org/abs/2306.01708), DARE
# [2311.03099](https://arxiv.org/abs/2311.03099), TSV-M [2412.00081](https://arxiv.org/abs/2412.00081), AdaMerging
# [2310.02575](https://arxiv.org/abs/2310.02575).
#
# A *task vector* is what fine-tuning on one task added to the weights. *Task Arithmetic* adds them up, times a coefficient. *TIES* keeps each
# vector's largest entries and the sign most of them agree on; *DARE* drops entries at random and scales up the rest, here before TIES's election.
# *TSV-M* keeps the largest singular directions of every vector and makes those of different tasks orthogonal. *AdaMerging* learns coefficients by
# making the merged model more certain on questions without answers. These are validation questions here, not the test questions that the paper
# uses.
#
# **In the page of the lab** (`python app.py`): lesson 8, and Merging in the room Compare, <http://127.0.0.1:7860/?lesson=8>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown
from transformers import AutoModel
from transformers import logging as transformers_log

from mosld import figures
from mosld.adapters import Handle
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
ROWS = 10 if FAST else 100  # questions of each task that are scored

base = RunConfig(
    method="lora",
    arms="",
    steps=STEPS,
    layers=2,  # of the backbone's four: quicker, and enough for these tasks
    eval_rows=ROWS,
    eval_every=1000,
    probe_every=1000,
)
# As many questions of each task as the task's own adapter sees, in as large batches and more steps; notebook 4 has the other way to match.
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
# Accuracy on validation rows, means over seeds with 95 % bands, no narrower than the questions allow:

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
    questions=ROWS,
)

# %% [markdown]
# ## The methods
#
# All merge the same four adapters of each seed: Task Arithmetic with 0.3, as in its paper, and with the best coefficient from above. AdaMerging runs
# for the 500 steps of its paper, with 2 questions of each task a step. The last way does not merge at all: the adapters become the experts of one
# mixture, and only its router is trained, for a few steps on labelled questions.

# %%
merging = MergeConfig(
    merge_batch=2,
    ada_steps=2 if FAST else 500,
    expert_steps=2 if FAST else 50,
)
METHODS = (
    "task-arithmetic",
    "ties",
    "dare-ties",
    "tsv",
    "adamerging-layer",
    "experts",
)

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
        ways[f"merged: {MERGES[method].label}"] = merges[method, seed].accuracy(bench)
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
    means,
    "accuracy",
    "way",
    title=f"Mean accuracy on {len(TASKS)} tasks",
    xlabel="accuracy on test rows",
    questions=ROWS * len(TASKS),
)

# %%
grid = results.groupby(["way", "task"], sort=False).accuracy.mean().unstack("task")
figures.heat(grid, list(grid.index), [t[6:] for t in grid.columns], "Mean accuracy by task")

# %% [markdown]
# ## Mixture against merging
#
# Each way minus LoRA on the mixture, seed by seed, with the 95 % interval over seeds, no narrower than the questions allow. *One adapter a task* is
# no single model: it has to be told the task. The mixtures made more steps than any single adapter, at as many questions of each task.

# %%
wide = means.pivot(index="seed", columns="way", values="accuracy")
lines = ["| way | minus LoRA on the mixture | |", "|---|---|---|"]
for way in means.way.unique():
    if way != "LoRA on the mixture":
        pair = list(wide[way]), list(wide["LoRA on the mixture"])
        mean, low, high = paired_interval(*pair, rows=ROWS * len(TASKS))
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
# ## Take the model along
#
# A merge is a model: its update is added to the weights, and `from_pretrained` reads it like any other. (`python -m mosld merge` writes the best of
# its merges, and every task's adapter in PEFT's format; it reads adapters that PEFT saved, too.)

# %%
transformers_log.set_verbosity_error()  # it would tell of a pooler that this backbone does not have
transformers_log.disable_progress_bar()
merged = folder / "merged"
benches[0].save(merges["ties", 0].updates, merged)
loaded = AutoModel.from_pretrained(merged)
linear, update = next(iter(merges["ties", 0].updates.items()))
added = loaded.get_submodule(linear).weight - benches[0].backbone.model.get_submodule(linear).weight
off = (added - update).abs().max().item()
print(f"{linear}: what was added differs from the merge by at most {off:.1e}")

asked = benches[0].backbone.batch(benches[0].tasks[0].test[:20], [0] * 20)
with torch.no_grad():
    benches[0].model.put(merges["ties", 0].updates)
    same = (
        benches[0].backbone.score(asked, loaded).argmax(1) == benches[0].model.score(asked).argmax(1)
    ).all()
print("The loaded model picks the same options as the merge:", bool(same))

# %% [markdown]
# The adapters as experts are no single matrix. They are kept as what they are, an adapter folder that `Handle.from_pretrained` puts on the backbone:

# %%
mixture_folder = folder / "experts"
merges["experts", 0].mixture.save(mixture_folder)
again = Handle.from_pretrained(mixture_folder, benches[0].backbone.replica())
print(f"{again.config.label} of {again.config.experts} experts, {again.count():,} numbers")

# %% [markdown]
# ## Questions to try
#
# 1. Let AdaMerging look at the test questions, as in its paper: `MergeConfig(unlabelled="test")`. How much of its gain is that?
#    <details><summary>Solution</summary>The difference of the two merges on the same test rows, seed by seed; nothing else changes. As the answers
#    stay hidden it is usually small, but it is a figure on questions that were seen.</details>
# 2. Merge two tasks that conflict (`world/mood` and `world/opposite`). What can no coefficient mend?
#    <details><summary>Solution</summary>On the same text the two want opposite answers; only the instruction tells them apart, and a sum of two
#    updates that were trained apart has no reason to read it. Adapters as experts could, were their router to tell the tasks apart; notebook 2
#    shows how little of the task a router of tokens sees.</details>
# 3. `MergeConfig(jammer=...)` with the `mtllmf` methods sends the vectors over a jammed channel. How much power ruins the merge?
#    <details><summary>Solution</summary>Run <code>mtllmf-sum</code> with <code>jammer</code> from 0 upwards and plot accuracy; compare with
#    <code>mtllmf-control</code>, which realigns a model into which nothing was merged.</details>
# 4. The mixture needed all data in one place and a new run for each new task. What would a fifth task cost each way?
#    <details><summary>Solution</summary>Merging: one more small run and one merge. The mixture: all data again, and a whole run. The experts: one
#    more small run and a new router.</details>
#
# ## What was shown

# %%
zero = sweep[sweep["lambda"] == 0].set_index(["seed", "task"]).accuracy
for seed, bench in benches.items():
    bare = bench.accuracy({}, part="validation")
    assert all(zero[seed, task] == bare[task] for task in TASKS)  # coefficient 0 is the bare backbone
    assert len(bench.vectors) == len(TASKS)
    alone = [logs[f"{seed}/{t[6:]}"].config for t in TASKS]
    together = logs[f"mixture/lora-{seed}"].config
    assert together.steps * together.batch == sum(c.steps * c.batch for c in alone)  # as many questions
assert (coefficients[coefficients.step == 0].coefficient - merging.lam).abs().max() < 1e-6
assert coefficients.step.max() == merging.ada_steps
assert merges["adamerging-layer", 0].learned == len(TASKS) * len(benches[0].model.linears)
assert len(results) == len(SEEDS) * len(TASKS) * (len(METHODS) + 5)
assert off < 1e-6 and same and again.count() == merges["experts", 0].stored
# what every merge is to beat: adapters of their own task rise above the untrained model
by_way = means.groupby("way").accuracy.mean()
assert FAST or by_way["one adapter a task"] > by_way["untrained"]
