"""Every preset is run at its own seed and must show what its text says; the numbers in the texts are checked too."""

import re
from functools import cache

import pytest

from mosld.config import RunConfig
from mosld.training import Trainer
from mosld.ui.presets import PRESETS


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


def test_without_a_balance_loss_the_routers_grow_less_even_and_none_collapses():
    table = preset_log("collapse").routing()
    first, end = table[table.step == 1].balance.mean(), table[table.step == table.step.max()].balance.mean()
    assert end < first and table.idle.max() == 0
    assert said("collapse") == pytest.approx([first, end], abs=0.015)


def test_the_balance_loss_makes_the_routers_even_again():
    without, with_it = last(preset_log("balance").routing(), "balance")[["balance 0", "balance 0.1"]]
    assert with_it > without + 0.02
    assert said("balance")[-2:] == pytest.approx([without, with_it], abs=0.015)


def test_experts_hardly_tell_tasks_apart():
    information = last(preset_log("specialise").routing(), "information", 10).iloc[0]
    assert information < 0.05 and said("specialise")[0] == pytest.approx(information, abs=0.01)


def test_conflicting_tasks_hold_both_methods_back():
    accuracy = final(preset_log("conflict"))
    for arm in ("method lora", "method mosld"):
        assert accuracy[arm]["world/mood"] > accuracy[arm]["world/opposite"]
        assert max(accuracy[arm]["world/actor"], accuracy[arm]["world/acted_on"]) < 0.6  # chance is .5


def test_lora_alone_and_in_the_mixture():
    mixed = final(preset_log("mixture"))["method lora"].mean()
    alone = []
    for task in PRESETS["mixture"].config.tasks:  # as many questions of each task as the mixture holds of it, on average
        config = PRESETS["mixture"].config.replace(tasks=task, steps=20, arms="method=lora,mosld")
        alone.append(final(run(config.to_url()))["method lora"].mean())
    assert said("mixture")[:2] == pytest.approx([sum(alone) / 3, mixed], abs=0.03)


def test_adamw_hides_the_imbalance_of_gradients_that_sgd_passes_on():
    log = preset_log("optimisers")
    gradient, step = ratio(log, "gradient"), ratio(log, "step")
    adamw, sgd = "optimiser adamw, lr 0.003", "optimiser sgd, lr 0.5"
    assert step[sgd] == pytest.approx(gradient[sgd], abs=0.01)  # the step is the gradient times the rate
    assert abs(step[adamw] - gradient[adamw]) > 0.1
    assert said("optimisers")[0] == pytest.approx(gradient[adamw], abs=0.1)
    assert said("optimisers")[1] == pytest.approx(step[adamw], abs=0.1)


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
