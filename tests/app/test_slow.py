"""Slow motion's handlers: the numbers of the trainer, hints that fit method and mode, in every state of a run."""

import json

import gradio as gr
import pytest
from visiting import stream

from mosld.config import RunConfig
from mosld.registry import METHODS
from mosld.tasks import catalogue
from mosld.training import Trainer
from mosld.training.walk import walk
from mosld.ui.controls import Controls, task_choices
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.look import slow
from mosld.ui.sessions import Sessions

SMALL = {"tasks": "world/mood,world/place", "eval_rows": 10, "rank": 4, "batch": 4, "layers": 2, "lr": 0.02}
WHO = gr.Request(session_hash="visitor", query_params={})


@pytest.fixture
def tab(tmp_path):
    lab = Lab(Handlers(Sessions(Limits.from_environment({}), tmp_path), Controls(task_choices(catalogue()))), None, None)
    return slow.Slow(lab)


def trained(tab, steps, **values):
    session = tab.lab.visitor(WHO)
    session.prepare(RunConfig(**{**SMALL, "steps": 6, **values}), steps)
    list(stream(session))
    return session


def test_a_paused_run_shows_the_numbers_its_trainer_has(tab):
    session = trained(tab, 3)
    assert session.state == "paused"
    feed, picture, row = tab.take(WHO, 0, 3, 1, True)
    seen = json.loads(picture)
    assert feed == gr.skip() and seen["arm"] == 1 and seen["of"] == 3 and row["value"] == 1  # the arm that drops something
    assert len(row["choices"]) == 3
    real = walk(session.trainer, 1, 3)
    question = session.trainer.mixture.batch(3)[1][1].question
    assert row["choices"][1][0].partition(": ")[2].startswith(question[:60])
    n = real.texts[1]["columns"][seen["tokens"][0]["place"]]
    assert seen["y"][0]["values"] == pytest.approx(real.y[:8, n].tolist(), rel=1e-3)
    assert seen["dropout"]["dropped"] == int((real.mask == 0).sum()) > 0
    assert len(seen["hints"]) == 6 and seen["hints"][0].startswith("The batch after step 3.")
    assert "dropped with probability 0.1" in seen["hints"][2] and "the very one the next step will make" in seen["hints"][2]
    # another choice of the visitor's counts from now on, the first arm too
    assert "The dropout rate of this arm is 0" in json.loads(tab.take(WHO, 0, 0, 0, True)[1])["hints"][2]
    evaluated = json.loads(tab.take(WHO, 1, 0, 0, False)[1])
    assert evaluated["dropout"]["mask"] is None and "In evaluation nothing is dropped" in evaluated["hints"][2]


def test_an_ended_run_and_values_from_elsewhere(tab):
    assert trained(tab, None).state == "ended"
    tab.take(WHO, 0, 0, 0, True)
    _, picture, row = tab.take(WHO, 77, -3, "x", None)
    seen = json.loads(picture)
    assert seen["training"] and (seen["arm"], seen["of"], row["value"]) == (1, 0, 0)


def test_without_a_run_it_says_what_to_press(tab):
    told = json.loads(tab.take(WHO, 0, 0, 0, True)[0])
    assert told["kind"] == "error" and told["note"].endswith("press Run mine first.")


def test_where_b_is_zero_it_says_that_the_update_is_nothing(tab):
    session = trained(tab, 1)
    for factor, said in ((1.0, False), (0.0, True)):
        session.trainer.arms[0].handle.adapters[0].B.data.mul_(factor)
        tab.take(WHO, 0, 0, 0, True)
        assert ("Before training B is 0" in json.loads(tab.take(WHO, 0, 0, 0, True)[1])["hints"][5]) == said


@pytest.mark.parametrize("some", [list(METHODS)[i : i + 6] for i in range(0, len(METHODS), 6)], ids=lambda m: m[0])
def test_every_method_has_hints_that_fit(some):
    arms = "method=" + ",".join(some) if len(some) > 1 else ""
    trainer = Trainer(RunConfig(**{**SMALL, "layers": 1}, steps=1, method=some[0], arms=arms))
    for arm, method in enumerate(some):
        data = slow.look(trainer, arm, 0, 0, True)["data"]
        _, gate, mask, hidden, up, total = data["hints"]
        assert (data["gate"] is None) == ("has no router here" in gate) == (method in ("lora", "lora-matched", "mixlora"))
        assert ("is defined without dropout" in mask) == (METHODS[method].fixes.get("dropout") == 0)
        if method in ("mosld", "mosl", "mola"):
            assert "The 2 largest are kept and divided by their sum" in gate
            assert ("All experts share A" in hidden) == (method != "mola") and ("Each expert has its own A" in hidden) == (method == "mola")
        if method in ("hydralora", "molora", "loramoe"):
            assert "routing is dense" in gate and "The 3 that weigh most are shown." in up
        assert "Before training B is 0" in total or method == "mor1e" or data["update"][0]["norm"] > 0
        json.dumps(data, allow_nan=False)
