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
    assert np.abs(accuracy[0] - accuracy[1]).max() < 0.05


def test_without_a_balance_loss_the_routers_grow_less_even_and_none_collapses():
    table = preset_log("collapse").routing()
    first, end = table[table.step == 1].balance.mean(), table[table.step == table.step.max()].balance.mean()
    assert end < first and table.idle.max() == 0
    assert said("collapse") == pytest.approx([first, end], abs=0.015)


def test_the_balance_loss_makes_the_routers_even_again():
    without, with_it = last(preset_log("balance").routing(), "balance")[["balance 0", "balance 0.1"]]
    assert with_it > without + 0.02
    assert said("balance")[::2] == pytest.approx([without, with_it], abs=0.015)  # the number between them is the coefficient


def test_experts_hardly_tell_tasks_apart():
    information = last(preset_log("specialise").routing(), "information", 10).iloc[0]
    assert information < 0.05 and said("specialise")[0] == pytest.approx(information, abs=0.01)


def test_conflicting_tasks_end_below_the_untrained_backbone():
    table = preset_log("conflict").accuracies()
    table = table[table.task.isin(["world/actor", "world/acted_on"])]
    before = table[table.step == 0].accuracy.mean()
    after = table[table.step == table.step.max()].groupby("arm").accuracy.mean()
    assert said("conflict") == pytest.approx([before, after["method lora"], after["method mosld"]], abs=0.05)
    assert after.max() < before - 0.05
    assert (final(preset_log("conflict")).xs("world/mood", level="task") > 0.55).all()  # chance is .25


def test_lora_alone_and_in_the_mixture():
    mixed = final(preset_log("mixture"))["method lora"].mean()
    alone = []
    for task in PRESETS["mixture"].config.tasks:  # as many questions of each task as the mixture holds of it, on average
        config = PRESETS["mixture"].config.replace(tasks=task, steps=20, arms="method=lora,mosld")
        alone.append(final(run(config.to_url()))["method lora"].mean())
    assert said("mixture")[:2] == pytest.approx([sum(alone) / 3, mixed], abs=0.03)


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
    # three layers, q and v of width 384, r 8, E 4: the shared A saves 3 of 4 A's a linear
    assert separate - shared == 3 * 2 * 3 * 8 * 384
    accuracy = final(log).groupby("arm").mean()
    assert abs(accuracy["share A"] - accuracy["share none"]) < 0.08


def test_every_preset_has_a_text_and_fits_the_page():
    for preset in PRESETS.values():
        assert 40 < len(preset.text) < 330 and preset.text.endswith(".")
