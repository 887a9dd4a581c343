"""Execute the notebooks: `python notebooks/refresh.py`.

Each notebook is a percent-format script, NN_name.py; NN_name.ipynb beside it holds the same cells with their output. This command runs the
scripts' cells in a fresh kernel and writes the .ipynb anew.

    python notebooks/refresh.py              all of them, in full
    python notebooks/refresh.py 02 03        some of them
    python notebooks/refresh.py --fast       a check with few steps and seeds, as the tests do it; nothing is written

- `read(script)`: the notebook of a script, without output. `execute(notebook, fast)`: with output.

Where pyproject.toml names the public repository (`Repository = "https://github.com/owner/name"` under project.urls), every notebook gets badges
for Colab, Binder and molab and installs the lab from there; until then it is installed from the checkout that the notebook lies in.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these take seconds to import: not before the command's words are read
    import nbformat

FOLDER = Path(__file__).resolve().parent
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
MOST_BYTES = 600_000
# What would otherwise be committed with the output: joblib's note that a busy machine made it start another worker.
QUIET = "ignore:A worker stopped"
PAIRING = "ipynb,py:percent"
FROM_CHECKOUT = '"-e", "..[lab,notebooks]"'  # how a notebook's first cell installs the lab
BADGES = {
    "Colab": (
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{}/blob/main/notebooks/{}.ipynb",
    ),
    "Binder": (
        "https://mybinder.org/badge_logo.svg",
        "https://mybinder.org/v2/gh/{}/main?labpath=notebooks/{}.ipynb",
    ),
    "molab": (
        "https://marimo.io/molab-shield.svg",
        "https://molab.marimo.io/github/{}/blob/main/notebooks/{}.ipynb",
    ),
}


def address() -> str:
    """owner/name of the public repository on GitHub, from pyproject.toml; empty where none is named."""
    found = re.search(
        r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?"',
        (FOLDER.parent / "pyproject.toml").read_text(),
        re.M,
    )
    return found[1] if found else ""


def published(cells: list, name: str, at: str) -> None:
    """Give a notebook's cells the badges of the repository `at`, and let its first cell install from there. In place."""
    title, _, rest = cells[0].source.partition("\n")
    badges = " ".join(
        f"[![Open in {n}]({image})]({link.format(at, name)})" for n, (image, link) in BADGES.items()
    )
    cells[0].source = f"{title}\n\n{badges}\n{rest}"
    cells[1].source = cells[1].source.replace(
        FROM_CHECKOUT, f'"mosld[lab,notebooks] @ git+https://github.com/{at}"'
    )


def read(script: Path) -> nbformat.NotebookNode:
    """The cells of a script as a notebook. Cell ids follow from their place, so that a refresh changes no more than it must."""
    import jupytext

    notebook = jupytext.read(script)
    notebook.metadata = {
        "jupytext": {"formats": PAIRING},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if at := address():
        published(notebook.cells, script.stem, at)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{script.stem[:2]}-{number:02d}"
        cell.metadata = {}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(
    notebook: nbformat.NotebookNode, fast: bool = False, folder: Path = FOLDER
) -> nbformat.NotebookNode:
    """The notebook with the output of its cells, run in `folder`. Raises nbclient's CellExecutionError."""
    from nbclient import NotebookClient

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
    print(f"Executing {', '.join(s.stem for s in scripts)}; some minutes each.", flush=True)
    import nbformat
    from nbclient.exceptions import CellExecutionError

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
