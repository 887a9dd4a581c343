"""A visitor's session over the real Trainer: run, pause, step, resume, leave, and what it refuses."""

import json
import threading
import time

import pytest
import torch

from mosld.config import ConfigError, RunConfig
from mosld.training.runlog import RunLog
from mosld.ui import session as session_module
from mosld.ui.limits import Limits
from mosld.ui.session import Session, share_cores
from mosld.ui.sessions import Sessions

SMALL = {"batch": 2, "eval_rows": 10, "rank": 2, "tasks": "world/mood"}
WIDE = Limits.from_environment({})


@pytest.fixture
def session(tmp_path):
    made = Session(WIDE, tmp_path)
    yield made
    made.halt()


def drain(session) -> list[dict]:
    return [json.loads(text) for text in session.stream()]


def run_folder(session):
    """The directory of the session's last run."""
    return max(session.folder.glob("run-*"))


def steps_of(messages) -> list[int]:
    return [frame[0] for m in messages if m["k"] == "add" for frame in m["frames"]]


def test_a_run_sends_every_step_once_and_is_on_disk(session):
    session.prepare(RunConfig(steps=3, **SMALL))
    messages = drain(session)
    assert steps_of(messages) == [0, 1, 2, 3]
    assert session.state == "ended" and messages[-1]["state"] == "ended"
    start = next(m for m in messages if m["k"] == "run")
    assert start["header"]["arms"] == ["dropout 0", "dropout 0.1"] and RunConfig.from_url(start["link"]) == session.config
    kept = RunLog.load(run_folder(session))
    assert [f.step for f in kept.frames] == [0, 1, 2, 3]
    assert json.loads(session.whole())["frames"] == [f for m in messages if m["k"] == "add" for f in m["frames"]]
    with pytest.raises(ConfigError, match="it has ended"):
        session.go_on()


def test_step_pause_and_resume_from_disk(session, tmp_path):
    session.prepare(RunConfig(steps=6, **SMALL), steps=1)
    assert steps_of(drain(session)) == [0, 1]
    session.go_on(2)
    assert steps_of(drain(session)) == [2, 3] and session.state == "paused"
    later = Session(WIDE, tmp_path)
    later.adopt(session.key)
    assert later.state == "paused" and [f[0] for f in json.loads(later.whole())["frames"]] == [0, 1, 2, 3]
    later.go_on()
    assert steps_of(drain(later)) == [4, 5, 6] and later.state == "ended"
    with pytest.raises(ConfigError, match="is gone"):
        later.adopt("../" + session.key)


def test_a_closed_page_pauses_the_run_and_keeps_it(session):
    session.prepare(RunConfig(steps=500, **SMALL))
    stream = session.stream()
    while not steps_of([json.loads(next(stream))]):
        pass
    stream.close()
    session._job.thread.join(20)
    assert session.state == "paused"
    assert len(RunLog.load(run_folder(session)).frames) < 500
    assert list((run_folder(session)).rglob("*.safetensors"))


def test_a_hot_change_leaves_a_mark(session):
    session.prepare(RunConfig(steps=4, **SMALL), steps=1)
    drain(session)
    session.change(lr=0.5)
    session.go_on()
    frames = [f for m in drain(session) if m["k"] == "add" for f in m["frames"]]
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


def test_runs_share_the_cores(monkeypatch):
    monkeypatch.setattr(session_module, "_cores", {"most": 8, "runs": 0})
    before = torch.get_num_threads()
    try:
        with share_cores() as one, share_cores() as two, share_cores() as three:
            assert (one, two, three) == (8, 4, 2) and torch.get_num_threads() == 2
        with share_cores() as alone:
            assert alone == 8  # who left no longer counts
    finally:
        torch.set_num_threads(before)


def test_limits_name_a_bad_variable():
    with pytest.raises(ConfigError, match="MOSLD_RUNS: 'x'"):
        Limits.from_environment({"MOSLD_RUNS": "x"})


def test_a_full_page_and_leaving_it(tmp_path):
    sessions = Sessions(Limits.from_environment({"MOSLD_VISITORS": "1"}), tmp_path)
    first = sessions.of("a")
    assert sessions.of("a") is first
    with pytest.raises(ConfigError, match="1 are here already"):
        sessions.of("b")
    sessions.drop("a")
    assert sessions.of("b") is not first


def test_old_folders_are_cleared_and_strangers_left_alone(tmp_path):
    import os

    old, stranger = tmp_path / ("x" * 22), tmp_path / "notes"
    for folder in (old, stranger):
        folder.mkdir()
        os.utime(folder, (time.time() - 9999, time.time() - 9999))
    Sessions(WIDE, tmp_path).of("a")
    assert not old.exists() and stranger.exists()


def test_a_question_is_answered_between_two_steps(session):
    with pytest.raises(ConfigError, match="press Run first"):
        session.ask(lambda trainer: trainer.step)
    session.prepare(RunConfig(steps=40, **SMALL))
    told = threading.Thread(target=lambda: list(session.stream()))
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
