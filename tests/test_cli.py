"""The command line as a user runs it: processes of their own, exit status, what stands on stdout and stderr."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mosld.cli import main, table
from mosld.config import RunConfig
from mosld.merging.config import MergeConfig

ROOT = Path(__file__).parents[1]
QUICK = ["--layers", "1", "--batch", "4", "--eval-rows", "12", "--rank", "4", "--tasks", "world/mood,world/place"]


def run(*args, timeout=300):
    return subprocess.run([sys.executable, "-m", "mosld", *args], capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("method,expected", [("lora", 4194304), ("mola", 22282240), ("mosld", 13893632)])
def test_params_prints_the_papers_counts(method, expected):
    # the method's section 4 set-up on LLaMA2-7B; the printed column is a hundred times too large, its digits agree
    done = run("params", "--method", method, "--shape", "llama2-7b", "--rank", "8", "--experts", "2-4-6-8", "--targets", "q,v")
    assert done.stdout == f"{expected}\n" and done.returncode == 0 and done.stderr == ""


def test_params_needs_no_torch():
    code = "import sys; from mosld.cli import main; main(['params']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("False\n")


def programs() -> list[str]:
    """Every command that README, docs and docstrings print, and each part of those that have parts."""
    files = [*(ROOT / "docs").glob("*.md"), *(p for part in ("mosld", "benchmarks", "tests") for p in (ROOT / part).rglob("*.py"))]
    text = "\n".join(p.read_text(encoding="utf-8") for p in [ROOT / "README.md", *files])
    printed = re.findall(r"python (-m (?:mosld|benchmarks|tests)[\w.]*|(?:tests|notebooks)/[\w/]+\.py|app\.py)", text)
    mosld = ["train", "compare", "merge", "claims", "site", "export", "look", "params", "tasks", "knobs"]
    benchmarks = ["backbones", "load", "vanish", "kill", "fuzz"]
    return sorted({*printed, *(f"-m mosld {name}" for name in mosld), *(f"-m benchmarks {name}" for name in benchmarks)})


@pytest.mark.parametrize("program", programs())
def test_help_is_printed_without_loading_torch(program):
    command = [sys.executable, "-X", "importtime", *program.split(), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "encodings" in loaded  # the imports are told at all
    assert not loaded & {"torch", "transformers", "gradio", "jupytext"}
    assert len(done.stdout + re.sub(r"import time:.*\n", "", done.stderr)) > 60 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args,sentence",
    [
        (["train", "--tasks", "world/nothing"], "world/nothing"),
        (["train", "--tasks", ""], "tasks: none is chosen"),
        (["train", "--method", "zebra"], "method: 'zebra' is not known"),
        (["train", "--top-k", "9"], "top_k: 9 is above the number of experts, 4"),
        (
            ["train", *QUICK, "--rank", "200", "--targets", "q"],
            "rank: 200 is above the smaller side of encoder.layer.0.attention.self.query (128 to 128)",
        ),
        (["train", *QUICK, "--targets", "zebra"], "targets: 'zebra' is no linear of this model"),
        (["train", "--config", "nowhere.json"], "config: 'nowhere.json' cannot be read"),
        (["train", "--resume", "nowhere"], "run: 'nowhere' holds no run.json"),
        (["params", "--shape", "zebra"], "shape: 'zebra' is not known; choose one of llama2-7b"),
        (["params", "--shape", "smollm2", "--targets", "v", "--rank", "200"], "rank: 200 is above the smaller side of v (576 to 192)"),
        (["params", "--targets", "zebra"], "targets: 'zebra' is not a linear of this shape"),
        (["params", "--tasks", "²"], "tasks: '²' is not allowed; give a whole number from 1 to 1000."),
        (["train", "--out", ""], "out: '' is not allowed; give a directory."),
        (["train", "--config", "nul\0byte"], "config: 'nul\\x00byte' cannot be read"),
        (["params", "--tasks", "none"], "tasks: 'none' is not allowed; give a whole number from 1 to 1000."),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(args, sentence, capsys):
    assert main(args) == 2
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if " steps, " not in line]  # what is about to be done is said first
    assert len(told) == 1 and sentence in told[0] and captured.out == ""


def test_a_broken_own_file_names_the_line_and_look_shows_what_was_understood(tmp_path, capsys):
    rows = [{"question": f"What is {i}?", "options": ["one", "two"], "answer": i % 2} for i in range(20)]
    lines = [json.dumps(r) for r in rows]
    lines[6] = lines[9] = lines[11] = '{"question": "What?", "options": ["one"], "answer": 0}'
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(lines))
    for command in (["train", "--tasks", str(path)], ["look", str(path)]):
        assert main(command) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("mine.jsonl: ") and "lines 7, 10, 12" in error
    path.write_text("\n".join(lines[:6] + lines[12:] * 2 + ["[]"]))
    assert main(["look", str(path), "--instruction", "Count"]) == 0
    shown = capsys.readouterr().out
    assert "question with its options" in shown and "Left out: 1 of 23 rows" in shown and shown.count("Count: What is") == 2
    assert main(["look", "mine.doc"]) == 2 and "'mine.doc' is not of a kind that is read" in capsys.readouterr().err


def test_tasks_fits_a_terminal_and_gives_an_example_of_each(capsys):
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 130 and sum("world/" in x[:6] or "real/" in x[:5] for x in lines) == 38


def test_train_resume_and_the_table(tmp_path):
    out = tmp_path / "run"
    done = run("train", *QUICK, "--steps", "4", "--eval-every", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "Accuracy at step 4 on test rows" in done.stdout
    for name in ("task", "chance", "majority", "untrained", "dropout 0", "dropout 0.1", "world/mood", "world/place", "mean of the mixture"):
        assert name in done.stdout
    assert (out / "run.json").is_file() and (out / "checkpoint-000004" / "arms" / "1" / "adapter.safetensors").is_file()
    again = run("train", "--out", str(out), *QUICK)
    assert again.returncode == 2 and "already holds a run" in again.stderr
    resumed = run("train", "--resume", str(out))
    assert resumed.returncode == 0 and resumed.stdout == done.stdout


def waited(process, ready) -> None:
    """Until `ready`, or the process has ended."""
    while not ready() and process.poll() is None:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()


def frames_of(out) -> int:
    return (out / "frames.jsonl").read_bytes().count(b"\n") if (out / "frames.jsonl").exists() else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_keeps_it(tmp_path, number):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "mosld", "train", *QUICK, "--steps", "5000", "--eval-every", "5000", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waited(process, lambda: frames_of(out) > 3)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130 and "go on with: python -m mosld train --resume" in stderr and "Traceback" not in stderr
    assert "once more leaves at once" in stderr and "Accuracy at step 0 on validation rows" in stdout
    kept = json.loads((out / "checkpoint.json").read_text())
    assert kept["step"] == frames_of(out) - 1 > 2  # the last frame's step, complete


def test_a_second_signal_leaves_at_once():
    code = """
