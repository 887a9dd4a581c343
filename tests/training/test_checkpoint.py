"""Nothing is lost: a run killed anywhere goes on exactly, checkpoints come on a clock, damaged run folders are one sentence with the file's name."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mosld.config import ConfigError, RunConfig
from mosld.training import RunLog, Trainer, checkpoint
from mosld.training.runlog import Record, cut

SMALL = {"tasks": "world/mood", "layers": 1, "steps": 4, "batch": 2, "eval_every": 2, "eval_rows": 10, "warmup": 0, "rank": 2, "probe_every": 2}


def config(**changes) -> RunConfig:
    return RunConfig(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps, closed after its third."""
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    trainer = Trainer(config(), out=folder)
    stream = trainer.frames()
    for _ in range(4):
        next(stream)
    stream.close()
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forked processes")
def test_a_run_killed_anywhere_goes_on_exactly():
    # every fourth point here; `python -m benchmarks kill` tries all of them
    command = [sys.executable, "-m", "benchmarks", "kill", "--every", "4", "--seconds", "1200"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1300)
    assert done.returncode == 0, done.stdout + done.stderr
    points, tried, wrong = (int(n) for n in re.findall(r"\d+", done.stdout.splitlines()[-1])[:3])
    assert points > 60 and tried >= points // 4 and wrong == 0


def test_a_file_of_frames_cut_at_any_byte_goes_on_from_its_checkpoint(run, tmp_path):
    log = RunLog.load(run)
    whole = (run / "frames.jsonl").read_bytes()
    start = whole.index(b"\n", whole.index(b"\n") + 1) + 1  # where the frame of step 2 begins
    log.frames = cut(log, tmp_path, 1)
    for size in range(start, len(whole), 7):
        (tmp_path / "frames.jsonl").write_bytes(whole[:size])
        record = Record.go_on(tmp_path, log)
        assert (tmp_path / "frames.jsonl").read_bytes() == whole[:start] and record.size == start
    (tmp_path / "frames.jsonl").write_bytes(whole[: start - 1])  # all of the line but its end
    assert Record.go_on(tmp_path, log).size == start and (tmp_path / "frames.jsonl").read_bytes() == whole[:start]


def test_a_torn_line_is_not_written_behind(run, tmp_path):
    shutil.copytree(run, tmp_path / "a")
    with open(tmp_path / "a" / "frames.jsonl", "ab") as file:
        file.write(b'{"step": 4, "arms"')
    again = Trainer.resume(tmp_path / "a")
    assert again.step == 3
    last = list(again.frames())[-1]
    log = RunLog.load(tmp_path / "a")
    assert [f.step for f in log.frames] == [0, 1, 2, 3, 4] and log.frames[-1] == last and last.event == "end"


def test_a_second_writer_is_noticed(run, tmp_path):
    shutil.copytree(run, tmp_path / "a")
    one, two = (Trainer.resume(tmp_path / "a") for _ in range(2))
    next(one.frames())
    with pytest.raises(ConfigError, match="changed by another process"):
        next(two.frames())


def test_checkpoints_come_on_the_clock_and_with_each_scoring(tmp_path):
    now = [0.0]
    trainer = Trainer(config(steps=9, eval_every=8), out=tmp_path / "a", clock=lambda: now[0])
    kept = []
    for _ in trainer.frames():
        kept.append(checkpoint.step(tmp_path / "a"))
        now[0] += 25.0  # 60 seconds have gone by at every third step
    assert kept == [0, 0, 0, 3, 3, 3, 6, 6, 8, 9]  # step 8 is scored


def test_a_half_made_step_is_never_saved(tmp_path, monkeypatch):
    trainer = Trainer(config(), out=tmp_path / "a")
    list(trainer.advance(1))
    second = trainer.arms[1]
    monkeypatch.setattr(second, "update", lambda step: (_ for _ in ()).throw(KeyboardInterrupt))  # Ctrl-C between two arms
    with pytest.raises(KeyboardInterrupt):
        list(trainer.frames())
    with pytest.raises(ConfigError, match="half made"):
        trainer.save(tmp_path / "a")
    with pytest.raises(ConfigError, match="step 2 was broken off half made; go on with Trainer.resume"):
        trainer.frames()
    again = Trainer.resume(tmp_path / "a")
    assert again.step == 1 and list(again.frames()) == list(Trainer(config()).frames())[2:]


def test_a_change_that_no_frame_tells_yet_is_kept(tmp_path):
    trainer = Trainer(config(), out=tmp_path / "a")
    stream = trainer.frames()
    next(stream)
    trainer.change(lr=0.01)
    stream.close()
    again = Trainer.resume(tmp_path / "a")
    frame = next(again.frames())
    assert frame.event == "change" and "lr 0.003 to 0.01" in frame.note and frame.arms[0].lr == 0.01


