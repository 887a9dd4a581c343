"""Every preset is run at its own seed and must show what its text says; the numbers in the texts are checked too.

The first one is the page's own settings, of which a run is shipped: its text is held to that run.
"""

import base64
import json
import math
import re
from functools import cache

import numpy as np
import pytest
import torch

from mosld.config import RunConfig
from mosld.training import Trainer
from mosld.ui.presets import PRESETS
from mosld.ui.record import shipped


@cache
def run(config: str):
    """The log of a run on one thread: with more, sums are rounded in another order, and a collapsing router magnifies that."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = Trainer(RunConfig.from_url(config))
        for _ in trainer.frames():
            pass
    finally:
        torch.set_num_threads(threads)
    return trainer.log


def preset_log(name: str):
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


def said(name: str) -> list[float]:
    """The decimal numbers that a preset's text states, in order."""
    return [float(n.replace("−", "-")) for n in re.findall(r"−?\d*\.\d+", PRESETS[name].text)]


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
    imbalance, accuracy = shipped_run()
    updates, _, step, relative = (imbalance[-20:, 1] - imbalance[-20:, 0]).mean(0)
    assert updates == pytest.approx(math.log2(0.9), abs=0.02)
    assert abs(step) < 0.1 and abs(relative) < 0.15
    assert said("dropout") == pytest.approx([updates, np.abs(accuracy[0] - accuracy[1]).max()], abs=0.005)


def test_without_a_balance_loss_the_routers_collapse():
    log = preset_log("collapse")
    table = log.routing()
    first, end = table[table.step == 1].balance.mean(), table[table.step == table.step.max()].balance.mean()
    idle = table[table.step == table.step.max()].idle.sum()
    assert end < first - 0.2 and idle >= 4
    assert said("collapse")[:2] == pytest.approx([first, end], abs=0.03)
    stated = int(re.search(r"(\d+) of 32", PRESETS["collapse"].text)[1])
    assert stated == pytest.approx(idle, abs=2)
    assert said("collapse")[2] == pytest.approx(final(log).mean(), abs=0.04)


def test_the_balance_loss_makes_the_routers_even_again():
    log = preset_log("balance")
    table = log.routing()
    without, with_it = last(table, "balance")[["balance 0", "balance 0.1"]]
    assert with_it > without + 0.2 and table[(table.arm == "balance 0.1") & (table.step == table.step.max())].idle.sum() <= 1
    accuracy = final(log).groupby("arm").mean()[["balance 0", "balance 0.1"]]
    # the second number is the coefficient
    assert said("balance") == pytest.approx([without, 0.1, with_it, *accuracy], abs=0.04)


def test_experts_hardly_tell_tasks_apart():
    information = last(preset_log("specialise").routing(), "information", 10).iloc[0]
    assert information < 0.05 and said("specialise")[0] == pytest.approx(information, abs=0.01)


def test_a_task_loses_beside_its_opposite_which_is_not_learned_alone_either():
    arms, config = ["method lora", "method mosld"], PRESETS["conflict"].config
    here = final(preset_log("conflict")).unstack("task").loc[arms]
    alone = {
        t: final(run(config.replace(tasks=f"world/{t}", batch=config.batch // 4).to_url())).loc[arms, f"world/{t}"] for t in ("mood", "opposite")
    }
    assert (alone["mood"] - here["world/mood"] > 0.1).all()
    assert (here["world/opposite"] < 0.25).all() and (alone["opposite"] < 0.25).all()
    assert said("conflict") == pytest.approx([*alone["mood"], *here["world/mood"], 1 / 4], abs=0.05)


def test_lora_alone_and_in_the_mixture():
    preset = PRESETS["mixture"].config
    mixed = final(preset_log("mixture"))["method lora"].mean()
    alone = []
    for task in preset.tasks:  # as many questions of each task as the mixture holds of it, on average
        alone.append(final(run(preset.replace(tasks=task, steps=20, method="lora", arms="").to_url())).mean())
    assert mixed > np.mean(alone) + 0.05
    assert said("mixture")[:2] == pytest.approx([np.mean(alone), mixed], abs=0.03)


def test_adamw_hides_the_imbalance_of_gradients_that_sgd_passes_on():
    table = preset_log("optimisers").imbalance()
    early = table[table.step.between(2, 10)].groupby(["arm", "definition"]).log2_ratio.mean()
    adamw, sgd = early["optimiser adamw, lr 0.003"], early["optimiser sgd, lr 0.5"]
    assert sgd["step"] == pytest.approx(sgd["gradient"], abs=0.01)  # the step is the gradient times the rate
    assert said("optimisers") == pytest.approx([adamw["gradient"], adamw["step"], sgd["step"]], abs=0.1)


def test_where_every_expert_is_used_there_is_no_imbalance_of_counts():
    counts = ratio(preset_log("everyone"), "updates")
    assert counts["experts 2"] == pytest.approx(0, abs=1e-6) and counts["experts 8"] == pytest.approx(2, abs=1e-6)  # log2(E / K)


def test_a_shared_a_costs_less_and_learns_as_well():
    log = preset_log("shared")
    shared, separate = log.parameters
    # four layers, q and v of width 128, r 8, E 4: the shared A saves 3 of 4 A's a linear
    assert separate - shared == 4 * 2 * 3 * 8 * 128 == 24_576
    accuracy = final(log).groupby("arm").mean()
    assert said("shared") == pytest.approx([*accuracy[["share A", "share none"]]], abs=0.03)


def test_every_preset_has_a_text_and_fits_the_page():
    for preset in PRESETS.values():
        assert 40 < len(preset.text) < 330 and preset.text.endswith(".")
