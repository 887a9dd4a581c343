"""Pictures of plain numbers: matrices, tables and dictionaries, from the lab or from anywhere else.

- `heat`: a matrix with its numbers. `bars`: a few named sizes.
- `dots`: a value by row and arm, with its 95 % interval over seeds and questions. `curves`: a value along a number, such as a coefficient.
- `scatter`: one quantity against another, a point each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mosld.figures.style import COLOURS, HEAT, SIGNED, SOFT, Picture, canvas, ink_on, legend, line, marker, reference, styled
from mosld.probes.seeds import interval, paired_interval

BESIDE = ((6, 0), (-6, 0), (6, 9), (6, -9), (-6, 9), (-6, -9))  # points from a mark to its name, in the order they are tried
LONG = 7  # letters from which names of columns are written aslant


@styled
def heat(
    matrix: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    signed: bool = False,
    digits: int = 2,
    xlabel: str = "",
    ylabel: str = "",
) -> Picture:
    """A matrix [R, C] as shaded cells with the numbers in them. NaN is an empty cell.

    Args:
        signed: colours run both ways from 0; otherwise from 0 (or the smallest value) to the largest.
        digits: behind the point.
    """
    values = np.asarray(matrix, float)
    picture, axes = canvas(width=1.6 + 0.62 * len(columns), height=1.0 + 0.34 * len(rows))
    cells(axes[0, 0], values, signed, digits)
    ax = axes[0, 0]
    ax.set_xticks(range(len(columns)), columns)
    if max(map(len, columns)) >= LONG:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    shown = values[np.isfinite(values)]
    picture.alt = f"{title or 'Matrix'}: {len(rows)} rows, {len(columns)} columns, values from {shown.min():.{digits}f} to {shown.max():.{digits}f}."
    return picture


def cells(ax, values: np.ndarray, signed: bool = False, digits: int = 2, low: float | None = None, high: float | None = None) -> None:
    """Shade the cells of one axes and print their numbers."""
    finite = values[np.isfinite(values)]
    high = float(np.abs(finite).max()) if high is None else high
    low = -high if signed else min(0.0, float(finite.min())) if low is None else low
    shades = SIGNED if signed else HEAT
    ax.imshow(values, cmap=shades, vmin=low, vmax=max(high, low + 1e-9), aspect="auto", interpolation="nearest")
    ax.grid(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = ink_on(shades((value - low) / max(high - low, 1e-9)))
            ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", color=ink, fontsize=7.5)


@styled
def bars(values: Mapping[str, float] | pd.Series, title: str = "", xlabel: str = "", form: str = "{:,.0f}") -> Picture:
    """Named sizes (a dictionary or a Series) as level bars with their numbers, in the order given."""
    names, sizes = zip(*values.items(), strict=True)
    picture, axes = canvas(width=7.2, height=0.9 + 0.27 * len(names))
    ax = axes[0, 0]
    ax.barh(range(len(names)), sizes, color=COLOURS[0], height=0.62)
    for i, size in enumerate(sizes):
        ax.annotate(form.format(size), (size, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(False)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    ax.margins(x=0.14)
    ax.set(title=title, xlabel=xlabel)
    picture.alt = f"{title or 'Bars'}: " + ", ".join(f"{n} {form.format(v)}" for n, v in zip(names, sizes, strict=True)) + "."
    return picture


def inside(column: str, ends: np.ndarray) -> np.ndarray:
    """Mean and ends [3, n] with the ends of an accuracy kept between 0 and 1, which a t interval of a share knows nothing of."""
    return np.clip(ends, 0, 1) if column == "accuracy" else ends


def _ends(groups: Sequence[pd.DataFrame], value: str, minus: str | None = None, questions: int | None = None) -> np.ndarray:
    """Mean of `value` (minus the column `minus`) and ends of its interval over the rows of each group: [3, groups]."""
    if minus is None and questions is None:
        return inside(value, np.array([interval(g[value].to_numpy(float)) if len(g) else (np.nan,) * 3 for g in groups]).T)
    pairs = [(list(g[value]), list(g[minus]) if minus else [0.0] * len(g)) for g in groups]
    ends = np.array([paired_interval(a, b, rows=questions) for a, b in pairs], float).T
    return ends if minus else inside(value, ends)


@styled
def dots(
    table: pd.DataFrame,
    value: str,
    row: str,
    arm: str | None = None,
    title: str = "",
    xlabel: str = "",
    zero: float | None = None,
    marks: Mapping[str, float] | None = None,
    minus: str | None = None,
    questions: int | None = None,
) -> Picture:
    """Mean of the column `value` for each `row` and `arm`, with its 95 % interval over all further rows of the table (the seeds).

    Args:
        zero: a level to compare with, drawn through all rows. marks: one such level a row, such as chance.
        minus: a column that is subtracted, seed by seed.
        questions: how many questions each value is a share of; no interval is then narrower than so many questions allow.
    """
    names = list(dict.fromkeys(table[row]))
    arms = list(dict.fromkeys(table[arm])) if arm else [""]
    picture, axes = canvas(width=7.2, height=0.9 + (0.22 + 0.13 * len(arms)) * len(names) + (0.25 if arm else 0))
    ax = axes[0, 0]
    said = []
    for i, a in enumerate(arms):
        part = table if arm is None else table[table[arm] == a]
        ends = _ends([part[part[row] == name] for name in names], value, minus, questions)
        place = np.arange(len(names)) + (i - (len(arms) - 1) / 2) * 0.62 / len(arms)
        look = marker(i)
        ax.hlines(place, ends[1], ends[2], color=look["color"], linewidth=1.6)
        ax.plot(ends[0], place, linestyle="none", label=a or None, **look)
        said += [f"{a} {n} {m:.3g}".strip() for n, m in zip(names, ends[0], strict=True) if np.isfinite(m)]
    if marks:
        level = [marks.get(name, np.nan) for name in names]
        ax.plot(level, range(len(names)), linestyle="none", marker="|", markersize=15, color=SOFT, label="chance", zorder=1)
    if zero is not None:
        ax.axvline(zero, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set(title=title, xlabel=xlabel or value)
    legend(picture, ax)
    picture.alt = f"{title or value}: {'; '.join(said[:24])}."
    return picture


@styled
def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    arm: str,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    level: float | None = None,
    questions: int | None = None,
) -> Picture:
    """The column `y` along the column `x`, one line for each `arm`: means over further rows (the seeds), with a 95 % band where there are several.

    `level`: a value to compare with. `questions`: as in `dots`.
    """
    picture, axes = canvas(width=6.8, height=3.2)
    ax = axes[0, 0]
    for i, (name, part) in enumerate(table.groupby(arm, sort=False)):
        places, groups = zip(*part.groupby(x), strict=True)
        mean, low, high = _ends(groups, y, questions=questions)
        ax.plot(places, mean, label=str(name), marker="." if len(places) < 15 else None, **line(i))
        if np.isfinite(low).any():
            ax.fill_between(places, low, high, color=line(i)["color"], alpha=0.16, linewidth=0)
    if level is not None:
        reference(ax, level)
    ax.set(title=title, xlabel=xlabel or x, ylabel=ylabel or y)
    legend(picture, ax)
    picture.alt = f"{title or y}: {', '.join(map(str, table[arm].unique()))}, {xlabel or x} from {table[x].min():g} to {table[x].max():g}."
    return picture


@styled
def scatter(x: ArrayLike, y: ArrayLike, names: Sequence[str] = (), title: str = "", xlabel: str = "", ylabel: str = "") -> Picture:
    """One quantity against another, [n] and [n], with a name at each point where names are given."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    picture, axes = canvas(width=6.4, height=4.0)
    ax = axes[0, 0]
    ax.plot(x, y, linestyle="none", **marker(0))
    ax.margins(x=0.2, y=0.08)
    if x.min() < 0 < x.max():
        ax.axvline(0, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    if y.min() < 0 < y.max():
        reference(ax, 0)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    picture.draw_without_rendering()  # settles where the axes are, which the names depend on
    taken = []
    for name, point in zip(names, zip(x, y, strict=True), strict=False):
        text, box = _name(ax, name, point, taken)
        text.set_in_layout(False)
        taken.append(box)
    picture.alt = (
        f"{title or 'Scatter'}: {len(x)} points, {xlabel} from {x.min():.2f} to {x.max():.2f}, {ylabel} from {y.min():.2f} to {y.max():.2f}."
    )
    return picture


def _name(ax, name: str, point: tuple[float, float], taken: list):
    """A name beside its point, where it meets none of the boxes in `taken`; the text and its box."""
    for place in BESIDE:
        side = "left" if place[0] > 0 else "right"
        text = ax.annotate(name, point, xytext=place, textcoords="offset points", ha=side, va="center", fontsize=7, color=SOFT)
        box = text.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            break
        if place != BESIDE[-1]:
            text.remove()
    return text, box