def test_a_diverged_run_keeps_the_checkpoint_before(tmp_path):
    trainer = Trainer(config(), out=tmp_path / "a")
    list(trainer.advance(1))
    with torch.no_grad():
        trainer.arms[1].handle.adapters[0].B.fill_(float("nan"))
    last = list(trainer.frames())[-1]
    assert last.event == "diverged" and checkpoint.step(tmp_path / "a") == 1
    again = Trainer.resume(tmp_path / "a")
    assert again.step == 1 and not again.done


def test_a_pause_writes_no_frame_again(run, tmp_path):
    shutil.copytree(run, tmp_path / "a")
    trainer = Trainer.resume(tmp_path / "a")
    path = tmp_path / "a" / "frames.jsonl"
    before = path.stat()
    trainer.save(tmp_path / "a")
    assert (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert checkpoint.step(tmp_path / "a") == 3 and sum(p.is_dir() for p in (tmp_path / "a").iterdir()) == 1


def test_a_run_without_a_checkpoint_begins_anew_only_before_its_first_step(run, tmp_path):
    for name, frames in (("a", 1), ("b", 2)):
        shutil.copytree(run, tmp_path / name)
        (tmp_path / name / "checkpoint.json").unlink()
        lines = (run / "frames.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / name / "frames.jsonl").write_bytes(b"".join(lines[:frames]))
    assert [f.step for f in Trainer.resume(tmp_path / "a").frames()] == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match="holds no checkpoint.json"):
        Trainer.resume(tmp_path / "b")


def test_adapters_of_an_earlier_step_are_not_taken_for_the_last(run):
    assert (checkpoint.arm_folder(run, 1, at=3) / "adapter.safetensors").is_file()
    with pytest.raises(ConfigError, match="are of step 3, not 4"):
        checkpoint.arm_folder(run, 1, at=4)


# Damage. Each entry changes a copy of the run; what is refused names the file.


def _edited(path: Path, **values):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, **values}))


def _tensors(run: Path, signed: bool, **changes):
    """The optimiser's tensors with some changed, taken away (None) or added; `signed`: with the right sha256, as from a hostile hand."""
    path = run / "checkpoint-000003" / "state.safetensors"
    found = {**load_file(path), **{name.replace("__", "/"): value for name, value in changes.items()}}
    save_file({n: t for n, t in found.items() if t is not None}, path)
    if signed:
        values = json.loads((run / "checkpoint.json").read_text())
        values["files"]["state.safetensors"] = sha256(path.read_bytes()).hexdigest()
        (run / "checkpoint.json").write_text(json.dumps(values))


def _line(run: Path, number: int, text):
    lines = (run / "frames.jsonl").read_text().splitlines()
    lines[number] = text(lines[number]) if callable(text) else text
    (run / "frames.jsonl").write_text("\n".join(lines) + "\n")


