"""From run directories to the table: adapters trained by this lab, read back, merged by every method, scored, written."""

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from mosld.cli import main
from mosld.config import ConfigError, knobs
from mosld.merging import views
from mosld.merging.config import MERGES, MergeConfig, acting, chosen
from mosld.merging.methods import run
from mosld.merging.sources import Foreign, find, open_bench
from mosld.merging.vectors import dense

QUICK = ["--layers", "1", "--batch", "4", "--eval-rows", "12", "--rank", "2", "--lr", "0.01", "--experts", "2", "--warmup", "0"]
SHORT = ["--expert-steps", "1", "--ada-steps", "2", "--concrete-steps", "2", "--realign-steps", "1", "--merge-batch", "3"]
TASKS = ["world/mood", "world/place"]


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A whole study of two tasks."""
    out = tmp_path_factory.mktemp("merge") / "out"
    assert main(["merge", "--tasks", ",".join(TASKS), *QUICK, *SHORT, "--steps", "4", "--held-out", "world/tense", "--out", str(out)]) == 0
    return out


def rows(out):
    with (out / "table.csv").open() as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_the_table_has_every_model(merged):
    table = rows(merged)
    labels = [
        "chance",
        "commonest answer",
        "untrained backbone",
        "LoRA, an adapter a task",
        "LoRA on the mixture, 8 steps",
        "MoSLD on the mixture, 8 steps",
    ]
    assert list(table) == labels + [entry.label for entry in MERGES.values()]
    runs = {r.folder.name: r for r in find([merged / "runs"])}
    assert sorted(runs) == ["mixture-lora", "mixture-mosld", "single-world-mood", "single-world-place"]
    one = table["LoRA, an adapter a task"]
    assert one["world/tense (held out)"] == "" and float(one["world/mood"]) == runs["single-world-mood"].accuracy[0]["world/mood"]
    assert float(table["MoSLD on the mixture, 8 steps"]["world/tense (held out)"]) == runs["mixture-mosld"].accuracy[0]["world/tense"]
    # one layer of width 128: q and v, rank 2
    adapter = 2 * 2 * (128 + 128)
    assert int(one["trained"]) == int(table["Task Arithmetic"]["trained"]) == int(table["Task Arithmetic"]["stored"]) == 2 * adapter
    assert int(table["TIES"]["stored"]) == 2 * 128 * 128
    assert int(table["AdaMerging, layer-wise"]["trained"]) == 2 * adapter + 4 and int(table["AdaMerging, layer-wise"]["stored"]) == 2 * adapter
    assert int(table["Concrete Task Arithmetic"]["trained"]) == 2 * adapter + 2 * 128 * 128
    for row in table.values():
        assert float(row["mean"]) == pytest.approx((float(row["world/mood"]) + float(row["world/place"])) / 2)
    text = (merged / "table.md").read_text()
    assert "validation questions without answers; their papers use the test questions" in text and "TEST" not in text
    assert "built from its abstract" in text


def test_runs_are_used_again_and_the_same_seed_gives_the_same_merge(merged, tmp_path, capsys):
    out = tmp_path / "again"
    before = {p: p.stat().st_mtime_ns for p in merged.rglob("*") if p.is_file()}
    assert main(["merge", "--from", str(merged), *SHORT, "--held-out", "world/tense", "--out", str(out)]) == 0
    assert not (out / "runs").exists() and before == {p: p.stat().st_mtime_ns for p in merged.rglob("*") if p.is_file()}
    assert "Accuracy on test rows: 2 adapters merged" in capsys.readouterr().out
    for name, row in rows(merged).items():
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in rows(out)[name].items() if k != "seconds"}
    first, second = (json.loads((folder / "merges.json").read_text())["merges"] for folder in (merged, out))
    for name, course in first[0].items():
        assert {k: v for k, v in course.items() if k != "seconds"} == {k: v for k, v in second[0][name].items() if k != "seconds"}


def test_the_best_merge_and_peft_adapters_are_written_and_read_back(merged, tmp_path, capsys):
    adapters = sorted(p.name for p in (merged / "adapters").iterdir())
    assert adapters == ["world-mood", "world-place"]
    assert len(list((merged / "models").iterdir())) == 1
    runs = [r for r in find([merged]) if r.single]
    bench = open_bench(runs)
    vectors = [Foreign(merged / "adapters" / name, "").vector(list(bench.model.linears)) for name in adapters]
    for ours, theirs in zip(bench.vectors, vectors, strict=True):
        for name in ours:
            torch.testing.assert_close(dense(ours[name]), dense(theirs[name]))
    foreign = [f"world/mood={merged / 'adapters' / 'world-mood'}", f"world/place={merged / 'adapters' / 'world-place'}"]
    out = tmp_path / "peft"
    args = [*QUICK, *SHORT, "--methods", "ties,tsv,experts", "--beside", "lora", "--mixture-steps", "2", "--models", "all", "--out", str(out)]
    assert main(["merge", "--peft", *foreign, *args]) == 0
    table = rows(out)
    for label in ("TIES", "TSV-M"):
        assert float(table[label]["mean"]) == float(rows(merged)[label]["mean"])
    assert sorted(p.name for p in (out / "models").iterdir()) == ["experts", "ties", "tsv"]
    # The merged model is a whole model: loaded by transformers it holds the backbone's weights plus the update.
    whole, update = AutoModel.from_pretrained(out / "models" / "ties"), run("ties", bench, MergeConfig()).updates
    for name, u in update.items():
        torch.testing.assert_close(whole.get_submodule(name).weight, bench.backbone.model.get_submodule(name).weight + dense(u))
    assert AutoTokenizer.from_pretrained(out / "models" / "ties")("a dog").input_ids == bench.backbone.tokenizer("a dog").input_ids
    assert main(["merge", "--peft", foreign[0], "world/place=" + str(tmp_path), *args]) == 2
    assert "holds no adapter_config.json" in capsys.readouterr().err


def test_a_run_is_exported_for_peft(merged, tmp_path, capsys):
    single = next(r for r in find([merged]) if r.single)
    assert main(["export", str(single.folder), "--out", str(tmp_path)]) == 0
    (folder,) = capsys.readouterr().out.split()
    bench = open_bench([single])
    for name, update in Foreign(Path(folder), "").vector(list(bench.model.linears)).items():
        torch.testing.assert_close(dense(update), dense(bench.vectors[0][name]))
    assert main(["export", str(merged / "runs" / "mixture-mosld"), "--out", str(tmp_path)]) == 2
    assert "export: MoSLD routes by its input" in capsys.readouterr().err


def test_seeds_give_intervals(tmp_path, capsys):
    out = tmp_path / "seeds"
    short = ["--methods", "task-arithmetic,dare", "--beside", "lora", "--mixture-steps", "2", "--models", "none"]
    assert main(["merge", "--tasks", ",".join(TASKS), *QUICK, *short, "--steps", "2", "--seeds", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "mean ± standard deviation over 2 seeds" in shown and "minus the adapters" in shown and not (out / "models").exists()
    with (out / "table.csv").open() as file:
        lines = [r for r in csv.DictReader(file) if r["model"] == "DARE"]
    assert [r["seed"] for r in lines] == ["0", "1"]
    row = next(line for line in shown.splitlines() if line.startswith("| DARE"))
    assert f"{(float(lines[0]['mean']) + float(lines[1]['mean'])) / 2:.3f} ± " in row


def test_every_knob_of_merging_acts_in_some_method():
    acts = {name for method in MERGES for name in acting(method)}
    assert {k.name for k in knobs(MergeConfig)} - acts == {"methods", "unlabelled", "beside", "mixture_steps"}
    assert "density" in acting("dare-ties") and "ties_keep" not in acting("dare-ties") and "lam" not in acting("tsv")


def test_test_questions_are_labelled_where_the_result_stands(merged, tmp_path, capsys):
    base = ["merge", "--from", str(merged), "--out", str(tmp_path), "--methods", "adamerging-task,task-arithmetic", "--unlabelled", "test", *SHORT]
    assert main(base) == 0
    table = rows(tmp_path)
    assert table["AdaMerging, task-wise"]["looks at"] == "TEST questions" and table["Task Arithmetic"]["looks at"] == "-"
    assert "looked at the TEST questions without answers" in capsys.readouterr().out


def test_single_adapters_score_as_in_their_own_runs(merged):
    runs = [r for r in find([merged]) if r.single]
    bench = open_bench(runs)
    assert bench.names == TASKS
    for name, vector, own in zip(bench.names, bench.vectors, runs, strict=True):
        assert bench.accuracy(vector)[name] == own.accuracy[0][name]
    untrained = bench.accuracy({})
    assert {t: untrained[t] for t in TASKS} == {t: r.log.untrained[t] for t, r in zip(TASKS, runs, strict=True)}


def test_what_a_page_needs_is_plain_data(merged):
    bench = open_bench([merged / "runs" / "single-world-mood", merged / "runs" / "single-world-place"])
    config = MergeConfig(ada_steps=2, concrete_steps=2, realign_steps=1, merge_batch=2)
    alone = views.rescore(bench, {"world/mood": 1.0}, rows=12, part="test")
    assert alone["accuracy"] == bench.accuracy(bench.vectors[0]) and 0 < alone["seconds"] < 30
    layer = run("adamerging-layer", bench, config)
    assert len(layer.coefficients) == 3 * 2 * 2  # steps 0, 1, 2; two linears; two tasks
    assert layer.coefficients[0] == {
        "step": 0,
        "linear": next(iter(bench.model.linears)),
        "layer": 0,
        "task": "world/mood",
        "coefficient": pytest.approx(0.3),
    }
    concrete = run("concrete-arithmetic", bench, config)
    assert {row["step"] for row in concrete.densities} == {1, 2} and all(0.49 < row["density"] < 0.51 for row in concrete.densities)
    curve = views.jamming(bench, config, [0.0, 1e6], rows=10)
    first = [(r["jammer"], r["case"], r["defended"]) for r in curve[:3]]
    assert first == [(0, "sum", False), (0, "sum", True), (0, "strongest", False)] and len(curve) == 8
    assert curve[0]["accuracy"] == curve[2]["accuracy"]  # no jammer: no difference between its two aims
    # powers 4 and 2, far below the jammer's: z^2 + p z = p / mu makes z grow as the root of p
    assert curve[4]["jam"] == pytest.approx([1e6 * 2 / (2 + 2**0.5), 1e6 * 2**0.5 / (2 + 2**0.5)], rel=1e-3) and curve[6]["jam"] == [1e6, 0.0]
    json.dumps([alone, layer.coefficients, concrete.densities, curve])


@pytest.mark.parametrize(
    "args,sentence",
    [
        (["--methods", "zebra"], "methods: 'zebra' is not a way to merge; choose one of all, adamerging"),
        (["--arms", "dropout=0,0.1"], "arms: merging trains one arm a run"),
        (["--beside", "zebra"], "beside: 'zebra' is not an adapter method"),
        (["--powers", "4,-1"], "powers: -1 is not allowed"),
        (["--powers", "4,much"], "powers: 'much' is not allowed; give numbers above 0"),
        (["--unlabelled", "train"], "unlabelled: 'train' is not allowed; choose one of validation, test"),
        (["--ties-keep", "0"], "ties_keep: '0' is not allowed; give a number"),
        (["--tasks", "world/nothing"], "world/nothing"),
        (["--jobs", "none"], "jobs: 'none' is not allowed"),
        (["--seeds", "²"], "seeds: '²' is not allowed"),
        (["--models", "some"], "models: 'some' is not allowed; choose one of best, all, none"),
        (["--tasks", "world/mood"], "tasks: one task alone has nothing to be merged with"),
        (["--method", "mosld"], "method: MoSLD weighs its experts anew for every input and has no single update to merge"),
        (["--weights", "1,-1"], "weights: -1 is not allowed; give numbers from 0 to 100"),
        (["--peft", "nowhere"], "peft: 'nowhere' is not of the form TASK=DIR"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(args, sentence, tmp_path, capsys):
    assert main(["merge", "--out", str(tmp_path / "out"), *args]) == 2
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if " steps" not in line]  # what is about to be done is said first
    assert len(told) == 1 and sentence in told[0] and captured.out == ""


def test_runs_that_do_not_belong_together_are_refused(merged, tmp_path, capsys):
    assert main(["merge", "--out", str(tmp_path / "a"), "--from", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["merge", "--out", str(tmp_path / "b"), "--from", str(merged), "--seed", "1"]) == 2
    assert "seed: 0 of the run in" in capsys.readouterr().err
    mixture = merged / "runs" / "mixture-mosld"
    with pytest.raises(ConfigError, match="has 2 tasks and 1 arms; task vectors need one of each"):
        open_bench([mixture])
    single = merged / "runs" / "single-world-mood"
    with pytest.raises(ConfigError, match="'world/mood' has more than one run"):
        open_bench([single, single])


def test_families_stand_for_their_methods():
    assert chosen(("all",)) == tuple(MERGES) and chosen(("ties", "task-arithmetic")) == ("task-arithmetic", "ties")
    assert chosen(("adamerging",)) == ("adamerging-task", "adamerging-layer", "adamerging-task++", "adamerging-layer++")
    assert len(chosen(("mtllmf",))) == 7 and chosen(("adamerging-task",)) == ("adamerging-task",)
