"""Frames as a run's log keeps them: every number comes back as it was, and a thousand take a few megabytes."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.frames import reached
from mosld.config import RunConfig
from mosld.training import Frame, Trainer
from mosld.training.frame import ArmFrame, LinearProbe, Packed, packed

MEGABYTES = 4.5  # of a thousand frames of a default run, half of them probed; the page's own record of them is a file


def line(frame) -> str:
    return json.dumps(frame.to_dict())


floats = st.floats() | st.floats(width=32) | st.integers(0, 100).map(lambda n: n / 100) | st.sampled_from([0.0, -0.0, 1.0])
row = st.lists(floats, max_size=5)
gaps = st.lists(floats | st.none(), max_size=5)
probe = st.builds(
    LinearProbe,
    load=st.lists(row | st.none(), max_size=3),
    gate=st.lists(row, max_size=3),
    evenness=floats,
    effective=floats,
    idle=st.integers(),
    token_entropy=floats,
    information=floats,
    norm_a=row,
    norm_b=row,
    norm_ba=row,
    ask_a=row | st.none(),
    imbalance=gaps,
    most=floats | st.none(),
    reads=gaps | st.none(),
    takes=st.lists(st.lists(st.text(), max_size=3), max_size=3) | st.none(),
    word_experts=st.lists(st.lists(st.integers(0, 300), max_size=3), max_size=4) | st.none(),
    word_gates=st.lists(row, max_size=4) | st.none(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(probe, max_size=3))
def test_every_number_comes_back_as_it_was(probes):
    frame = Frame(1, [ArmFrame(0.5, 0.0, 0.1, 0.0, None, probes)])
    kept = packed(frame)
    assert line(kept) == line(frame)
    assert line(pickle.loads(pickle.dumps(kept))) == line(frame)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Frames of a default run as they were made, its log, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(RunConfig(batch=4, eval_rows=10), folder)
    return list(trainer.advance(5)), trainer.log, folder


def test_a_log_reads_and_compares_as_plain_lists(run):
    made, log, folder = run
    assert log.frames == made and made == log.frames
    assert [line(f) + "\n" for f in log.frames] == (folder / "frames.jsonl").read_text().splitlines(keepends=True)
    probes, kept = made[2].arms[0].linears, log.frames[2].arms[0].linears
    assert isinstance(kept, Packed) and len(kept) == len(probes) and kept[-1] == probes[-1] and kept[1:3] == probes[1:3]
    assert kept != probes[:-1]


def test_a_thousand_frames_take_a_few_megabytes(run):
    _, log, _ = run
    probed, plain = ([f for f in log.frames[2:] if bool(f.arms[0].linears) is p] for p in (True, False))
    assert len(probed) == 2 and len(plain) == 2
    mean = (reached(probed) / len(probed) + reached(plain) / len(plain)) / 2
    assert mean * 1000 < MEGABYTES * 1e6
