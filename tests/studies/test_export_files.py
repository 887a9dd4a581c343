"""A run as files: tables against numbers read off by hand, JSON that gives the Frames back, and a script that repeats the run."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mosld.config import ConfigError, RunConfig
from mosld.studies.export_files import TABLES, lighter, numbers, portable, script, table, tables, to_json
from mosld.training import ArmFrame, Frame, LinearProbe, RunLog, Trainer
from mosld.training.runlog import LinearInfo

ROOT = Path(__file__).parents[2]


def probe(load: float) -> LinearProbe:
    return LinearProbe(
        [[load, 1 - load]], [[0.25, 0.75]], 0.5, 1.5, 0, 0.125, 0.0625, [2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [1.0, None, -0.5, 2.0]
    )


def run_log(steps: int, probe_every: int = 1) -> RunLog:
    """One arm, one linear of two experts; the loss of step s is 1 / s, the load of its first expert s / steps."""
    config = RunConfig(tasks="world/mood", steps=steps, arms="")
    log = RunLog(config, ["MoSLD"], ["world/mood"], [], {"world/mood": 0.25}, {"world/mood": 0.5}, [[LinearInfo("l0", 0, "q", 2)]], [10], {}, {})
    log.append(Frame(0, [ArmFrame(None, 0.0, 0.0, 0.1, {"world/mood": 0.25})], "start"))
    for s in range(1, steps + 1):
        linears = [probe(s / steps)] if s % probe_every == 0 else None
        log.append(Frame(s, [ArmFrame(1 / s, 0.5, 0.01, 0.1, {"world/mood": 0.75} if s == steps else None, linears)]))
    return log


def rows(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_table_holds_the_numbers_of_the_frames():
    log = run_log(4)
    assert rows(table(log, "losses"))[3] == {"step": "3", "arm": "MoSLD", "loss": repr(1 / 3), "extra": "0.5", "lr": "0.01", "dropout": "0.1"}
    assert rows(table(log, "losses"))[0]["loss"] == ""  # before training there is none
    where = {"step": "1", "arm": "MoSLD", "linear": "l0", "layer": "0", "target": "q"}
    assert rows(table(log, "gates"))[1] == {**where, "task": "world/mood", "expert": "1", "load": "0.75", "gate": "0.75"}
    assert [r["log2_ratio"] for r in rows(table(log, "imbalance"))[:4]] == ["1.0", "", "-0.5", "2.0"]
    with pytest.raises(ConfigError, match="table: 'loss' is not known"):
        table(log, "loss")


def test_the_zip_holds_all_tables_and_says_what_their_columns_are():
    log = run_log(2)
    archive = zipfile.ZipFile(io.BytesIO(tables(log)))
    assert set(archive.namelist()) == {"columns.txt", *(f"{name}.csv" for name in TABLES)}
    assert archive.read("routing.csv").decode() == table(log, "routing")
    assert "log2_ratio (A over mean of B_e; NaN is a gap)" in archive.read("columns.txt").decode()
    assert tables(log) == tables(run_log(2))  # the same run, the same bytes


def test_json_gives_the_frames_back():
    log = run_log(3)
    data = json.loads(to_json(log))
    frames = [Frame.from_dict(f) for f in data.pop("frames")]
    again = RunLog.from_header(data)
    assert frames == log.frames and again.config == log.config and again.linears == log.linears


def test_what_is_not_finite_is_null_in_json():
    log = run_log(1)
    log.append(Frame(2, [ArmFrame(float("nan"), float("inf"), 0.0, 0.0)], "diverged"))
    last = json.loads(to_json(log))["frames"][-1]["arms"][0]
    assert last["loss"] is None and last["extra"] is None and last["lr"] == 0


def test_a_lighter_run_keeps_its_ends_and_its_scores():
    log = run_log(100, probe_every=10)  # probes at 10, 20, ... 100
    few = lighter(log, probes=4, frames=11)
    kept = [f.step for f in few.frames if f.arms[0].linears]
    assert kept == [10, 50, 90, 100]  # the scored one, and three of the others
    steps = [f.step for f in few.frames]
    assert steps[0] == 0 and steps[-1] == 100 and steps == sorted(steps) and len(steps) <= 11 + 4
    assert few.frames[-1] == log.frames[-1] and len(log.frames) == 101
    assert numbers(few) == 4 * (2 * 1 * 2 + 4 * 2 + 9)
    assert lighter(log, probes=10).frames == log.frames


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A run on a file of one's own in which somebody turned a knob, left before its end; and the file."""
    path = tmp_path_factory.mktemp("own") / "even.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(60)))
    config = RunConfig(tasks=["world/mood", str(path)], layers=1, steps=6, batch=4, eval_every=2, eval_rows=10, rank=2)
    trainer = Trainer(config)
    list(trainer.advance(2))
    trainer.change(1, dropout=0.5)
    list(trainer.advance(2))
    return trainer.log, path


def test_paths_stay_at_home(changed):
    log, path = changed
    out = portable(log)
    for text in (to_json(out), script(out), table(out, "accuracies"), table(out, "gates")):
        assert str(path.parent) not in text and ("even.jsonl" in text)
    assert out.config.tasks == {"world/mood": 1, "even.jsonl": 1} and portable(out) is out
    assert out.frames[0].arms[0].accuracy["even.jsonl"] == log.frames[0].arms[0].accuracy[str(path)]


@pytest.mark.slow
def test_the_script_repeats_the_run(changed, tmp_path):
    log, path = changed
    (tmp_path / "run.py").write_text(script(portable(log)))
    (tmp_path / path.name).write_text(path.read_text())
    # the script needs the package, which stands beside the tests here, and promises the same numbers for as many threads as the run had
    installed = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": log.versions["threads"]}
    done = subprocess.run([sys.executable, "run.py", "kept"], cwd=tmp_path, env=installed, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    again = RunLog.load(tmp_path / "kept")
    assert again.frames == portable(log).frames  # every number of every step
    assert "dropout 0.1 to 0.5" in again.frames[3].note and again.frames[-1].step == 4
    assert done.stdout.startswith("Accuracy at step 4 on validation rows")
