"""The machine as a figure: what is drawn are the frame's numbers."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from test_figures import run

from mosld import figures
from mosld.training.frame import Sentence


@pytest.fixture
def log():
    """The run of known numbers of the other figures, with a sentence, steps and shares."""
    log = run(0)
    for i, frame in enumerate(log.frames[1:], 1):
        arms = []
        for arm in frame.arms:
            probes = [
                dataclasses.replace(
                    p, share=[1.25, 0.75], step_a=[0.004], step_b=[0.001, 0.002], word_experts=[[1, 0], [0, 1]], word_gates=[[0.9, 0.1], [0.6, 0.4]]
                )
                for p in arm.linears
            ]
            arms.append(dataclasses.replace(arm, linears=probes))
        log.frames[i] = dataclasses.replace(frame, arms=arms, sentence=Sentence(["mood", "dogs"], 0, "question", 1))
    last = log.frames[-1]
    taken = [dataclasses.replace(p, takes=[["the"], ["cat", "dog"]]) for p in last.arms[0].linears]
    log.frames[-1] = dataclasses.replace(last, arms=[dataclasses.replace(last.arms[0], linears=taken), last.arms[1]])
    return log


def texts(picture):
    return [t.get_text() for t in picture.axes[0].texts]


def test_the_numbers_of_the_frame_are_written_on_it(log):
    picture = figures.machine(log)
    said = texts(picture)
    for text in (
        "Layer 2, q at step 3, arm 'dropout 0'",
        "mood",
        "dogs",
        'gates of "dogs"',
        "A, shared",
        "B 1",
        "B 2",
        "125% of tokens",
        "75% of tokens",
    ):
        assert text in said
    assert {"3", "0.004", "0.5", "0.7", "0.001", "0.002", "the", "cat, dog", "undefined"} - set(said) == {
        "undefined"
    }  # two arms: a gap is left blank
    assert "tokens by expert 125%, 75%" in picture.alt


def test_bars_have_one_scale_and_flows_are_as_wide_as_the_gates(log):
    ax = figures.machine(log, step=1, linear="layer.0.query", word=0).axes[0]
    wide = {}
    for patch in ax.patches:
        box = patch.get_path().get_extents()
        wide.setdefault(tuple(round(c, 3) for c in patch.get_facecolor()[:3]), []).append((box.width, box.height))
    widths = sorted(w for boxes in wide.values() for w, h in boxes if h == pytest.approx(1.3))
    # norms of B .5 and .7 of at most .7, their steps .001 and .002 of at most .002, on bars of 10; A at its own most, 9.5
    assert widths == pytest.approx(sorted([10 * 0.5 / 0.7, 10, 5, 10, 9.5, 9.5]))
    lines = sorted(p.get_linewidth() for p in ax.patches if p.get_linewidth() > 3)
    assert lines == pytest.approx([0.6 + 7 * 0.9] * 2)


def test_a_step_without_probe_and_an_unknown_linear_are_said(log):
    with pytest.raises(ValueError, match=r"step: 0 was not probed; probed are \[1, 2, 3\]"):
        figures.machine(log, step=0)
    with pytest.raises(ValueError, match=r"linear: 'nowhere' is not adapted; adapted are layer.0.query"):
        figures.machine(log, linear="nowhere")


def test_logs_without_the_newer_fields_are_drawn():
    said = texts(figures.machine(run(0)))
    assert "A, shared" in said and "share of tokens" in said


def test_a_film_of_a_run(log):
    data = figures.film(log)
    moving = Image.open(io.BytesIO(data))
    probed = [f.step for f in log.frames if f.arms[0].linears]
    assert moving.format == "WEBP" and moving.n_frames == len(probed) > 1 and len(data) <= 3_000_000
    shown, times = [], []
    for n in range(moving.n_frames):
        moving.seek(n)
        moving.load()
        shown.append(np.asarray(moving.convert("RGB")).astype(int))
        times.append(moving.info["duration"])
    assert 10_000 <= sum(times) <= 12_000
    assert all(abs(a - b).mean() > 0.01 for a, b in itertools.pairwise(shown))
    bars = [int((abs(s[-8:] - [0, 114, 178]).sum(2) < 90).any(0).sum()) for s in shown]  # the line below: how far the run is
    assert bars == sorted(bars) and bars[-1] > 0.9 * moving.width
    with pytest.raises(ValueError, match="fewer than two steps"):
        figures.film(dataclasses.replace(log, frames=log.frames[:1]))
