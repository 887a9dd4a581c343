"""The companion notebooks: each runs from its script, in few steps; each .ipynb is executed, small, and has its script's cells."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

from mosld.ui.learn.lessons import LESSONS
from mosld.ui.page import ROOMS

FOLDER = Path(__file__).parents[2] / "notebooks"
spec = importlib.util.spec_from_file_location("refresh", FOLDER / "refresh.py")
refresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refresh)

scripts = pytest.mark.parametrize("script", refresh.SCRIPTS, ids=lambda p: p.stem)


def test_there_are_eight():
    assert [s.stem[:2] for s in refresh.SCRIPTS] == ["01", "02", "03", "04", "05", "06", "07", "08"]


QUICK = ("01",)


@pytest.mark.parametrize("script", [pytest.param(p, marks=() if p.stem[:2] in QUICK else pytest.mark.slow, id=p.stem) for p in refresh.SCRIPTS])
def test_runs_from_the_script(script, tmp_path):
    notebook = refresh.execute(refresh.read(script), fast=True, folder=tmp_path)
    errors = [o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stderr"]
    assert not errors, "what a notebook prints to stderr would be committed with it"


@scripts
def test_committed_notebook_is_the_script_executed(script):
    committed = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    own = refresh.read(script)
    assert [(c.cell_type, c.source) for c in committed.cells] == [(c.cell_type, c.source) for c in own.cells], (
        "the .ipynb is not of this script: python notebooks/refresh.py"
    )
    assert committed.metadata["jupytext"]["formats"] == refresh.PAIRING
    code = [c for c in committed.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert script.with_suffix(".ipynb").stat().st_size <= 600_000


@scripts
def test_the_address_of_the_repository_makes_badges_and_install_from_it(script, monkeypatch):
    assert refresh.read(script).cells[1].source.count(refresh.FROM_CHECKOUT) == 1, "the first cell installs the lab"
    monkeypatch.setattr(refresh, "address", lambda: "owner/name")
    first, second, *_ = refresh.read(script).cells
    assert first.source.count(f"owner/name/blob/main/notebooks/{script.stem}.ipynb") == 2  # Colab, molab
    assert f"/gh/owner/name/main?labpath=notebooks/{script.stem}.ipynb" in first.source
    assert "git+https://github.com/owner/name" in second.source and refresh.FROM_CHECKOUT not in second.source


def test_the_address_is_read_from_the_project_file(tmp_path, monkeypatch):
    monkeypatch.setattr(refresh, "FOLDER", tmp_path / "notebooks")
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/owner/na.me.git"\n')
    assert refresh.address() == "owner/na.me"
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nPaper = "https://arxiv.org/abs/2412.08946"\n')
    assert refresh.address() == ""


@scripts
def test_frame_of_a_notebook(script):
    cells = refresh.read(script).cells
    assert cells[0].source.startswith(f"# {int(script.stem[:2])} · ")
    assert "**You will see**" in cells[0].source and "**You need**" in cells[0].source
    link = re.search(r"<http://127.0.0.1:7860/\?(lesson|room)=(\w+)>", cells[0].source)  # where the page shows the same
    assert link[2] in [str(n) for n, _ in enumerate(LESSONS, 1)] if link[1] == "lesson" else link[2] in ROOMS
    assert "arxiv.org/abs/" in cells[0].source and re.search(r"second|minute", cells[0].source), "links to the papers, and how long it takes"
    assert "## Questions to try" in cells[-2].source and "## What was shown" in cells[-2].source
    exercises = cells[-2].source.partition("## Questions to try")[2]
    assert exercises.count("<summary>") >= len(re.findall(r"^\d\. ", exercises, re.M)), "every question has a folded solution"
    assert cells[-1].source.count("assert ") >= 3
