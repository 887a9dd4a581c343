"""A visitor's session over the real Trainer: run, pause, step, resume, leave, and what it refuses."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from visiting import stream

from mosld.config import ConfigError, RunConfig
from mosld.probes.moments import moments
from mosld.training import checkpoint
from mosld.training.runlog import RunLog
from mosld.ui import carry
from mosld.ui import session as session_module
from mosld.ui.compute import computing
from mosld.ui.folders import Texts
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.sessions import Sessions, private_root
from mosld.ui.turns import Turns
from mosld.ui.watch.sentence import says

ROOT = Path(__file__).parents[2]
SMALL = {"batch": 2, "eval_rows": 10, "rank": 2, "tasks": "world/mood"}
WIDE = Limits.from_environment({})


@pytest.fixture
def session(tmp_path):
    made = Session(WIDE, tmp_path)
    yield made
    made.halt()


def drain(session) -> list[dict]:
    return [json.loads(text) for text in stream(session)]


def run_folder(session):
    """The directory of the session's last run."""
    return max(session.folder.glob("run-*"))


def steps_of(messages) -> list[int]:
    return [frame[0] for m in messages if m["k"] in ("run", "add") for frame in m["frames"]]


def whole(session) -> list:
    """All frames, as a page that has none gets them."""
    return [frame for m in map(json.loads, session.news()) if m["k"] == "run" for frame in m["frames"]]


def test_a_run_sends_every_step_once_and_is_on_disk(session):
    session.prepare(RunConfig(steps=3, **SMALL))
    messages = drain(session)
    assert steps_of(messages) == [0, 1, 2, 3]
    assert session.state == "ended" and messages[-1]["state"] == "ended"
    start = next(m for m in messages if m["k"] == "run")
    assert start["header"]["arms"] == ["dropout 0", "dropout 0.1"] and RunConfig.from_url(start["link"]) == session.config
    kept = RunLog.load(run_folder(session))
    assert [f.step for f in kept.frames] == [0, 1, 2, 3]
    assert whole(session) == [f for m in messages if m["k"] in ("run", "add") for f in m["frames"]]
    with pytest.raises(ConfigError, match="it has ended"):
        session.go_on()


def test_step_pause_and_resume_from_disk(tmp_path):
    first, second = Sessions(WIDE, tmp_path), Sessions(WIDE, tmp_path)
    session = first.of("a")
    session.prepare(RunConfig(steps=6, **SMALL), steps=1)
    assert steps_of(drain(session)) == [0, 1]
    session.go_on(2)
    assert steps_of(drain(session)) == [0, 1, 2, 3] and session.state == "paused"
    session.rested(20)
    later = second.attach("b", session.key)  # the server was started anew
    assert later.state == "paused" and [f[0] for f in whole(later)] == [0, 1, 2, 3] and "stopped at step 3 of 6: press Resume" in later.note
    later.go_on()
    assert steps_of(drain(later)) == [0, 1, 2, 3, 4, 5, 6] and later.state == "ended"
    assert (
        second.attach("c", "../" + session.key) is None and second.attach("c", "x" * 22) is None and second.attach("c", session.folder.name) is None
    )
    assert second.attach("c", session.key, unless_used=True) is None and second.attach("c", session.key) is later  # a reload, or a copied tab


def test_a_paused_run_is_kept(session):
    session.prepare(RunConfig(steps=500, **SMALL))
    told = stream(session)
    while not steps_of([json.loads(next(told))]):
        pass
    session.pause()
    assert session.rested(20)
    assert session.state == "paused"
    assert len(RunLog.load(run_folder(session)).frames) < 500
    assert list((run_folder(session)).rglob("*.safetensors"))


def test_a_hot_change_leaves_a_mark(session):
    session.prepare(RunConfig(steps=4, **SMALL), steps=1)
    drain(session)
    session.change(lr=0.5)
    session.go_on()
    frames = [f for m in drain(session) if m["k"] in ("run", "add") for f in m["frames"] if f[0] > 1]
    assert frames[0][2] == "change" and "lr" in frames[0][3] and "0.5" in frames[0][3]


