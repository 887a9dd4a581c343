"""The shelf of runs against frames made by hand, whose means are known."""

import json

import pytest

from mosld.config import ConfigError, RunConfig
from mosld.studies.shelf import MEAN, alone, baselines, differing, read, thinned
from mosld.training import Frame, RunLog
from mosld.training.frame import ArmFrame, LinearProbe
from mosld.training.runlog import LinearInfo


def probe(balance: float, imbalance: list) -> LinearProbe:
    return LinearProbe([[1.0, 0.0]], [[1.0, 0.0]], balance, 1.0, 1, 0.0, 0.0, [1.0], [1.0, 1.0], [1.0, 1.0], None, imbalance)


def arm(loss, accuracy=None, linears=None) -> ArmFrame:
    return ArmFrame(loss, 0.0, 0.1, 0.0, accuracy, linears)


def score(a: float, b: float, c: float) -> dict:
    return {"world/mood": a, "world/place": b, "world/tense": c}


def kept(folder, config: RunConfig, frames: list[Frame], chance: float = 0.25, untrained: dict | None = None) -> RunLog:
    names = [*config.tasks, *config.held_out]
    linears = [[LinearInfo("q", 0, "q", 2), LinearInfo("v", 0, "v", 2)] for _ in config.arms]
    flat = {t: chance for t in names}
    log = RunLog(
        config,
        config.arm_names(),
        list(config.tasks),
        list(config.held_out),
        flat,
        flat,
        linears,
        [10, 20][: len(config.arms)],
        {},
        {},
        untrained or {},
    )
    log.frames = frames
    log.save(folder)
    return log


@pytest.fixture
def run(tmp_path):
    """Two arms, three steps, scored on validation rows at the start and on test rows at the end, probed at step 2."""
    config = RunConfig(tasks="world/mood,world/place", held_out="world/tense", steps=3)
    probes = [probe(0.5, [1.0, None, 2.0, 0.0]), probe(0.7, [3.0, None, None, 1.0])]
    frames = [
        Frame(0, [arm(None, score(0.2, 0.4, 0.3))] * 2, "start", "", 1.0),
        Frame(1, [arm(2.0), arm(3.0)], "", "", 1.5),
        Frame(2, [arm(1.0, None, probes), arm(1.5, None, probes)], "", "", 2.5),
        Frame(3, [arm(0.5, score(0.5, 0.9, 0.1)), arm(0.75, score(0.6, 0.6, 0.4))], "end", "", 4.0),
    ]
    kept(tmp_path / "run-0001", config, frames, untrained=score(0.3, 0.5, 0.2))
    return tmp_path / "run-0001"


def test_a_row_an_arm_with_the_last_scores(run):
    shelved = read(run)
    assert [(r.label, r.parameters) for r in shelved.rows] == [("dropout 0", 10), ("dropout 0.1", 20)]
    assert shelved.rows[0].over(shelved.tasks) == [pytest.approx(0.7)]  # (0.5 + 0.9) / 2: the held-out task is not in it
    assert shelved.rows[1].accuracy["world/tense"] == [0.4]
    assert (shelved.scored, shelved.step, shelved.seconds, shelved.event) == ("test rows", 3, 4.0, "end")
    assert shelved.step_ms == pytest.approx(500)  # step 1 is the only one neither probed nor scored


def test_curves_are_means_over_tasks_and_linears(run):
    curves = read(run).curves[0]
    assert curves["loss"] == [[1, 2.0], [2, 1.0], [3, 0.5]]
    assert curves["mean accuracy"] == [[0, pytest.approx(0.3)], [3, pytest.approx(0.7)]]
    assert curves["accuracy world/tense"] == [[0, 0.3], [3, 0.1]]
    assert curves["evenness"] == [[2, pytest.approx(0.6)]]
    assert curves["imbalance updates"] == [[2, 2.0]] and curves["imbalance steps"] == [[2, 2.0]]  # the mean of what there is
    assert "imbalance gradients" not in curves  # a gap is not 0


def test_a_run_under_way_and_one_without_a_frame(tmp_path):
    config = RunConfig(tasks="world/mood,world/place", arms="", steps=5)
    kept(tmp_path / "b", config, [Frame(0, [arm(None, {"world/mood": 0.2, "world/place": 0.4})], "start"), Frame(1, [arm(2.0)])])
    assert (read(tmp_path / "b").scored, read(tmp_path / "b").baselines.keys()) == ("validation rows, step 0", {"chance", "commonest answer"})
    kept(tmp_path / "c", config, [])
    with pytest.raises(ConfigError, match="run: 'c' has made no step yet"):
        read(tmp_path / "c")
    (tmp_path / "c" / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="run: 'c' cannot be read now"):
        read(tmp_path / "c")


def test_only_what_differs_is_listed(tmp_path, run):
    lora = RunConfig(tasks="world/mood", method="lora", arms="", dropout=0.3, seed=4)
    kept(tmp_path / "run-0002", lora, [Frame(0, [arm(None, {"world/mood": 0.1})], "start")], chance=0.5)
    both = [read(run), read(tmp_path / "run-0002")]
    found = differing(both)
    assert found["method"] == [["mosld", "mosld"], ["lora"]] and found["seed"] == [["0", "0"], ["4"]]
    assert found["dropout"] == [["0", "0.1"], ["0"]]  # LoRA fixes it at 0, whatever was set
    assert "top_k" not in found and "balance" not in found  # they go with the method
    assert found["held_out"] == [["world/tense"] * 2, [""]] and "lr" not in found and "arms" not in found
    assert differing([both[0]]).keys() == {"dropout"}
    found = baselines(both)
    assert found["chance"]["world/mood"] == (0.25, 0.5) and found["untrained backbone"]["world/place"] == (0.5, 0.5)
    assert found["untrained backbone"][MEAN] == (pytest.approx(0.4), pytest.approx(0.4))


def test_long_curves_are_thinned_to_their_ends():
    curve = [[i, float(i)] for i in range(10_001)]
    assert len(thinned(curve)) == 300 and thinned(curve)[0] == [0, 0.0] and thinned(curve)[-1] == [10_000, 10_000.0]
    assert thinned(curve[:300]) == curve[:300]


def test_tasks_alone_get_their_share_of_the_steps_or_all():
    config = RunConfig(tasks="world/mood:3,world/place", held_out="world/tense", steps=40, lr=0.02)
    by_questions = alone(config, "questions")
    assert {t: c.steps for t, c in by_questions.items()} == {"world/mood": 30, "world/place": 10}
    first = by_questions["world/mood"]
    assert first.tasks == {"world/mood": 1.0} and first.held_out == () and first.arms == config.arms and first.lr == 0.02 and first.eval_every == 30
    assert {c.steps for c in alone(config, "steps").values()} == {40}
    with pytest.raises(ConfigError, match="alone: 'x' is not allowed; choose one of questions, steps"):
        alone(config, "x")


def test_too_long_a_run_is_refused(run, monkeypatch):
    monkeypatch.setattr("mosld.studies.shelf.MOST_BYTES", 10)
    with pytest.raises(ConfigError, match="bytes of frames; at most 10"):
        read(run)
    assert json.loads((run / "run.json").read_text())["parameters"] == [10, 20]
