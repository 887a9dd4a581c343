"""`python -m mosld claims`: what is claimed, its verdicts, its runs, its report.

claims                          every claim with its verdicts, from the stored results
claims run C3 --scale quick     a tenth of the steps, three seeds; its result beside the stored one
claims run all --setting nano-world --jobs 8
claims collect DIR              put runs into the stored results
claims report                   write report.html, report.md and the pictures from the stored results
claims register                 note under which commit the plan stands
claims data DIR                 take ARC and OpenBookQA from a folder of JSON lines
"""

from __future__ import annotations

import math
import sys
import textwrap
import time
from pathlib import Path

from mosld.config import ConfigError
from mosld.studies.claims import CLAIMS, ORDER
from mosld.texts import table

WIDE = 110  # columns of a listing
ACTIONS = ("list", "run", "report", "collect", "register", "data")


def add_parser(commands) -> None:
    """The subcommand `claims` of `python -m mosld`."""
    p = commands.add_parser("claims", help="the claims of the paper with their verdicts; run them, report them", description=__doc__.split("\n")[0])
    p.add_argument("action", nargs="?", default="list", choices=ACTIONS, help="default: list")
    p.add_argument("what", nargs="*", default=[], help="run: claims such as C3, or all. collect, data: directories")
    p.add_argument("--scale", default="full", choices=("quick", "full"), help="quick: a tenth of the steps and three seeds. Default: full.")
    p.add_argument("--setting", default="", help="backbone and tasks, as in nano-world; by default nano-world for quick, the primary one for full")
    p.add_argument("--jobs", default="1", help="processes side by side. Default: 1.")
    p.add_argument("--devices", default="cpu", help="devices of the processes in turn, as in cuda:0,cuda:1. Default: cpu.")
    p.add_argument("--width", default="0", help="runs stacked in one process at most; 0: one on a CPU, many on a GPU")
    p.add_argument("--minutes", default="", help="stop after this time and keep what is done")
    p.add_argument("--cluster", default="", metavar="ADDRESS", help="send the runs to a Dask scheduler (needs the package distributed)")
    p.add_argument("--out", default="", metavar="DIR", help="directory of the runs (default runs/claims), or of the report")
    p.set_defaults(run=main)


def main(args) -> int:
    """Run a subcommand; returns the exit status."""
    return {"list": _list, "run": _run, "report": _report, "collect": _collect, "register": _register, "data": _data}[args.action](args)


def _list(args) -> int:
    from mosld.studies.claims.report import rows

    print("What is claimed, and what the runs say: at one learning rate for all (recipe), at each method's best (tuned).\n")
    for row in rows():
        print(textwrap.fill(f"{row['id']}: {row['title']}.", WIDE, subsequent_indent="    "))
        found = f"{row['verdict']['recipe']} (recipe), {row['verdict']['tuned']} (tuned): {row['figure']}"
        print(textwrap.fill(found, WIDE, initial_indent="    ", subsequent_indent="    "))
    return 0


def chosen(names: list[str]) -> list[str]:
    """Claims by name, in the order in which they are run. Raises ConfigError."""
    if not names or names == ["all"]:
        return [i for i in ORDER if CLAIMS[i].contrasts]
    for name in names:
        if name.upper() not in CLAIMS:
            raise ConfigError(f"claim: '{name[:20]}' is not known; choose among {', '.join(sorted(CLAIMS, key=lambda i: int(i[1:])))}, or all.")
    return [i for i in ORDER if i in {n.upper() for n in names}]


def _run(args) -> int:
    from mosld.studies.claims.arms import SETTINGS, quick
    from mosld.studies.claims.report import live
    from mosld.studies.claims.results import registered

    ids = chosen(args.what)
    if ids == ["C1"]:
        return _list(args)
    name = args.setting or ("nano-world" if args.scale == "quick" else CLAIMS[ids[0]].settings[0])
    if name not in SETTINGS:
        raise ConfigError(f"setting: '{name[:40]}' is not known; choose one of {', '.join(SETTINGS)}.")
    jobs, width = (_whole(n, getattr(args, n)) for n in ("jobs", "width"))
    if args.minutes and not args.minutes.replace(".", "", 1).isdigit():
        raise ConfigError(f"minutes: '{args.minutes}' is not allowed; give a number above 0.")
    deadline = time.time() + 60 * float(args.minutes) if args.minutes else math.inf
    setting = quick(SETTINGS[name]) if args.scale == "quick" else SETTINGS[name]
    if args.scale == "full":
        plan = registered()  # nothing is run for the record under a plan that is not registered
        print(f"Plan registered in commit {plan['commit'][:10]}, {plan['date']}.", file=sys.stderr)
    much = "a few minutes" if args.scale == "quick" else "hours on two cores"
    print(f"Training {', '.join(ids)} in the setting {name}, {setting.seeds} seeds: {much}.", file=sys.stderr, flush=True)
    from mosld.studies.claims.run import study

    folder = Path(args.out or "runs/claims") / (args.scale if args.scale == "quick" else "")
    devices = [d for d in args.devices.split(",") if d]
    try:
        known = study(ids, setting, folder, devices, max(jobs, 1), width or None, deadline, args.cluster, args.scale == "quick")
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on.", file=sys.stderr)
        return 130
    cells = [["claim", "reading", "contrast", "here", "verdict here", "stored"]]
    cells += [[r["id"], r["reading"], r["label"], r["figure"], r["verdict"], r["stored"]] for r in live(ids, setting, known)]
    print(table(cells))
    if args.scale == "quick":
        print("\nA quick run shows the direction at most: it has a tenth of the steps, and too few seeds for a verdict.")
    return 0


def _whole(name: str, text: str) -> int:
    if not text.isdigit() or int(text) > 1000:
        raise ConfigError(f"{name}: '{text}' is not allowed; give a whole number up to 1000.")
    return int(text)


def _report(args) -> int:
    folder = Path(args.out) if args.out else None
    if folder and not any(folder.glob("*.jsonl")):
        raise ConfigError(f"out: '{args.out[-80:]}' holds no stored runs; put some there with: python -m mosld claims collect RUNS --out DIR.")
    print("Drawing the report from the stored runs, about half a minute.", file=sys.stderr, flush=True)
    from mosld.studies.claims.report import write

    for path in write(folder):
        print(path)
    return 0


def _collect(args) -> int:
    from mosld.studies.claims.results import FOLDER, collect

    missing = [d for d in args.what if not Path(d).is_dir()]
    if missing or not args.what:
        raise ConfigError(f"collect: '{missing[0] if missing else ''}' is not a directory; name one that holds runs.")
    print(f"{collect([Path(d) for d in args.what], Path(args.out) if args.out else FOLDER)} runs.")
    return 0


def _register(args) -> int:
    from mosld.studies.claims.results import register

    print("plan {hash} registered in commit {commit}, {date}".format(**register()))
    return 0


def _data(args) -> int:
    from mosld.studies.claims.data import adopt

    if len(args.what) != 1:
        raise ConfigError("data: name one folder that holds arc_easy.train.jsonl and its like.")
    for name, rows in adopt(args.what[0]).items():
        print(f"{name}: {rows} rows")
    return 0
