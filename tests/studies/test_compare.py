"""The comparison as a user runs it, tiny and real: identical batches, nothing trained twice, stopped and gone on with, the table's numbers."""

import argparse
import csv
import re
from pathlib import Path

import pytest
import torch

from mosld.cli import main
from mosld.studies import compare
from mosld.studies.compare import read_methods, step_ms
from mosld.studies.runs import train, train_all
from mosld.training import Frame, RunLog
from mosld.training.frame import ArmFrame

QUICK = ["--layers", "1", "--steps", "3", "--batch", "4", "--eval-rows", "10", "--rank", "2", "--experts", "2", "--warmup", "1"]
TASKS = ["--tasks", "world/mood,world/place", "--held-out", "world/tense"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in runs side by side: sums are the same to the last digit for the same number of threads only
    assert main(["compare", "--methods", "lora,mosld:dropout=0.5", "--seeds", "2", *TASKS, *QUICK, "--out", str(out)]) == 0
    yield out
    torch.set_num_threads(threads)


def logs_of(out: Path):
    return {d.name: RunLog.load(d) for d in (out / "runs").iterdir()}


def test_one_run_a_method_and_seed_on_the_same_batches(compared):
    logs = logs_of(compared)
    assert set(logs) == {f"{m}-seed{s}" for m in ("lora", "mosld-dropout-0.5") for s in (0, 1)}
    assert logs["mosld-dropout-0.5-seed1"].config.dropout == 0.5 and logs["mosld-dropout-0.5-seed1"].config.seed == 1
    for s in (0, 1):
        one, two = logs[f"lora-seed{s}"], logs[f"mosld-dropout-0.5-seed{s}"]
        # B = 0: the first loss depends on the batch alone
        assert one.frames[1].arms[0].loss == two.frames[1].arms[0].loss and one.data == two.data and one.untrained == two.untrained
    assert logs["lora-seed0"].frames[1].arms[0].loss != logs["lora-seed1"].frames[1].arms[0].loss


def test_the_table_is_made_of_the_runs_last_accuracies(compared):
    logs = logs_of(compared)
    with (compared / "table.csv").open() as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    assert list(table) == ["chance", "commonest answer", "untrained backbone", "LoRA", "MoSLD (dropout 0.5)"]
    last = [logs[f"mosld-dropout-0.5-seed{s}"].frames[-1].arms[0].accuracy for s in (0, 1)]
    base = [logs[f"lora-seed{s}"].frames[-1].arms[0].accuracy for s in (0, 1)]
    ours = table["MoSLD (dropout 0.5)"]
    assert float(ours["world/place"]) == pytest.approx((last[0]["world/place"] + last[1]["world/place"]) / 2)
    assert float(ours["world/place spread"]) == pytest.approx(abs(last[0]["world/place"] - last[1]["world/place"]) / 2**0.5)
    assert float(ours["world/tense (held out)"]) == pytest.approx((last[0]["world/tense"] + last[1]["world/tense"]) / 2)
    means = [[(a["world/mood"] + a["world/place"]) / 2 for a in arms] for arms in (last, base)]
    assert float(ours["minus LoRA"]) == pytest.approx(sum(means[0]) / 2 - sum(means[1]) / 2)
    assert int(ours["parameters"]) == 2 * (2 * 128 + 2 * 2 * 128 + 2 * 128)  # q and v of one layer: A, two B, router
    assert float(table["chance"]["world/mood"]) == pytest.approx(0.25) and table["chance"]["parameters"] == ""
    untrained = [logs[f"lora-seed{s}"].untrained["world/mood"] for s in (0, 1)]
    assert float(table["untrained backbone"]["world/mood"]) == pytest.approx(sum(untrained) / 2)


def test_the_markdown_names_settings_and_machine(compared):
    text = (compared / "table.md").read_text()
    assert "steps 3" in text and "cores" in text and "over 2 seeds" in text
    assert re.search(r"\| LoRA +\| +1,024 \| +0\.\d{3} ± 0\.\d{3} \|", text)


def test_finished_runs_are_not_repeated_and_others_join_them(compared, capsys):
    made = {p: p.stat().st_mtime_ns for p in (compared / "runs").rglob("*") if p.is_file()}
    assert main(["compare", "--methods", "lora", "--seeds", "2", *TASKS, *QUICK, "--out", str(compared)]) == 0
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert "MoSLD" not in capsys.readouterr().out


def test_another_configuration_in_the_same_directory_is_refused(compared, capsys):
    assert main(["compare", "--methods", "lora", "--seeds", "1", *TASKS, *QUICK, "--batch", "5", "--out", str(compared)]) == 2
    assert "holds a run with batch 4, not 5" in capsys.readouterr().err


def test_an_interrupted_comparison_goes_on_to_the_same_numbers(compared, tmp_path, capsys):
    def interrupt(sentence, fraction):
        if sentence.endswith("step 2"):
            raise KeyboardInterrupt  # what Ctrl-C raises

    args = argparse.Namespace(methods="lora", seeds="1", jobs="1", out=str(tmp_path))
    values = {"tasks": TASKS[1], "held_out": TASKS[3], **{k[2:].replace("-", "_"): v for k, v in zip(QUICK[::2], QUICK[1::2], strict=True)}}
    assert compare.main(args, values, interrupt) == 130
    captured = capsys.readouterr()
    assert "the same command goes on" in captured.err and captured.out == ""
    assert len(RunLog.load(tmp_path / "runs" / "lora-seed0").frames) == 3
    assert compare.main(args, values, lambda *a: None) == 0
    assert RunLog.load(tmp_path / "runs" / "lora-seed0").frames == RunLog.load(compared / "runs" / "lora-seed0").frames


def test_a_run_killed_before_its_first_checkpoint_starts_anew(compared, tmp_path):
    done = RunLog.load(compared / "runs" / "lora-seed0")
    RunLog(**{**vars(done), "frames": done.frames[:1]}).save(tmp_path)  # the first is made before any step
    assert train(done.config, tmp_path).frames == done.frames


def test_side_by_side_gives_the_same_frames(compared, tmp_path):
    logs = logs_of(compared)
    told = []
    names = ["lora-seed0", "lora-seed1"]
    made = train_all({n: logs[n].config for n in names}, tmp_path, jobs=2, progress=lambda s, f: told.append(f))
    assert list(made) == names and all(made[n].frames == logs[n].frames for n in names)
    assert told == [0, 0.5, 1]


def test_methods_with_settings_of_their_own():
    assert read_methods("lora, mosld:rank=4:targets=q+v") == [
        ("LoRA", {"method": "lora"}),
        ("MoSLD (rank 4, targets q+v)", {"method": "mosld", "rank": "4", "targets": "q+v"}),
    ]


@pytest.mark.parametrize(
    "flags,sentence",
    [
        (["--methods", "lora,zebra"], "methods: 'zebra' is not known; choose one of lora"),
        (["--methods", "lora,lora"], "methods: 'lora' is named twice"),
        (["--methods", ","], "methods: none is named"),
        (["--methods", "lora:rank"], "methods: 'rank' in 'lora:rank' is not of the form name=value"),
        (["--methods", "lora:rank=0"], "rank: '0' is not allowed; give a whole number from 1 to 256."),
        (["--methods", "lora:colour=3"], "colour: this is not a known setting"),
        (["--seeds", "0"], "seeds: '0' is not allowed; give a whole number from 1 to 1000."),
        (["--method", "mosld"], "method: a comparison has one arm a run"),
        (["--tasks", "world/nothing"], "world/nothing"),
    ],
)
def test_bad_flags_are_one_sentence_before_anything_is_trained(flags, sentence, tmp_path, capsys):
    assert main(["compare", *flags, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "x").exists()


def made_log(done: RunLog, accuracy, event="end", seconds=(0.0, 1.0, 1.25, 1.55, 9.0)) -> RunLog:
    """A log with frames of the given clock: step 1 probed, steps 2 and 3 plain, step 4 scored."""
    plain, probes = ArmFrame(1, 0, 0, 0), done.frames[1].arms[0].linears
    arms = [ArmFrame(None, 0, 0, 0, accuracy), ArmFrame(1, 0, 0, 0, None, probes), plain, plain, ArmFrame(1, 0, 0, 0, accuracy)]
    frames = [Frame(i, [a], event if i == 4 else "", seconds=s) for i, (a, s) in enumerate(zip(arms, seconds, strict=True))]
    return RunLog(**{**vars(done), "frames": frames})


def test_milliseconds_are_of_plain_steps(compared):
    done = RunLog.load(compared / "runs" / "lora-seed0")
    assert step_ms(made_log(done, {"world/mood": 1.0})) == pytest.approx(275)  # the median of 250 and 300


def test_a_diverged_run_is_left_out_and_named(compared, tmp_path):
    logs = logs_of(compared)
    lost = logs["mosld-dropout-0.5-seed0"]
    lost.frames[-1] = Frame(2, [ArmFrame(None, 0.0, 0.0, 0.0)], "diverged")
    lost.untrained = {}
    found = {("LoRA", n): logs[f"lora-seed{n}"] for n in (0, 1)} | {("MoSLD", n): logs[f"mosld-dropout-0.5-seed{n}"] for n in (0, 1)}
    rows = {row.label: row for row in compare.rows_of(["LoRA", "MoSLD"], found)}
    assert rows["MoSLD"].seeds == [1] and rows["LoRA"].seeds == rows["untrained backbone"].seeds == [0, 1]
    text = compare.write(tmp_path, ["LoRA", "MoSLD"], found)
    assert "is left out: MoSLD at seed 0." in text
