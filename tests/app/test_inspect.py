"""The inspector's handlers: real gates, the right answer marked, steering and its accuracy counted row by row, in every state of a run."""

import json
import threading
import time

import gradio as gr
import pytest
from visiting import stream

from mosld.config import RunConfig
from mosld.tasks import catalogue
from mosld.training.inspector import Inspector
from mosld.ui.controls import Controls, task_choices
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.look import inspect
from mosld.ui.sessions import Sessions

SMALL = {"tasks": "world/mood,world/place", "eval_rows": 10, "rank": 4, "batch": 4, "lr": 0.02}
WHO = gr.Request(session_hash="visitor", query_params={})
TEXT, OPTIONS = "Mood? The tired nurse wept by the waves.", "a happy feeling\n\n a sad feeling "
NOBODY = [0, 0, 0, "nobody", False]


def opened(root, **values) -> tuple[inspect.Inspect, object]:
    """The tab's handlers, and the visitor's session with a run that has ended."""
    lab = Lab(Handlers(Sessions(Limits.from_environment({}), root), Controls(task_choices(catalogue()))), None, None)
    tab = inspect.Inspect(lab)
    session = lab.visitor(WHO)
    session.prepare(RunConfig(**{**SMALL, "steps": 4, **values}))
    list(stream(session))
    assert session.state == "ended"
    return tab, session


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("sessions"), layers=2)


def data(answer) -> dict:
    return json.loads(answer[1])


def sentence(answer) -> str:
    told = json.loads(answer[0])
    assert told["kind"] == "error" and all(part == gr.skip() for part in answer[1:])
    return told["note"]


def test_the_picture_has_the_gates_and_scores_of_the_trainer(ended):
    tab, session = ended
    seen = data(tab.ask(WHO, TEXT, OPTIONS, 1, 1, 2, "nobody", False))
    free = Inspector(session.trainer, 1).route(TEXT, ["a happy feeling", "a sad feeling"], 1)
    name = list(free.gates)[2]
    assert seen["where"] == "dropout 0.1, step 4, layer 2, q" and seen["tokens"] == free.tokens and seen["experts"] == [0, 1, 2, 3]
    for i in range(len(free.tokens)):
        assert seen["gates"][i] == pytest.approx([free.gates[name][e][i] for e in range(4)], abs=1e-4)
        assert seen["router"][i] == pytest.approx([free.probabilities[name][e][i] for e in range(4)], abs=1e-4)
    assert [o["score"] for o in seen["options"]] == free.scores and not any(o["right"] for o in seen["options"])
    assert seen["steered"] is None and seen["accuracy"] is None


def test_another_row_is_a_validation_row_with_its_right_answer_marked(ended):
    tab, session = ended
    rows = session.trainer.tasks[1].validation
    answer = tab.task(WHO, "", "", 1, 0, 0, "nobody", False)
    for number in (0, 1):
        assert answer[2] == rows[number].question and answer[3].splitlines() == list(rows[number].options)
        assert [o["right"] for o in data(answer)["options"]] == [i == rows[number].answer for i in range(len(rows[number].options))]
        answer = tab.another(WHO, answer[2], answer[3], 1, 0, 0, "nobody", False)
    # the same text at another linear is still a known row; with other options it is not
    assert any(o["right"] for o in data(tab.ask(WHO, answer[2], answer[3], 1, 1, 3, "nobody", False))["options"])
    assert not any(o["right"] for o in data(tab.ask(WHO, answer[2], "here\nthere", 1, 1, 3, "nobody", False))["options"])


def test_what_steering_changes_is_counted_row_by_row(ended):
    tab, session = ended
    seen = data(tab.ask(WHO, TEXT, OPTIONS, 0, 0, 1, "force 2", False))
    counted = json.loads(tab.count(WHO))
    assert {**counted, "accuracy": None} == seen and seen["steering"] == "expert 2 forced in every linear"
    assert all(token == [0, 1, 0, 0] for token in seen["steered"])
    inspector, rows = Inspector(session.trainer), session.trainer.tasks[0].validation[:128]

    def right() -> int:
        found = (inspector.route(e.question, e.options) for e in rows)
        return sum(max(range(len(f.scores)), key=f.scores.__getitem__) == e.answer for e, f in zip(rows, found, strict=True))

    with inspector.steered(1, force=True):
        steered = right()
    assert counted["accuracy"] == {"task": "mood", "rows": 128, "step": 4, "free": right() / 128, "steered": steered / 128}
    assert json.loads(tab.count(WHO)) == counted  # again, without counting again


