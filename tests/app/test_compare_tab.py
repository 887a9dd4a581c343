"""The Compare tab over real, tiny runs: its table is what the run directories say, and each task alone is a run of its own."""

import dataclasses
import json
import math
import os
import re

import gradio as gr
import pytest
from visiting import stream

from mosld.config import ConfigError, RunConfig
from mosld.studies.claims.arms import SETTINGS, quick
from mosld.tasks import catalogue
from mosld.training.runlog import RunLog
from mosld.ui.compare import anew, claims
from mosld.ui.compare.anew import draw_alone, over_seeds, plan_alone
from mosld.ui.compare.shelf import overlay, shelf, table
from mosld.ui.controls import Controls, task_choices
from mosld.ui.folders import runs
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions
from mosld.ui.work import Desk

SMALL = {"batch": 2, "eval_rows": 10, "rank": 2, "layers": 1, "tasks": "world/mood:3,world/place", "warmup": 0}
VISITOR = gr.Request(session_hash="visitor")


def made(root, environ) -> Lab:
    handlers = Handlers(Sessions(Limits.from_environment(environ), root), Controls(task_choices(catalogue())))
    return Lab(handlers, feed=None, memory=None)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A visitor with two runs: two arms with a held-out task, then LoRA."""
    lab = made(tmp_path_factory.mktemp("sessions"), {})
    session = lab.visitor(VISITOR)
    for config in (RunConfig(steps=4, held_out="world/tense", **SMALL), RunConfig(steps=4, method="lora", arms="", **SMALL)):
        session.prepare(config)
        list(stream(session))
    return lab


def column(data: dict, name: str, under: str | None = None) -> list[str]:
    at = next(i for i, cell in enumerate(data["head"]) if (cell["text"], cell["under"]) == (name, under))
    return [row["cells"][at - 1]["text"] if at else row["name"] for row in data["rows"]]


def test_the_table_is_what_the_runs_say(lab):
    session = lab.visitor(VISITOR)
    data = table(shelf(session))
    first, second = (RunLog.load(folder) for folder in runs(session.folder))
    names = ["chance", "commonest answer", "untrained backbone", "Run 1, dropout 0", "Run 1, dropout 0.1", "Run 2"]
    assert column(data, "Run and arm") == names
    assert all(len(row["cells"]) == len(data["head"]) - 1 for row in data["rows"])
    last = [a.accuracy for log in (first, second) for a in log.frames[-1].arms]
    assert column(data, "mood")[3:] == [f"{a['world/mood']:.3f}" for a in last]
    assert column(data, "Mean", "mixture")[5] == f"{(last[2]['world/mood'] + last[2]['world/place']) / 2:.3f}"
    assert column(data, "tense", "held out")[3:] == [*(f"{a['world/tense']:.3f}" for a in last[:2]), "–"]
    assert column(data, "Method")[3:] == ["MoSLD", "MoSLD", "LoRA"] and column(data, "Dropout rate")[3:] == ["0", "0.1", "0"]
    # q and v of one layer of width 128, rank 2: MoSLD has one A, four B and a router; LoRA one of each
    assert column(data, "Parameters", "trainable")[3:] == ["3,584", "3,584", "1,024"] and 2 * (2 * 128 + 4 * 2 * 128 + 4 * 128) == 3584
    assert column(data, "Scored on")[3] == "test rows" and float(column(data, "ms a step", "all arms")[5]) > 0
    assert RunConfig.from_url(data["rows"][5]["link"].removeprefix("?c=")) == second.config


def test_what_was_read_is_kept_until_it_changes(lab):
    session = lab.visitor(VISITOR)
    before, after = shelf(session), shelf(session)
    assert all(after[name] is before[name] for name in before) and list(after) == ["run-0001", "run-0002"]
    frames = session.folder / "run-0002" / "frames.jsonl"
    os.utime(frames, ns=(1, 1))  # as if it had been written anew
    assert shelf(session)["run-0002"] is not before["run-0002"] and shelf(session)["run-0001"] is before["run-0001"]


def test_an_own_file_stays_out_of_table_and_link(lab):
    session = lab.visitor(VISITOR)
    kept = shelf(session)
    config = kept["run-0002"].config.replace(tasks={"/secret/place/mine.csv": 1.0, "world/mood": 1.0})
    data = table({**kept, "run-0003": dataclasses.replace(kept["run-0002"], config=config)})
    assert "secret" not in json.dumps(data) and "mine.csv" in column(data, "Tasks")[6]
    assert RunConfig.from_url(data["rows"][6]["link"].removeprefix("?c=")).tasks == {"world/mood": 1.0}


def test_two_arms_over_one_another(lab):
    kept = shelf(lab.visitor(VISITOR))
    data = json.loads(overlay(kept, "run-0001/1", "run-0002/0"))
    (data,) = data["parts"]
    assert data["names"] == ["Run 1, dropout 0.1", "Run 2"] and {c["steps"] for c in data["charts"]} == {4}
    log = RunLog.load(lab.visitor(VISITOR).folder / "run-0001")
    loss = next(c for c in data["charts"] if c["title"] == "loss")
    assert loss["series"][0] == [[f.step, pytest.approx(f.arms[1].loss, rel=1e-4)] for f in log.frames[1:]]
    held = next(c for c in data["charts"] if c["title"] == "tense (held out)")
    assert held["series"][1] == [] and [s for s, _ in held["series"][0]] == [0] and held["chance"] == pytest.approx(1 / 3, abs=0.01)
    # the test questions are others than those of the curve: their value stands apart
    assert held["apart"] == [pytest.approx(log.frames[-1].arms[1].accuracy["world/tense"], rel=1e-4), None]
    titles = [c["title"] for c in data["charts"]]
    assert titles[:3] == ["loss", "mean accuracy", "evenness of the gates"] and sum(t.startswith("imbalance: ") for t in titles) == 4
    for wrong in ("run-0009/0", None, "run-0001/7", {"a": 1}):
        with pytest.raises(ConfigError, match="is not on the shelf"):
            overlay(kept, wrong, "run-0002/0")


def test_nothing_yet():
    data = table({})
    assert data["rows"] == [] and "There is none yet: press Run mine in Watch." in data["note"]


def desk(lab: Lab) -> Desk:
    return Desk(lab, "compare-alone", draw_alone, [None], [None], [None])


def plan(lab: Lab, run, by) -> tuple:
    return desk(lab).begin(plan_alone)(VISITOR, None, run, by)


def press(lab: Lab, run, by, stop: int | None = None) -> tuple[list[dict], str]:
    """Press the button, and Stop once a step beyond `stop` is made: the table in the end, and its sentence."""
    told = plan(lab, run, by)[1]
    assert "Waiting" in told["note"]
    for _, told, *_ in desk(lab).carry(VISITOR):
        step = re.search(r"step (\d+) of", told["note"])
        if stop is not None and step and int(step[1]) > stop:
            desk(lab).halt(VISITOR)
    return told["rows"], told["note"]


def test_each_task_alone(lab):
    session = lab.visitor(VISITOR)
    rows, sentence = press(lab, "run-0001", "steps")
    assert sentence == "Run 1. Each task has been trained alone, with as many steps."
    folders = [session.folder / "alone" / "run-0001.steps" / n for n in "12"]
    logs = [RunLog.load(folder) for folder in folders]
    assert [log.tasks for log in logs] == [["world/mood"], ["world/place"]] and [log.frames[-1].step for log in logs] == [4, 4]
    assert [row["name"] for row in rows] == ["dropout 0, mood", "dropout 0, place", "dropout 0.1, mood", "dropout 0.1, place"]
    mixture = RunLog.load(session.folder / "run-0001")
    for row, (arm, n) in zip(rows, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        task = logs[n].tasks[0]
        alone, mixed = (log.frames[-1].arms[arm].accuracy[task] for log in (logs[n], mixture))
        assert (row["alone"], row["mixture"]) == (f"{100 * alone:.1f} %", f"{100 * mixed:.1f} %") and row["percent"] == 100 * mixed
        assert {m["kind"]: m["at"] for m in row["marks"]} == {"chance": 100 * mixture.chance[task], "own": 100 * alone}
        assert float(row["gap"].replace("−", "-")) == pytest.approx(100 * (mixed - alone), abs=0.06)
    assert logs[0].data["world/mood"] == mixture.data["world/mood"]  # the same rows
    assert list(shelf(session)) == ["run-0001", "run-0002"]  # they are not on the shelf
    before = [(folder / "frames.jsonl").stat().st_mtime_ns for folder in folders]
    assert press(lab, "run-0001", "steps")[0] == rows  # all are done: none is trained again
    assert [(folder / "frames.jsonl").stat().st_mtime_ns for folder in folders] == before
    assert [c.steps for c in plan_alone(session, None, "run-0001", "questions").configs.values()] == [3, 1]


def test_stopped_and_gone_on_with(lab, monkeypatch):
    kept = shelf(lab.visitor(VISITOR))["run-0002"]
    long = dataclasses.replace(kept, config=kept.config.replace(steps=5000))
    monkeypatch.setattr(anew, "shelf", lambda session: {"run-0007": long})

    def stopped_at(beyond: int) -> int:
        rows, sentence = press(lab, "run-0007", "steps", stop=beyond)
        assert [row["alone"] for row in rows] == ["–", "–"]
        return int(re.fullmatch(r"Run 7\. Stopped at mood alone, 1 of 2: step (\d+) of 5000; press the button to go on\.", sentence)[1])

    first = stopped_at(0)
    assert 0 < first < 5000 and first < stopped_at(first) < 5000


def test_a_closed_page_stops_the_tasks_alone(lab):
    plan(lab, "run-0002", "steps")
    carried = desk(lab).carry(VISITOR)
    next(carried)
    work = lab.visitor(VISITOR).tabs["compare-alone"]
    carried.close()
    work.thread.join(300)
    assert not work.thread.is_alive() and work.halt.is_set()


@pytest.mark.parametrize(
    ("run", "by", "words"),
    [
        ("run-0009", "steps", "run: 'run-0009' is not on the shelf"),
        (None, "steps", "is not on the shelf"),
        ("../run-0001", "steps", "is not on the shelf"),
        ("run-0001", "../x", "alone: '../x' is not allowed; choose one of questions, steps"),
    ],
)
def test_refusals_are_one_sentence(lab, run, by, words):
    feed, *others = plan(lab, run, by)
    told = json.loads(feed)
    assert told["kind"] == "error" and words in told["note"] and len(others) == 3


def test_a_run_under_way_and_a_page_that_is_too_small(tmp_path):
    lab = made(tmp_path, {"MOSLD_MAX_TOKENS": "1100"})  # two arms of batch 2, 64 tokens: four steps are 1,024
    session = lab.visitor(VISITOR)
    session.prepare(RunConfig(steps=4, **SMALL), 1)
    list(stream(session))
    assert "has not come to its end" in json.loads(plan(lab, "run-0001", "steps")[0])["note"]
    session.go_on()
    list(stream(session))
    assert "2,048 tokens for all 2 runs together are not allowed" in json.loads(plan(lab, "run-0001", "steps")[0])["note"]
    assert "Waiting" in plan(lab, "run-0001", "questions")[1]["note"]


def test_seeds_give_mean_spread_and_the_paired_interval_in_words():
    shares = [[0.80, 0.90], [0.81, 0.92], [0.79, 0.91]]  # differences .10, .11, .12
    out = over_seeds(["a", "b"], shares, 600)
    assert [row["mean"] for row in out["rows"]] == ["0.800", "0.910"] and out["rows"][0]["spread"] == "0.010"
    # t(2) = 4.303 times the larger of the spread, .01, and what 600 questions allow, over the root of 3
    rows = math.sqrt(sum(a * (1 - a) + b * (1 - b) for a, b in shares) / 3 / 600)
    half = 4.3027 * max(0.01, rows) / math.sqrt(3)
    assert out["rows"][1]["against"] == f"+0.110 [{0.11 - half:+.3f}, {0.11 + half:+.3f}]" and out["words"][0].startswith(
        "b is above a: over 3 seeds"
    )
    assert over_seeds(["a", "b"], [[0.8, 0.7], [0.7, 0.8], [0.8, 0.8]], 600)["words"][0].startswith("b and a are not told apart")
    assert over_seeds(["a", "b"], shares[:1], 600)["words"] == ["One seed says nothing about seeds."]


# A quick version of a claim.


def test_a_quick_version_of_a_claim_stands_beside_the_stored_result(tmp_path):
    small = dataclasses.replace(quick(SETTINGS["nano-world"]), steps=2, seeds=2, scored=4)
    work, told = claims.Quick("C3", tmp_path / "claims", Limits.from_environment({}), small), []
    work.train(lambda sentence, share=None: told.append(sentence))
    assert [t.split(":")[0] for t in told] == [f"Run {n} of 4" for n in range(1, 5)]
    row = next(r for r in claims.found(work, "done")["rows"] if r["id"] == "C3")
    (line,) = row["live"]
    assert "MoSLD minus MoSL" in line and "2 seeds" in line and f"Stored: {row['recipe']} {row['figure']}." in line and row["told"] == "done"
    again = claims.Quick("C3", tmp_path / "claims", Limits.from_environment({}), small)
    again.train(lambda *_: pytest.fail("it was trained again"))
    assert again.live == work.live
    assert all(not r["live"] and not r["told"] for r in claims.found(work)["rows"] if r["id"] != "C3")


def test_the_quick_version_of_c1_counts(tmp_path):
    work = claims.Quick("C1", tmp_path, Limits.from_environment({}))
    work.train(lambda *_: None)
    assert "MoLA 22,282,240" in work.live[0] and "MoSLD 13,893,632" in work.live[0]