def test_a_broken_start_says_so_in_one_sentence(session):
    session.prepare(RunConfig(steps=2, **{**SMALL, "rank": 200, "targets": "nowhere"}))
    last = drain(session)[-1]
    assert last["kind"] == "error" and last["note"].startswith(("targets:", "rank:")) and "\n" not in last["note"]
    assert session.state == "failed"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (RunConfig(tasks="world/moood"), "did you mean world/mood"),
        (RunConfig(tasks="/etc/secret.csv"), "cannot be named here"),
        (RunConfig(held_out="secret.jsonl"), "cannot be named here"),
        (RunConfig(steps=10_000), "steps: 10000 is not allowed on this page; give at most 600"),
        (RunConfig(batch=512, max_tokens=512, steps=600), "tokens"),
        (RunConfig(backbone="owner/huge"), "backbone: 'owner/huge' is not offered"),
    ],
)
def test_refusals_on_a_hosted_page(config, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        Session(Limits.from_environment({"SPACE_ID": "a/b"}), tmp_path).prepare(config)


def test_wall_clock_limit_pauses(tmp_path):
    session = Session(Limits.from_environment({"MOSLD_MAX_SECONDS": "1"}), tmp_path)
    session.prepare(RunConfig(steps=100_000, **SMALL))
    assert "a run may train 1 seconds" in drain(session)[-1]["note"] and session.state == "paused"


def test_a_run_has_its_threads_whoever_else_trains():
    before, turns = torch.get_num_threads(), Turns(workers=2, threads=1)
    try:
        with computing(turns) as turn:
            assert torch.get_num_threads() == 1
            with computing(turns) as inner:  # of the same thread: the turn that it has
                assert inner is turn
    finally:
        torch.set_num_threads(before)


def test_limits_name_a_bad_variable():
    with pytest.raises(ConfigError, match="MOSLD_RUNS: 'x'"):
        Limits.from_environment({"MOSLD_RUNS": "x"})


def test_looking_makes_no_session_and_the_longest_rested_gives_way(tmp_path):
    sessions = Sessions(Limits.from_environment({"MOSLD_VISITORS": "2"}), tmp_path)
    for visitor in "abcdefgh":
        assert sessions.look(visitor).state == "idle"
    first, second = sessions.of("a"), sessions.of("b")
    assert sessions.of("a") is first and sessions.look("b") is second
    second.prepare(RunConfig(steps=3, **SMALL))
    drain(second)
    second.rested(20)
    third = sessions.of("c")  # `first` has rested longest
    assert sessions.by_key(first.key) is None and sessions.by_key(third.key) is third
    sessions.of("d")
    assert sessions.by_key(second.key) is None  # but its run is on disk, and its key opens it
    again = sessions.attach("b", second.key)
    assert again.state == "ended" and again.ask(lambda trainer: trainer.step) == 3


def test_a_page_is_full_only_while_all_train(tmp_path):
    sessions = Sessions(Limits.from_environment({"MOSLD_VISITORS": "1"}), tmp_path)
    busy = sessions.of("a")
    busy.prepare(RunConfig(steps=5000, **SMALL))
    with pytest.raises(ConfigError, match="1 are training here already"):
        sessions.of("b")
    assert sessions.close() == 1 and busy.state == "paused"  # what the server does at its end
    assert (max(busy.folder.glob("run-*")) / "run.json").exists()
    assert sessions.of("b") is not busy


def test_folders_are_closed_to_others_and_their_names_are_no_keys(session):
    session.prepare(RunConfig(steps=1, **SMALL))
    drain(session)
    assert session.folder.stat().st_mode & 0o077 == 0 and session.key not in str(session.folder)


def test_old_folders_are_cleared_and_strangers_left_alone(tmp_path):
    old, stranger = tmp_path / ("s-" + "0" * 32), tmp_path / "notes"
    for folder in (old, stranger):
        folder.mkdir()
        os.utime(folder, (time.time() - 9999, time.time() - 9999))
    Sessions(WIDE, tmp_path).of("a")
    assert not old.exists() and stranger.exists()


def test_a_page_that_missed_frames_gets_them_in_pieces(session, monkeypatch):
    session.prepare(RunConfig(steps=9, **SMALL))
    drain(session)
    monkeypatch.setattr(session_module, "PIECE", sum(map(len, session._frames)) // 3)
    got, number, at, mark, sizes = [], -1, 0, "", []
    while texts := session.news(number, at, mark):
        for m in map(json.loads, texts):
            if m["k"] in ("run", "add"):
                got += m["frames"]
                number, at = m["run"], len(got)
                sizes.append(len(m["frames"]))
            mark = m.get("mark", mark)
    assert [f[0] for f in got] == list(range(10)) and max(sizes) < 10 and len(sizes) >= 2 and mark


def test_packed_frames_are_read_from_their_file_in_pieces(tmp_path):
    texts, said = Texts(tmp_path / "page.jsonl"), [f'[{i},"{"é" * (i % 7)}"]' for i in range(40)]
    assert list(texts) == [] and texts.piece(0, 100) == []
    for text in said:
        texts.append(text)
    assert list(texts) == said and len(texts) == 40
    assert texts.piece(3, 1) == said[3:4] and texts.piece(40, 100) == [] and texts.piece(38, 10_000) == said[38:]
    texts.cut(5)
    texts.append("[5]")
    assert list(texts) == [*said[:5], "[5]"]


def test_a_run_that_goes_on_from_disk_knows_its_past(session, monkeypatch):
    """Its sentences and moments are of all its frames, not of those before or after the break alone."""
    config = RunConfig(steps=30, probe_every=1, eval_every=10, warmup=0, lr=0.01, **SMALL)
    session.prepare(config, 14)
    drain(session)
    assert session.park() and session._run.packer.log.frames == []
    session.go_on()
    drain(session)
    frames, log = whole(session), RunLog.load(run_folder(session))
    assert [f[0] for f in frames] == list(range(31))
    assert frames[-1][7] == moments(log) and frames[-1][6] in (0, says(log, log.frames[-1]))


def test_nobody_looking_pauses_the_run_at_a_checkpoint(session, monkeypatch):
    monkeypatch.setattr(carry, "AWAY_SECONDS", 0.2)
    session.prepare(RunConfig(steps=100_000, **SMALL))
    assert session.rested(60) and session.state == "paused" and session.note.endswith("nobody was looking.")
    step = whole(session)[-1][0]
    assert session.trainer is None  # its memory is given back
    session.go_on(2)
    monkeypatch.setattr(carry, "AWAY_SECONDS", 20)
    assert session.rested(60) and session.trainer.step == step + 2  # opened again from disk


def test_own_files_have_names_and_no_paths(session, tmp_path):
    file = tmp_path / "even numbers.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(60)))
    name, words = session.keep(file)
    assert name == "own/even_numbers.jsonl" and words
    session.prepare(RunConfig(steps=1, **{**SMALL, "tasks": f"{name},world/mood"}))
    told = "".join(stream(session))
    assert session.state == "ended" and str(session.folder) not in told and "even_numbers" in told and "even_numbers" not in session.link()
    other = tmp_path / "picture.png"
    other.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^file: 'picture.png' is not allowed; give one that ends in .jsonl"):
        session.keep(other)


def test_a_question_is_answered_between_two_steps(session):
    with pytest.raises(ConfigError, match="press Run mine first"):
        session.ask(lambda trainer: trainer.step)
    told = threading.Thread(target=lambda: list(stream(session)))
    session.prepare(RunConfig(steps=40, **SMALL))
    told.start()
    while session.trainer is None:
        time.sleep(0.01)
    first = session.ask(lambda trainer: trainer.step)
    second = session.ask(lambda trainer: trainer.step)
    with pytest.raises(ZeroDivisionError):
        session.ask(lambda trainer: 1 / 0)
    told.join()
    assert 0 <= first <= second <= 40 and session.state == "ended"
    assert session.ask(lambda trainer: trainer.step) == 40


def test_a_process_that_ends_during_a_run_waits_for_its_step(tmp_path):
    """Its threads are inside the tensor library, which would end the process by a signal."""
    code = """
import sys, time
from pathlib import Path
from mosld.config import RunConfig
from mosld.ui import carry
from mosld.ui.limits import Limits
from mosld.ui.session import Session

carry.AWAY_SECONDS = 10**6
session = Session(Limits.from_environment({}), Path(sys.argv[1]))
session.prepare(RunConfig(steps=100_000, batch=2, eval_rows=10, rank=2, tasks="world/mood"))
while session.busy and not len(session._frames) > 3:
    time.sleep(0.01)
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = tmp_path.glob("s-*/run-0001")
    frames = RunLog.load(folder).frames
    assert len(frames) > 3 and checkpoint.step(folder) == frames[-1].step


def test_runs_lie_where_tmpdir_says_or_it_is_said(tmp_path, monkeypatch, capsys):
    for place in ("runs", "mine"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "runs"))
    root = private_root()
    assert root.parent == tmp_path / "runs" and root.stat().st_mode & 0o777 == 0o700 and private_root() == root and capsys.readouterr().out == ""
    root.rmdir()
    root.symlink_to(tmp_path / "mine")  # somebody else's doing
    other = private_root()
    assert other.parent == root.parent and other.stat().st_mode & 0o777 == 0o700 and "not found again" in capsys.readouterr().out
    for wrong in (root / "none", __file__):
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("TMPDIR", str(wrong))
        with pytest.raises(ConfigError, match="^TMPDIR: '.*' cannot be written here by user"):
            private_root()
