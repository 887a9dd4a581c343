"""python -m benchmarks threads: what waiting threads cost a run, alone and beside other work. Bounded in number and time.

The steps of a default run by one and by two threads, which wait spinning (what OpenMP does by itself) or asleep (OMP_WAIT_POLICY=PASSIVE), in a
process of its own each; then the same beside as many busy processes as there are cores. A table in Markdown, of milliseconds a step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from benchmarks.served import ROOT

CODE = """
import sys, time
import torch
from mosld.config import RunConfig
from mosld.training import Trainer

torch.set_num_threads(int(sys.argv[1]))
times = []
for frame in Trainer(RunConfig(steps=1000, eval_rows=10, eval_every=1000)).advance(int(sys.argv[2])):
    times.append(time.perf_counter())
print(*(b - a for a, b in zip(times[5:], times[6:])))
"""
BUSY = "while True: pass"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__.partition(": ")[2])
    parser.add_argument("--steps", type=int, default=40, help="of each run, 10 to 400; default 40")
    given = parser.parse_args(arguments)
    if not 10 <= given.steps <= 400:
        parser.error("give 10 to 400 steps")
    print("| threads | waiting | alone, ms a step (quartiles) | beside busy processes |\n|---|---|---|---|", flush=True)
    for threads, policy in ((1, ""), (2, ""), (2, "PASSIVE")):
        alone = _run(threads, policy, given.steps)
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
        try:
            beside = _run(threads, policy, given.steps)
        finally:
            for process in busy:
                process.kill()
        print(f"| {threads} | {'' if threads == 1 else 'asleep' if policy else 'spinning'} | {alone} | {beside} |", flush=True)


def _run(threads: int, policy: str, steps: int) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "KMP_", "GOMP_", "MKL_"))}
    environ |= {"OMP_WAIT_POLICY": policy} if policy else {}
    command = [sys.executable, "-c", CODE, str(threads), str(steps)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=True)
    low, middle, high = statistics.quantiles([1000 * float(t) for t in done.stdout.split()], n=4)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"
