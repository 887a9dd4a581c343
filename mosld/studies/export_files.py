"""A run as files: tidy tables, JSON, and a Python script that repeats it. (`export_notebook.py` makes the notebook.)

- `portable(log)`: the run as it may leave the machine: files of one's own are named without their folders.
- `lighter(log, ...)`: the run with fewer of its probes or frames, for files that must stay small.
- `table(log, name)`: one of `TABLES` as CSV. `tables(log)`: all of them in one zip, with what their columns mean.
- `to_json(log)`: settings and frames. `script(log)`: the script.
- `zipped(files)`: named files as the bytes of a zip.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Mapping

import numpy as np

from mosld.config import ConfigError
from mosld.studies.export_notebook import changes, settings
from mosld.tasks.own import is_path
from mosld.training.frame import ArmFrame, Frame
from mosld.training.runlog import RunLog

TABLES = ("accuracies", "losses", "gates", "norms", "imbalance", "routing")
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: the same run gives the same bytes


def portable(log: RunLog) -> RunLog:
    """The run with every file of one's own named by its name alone; the same log where there is none."""
    names = {t: t.replace("\\", "/").rsplit("/", 1)[-1] for t in (*log.tasks, *log.held_out) if is_path(t)}
    if all(t == name for t, name in names.items()):
        return log

    def renamed(values):
        return values and {names.get(t, t): v for t, v in values.items()}

    def arm(a: ArmFrame) -> ArmFrame:
        return dataclasses.replace(a, accuracy=renamed(a.accuracy))

    held_out = [names.get(t, t) for t in log.held_out]
    return dataclasses.replace(
        log,
        config=log.config.replace(tasks=renamed(log.config.tasks), held_out=tuple(held_out)),
        tasks=[names.get(t, t) for t in log.tasks],
        held_out=held_out,
        **{field: renamed(getattr(log, field)) for field in ("chance", "majority", "data", "untrained")},
        frames=[dataclasses.replace(f, arms=[arm(a) for a in f.arms]) for f in log.frames],
    )


def lighter(log: RunLog, probes: int, frames: int | None = None) -> RunLog:
    """The run with about `probes` probed frames, and about `frames` frames, spread evenly; its first, last and eventful frames are kept.

    A frame without its probe keeps loss and accuracies. Scored frames, which alone say what the routers read, are the last to lose theirs.
    """
    probed = [i for i, f in enumerate(log.frames) if any(a.linears for a in f.arms)]
    read = [i for i in probed if any(a.accuracy for a in log.frames[i].arms)]
    with_probe = _spread(read, max(2, probes // 2))
    with_probe |= _spread([i for i in probed if i not in read], max(2, probes - len(with_probe)))
    kept = set(range(len(log.frames)))
    if frames is not None and len(kept) > frames:
        scored = [i for i, f in enumerate(log.frames) if any(a.accuracy for a in f.arms)]
        eventful = [i for i, f in enumerate(log.frames) if f.event]
        kept = _spread(range(len(log.frames)), frames) | _spread(scored, frames) | _spread(eventful, frames) | with_probe

    def bare(f: Frame) -> Frame:
        return dataclasses.replace(f, arms=[dataclasses.replace(a, linears=None) for a in f.arms])

    return dataclasses.replace(log, frames=[f if i in with_probe else bare(f) for i, f in enumerate(log.frames) if i in kept])


def _spread(indices, most: int) -> set[int]:
    """At most `most` of the indices, evenly spread, the first and the last among them."""
    indices = list(indices)
    return set(indices) if len(indices) <= most else {indices[i] for i in np.linspace(0, len(indices) - 1, most).astype(int)}


def numbers(log: RunLog) -> int:
    """How many numbers the probes of a run hold: what the size of its files goes by."""
    a_probe = [sum(2 * len(log.tasks) * i.experts + 4 * i.experts + 9 for i in infos) for infos in log.linears]
    return sum(size for f in log.frames for size, a in zip(a_probe, f.arms, strict=True) if a.linears)


def table(log: RunLog, name: str) -> str:
    """One of `TABLES` as CSV, numbers in full; an empty cell is a gap. Raises ConfigError for another name."""
    if name not in TABLES:
        raise ConfigError(f"table: '{name[:40]}' is not known; choose one of {', '.join(TABLES)}.")
    return getattr(log, name)().to_csv(index=False)


def tables(log: RunLog) -> bytes:
    """All tables in one zip, with a text that says what their columns are."""
    about = [f"{name}.csv\n    {getattr(RunLog, name).__doc__}\n" for name in TABLES]
    head = "Tables of a run of MoSLD Lab. Layers, experts and steps count from 0; an empty cell is a gap. `mosld.probes` defines the quantities.\n"
    return zipped({"columns.txt": "\n".join([head, *about]), **{f"{name}.csv": table(log, name) for name in TABLES}})


def to_json(log: RunLog) -> str:
    """Header (settings, arms, linears, versions, data) and frames as one JSON object; what is no finite number is null."""
    data = {**log.header(), "frames": [f.to_dict() for f in log.frames]}
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:  # a run that diverged
        return json.dumps(finite(data), allow_nan=False)


def finite(value):
    """A JSON-able value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of named files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


SCRIPT = '''"""Repeats a run of MoSLD Lab: the same rows, batches and initial values.

    python THIS_FILE [FOLDER]

It needs the package `mosld`, and prints the last accuracies. With FOLDER, log and adapters are kept there. On the same machine, with
the same versions and number of threads, every number is the same; elsewhere rounding may grow.{own}
"""

import sys

from mosld.cli import summary
from mosld.config import RunConfig
from mosld.training import Trainer

{settings}
{changes}
trainer = Trainer(config, sys.argv[1] if len(sys.argv) > 1 else None)
{loop}
log = trainer.log
print(summary(log))
'''
STEPS = """for frame in {frames}:
    print(f"step {{frame.step}} of {{config.steps}}", end="\\r", file=sys.stderr)"""
CHANGED = """for until, arm, values in [*changes, ({last}, None, {{}})]:
    for frame in trainer.advance(until - trainer.step):
        print(f"step {{frame.step}} of {{config.steps}}", end="\\r", file=sys.stderr)
    if values:
        trainer.change(arm, **values)"""


def script(log: RunLog) -> str:
    """A Python script that repeats the run as far as it went, with what was changed by hand on the way."""
    made, last = changes(log), log.frames[-1].step
    rows = "".join(f"    ({step}, {arm}, {values!r}),\n" for step, arm, values in made)
    whole = log.frames[-1].event in ("end", "diverged")
    loop = CHANGED.format(last=last) if made else STEPS.format(frames="trainer.frames()" if whole else f"trainer.advance({last})")
    return SCRIPT.format(
        own="\nThe run read a file of your own: it must lie in the folder where you start this script." if any(map(is_path, log.data)) else "",
        settings=settings(log.config),
        changes=f"# (step, arm, values): changed by hand once that step was done\nchanges = [\n{rows}]\n" if made else "",
        loop=loop,
    )
