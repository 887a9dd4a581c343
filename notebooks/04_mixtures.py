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
# # 4 · Mixtures
#
# **You will see** what training on several tasks at once does to each of them: one adapter a task against one adapter for all, tasks that were never
# trained on, and what the weights of a mixture change. The paper reports that LoRA loses from mixing while MoSLD gains; here you see what holds on
# these tasks. A LoRA with as many parameters as MoSLD takes part, which the paper's tables lack.
#
# Two of the four tasks conflict on purpose: *mood* asks for the feeling that the words say, *meant* for the one that is meant, and irony turns it
# round.
#
# **You need** notebook 1. The runs take about two minutes.
#
# A fair comparison needs a choice. Here every task gives as many questions in the mixture as alone: the mixture's batches are larger by the
# number of tasks.
#
# **In the page of the lab** (`python app.py`): lesson 2, <http://127.0.0.1:7860/?lesson=2>.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from mosld import figures
from mosld.config import RunConfig
from mosld.studies.runs import train_all
from mosld.studies.statistics import paired_interval

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps and seeds to learn from
SEEDS = range(1 if FAST else 3)
TASKS = ("world/mood", "world/meant", "world/place", "world/tense")
HELD_OUT = ("world/opposite", "world/indoors")  # one has to do with mood and meant, one with place
ALONE = 6  # questions a step from each task

base = RunConfig(
    arms="method=lora,lora-matched,mosld",
    steps=2 if FAST else 60,
    layers=2 if FAST else 0,
    eval_rows=10 if FAST else 100,
    eval_every=1000,
    probe_every=1000,
)
mixture = base.replace(tasks=dict.fromkeys(TASKS, 1.0), held_out=HELD_OUT, batch=ALONE * len(TASKS))
# five of eight questions are of the first task
leaning = mixture.replace(tasks={TASKS[0]: 5.0, **dict.fromkeys(TASKS[1:], 1.0)})

runs = {}
for seed in SEEDS:
    runs[f"mixture-{seed}"] = mixture.replace(seed=seed)
    runs[f"leaning-{seed}"] = leaning.replace(seed=seed)
    for task in TASKS:
        runs[f"alone-{task[6:]}-{seed}"] = base.replace(tasks={task: 1.0}, batch=ALONE, seed=seed)

folder = Path(tempfile.mkdtemp())  # name a folder of your own and finished runs are kept
logs = train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress())

# %% [markdown]
# ## Together
#
# Test accuracy of every task after training on the equal mixture, the held-out tasks last. The upright marks are chance; a point is a mean over seeds
# with its 95 % interval.

# %%
names = dict(zip(base.arm_names(), ("LoRA", "LoRA of matched size", "MoSLD"), strict=True))


def ends(kind):
    """Test accuracies at the end of the runs of one kind."""
    table = figures.tables([log for name, log in logs.items() if name.startswith(kind)], "accuracies")
    return table[table.step == base.steps].replace({"arm": names})


together, alone, leaned = ends("mixture"), ends("alone"), ends("leaning")
first = logs["mixture-0"]
for name, count in zip(names.values(), first.parameters, strict=True):
    print(f"{name}: {count:,} trainable parameters")
figures.dots(
    together, "accuracy", "task", "arm", "After the mixture", "accuracy on test rows", marks=first.chance
)

# %% [markdown]
# ## Together minus alone
#
# The same task, method and seed: accuracy after the mixture minus accuracy of an adapter trained on that task alone. Right of 0 mixing helps.


# %%
def difference(a, b):
    """Accuracy in a minus accuracy in b, by task, arm and seed."""
    keys = ["task", "arm", "seed"]
    both = a.merge(b, on=keys, suffixes=("", "_b"))
    return both.assign(difference=both.accuracy - both.accuracy_b)[[*keys, "difference"]]


gain = difference(together, alone)
figures.dots(gain, "difference", "task", "arm", "Mixture minus alone", "accuracy", zero=0)


# %%
def say(table, what):
    """For each arm a sentence on its mean over tasks, one value a seed."""
    out = []
    for arm, part in table.groupby("arm", sort=False):
        values = list(part.groupby("seed").difference.mean())
        mean, low, high = paired_interval(values, [0.0] * len(values))
        word = (
            "gains from" if low > 0 else "loses from" if high < 0 else "is not resolved to gain or lose from"
        )
        out.append(f"- **{arm}** {word} {what}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return "\n".join(out)


Markdown(f"Mean over {len(TASKS)} tasks, 95 % interval over {len(SEEDS)} seeds:\n\n" + say(gain, "mixing"))

# %% [markdown]
# ## Tasks that were never trained on
#
# The adapters were trained on the mixture; the held-out tasks are scored before and after. A task can be scored without training because answers are
# picked by the likeness of texts, without a trained head.

# %%
untrained = pd.DataFrame(
    [{"seed": s, "task": t, "accuracy": logs[f"mixture-{s}"].untrained[t]} for s in SEEDS for t in HELD_OUT]
)
untrained = pd.concat([untrained.assign(arm=arm) for arm in names.values()])
moved = difference(together[together.task.isin(HELD_OUT)], untrained)
figures.dots(
    moved,
    "difference",
    "task",
    "arm",
    "Held-out tasks: trained on the mixture minus untrained",
    "accuracy",
    zero=0,
)

# %%
Markdown("\n\n".join(f"{task}:\n\n{say(moved[moved.task == task], 'the mixture')}" for task in HELD_OUT))

# %% [markdown]
# ## Weights
#
# Now five of eight questions are of the first task instead of two of eight; the number of questions in all is the same. Accuracy minus that of the
# equal mixture:

# %%
shift = difference(leaned, together)
shift = shift[shift.task.isin(TASKS)]
figures.dots(
    shift,
    "difference",
    "task",
    "arm",
    f"Mixture leaning to {TASKS[0]} minus equal mixture",
    "accuracy",
    zero=0,
)

# %%
favoured, others = shift[shift.task == TASKS[0]], shift[shift.task != TASKS[0]]
Markdown(
    f"{TASKS[0]}, which is favoured:\n\n{say(favoured, 'the weights')}\n\nThe others:\n\n{say(others, 'the weights')}"
)

# %% [markdown]
# ## Questions to try
#
# 1. Make the comparison the other way: the mixture with the batch of a single task. What does each task lose for seeing fewer questions?
# 2. Put `world/opposite` into the mixture. It asks the opposite of mood on the same texts. Who loses, and does MoSLD's router help?
# 3. Use real tasks: `python -m mosld tasks` lists them.
# 4. How many seeds would settle the comparisons that these leave open?
#
# ## What was shown

# %%
lora, matched, mosld = first.parameters
assert lora < mosld and abs(matched / mosld - 1) < 0.1
assert set(together.task) == {*TASKS, *HELD_OUT} and len(gain) == len(TASKS) * len(names) * len(SEEDS)
assert not set(HELD_OUT) & set(first.tasks)
assert all(log.frames[-1].event == "end" for log in logs.values())
