"""A run followed in a notebook: one display that is updated in place, and changes made where they were made by hand."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import clear_output

from mosld import figures
from mosld.config import RunConfig
from mosld.figures import live
from mosld.training import Trainer


def trainer():
    return Trainer(RunConfig(tasks="world/mood", layers=1, steps=3, batch=4, eval_rows=10, rank=2, warmup=0, probe_every=1))


@pytest.fixture
def shown(monkeypatch):
    """What an IPython shell was told to display: (transient, update) of each message, or 'cleared'."""
    out = []
    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell.display_pub, "publish", lambda data, metadata=None, transient=None, update=False, **_: out.append((transient, update)))
    monkeypatch.setattr(shell.display_pub, "clear_output", lambda wait=False: out.append("cleared"))
    monkeypatch.setattr(live, "SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    yield out
    InteractiveShell.clear_instance()


def test_a_live_picture_keeps_to_one_display(shown):
    drawn = []
    log = figures.watch(trainer(), draw=lambda log: drawn.append(len(log.frames)) or figures.overview(log))
    assert [f.step for f in log.frames] == [0, 1, 2, 3] and log.frames[-1].event == "end"
    assert drawn == [2, 3, 4, 4]
    assert [update for _, update in shown] == [False, True, True, True]
    assert len({transient["display_id"] for transient, _ in shown}) == 1
    clear_output()
    assert shown[-1] == "cleared"  # the test would have seen a clearing


def test_drawing_takes_a_small_share_of_the_time(shown, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1e-9)
    figures.watch(trainer())
    assert len(shown) == 2  # the first picture and the last


def test_progress_keeps_to_one_display(shown):
    tell = figures.progress()
    tell("Run 1", 0.1)
    tell("Run 2", 1.0)
    assert [update for _, update in shown] == [False, True] and len({t["display_id"] for t, _ in shown}) == 1


def test_changes_are_made_after_their_step():
    log = figures.watch(trainer(), changes=[(2, None, {"lr": 0.01}), (1, 0, {"dropout": 0.5})])
    assert [a.dropout for a in log.frames[1].arms] == [0.0, 0.1] and [a.dropout for a in log.frames[2].arms] == [0.5, 0.1]
    assert [[a.lr for a in f.arms] for f in log.frames[1:]] == [[0.003] * 2, [0.003] * 2, [0.01] * 2]


def test_a_run_can_be_watched_in_parts():
    one = trainer()
    assert figures.watch(one, steps=1).frames[-1].step == 1
    assert [f.step for f in figures.watch(one).frames] == [0, 1, 2, 3]
