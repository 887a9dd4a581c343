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
# **You will see** what a router looks at, measured in bits: the word, its place in the text, or the task; which words an expert takes; when experts
# become specialists of tasks, and when they never do; a router that collapses; and whether any of it matters for the answers.
#
# **You need** notebook 1, or to know what a gate is. It takes about three minutes on two idle cores. The first run has three arms. They see the same
# batches and
# differ in what their router reads: each *token* (the router of the papers), the mean of the task's *instruction* ("Place?", at ten times the
# learning rate), or each token with a router that is drawn at *random* and never trained. Before you run it: which of the three will tell the six
# tasks apart?
#
# Papers: routing of single tokens with a loss that keeps experts busy, the Switch Transformer ([2101.03961](https://arxiv.org/abs/2101.03961));
# collapse of what a router reads, [2204.09179](https://arxiv.org/abs/2204.09179); a router that is never trained, Hash layers
# ([2106.04426](https://arxiv.org/abs/2106.04426)).
#
# **In the page of the lab** (`python app.py`): lesson 7, <http://127.0.0.1:7860/?lesson=7>.

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

from mosld import figures
from mosld.config import RunConfig
from mosld.probes import routing
from mosld.studies.runs import train_all
from mosld.studies.sentences import looks_at, matters, specialists, told
from mosld.tasks import world
from mosld.training import Trainer
from mosld.training.inspector import contribution

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps to learn from

config = RunConfig(
    tasks="world/mood,world/meant,world/opposite,world/place,world/indoors,world/time",
    arms=({"router": "token"}, {"router": "instruction", "router_lr": 10.0}, {"router": "random"}),
    steps=8 if FAST else 150,
    layers=1 if FAST else 0,
    eval_rows=10 if FAST else 60,
    eval_every=4 if FAST else 30,
    seed=0,
)

# %% [markdown]
# The picture is redrawn in place while the run goes on.

# %%
trainer = Trainer(config)
log = figures.watch(trainer)

# %% [markdown]
# ## What does a router look at?
#
# A token is sent to 2 of 4 experts. How much does that choice tell of the token? In bits, I(expert; word) = H(expert) + H(word) - H(expert, word): 0
# if the choice has nothing to do with the word. One of two experts is left open for every token, so no choice can tell more than
# log2(4 / 2) = 1 bit, of anything. Measured on the test rows, mean over all adapted linears; *null* is what the untrained router of the same linear
# tells on the same input.

# %%
table = told(log)
table.round(3)

# %%
Markdown("\n".join(f"- **{arm}**: {looks_at(log, arm).sentence}" for arm in log.arms))

# %% [markdown]
# A router that reads tokens follows the word before it has learnt anything: it is a linear function of the token's vector, and tokens of one word
# have like vectors. It sees the task only as far as the layers below have written it into the token.
#
# ## A trap: bits that are not there
#
# Counted in a small sample, information is too large: chance makes every table uneven. Here the experts are drawn without looking at the word, and
# the plain formula still finds bits, more of them the fewer tokens there are. The lab shuffles the labels to see what chance gives, and takes it off.


# %%
def plain(vote, label):
    """The formula above on counted shares, without correction."""
    joint = torch.zeros(4, int(label.max()) + 1).index_add_(1, label, vote)
    joint = joint / joint.sum()
    entropy = lambda p: -torch.special.xlogy(p, p).sum() / torch.log(torch.tensor(2.0))  # noqa: E731
    return float(entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint))


draw = torch.Generator().manual_seed(0)
rows = []
for tokens in (300, 1000, 4000, 16000):
    vote = torch.zeros(4, tokens).scatter(0, torch.rand(4, tokens, generator=draw).topk(2, 0).indices, 0.5)
    word = torch.randint(60, (tokens,), generator=draw)
    rows.append((tokens, plain(vote, word), float(routing.information(vote, word))))
pd.DataFrame(rows, columns=["tokens", "plain bits", "corrected bits"]).round(3)

# %% [markdown]
# ## The words of an expert
#
# Of every expert the words it takes most, by lift: how much likelier it is for this word than for any. One linear of each arm, at the end.

