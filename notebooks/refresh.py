"""Execute the notebooks: `python notebooks/refresh.py`.

Each notebook is a percent-format script, NN_name.py; NN_name.ipynb beside it holds the same cells with their output. This command runs the
scripts' cells in a fresh kernel and writes the .ipynb anew.

    python notebooks/refresh.py              all of them, in full
    python notebooks/refresh.py 02 03        some of them
    python notebooks/refresh.py --fast       a check with few steps and seeds, as the tests do it; nothing is written

- `read(script)`: the notebook of a script, without output. `execute(notebook, fast)`: with output.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
MOST_BYTES = 600_000
# What would otherwise be committed with the output: joblib's note that a busy machine made it start another worker.
QUIET = "ignore:A worker stopped"
PAIRING = "ipynb,py:percent"


def read(script: Path) -> nbformat.NotebookNode:
    """The cells of a script as a notebook. Cell ids follow from their place, so that a refresh changes no more than it must."""
    notebook = jupytext.read(script)
    notebook.metadata = {
        "jupytext": {"formats": PAIRING},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{script.stem[:2]}-{number:02d}"
        cell.metadata = {}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(
    notebook: nbformat.NotebookNode, fast: bool = False, folder: Path = FOLDER
) -> nbformat.NotebookNode:
    """The notebook with the output of its cells, run in `folder`. Raises nbclient's CellExecutionError."""
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        "OMP_NUM_THREADS": "1",  # small tensors gain little from two threads, and lose much where they share their cores with others
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": QUIET,
        "MOSLD_FAST": "1" if fast else "0",
    }
    client = NotebookClient(
        notebook,
        timeout=None,  # how long a cell takes is the machine's business
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    metadata = notebook.metadata.copy()
    client.execute(env=env)
    notebook.metadata = metadata
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Execute the notebooks and write each .ipynb beside its script."
    )
    parser.add_argument(
        "numbers", nargs="*", metavar="NN", help="numbers of notebooks, such as 02; without any, all"
    )
    parser.add_argument("--fast", action="store_true", help="few steps and seeds, and write nothing")
    args = parser.parse_args()
    scripts = [s for s in SCRIPTS if not args.numbers or s.stem[:2] in args.numbers]
    if not scripts:
        parser.error(f"no notebook has that number; there are {', '.join(s.stem for s in SCRIPTS)}.")
    for script in scripts:
        began = time.perf_counter()
        try:
            notebook = execute(read(script), args.fast)
        except CellExecutionError as error:
            print(f"{script.stem}: {error}", file=sys.stderr)
            return 1
        text = nbformat.writes(notebook)
        size = len(text.encode())
        print(f"{script.stem}: {time.perf_counter() - began:.0f} s, {size:,} bytes", flush=True)
        if size > MOST_BYTES:
            print(
                f"{script.stem}: {size:,} bytes are too many; at most {MOST_BYTES:,} are kept.",
                file=sys.stderr,
            )
            return 1
        if not args.fast:
            script.with_suffix(".ipynb").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
