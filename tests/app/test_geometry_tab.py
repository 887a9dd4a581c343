"""The Geometry tab: what its pictures get is what the run's tensors say, while it trains too."""

import json
import threading

import pytest

from mosld.config import ConfigError, RunConfig
from mosld.training.geometry import conflicts, updates
from mosld.ui.limits import Limits
from mosld.ui.look.geometry import pictures
from mosld.ui.session import Session

SMALL = {"batch": 2, "eval_rows": 10, "rank": 4, "layers": 1, "tasks": "world/mood,world/place", "lr": 0.02}


@pytest.fixture
def session(tmp_path):
    made = Session(Limits.from_environment({}), tmp_path)
    yield made
    made.halt()


def test_both_pictures_of_a_paused_run(session):
    session.prepare(RunConfig(steps=6, **SMALL), 3)
    list(session.stream())
    first, second = (json.loads(text) for text in session.ask(pictures))
    found, across = updates(session.trainer)
    assert (
        first["step"] == 3
        and first["arms"] == ["dropout 0", "dropout 0.1"]
        and first["offers"]["linear"] == [["0", "layer 1, q"], ["1", "layer 1, v"]]
    )
    v = first["linears"][1]
    assert v["label"] == "layer 1, v" and v["arms"][1]["experts"] == 4
    assert v["arms"][1]["cosines"][0][2] == pytest.approx(found[1][1].cosines[0][2], abs=1e-3)
    assert v["across"][3][1] == pytest.approx(across[1][3][1], abs=1e-3)
    pulls = conflicts(session.trainer)
    assert second["tasks"] == ["mood", "place"] and [x["label"] for x in second["linears"]] == ["all linears together", "layer 1, q", "layer 1, v"]
    assert second["linears"][0]["arms"][0]["a"][0][1] == pytest.approx(pulls[0][0].a[0][1], abs=1e-3)
    assert second["linears"][2]["arms"][1]["b"][0][0] == pytest.approx(pulls[1][2].b[0][0], abs=1e-3)


def test_arms_that_adapt_different_linears(session):
    session.prepare(RunConfig(steps=1, **SMALL, arms="method=lora,mosld;targets=q,q+v"))
    list(session.stream())
    first, second = (json.loads(text) for text in session.ask(pictures))
    assert [[a and a["experts"] for a in x["arms"]] for x in first["linears"]] == [[1, 4], [None, 4]]
    assert first["methods"] == ["LoRA", "MoSLD"] and first["linears"][0]["across"] is None
    assert second["linears"][2]["arms"][0] is None and second["linears"][2]["arms"][1]["b"][0][1] is not None


def test_a_run_that_trains_is_asked_between_two_steps(session):
    with pytest.raises(ConfigError, match="press Run first"):
        session.ask(pictures)
    session.prepare(RunConfig(steps=40, **SMALL))
    told = threading.Thread(target=lambda: list(session.stream()))
    told.start()
    while session.trainer is None:
        told.join(0.01)
    seen = json.loads(session.ask(pictures, 60)[0])["step"]
    told.join()
    assert 0 <= seen <= 40 and session.state == "ended" and json.loads(session.ask(pictures)[0])["step"] == 40
