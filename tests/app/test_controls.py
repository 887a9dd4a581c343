"""Controls come from the schema: every knob has one, and what they show reads back as the same configuration."""

import pytest

from mosld.config import ConfigError, RunConfig, knobs
from mosld.ui.controls import NOTHING, SEVERAL, Controls


@pytest.fixture(scope="module")
def controls():
    import gradio as gr

    made = Controls([("mood", "world/mood"), ("place", "world/place")])
    with gr.Blocks():
        made.add("tasks", "method", "router")
        made.compare()
        made.front()
        made.shape()
        made.rest()
    return made


def test_every_knob_has_a_control(controls):
    assert {k.name for k in knobs() if k.kind != "arms"} | {"by", "values", "weights"} == set(controls.parts)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(tasks="world/mood:2,world/place", arms="method=lora,mosld", experts="2-4", balance=0.5, lr=0.01),
        RunConfig(tasks="world/mood", arms="method=mosld,mola;rank=4,8", held_out="world/place", targets="q,k,v", optimiser="sgd"),
        RunConfig(arms="", top_k=0, dropout_on="B", seed=7),
    ],
)
def test_what_is_shown_reads_back(controls, config):
    assert controls.read(*controls.fill(config)) == config


def values(controls, **changes):
    return [changes.get(name, value) for name, value in zip(controls.parts, controls.fill(RunConfig()), strict=True)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": []}, "tasks: none is chosen"),
        ({"tasks": "world/mood"}, "tasks: give a list"),
        ({"method": "nonsense"}, "method: 'nonsense' is not known; choose one of lora"),
        ({"top_k": 9}, "top_k: 9 is above the number of experts, 4"),
        ({"lr": None}, "lr: it is empty"),
        ({"rank": 0}, "rank: 0 is not allowed; give a whole number from 1 to 256"),
        ({"steps": 1.5}, "steps: 1.5 is not allowed"),
        ({"experts": "many"}, "experts: 'many' is not allowed"),
        ({"values": ""}, "arms: no value of dropout is given"),
        ({"values": "0, 5"}, "dropout: "),
        ({"by": SEVERAL, "values": "dropout=0,0.1;rank=4"}, "the same number of values"),
        ({"weights": "1, 2"}, "weights: 2 are given for 6 tasks"),
        ({"weights": "a, b, c"}, "weights: 'a, b, c' is not allowed"),
    ],
)
def test_bad_values_give_one_sentence(controls, changes, words):
    with pytest.raises(ConfigError) as caught:
        controls.read(*values(controls, **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_comparing_nothing_is_one_arm(controls):
    assert len(controls.read(*values(controls, by=NOTHING)).arms) == 1
