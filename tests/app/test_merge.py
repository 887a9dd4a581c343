"""The Merge tab's handlers over real adapters: what it trains, re-scores and merges, what it refuses, and what it says a method has seen."""

import json

import gradio as gr
import pytest
from torch.func import functional_call

from mosld import backbones, tasks
from mosld.adapters import attach
from mosld.merging.config import SEES
from mosld.tasks import catalogue
from mosld.training.checkpoint import arm_folder
from mosld.training.runlog import RunLog
from mosld.ui.compare.merge import KNOBS, MergeTab
from mosld.ui.compare.merge_work import MOST_RESULTS
from mosld.ui.controls import Controls, task_choices
from mosld.ui.folders import hidden
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions

TWO = ["world/mood", "world/place"]
VISITOR = gr.Request(session_hash="visitor")


def made(folder, **environ) -> MergeTab:
    controls = Controls(task_choices(catalogue()))
    with gr.Blocks():
        controls.add("tasks", "method", "router")
        lab = Lab(Handlers(Sessions(Limits.from_environment(environ), folder), controls), gr.HTML(), None)
        return MergeTab(lab)


def settings(**given) -> list:
    return [given.get(name, knob.default) for name, knob in KNOBS.items()]


def refusal(answer: tuple) -> str:
    said = json.loads(answer[0])
    assert said["kind"] == "error"
    return said["note"]


def train(h: MergeTab, names, steps) -> tuple:
    return h.desk.begin(h.plan_train)(VISITOR, None, names, steps)


def merge(h: MergeTab, method, *values) -> tuple:
    return h.desk.begin(h.plan_merge)(VISITOR, None, method, *values)


def carried(h: MergeTab, begun: tuple) -> tuple[dict, dict, list[str]]:
    """The table and the courses as the work left them, and the sentences of its progress."""
    assert begun[0] == gr.skip(), begun[0]
    out, said = {}, []
    for answer in h.desk.carry(VISITOR):
        out |= {part: value for part, value in zip(h.desk.outputs, answer, strict=True) if value != gr.skip()}
        said += [value["text"] for value in answer[1:3] if value != gr.skip()]
    return out.get(h.table), json.loads(out.get(h.course) or "{}"), said


