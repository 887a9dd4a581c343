"""What the tab "Take away" offers, and how each file is made. Nothing here is kept but the last file of each kind, in the session's folder.

- `OFFERS`: what there is. `current(session)`: the visitor's run so far. `made(session, name, table)`: the file, written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mosld.config import ConfigError
from mosld.ui.folders import runs
from mosld.ui.session import Session

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog

EXPORT = "mosld.studies.export_files"
ALL = "all six, zipped"
MOST_NUMBERS = 2_000_000  # of the probes in a table or JSON file; of a longer run, probes at even distances are kept
MOST_ADAPTERS = 200_000_000  # bytes


@dataclass(frozen=True)
class Offer:
    """A file to take away: its button's text, what it is, the end of its name, and its content from a run (adapters: from the session too)."""

    button: str
    about: str
    ending: str
    make: Callable[[RunLog], str | bytes] | None = None


def _by(module: str, name: str, bounded: bool = False, **more) -> Callable[[RunLog], str | bytes]:
    """A maker that is imported when somebody wants its file: it brings torch or matplotlib, which take seconds."""

    def make(log: RunLog) -> str | bytes:
        try:
            return getattr(import_module(module), name)(_bounded(log) if bounded else log, **more)
        except ValueError as problem:  # a run too short for a film
            raise ConfigError(str(problem)) from None

    return make


def _zipped_pictures(kind: str) -> Callable[[RunLog], bytes]:
    def make(log: RunLog) -> bytes:
        from mosld.studies.export_files import zipped

        return zipped(_by("mosld.figures", "pictures", True, kind=kind)(log))

    return make


OFFERS: dict[str, Offer] = {
    "html": Offer(
        "Replay, one HTML file",
        "These pictures with time line and hover. Opens from disk, offline, or on any static host.",
        "replay.html",
        _by("mosld.ui.export", "page"),
    ),
    "tables": Offer("Tables, CSV", "Accuracies, losses, gates, norms, imbalance, routing; tidy, with all digits.", "tables.zip"),
    "json": Offer("Everything, JSON", "Settings, versions and every Frame, with all digits.", "run.json", _by(EXPORT, "to_json", True)),
    "png": Offer("Pictures, PNG", "Loss, accuracy, gates, router, norms and imbalance, for slides.", "pictures-png.zip", _zipped_pictures("png")),
    "svg": Offer("Pictures, SVG", "The same as lines that stay sharp at every size, for papers.", "pictures-svg.zip", _zipped_pictures("svg")),
    "film": Offer(
        "Film, WebP",
        "Ten seconds of the machine over the whole run, for slides, chats and a README.",
        "film.webp",
        _by("mosld.figures", "film", True),
    ),
    "adapters": Offer("Adapters", "The trained weights of each arm (safetensors) with their settings (JSON).", "adapters.zip"),
    "script": Offer("Python script", "Repeats the run, with every change you made on the way. Needs this package.", "run.py", _by(EXPORT, "script")),
    "notebook": Offer(
        "Notebook", "Repeats the run and draws its figures, for Jupyter.", "run.ipynb", _by("mosld.studies.export_notebook", "notebook")
    ),
}


def current(session: Session) -> RunLog:
    """The visitor's run as far as it has come: training, paused, or ended. Raises ConfigError where there is none."""
    from mosld.studies.export_files import portable
    from mosld.training.runlog import RunLog

    if session.trainer is None and session.state in ("waiting", "loading"):
        raise ConfigError("run: it is still loading; wait a moment.")
    if session.trainer is None and session.state == "paused":  # left by an earlier session and not loaded yet
        log = RunLog.load(runs(session.folder)[-1])
    else:
        log = session.ask(lambda trainer: _copy(trainer.log))
    if not log.frames:
        raise ConfigError("run: it has made no step yet; wait a moment.")
    return portable(log)


def _copy(log: RunLog) -> RunLog:
    """The log as it is now; its Frames never change."""
    return replace(log, frames=list(log.frames), untrained=dict(log.untrained))


def _bounded(log: RunLog) -> RunLog:
    from mosld.studies.export_files import lighter, numbers

    size, probed = numbers(log), sum(any(a.linears for a in f.arms) for f in log.frames)
    return log if size <= MOST_NUMBERS else lighter(log, max(2, probed * MOST_NUMBERS // size))


def made(session: Session, name: str, table: str = ALL) -> Path:
    """The file of an offer. Raises ConfigError for an unknown offer or table, and where there is no run."""
    from mosld.studies import export_files

    if name not in OFFERS:
        raise ConfigError(f"file: '{str(name)[:40]}' is not offered; choose one of {', '.join(OFFERS)}.")
    offer, log = OFFERS[name], current(session)
    ending = offer.ending
    if name == "tables":
        content = export_files.tables(_bounded(log)) if table == ALL else export_files.table(_bounded(log), str(table))
        ending = ending if table == ALL else f"{table}.csv"
    elif name == "adapters":
        content = _adapters(session, log)
    else:
        content = offer.make(log)
    place = session.folder / "take" / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    path = place / f"mosld-step{log.frames[-1].step}-{ending}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


HOW = """Adapters of a run of MoSLD Lab, after step {step}: a folder an arm.

    from mosld import backbones
    from mosld.adapters import attach, saved_config

    backbone = backbones.load({backbone!r}, layers={layers}, max_tokens={max_tokens}, temperature={temperature})
    config, further = saved_config("arm-1")
    handle = attach(backbone.model, config, **further)
    handle.load("arm-1")

Arms:
{arms}
"""


def _adapters(session: Session, log: RunLog) -> bytes:
    """A zip with a folder for each arm, as `Handle.save` writes it, and how to load it. Raises ConfigError where they are too large."""
    from mosld.studies.export_files import zipped

    size = 4 * sum(log.parameters)
    if size > MOST_ADAPTERS:
        raise ConfigError(f"adapters: {size:,} bytes are too many to pack here; {MOST_ADAPTERS:,} are allowed, give a lower rank or fewer experts.")
    place = session.folder / "take" / "saving"
    shutil.rmtree(place, ignore_errors=True)
    if session.trainer is None:
        from mosld.training.checkpoint import arm_folder  # imports torch

        shutil.copytree(arm_folder(runs(session.folder)[-1]).parent, place)
    else:
        session.ask(lambda trainer: [arm.handle.save(place / str(i)) for i, arm in enumerate(trainer.arms)])
    arms = "\n".join(f"    arm-{i + 1}: {log.config.arm(i).label}, {name}" for i, name in enumerate(log.arms))
    c = log.config
    how = HOW.format(step=log.frames[-1].step, backbone=c.backbone, layers=c.layers, max_tokens=c.max_tokens, temperature=c.temperature, arms=arms)
    files = {f"arm-{int(path.parent.name) + 1}/{path.name}": path.read_bytes() for path in sorted(place.glob("*/adapter.*"))}
    shutil.rmtree(place)
    return zipped({"how-to-load.txt": how, **files})
