"""Questions: texts without a run's number, rules against runs made by hand, and the recorded runs that are shipped."""

import dataclasses
import gzip
import json
import re

import gradio as gr
import pytest

from mosld.config import RunConfig
from mosld.studies.claims.report import rows
from mosld.studies.claims.results import FOLDER
from mosld.tasks import catalogue
from mosld.training.frame import ArmFrame, Frame, LinearProbe
from mosld.training.runlog import LinearInfo, RunLog
from mosld.ui import record
from mosld.ui.controls import Controls, task_choices
from mosld.ui.evidence import quoted
from mosld.ui.handlers import Handlers
from mosld.ui.learn.lessons import LESSONS
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions
from mosld.ui.watch.questions import QUESTIONS
from mosld.ui.wire import mark


def made(config: RunConfig, ends, imbalance=None, reads=None, idle=None) -> RunLog:
    """A run with one routed linear of four experts; lists hold one value an arm."""
    arms, tasks = config.arm_names(), list(config.tasks)
    infos = [LinearInfo("l", 0, "q", 4)]
    log = RunLog(config, arms, tasks, [], dict.fromkeys(tasks, 0.25), {}, [infos] * len(arms), [1] * len(arms), {}, {})
    row = [[0.5] * 4] * len(tasks)
    for step in (1, config.steps):
        frames = []
        for i, end in enumerate(ends):
            bits = reads[i] if reads else (0.0, 0.0)
            p = LinearProbe(
                row, row, 1.0, 4.0, idle[i] if idle else 0, 0.5, 0.0, [1.0], [1.0] * 4, [1.0] * 4, None, (imbalance or [[0.0] * 4] * 9)[i]
            )
            p = dataclasses.replace(p, most=1.0, reads=[bits[0], 0.0, bits[1], 0.0, 0.0])
            frames.append(ArmFrame(1.0, 0.0, 0.1, 0.0, dict.fromkeys(tasks, end) if step > 1 else None, [p]))
        log.append(Frame(step, frames, "end" if step > 1 else ""))
    return log


def answer(name: str, **given) -> int:
    return QUESTIONS[name].evaluate(made(QUESTIONS[name].config, **given))[0]


@pytest.mark.parametrize(
    ("other", "index"), [([0.5, 0.2, 0.1, 0.3], 0), ([0.85, 0.5, 0.3, -0.7], 1), ([1.0, 0.5, 0.3, -0.7], 2), ([1.2, 0.6, 0.4, -0.9], 2)]
)
def test_dropout_by_hand(other, index):
    assert answer("dropout", ends=[0.8, 0.8], imbalance=[[1.0, 0.5, 0.3, -0.7], other]) == index


def test_specialists_collapse_and_arms_by_hand():
    for bits, index in ((0.01, 0), (0.3, 1), (0.8, 2)):
        assert answer("specialise", ends=[0.8, 0.8], reads=[(0.5, bits), (0.5, 0.0)]) == index
    for idle, index in (((2, 0), 0), ((2, 2), 1), ((0, 0), 2)):
        assert answer("collapse", ends=[0.2, 0.2], idle=idle) == index
    for ends, index in (((0.9, 0.7), 0), ((0.7, 0.9), 1), ((0.8, 0.79), 2)):
        assert answer("share", ends=ends) == answer("conflict", ends=ends) == index
    assert answer("optimisers", ends=[0.8, 0.8], imbalance=[[1, -3.0, 0.1, 0], [1, -3.0, -3.0, -2]]) == 0
    assert answer("optimisers", ends=[0.8, 0.8], imbalance=[[1, -3.0, -2.9, 0], [1, -3.0, -3.0, -2]]) == 1


def test_no_text_holds_a_number_of_a_run():
    for q in QUESTIONS.values():
        assert 2 <= len(q.answers) <= 3 and q.title.endswith("?") and len(q.title) < 50
        shown = {float(v) for v in re.findall(r"\d+\.\d+|\d+", q.about)}
        assert shown <= {float(v) for arm in q.config.arms for v in arm.values() if isinstance(v, (int, float))}  # settings only


def recorded(name: str) -> dict:
    data = record.recorded(name)
    if data is None:
        pytest.fail(f"no recorded run of {name}: python -m mosld.ui.record {name}")
    return json.loads(gzip.decompress(data))


@pytest.mark.parametrize("name", list(record.runs()))
def test_a_recorded_run_is_of_its_settings_and_carries_its_answer(name):
    if name in ("reads", "lesson-7") and "router" not in RunConfig.model_fields:
        pytest.skip("what a router reads cannot be chosen yet")
    configs, _, lesson = record.runs()[name]
    run, answers = recorded(name), (lesson or QUESTIONS[name]).answers
    assert run["header"]["mark"] == mark(configs[-1])  # made anew whenever the settings changed
    assert run["frames"][0][0] == 0 and run["frames"][-1][0] == configs[-1].steps and run["frames"][-1][2] == "end"
    assert 0 <= run["told"]["answer"] < len(answers) and run["told"]["sentence"].endswith(".")
    assert all(isinstance(text, str) for frame in run["frames"] if frame[6] for text in frame[6])
    assert bool(lesson and lesson.beside) == bool(run["told"].get("beside"))


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in record.FOLDER.glob("*")) <= record.MOST_BYTES
    assert {path.name for path in record.FOLDER.glob("*")} <= {f"{name}.json.gz" for name in record.runs()}


def test_choosing_a_question_fills_the_controls(tmp_path):
    controls = Controls(task_choices(catalogue()))
    with gr.Blocks():
        controls.add("tasks", "method", "router")
        for part in (controls.compare, controls.front, controls.shape, controls.rest):
            part()
    handlers = Handlers(Sessions(Limits.from_environment({}), tmp_path), controls)
    visitor = gr.Request(session_hash="visitor", query_params={})
    for name, q in QUESTIONS.items():
        _, *values = handlers.question(visitor, gr.EventData(None, {"name": name}))
        assert controls.read(*values) == q.config
    for wrong in ({"name": "nothing"}, None, {}):
        assert all(v == gr.skip() for v in handlers.question(visitor, gr.EventData(None, wrong)))


# What the registered study says stands beside questions and lessons.


def test_what_is_quoted_of_the_study_is_what_its_report_says():
    lines = re.findall(r"^\| C\d+ .*$", (FOLDER / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    table = {line.split()[1]: line for line in reversed(lines)}  # the first table's
    claims = dict.fromkeys(c for told in (*QUESTIONS.values(), *LESSONS) for c in told.claims)
    assert len(table) == 11 and len(claims) >= 6
    for line in quoted(tuple(claims)):
        row = next(r for r in rows() if r["id"] == line["id"])
        for reading, figure in (("recipe", "figure"), ("tuned", "figure_tuned")):
            verdict = row["verdict"][reading]
            assert verdict in table[line["id"]] and row[figure] in table[line["id"]]
            assert (f"{verdict} with" in line["text"] and row[figure] in line["text"]) or verdict == "not registered"
        assert row["title"] in line["text"] and row["caution"] in line["text"]


def test_no_text_states_a_verdict_of_its_own():
    """A lesson asks, cites the paper's numbers and explains; what holds is left to runs and to the study."""
    told = re.compile(
        r"\b(supported|contradicted|outperforms?|beats?|proves?|improves?|wins?|is (clearly |always |never )?(better|worse|superior|useless))\b"
    )
    for lesson in LESSONS:
        for text in (*lesson.text, lesson.title, lesson.question):
            assert not told.search(text), text
    for question in QUESTIONS.values():
        assert not told.search(question.title) and not told.search(question.about)
