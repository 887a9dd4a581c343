"""Lessons: every one is run at its own seed and gives a definite answer; made-up runs with the opposite effect give the opposite one."""

import re
from functools import cache

import gradio as gr
import pytest

from mosld.config import RunConfig
from mosld.counting import SHAPES, count
from mosld.merging.sources import Run
from mosld.tasks import catalogue, load, world
from mosld.training import Trainer
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import LinearInfo, RunLog
from mosld.ui.controls import Controls, task_choices
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.learn.lessons import LESSONS
from mosld.ui.learn.room import ASK, Desk, beside, told
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions
from mosld.ui.watch.sentence import yardstick

LORA, MANY, ROUTER, SHARING, DROPOUT, WHO, READS, MERGING = LESSONS


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


@cache
def ran(number: int) -> list[RunLog]:
    """The logs of a lesson's runs. The margins that tests ask of them are those that the seeds 0 to 4 leave, with one thread and with two."""
    trainers = [Trainer(config) for config in LESSONS[number - 1].runs]
    for trainer in trainers:
        for _ in trainer.frames():
            pass
    return [trainer.log for trainer in trainers]


def answer(number: int) -> str:
    lesson = LESSONS[number - 1]
    return lesson.answers[lesson.evaluate(*ran(number))[0]]


def share(log: RunLog, arm: int) -> float:
    """Mean accuracy at the end, by a plain loop."""
    found = log.frames[-1].arms[arm].accuracy
    return sum(found[task] for task in log.tasks) / len(log.tasks)


# The runs themselves.


def test_lora_removes_most_errors_by_less_than_a_hundredth_of_the_weights():
    (log,) = ran(1)
    assert answer(1) == "By more than three quarters"  # .84 to .88 over five seeds
    # r (d_in + d_out) for q and v of four layers of width 128
    assert log.parameters == [4 * 2 * 8 * 256] and log.parameters[0] < SHAPES["nano"].weights / 100
    sentence = LORA.evaluate(log)[1]
    assert percent(sum(log.untrained.values()) / 3) in sentence and percent(share(log, 0)) in sentence


def test_mood_loses_in_a_mixture_with_its_opposite():
    alone, mixture = ran(2)
    assert answer(2) == "Trained alone"
    assert share(alone, 0) - mixture.frames[-1].arms[0].accuracy["world/mood"] > 0.1  # .21 to .30 over five seeds


def test_half_of_a_dropped_evens_out_the_counts_and_does_not_raise_accuracy():
    (log,) = ran(5)
    assert answer(5) != "Yes, higher"
    assert "+1.00 without dropout, +0.85 at 0.1, 0.00 at 0.5" in DROPOUT.evaluate(log)[1]  # log2(2), log2(2 * 0.9), log2(2 * 0.5)


def test_the_definitions_disagree_about_who_is_updated_more():
    (log,) = ran(6)
    assert answer(6) == "The definitions disagree"
    numbers = [float(n.replace("−", "-")) for n in re.findall(r"[+−]?\d\.\d\d", WHO.evaluate(log)[1])]
    adamw, sgd = numbers[:4], numbers[4:8]
    assert adamw[0] > 0.5 and adamw[3] < -0.5  # updates .85, relative steps -1.50 to -1.42 over five seeds
    assert sgd[1] == sgd[2]  # the step of SGD is the gradient times the rate


# Runs made by hand.


def probe(imbalance=(0.0, 0.0, 0.0, 0.0), reads=(0.0, 0.0)) -> LinearProbe:
    """`reads`: bits told of word and task, of 1 possible."""
    bits = [reads[0], 0.0, reads[1], 0.0, 0.0]
    rows = [[0.5] * 4], [[0.25] * 4], 1.0, 4.0, 0, 0.6, 0.0, [2.0], [1.0] * 4, [1.0] * 4, None, list(imbalance)
    return LinearProbe(*rows, most=1.0, reads=bits)