def test_steering_one_linear_leaves_the_others_alone(ended):
    tab, _ = ended
    name = lambda linear: data(tab.ask(WHO, TEXT, OPTIONS, 0, 0, linear, "mute 1", True))  # noqa: E731
    assert name(0)["steering"] == "expert 1 muted in this linear" and not any(token[0] for token in name(0)["steered"])
    everywhere = data(tab.ask(WHO, TEXT, OPTIONS, 0, 0, 0, "mute 1", False))
    assert everywhere["options"][0]["steered"] != name(0)["options"][0]["steered"] != everywhere["options"][0]["score"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("", OPTIONS, *NOBODY), "text: it is empty; give a sentence and at least one option."),
        ((TEXT, " \n ", *NOBODY), "text: it is empty"),
        ((TEXT * 60, OPTIONS, *NOBODY), "text: it is too long; give at most 2000 characters"),
        ((TEXT, "x\n" * 13, *NOBODY), "text: it is too long"),
        ((TEXT, None, *NOBODY), "text: give a sentence, and options, one a line."),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(ended, values, words):
    assert sentence(ended[0].ask(WHO, *values)).startswith(words)


def test_values_from_elsewhere_are_cut_to_what_the_run_has(ended):
    tab, _ = ended
    answer = tab.ask(WHO, TEXT, OPTIONS, 99, -1, 10**9, "mute 77", "yes")
    assert data(answer)["where"].startswith("dropout 0, step 4, layer 2, v") and data(answer)["steering"] == ""
    assert [part["value"] for part in answer[4:]] == [1, "nobody"]
    assert len(answer[5]["choices"]) == 1 + 2 * 4


def test_without_a_run_it_says_what_to_press(tmp_path):
    lab = Lab(Handlers(Sessions(Limits.from_environment({}), tmp_path), Controls(task_choices(catalogue()))), None, None)
    tab = inspect.Inspect(lab)
    assert sentence(tab.ask(WHO, TEXT, OPTIONS, *NOBODY)) == "run: there is none to look into yet; press Run mine first."
    assert tab.count(WHO) == gr.skip()


def test_methods_without_a_token_router_and_many_experts(tmp_path):
    tab, _ = opened(tmp_path, layers=1, arms="method=lora,mtl-lora,mor1e", rank=16)
    lora, task, many = (tab.ask(WHO, TEXT, OPTIONS, 0, arm, 0, "mute 1", False) for arm in range(3))
    assert data(lora)["note"].startswith("LoRA has no router here") and data(lora)["experts"] == [] and data(lora)["options"][1]["score"] > 0
    assert data(task)["note"].endswith("those of its task.") and data(task)["steering"] == "" and task[5]["choices"] == [("nobody", "nobody")]
    assert data(many)["of"] == 64 and len(data(many)["experts"]) == 32 == len(data(many)["gates"][0])
    assert json.loads(tab.count(WHO))["accuracy"]["steered"] is None


def test_it_answers_during_the_wait_between_two_slow_steps(tmp_path):
    tab, session = opened(tmp_path)
    session.prepare(RunConfig(**{**SMALL, "steps": 4000, "eval_every": 4000}))
    session.delay = 3000.0
    reader = threading.Thread(target=lambda: list(stream(session)), daemon=True)
    reader.start()
    while session.trainer is None or not session.trainer.log.frames:
        time.sleep(0.02)
    seen = data(tab.ask(WHO, TEXT, OPTIONS, *NOBODY))
    assert session.state == "running" and session.trainer.step == 0 and seen["where"] == "dropout 0, step 0, layer 1, q"
    session.pause()
    reader.join(300)
    assert not reader.is_alive() and session.state == "paused"