# %%
words = log.words()
words = words[(words.step == words.step.max()) & (words.linear == log.linears[0][-1].name)]
words.groupby(["arm", "expert"], sort=False).word.agg(", ".join).unstack("expert")

# %% [markdown]
# ## When do experts become specialists?
#
# Bits that the expert tells of the task, at every scored step.

# %%
course = log.reads().query("label == 'task'").groupby(["arm", "step"], sort=False).bits.mean().unstack("step")
course.round(3)

# %%
Markdown(specialists(log).sentence)

# %% [markdown]
# Compare *task null* in the first table. A router that reads the instruction tells tasks apart before it has learnt anything, as one that reads
# tokens tells words apart. What a router is given to read decides more than its training does.
#
# ## Load and entropy
#
# *Evenness* is the entropy of the mean gate over log E: 1 when all experts get the same weight. An expert is *idle* in a linear when it gets under
# 1 / (10 E) of the tokens; a router that leaves most experts idle has collapsed. A specialist takes few tasks and may still be busy: evenness and
# task information are two different things. The last panel is of single batches in training, where the options, which have no instruction, make up
# more of the tokens than in the test rows of the table above.

# %%
figures.router(log)

# %% [markdown]
# ## A run that does collapse
#
# What makes a router collapse: every token goes to one of eight experts, the gate multiplies what that expert does (`renormalise=no`), nothing asks
# for even use, and the learning rate is many times the default. One reason is known: an expert that is chosen learns, and one that has learnt is
# chosen. Below the rate rises from arm to arm; the last arm has the highest rate with a strong balance loss.

# %%
SEEDS = range(1 if FAST else 3)
RATES = (0.003, 0.03, 0.1)
settings = [{"lr": rate, "balance": 0.0} for rate in RATES] + [{"lr": RATES[-1], "balance": 1.0}]
collapsing = RunConfig(
    tasks="world/mood,world/place,world/tense",
    arms=tuple(settings),
    experts="8",
    top_k=1,
    renormalise="no",
    dropout=0,
    layers=2,
    batch=12,
    steps=4 if FAST else 60,
    eval_rows=10 if FAST else 50,
    eval_every=1000,
    probe_every=2 if FAST else 5,
)
seeds = {f"seed-{s}": collapsing.replace(seed=s) for s in SEEDS}
folder = Path(tempfile.mkdtemp())
fallen = list(train_all(seeds, folder, jobs=1 if FAST else 2, progress=figures.progress()).values())
figures.router(fallen)

# %% [markdown]
# *Experts in use* by the tokens that reach them, of eight: exp of the entropy of the load, mean over linears and over the second half of the run;
# from the lowest to the highest seed. Accuracy is on test rows, means over tasks and seeds.

# %%
cases = fallen[0].arms
routed = figures.tables(fallen, "routing").query(f"step > {collapsing.steps / 2}")
used = routed.groupby(["arm", "seed"], sort=False).effective_load.mean().unstack("seed").loc[cases]
idle = routed.groupby("arm", sort=False).idle.mean()[cases]
right = figures.tables(fallen, "accuracies").query("part == 'test'").groupby("arm").accuracy.mean()[cases]
pd.DataFrame(
    {
        "experts in use": [
            f"{low:.1f} to {high:.1f}" for low, high in zip(used.min(axis=1), used.max(axis=1), strict=True)
        ],
        "idle experts of 8": idle.round(1).to_numpy(),
        "accuracy": right.round(2).to_numpy(),
    },
    index=cases,
)

# %% [markdown]
# The balance loss keeps the experts busy. It does not mend what the rate has broken: compare the accuracies. An even router is no sign of a model
# that learns, and a collapsed one is a symptom to be traced to its cause.

# %% [markdown]
# ## Does it matter?
#
# The trained model is asked again, with the gates dealt out anew: every token gets the gates of some other *token*, every text those of some other
# *text*, or all get the *mean*. Nothing is trained again. Where accuracy stays, the model did not rely on who is sent where.

# %%
swaps = [contribution(trainer, arm, rows=10 if FAST else 60, part="test") for arm in range(3)]
pd.DataFrame({s["arm"]: s["mean"] for s in swaps}).T.round(3)