def made(config: RunConfig, accuracy: list[dict], untrained=0.5, **probes) -> RunLog:
    """A run with given accuracies at the end and the same probe in every arm, or one an arm (`imbalance` as a list of lists)."""
    tasks, arms = list(config.tasks), config.arm_names()
    linears = [[LinearInfo("layer.0.q", 0, "q", 4)]] * len(arms)
    log = RunLog(
        config,
        arms,
        tasks,
        [],
        dict.fromkeys(tasks, 0.25),
        dict.fromkeys(tasks, 0.25),
        linears,
        [100] * len(arms),
        {},
        {},
        dict.fromkeys(tasks, untrained),
    )
    imbalance, reads = probes.pop("imbalance", [(0.0,) * 4] * len(arms)), probes.pop("reads", [(0.0, 0.0)] * len(arms))
    for step in (1, config.steps):
        ends = [dict.fromkeys(tasks, a) if isinstance(a, float) else a for a in accuracy]
        rows = [
            ArmFrame(1.0, 0.0, 0.1, 0.0, end if step > 1 else None, [probe(own, read)]) for end, own, read in zip(ends, imbalance, reads, strict=True)
        ]
        log.append(Frame(step, rows, "end" if step > 1 else ""))
    return log


@pytest.mark.parametrize(("after", "index", "words"), [(0.45, 0, "rose by 10%"), (0.6, 0, "fell by 20%"), (0.75, 1, "50%"), (0.9, 2, "80%")])
def test_lora_by_hand(after, index, words):
    found, sentence = LORA.evaluate(made(LORA.runs[0], [after]))  # of an error of 0.5 before
    assert found == index and words in sentence


@pytest.mark.parametrize(("alone", "mixed", "index"), [(0.9, 0.7, 0), (0.7, 0.9, 1), (0.8, 0.79, 2), (0.79, 0.8, 2)])
def test_one_adapter_for_many_tasks_by_hand(alone, mixed, index):
    first, second = MANY.runs
    others = {task: 0.3 for task in second.tasks}
    found, sentence = MANY.evaluate(made(first, [alone]), made(second, [{**others, "world/mood": mixed}]))
    assert found == index and f"{percent(alone)} alone and at {percent(mixed)}" in sentence
    assert beside(MANY, [made(first, [alone]), None]) == [{"task": "mood", "value": alone}]


@pytest.mark.parametrize(("bits", "index"), [(0.01, 0), (0.3, 1), (0.8, 2)])
def test_router_by_hand(bits, index):
    found, sentence = ROUTER.evaluate(made(ROUTER.runs[0], [0.5], reads=[(0.6, bits)]))
    assert found == index and f"{bits:.3f} bits" in sentence and "of the 1.00 bits" in sentence


@pytest.mark.parametrize(
    ("arms", "index"), [(((0.6, 0.0), (0.5, 0.1)), 0), (((0.1, 0.4), (0.0, 0.5)), 1), (((0.6, 0.0), (0.03, 0.5)), 2), (((0.0, 0.0), (0.0, 0.0)), 3)]
)
def test_what_routers_read_by_hand(arms, index):
    assert READS.evaluate(made(READS.runs[0], [0.5, 0.5], reads=list(arms)))[0] == index


@pytest.mark.parametrize(("ends", "index"), [((0.9, 0.7, 0.7), 0), ((0.7, 0.9, 0.7), 1), ((0.7, 0.7, 0.9), 2), ((0.9, 0.89, 0.7), 3)])
def test_sharing_by_hand(ends, index):
    assert SHARING.evaluate(made(SHARING.runs[0], list(ends)))[0] == index


@pytest.mark.parametrize(
    ("ends", "index", "words"),
    [((0.7, 0.7, 0.9), 0, "too close"), ((0.7, 0.9, 0.7), 1, "0.1 is above"), ((0.9, 0.8, 0.81), 2, "0.1 is below")],
)
def test_dropout_by_hand(ends, index, words):
    found, sentence = DROPOUT.evaluate(made(DROPOUT.runs[0], list(ends)))
    assert found == index and words in sentence


