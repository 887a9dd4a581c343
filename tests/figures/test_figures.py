"""Figures show the numbers they were given and say so in words."""

import io
import struct
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mosld import figures
from mosld.config import RunConfig
from mosld.figures import style
from mosld.training import ArmFrame, Frame, LinearProbe, RunLog
from mosld.training.runlog import LinearInfo


def probe(ratio):
    return LinearProbe(
        load=[[1.0, 1.0], [1.5, 0.5]],
        gate=[[0.5, 0.5], [0.75, 0.25]],
        evenness=0.9,
        effective=1.8,
        idle=0,
        token_entropy=0.3,
        information=0.2,
        norm_a=[3.0],
        norm_b=[0.5, 0.7],
        norm_ba=[1.0, 2.0],
        ask_a=[0.1, 0.2],
        imbalance=[1.0, ratio, -ratio, None],
    )


def run(seed, shift=0.0):
    """A log of two arms and three steps with known numbers."""
    config = RunConfig(tasks="world/mood,world/place", held_out="world/kind", experts="2", steps=3, seed=seed)
    names = ["world/mood", "world/place", "world/kind"]
    log = RunLog(
        config,
        config.arm_names(),
        names[:2],
        names[2:],
        dict.fromkeys(names, 0.25),
        dict.fromkeys(names, 0.25),
        [[LinearInfo("layer.0.query", 0, "q", 2), LinearInfo("layer.1.query", 1, "q", 2)]] * 2,
        [10, 10],
        {"python": "3"},
        {},
    )
    for step in range(4):
        accuracy = dict(zip(names, (0.4 + shift, 0.5, 0.3), strict=True)) if step in (0, 3) else None
        arms = [
            ArmFrame(None if step == 0 else 2.0 / step, 0.0, 0.003, p, accuracy, [probe(step * 0.5 + shift), probe(step * 0.5)] if step else None)
            for p in (0.0, 0.1)
        ]
        log.append(Frame(step, arms, "end" if step == 3 else ""))
    return log


def size(png):
    return struct.unpack(">II", png[16:24])


def test_a_picture_shows_itself_with_words():
    picture = figures.heat([[0.25, 0.75], [1.0, 0.0]], ["one", "two"], ["a", "b"], "Gates")
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == "Gates: 2 rows, 2 columns, values from 0.00 to 1.00." == metadata["image/png"]["alt"]
    width, height = size(data["image/png"])
    shown = metadata["image/png"]
    assert (
        abs(width / shown["width"] - style.PIXELS_PER_INCH / style.SHOWN_PER_INCH) < 0.02
        and abs(width / height - shown["width"] / shown["height"]) < 0.02
    )
    assert [t.get_text() for t in picture.axes[0].texts] == ["0.25", "0.75", "1.00", "0.00"]


def test_a_gap_is_an_empty_cell():
    picture = figures.heat([[0.5, np.nan]], ["r"], ["a", "b"])
    assert [t.get_text() for t in picture.axes[0].texts] == ["0.50"]


def test_every_picture_of_a_run_can_be_drawn_and_is_small():
    log = run(0)
    for draw in (figures.losses, figures.accuracy, figures.gates, figures.router, figures.norms, figures.imbalance, figures.overview):
        picture = draw(log)
        assert len(picture.png()) < 80_000
        assert "dropout 0" in picture.alt


def test_lines_over_seeds_are_means_with_their_interval():
    logs = [run(0), run(1, 0.2), run(2, 0.4)]
    panel = next(ax for ax in figures.imbalance(logs).axes if ax.get_title(loc="left") == "gradient")
    line = next(drawn for drawn in panel.lines if drawn.get_label() == "dropout 0")
    # two linears: step / 2 + shift and step / 2; shifts 0, 0.2, 0.4 over seeds: the mean is step / 2 + 0.1
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata() == pytest.approx([0.6, 1.1, 1.6])
    low, high = panel.collections[0].get_paths()[0].vertices[:, 1].min(), panel.collections[0].get_paths()[0].vertices[:, 1].max()
    half = 4.303 * 0.1 / 3**0.5  # t of 2 degrees of freedom, standard deviation of 0, 0.1, 0.2
    assert (low, high) == (pytest.approx(0.6 - half, abs=1e-3), pytest.approx(1.6 + half, abs=1e-3))