# %%
Markdown(
    "\n".join(f"- {matters(log, [s]).sentence}" for s in swaps)
    + f"\n- Between the arms: {matters(log).sentence}"
)

# %% [markdown]
# ## Does routing follow what the tasks have in common?
#
# The tasks are made by the lab's own grammar, so their *true overlap* is known: how far one answer gives away the other, negative where
# two tasks want different answers for the same text and options. *Likeness of routing* is one minus half the summed difference of two tasks' mean
# gates, averaged over linears: 1 means the same gates. It rises with the number of batches averaged, so it may only be compared between equal
# numbers of them: here all arms have the same batches, and the random router shows what untrained routing gives.

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
late = gates[gates.step > 0.75 * gates.step.max()]
alike = {arm: likeness(late[late.arm == arm]) for arm in log.arms}
figures.heat(alike[log.arms[1]], short, short, f"Likeness of routing, {log.arms[1]}")

# %%
pairs = [(a, b) for i, a in enumerate(log.tasks) for b in log.tasks[:i]]
points = pd.DataFrame(
    {"overlap": [overlap.loc[p] for p in pairs]}
    | {arm: [alike[arm].loc[p] for p in pairs] for arm in log.arms}
)
pd.DataFrame(
    {
        "mean likeness": points[log.arms].mean(),
        "rank correlation with overlap": points.rank().corr().overlap[log.arms],
    }
).round(2)

# %% [markdown]
# The correlation is of ranks (Spearman), over fifteen pairs that share tasks with one another, in one seed: a description of this run, not a test.
#
# ## Questions to try
#
# 1. Give the arms `router=text` and `router=task`. Which is nearer to the instruction router, in bits and in accuracy?
#    <details><summary>Solution</summary><code>arms=({"router": "text"}, {"router": "task"})</code>. The task router is told the task and can tell
#    all of it; the mean of a whole text holds the instruction too, thinned out by the other words.</details>
# 2. Leave `router_lr` at 1 for the instruction router. Do its experts still become specialists?
#    <details><summary>Solution</summary>Look at <i>task null</i> before you look at <i>task</i>: a router that reads nothing but the instruction
#    tells tasks apart untrained. The rate decides how far training moves it from there.</details>
# 3. `top_k=1` with `renormalise=no` allows 2 bits. How many are used? With `renormalise=yes` every gate is 1: what teaches the router then?
#    <details><summary>Solution</summary>One number over itself is 1 whatever the router says, so the task's loss has no gradient on it: the balance
#    loss alone moves it. Notebook 1 has that gradient.</details>
# 4. Repeat with three other seeds, or all at once: `python -m mosld.studies.routers --seeds 5 --jobs 2`.
#    <details><summary>What to look for</summary>Orders that stay (which arm tells more of the task) and digits that do not.</details>
# 5. Give the collapsing run a warm-up (`warmup=50`). Does it help?
#    <details><summary>Solution</summary>It puts the fall off: the rate it rises to is the same. A lower rate, or fewer tokens changed at once, does
#    help.</details>
#
# ## What was shown

# %%
last = gates[gates.step == gates.step.max()]
sums = last.groupby(["arm", "linear", "task"])[["gate", "load"]].sum()
assert (sums.gate.sub(1).abs() < 1e-4).all() and (sums.load.sub(config.top_k).abs() < 1e-4).all()
assert (table.most == 1).all() and (table[["word", "place", "task"]] < 1).all(axis=None)
assert (
    table.word[log.arms[2]] - table["word null"][log.arms[2]]
) ** 2 < 1e-6  # what is never trained is its own null
assert table.word[log.arms[0]] > table.task[log.arms[0]]
assert FAST or (specialists(log).answer == log.arms[1] and looks_at(log, log.arms[0]).answer == "word")
assert abs(rows[0][2]) < 0.1 < rows[0][1]
slow, _, fast, even = cases
assert (
    FAST or (used.loc[fast] < used.loc[even] - 1).all()
)  # in every seed; the spread over seeds is about 0.5
assert FAST or used.loc[fast].mean() < used.loc[slow].mean() - 0.5
assert FAST or right[[fast, even]].max() < right[slow] - 0.2
assert log.frames[-1].event == "end"
