"""What the end of a run says: own files by their names, and which tasks fell below the untrained backbone."""

import json

import pytest

from mosld import tasks
from mosld.config import RunConfig
from mosld.studies.summary import advice, short
from mosld.training import RunLog
from mosld.training.frame import ArmFrame, Frame


def log(*accuracies, rows=100):
    """A run of one task scored before training and after it, in one arm or two; the log holds no more than `advice` looks at."""
    config = RunConfig(tasks="world/mood", steps=1, eval_rows=rows, arms="dropout=0,0.1" if len(accuracies) == 3 else "")
    frames = [
        Frame(0, [ArmFrame(None, 0.0, 0.0, 0.0, {"world/mood": accuracies[0]}) for _ in accuracies[1:]], "start"),
        Frame(1, [ArmFrame(1.0, 0.0, 0.003, 0.0, {"world/mood": a}) for a in accuracies[1:]], "end"),
    ]
    one = {"world/mood": 0.25}
    made = RunLog(
        config=config, arms=config.arm_names(), tasks=["world/mood"], held_out=[], chance=one, majority=one, linears=[], parameters=[], versions={},
        data={},
    )  # fmt: skip
    made.frames = frames
    return made


def test_a_fall_is_named_with_what_helps_and_chance_is_no_fall():
    # Of 100 questions: .60 to .40 is 2.9 standard errors, .60 to .55 is .7.
    assert (
        advice(log(0.6, 0.4))
        == "Fell below the untrained backbone: world/mood from 0.60 to 0.40. A smaller learning rate helps most (try --lr 0.001)."
    )
    assert advice(log(0.6, 0.55)) == (
        "Below the untrained backbone by no more than chance can give with 100 questions a task: world/mood from 0.60 to 0.55. "
        "A smaller learning rate helps most (try --lr 0.001)."
    )
    assert advice(log(0.6, 0.58)) == "" and advice(log(0.6, 0.9)) == ""  # .3 standard errors
    assert "0.60 to 0.55" in advice(log(0.6, 0.55, rows=5000))  # 5 standard errors
    assert advice(log(0.6, 0.4, 0.9)) == ""  # one arm did not fall


def test_own_files_are_found_again_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"question": f"{n}?", "options": ["a", "b"], "answer": n % 2}) + "\n" for n in range(30)))
    monkeypatch.chdir(tmp_path)
    config = tasks.settled(RunConfig(tasks="mine.jsonl:2,world/mood", held_out="world/place"))
    (name, _) = config.tasks
    assert (
        config.tasks == {str(tmp_path / "mine.jsonl"): 2.0, "world/mood": 1.0} and short(name) == "mine.jsonl" and short("world/mood") == "world/mood"
    )
    monkeypatch.chdir("/")
    assert len(tasks.load(name).train) == 18
    with pytest.raises(tasks.ConfigError, match="is not a file"):
        tasks.settled(RunConfig(tasks="mine.jsonl"))