@pytest.mark.parametrize(
    ("ratios", "index"), [((1, 0.5, 0.5, 0.2), 0), ((-1, -0.5, -0.5, -0.2), 1), ((1, 0.0, 0.5, -1), 2), ((0.05, 0, -0.05, 0.1), 3), ((1, 1, 1, 0), 2)]
)
def test_who_is_updated_more_by_hand(ratios, index):
    found, sentence = WHO.evaluate(made(WHO.runs[0], [0.5, 0.5], imbalance=[ratios, (-3, -3, -3, -3)]))
    assert found == index and "Under SGD: updates −3.00" in sentence


def test_the_yardstick_is_two_standard_errors():
    assert yardstick(0.5, 0.5, 200) == pytest.approx(0.1)  # 2 sqrt(0.5 / 200)


# Texts against the settings they speak of.


def test_texts_fit_the_settings():
    alone, mixture = MANY.runs
    names, matrix = world.overlap()
    assert mixture.steps == alone.steps and mixture.batch / len(mixture.tasks) == alone.batch
    assert matrix[names.index("world/mood")][names.index("world/opposite")] == -1
    for lesson, drawn in zip(LESSONS, told(), strict=True):
        assert 3 <= len(lesson.answers) <= 4 and 2 <= len(lesson.text) <= 3 and max(map(len, lesson.text)) < 330
        assert (
            lesson.seen in ("answers", "reads", "scale") and len(lesson.marks) == len(lesson.answers) and drawn["tries"]["values"] == lesson.tries[1]
        )
        for config in lesson.runs:
            assert config.seed == 0 and config.backbone == "nano" and config.steps <= 100
            assert all(len(load(task).test) >= config.eval_rows for task in config.tasks)  # so many questions are scored as sentences say
    arms = [count(SHARING.runs[0].arm(i).adapter(), SHAPES["nano"]) for i in range(3)]
    assert arms[0] == arms[1] < arms[2]
    mood, place, both = MERGING.runs
    assert both.batch == 2 * mood.batch and set(both.tasks) == {*mood.tasks, *place.tasks}


# The room's handlers.


@pytest.fixture
def desk(tmp_path):
    controls = Controls(task_choices(catalogue()))
    with gr.Blocks():
        controls.add("tasks", "method", "router")
        for part in (controls.compare, controls.front, controls.shape, controls.rest):
            part()
        return Desk(Lab(Handlers(Sessions(Limits.from_environment({}), tmp_path), controls), gr.HTML(), None))


def visit() -> gr.Request:
    return gr.Request(session_hash="visitor", query_params={})


def asks(**data) -> gr.EventData:
    return gr.EventData(None, data)


def keep(desk, *logs):
    """Put runs on the visitor's shelf, as if they had been made here."""
    session = desk.lab.visitor(visit())
    for log in logs:
        session.run += 1
        log.save(session.folder / f"run-{session.run:04d}")
    session.state = "ended"


@pytest.mark.parametrize("guess", [None, -1, 9, True, "0", 0.0])
def test_without_a_prediction_nothing_is_run(desk, guess):
    _, answer, *controls = desk.begin(visit(), asks(lesson=1, guess=guess))
    assert answer["note"] == ASK and all(c == gr.skip() for c in controls)
    assert desk.plan(visit()) == gr.skip() and desk.lab.look(visit()).state == "idle"


@pytest.mark.parametrize("number", [0, 9, "2", None, True])
def test_a_lesson_that_is_not_there_says_so(desk, number):
    assert "give a number from 1 to 8" in desk.begin(visit(), asks(lesson=number, guess=0))[1]["note"]


def test_a_lesson_fills_the_controls_and_plans_its_runs_in_turn(desk):
    _, _, *values = desk.begin(visit(), asks(lesson=2, guess=2))
    assert desk.controls.read(*values) == MANY.runs[0]
    desk.plan(visit())
    session = desk.lab.visitor(visit())
    assert session.busy and session.config == MANY.runs[0]
    session.halt()
    session.state = "ended"
    assert desk.controls.read(*desk.fill(visit())) == MANY.runs[1]
    desk.plan(visit())
    assert session.config == MANY.runs[1]
    session.halt()
    session.state = "ended"
    assert desk.plan(visit()) == gr.skip()


