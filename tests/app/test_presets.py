"""Every preset is run at its own seed and must show what its text says.

Digits differ between machines, so the margins asked for are those that the seeds 0 to 4 leave with one thread and with two; what these showed
stands beside each. The first one is the page's own settings, of which a run is shipped: it is read, not repeated.
"""

import base64
import json
import math
import re
from functools import cache

import numpy as np
import pytest

from mosld.config import RunConfig
from mosld.training import Trainer
from mosld.ui.presets import PRESETS
from mosld.ui.record import shipped


@cache
def run(config: str):
    trainer = Trainer(RunConfig.from_url(config))
    for _ in trainer.frames():
        pass
    return trainer.log


def preset_log(name: str):
    """The log of a preset's run at its own seed."""
    return run(PRESETS[name].config.to_url())


def last(table, column: str, steps: int = 1):
    """Mean over linears of a column at the last probed steps, by arm."""
    kept = table[table.step > table.step.max() - steps]
    return kept.groupby("arm")[column].mean()


def ratio(log, definition: str, steps: int = 10):
    table = log.imbalance()
    return last(table[table.definition == definition], "log2_ratio", steps)


def final(log):
    table = log.accuracies()
    return table[table.step == table.step.max()].groupby(["arm", "task"]).accuracy.mean()


def shipped_run():
    """Of the run shipped for first sight: mean imbalance [probed frame][arm][definition] and final accuracies [arm][task]."""
    run = json.loads(shipped())
    experts = [linear[2] for linear in run["header"]["linears"][0]]
    rows = []
    for frame in run["frames"]:
        if frame[4][0][5]:
            halves = [np.frombuffer(base64.b64decode(arm[5][2]), "<f2").astype(float) for arm in frame[4]]
            ends = np.cumsum([4 * e + 9 for e in experts])  # per linear: four norms an expert, four definitions, five figures
            rows.append([np.mean([h[end - 9 : end - 5] for end in ends], axis=0) for h in halves])
    return np.array(rows), np.array([arm[4] for arm in run["frames"][-1][4]])


def test_dropout_thins_the_updates_of_a_and_little_else():
    imbalance, _ = shipped_run()
    updates, _, step, relative = (imbalance[-20:, 1] - imbalance[-20:, 0]).mean(0)
    assert updates == pytest.approx(math.log2(0.9), abs=0.02)
    assert abs(step) < 0.1 and abs(relative) < 0.15


def test_without_a_balance_loss_the_routers_collapse_and_with_it_they_do_not():
    # evenness without fell by .19 to .21 and 11 to 13 of 64 experts ended idle; with it ended at .93 to .95 and 1 to 4 were idle
    log = preset_log("balance")
    assert PRESETS["collapse"].config == log.config.arm(0)  # the first arm is that preset's run
    table = log.routing()
    start, end = (table[table.step == step].groupby("arm").agg({"balance": "mean", "idle": "sum"}) for step in (1, table.step.max()))
    without, with_it = end.loc["balance 0"], end.loc["balance 0.1"]
    assert start.balance.min() > 0.85 and without.balance < start.balance["balance 0"] - 0.08 and without.idle >= 6
    assert with_it.balance > without.balance + 0.08 and with_it.idle < without.idle
    # six tasks, guessing is right .25 to .5 of the time; .23 to .27 in either arm
    assert final(log).groupby("arm").mean().max() < 0.4


def test_experts_hardly_tell_tasks_apart():
    config = PRESETS["specialise"].config
    could = math.log2(int(config.experts) / config.top_k)
    assert could == 1
    # .008 to .010
    assert last(preset_log("specialise").routing(), "information", 10).iloc[0] < 0.05 * could


def test_a_task_loses_beside_its_opposite_which_is_not_learned_alone_either():
    arms, config = ["method lora", "method mosld"], PRESETS["conflict"].config
    here = final(preset_log("conflict")).unstack("task").loc[arms]
    alone = {
        t: final(run(config.replace(tasks=f"world/{t}", batch=config.batch // 4).to_url())).loc[arms, f"world/{t}"] for t in ("mood", "opposite")
    }
    assert (alone["mood"] - here["world/mood"] > 0.05).all()  # .12 to .30
    assert (here["world/opposite"] < 0.45).all() and (alone["opposite"] < 0.45).all()  # .08 to .30; guessing is right .25 of the time


def test_lora_alone_and_in_the_mixture():
    preset = PRESETS["mixture"].config
    mixed = final(preset_log("mixture"))["method lora"].mean()
    alone = []
    for task in preset.tasks:  # as many questions of each task as the mixture holds of it, on average
        alone.append(final(run(preset.replace(tasks=task, steps=20, method="lora", arms="").to_url())).mean())
    assert mixed > np.mean(alone) + 0.05  # .11 to .14


def test_adamw_hides_the_imbalance_of_gradients_that_sgd_passes_on():
    table = preset_log("optimisers").imbalance()
    early = table[table.step.between(2, 10)].groupby(["arm", "definition"]).log2_ratio.mean()
    adamw, sgd = early["optimiser adamw, lr 0.003"], early["optimiser sgd, lr 0.5"]
    assert sgd["step"] == pytest.approx(sgd["gradient"], abs=0.01)  # the step is the gradient times the rate
    assert adamw["gradient"] < -2 and sgd["gradient"] < -2  # -3.6 to -3.0
    assert abs(adamw["step"]) < 0.5  # .13 to .17


def test_where_every_expert_is_used_there_is_no_imbalance_of_counts():
    counts = ratio(preset_log("everyone"), "updates")
    assert counts["experts 2"] == pytest.approx(0, abs=1e-6) and counts["experts 8"] == pytest.approx(2, abs=1e-6)  # log2(E / K)


def test_a_shared_a_costs_less_and_learns_as_well():
    log = preset_log("shared")
    shared, separate = log.parameters
    # four layers, q and v of width 128, r 8, E 4: the shared A saves 3 of 4 A's a linear
    assert separate - shared == 4 * 2 * 3 * 8 * 128 == 24_576 and f"{separate - shared:,}" in PRESETS["shared"].text
    accuracy = final(log).groupby("arm").mean()
    assert abs(accuracy["share A"] - accuracy["share none"]) < 0.1  # .003 to .017


def test_every_preset_has_a_text_and_fits_the_page():
    for preset in PRESETS.values():
        assert 40 < len(preset.text) < 330 and preset.text.endswith(".")
        # a text states what follows from its settings, never a digit of a run, which differs between machines
        assert not re.findall(r"\d\.\d+", re.sub(r"log2\([\d./]+\)|coefficient of 0\.1|coefficient 0\.1", "", preset.text))
