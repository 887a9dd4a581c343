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
# # 3 · Who is updated more, A or B?
#
# **You will see** the paper's premise measured: A, which all experts share, is said to be updated more than each $B_e$, and dropout on A to even that
# out. "Updated more" can mean four things, and they need not agree, so all four are shown, each as log2 (A over the mean of the $B_e$): above 0 A is
# updated more, below 0 the $B_e$ are. Each is measured with and without dropout, under AdamW and under SGD, over several seeds with 95 % intervals.
#
# **You need** notebook 1. The runs take about two minutes.
#
# The paper is [arXiv 2412.08946](https://arxiv.org/abs/2412.08946). Later work disagrees with its premise: ALoRA
# ([2509.25414](https://arxiv.org/abs/2509.25414)) finds that A changes little and B a lot.
#
# | definition | A over the mean of the $B_e$ of |
# |---|---|
# | updates | tokens that reach an entry in a step |
# | gradient | root mean square of the gradient's entries |
# | step | root mean square of the entries' change in a step |
# | relative step | that over the root mean square of the weights |
#
# **In the page of the lab** (`python app.py`): lesson 6, <http://127.0.0.1:7860/?lesson=6>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import math
import os
import tempfile
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Markdown

from mosld import figures
from mosld.config import RunConfig
from mosld.studies.runs import train_all
from mosld.studies.statistics import paired_interval
from mosld.training.frame import IMBALANCE

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps and seeds to learn from
SEEDS = range(2 if FAST else 4)
SGD_RATE = 0.3  # AdamW divides by the gradient's size, SGD does not: its rate has to be far larger than 0.003

arms = (
    {"optimiser": "adamw", "dropout": 0.0},
    {"optimiser": "adamw", "dropout": 0.1},
    {"optimiser": "sgd", "lr": SGD_RATE, "dropout": 0.0},
    {"optimiser": "sgd", "lr": SGD_RATE, "dropout": 0.1},
)
config = RunConfig(
    tasks="world/mood,world/place,world/tense",
    arms=arms,
    steps=6 if FAST else 100,
    layers=2 if FAST else 0,
    eval_rows=10 if FAST else 100,
    eval_every=1000,
    probe_every=2 if FAST else 5,
)
folder = Path(tempfile.mkdtemp())  # name a folder of your own and finished runs are kept
runs = {f"seed{seed}": config.replace(seed=seed) for seed in SEEDS}
logs = list(train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress()).values())

# %% [markdown]
# ## Where the gradient of A comes from
#
# One linear, $y = W x + s \sum_e g_e B_e A x$ with $s = \alpha / r$. Let $D = \partial L / \partial y$, one row a token. Then
#
# $$\frac{\partial L}{\partial A} = \sum_e G_e, \quad G_e = s\, \big(g_e \odot (D B_e)\big)^{\!\top} X,
# \qquad \frac{\partial L}{\partial B_e} = s\, (g_e \odot D)^{\!\top} (X A^{\!\top}).$$
#
# Two things follow. Every expert adds its own share $G_e$ to the gradient of the one A, so A hears all tokens and $B_e$ only those sent to it. And
# with $B_e = 0$, as at the start, every $G_e$ is zero: **in the first step A cannot move**, whatever the batch says. Checked against autograd:

# %%
torch.manual_seed(0)
N, d, r, E = 6, 8, 2, 3
X, W, A = torch.randn(N, d), torch.randn(d, d), torch.randn(r, d, requires_grad=True)
gates, target = torch.rand(N, E), torch.randn(N, d)


def gradients(B):
    """dL/dA and dL/dB of L = |y - target|^2 / 2 by autograd, and the G_e by the formula."""
    B = B.clone().requires_grad_()
    y = X @ W.T + sum(gates[:, e : e + 1] * (X @ A.T @ B[e].T) for e in range(E))
    of_a, of_b = torch.autograd.grad(((y - target) ** 2).sum() / 2, [A, B])
    D = (y - target).detach()
    G = torch.stack([(gates[:, e : e + 1] * (D @ B[e])).T @ X for e in range(E)]).detach()
    return of_a, of_b, G


of_a, of_b, G = gradients(torch.randn(E, d, r))
at_start_a, at_start_b, _ = gradients(torch.zeros(E, d, r))
print(f"sum of G_e against autograd: largest difference {(G.sum(0) - of_a).abs().max():.1e}")
print(f"with B = 0: size of dL/dA {at_start_a.norm():.1f}, of dL/dB {at_start_b.norm():.1f}")
sum_agrees = torch.allclose(G.sum(0), of_a, atol=1e-4) and at_start_a.norm() == 0 < at_start_b.norm()

# %% [markdown]
# ## The runs
#
# First, whether both optimisers learn at these rates: one that stands still has no imbalance worth measuring.

# %%
figures.losses(logs)

# %%
losses = figures.tables(logs, "losses").query("step > 0")
begun, ended = losses[losses.step <= 5], losses[losses.step > config.steps - 5]
learned = pd.concat([part.groupby("arm", sort=False).loss.mean() for part in (begun, ended)], axis=1)
learned.set_axis(["mean loss of the first 5 steps", "of the last 5"], axis=1).astype(float).round(3)

# %% [markdown]
# ## One linear at the end
#
# The machine as it stands after one of the runs: bars of norms and steps in each box, and at the right the four definitions, a mark an arm. The
# first two arms are AdamW without and with dropout, the others SGD.

# %%
figures.machine(logs[0])

# %% [markdown]
# ## Norms, expert by expert
#
# One seed under AdamW without dropout: the norm of A, of every $B_e$, of every product $B_e A$, and what each expert *asks* of A: the norm of its own
# share of A's gradient. $B_e$ starts at zero. Means over the linears.