import os, signal, sys
from mosld.studies.runs import stopping
with stopping(lambda: print("paused", flush=True)) as told:
    os.kill(os.getpid(), signal.SIGINT)
    while not told:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGTERM and done.stdout == "paused\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_comparison_leaves_no_orphans(tmp_path, number):
    """Its parent ended by a signal to it alone, its processes end too, and save."""
    command = [sys.executable, "-m", "mosld", "compare", "--methods", "lora,mosld", "--seeds", "1", "--jobs", "2", *QUICK, "--steps", "5000"]
    with (tmp_path / "said").open("w+") as said:  # no pipe: those of processes left behind would stay open
        process = subprocess.Popen([*command, "--out", str(tmp_path)], stdout=said, stderr=said)
        runs = [tmp_path / "runs" / name for name in ("lora-seed0", "mosld-seed0")]
        waited(process, lambda: all(frames_of(run) > 2 for run in runs))
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(number)
        process.wait(600)
        assert psutil.wait_procs(children, timeout=600)[1] == []
    if number == signal.SIGTERM:
        assert process.returncode == 130 and "the same command goes on" in (tmp_path / "said").read_text()
    for run in runs:
        assert json.loads((run / "checkpoint.json").read_text())["step"] == frames_of(run) - 1 > 1


def test_tasks_lists_licence_and_source(capsys):
    assert main(["tasks"]) == 0
    text = capsys.readouterr().out
    assert "world/mood" in text and "real/piqa" in text and "licence" in text and "source" in text


@pytest.mark.parametrize("command", ["knobs", "tasks", "claims"])
def test_a_listing_is_no_wider_than_a_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([command]) == 0
    wide = [line for line in capsys.readouterr().out.splitlines() if len(line.rstrip()) > 110]
    assert not [line for line in wide if " " in line.strip()], "but for a path that is longer by itself"


def test_knobs_lists_every_setting(capsys):
    assert main(["knobs"]) == 0
    run, rest = capsys.readouterr().out.split("Settings of merging")
    merging, methods = rest.split("Settings of one method")
    heads = lambda text: re.findall(r"^(\w+)  \(default (.*?); ((?:.|\n      )*?)\)$", text, re.M)  # noqa: E731
    assert [name for name, *_ in heads(run)] == list(RunConfig.model_fields)
    assert "gate_dropout" in methods and "link key top_k" not in run and "link key" not in merging
    found = {name: (default, " ".join(allowed.split())) for name, default, allowed in heads(merging)}
    assert list(found) == list(MergeConfig.model_fields)
    assert found["lam"] == ("0.3", "0 to 2") and found["ada_steps"] == ("500", "1 to 100000") and found["powers"][0] == "4.0,2.0,1.0"
    assert found["unlabelled"] == ("validation", "validation, test") and found["ties_lam"] == ("none", "0 to 10") and found["methods"][0] == "all"


def test_table_aligns_words_left_and_numbers_right():
    assert table([["name", "n"], ["a", "10"], ["bcdef", "2"]]) == "| name  |  n |\n| ----- | -: |\n| a     | 10 |\n| bcdef |  2 |"