def test_a_paused_first_run_is_not_followed_by_the_second(desk):
    desk.begin(visit(), asks(lesson=2, guess=0))
    desk.plan(visit())
    desk.lab.visitor(visit()).halt()
    desk.lab.visitor(visit()).state = "paused"
    desk.fill(visit())
    assert desk.plan(visit()) == gr.skip() and "paused" in desk.over(visit())["note"]


def test_what_is_missing_is_said(desk):
    desk.begin(visit(), asks(lesson=4, guess=0))
    desk._progress(visit())[1].queue = []
    assert "no run yet" in desk.over(visit())["note"]
    keep(desk, made(RunConfig(steps=5), [0.5, 0.5]))
    assert "another one" in desk.over(visit())["note"]
    log = made(SHARING.runs[0], [0.9, 0.7, 0.7])
    log.frames.pop()
    keep(desk, log)
    assert "did not come to its end" in desk.over(visit())["note"]
    log = made(SHARING.runs[0], [0.9, 0.7, 0.7])
    log.frames.insert(1, Frame(2, log.frames[0].arms, "change", "lr 0.003 to 0.1."))
    keep(desk, log)
    assert "Settings were changed" in desk.over(visit())["note"]
    desk.lab.visitor(visit()).state = "running"
    assert "has not ended" in desk.over(visit())["note"]


def test_the_answer_is_that_of_the_visitors_own_run_of_any_seed(desk):
    desk.begin(visit(), asks(lesson=4, guess=1))
    desk._progress(visit())[1].queue = []
    keep(desk, made(SHARING.runs[0], [0.9, 0.7, 0.7]))
    out = desk.over(visit())
    assert out["answer"] == 0 and "shared A 90 %" in out["sentence"] and out["tally"].startswith("This is one seed")
    _, _, *values = desk.begin(visit(), asks(lesson=4, guess=1))
    assert desk.controls.read(*values) == SHARING.runs[0].replace(seed=1)
    desk._progress(visit())[1].queue = []
    keep(desk, made(SHARING.runs[0].replace(seed=1), [0.7, 0.9, 0.7]))
    out = desk.over(visit())
    assert out["answer"] == 1 and f"seed 0: {SHARING.answers[0]}; seed 1: {SHARING.answers[1]}" in out["tally"]


def test_one_thing_to_try_runs_the_lesson_with_another_value(desk):
    _, answer, *values = desk.attempt(visit(), asks(lesson=1, value="2"))
    assert desk.controls.read(*values) == LORA.runs[-1].replace(rank=2) and "Rank 2" in answer["note"]
    assert "choose one of 1, 2, 32" in desk.attempt(visit(), asks(lesson=1, value="7"))[1]["note"]


def test_merging_is_read_from_the_adapters_of_two_runs(tmp_path):
    """The sentence holds the accuracies of the runs, and the answer follows from them and the merged model's."""
    few = {"eval_rows": 40, "eval_every": 20}
    found = []
    for i, config in enumerate(MERGING.runs):
        trainer = Trainer(config.replace(steps=8, **few), tmp_path / str(i))
        for _ in trainer.frames():
            pass
        trainer.save(tmp_path / str(i))
        found.append(Run(tmp_path / str(i), trainer.log))
    answer, sentence = MERGING.evaluate(*found)
    alone, merged, mixed = (float(n) / 100 for n in re.findall(r"(\d+) %", sentence)[:3])
    assert alone == pytest.approx(sum(r.accuracy[0][r.log.tasks[0]] for r in found[:2]) / 2, abs=0.006)
    assert mixed == pytest.approx(sum(found[2].accuracy[0].values()) / 2, abs=0.006)
    gap, chance = merged - mixed, yardstick(merged, mixed, 80)
    assert answer == 2 if abs(gap) < chance - 0.02 else answer == (0 if gap > 0 else 1) if abs(gap) > chance + 0.02 else answer in (0, 1, 2)
