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
# # 8 · Ten claims and an eleventh
#
# **You will see** what the MoSLD paper claims, what came out when each claim was run with seeds and intervals, and how a verdict is reached.
# Nothing is trained here: the notebook reads the stored runs, as the report does.
#
# **You need** notebooks 1 to 3. It takes about a minute. The paper is [arXiv 2412.08946](https://arxiv.org/abs/2412.08946).
#
# Every claim became one *contrast*: a difference between two ways of training, taken seed by seed, so that both have the same rows, batches and
# initial values. What would count as a result was written down and committed before the first test seed: `mosld/studies/claims/plan.md`.
#
# **In the page of the lab** (`python app.py`): Claims in the room Compare, <http://127.0.0.1:7860/?room=compare>.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("mosld") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "..[lab,notebooks]"], check=True)

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from mosld.studies.claims import CLAIMS, analysis, pictures
from mosld.studies.claims.arms import SETTINGS
from mosld.studies.claims.report import rows
from mosld.studies.claims.results import accepted, load, registered
from mosld.studies.statistics import evidence

plan = registered()
runs = {key: run for key, run in load().items() if accepted(run, plan)}
primary, nano = SETTINGS["minilm-world"], SETTINGS["nano-world"]
print(f"{len(runs):,} runs under the plan of commit {plan['commit'][:10]}, {plan['date']}")

# %% [markdown]
# ## The verdicts
#
# *recipe*: one learning rate for all, as in the paper. *tuned*: every method at its own best rate of the same grid. A verdict that flips between
# the two says that the rate, not the method, made the difference.

# %%
verdicts = pd.DataFrame(
    [(r["id"], r["title"], r["verdict"]["recipe"], r["verdict"]["tuned"], r["figure"]) for r in rows()],
    columns=["claim", "it says", "recipe", "tuned", "difference [interval]"],
).set_index("claim")
verdicts.style.set_properties(**{"text-align": "left"})

# %% [markdown]
# What a reader of the verdicts alone would miss:

# %%
Markdown("\n".join(f"- **{r['id']}** {r['caution']}" for r in rows() if r["caution"]) or "Nothing was run.")

# %% [markdown]
# The same as a picture. The grey band is one point of accuracy either way, the smallest difference the plan cares about. Hollow marks are what the
# paper prints, one run each.

# %%
outcomes = analysis.analyse(runs, [primary.name], further=False)
pictures.forest(outcomes, primary)

# %% [markdown]
# ## From seeds to a verdict
#
# Take C3, dropout on the shared matrix. Each seed gives one difference. Their mean has an interval, and three questions are asked of it: is it
# above 0 (supported), below 0 (contradicted), or surely within one point (no difference that matters)? If none, it is *not resolved here*, and
# what so many seeds could have seen is said.

# %%
differences = analysis.differences(CLAIMS["C3"].contrasts[0], primary, "recipe", runs, primary.seeds)
values = np.array(list(differences.values()))
if len(values) > 1:
    e = evidence(values.tolist(), delta=1.0)
    print(
        f"{e.n} seeds, mean {e.mean:+.2f}, spread over seeds {e.spread:.2f}; 95 % interval {e.interval[0]:+.2f} to {e.interval[1]:+.2f}"
    )
    print(
        f"90 % interval, for equivalence: {e.equivalence[0]:+.2f} to {e.equivalence[1]:+.2f}; resolvable {e.detectable:.2f} points"
    )
    print(
        f"t p {e.p:.3f}, sign flips p {e.p_permutation:.3f}, BCa {e.bootstrap[0]:+.2f} to {e.bootstrap[1]:+.2f}"
    )

# %% [markdown]
# How would it have looked with one run each, as in the paper? Any of these differences could have been the one printed.

# %%
if len(values) > 1:
    print(
        f"one run: anything from {values.min():+.2f} to {values.max():+.2f} points; {np.mean(values > 0):.0%} of the seeds say that dropout helps"
    )
pictures.sizes(runs, primary) or pictures.sizes(runs, nano) or Markdown("The sizes were not run.")

# %% [markdown]
# ## C4: what does "updated more" mean?
#
# By tokens met, by the size of the gradient, by the size of the step, by the size of the step over the size of the weights. 0 is even; above 0
# A is ahead. The four do not agree, and p = .1 moves none of them far.

# %%
pictures.strips(runs, primary) or Markdown("Not run.")

# %% [markdown]
# ## The rate decides first
#
# How far methods lie apart, beside how far one method lies from itself at another rate.

# %%
pictures.rates(runs, primary) or Markdown("Not run.")

# %% [markdown]
# ## C11: what does the router read?
#
# A router that sees one token at a time learns words, not tasks. Told the task, or reading the instruction, it can know it. Whether that is worth
# accuracy is another question: the third panel takes the gates away again, by giving each token the gates of another.

# %%
pictures.routers(runs, primary) or pictures.routers(runs, nano) or Markdown("Not run.")

# %% [markdown]
# ## The others
#
# C6 to C8 with every seed, C10 by task, C9 outside against inside.

# %%
for picture in (
    pictures.trends(runs, primary),
    pictures.slopes(runs, primary) or pictures.slopes(runs, nano),
    pictures.outside(runs, primary),
):
    if picture is not None:
        display(picture)

# %% [markdown]
# ## Again, elsewhere
#
# The same claims on other backbones and tasks. These are replications: they decide nothing, but a direction that turns round is worth knowing.

# %%
again = [
    (
        r["id"],
        s["title"],
        s["reading"],
        s["seeds"],
        s["label"],
        f"{s['mean']:+.2f} [{s['low']:.2f}, {s['high']:.2f}] {s['unit']}",
        s["verdict"],
    )
    for r in rows()
    for s in r["settings"]
    if s["mean"] is not None
]
pd.DataFrame(
    again, columns=["claim", "setting", "reading", "seeds", "contrast", "difference", "verdict"]
).set_index(["claim", "setting", "reading"])

# %% [markdown]
# ## Questions to try
#
# 1. Which verdicts differ between *recipe* and *tuned*, and what does that say about comparing methods at one rate?
#    <details><summary>A view</summary>A rate suits one method better than another, so one rate for all compares how near each is to its own best. The
#    curves above show how much is at stake.</details>
# 2. Pick a claim that is *not resolved here*. How many seeds would it need, if the spread stays? (The resolvable effect shrinks with the square
#    root of their number.)
#    <details><summary>Solution</summary>With n seeds <i>d</i> points were resolvable: for one point it takes about n · d² seeds.</details>
# 3. `python -m mosld claims run C3 --scale quick` trains a small version of C3. Does it agree, and should it?
#    <details><summary>A view</summary>It says itself how large an effect its few seeds could have seen. Below that, agreeing or not is
#    chance.</details>
#
# ## What was shown
#
# A claim is a contrast over seeds, its verdict follows from an interval by a rule fixed beforehand, and "it cannot be told" is a verdict too.

# %%
ids = [r["id"] for r in rows()]
assert ids == [f"C{i}" for i in range(1, 12)], "ten claims and an eleventh"
assert all(run["plan"] == plan["hash"] and run["began"] > plan["date"] for run in runs.values()), (
    "no run before its plan"
)
assert len({(run["setting"], run["seed"], run["key"]) for run in runs.values()}) == len(runs), (
    "every run counts once"
)
