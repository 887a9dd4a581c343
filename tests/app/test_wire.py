"""The wire format: what is unpacked here by hand is what the frame held, and a frame stays small."""

import base64
import json

import numpy as np
import pytest

from mosld.config import RunConfig
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import LinearInfo, RunLog
from mosld.ui.wire import FRAME_BYTES, Packer, header, short


def probe(tasks: int, experts: int) -> LinearProbe:
    rows = [[(t + e) % 5 / 10 for e in range(experts)] for t in range(tasks)]
    return LinearProbe(
        load=rows,
        gate=[None if t == 1 else row for t, row in enumerate(rows)],
        balance=0.75,
        effective=3.5,
        idle=1,
        token_entropy=1.25,
        information=0.5,
        norm_a=[2.5],
        norm_b=[0.5 * e for e in range(experts)],
        norm_ba=[0.25 * e for e in range(experts)],
        ask_a=[0.125 * e for e in range(experts)],
        imbalance=[1.0, None, -0.5, 2.0],
    )


def run_log(tasks: int, experts: int, linears: int) -> RunLog:
    names = [f"world/t{i}" for i in range(tasks)]
    config = RunConfig(tasks=names, experts=experts)
    infos = [LinearInfo(f"layer.{i}", i // 2, "qv"[i % 2], experts) for i in range(linears)]
    values = dict.fromkeys(names, 0.25)
    return RunLog(config, config.arm_names(), names, [], values, values, [infos, infos], [10, 10], {}, {})


def test_unpacked_is_what_was_packed():
    log = run_log(2, 4, 1)
    arm = ArmFrame(1.23456, 0.01, 0.003, 0.1, {"world/t0": 0.5, "world/t1": 0.75}, [probe(2, 4)])
    step, seconds, event, note, arms = json.loads(json.dumps(Packer(log).pack(Frame(7, [arm, arm], "change", "why", 3.14159))))
    assert (step, seconds, event, note) == (7, 3.14, "change", "why")
    loss, extra, lr, dropout, scores, (group, gates, halves) = arms[1]
    assert (loss, extra, lr, dropout, scores, group) == (1.235, 0.01, 0.003, 0.1, [0.5, 0.75], 0)
    levels = np.frombuffer(base64.b64decode(gates), np.uint8)
    # load [T][E], then gate [T][E]: 0, .1, .2, .3 and .1, .2, .3, .4 of 254 levels; the second task's gate is a gap
    assert levels.tolist() == [0, 25, 51, 76, 25, 51, 76, 102, 0, 25, 51, 76, 255, 255, 255, 255]
    numbers = np.frombuffer(base64.b64decode(halves), "<f2").tolist()
    assert numbers[0] == 2.5 and np.isnan(numbers[1:4]).all()  # one shared A
    assert numbers[4:16] == [0, 0.5, 1, 1.5, 0, 0.25, 0.5, 0.75, 0, 0.125, 0.25, 0.375]
    assert numbers[16] == 1 and np.isnan(numbers[17]) and numbers[18:] == [-0.5, 2, 0.75, 3.5, 1, 1.25, 0.5]


@pytest.mark.parametrize(("tasks", "experts", "linears"), [(3, 4, 8), (6, 8, 12), (12, 8, 64)])
def test_a_frame_stays_small_and_no_linear_is_left_out(tasks, experts, linears):
    log = run_log(tasks, experts, linears)
    packer = Packer(log)
    scores = {t: 0.1234567 for t in log.tasks}
    frame = Frame(99999, [ArmFrame(1.23456789, 0.012345678, 0.00123456, 0.123, scores, [probe(tasks, experts)] * linears)] * 2, seconds=12345.678)
    sizes, seen = [], set()
    for _ in range(packer.groups):
        packed = packer.pack(frame)
        sizes.append(len(json.dumps(packed, separators=(",", ":"))))
        seen.add(packed[4][0][5][0])
    assert max(sizes) <= FRAME_BYTES
    assert seen == set(range(packer.groups))
    assert header(log)["groups"] == packer.groups


def test_gaps_and_numbers_without_a_value_become_null():
    log = run_log(1, 2, 1)
    packed = Packer(log).pack(Frame(0, [ArmFrame(None, 0.0, 0.0, 0.0), ArmFrame(float("nan"), 0.0, 0.0, 0.0)], "start"))
    assert packed[4][0] == [None, 0.0, 0.0, 0.0, 0, 0] and packed[4][1][0] is None


def test_paths_never_leave_the_server():
    assert short("real/boolq") == "boolq" and short("/srv/visitors/x/own/mine.csv") == "mine.csv"
