"""Moments of runs made by hand: each rule finds what was put there, at its step, and nothing where nothing happens."""

import math

from mosld.config import RunConfig
from mosld.probes.moments import MOST, moments
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import LinearInfo, RunLog


def run(steps=20, share=lambda s: [0.5] * 4, imbalance=lambda s: [1.0, 0.5, 0.5, -0.5], loss=lambda s: (1.0, 1.0), accuracy=None) -> RunLog:
    """Two arms, one linear; every step probed. The functions of the step give share, imbalance, losses, and accuracy or None."""
    config = RunConfig(tasks="world/mood", steps=steps)
    infos = [LinearInfo("l", 2, "v", 4)]
    log = RunLog(config, config.arm_names(), ["world/mood"], [], {}, {}, [infos, infos], [1, 1], {}, {})
    row = [0.5] * 4
    for s in range(1, steps + 1):
        p = LinearProbe([row], [row], 1.0, 4.0, 0, 0.5, 0.0, [1.0], row, row, None, imbalance(s), share=share(s))
        scores = accuracy(s) if accuracy else None
        log.append(Frame(s, [ArmFrame(v, 0, 0, 0, scores, [p]) for v in loss(s)], "end" if s == steps else ""))
    return log


def test_nothing_happens():
    assert moments(run()) == []


def test_an_expert_falls_idle_for_good():
    log = run(share=lambda s: [0.9, 0.9, 0.19, 0.01] if s >= 8 else [0.01, 0.9, 0.5, 0.5] if s == 4 else [0.5] * 4)
    (found,) = moments(log)
    assert (found["step"], found["kind"], found["layer"], found["target"], found["expert"], found["arm"]) == (8, "idle", 2, "v", 3, 0)
    assert moments(log, until=7) == []


def test_a_and_b_change_order_and_keep_it():
    flips = run(imbalance=lambda s: [1.0, 0.5, 0.3 if s < 12 else -0.4, 0.2 if s % 2 else -0.2])
    (found,) = moments(flips)
    assert (found["step"], found["kind"], found["text"]) == (12, "turn", "B overtakes A: step")


def test_the_largest_jump_between_scorings_and_never_the_test_questions():
    ends = {5: 0.3, 10: 0.42, 15: 0.7, 20: 0.2}
    (found,) = moments(run(accuracy=lambda s: {"world/mood": ends[s]} if s in ends else None))
    assert (found["step"], found["text"], found["task"]) == (15, "mood gains .28", 0)


def test_arms_that_part_and_one_that_diverges():
    (found,) = moments(run(loss=lambda s: (1.0, 1.0 if s < 10 else 0.4)))
    assert found["kind"] == "apart" and found["arm"] == 1 and 10 <= found["step"] <= 12
    found = moments(run(loss=lambda s: (1.0, math.nan if s == 20 else 1.0)))
    assert [(m["step"], m["kind"], m["arm"]) for m in found] == [(20, "diverged", 1)]


def test_few_and_in_order():
    log = run(
        share=lambda s: [0.9, 0.9, 0.19, 0.01] if s >= 16 else [0.5] * 4,
        imbalance=lambda s: [1.0, 0.5, 0.3 if s < 12 else -0.4, 0],
        loss=lambda s: (1.0, 1.0 if s < 6 else 0.4),
        accuracy=lambda s: {"world/mood": 0.3 if s < 9 else 0.5} if s % 3 == 0 else None,
    )
    found = moments(log)
    assert len(found) == MOST and [m["step"] for m in found] == sorted(m["step"] for m in found)
    assert {"idle"} <= {m["kind"] for m in found}