# %%
figures.norms(logs[0], arm=0)

# %% [markdown]
# The same under SGD:

# %%
figures.norms(logs[0], arm=2)

# %% [markdown]
# ## Four definitions
#
# Means over linears and seeds; the bands are 95 % intervals over seeds. At the first step $B_e$ is zero, so the gradient of A is zero and the
# relative step of B is undefined: the lines have a gap there.

# %%
figures.imbalance(logs)

# %% [markdown]
# For one number a run, take the mean over the second half of its steps.

# %%
table = figures.tables(logs, "imbalance")
half = table[table.step > config.steps / 2]
means = half.groupby(["seed", "arm", "definition"], sort=False).log2_ratio.mean().reset_index()
figures.dots(
    means,
    "log2_ratio",
    "definition",
    "arm",
    "Update imbalance, second half of the run",
    "log2 (A / mean of B): right of 0, A is updated more",
    zero=0,
)


# %%
def verdict(values, more="A is updated more", less="the B are updated more"):
    """A sentence on a list of values, one a seed, by their 95 % interval."""
    mean, low, high = paired_interval(values, [0.0] * len(values))
    said = more if low > 0 else less if high < 0 else "not resolved by these seeds"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]: {said}"


wide = means.pivot(index="seed", columns=["arm", "definition"], values="log2_ratio")
plain = {"AdamW": logs[0].arms[0], "SGD": logs[0].arms[2]}
dropped = {"AdamW": logs[0].arms[1], "SGD": logs[0].arms[3]}
lines = ["| definition | AdamW | SGD |", "|---|---|---|"]
lines += [f"| {d} | " + " | ".join(verdict(list(wide[plain[o], d])) for o in plain) + " |" for d in IMBALANCE]
Markdown("Without dropout:\n\n" + "\n".join(lines))

# %% [markdown]
# ## What dropout on A changes
#
# The same seeds and batches with p = 0.1, minus those without. Below 0, dropout moves updates towards the $B_e$.

# %%
change = pd.DataFrame(
    [
        {
            "seed": seed,
            "optimiser": o,
            "definition": d,
            "change": wide[dropped[o], d][seed] - wide[plain[o], d][seed],
        }
        for seed in wide.index
        for o in plain
        for d in IMBALANCE
    ]
)
figures.dots(
    change,
    "change",
    "definition",
    "optimiser",
    "Dropout 0.1 minus no dropout",
    "change of log2 (A / mean of B)",
    zero=0,
)

# %%
lines = ["| definition | AdamW | SGD |", "|---|---|---|"]
for d in IMBALANCE:
    cells = [
        verdict(
            list(change[(change.definition == d) & (change.optimiser == o)].change),
            "dropout moves it towards A",
            "dropout moves it towards B",
        )
        for o in plain
    ]
    lines.append(f"| {d} | {cells[0]} | {cells[1]} |")
Markdown("\n".join(lines))

# %% [markdown]
# The count of updates is arithmetic, not a finding: every token reaches A, and a share K / E of them reaches $B_e$ on average. So the ratio is
# log2 (E / K), and dropout adds log2 (1 - p). With E = K that imbalance cannot exist:

# %%
even = config.replace(experts="2", top_k=2, arms=({"dropout": 0.0},), steps=2, seed=0)
log = train_all({"even": even}, folder)["even"]
counts = log.imbalance().query("definition == 'updates'").log2_ratio
print(f"E = K = 2: log2 of the update counts is {counts.abs().max():.3f} at every linear and step")

# %% [markdown]
# ## Questions to try
#
# 1. Definitions that disagree in sign cannot all support one story. Which would you want to be 0, and why?
#    <details><summary>A view</summary>The relative step says how fast a matrix turns into another one, so it is nearest to "learning"; the count says
#    how much data a matrix hears. Neither is the paper's own, which does not define its imbalance.</details>
# 2. Under SGD a step is the gradient times the rate. Which two of the four definitions must then agree?
#    <details><summary>Solution</summary>Gradient and step: the common rate leaves their ratio as it is. The last cell asserts it.</details>
# 3. Raise the dropout rate to 0.5. Which definitions move, and does accuracy follow?
#    <details><summary>Solution</summary>The count of updates falls by exactly 1 in log2, for half of A's entries sit out each step. The sizes hardly
#    follow: what is let through is scaled up by 1 / (1 − p), and AdamW goes on moving an entry that sits out. Under AdamW, seed 0, the ratio of
#    steps went from +0.54 to +0.43, and accuracy did not rise.</details>
# 4. `share="B"` or `share="none"`: what becomes of each definition?
#    <details><summary>Solution</summary>With none shared both sides hear the same tokens: the count is 0. With B shared the roles change and the
#    count is log2 (K / E), below 0.</details>
#
# ## What was shown

# %%
updates = table[table.definition == "updates"]
for name, p in zip(logs[0].arms, (0.0, 0.1, 0.0, 0.1), strict=True):
    expected = math.log2(4 / 2 * (1 - p))
    assert (updates[updates.arm == name].log2_ratio - expected).abs().max() < 1e-3
assert counts.abs().max() < 1e-6 and sum_agrees
sgd = table[(table.arm == plain["SGD"]) & (table.step > 1)].pivot_table(
    index=["seed", "step", "linear"], columns="definition", values="log2_ratio"
)
assert (sgd["gradient"] - sgd["step"]).abs().max() < 0.01
assert len(logs) == len(SEEDS) and all(log.frames[-1].event == "end" for log in logs)
