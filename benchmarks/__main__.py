"""python -m benchmarks [part ...]: speed and memory, side by side in one run; one table in Markdown."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 6.0
# name: what it measures, about how many seconds it takes at the default, on two cores
PARTS = {
    "linear": ("one adapted linear of width 128, 384 and 2048, forward and backward", 60),
    "steps": ("whole training steps of nano, MiniLM and a small LLaMA", 100),
    "arms": ("two arms beside one in the Trainer, and the cost of probing", 35),
    "memory": ("what a forward pass keeps for its backward pass", 15),
    "app": ("the app: start to page, Run to first frame, frames a second, a browser's main thread", 75),
    "compiled": ("steps of a small LLaMA under torch.compile, adapters in the graph and left out of it, most of it compiling", 400),
    "gpu": ("on a CUDA device: LLaMA-7B-shaped layers in bfloat16, one linear, 20 small runs at once, peak memory", 120),
}
USUAL = [name for name in PARTS if name not in ("gpu", "compiled")]
FURTHER = {
    "backbones": "accuracy and pace of nano beside its teacher (python -m benchmarks backbones --help)",
    "load": "a class opens the lab at once: seconds, refusals, memory (python -m benchmarks load --help)",
    "vanish": "visitors press Run and are gone: what stays of them (python -m benchmarks vanish --help)",
    "frames": "what a long run takes of the server and of the browser that watches (python -m benchmarks frames --help)",
    "threads": "what waiting threads cost a run, alone and beside other work (python -m benchmarks threads --help)",
    "kill": "a run killed wherever it changes a file goes on exactly (python -m benchmarks kill --help)",
    "pictures": "README's pictures and its film, taken anew from the page (python -m benchmarks pictures --help)",
    "fuzz": "odd texts, links, files and calls, thousands of them (python -m benchmarks fuzz --help)",
}


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in FURTHER:
        return importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    listed = [f"  {name:9s} {what}; about {seconds} s" for name, (what, seconds) in PARTS.items()] + [f"  {n:9s} {w}" for n, w in FURTHER.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.partition(": ")[2],
        epilog="parts:\n" + "\n".join(listed) + "\nBeside the frozen model and peft's LoRA; medians of ratios within a round, quartiles in brackets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join([*PARTS, *FURTHER])}; without any: all but gpu and compiled")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"time given to each comparison, default {SECONDS:g}")
    parser.add_argument("--out", type=Path, help="a file for the table, beside the screen")
    given = parser.parse_args()
    for name in given.parts:
        if name not in PARTS:
            parser.error(f"'{name}' is no part; choose from {', '.join([*PARTS, *FURTHER])}")
    parts = given.parts or USUAL
    for name in parts:
        print(f"{name}: {PARTS[name][0]}; about {PARTS[name][1] * given.seconds / SECONDS:.0f} s", flush=True)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as a run on the page has, so that figures can be repeated; before torch is imported
    from benchmarks import timing

    print(f"\n{timing.machine()}\n", flush=True)
    found = []
    for name in parts:
        print("\n".join(timing.HEAD), flush=True)
        for row in importlib.import_module(f"benchmarks.{name}").measure(given.seconds):
            print(timing.line(row), flush=True)
            found.append(row)
        print(flush=True)
    if given.out:
        given.out.write_text(f"{timing.machine()}\n\n{timing.table(found)}\n")


if __name__ == "__main__":
    main()
