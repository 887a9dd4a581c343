"""Plant faults in a copy of the project, one at a time, run the tests that should see each, and print which survived.

    python tests/planted/run.py                 all of them: about half an hour on two cores
    python tests/planted/run.py --list          their names and numbers
    python tests/planted/run.py 3 12 17         some of them

Not part of the suite. The project itself is not touched. Tests run in forks of one process that has the large libraries loaded, since
loading them takes longer than most of the tests. Returns 1 where a fault survived or no longer fits its file. See docs/tests.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from faults import FAULTS, Fault  # noqa: E402

LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "*.ipynb", "runs", ".venv", "pictures")


def plant(fault: Fault, tree: Path) -> str:
    """Put the fault into its file; returns what the file was. Raises ValueError where it does not fit."""
    whole = (tree / fault.file).read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise ValueError(f"'{fault.old[:60]}' stands {whole.count(fault.old)} times in {fault.file}, not once")
    (tree / fault.file).write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    return whole


def tried(fault: Fault, tree: Path, log: Path) -> str:
    """'caught', 'survived', or why it could not be tried; the tests' output is in `log`."""
    try:
        whole = plant(fault, tree)
    except ValueError as reason:
        return f"does not fit: {reason}"
    try:
        child = os.fork()
        if child == 0:
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            os.chdir(tree)
            sys.path.insert(0, str(tree))
            import pytest

            code = pytest.main([*fault.tests.split(), "-x", "-q", "-p", "no:cacheprovider", "--durations=0", "--no-header"])
            sys.stdout.flush()
            os._exit(int(code))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        (tree / fault.file).write_text(whole, encoding="utf-8")
    return {0: "survived", 1: "caught"}.get(code, f"the tests could not run ({code}): {log}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults one at a time and see whether the tests near them notice.")
    parser.add_argument("numbers", nargs="*", type=int, metavar="N", help="some of the faults; without any, all")
    parser.add_argument("--list", action="store_true", help="the faults and their tests")
    args = parser.parse_args()
    if args.list:
        for number, fault in enumerate(FAULTS, 1):
            print(f"{number:2d}  {fault.name}  ({fault.file}; {fault.tests})")
        return 0
    wanted = args.numbers or range(1, len(FAULTS) + 1)
    print(f"{len(wanted)} faults, one at a time, each with the tests nearest to it; about 40 s each.", flush=True)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two faults in one file within a second would otherwise share compiled code
    sys.dont_write_bytecode = True
    import accelerate  # noqa: F401  (with torch, transformers and pandas: loaded once for all forks)
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import torch
    from transformers import AutoModel, BertModel  # noqa: F401

    torch.set_num_threads(1)  # no thread pool that a fork would lose
    found = {}
    with tempfile.TemporaryDirectory(prefix="planted-") as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        for number in wanted:
            fault, began = FAULTS[number - 1], time.perf_counter()
            found[number] = tried(fault, tree, Path(tempfile.gettempdir()) / f"planted-{number}.txt")
            print(f"{number:2d}  {found[number]:9}  {time.perf_counter() - began:4.0f} s  {fault.name}", flush=True)
    bad = [n for n, result in found.items() if result != "caught"]
    print(f"{len(found) - len(bad)} of {len(found)} were caught." + (f" Not: {', '.join(map(str, bad))}." if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
