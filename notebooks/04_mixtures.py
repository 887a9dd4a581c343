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
# **You will see** what training on several tasks at once does to each of them: one adapter a task against one adapter for all, on generated tasks
# and on public ones, tasks that were never trained on, and what the weights of a mixture change. The paper reports that LoRA loses from mixing while
# MoSLD gains; here you see what holds on these tasks. A LoRA with as many parameters as MoSLD takes part, which the paper's tables lack.
#
# **You need** notebook 1. The runs take about five minutes on two idle cores. The public tasks are downloaded once, 2.4 MB; without a network that
# section is left out and says so.
#
# The paper is [arXiv 2412.08946](https://arxiv.org/abs/2412.08946). That tasks can hurt each other's training, and how to see it, is an old question:
# [2001.06782](https://arxiv.org/abs/2001.06782) looks at it by gradients. The public tasks are rated sentences by Hutto and Gilbert (VADER, ICWSM
# 2014).
#
# Two of the four generated tasks conflict on purpose: *mood* asks for the feeling that the words say, *meant* for the one that is meant, and irony
# turns it round.
#
# A fair comparison needs a choice, and the choice decides much. Every task gives as many questions in the mixture as alone, and that can be had in
# two ways: the mixture's batches are larger by the number of tasks and the steps as many (*larger batches*), or the batches are as large and the
# steps more by the number of tasks (*more steps*). Both are shown side by side.
#
# The first cell installs the lab where it is not installed yet.
#
# **In the page of the lab** (`python app.py`): lesson 2, <http://127.0.0.1:7860/?lesson=2>.

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
from IPython.display import Markdown, display

from mosld import figures, tasks
from mosld.config import ConfigError, RunConfig
from mosld.studies.runs import train_all
from mosld.studies.statistics import paired_interval

FAST = os.environ.get("MOSLD_FAST") == "1"  # the tests' mode: too few steps and seeds to learn from
SEEDS = range(1 if FAST else 3)
TASKS = ("world/mood", "world/meant", "world/place", "world/tense")
HELD_OUT = ("world/opposite", "world/indoors")  # one has to do with mood and meant, one with place
ALONE = 6  # questions a step from each task
ROWS = 10 if FAST else 100  # test questions of each task

base = RunConfig(
    arms="method=lora,lora-matched,mosld",
    steps=2 if FAST else 60,
    layers=2 if FAST else 0,
    eval_rows=ROWS,
    eval_every=1000,
    probe_every=1000,
)
mixture = base.replace(tasks=dict.fromkeys(TASKS, 1.0), held_out=HELD_OUT, batch=ALONE * len(TASKS))
# as many questions of each task in batches as small as a single task's
longer = mixture.replace(batch=ALONE, steps=base.steps * len(TASKS))
# five of eight questions are of the first task
leaning = mixture.replace(tasks={TASKS[0]: 5.0, **dict.fromkeys(TASKS[1:], 1.0)})

runs = {}
for seed in SEEDS:
    runs[f"mixture-{seed}"] = mixture.replace(seed=seed)
    runs[f"longer-{seed}"] = longer.replace(seed=seed)
    runs[f"leaning-{seed}"] = leaning.replace(seed=seed)
    for task in TASKS:
        runs[f"alone-{task[6:]}-{seed}"] = base.replace(tasks={task: 1.0}, batch=ALONE, seed=seed)

folder = Path(tempfile.mkdtemp())  # name a folder of your own and finished runs are kept
logs = train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress())

# %% [markdown]
# ## Together
#
# Test accuracy of every task after training on the equal mixture with larger batches, the held-out tasks last. The upright marks are chance; a point
# is a mean over seeds with its 95 % interval, which is never drawn narrower than so many test questions allow.

# %%
names = dict(zip(base.arm_names(), ("LoRA", "LoRA of matched size", "MoSLD"), strict=True))