def _flip(path: Path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


HEADER = {
    "empty": lambda p: p.write_text(""),
    "cut": lambda p: p.write_text(p.read_text()[:200]),
    "list": lambda p: p.write_text("[]"),
    "number": lambda p: p.write_text("3"),
    "null": lambda p: p.write_text("null"),
    "no JSON": lambda p: p.write_text("{'config': 1}"),
    "binary": lambda p: p.write_bytes(bytes(range(256))),
    "surrogate": lambda p: p.write_text('{"config": {"tasks": "\\ud800"}}'),
    "deep": lambda p: p.write_text("[" * 100_000),
    "digits": lambda p: p.write_text('{"config": {"steps": ' + "9" * 5000 + "}}"),
    "no config": lambda p: p.write_text("{}"),
    "config a list": lambda p: _edited(p, config=[1]),
    "config self": lambda p: _edited(p, config={"self": 1}),
    "config out of bounds": lambda p: _edited(p, config={**json.loads(p.read_text())["config"], "rank": 0}),
    "other steps": lambda p: _edited(p, config={**json.loads(p.read_text())["config"], "steps": 2}),
    "other tasks": lambda p: _edited(p, tasks=["world/place"]),
    "tasks a number": lambda p: _edited(p, tasks=3),
    "arms too many": lambda p: _edited(p, arms=["a", "b", "c"]),
    "arms empty": lambda p: _edited(p, arms=[]),
    "chance a text": lambda p: _edited(p, chance="much"),
    "chance of another": lambda p: _edited(p, chance={"x": 0.5}),
    "linears wrong": lambda p: _edited(p, linears=[[{"name": 1}]]),
    "linears empty": lambda p: _edited(p, linears=[]),
    "parameters null": lambda p: _edited(p, parameters=None),
    "parameters other": lambda p: _edited(p, parameters=[1, 2]),
    "data other": lambda p: _edited(p, data={"world/mood": "0"}),
    "data a list": lambda p: _edited(p, data=[1]),
    "versions a list": lambda p: _edited(p, versions=[1]),
    "untrained a text": lambda p: _edited(p, untrained="x"),
}
FRAMES = {
    "empty line": lambda r: _line(r, 1, ""),
    "no JSON": lambda r: _line(r, 1, "{"),
    "list": lambda r: _line(r, 1, "[]"),
    "null": lambda r: _line(r, 1, "null"),
    "no arms": lambda r: _line(r, 1, '{"step": 1}'),
    "arms empty": lambda r: _line(r, 1, '{"step": 1, "arms": []}'),
    "arms of numbers": lambda r: _line(r, 1, '{"step": 1, "arms": [1, 2]}'),
    "step a text": lambda r: _line(r, 1, lambda t: t.replace('"step": 1', '"step": "1"')),
    "step below 0": lambda r: _line(r, 1, lambda t: t.replace('"step": 1', '"step": -1')),
    "step too far": lambda r: _line(r, 1, lambda t: t.replace('"step": 1', '"step": 99')),
    "step back": lambda r: _line(r, 2, lambda t: t.replace('"step": 2', '"step": 0')),
    "loss a text": lambda r: _line(r, 1, lambda t: t.replace('"loss": ', '"loss": "a", "x": ')),
    "linears a number": lambda r: _line(r, 2, lambda t: t.replace('"linears": [', '"linears": 3, "x": [')),
    "linears too few": lambda r: _line(r, 1, lambda t: t.replace('"linears": [', '"linears": [], "x": [')),
    "accuracy of another": lambda r: _line(r, 0, lambda t: t.replace("world/mood", "world/place")),
    "a line lost": lambda r: (r / "frames.jsonl").write_text("".join((r / "frames.jsonl").read_text().splitlines(True)[::2])),
    "gone": lambda r: (r / "frames.jsonl").unlink(),
    "emptied": lambda r: (r / "frames.jsonl").write_text(""),
    "a folder": lambda r: ((r / "frames.jsonl").unlink(), (r / "frames.jsonl").mkdir()),
    "binary": lambda r: (r / "frames.jsonl").write_bytes(b"\xff\xfe\n" * 4),
}
CHECKPOINT = {
    "empty": lambda r: (r / "checkpoint.json").write_text(""),
    "list": lambda r: (r / "checkpoint.json").write_text("[]"),
    "binary": lambda r: (r / "checkpoint.json").write_bytes(b"\xff\xfe"),
    "deep": lambda r: (r / "checkpoint.json").write_text("[" * 100_000),
    "step a text": lambda r: _edited(r / "checkpoint.json", step="3"),
    "step below 0": lambda r: _edited(r / "checkpoint.json", step=-1),
    "step too far": lambda r: _edited(r / "checkpoint.json", step=99),
    "step of another frame": lambda r: _edited(r / "checkpoint.json", step=4),
    "seconds null": lambda r: _edited(r / "checkpoint.json", seconds=None),
    "folder elsewhere": lambda r: _edited(r / "checkpoint.json", folder="../x"),
    "folder a number": lambda r: _edited(r / "checkpoint.json", folder=3),
    "folder unknown": lambda r: _edited(r / "checkpoint.json", folder="checkpoint-000009"),
    "arms empty": lambda r: _edited(r / "checkpoint.json", arms=[]),
    "arms of numbers": lambda r: _edited(r / "checkpoint.json", arms=[1, 2]),
    "rate not finite": lambda r: _edited(r / "checkpoint.json", arms=[{"lr": float("nan"), "dropout": 0, "balance": 0}] * 2),
    "dropout above": lambda r: _edited(r / "checkpoint.json", arms=[{"lr": 1, "dropout": 2, "balance": 0}] * 2),
    "changes a number": lambda r: _edited(r / "checkpoint.json", changes=3),
    "files elsewhere": lambda r: _edited(r / "checkpoint.json", files={"../../x": "0"}),
    "files empty": lambda r: _edited(r / "checkpoint.json", files={}),
    "folder gone": lambda r: shutil.rmtree(r / "checkpoint-000003"),
    "tensors gone": lambda r: (r / "checkpoint-000003" / "state.safetensors").unlink(),
    "tensors flipped": lambda r: _flip(r / "checkpoint-000003" / "state.safetensors"),
    "adapters flipped": lambda r: _flip(r / "checkpoint-000003" / "arms" / "1" / "adapter.safetensors"),
    "adapters gone": lambda r: (r / "checkpoint-000003" / "arms" / "0" / "adapter.safetensors").unlink(),
    "tensors cut": lambda r: (r / "checkpoint-000003" / "state.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
    "another value": lambda r: _tensors(r, False, **{"0__0__exp_avg": torch.zeros(1)}),
    "shape": lambda r: _tensors(r, True, **{"0__0__exp_avg": torch.zeros(3)}),
    "shape of the squares": lambda r: _tensors(r, True, **{"1__1__exp_avg_sq": torch.zeros(1, 1)}),
    "dtype": lambda r: _tensors(r, True, **{"0__0__exp_avg": torch.zeros(2, 128, dtype=torch.float64)}),
    "not finite": lambda r: _tensors(r, True, **{"0__0__exp_avg": torch.full((2, 128), torch.nan)}),
    "count of steps": lambda r: _tensors(r, True, **{"0__0__step": torch.zeros(2)}),
    "one lost": lambda r: _tensors(r, True, **{"0__0__exp_avg_sq": None}),
    "generator lost": lambda r: _tensors(r, True, **{"1__generator": None}),
    "generator short": lambda r: _tensors(r, True, **{"1__generator": torch.zeros(8, dtype=torch.uint8)}),
    "generator wrong": lambda r: _tensors(r, True, **{"1__generator": torch.full((5056,), 255, dtype=torch.uint8)}),
    "one too many": lambda r: _tensors(r, True, **{"7__0__exp_avg": torch.zeros(1)}),
    "an odd name": lambda r: _tensors(r, True, **{"0__x__exp_avg": torch.zeros(1)}),
}


def refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError) as found:
        Trainer.resume(folder)
    text = str(found.value)
    assert "\n" not in text and len(text) < 700 and name in text, text


@pytest.mark.parametrize("fault", HEADER)
def test_a_damaged_header(run, tmp_path, fault):
    shutil.copytree(run, tmp_path / "a")
    HEADER[fault](tmp_path / "a" / "run.json")
    refused(tmp_path / "a", "world/mood" if fault == "data other" else "frames.jsonl" if fault == "other steps" else "run.json")


@pytest.mark.parametrize("fault", FRAMES)
def test_damaged_frames(run, tmp_path, fault):
    shutil.copytree(run, tmp_path / "a")
    FRAMES[fault](tmp_path / "a")
    refused(tmp_path / "a", "frames.jsonl")


@pytest.mark.parametrize("fault", CHECKPOINT)
def test_a_damaged_checkpoint(run, tmp_path, fault):
    shutil.copytree(run, tmp_path / "a")
    CHECKPOINT[fault](tmp_path / "a")
    refused(tmp_path / "a", "frames.jsonl" if fault == "step of another frame" else "checkpoint")


def test_a_folder_that_cannot_be_written_is_one_sentence_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Trainer, "_build", None)  # not reached
    with pytest.raises(ConfigError, match=r"^out: '.*file/run' cannot be written \(.*\); give a directory that can\.$"):
        Trainer(config(), out=tmp_path / "file" / "run")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
