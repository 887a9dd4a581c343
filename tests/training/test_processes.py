"""Two processes over gloo, as `accelerate launch` starts them, against one."""

import json
import os
import subprocess
import sys

import pytest

from mosld.config import RunConfig
from mosld.training import Trainer

# Five questions do not divide between two processes, and one is less than they are.
RUN = {"tasks": "world/mood,world/place", "layers": 1, "rank": 2, "steps": 3, "eval_rows": 10, "eval_every": 100, "arms": "balance=0,0.1"}


def launch(*command, timeout=300):
    """`--multi_gpu` is what makes accelerate start several processes; the variable keeps them on the CPU."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "-m"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*start, *command], capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.mark.parametrize("batch", [5, 1])
def test_a_batch_that_does_not_divide_gives_the_losses_of_one_process(tmp_path, batch):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in RUN.items()]
    done = launch("mosld", "train", *flags, f"--batch={batch}", "--out", str(tmp_path / "two"))
    assert done.returncode == 0 and "over 2 processes" in done.stderr, done.stderr
    frames = [json.loads(line) for line in (tmp_path / "two" / "frames.jsonl").read_text().splitlines()]
    alone = list(Trainer(RunConfig(**RUN, batch=batch)).frames())
    assert len(frames) == len(alone) == 4
    for two, one in zip(frames[1:], alone[1:], strict=True):
        even, balanced = zip(two["arms"], one.arms, strict=True)
        assert even[0]["loss"] == pytest.approx(even[1].loss, rel=1e-5)
        # a process balances the tokens that it sees itself: the same mean, of two parts
        assert balanced[0]["loss"] == pytest.approx(balanced[1].loss, rel=0.01)
        assert balanced[0]["extra"] == pytest.approx(balanced[1].extra, rel=0.05)
