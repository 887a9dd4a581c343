"""The study's machinery: records to verdicts by hand-made numbers, a study cut short and gone on with, the report, the command."""

import dataclasses
import json
import math
import random

import pytest

from mosld.cli import main
from mosld.config import ConfigError
from mosld.studies.claims import CLAIMS, analysis, results
from mosld.studies.claims.arms import ARMS, SETTINGS, jobs, quick
from mosld.studies.claims.claim import DELTA, Contrast, together, verdict
from mosld.studies.claims.report import rows
from mosld.studies.claims.run import grid, missing, stacks, study, waves
from mosld.studies.statistics import evidence
from mosld.training.frame import IMBALANCE

TINY = dataclasses.replace(quick(SETTINGS["nano-world"]), steps=2, seeds=2, batch=4, scored=4)


def record(setting, arm, job, accuracy, outside=0.5, validation=-1.0, **further):
    """A run as it is stored, with numbers of our choosing."""
    c = job.config
    out = {"key": job.key, "setting": setting.name, "arm": arm, "seed": c.seed, "lr": c.lr, "config_steps": c.steps, "env": "aa", "diverged": False}
    out |= {
        "test": {t: [accuracy, -0.5] for t in c.tasks},
        "held_out": {t: [outside, -1.0] for t in c.held_out},
        "validation": [accuracy, validation],
    }
    return {**out, "train": [accuracy + 0.1, -0.4], "imbalance": [], "began": "2027-01-01T00:00:00Z", **further}


def runs_of(setting, values):
    """{arm: [accuracy of each seed]} to runs by key."""
    out = {}
    for arm, accuracies in values.items():
        for seed, accuracy in enumerate(accuracies):
            for job in jobs(setting, arm, seed):
                out[job.key] = record(setting, arm, job, accuracy)
    return out


def test_every_arm_of_every_claim_is_there_and_every_arm_is_wanted():
    wanted = {a for c in CLAIMS.values() for reading in ("recipe", "tuned") for a in c.arms(reading)}
    assert wanted <= set(ARMS)
    assert set(ARMS) - wanted <= {"MoSLD frozen A", "MoSLD A x1/4", "MoSLD A x4", "rank 4, alpha 8", "rank 16, alpha 32"}
    for c in CLAIMS.values():
        for x in (*c.contrasts, *c.further):
            assert x.measure in results.MEASURES
            assert sum(x.weights.values()) == pytest.approx(0, abs=1e-12) or list(x.weights.values()) == [1]
    assert results.IMBALANCE == IMBALANCE


def test_verdicts_follow_the_rule():
    near = [0.3, -0.2, 0.1, -0.1, 0.2, -0.3, 0.15, -0.05]
    cases = {
        "supported": [2 + x for x in near],
        "contradicted": [-2 + x for x in near],
        "no difference that matters": near,
        "not resolved here": [9 * x for x in near],
    }
    for said, values in cases.items():
        assert verdict(evidence(values, DELTA), DELTA) == said
    assert verdict(evidence([1.0], DELTA), DELTA) == verdict(None, DELTA) == "not run"


def test_a_claim_of_parts_has_the_verdict_of_the_part_that_holds_least():
    assert together(["supported", "supported"]) == "supported"
    assert together(["supported", "not resolved here"]) == "not resolved here"
    assert together(["supported", "contradicted", "no difference that matters"]) == "contradicted"
    assert together(["supported", "contradicted"], definitions=True) == "depends on the definition"
    assert together(["supported", "not run"]) == "not run"


def test_differences_pair_by_seed_and_leave_out_what_is_missing():
    s = SETTINGS["nano-world"]
    runs = runs_of(s, {"MoSLD": [0.9, 0.8, 0.7], "MoSL": [0.85, 0.82]})
    found = analysis.differences(CLAIMS["C3"].contrasts[0], s, "recipe", runs, 40)
    assert found == {0: pytest.approx(5), 1: pytest.approx(-2)}
    assert analysis.differences(CLAIMS["C3"].contrasts[0], s, "tuned", runs, 40) == {}, "no rate was chosen"


def test_c10_is_a_difference_in_differences_over_single_tasks():
    s = SETTINGS["nano-world"]
    runs = runs_of(s, {"MoSLD": [0.9], "MoSLD alone": [0.8], "LoRA": [0.7], "LoRA alone": [0.75]})
    assert analysis.differences(CLAIMS["C10"].contrasts[0], s, "recipe", runs, 40) == {0: pytest.approx(10 + 5)}
    assert len(jobs(s, "LoRA alone", 0)) == 6 and {j.config.steps for j in jobs(s, "LoRA alone", 0)} == {67}