def test_a_disk_that_fills_up_ends_the_run_with_one_sentence(run, tmp_path):
    shutil.copytree(run, tmp_path / "a")
    trainer = Trainer.resume(tmp_path / "a")
    (tmp_path / "a" / "frames.jsonl").rename(tmp_path / "kept")
    (tmp_path / "a" / "frames.jsonl").symlink_to("/dev/full")
    trainer._record.size = 0
    with pytest.raises(ConfigError, match="cannot be written .No space left on device"):
        next(trainer.frames())
    assert checkpoint.step(tmp_path / "a") == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no limits of a process here")
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_the_one_before_holds(run, tmp_path):
    import resource

    shutil.copytree(run, tmp_path / "a")
    trainer, before = Trainer.resume(tmp_path / "a"), resource.getrlimit(resource.RLIMIT_FSIZE)
    next(trainer.advance(1))
    kept, room = checkpoint.step(tmp_path / "a"), max(p.stat().st_size for p in (tmp_path / "a").glob("*.json*"))
    largest = max(p.stat().st_size for p in (tmp_path / "a").rglob("*.safetensors"))
    assert room < largest - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"^out: '.*' cannot be written \(File too large\); give a directory that can\.$"):
            trainer.save(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.step(tmp_path / "a") == kept
    trainer.save(tmp_path / "a")
    assert checkpoint.step(tmp_path / "a") == trainer.step
