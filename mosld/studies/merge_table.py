"""The table of a merging study: a row a model, scored, over one seed or several; as Markdown, CSV and the course of every merge as JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mosld.config import RunConfig, to_text
from mosld.files import write as write_file
from mosld.merging.config import SEES, MergeConfig
from mosld.studies.statistics import mean, paired_interval, spread
from mosld.texts import table

if TYPE_CHECKING:
    from mosld.merging.methods import Merge

SHOWN = ("backbone", "layers", "method", "rank", "targets", "steps", "batch", "lr", "seed", "eval_rows")  # above the table
SINGLE = "an adapter a task"  # how the label of the unmerged adapters ends: what differences are taken to


@dataclass
class Row:
    """A line of the table: a model and its test accuracy. None: it has none. Lists have one value a seed."""

    label: str
    accuracy: list[dict[str, float]] = field(default_factory=list)
    trained: int | None = None  # numbers that were learned
    stored: int | None = None  # numbers kept beside the backbone
    seconds: list[float] = field(default_factory=list)
    sees: str = "-"

    def means(self, names: list[str]) -> list[float]:
        """Mean accuracy over these tasks, one a seed."""
        return [mean([a[n] for n in names]) for a in self.accuracy]


def joined(tables: list[list[Row]]) -> list[Row]:
    """The tables of several seeds as one."""
    out = tables[0]
    for more in tables[1:]:
        for row, other in zip(out, more, strict=True):
            row.accuracy += other.accuracy
            row.seconds += other.seconds
    return out


def write(folder: Path, config: RunConfig, options: MergeConfig, rows: list[Row], merges: list[list[Merge]]) -> str:
    """Write `table.csv` (a line a model and seed), `table.md` and `merges.json` (of every seed) into `folder`; returns the Markdown."""
    names = list(config.tasks)
    seeds = len(merges)
    heads = ["model", "mean", *names, *(f"{t} (held out)" for t in config.held_out), "trained", "stored", "seconds", "looks at"]
    single = next((r for r in rows if r.label.endswith(SINGLE)), None)
    numbers, cells = [["seed", *heads]], [[*heads[:2], *(["minus the adapters"] if seeds > 1 else []), *heads[2:]]]
    for row in rows:
        for n, accuracy in enumerate(row.accuracy):
            values = [accuracy.get(t) for t in [*names, *config.held_out]]
            seconds = row.seconds[n] if n < len(row.seconds) else None
            numbers.append([config.seed + n, row.label, mean(values[: len(names)]), *values, row.trained, row.stored, seconds, row.sees])
        by_task = [_spread([a[t] for a in row.accuracy if t in a]) for t in [*names, *config.held_out]]
        against = single if seeds > 1 and row is not single and row.trained else None
        difference = [_interval(row.means(names), against.means(names), config.eval_rows * len(names)) if against else "-"] if seeds > 1 else []
        waited = "-" if not row.seconds else f"{mean(row.seconds):.1f}"
        cells.append([row.label, _spread(row.means(names)), *difference, *by_task, _count(row.trained), _count(row.stored), waited, row.sees])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(numbers)
    text = "\n\n".join([_heading(config, options, seeds), table(cells), _notes(rows, seeds)])
    write_file(folder / "table.md", text + "\n")
    fields = ("seconds", "sees", "learned", "coefficients", "densities", "losses", "jam")
    course = [{m.method: {n: getattr(m, n) for n in fields} for m in own} for own in merges]
    record = {"config": config.model_dump(mode="json"), "merging": options.model_dump(mode="json"), "merges": course}
    write_file(folder / "merges.json", json.dumps(record, indent=1))
    return text


def _spread(values: list[float]) -> str:
    """One value, or mean ± standard deviation over seeds."""
    if not values:
        return "-"
    return f"{values[0]:.3f}" if len(values) == 1 else f"{mean(values):.3f} ± {spread(values):.3f}"


def _interval(first: list[float], second: list[float], questions: int) -> str:
    centre, low, high = paired_interval(first, second, rows=questions)
    return f"{centre:+.3f} [{low:+.3f}, {high:+.3f}]"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _heading(config: RunConfig, options: MergeConfig, seeds: int) -> str:
    knobs = ", ".join(f"{n} {to_text(n, getattr(config, n))}" for n in SHOWN)
    over = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
    return f"Accuracy on test rows{over}: {len(config.tasks)} adapters merged, beside training on the mixture ({knobs}; lambda {options.lam:g})."


def _notes(rows: list[Row], seeds: int) -> str:
    """What the columns mean and what was looked at."""
    text = (
        "trained: numbers learned, a merge's adapters among them. stored: numbers kept beside the backbone; none, once a merge is added to its "
        "weights. seconds: of the training, or of the merge alone, which comes on top of the adapters' training. "
    )
    if seeds > 1:
        text += "minus the adapters: of the mean, seed by seed, with a 95 % t interval over seeds, no narrower than the questions allow. "
    if any(row.sees == SEES["test"] for row in rows):
        text += "AdaMerging and Concrete looked at the TEST questions without answers, as in their papers: their accuracy is on questions they saw. "
    elif any(row.sees == SEES["validation"] for row in rows):
        text += "AdaMerging and Concrete looked at validation questions without answers; their papers use the test questions. "
    if any(row.label.startswith("after R-MTLLMF") for row in rows):
        text += "R-MTLLMF is built from its abstract; its users do not send embeddings, which holds here by construction: adapters never change them."
    return text.strip()