def test_c6_is_the_fall_along_the_line():
    weights = CLAIMS["C6"].contrasts[0].weights
    p = {"MoSLD": 0.1, "p 0.2": 0.2, "p 0.3": 0.3, "p 0.5": 0.5}
    assert sum(w * (90 - 5 * p[a]) for a, w in weights.items()) == pytest.approx(2), "5 points a unit of p, over .4"


def test_imbalance_is_read_over_the_last_half():
    row = {"config_steps": 100, "imbalance": [[50, 9, 9, 9, 9], [60, 1, None, -2, 3], [100, 3, None, -4, 5]]}
    assert results.measure(row, "imbalance updates") == 2 and results.measure(row, "imbalance step") == -3
    assert results.measure(row, "size of imbalance step") == 3 and results.measure(row, "imbalance gradient") is None


def test_the_grid_grows_where_the_best_is_at_its_edge():
    s = SETTINGS["nano-world"]

    def known(score):
        rates = [float(f"{s.recipe * 2.0**k:.4g}") for k in range(-3, 8)]
        found = {}
        for rate in rates:
            for seed in s.tuning_seeds:
                job = jobs(s, "LoRA", seed, rate)[0]
                found[job.key] = record(s, "LoRA", job, 0.5, validation=score(rate))
        return found

    assert grid(s, "LoRA", known(lambda r: -abs(math.log(r / 0.003))))[1] == 0.003
    inner = {k: r for k, r in known(lambda r: r).items() if r["lr"] in s.grid}
    rates, best = grid(s, "LoRA", inner)
    assert best is None and max(rates) == pytest.approx(0.003 * 2**5), "two further rates are wanted"
    rates, best = grid(s, "LoRA", known(lambda r: r))
    assert best == max(rates) == pytest.approx(0.003 * 2**7), "it grows twice at most"


def test_waves_want_tuned_runs_once_rates_are_known():
    s, known = SETTINGS["nano-world"], {}
    order = []
    for name, wishes in waves(["C3"], s, known):
        for w in missing(wishes, known):
            order.append((name, w.arm, w.job.config.seed >= 1000, w.job.config.lr))
            known[w.job.key] = record(s, w.arm, w.job, 0.5, validation=-abs(math.log(w.job.config.lr / 0.006)))
    assert {x for _, _, tuning, x in order if not tuning} == {0.003, 0.006}
    doses = [x for _, arm, tuning, x in order if "rows" in arm]
    assert doses and set(doses) == {0.003}, "sizes are read at the recipe's rate alone"
    assert not missing([w for _, ws in waves(["C3"], s, known) for w in ws], known)


def test_stacks_keep_arms_and_tuning_seeds_apart():
    s = SETTINGS["nano-world"]
    wishes = next(waves(["C2"], s, {}))[1]
    for group in stacks(wishes, 20):
        assert len(group) <= 20 and len({w.arm for w in group}) == 1 and len({w.job.config.seed >= 1000 for w in group}) == 1
    assert sorted(w.job.key for g in stacks(wishes, 20) for w in g) == sorted(w.job.key for w in wishes)


def test_runs_of_another_plan_or_before_it_are_refused():
    plan = {"hash": "abc", "date": "2026-05-05T00:00:00Z", "commit": "x"}
    assert results.accepted({"plan": "abc", "began": "2026-05-05T00:00:01Z"}, plan)
    assert not results.accepted({"plan": "abc", "began": "2026-05-04T23:59:59Z"}, plan)
    assert not results.accepted({"plan": "abd", "began": "2026-05-06T00:00:00Z"}, plan)


