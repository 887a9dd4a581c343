"""The page's sentences against numbers worked by hand: what is told apart, what is not, and what chance could give."""

import pytest

from mosld.config import RunConfig
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import LinearInfo, RunLog
from mosld.ui.watch.sentence import (
    answers_sentence,
    arms_sentence,
    collapse_sentence,
    leads_sentence,
    number,
    reads_sentence,
    routers_sentence,
    says,
    yardstick,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.63, ".63"), (0.004, ".004"), (-0.152, "−.15"), (1.0, "1.0"), (0, "0"), (0.0001, "0"), (12.3, "12"), (0.1, ".10")],
)
def test_numbers_have_two_digits_that_count(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("word", "task", "words"),
    [(0.63, 0.004, "words, not tasks"), (0.03, 0.56, "tasks, not words"), (0.3, 0.2, "by word and by task"), (0.02, 0.001, "hardly tells anything")],
)
def test_what_a_router_reads(word, task, words):
    told = reads_sentence(word, task, 1.0)
    assert words in told and number(word) in told and number(task) in told and "of 1 bit" in told


def test_a_collapse_is_said_from_an_eighth_of_the_experts():
    assert collapse_sentence(3, 32) == "" and collapse_sentence(4, 32) == "The routers have collapsed: 4 of 32 experts are idle."
    assert collapse_sentence(4, 32, "balance 0") == "The routers of balance 0 have collapsed: 4 of 32 experts are idle."


def test_routers_that_read_different_things():
    told = routers_sentence([("token", 0.7, 0.004, 1.0), ("instruction", 0.03, 0.55, 1.0)])
    assert told == "A router that reads the instruction sends tasks: the task tells .55 of 1 bit; with others .004 (token)."
    told = routers_sentence([("token", 0.7, 0.004, 1.0), ("text", 0.6, 0.01, 1.0)])
    assert told == "No router sends tasks, whatever it reads: of 1 bit the task tells .004 (token), .01 (text)."


def test_a_against_b_in_one_arm():
    assert leads_sentence([1.0, 0.5, 0.02, -0.7]) == "A leads by tokens (1.0), gradient (.50); B leads by step for its size (−.70)."
    assert leads_sentence([0.05, 0, -0.1, None]) == "A and B are even by every definition."
    assert leads_sentence([None] * 4) == "A and B cannot be compared yet: B is zero."


def test_an_arm_against_the_first():
    assert arms_sentence("dropout 0.1", [1.0, 0.5, 0.3, -0.7], [0.85, 0.52, 0.29, -0.68]) == "dropout 0.1: tokens −.15, the others under .05."
    assert arms_sentence("B", [1.0, 0.0, None, 0.0], [1.0, 0.0, 0.0, 0.0]) == "B changes none of the four by .05."


def test_right_answers_and_chance():
    assert yardstick(0.5, 0.5, 200) == pytest.approx(0.1)  # 2 sqrt(0.5 / 200)
    assert answers_sentence(["a", "b"], [0.81, 0.80], 600, 0.4).startswith("Alike: .01 apart, up to .05")
    assert answers_sentence(["a", "b"], [0.60, 0.80], 600, 0.4).startswith("b is ahead by .20; up to .05")
    assert answers_sentence(["a", "b", "c"], [0.60, 0.80, 0.79], 600, 0.4).startswith("Alike")  # the first two
    assert answers_sentence(["a"], [0.8], 600, 0.4) == ".80 right, .40 before training."


def made(arms: str, reads, idle=0, experts=4) -> RunLog:
    config = RunConfig(tasks="world/mood", arms=arms, steps=10)
    names = config.arm_names()
    infos = [LinearInfo("l", 0, "q", experts)]
    log = RunLog(config, names, ["world/mood"], [], {"world/mood": 0.25}, {}, [infos] * len(names), [1] * len(names), {}, {})
    log.append(Frame(0, [ArmFrame(None, 0, 0, 0, {"world/mood": 0.4})] * len(names), "start"))
    row = [1 / experts] * experts
    p = LinearProbe(
        [row], [row], 1.0, experts, idle, 0.5, 0.0, [1.0], row, row, None, [1.0, 0, 0, 0], most=1.0, reads=reads and [reads[0], 0, reads[1], 0, 0]
    )
    log.append(Frame(10, [ArmFrame(1.0, 0, 0, 0, {"world/mood": 0.8}, [p])] * len(names), "end"))
    log.untrained = {"world/mood": 0.45}  # on the test questions, as the last frame is
    return log


def test_the_sentences_of_a_run():
    log = made("dropout=0,0.1", (0.63, 0.004))
    assert says(log, log.frames[0])[0].startswith("Before training every arm is the frozen model")
    main, scale, answers = says(log, log.frames[1])
    assert main == "The router sends words, not tasks: the word tells .63 of 1 bit, the task .004."
    assert scale == "dropout 0.1 changes none of the four by .05." and answers.startswith("Alike: 0 apart")
    assert says(made("dropout=0,0.1", None), log.frames[0])[1] == ""
    fallen = made("", (0.63, 0.004), idle=1)
    assert says(fallen, fallen.frames[1])[0].startswith("The routers have collapsed: 1 of 4")
    lora = made("method=lora", None, experts=1)
    assert says(lora, lora.frames[1])[0] == "LoRA, without a router, answers .80 of the questions right; untrained .45."
    assert says(lora, lora.frames[1])[2] == ".80 right, .45 before training."