def looked(course: dict) -> list[dict]:
    """The charts of the newest merge."""
    return [chart for part in course["looks"][0]["parts"] for chart in part["charts"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two adapters of six steps: trained, stopped in the second one, gone on with. The tab, its table and its progress."""
    h = made(tmp_path_factory.mktemp("sessions"))
    train(h, TWO, 6.0)
    for answer in h.desk.carry(VISITOR):
        if answer[1] != gr.skip() and "Adapter 2 of 2" in answer[1]["text"]:
            h.desk.halt(VISITOR)
    assert answer[1]["text"].startswith("Stopped at Adapter 2 of 2") and answer[-1]["interactive"] is False
    table, _, said = carried(h, train(h, TWO, 6))
    return h, table, said


@pytest.fixture(scope="module")
def logs(trained):
    """Folder and log of each task's adapter."""
    found = {}
    for path in trained[0].lab.visitor(VISITOR).folder.glob("merge/*/run.json"):
        log = RunLog.load(path.parent)
        found[log.tasks[0]] = (path.parent, log)
    return found


def by_hand(logs, lams: dict[str, float], task: str) -> float:
    """Accuracy on 30 validation questions with lambda times each adapter's update added to the frozen weights."""
    backbone, weights = backbones.load("nano"), {}
    for name, lam in lams.items():
        folder, log = logs[name]
        handle = attach(backbone.replica(), log.config.arm(0), log.config.seed, instance_dim=backbone.d_model)
        handle.load(arm_folder(folder))
        for a in handle.adapters:
            key = f"{a.site.name}.weight"
            before = weights.get(key, backbone.model.get_submodule(a.site.name).weight)
            weights[key] = before + lam * a.scale * (a.B @ a.A).detach()

    class Through:
        def __call__(self, **inputs):
            return functional_call(backbone.model, weights, (), inputs)

        base_model = property(lambda self: self)

    examples = tasks.load(task).validation[:30]
    batch = backbone.batch(examples, [0] * len(examples))
    return float((backbone.score(batch, Through()).argmax(1) == batch.answer).float().mean())


def test_adapters_are_trained_once_and_a_stopped_one_goes_on(trained, logs):
    h, table, said = trained
    assert set(logs) == set(TWO) and all([f.step for f in log.frames] == list(range(7)) for _, log in logs.values())
    opened = dict(zip(h.opened, h.open(VISITOR), strict=True))
    assert opened[h.sliders[0]]["label"] == "λ mood" and opened[h.sliders[0]]["value"] == 0.3
    assert [opened[s]["visible"] for s in h.sliders] == [True] * 2 + [False] * 6
    assert not any("Adapter 1 of 2" in text for text in said)  # it was there already
    found = {row["label"]: [cell["percent"] / 100 for cell in row["cells"][1:]] for row in table["rows"]}
    for name, (_, log) in logs.items():
        i = TWO.index(name)
        assert found["Untrained backbone"][i] == pytest.approx(log.untrained[name])
        assert found["2 adapters, one a task"][i] == pytest.approx(log.frames[-1].arms[0].accuracy[name])
    times = {folder: (folder / "run.json").stat().st_mtime_ns for folder, _ in logs.values()}
    before = h.of(h.lab.visitor(VISITOR)).now["tasks"]
    _, _, said = carried(h, train(h, TWO, 6))
    assert not any("step" in text for text in said) and times == {f: (f / "run.json").stat().st_mtime_ns for f in times}
    assert h.of(h.lab.visitor(VISITOR)).now["tasks"] == before


def test_sliders_score_what_weights_added_by_hand_score(trained, logs):
    h = trained[0]
    state = h.of(h.lab.visitor(VISITOR))
    for lams in ([0.4, 0.7], [1.0, 0.0], [0.0, 0.0]):
        rows, now = h.rescore(VISITOR, *lams)[1]["rows"], state.now
        expected = [by_hand(logs, dict(zip(TWO, lams, strict=True)), task) for task in TWO]
        assert [t["merged"] for t in now["tasks"]] == pytest.approx(expected)
        assert now["mean"] == pytest.approx(sum(expected) / 2)
        assert [row["percent"] for row in rows] == pytest.approx([50 * sum(expected), *(100 * e for e in expected)])
        assert [row["lam"] for row in rows] == ["", *(f"{lam:.2f}" for lam in lams)] and rows[1]["name"] == "mood"
        if lams == [1.0, 0.0]:
            assert now["tasks"][0]["merged"] == now["tasks"][0]["own"]
        if lams == [0.0, 0.0]:
            assert [t["merged"] for t in now["tasks"]] == [t["bare"] for t in now["tasks"]]
    together = h.together(VISITOR, 0.5)
    assert [t["lam"] for t in state.now["tasks"]] == [0.5, 0.5] and together[3] == 0.5
    assert refusal(h.rescore(VISITOR, 0.3, 5)) == "lam: 5 is not allowed; give a number from 0 to 2."
    assert "1 are given for 2 tasks" in refusal(h.rescore(VISITOR, 0.3))


def test_merges_collect_and_say_what_they_have_seen(trained):
    h = trained[0]
    quick = {"ada_steps": 2, "merge_batch": 2}
    carried(h, merge(h, "task-arithmetic", *settings()))
    carried(h, merge(h, "adamerging-layer", *settings(**quick)))
    table, course, _ = carried(h, merge(h, "adamerging-layer", *settings(**quick, unlabelled="test")))
    assert [(r["label"], r["under"].split(" · ")[0]) for r in table["rows"][2:]] == [
        ("Task Arithmetic", "looked at nothing but adapters"),
        ("AdaMerging, layer-wise", f"looked at {SEES['validation']}"),
        ("AdaMerging, layer-wise", f"looked at {SEES['test']}"),
    ]
    assert table["rows"][-1]["under"].split(" · ")[1] == "ada_steps 2, merge_batch 2" and len(table["rows"][-1]["cells"]) == 3 == len(table["head"])
    # 4 layers of q and v; from 0.3, Adam's first step has the size of its rate, 0.001, whatever the gradient
    charts = [c for c in looked(course) if c["title"].startswith("λ, ")]
    assert [c["title"] for c in charts[:3]] == ["λ, layer 1, q", "λ, layer 1, v", "λ, layer 2, q"] and len(charts) == 8
    path = next(c for c in charts if c["title"] == "λ, layer 3, v")["series"][0]
    assert [s for s, _ in path] == [0, 1, 2] and path[0][1] == 0.3 and abs(path[1][1] - 0.3) == pytest.approx(0.001, abs=1e-4)
    again, _, _ = carried(h, merge(h, "task-arithmetic", *settings()))
    assert len(again["rows"]) == 5  # the same merge replaces its row
    named = "AdaMerging, layer-wise, ada_steps 2, merge_batch 2"
    assert [title for _, title in course["offers"]["into"]] == [f"{named}, on test questions", named]


def test_concrete_shows_its_density(trained):
    h = trained[0]
    _, course, _ = carried(h, merge(h, "concrete-arithmetic", *settings(concrete_steps=2, merge_batch=2)))
    densities = next(c for c in looked(course) if c["title"] == "mask density")["series"]
    # logits start at 0 and move by Adam's rate, 0.001 a step: sigmoid(0.002) - 0.5 is 0.0005
    assert len(densities) == 8 and all(abs(d - 0.5) <= 0.00051 for line in densities for _, d in line)


def test_the_jamming_curve_ends_in_the_merges_it_is_made_of(trained):
    h = trained[0]
    quick = settings(jammer=30.0, realign_steps=1, merge_batch=2)
    carried(h, merge(h, "mtllmf-ideal", *quick))
    table, course, _ = carried(h, merge(h, "mtllmf-strongest-defended", *quick))
    (chart,) = looked(course)
    plain, defended, _ = chart["series"]
    assert chart["ticks"][0] == "0" and chart["ticks"][-1] == "30" and [s for s, _ in plain] == [s for s, _ in defended] == list(range(7))
    means = {row["label"]: row["cells"][0]["percent"] / 100 for row in table["rows"]}
    assert plain[0][1] == pytest.approx(means["after R-MTLLMF, ideal channel"])
    row = next(r for r in table["rows"] if r["label"] == "after R-MTLLMF, worst for the strongest, defended")
    assert defended[-1][1] == pytest.approx(row["cells"][0]["percent"] / 100) and SEES["answers"] in row["under"]
    assert [(u["power"], u["jam"]) for u in course["looks"][0]["jam"]] == [(4, 30), (2, 0)]  # all of it on the strongest


def test_results_are_bounded(trained):
    h = trained[0]
    state = h.of(h.lab.visitor(VISITOR))
    state.results = state.results[:1] * (MOST_RESULTS + 2)
    table, _, _ = carried(h, merge(h, "ties", *settings(ties_keep=0.5)))
    assert len(table["rows"]) == 2 + MOST_RESULTS and "ties_keep 0.5" in table["rows"][-1]["under"]


@pytest.mark.parametrize(
    ("names", "steps", "words"),
    [
        (["world/mood"], 6, "1 are chosen; choose from 2 to 8"),
        ([f"world/{i}" for i in range(9)], 6, "9 are chosen"),
        (["world/mood", "world/moood"], 6, "did you mean world/mood"),
        (["world/mood", "/etc/passwd.csv"], 6, "cannot be named here"),
        (TWO, 601, "steps: 601 is not allowed on this page; give at most 600"),
        (TWO, -1, "steps: -1 is not allowed"),
        (TWO, None, "steps: None is not allowed"),
        ("world/mood", 6, "give a list of names"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, names, steps, words):
    h = made(tmp_path, SPACE_ID="a/b")
    assert words in refusal(train(h, names, steps))
    assert carried(h, (gr.skip(),))[2] == []  # nothing was begun


def test_what_cannot_be_merged_is_one_sentence(trained, tmp_path):
    fresh = made(tmp_path)
    assert "press Train one adapter a task" in refusal(fresh.rescore(VISITOR, 0.3))
    assert "press Train one adapter a task" in refusal(merge(fresh, "ties", *settings()))
    h = trained[0]
    assert "'zebra' is not a way to merge" in refusal(merge(h, "zebra", *settings()))
    assert "ada_steps: 0 is not allowed" in refusal(merge(h, "ties", *settings(ada_steps=0)))
    assert "ada_steps: 100001" in refusal(merge(h, "adamerging-task", *settings(ada_steps=100001)))
    assert "noise: it is empty" in refusal(merge(h, "ties", *settings(noise=None)))
    merge(h, "ties", *settings())
    going = h.desk.carry(VISITOR)
    next(going)
    assert "this is going on already" in refusal(merge(h, "ties", *settings()))
    going.close()


def test_sentences_name_no_folders():
    assert hidden("own file '/tmp/mosld/x/mine.csv', line 3: world/mood") == "own file 'mine.csv', line 3: world/mood"