def test_gaps_leave_no_mark():
    panel = next(ax for ax in figures.imbalance(run(0)).axes if ax.get_title(loc="left") == "relative step")
    assert all(np.isnan(drawn.get_ydata().astype(float)).all() for drawn in panel.lines if drawn.get_label().startswith("dropout"))


def test_the_accuracy_picture_has_chance_and_says_what_is_held_out():
    axes = [ax for ax in figures.accuracy(run(0)).axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in axes] == ["world/mood", "world/place", "world/kind (held out)"]
    for ax in axes:
        assert any(np.all(np.asarray(drawn.get_ydata()) == 0.25) for drawn in ax.lines)


def test_test_rows_stand_apart_from_the_line_of_validation_rows():
    ax = figures.accuracy(run(0)).axes[0]
    lines = [d for d in ax.lines if d.get_label() in ("dropout 0", "dropout 0.1")]
    assert [list(d.get_xdata()) for d in lines] == [[0], [0]]  # scored at step 0 on validation rows, at step 3 on test rows
    marks = [d for d in ax.lines if d.get_markerfacecolor() == "none"]
    assert [(list(d.get_xdata()), list(d.get_ydata())) for d in marks] == [([3], [0.4])] * 2


def test_dots_are_means_with_intervals():
    table = pd.DataFrame({"task": ["a", "a", "b", "b"], "arm": ["x"] * 4, "accuracy": [0.2, 0.4, 0.6, 0.6]})
    ax = figures.dots(table, "accuracy", "task", "arm").axes[0]
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.3, 0.6])
    ends = np.array([[s[0][0], s[1][0]] for s in ax.collections[0].get_segments()])
    assert ends[0] == pytest.approx([0, 1])  # 0.3 -+ 12.706 * 0.1, kept where a share can be
    assert ends[1] == pytest.approx([0.6, 0.6])


def test_no_interval_is_narrower_than_the_questions_allow():
    table = pd.DataFrame({"task": ["a"] * 3, "accuracy": [0.8] * 3, "before": [0.5] * 3})  # three seeds that agree to the last question
    drawn = lambda **more: figures.dots(table, "accuracy", "task", **more).axes[0].collections[0].get_segments()[0][:, 0]  # noqa: E731
    half = 4.303 / 3**0.5  # t of 2 degrees of freedom
    assert drawn(questions=100) == pytest.approx([0.8 - half * 0.04, 0.8 + half * 0.04], abs=1e-4)  # sqrt(.8 x .2 / 100)
    both = (0.8 * 0.2 / 100 + 0.5 * 0.5 / 100) ** 0.5
    assert drawn(minus="before", questions=100) == pytest.approx([0.3 - half * both, 0.3 + half * both], abs=1e-4)
    assert drawn(minus="before") == pytest.approx([0.3, 0.3])


def test_the_arms_differ_without_colour():
    looks = {(str(style.line(i)["linestyle"]), style.marker(i)["marker"]) for i in range(6)}
    assert len(looks) == 6
    # by luminance alone a heat map's order stays
    grey = [np.dot(style.HEAT(v)[:3], (0.2126, 0.7152, 0.0722)) for v in np.linspace(0, 1, 20)]
    assert all(a > b for a, b in pairwise(grey))


def test_a_live_picture_has_the_same_size_from_first_to_last():
    log = run(0)
    frames, sizes = log.frames, set()
    for n in range(2, 5):
        log.frames = frames[:n]
        sizes.add(Image.open(io.BytesIO(figures.overview(log).png())).size)
    assert len(sizes) == 1


def test_names_in_a_scatter_keep_apart():
    picture = figures.scatter([0.0, 0.0, 0.001], [0.5, 0.5005, 0.501], ["time, mood", "place, mood", "place, time"], "Pairs", "x", "y")
    picture.draw_without_rendering()
    boxes = [text.get_window_extent() for text in picture.axes[0].texts]
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
