"""The tests that train, once under each setting by which machines differ: `python tests/machines.py`.

Sums are rounded in another order with other threads or another instruction set, and training magnifies that. A test of a run may therefore
ask for orders, signs and margins only. Each setting here is a run of its own; the numeric libraries read these variables when they are loaded.

    python tests/machines.py                      every setting, on the tests that train
    python tests/machines.py avx2 tests/app       one setting, or some tests
    python tests/machines.py --list               the settings, each with the last digits of a short run under it

pytest's exit status of the first setting that is not green is this command's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN = (
    *(f"tests/app/test_{name}.py" for name in ("lessons", "questions", "api", "session", "compare_tab", "merge", "slow", "inspect", "geometry_tab")),
    *(f"tests/{name}" for name in ("training", "studies", "merging", "figures", "notebooks", "backbones/test_nano.py", "backbones/test_distil.py")),
    "tests/test_cli.py",
)
# ATEN_CPU_CAPABILITY: torch's own kernels; ONEDNN_MAX_CPU_ISA: oneDNN; MKL_*: matrix products (Intel's processors; all)
SETTINGS: dict[str, dict[str, str]] = {
    "1-thread": {"OMP_NUM_THREADS": "1"},
    "2-threads": {"OMP_NUM_THREADS": "2"},
    "avx2": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "oldest": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
    },
}
DIGITS = """
import torch
from mosld.config import RunConfig
from mosld.training import Trainer
*_, last = Trainer(RunConfig(steps=12, batch=8, eval_rows=10, tasks="world/mood,world/place", arms="", lr=0.02, top_k=1)).frames()
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), "threads, loss", last.arms[0].loss)
"""


def environment(name: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **SETTINGS[name], "PYTHONPATH": os.pathsep.join(paths)}


def main(args: list[str]) -> int:
    if {"-h", "--help"} & set(args):
        print(__doc__)
        return 0
    names = [a for a in args if a in SETTINGS] or list(SETTINGS)
    if "--list" in args:
        for name in names:
            print(f"{name:10}", " ".join(f"{k}={v}" for k, v in SETTINGS[name].items()), flush=True)
            subprocess.run([sys.executable, "-c", DIGITS], env=environment(name), cwd=ROOT, check=True)
        return 0
    tests = [a for a in args if a not in SETTINGS] or list(TRAIN)
    status = 0
    for name in names:
        began = time.monotonic()
        print(f"== {name}: {' '.join(f'{k}={v}' for k, v in SETTINGS[name].items())}", flush=True)
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", "--durations=0", "--durations-min=20", *tests], env=environment(name), cwd=ROOT)
        print(f"== {name}: {'green' if code.returncode == 0 else 'NOT GREEN'}, {time.monotonic() - began:.0f} s", flush=True)
        status = status or code.returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