def ends(kind):
    """Test accuracies at the end of the runs of one kind."""
    table = figures.tables([log for name, log in logs.items() if name.startswith(kind)], "accuracies")
    return table[table.part == "test"].replace({"arm": names})


together, longest, alone, leaned = ends("mixture"), ends("longer"), ends("alone"), ends("leaning")
first = logs["mixture-0"]
for name, count in zip(names.values(), first.parameters, strict=True):
    print(f"{name}: {count:,} trainable parameters")
figures.dots(
    together,
    "accuracy",
    "task",
    "arm",
    "After the mixture",
    "accuracy on test rows",
    marks=first.chance,
    questions=ROWS,
)

# %% [markdown]
# ## Together minus alone
#
# The same task, method and seed: accuracy after the mixture minus accuracy of an adapter trained on that task alone. Right of 0 mixing helps. First
# with larger batches, then with more steps.


# %%
def difference(a, b):
    """Accuracy in a minus accuracy in b, by task, arm and seed."""
    keys = ["task", "arm", "seed"]
    both = a.merge(b, on=keys, suffixes=("", "_b"))
    return both[[*keys, "accuracy", "accuracy_b"]]


def picture(table, title, questions=ROWS):
    """Means over seeds of a difference, with intervals over seeds and questions."""
    return figures.dots(
        table, "accuracy", "task", "arm", title, "accuracy", zero=0, minus="accuracy_b", questions=questions
    )


gain, gain_longer = difference(together, alone), difference(longest, alone)
picture(gain, "Larger batches: mixture minus alone")

# %%
picture(gain_longer, "More steps: mixture minus alone")


