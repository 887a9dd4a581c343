"""A run as a notebook: what it says, and that it gives the same Frames again."""

import json

import nbformat
import pytest

from mosld.config import RunConfig
from mosld.studies.export_notebook import changes, notebook
from mosld.training import Trainer


def trainer(**settings):
    base = {"tasks": "world/mood,world/place:2", "layers": 1, "steps": 4, "batch": 4, "eval_every": 2, "eval_rows": 10, "rank": 2, "warmup": 2}
    return Trainer(RunConfig(**{**base, **settings}))


@pytest.fixture(scope="module")
def changed():
    """A run in which somebody turned knobs, and which was stopped early."""
    run = trainer()
    list(run.advance(1))
    run.change(lr=0.01)
    run.change(1, dropout=0.5)
    list(run.advance(1))
    run.change(0, balance=0.25)
    list(run.advance(1))
    run.stop()
    return run.log


def cells(text):
    return nbformat.reads(text, as_version=4).cells


def executed(text):
    """The names that the notebook's cells leave behind."""
    space = {"__name__": "__main__"}
    for cell in cells(text):
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), space)
    return space


def test_changes_made_by_hand_are_read_back(changed):
    assert changes(changed) == [(1, 0, {"lr": 0.01}), (1, 1, {"lr": 0.01}), (1, 1, {"dropout": 0.5}), (2, 0, {"balance": 0.25})]


def test_the_notebook_repeats_the_run(changed):
    text = notebook(changed)
    nbformat.validate(nbformat.reads(text, as_version=4))
    space = executed(text)
    assert space["log"].frames == changed.frames[:-1]  # the frame of the stop itself is the hand's, not the run's
    assert space["config"] == changed.config
    assert space["difference"] == 0
    assert "stopped by hand, at step 3 of 4" in cells(text)[0].source


def test_a_run_to_the_end_without_changes():
    run = trainer(arms="", probe_every=1000)
    list(run.frames())
    text = notebook(run.log)
    code = [c.source for c in cells(text) if c.cell_type == "code"]
    assert "log = figures.watch(trainer)" in code[2] and "changes" not in code[2]
    assert {c.split("(")[0] for c in code if c.startswith("figures.")} == {
        f"figures.{name}" for name in ("losses", "accuracy", "gates", "router", "norms", "imbalance")
    }
    assert not any("gradio" in c for c in code)
    assert notebook(run.log) == text  # the same log, the same file
    assert json.loads(text)["nbformat"] == 4


def test_an_own_file_is_named(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"question": f"{n} is even?", "options": ["yes", "no"], "answer": n % 2} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = trainer(tasks=str(path), steps=1)
    list(run.advance(0))
    text = notebook(run.log)
    assert f"It reads `{path}`" in cells(text)[0].source
    assert "figures.gates" not in text  # nothing was probed yet
    assert executed(text)["config"].tasks == {str(path): 1.0}
