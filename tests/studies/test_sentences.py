"""Answers about routers: on logs made by hand, where they are known, and on real runs of three seeds."""

import dataclasses

import pytest

from mosld.config import RunConfig
from mosld.studies.sentences import Finding, looks_at, matters, specialists, told
from mosld.training import Trainer
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.inspector import contribution
from mosld.training.runlog import LinearInfo, RunLog


def made(courses: dict[str, list[tuple[float, float, float]]], accuracy=(0.5, 0.5), null=(0.7, 0.1, 0.0)) -> RunLog:
    """A log of arms whose one linear tells (word, place, task) at steps 10, 20, ..."""
    names = ["world/mood", "world/place"]
    config = RunConfig(tasks=names, arms="", eval_rows=100)
    log = RunLog(config, list(courses), names, [], {}, {}, [[LinearInfo("l", 0, "q", 4)]] * len(courses), [1] * len(courses), {}, {})
    plain = LinearProbe([[0.5] * 4] * 2, [[0.25] * 4] * 2, 1.0, 4.0, 0, 0.6, 0.0, [1.0], [1.0] * 4, [1.0] * 4, None, [0.0] * 4, most=1.0)
    for n in range(len(next(iter(courses.values())))):
        arms = []
        for (_, course), right in zip(courses.items(), accuracy, strict=False):
            word, place, task = course[n]
            probe = dataclasses.replace(plain, reads=[word, place, task, 0.0, None], null=[null[0], null[1], null[2], None, None])
            arms.append(ArmFrame(1.0, 0.0, 0.1, 0.0, dict.fromkeys(names, right), [probe]))
        log.append(Frame(10 * (n + 1), arms))
    return log


def test_a_router_follows_what_the_expert_tells_most_of():
    assert looks_at(made({"a": [(0.63, 0.1, 0.004)]})) == Finding(
        "word",
        "The router follows the word: the expert tells 0.63 bits of it, of 1.00 bit at most, of the place 0.10, of the task 0.00; "
        "an untrained router's tells 0.70 of the word.",
    )
    assert looks_at(made({"a": [(0.03, 0.02, 0.55)]})).answer == "task"
    assert looks_at(made({"a": [(0.03, 0.02, 0.05)]})).answer == "nothing"
    both = made({"a": [(0.63, 0.1, 0.0)], "b": [(0.0, 0.1, 0.5)]})
    assert (looks_at(both).answer, looks_at(both, "b").answer, looks_at(both, "c").answer) == ("word", "task", "")
    assert told(both).index.tolist() == ["a", "b"]


def test_when_experts_become_specialists():
    log = made({"a": [(0.6, 0.1, 0.0)] * 3, "b": [(0.6, 0.1, 0.1), (0.3, 0.1, 0.3), (0.1, 0.1, 0.5)]})
    found = specialists(log)
    assert found.answer == "b" and "'a' never (0.00)" in found.sentence and "'b' by step 20 (0.50 in the end)" in found.sentence
    assert specialists(made({"a": [(0.6, 0.1, 0.0)]})).answer == "none"
    early = made({"a": [(0.1, 0.1, 0.5)]}, null=(0.1, 0.1, 0.4))
    assert "'a' from the start" in specialists(early).sentence


def test_whether_it_matters():
    courses = {"a": [(0.6, 0.1, 0.0)], "b": [(0.6, 0.1, 0.0)]}
    assert matters(made(courses, (0.9, 0.6))).answer == "a" and matters(made(courses, (0.6, 0.61))).answer == "no"
    of = {"arm": "a", "rows": 100, "accuracy": {"as it is": {"x": 0.9, "y": 0.9}}, "mean": {"as it is": 0.9, "tokens": 0.88, "texts": 0.5}}
    assert matters(made(courses), [of]) == Finding("yes", "It matters who is sent where: 'a' answers 90 % right, with the gates of other texts 50 %.")
    assert matters(made(courses), [{**of, "mean": {"as it is": 0.9, "tokens": 0.89, "texts": 0.9}}]).answer == "no"


@pytest.fixture(scope="module")
def runs():
    values = {"tasks": "world/mood,world/place,world/actor", "steps": 24, "batch": 8, "eval_every": 12, "eval_rows": 30, "layers": 1, "rank": 2}
    arms = ({"router": "token"}, {"router": "instruction", "router_lr": 10.0}, {"router": "random"})
    out = []
    for seed in range(3):
        trainer = Trainer(RunConfig(**values, seed=seed, arms=arms, probe_every=1000))
        list(trainer.frames())
        out.append(trainer)
    return out


def test_on_real_runs_of_three_seeds(runs):
    """Orders that hold with room to spare: the token router follows the word, trained or not; the instruction's tells of the task, and more."""
    for trainer in runs:
        log = trainer.log
        token, instruction, random = log.arms
        assert looks_at(log, token).answer == looks_at(log, random).answer == "word"
        assert looks_at(log, instruction).answer == "task" == looks_at(log, instruction).sentence.split(":")[0].split()[-1]
        table = told(log)
        assert table.task[instruction] > 5 * max(table.task[token], table.task[random]) and table.word[token] > 5 * table.word[instruction]
        assert table.word[random] == pytest.approx(table["word null"][random], abs=1e-4)
        assert specialists(log).answer == instruction
        assert matters(log).sentence and matters(log, [contribution(trainer, 0, rows=20)]).answer in ("yes", "no")
