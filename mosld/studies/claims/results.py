"""Results as small plain files: a JSON object a line for every run, and what was registered before the first of them.

- `FOLDER`: the stored results. `load(folder)`, `add(folder, records)`, `collect(sources, folder)`.
- `registered()`: the commit and day of plan.md, and its hash. `accepted(record)`: whether a run was made under it.
- `MEASURES`, `measure(record, name)`: what a claim takes of a run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import subprocess
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from mosld import files
from mosld.config import ConfigError
from mosld.studies.claims import CLAIMS

HERE = Path(__file__).parent
PLAN, REGISTRATION = HERE / "plan.md", HERE / "registration.json"
FOLDER = HERE.parent / "results"
TUNING = 1000  # seeds from here on choose rates and are never tested on
IMBALANCE = ("updates", "gradient", "step", "relative step")
READS = ("word", "place", "task")
DISTURBED = ("tokens", "texts", "mean")
MEASURES = (
    "accuracy",
    "likelihood",
    "validation",
    "outside",
    "gap",
    *(f"{size}imbalance {name}" for name in IMBALANCE for size in ("", "size of ")),
    *(f"information {name}" for name in READS),
    *(f"lost {name}" for name in DISTURBED),
)


@functools.cache
def plan_hash() -> str:
    """16 hex digits of the sha256 of plan.md and of what decides in the claims' files: contrasts, seeds, arms and settings, not their prose."""
    from mosld.studies.claims.arms import ARMS, SETTINGS

    parts = [[c.id, c.seeds, c.settings, c.readings, [dataclasses.astuple(x) for x in c.contrasts]] for c in CLAIMS.values()]
    parts += [
        ARMS,
        {name: [s.backbone, s.tasks, s.held_out, s.steps, s.grid, s.seeds, s.tuning, s.batch, dict(s.more)] for name, s in SETTINGS.items()},
    ]
    return hashlib.sha256(PLAN.read_bytes() + json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def register() -> dict[str, str]:
    """Write down under which commit, and when, plan.md was committed. Raises ConfigError outside a git checkout, or where it is not committed."""
    git = ["git", "-C", str(HERE)]
    try:
        if subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True).stdout.strip():
            raise ConfigError("plan: something in mosld/studies/claims is not committed; commit it first.")
        said = subprocess.run([*git, "log", "-1", "--format=%H %cI", "--", "."], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        raise ConfigError("plan: this is no git checkout, so there is no commit to register it under.") from None
    when = datetime.fromisoformat(said[1]).astimezone(timezone.utc)
    out = {"commit": said[0], "date": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "hash": plan_hash()}
    REGISTRATION.write_text(json.dumps(out, indent=1) + "\n")
    return out


def registered() -> dict[str, str]:
    """`commit` and `date` (UTC) under which plan.md was registered, and its `hash`. Raises ConfigError where the plan was changed since."""
    if not REGISTRATION.is_file():
        raise ConfigError("plan: it is not registered yet; commit it, then `python -m mosld claims register`.")
    out = json.loads(REGISTRATION.read_text())
    if out["hash"] != plan_hash():
        raise ConfigError(f"plan: plan.md is not the one registered under commit {out['commit'][:10]}; a changed plan needs runs of its own.")
    return out


def accepted(record: dict, plan: dict[str, str]) -> bool:
    """Whether a run was made under the registered plan: it carries its hash, and was begun after it was committed."""
    return record.get("plan") == plan["hash"] and record.get("began", "") > plan["date"]


def load(folder: Path = FOLDER) -> dict[str, dict]:
    """Every run of a folder by its key. Of runs of one key the one made first is kept. A last line cut short is left out."""
    out: dict[str, dict] = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            old = out.get(record["key"])
            if old is None or record["began"] < old["began"]:
                out[record["key"]] = record
    return out


def add(folder: Path, name: str, records: Iterable[dict]) -> None:
    """Write records as one file, whole or not at all; their environments go into environments.json."""
    records, environments = list(records), _environments(folder)
    before = len(environments)
    for i, r in enumerate(records):
        if isinstance(r["env"], dict):
            text = json.dumps(r["env"], sort_keys=True)
            short = hashlib.sha256(text.encode()).hexdigest()[:8]
            environments[short], records[i] = r["env"], {**r, "env": short}
    if len(environments) > before:
        files.write(Path(folder) / "environments.json", json.dumps(environments, indent=1, sort_keys=True) + "\n")
    if records:
        files.write(Path(folder) / f"{name}.jsonl", "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))


def _environments(folder: Path) -> dict[str, dict]:
    path = Path(folder) / "environments.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def collect(sources: Iterable[Path], folder: Path = FOLDER) -> int:
    """Put the runs of several folders into one file a setting in `folder`, in the order of their keys; returns how many there are."""
    runs: dict[str, dict] = {}
    environments: dict[str, dict] = {}
    for source in (*sources, folder):
        environments |= _environments(source)
        for key, record in load(source).items():
            if key not in runs or record["began"] < runs[key]["began"]:
                runs[key] = record
    files.write(Path(folder) / "environments.json", json.dumps(environments, indent=1, sort_keys=True) + "\n")
    for name in sorted({r["setting"] for r in runs.values()}):
        add(folder, name, sorted((r for r in runs.values() if r["setting"] == name), key=lambda r: r["key"]))
    return len(runs)


def measure(record: dict, name: str) -> float | None:
    """One number of a run, None where it was not measured. Accuracies are in points; a run that diverged counts as 0 right."""
    if name == "accuracy":
        return _mean(record, "test", 0, 100)
    if name == "likelihood":
        return _mean(record, "test", 1, 1)
    if name == "validation":
        return record["validation"][1]
    if name == "outside":
        return _mean(record, "held_out", 0, 100)
    if name == "gap":
        return None if "train" not in record else 100 * record["train"][0] - _mean(record, "test", 0, 100)
    if name.startswith("lost "):
        values = record.get("disturbed")
        return None if not values else 100 * (values["none"] - values[name.removeprefix("lost ")])
    if name.startswith("information "):
        values = record.get("information")
        return None if not values else values[READS.index(name.removeprefix("information "))]
    kind = IMBALANCE.index(name.split("imbalance ")[1])
    last = record["config_steps"] / 2
    values = [row[kind + 1] for row in record.get("imbalance") or [] if row[0] > last and row[kind + 1] is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    return abs(mean) if name.startswith("size of") else mean


def _mean(record: dict, part: str, which: int, times: float) -> float | None:
    values = record.get(part)
    return times * sum(v[which] for v in values.values()) / len(values) if values else None
