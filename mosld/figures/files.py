"""The pictures of a run as files: loss, accuracy, gates, norms, the machine, router, imbalance."""

from __future__ import annotations

import re
from collections.abc import Callable

from mosld.figures.machine import machine
from mosld.figures.runs import accuracy, gates, imbalance, losses, norms, router
from mosld.figures.style import Picture
from mosld.training.runlog import RunLog

KINDS: dict[str, Callable[[Picture], bytes]] = {"png": Picture.png, "svg": Picture.svg}
MOST_CELLS = 5000  # of a picture of gates, which writes a number into each


def pictures(log: RunLog, kind: str = "png") -> dict[str, bytes]:
    """File name to file, `kind` of `KINDS`. Gates and norms are drawn for each arm; what was not probed or scored yet is left out,
    and so are gates of so many linears, tasks and experts that nobody could read them."""
    drawn: dict[str, Picture] = {"loss": losses(log)}
    if any(f.arms[0].accuracy for f in log.frames):
        drawn["accuracy"] = accuracy(log)
    if any(a.linears for f in log.frames for a in f.arms):
        for i, (name, infos) in enumerate(zip(log.arms, log.linears, strict=True)):
            arm = f"{i + 1}-" + re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
            if sum(info.experts for info in infos) * len(log.tasks) <= MOST_CELLS:
                drawn[f"gates-{arm}"] = gates(log, i)
            drawn[f"norms-{arm}"] = norms(log, i)
            drawn[f"machine-{arm}"] = machine(log, arm=i)
        drawn |= {"router": router(log), "imbalance": imbalance(log)}
    return {f"{name}.{kind}": KINDS[kind](picture) for name, picture in drawn.items()}
