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
from mosld.ui.compare.merge import LABELS, _parts
from mosld.ui.compare.merge_handlers import KNOBS, MergeHandlers, _hidden
from mosld.ui.compare.merge_work import MOST_RESULTS
from mosld.ui.controls import Controls, task_choices
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.sessions import Sessions

TWO = ["world/mood", "world/place"]
VISITOR = gr.Request(session_hash="visitor")


def made(folder, **environ) -> MergeHandlers:
    controls = Controls(task_choices(catalogue()))
    with gr.Blocks():
        controls.mixture()
        lab = Lab(Handlers(Sessions(Limits.from_environment(environ), folder), controls), gr.HTML(), None)
        return MergeHandlers(lab, _parts(lab))


def settings(**given) -> list:
    return [given.get(name, knob.default) for name, knob in KNOBS.items()]


def refusal(h: MergeHandlers, answer: dict) -> str:
    said = json.loads(answer[h.lab.feed])
    assert said["kind"] == "error"
    return said["note"]


def carried(h: MergeHandlers, plan: dict) -> tuple[dict, list[str]]:
    """Everything that the work changed, and the sentences of its progress."""
    assert h.lab.feed not in plan, plan
    out, said = {}, []
    for answer in h.stream(VISITOR):
        out |= answer
        said += [answer[part.told]["text"] for part in (h.p.train, h.p.merge) if part.told in answer]
    return out | h.settle(VISITOR), said


