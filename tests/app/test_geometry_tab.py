"""The Geometry tab: what its pictures get is what the run's tensors say, while it trains too."""

import json
import threading

import pytest
from visiting import stream

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


def whole(session) -> tuple[dict, dict]:
    """Both pictures as they are in the end; the first comes with the first slice."""
    told = list(pictures(session))
    return json.loads(told[0][0]), json.loads(told[-1][1])


def test_both_pictures_of_a_paused_run(session):
    session.prepare(RunConfig(steps=6, **SMALL), 3)
    list(stream(session))
    first, second = whole(session)
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
    list(stream(session))
    first, second = whole(session)
    assert [[a and a["experts"] for a in x["arms"]] for x in first["linears"]] == [[1, 4], [None, 4]]
    assert first["methods"] == ["LoRA", "MoSLD"] and first["linears"][0]["across"] is None
    assert second["linears"][2]["arms"][0] is None and second["linears"][2]["arms"][1]["b"][0][1] is not None


def test_a_run_that_trains_is_asked_slice_by_slice_and_no_task_is_left_out(session):
    with pytest.raises(ConfigError, match="press Run mine first"):
        next(pictures(session))
    tasks = "world/mood,world/place,world/tense,world/actor"
    session.prepare(RunConfig(steps=40, **{**SMALL, "tasks": tasks}))
    told = threading.Thread(target=lambda: list(stream(session)))
    told.start()
    while session.trainer is None:
        told.join(0.01)
    seen = [json.loads(text) for _, text in pictures(session)]
    told.join()
    assert len(seen) == 1 + 2 * 4 and [x["done"] for x in seen] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert len({x["step"] for x in seen}) == 1 and session.state == "ended"
    on_b = [[[v is not None for v in row] for row in x["linears"][0]["arms"][0]["b"]] for x in seen]
    assert not any(map(any, on_b[0])) and sum(map(sum, on_b[3])) == 4 and all(map(all, on_b[-1]))


def test_another_run_ends_the_look(session):
    session.prepare(RunConfig(steps=1, **SMALL))
    list(stream(session))
    looking = pictures(session)
    next(looking)
    session.prepare(RunConfig(steps=1, **SMALL))
    list(stream(session))
    assert list(looking) == []