# %%
def say(table, what, rows=ROWS):
    """For each arm a sentence on its mean over tasks, one value a seed."""
    out = []
    for arm, part in table.groupby("arm", sort=False):
        means = part.groupby("seed")[["accuracy", "accuracy_b"]].mean()
        questions = rows * part.task.nunique()  # behind every mean
        mean, low, high = paired_interval(list(means.accuracy), list(means.accuracy_b), rows=questions)
        word = (
            "gains from" if low > 0 else "loses from" if high < 0 else "neither clearly gains nor loses from"
        )
        out.append(f"- **{arm}** {word} {what}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return "\n".join(out)


interval = f"Mean over {len(TASKS)} tasks; 95 % interval over {len(SEEDS)} seeds, no narrower than the questions allow"
Markdown(
    f"{interval}.\n\nLarger batches:\n\n{say(gain, 'mixing')}\n\nMore steps:\n\n{say(gain_longer, 'mixing')}"
)

# %% [markdown]
# In both pictures every task gave as many questions together as alone. Where they disagree, what looks like an effect of mixing is one of the number
# of steps: an adapter alone that had not finished learning loses to any run that goes on longer. So here is the difference between the two
# matchings themselves, which has nothing to do with mixing:

# %%
steps_gain = difference(longest, together)
steps_gain = steps_gain[steps_gain.task.isin(TASKS)]
Markdown(say(steps_gain, "more, smaller steps"))

# %% [markdown]
# ## Public tasks
#
# Three sets of sentences that people rated as negative or positive: tweets, film reviews and product reviews. They want the same thing of different
# texts, so if mixing helps anywhere, it should here. The rate is lower than above: at the rate for generated tasks a real set easily falls below
# the untrained model (`docs/own-data.md`). Matched by larger batches.

# %%
PUBLIC, PUBLIC_ROWS = ("real/tweets", "real/movies", "real/amazon"), 10 if FAST else 200
try:
    for task in PUBLIC:
        tasks.load(task)  # downloads what is missing; later runs find it in the cache
except ConfigError as error:
    print(f"Left out: {error}")
    PUBLIC = ()

gain_public = None
if PUBLIC:
    public = base.replace(arms="method=lora,mosld", lr=0.001, eval_rows=PUBLIC_ROWS)
    runs = {}
    for seed in SEEDS:
        whole = public.replace(tasks=dict.fromkeys(PUBLIC, 1.0), batch=ALONE * len(PUBLIC), seed=seed)
        runs[f"public-mixture-{seed}"] = whole
        for task in PUBLIC:
            one = public.replace(tasks={task: 1.0}, batch=ALONE, seed=seed)
            runs[f"public-alone-{task[5:]}-{seed}"] = one
    logs.update(train_all(runs, folder, jobs=1 if FAST else 2, progress=figures.progress()))
    names = {**names, **dict(zip(public.arm_names(), ("LoRA", "MoSLD"), strict=True))}
    public_ends = ends("public-mixture")
    gain_public = difference(public_ends, ends("public-alone"))
    risen = public_ends.groupby(["task", "arm"], sort=False).accuracy.mean().unstack("arm")
    before = pd.DataFrame([logs[f"public-mixture-{s}"].untrained for s in SEEDS]).mean()
    display(risen.assign(untrained=before).round(3))
    display(picture(gain_public, "Public tasks: mixture minus alone", PUBLIC_ROWS))
    display(Markdown(say(gain_public, "mixing three kinds of rated sentences", PUBLIC_ROWS)))

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
picture(moved, "Held-out tasks: trained on the mixture minus untrained")

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
picture(shift, f"Mixture leaning to {TASKS[0]} minus equal mixture")

# %%
favoured, others = shift[shift.task == TASKS[0]], shift[shift.task != TASKS[0]]
Markdown(
    f"{TASKS[0]}, which is favoured:\n\n{say(favoured, 'the weights')}\n\nThe others:\n\n{say(others, 'the weights')}"
)

# %% [markdown]
# ## Questions to try
#
# 1. A third way to match: the batch and the steps of a single task. What does each task lose for seeing a quarter of its questions?
#    <details><summary>Solution</summary><code>mixture.replace(batch=ALONE)</code>; put its runs beside the others. Against <i>more steps</i> only the
#    length of training differs, so what is lost is lost to training less, whatever the tasks do to each other.</details>
# 2. Put `world/opposite` into the mixture. It asks the opposite of mood on the same texts. Who loses, and does MoSLD's router help?
#    <details><summary>Solution</summary>Only the instruction tells the two apart. A router that reads tokens hardly sees it (notebook 2); try
#    <code>router="instruction", router_lr=10</code> beside it, as an arm.</details>
# 3. Leave one of the public tasks out of the mixture and score it as `held_out`. How much of what it gains needs its own rows?
#    <details><summary>Solution</summary><code>tasks={"real/tweets": 1, "real/movies": 1}, held_out=("real/amazon",)</code>. What remains of its
#    rise over <i>untrained</i> came from the other two: the three want the same.</details>
# 4. How many seeds would settle the comparisons that these leave open?
#    <details><summary>Solution</summary>With n seeds a 95 % interval reaches about 2 sd / √n to each side: half the width takes four times the seeds,
#    or, where the questions are the limit, four times the questions. <code>mosld.studies.statistics.evidence</code> gives the effect that n seeds
#    would have shown.</details>
#
# ## What was shown

# %%
lora, matched, mosld = first.parameters
assert lora < mosld and abs(matched / mosld - 1) < 0.1
assert set(together.task) == {*TASKS, *HELD_OUT} and not set(HELD_OUT) & set(first.tasks)
assert len(gain) == len(gain_longer) == len(TASKS) * len(first.arms) * len(SEEDS)
questions = {name: log.config.steps * log.config.batch for name, log in logs.items()}
assert questions["mixture-0"] == questions["longer-0"] == len(TASKS) * questions[f"alone-{TASKS[0][6:]}-0"]
assert logs["longer-0"].config.steps == len(TASKS) * logs["mixture-0"].config.steps
assert gain_public is None or set(gain_public.task) == set(PUBLIC)
assert FAST or (together[together.task.isin(TASKS)].groupby("arm").accuracy.mean() > 0.3).all()
assert all(log.frames[-1].event == "end" for log in logs.values())