def test_a_changed_plan_is_not_the_registered_one(tmp_path, monkeypatch):
    results.registered()  # as it stands
    changed = tmp_path / "plan.md"
    changed.write_text(results.PLAN.read_text() + "\nOne more seed.\n")
    monkeypatch.setattr(results, "PLAN", changed)
    results.plan_hash.cache_clear()
    try:
        with pytest.raises(ConfigError, match="is not the one registered"):
            results.registered()
    finally:
        results.plan_hash.cache_clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small study by two processes."""
    folder = tmp_path_factory.mktemp("study")
    return folder, study(["C3"], TINY, folder, processes=2, width=2, once=True)


def test_a_study_is_made_once(finished, monkeypatch):
    folder, runs = finished
    assert {(r["arm"], r["seed"]) for r in runs.values()} == {(a, s) for a in ("MoSL", "MoSLD") for s in (0, 1)}
    monkeypatch.setattr("mosld.studies.claims.run.work", lambda *a: pytest.fail("trained again"))
    assert study(["C3"], TINY, folder, width=2, once=True) == results.load(folder) != {}
    one = next(iter(runs.values()))
    assert one["plan"] == results.plan_hash() and one["began"] < "2100" and set(one["test"]) == set(TINY.tasks)
    assert set(json.loads((folder / "environments.json").read_text())) == {r["env"] for r in results.load(folder).values()}


def test_a_deadline_ends_a_study_with_nothing_half_done(tmp_path):
    assert study(["C3"], TINY, tmp_path, width=2, deadline=0.0, once=True) == {} and not list(tmp_path.glob("*.jsonl"))


@pytest.mark.slow
def test_a_worker_that_is_lost_changes_nothing(finished, tmp_path):
    """Two Dask workers, one of them ended by its process id while it trains: the same numbers as by joblib."""
    distributed = pytest.importorskip("distributed")
    import os
    import signal

    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        lost = []

        def end_one(*_):
            if not lost:
                with distributed.Client(cluster.scheduler_address) as client:
                    lost.append(next(iter(client.run(os.getpid).values())))
                os.kill(lost[0], signal.SIGKILL)

        runs = study(["C3"], TINY, tmp_path, width=1, once=True, cluster=cluster.scheduler_address, watch=end_one)
    assert lost
    theirs = {k: r["test"] for k, r in runs.items()}
    ours = {k: r["test"] for k, r in finished[1].items()}
    assert theirs.keys() == ours.keys()
    for key, scores in ours.items():  # stacked by two there, alone here: equal within rounding
        for task, (accuracy, likelihood) in scores.items():
            assert theirs[key][task] == pytest.approx([accuracy, likelihood], abs=0.26)
            assert theirs[key][task][1] == pytest.approx(likelihood, abs=2e-3)


def test_the_report_is_made_from_runs_alone(tmp_path, monkeypatch):
    from mosld.studies.claims import writing

    rng, s = random.Random(0), SETTINGS["minilm-world"]
    runs = runs_of(s, {a: [0.9 + d + rng.gauss(0, 0.004) for _ in range(20)] for a, d in (("MoSLD", 0.03), ("MoSL", 0.0))})
    plan = results.registered()
    stored = [{**r, "plan": plan["hash"]} for r in runs.values()]
    stored[0]["plan"] = "another"
    results.add(tmp_path, "minilm-world", stored)
    names = {p.name for p in writing.write(tmp_path)}
    assert {"verdicts.json", "report.md", "report.html", "forest-minilm-world.png"} <= names
    found = {r["id"]: r for r in rows(tmp_path)}
    assert found["C3"]["verdict"] == {"recipe": "supported", "tuned": "not run"} and found["C3"]["seeds"] == 19
    assert found["C2"]["verdict"]["recipe"] == "not run" and found["C1"]["verdict"]["recipe"] == "supported"
    text = (tmp_path / "report.md").read_text()
    assert plan["commit"] in text and "1 were refused" in text and "C10" in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == page.count("data:image/png") > 0 and "alt=" in page and 'src="http' not in page


def test_the_command_lists_and_refuses(capsys):
    assert main(["claims"]) == 0
    said = capsys.readouterr().out
    assert all(i in said for i in CLAIMS)
    for wrong, word in ((["run", "C12"], "claim"), (["run", "C3", "--setting", "moon"], "setting"), (["run", "C3", "--jobs", "many"], "jobs")):
        assert main(["claims", *wrong]) == 2
        assert capsys.readouterr().err.startswith(word)


def test_a_contrast_of_no_runs_is_not_run():
    assert analysis.part(Contrast("none", {"MoSLD": 1, "MoSL": -1}), TINY, "recipe", {}, 5).verdict == "not run"


def test_the_stored_runs_are_of_the_registered_plan_and_say_what_the_report_says():
    plan, runs = results.registered(), results.load()
    assert runs and all(results.accepted(r, plan) for r in runs.values())
    assert sum(f.stat().st_size for f in results.FOLDER.iterdir()) < 10_000_000
    known = set(json.loads((results.FOLDER / "environments.json").read_text()))
    assert {r["env"] for r in runs.values()} <= known
    s = SETTINGS["minilm-world"]
    stored = {r["id"]: r for r in rows()}
    for i in ("C3", "C5", "C10"):
        claim = CLAIMS[i]
        found = analysis.differences(claim.contrasts[0], s, "recipe", runs, max(claim.seeds, s.seeds))
        assert stored[i]["seeds"] == len(found)
        assert stored[i]["parts"][0]["mean"] == pytest.approx(sum(found.values()) / len(found), abs=1e-4)
