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
# # 2 · The router
#
# **You will see** where a trained router sends the tokens of six tasks: how evenly the experts are used, whether some fall idle (collapse), how
# much the choice of an expert tells of the task, and whether tasks that have much in common share experts. The tasks are made by the lab's own
# grammar, so how much two of them have in common is known exactly.
#
# **You need** notebook 1, or to know what a gate is. One run of three arms is trained here, in about a minute. The arms see the same batches and
# differ in one number: the coefficient of the load-balance loss.

# %%
import math
import os

import pandas as pd
from IPython.display import Markdown

from mosld import figures
from mosld.config import RunConfig
from mosld.tasks import world
from mosld.training import Trainer

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps to learn from

config = RunConfig(
    tasks="world/mood,world/meant,world/opposite,world/place,world/indoors,world/time",
    arms="balance=0,0.01,0.3",
    steps=8 if FAST else 200,
    layers=2 if FAST else 0,
    eval_rows=10 if FAST else 100,
    eval_every=50,
    batch=24,
    seed=0,
)

# %% [markdown]
# The picture is redrawn in place while the run goes on.

# %%
log = figures.watch(Trainer(config))

# %% [markdown]
# ## Load and entropy
#
# *Evenness* is the entropy of the mean gate over log E: 1 when all experts get the same weight. An expert is *idle* in a linear when it gets under
# 1 / (10 E) of the tokens; a router that leaves most experts idle has collapsed. *Task information* is the mutual information of expert and task in
# bits: 0 if the choice says nothing of the task, at most log2 of the number of experts.

# %%
figures.router(log)

# %%
late = log.routing()
late = late[late.step > 0.75 * late.step.max()]  # the last quarter of the run: single batches are noisy
ends = late.groupby("arm", sort=False)[
    ["balance", "effective", "idle", "token_entropy", "information"]
].mean()
ends.round(3)

# %%
most_idle = late.groupby(["arm", "linear"], sort=False).idle.mean().groupby("arm", sort=False).max()
lines = [
    f"- **{arm}**: {row.effective:.2f} of {config.experts} experts in use on average; "
    + (
        "no linear has an idle expert."
        if most_idle[arm] < 0.5
        else f"in the worst linear {most_idle[arm]:.1f} experts are idle."
    )
    for arm, row in ends.iterrows()
]
Markdown("What this run says about collapse:\n\n" + "\n".join(lines))

# %% [markdown]
# ## Specialisation
#
# Gates of the middle arm at the end of the run: a panel a task, a row a linear, a column an expert. Where the panels look alike, the router does not
# tell the tasks apart.

# %%
figures.gates(log, arm=1)

# %% [markdown]
# ## Does routing follow what the tasks have in common?
#
# The next picture is the *true overlap* of the tasks, from the grammar: how far one answer gives away the other, negative where two tasks want
# different answers for the same text and options. The picture after it is the *likeness of routing*: one minus half the summed difference of two
# tasks' mean gates, averaged over linears, so that 1 means the same gates.

# %%
names, matrix = world.overlap()
overlap = pd.DataFrame(matrix, names, names).loc[log.tasks, log.tasks]
short = [name.removeprefix("world/") for name in log.tasks]
figures.heat(overlap, short, short, "True overlap of the tasks", signed=True)


# %%
def likeness(gates):
    """1 - total variation of the mean gates of each pair of tasks, mean over linears: a table of tasks by tasks."""
    means = gates.groupby(["task", "linear", "expert"]).gate.mean().unstack("task")[log.tasks]
    linears = means.index.get_level_values("linear").nunique()
    return pd.DataFrame(
        {a: {b: 1 - (means[a] - means[b]).abs().sum() / 2 / linears for b in log.tasks} for a in log.tasks}
    )


gates = log.gates()
gates = gates[gates.arm == log.arms[1]]
trained = likeness(gates[gates.step > 0.75 * gates.step.max()])
untrained = likeness(gates[gates.step == gates.step.min()])
figures.heat(trained, short, short, f"Likeness of routing after training, {log.arms[1]}")

# %% [markdown]
# Tasks that share their texts may be routed alike before any training. So the same is measured at the first step, and both are set against the true
# overlap, a point for each pair of tasks. The correlation is of ranks (Spearman). The pairs share tasks with one another and this is one seed, so
# take it as a description of this run and not as a test.

# %%
pairs = [(a, b) for i, a in enumerate(log.tasks) for b in log.tasks[:i]]
points = pd.DataFrame(
    {
        "overlap": [overlap.loc[p] for p in pairs],
        "trained": [trained.loc[p] for p in pairs],
        "untrained": [untrained.loc[p] for p in pairs],
    }
)
rank = points.rank().corr().overlap
figures.scatter(
    points.overlap,
    points.trained,
    [f"{a[6:]}, {b[6:]}" for a, b in pairs],
    "Pairs of tasks",
    "true overlap",
    "likeness of routing after training",
)


# %%
def strength(correlation):
    """A correlation in words."""
    size, sign = abs(correlation), "positive" if correlation > 0 else "negative"
    word = "next to no" if size < 0.2 else f"a weak {sign}" if size < 0.4 else f"a clear {sign}"
    return f"{word} relation ({correlation:+.2f})"


bits, most = ends.information[log.arms[1]], math.log2(int(config.experts))
Markdown(
    f"- Overlap and likeness of routing have {strength(rank.untrained)} at the first step "
    f"and {strength(rank.trained)} after training.\n"
    f"- Likeness is {points.untrained.mean():.2f} on average at the first step and {points.trained.mean():.2f} "
    f"after training; the least alike pair has {points.trained.min():.2f}.\n"
    f"- A choice of expert tells {bits:.3f} bits of the task, of at most {most:.0f}."
)

# %% [markdown]
# ## Questions to try
#
# 1. Set the balance coefficients higher (up to 10). What happens to accuracy, and to task information?
# 2. `top_k=1` makes the choice sharper. Does the router collapse sooner?
# 3. mood and opposite read the same feeling and want different answers. Are they routed apart?
# 4. Repeat with three other seeds. How much of what you saw stays?
#
# ## What was shown

# %%
last = log.gates()
last = last[last.step == last.step.max()]
sums = last.groupby(["arm", "linear", "task"])[["gate", "load"]].sum()
assert (sums.gate.sub(1).abs() < 1e-4).all() and (sums.load.sub(config.top_k).abs() < 1e-4).all()
assert ends.balance.between(0, 1).all() and ends.effective.between(1, int(config.experts)).all()
assert (ends.information >= 0).all() and ends.information.max() <= 2
assert log.frames[-1].event == "end"
