"""The wire format: what is unpacked here by hand is what the frame held, and a frame stays small."""

import base64
import dataclasses
import json

import numpy as np
import pytest

from mosld.config import RunConfig
from mosld.training.frame import ArmFrame, Frame, LinearProbe, Sentence
from mosld.training.runlog import LinearInfo, RunLog
from mosld.ui.wire import FRAME_BYTES, Packer, short

WORDS = Sentence(["mood", "?", "supercalifragilistic"], 1, "question", 2)


def probe(tasks: int, experts: int, scored: bool = True, words: int = 3) -> LinearProbe:
    rows = [[(t + e) % 5 / 10 for e in range(experts)] for t in range(tasks)]
    return LinearProbe(
        load=[None if t == 1 else row for t, row in enumerate(rows)],
        gate=rows,
        evenness=0.75,
        effective=3.5,
        idle=1,
        token_entropy=1.25,
        information=0.5,
        norm_a=[2.5],
        norm_b=[0.5 * e for e in range(experts)],
        norm_ba=[0.25 * e for e in range(experts)],
        ask_a=[0.125 * e for e in range(experts)],
        imbalance=[1.0, None, -0.5, 2.0],
        share=[0.5] * experts,
        grad_a=[0.0625],
        grad_b=[0.03125] * experts,
        step_a=[0.001],
        step_b=[0.002] * experts,
        most=1.0,
        reads=[0.7, 0.1, 0.002, None, 0.0] if scored else None,
        null=[0.72, 0.1, 0.0, None, 0.0] if scored else None,
        takes=[["not", "will"]] * experts if scored else None,
        word_experts=[[1, 0], [1], [0, 1]] * (words // 3),
        word_gates=[[0.75, 0.25], [1.0], [0.5, 0.5]] * (words // 3),
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
    log.append(Frame(7, [arm, arm], "change", "why", 3.14159, WORDS))
    step, seconds, event, note, arms, text, says, moments = json.loads(json.dumps(Packer(log).pack(log.frames[0])))
    assert (step, seconds, event, note, moments) == (7, 3.14, "change", "why", [])
    assert (
        text == [["mood", "?", "supercalifragi"], 1, "question"]
        and len(says) == 3
        and says[0] == "The routers of dropout 0 have collapsed: 1 of 4 experts are idle."
    )
    loss, extra, lr, dropout, scores, (first, count, raw, halves, extras) = arms[1]
    assert (loss, extra, lr, dropout, scores, first, count) == (1.235, 0.01, 0.003, 0.1, [0.5, 0.75], 0, 1)
    levels = np.frombuffer(base64.b64decode(raw), np.uint8).tolist()
    # load [T][E] of 254 levels, the second task's a gap; two experts a word at most; their numbers, then their gates
    assert levels == [0, 25, 51, 76, 255, 255, 255, 255, 2, *[1, 0, 190, 64], *[1, 255, 254, 0], *[0, 1, 127, 127]]
    numbers = np.frombuffer(base64.b64decode(halves), "<f2").tolist()
    assert numbers[0] == 2.5 and np.isnan(numbers[1:4]).all()  # one shared A
    assert numbers[4:16] == [0, 0.5, 1, 1.5, 0, 0.25, 0.5, 0.75, 0, 0.125, 0.25, 0.375] and numbers[16:20] == [0.5] * 4
    assert numbers[20] == 1 and np.isnan(numbers[21:24]).all() and numbers[24:28] == [2] * 4  # steps, times 1000
    assert numbers[28] == 62.5 and numbers[32:36] == [31.25] * 4
    assert numbers[36] == 1 and np.isnan(numbers[37]) and numbers[38:] == [-0.5, 2, 0.75, 3.5, 1, 1.25, 0.5]
    assert extras == [[1.0, [0.7, 0.1, 0.002, None, 0.0], [0.72, 0.1, 0.0, None, 0.0], [["not", "will"]] * 4]]


@pytest.mark.parametrize(("tasks", "experts", "linears"), [(3, 4, 8), (6, 4, 8), (6, 8, 12), (12, 8, 64)])
def test_a_frame_stays_small_and_no_linear_is_left_out(tasks, experts, linears):
    log = run_log(tasks, experts, linears)
    packer, words = Packer(log), Sentence(["thirteen-wide"] * 24, 0, "option")
    scores = {t: 0.1234567 for t in log.tasks}
    sizes, seen, read = [], set(), set()
    for step in range(1, 60):
        scored = step == 1
        arm = ArmFrame(1.23456789, 0.012345678, 0.00123456, 0.123, scores if scored else None, [probe(tasks, experts, scored, 24)] * linears)
        log.append(Frame(99000 + step, [arm] * 2, seconds=12345.678, sentence=words))
        packed = packer.pack(log.frames[-1])
        sizes.append(len(json.dumps(packed, separators=(",", ":"))))
        first, count, *_, extras = packed[4][0][5]
        places = [(first + i) % linears for i in range(count)]
        seen |= set(places)
        read |= {place for place, more in zip(places, extras or [0] * count, strict=True) if more}
    assert max(sizes) <= FRAME_BYTES
    assert seen == read == set(range(linears))  # what was read at the one scoring reaches the browser, of every linear
    log.append(Frame(99999, [arm] * 2, "end", seconds=1.0, sentence=words))
    assert packer.pack(log.frames[-1])[4][1][5][:2] == [0, linears]  # the last frame has all


def test_dense_routing_sends_gates_and_says_what_is_new_once():
    log = run_log(1, 2, 1)
    dense = dataclasses.replace(probe(1, 2), load=[[1.0, 1.0]], gate=[[0.25, 0.75]], word_experts=None, word_gates=None)
    packer = Packer(log)
    for step in (1, 2):
        log.append(Frame(step, [ArmFrame(1.0, 0.0, 0.1, 0.0, None, [dense])] * 2))
    packed = [packer.pack(frame) for frame in log.frames]
    assert np.frombuffer(base64.b64decode(packed[0][4][0][5][2]), np.uint8).tolist() == [64, 190, 0]
    assert packed[0][6] and packed[1][6] == 0  # the sentences did not change


def test_gaps_and_numbers_without_a_value_become_null():
    log = run_log(1, 2, 1)
    packed = Packer(log).pack(Frame(0, [ArmFrame(None, 0.0, 0.0, 0.0), ArmFrame(float("nan"), 0.0, 0.0, 0.0)], "start"))
    assert packed[4][0] == [None, 0.0, 0.0, 0.0, 0, 0] and packed[4][1][0] is None


def test_paths_never_leave_the_server():
    assert short("real/boolq") == "boolq" and short("/srv/visitors/x/own/mine.csv") == "mine.csv"