def rows(h: MergeHandlers, out: dict) -> dict[str, dict]:
    return {r["label"]: r for r in json.loads(out[h.p.table])["rows"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two adapters of six steps: trained, stopped in the second one, gone on with. Handlers, the last answer and its progress."""
    h = made(tmp_path_factory.mktemp("sessions"))
    h.plan_train(VISITOR, TWO, 6.0)
    for answer in h.stream(VISITOR):
        if "Adapter 2 of 2" in answer.get(h.p.train.told, {"text": ""})["text"]:
            h.stop(VISITOR)
    ended = h.settle(VISITOR)
    assert ended[h.p.train.told]["text"].startswith("Stopped.") and ended[h.p.train.stop]["interactive"] is False
    return h, *carried(h, h.plan_train(VISITOR, TWO, 6))


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


def test_every_knob_of_merging_has_a_control():
    assert set(LABELS) == set(KNOBS)


def test_adapters_are_trained_once_and_a_stopped_one_goes_on(trained, logs):
    h, out, said = trained
    assert set(logs) == set(TWO) and all([f.step for f in log.frames] == list(range(7)) for _, log in logs.values())
    assert out[h.p.sliders[0]]["label"] == "λ mood" and out[h.p.sliders[0]]["value"] == 0.3
    assert [out[s]["visible"] for s in h.p.sliders] == [True] * 2 + [False] * 6
    assert not any("Adapter 1 of 2" in text for text in said)  # it was there already
    found = rows(h, out)
    for name, (_, log) in logs.items():
        i = TWO.index(name)
        assert found["Untrained backbone"]["accuracy"][i] == log.untrained[name]
        assert found["2 adapters, one a task"]["accuracy"][i] == log.frames[-1].arms[0].accuracy[name]
    times = {folder: (folder / "run.json").stat().st_mtime_ns for folder, _ in logs.values()}
    again, said = carried(h, h.plan_train(VISITOR, TWO, 6))
    assert not any("step" in text for text in said) and times == {f: (f / "run.json").stat().st_mtime_ns for f in times}
    assert json.loads(again[h.p.now])["tasks"] == json.loads(out[h.p.now])["tasks"]


def test_sliders_score_what_weights_added_by_hand_score(trained, logs):
    h = trained[0]
    for lams in ([0.4, 0.7], [1.0, 0.0], [0.0, 0.0]):
        now = json.loads(h.rescore(VISITOR, *lams)[h.p.now])
        expected = [by_hand(logs, dict(zip(TWO, lams, strict=True)), task) for task in TWO]
        assert [t["merged"] for t in now["tasks"]] == pytest.approx(expected)
        assert now["mean"] == pytest.approx(sum(expected) / 2)
        if lams == [1.0, 0.0]:
            assert now["tasks"][0]["merged"] == now["tasks"][0]["own"]
        if lams == [0.0, 0.0]:
            assert [t["merged"] for t in now["tasks"]] == [t["bare"] for t in now["tasks"]]
    together = h.together(VISITOR, 0.5)
    assert [t["lam"] for t in json.loads(together[h.p.now])["tasks"]] == [0.5, 0.5] and together[h.p.sliders[1]] == 0.5
    assert refusal(h, h.rescore(VISITOR, 0.3, 5)) == "lam: 5 is not allowed; give a number from 0 to 2."
    assert "1 are given for 2 tasks" in refusal(h, h.rescore(VISITOR, 0.3))


def test_merges_collect_and_say_what_they_have_seen(trained):
    h = trained[0]
    quick = {"ada_steps": 2, "merge_batch": 2}
    carried(h, h.plan_merge(VISITOR, "task-arithmetic", *settings()))
    carried(h, h.plan_merge(VISITOR, "adamerging-layer", *settings(**quick)))
    out, _ = carried(h, h.plan_merge(VISITOR, "adamerging-layer", *settings(**quick, unlabelled="test")))
    table = json.loads(out[h.p.table])["rows"]
    assert [(r["label"], r["sees"]) for r in table[2:]] == [
        ("Task Arithmetic", "-"),
        ("AdaMerging, layer-wise", SEES["validation"]),
        ("AdaMerging, layer-wise", SEES["test"]),
    ]
    assert table[-1]["note"] == "ada_steps 2, merge_batch 2" and len(table[-1]["accuracy"]) == 2
    course = json.loads(out[h.p.course])
    # 4 layers of q and v; from 0.3, Adam's first step has the size of its rate, 0.001, whatever the gradient
    assert list(course["coefficients"])[:3] == ["layer 1, q", "layer 1, v", "layer 2, q"] and len(course["coefficients"]) == 8
    path = course["coefficients"]["layer 3, v"]["mood"]
    assert [s for s, _ in path] == [0, 1, 2] and path[0][1] == 0.3 and abs(path[1][1] - 0.3) == pytest.approx(0.001, abs=1e-4)
    again, _ = carried(h, h.plan_merge(VISITOR, "task-arithmetic", *settings()))
    assert len(json.loads(again[h.p.table])["rows"]) == 5  # the same merge replaces its row
    held = h.look(VISITOR, "AdaMerging, layer-wise, ada_steps 2, merge_batch 2")
    assert json.loads(held[h.p.course])["sees"] == SEES["validation"]


def test_concrete_shows_its_density(trained):
    h = trained[0]
    out, _ = carried(h, h.plan_merge(VISITOR, "concrete-arithmetic", *settings(concrete_steps=2, merge_batch=2)))
    densities = json.loads(out[h.p.course])["densities"]
    # logits start at 0 and move by Adam's rate, 0.001 a step: sigmoid(0.002) - 0.5 is 0.0005
    assert len(densities) == 8 and all(abs(d - 0.5) <= 0.00051 for line in densities.values() for _, d in line)


def test_the_jamming_curve_ends_in_the_merges_it_is_made_of(trained):
    h = trained[0]
    quick = settings(jammer=30.0, realign_steps=1, merge_batch=2)
    carried(h, h.plan_merge(VISITOR, "mtllmf-ideal", *quick))
    out, _ = carried(h, h.plan_merge(VISITOR, "mtllmf-strongest-defended", *quick))
    curve, jam = (json.loads(out[h.p.course])[k] for k in ("curve", "jam"))
    assert curve["power"][0] == 0 and curve["power"][-1] == 30 and len(curve["plain"]) == len(curve["defended"]) == curve["of"] == 7
    found = rows(h, out)
    assert curve["plain"][0] == pytest.approx(found["after R-MTLLMF, ideal channel"]["mean"])
    row = found["after R-MTLLMF, worst for the strongest, defended"]
    assert curve["defended"][-1] == pytest.approx(row["mean"]) and row["sees"] == SEES["answers"]
    assert [(u["power"], u["jam"]) for u in jam] == [(4, 30), (2, 0)]  # all of it on the strongest


def test_results_are_bounded(trained):
    h = trained[0]
    state = h._of(VISITOR)
    state.results = state.results[:1] * (MOST_RESULTS + 2)
    out, _ = carried(h, h.plan_merge(VISITOR, "ties", *settings(ties_keep=0.5)))
    table = json.loads(out[h.p.table])["rows"]
    assert len(table) == 2 + MOST_RESULTS and table[-1]["note"] == "ties_keep 0.5"


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
    assert words in refusal(h, h.plan_train(VISITOR, names, steps))
    assert carried(h, {})[1] == []  # nothing was begun


def test_what_cannot_be_merged_is_one_sentence(trained, tmp_path):
    fresh = made(tmp_path)
    assert "press Train one adapter a task" in refusal(fresh, fresh.rescore(VISITOR, 0.3))
    assert "press Train one adapter a task" in refusal(fresh, fresh.plan_merge(VISITOR, "ties", *settings()))
    h = trained[0]
    assert "'zebra' is not a way to merge" in refusal(h, h.plan_merge(VISITOR, "zebra", *settings()))
    assert "ada_steps: 0 is not allowed" in refusal(h, h.plan_merge(VISITOR, "ties", *settings(ada_steps=0)))
    assert "ada_steps: 100001" in refusal(h, h.plan_merge(VISITOR, "adamerging-task", *settings(ada_steps=100001)))
    assert "noise: it is empty" in refusal(h, h.plan_merge(VISITOR, "ties", *settings(noise=None)))
    h.plan_merge(VISITOR, "ties", *settings())
    assert "going on here already" in refusal(h, h.plan_merge(VISITOR, "ties", *settings()))
    answer = h.stop(VISITOR)
    assert answer[h.p.merge.go]["interactive"] is True and carried(h, {})[1] == []


def test_sentences_name_no_folders():
    assert _hidden(ValueError("own file '/tmp/mosld/x/mine.csv', line 3: world/mood")) == "own file 'mine.csv', line 3: world/mood"
