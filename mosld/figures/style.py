"""The one style of all pictures: readable in grey and by the colour-blind.

- `Picture`: a figure that shows itself in a notebook, with a sentence for those who cannot see it.
- `canvas`: an empty Picture with its axes. `styled`: the decorator that puts the style on a drawing function.
- `line`, `marker`: how the i-th arm looks; arms differ in colour, in dashes and in marker, so that grey is enough.
- `legend`, `reference`: names below the picture; a level to compare with.
- `HEAT`, `SIGNED`: colour maps for sizes (darker is more) and for signed values (numbers are printed in the cells).

Nothing here uses pyplot: no window, no global state, and no figure stays in memory behind one's back.
"""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

# The arms' colours are those of the app; after six the dashes go on alone.
COLOURS = ("#0072b2", "#c2560a", "#00805c", "#a8508a", "#8a6d00", "#3f4550")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (7, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, SOFT, GRID = "#22252a", "#595d66", "#e2dfd8"
HEAT = LinearSegmentedColormap.from_list("lab-heat", ["#f4f6f8", "#a9cbe6", "#4a8fc4", "#0b3f73"])
SIGNED = LinearSegmentedColormap.from_list("lab-signed", ["#a04a00", "#e9b27c", "#f7f6f3", "#a9cbe6", "#0b4f8a"])

RC = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": SOFT,
    "axes.edgecolor": "#b9b5ab",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}
PIXELS_PER_INCH = 144  # drawn at 1.44 times the size shown, for sharp letters on fine screens
SHOWN_PER_INCH = 100
SHADES = 128  # colours kept in a PNG; lines and flat cells need no more, and files shrink to a third

LETTER, HANDLE = 0.07, 0.75  # inches that a letter and the rest of an entry take in a legend

styled = matplotlib.rc_context(RC)


class Picture(Figure):
    """A matplotlib figure that IPython and Jupyter show by themselves. `alt` says in words what is drawn."""

    alt = ""

    def _repr_mimebundle_(self, include=None, exclude=None):
        size = {"width": round(self.get_figwidth() * SHOWN_PER_INCH), "height": round(self.get_figheight() * SHOWN_PER_INCH)}
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {**size, "alt": self.alt}}

    def png(self) -> bytes:
        """The picture as a PNG file."""
        canvas = FigureCanvasAgg(self)
        self.set_dpi(PIXELS_PER_INCH)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(SHADES)
        file = io.BytesIO()
        image.save(file, "png", optimize=True)
        return file.getvalue()

    def svg(self) -> bytes:
        """The picture as an SVG file whose letters are outlines; the same picture gives the same bytes."""
        file = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "mosld"}):
            self.savefig(file, format="svg", metadata={"Date": None, "Title": self.alt})
        return file.getvalue()


def canvas(rows: int = 1, columns: int = 1, width: float = 4.2, height: float = 2.9, **further) -> tuple[Picture, np.ndarray]:
    """A Picture with `rows` x `columns` axes, each `width` x `height` inches, and the axes as an array [rows, columns]."""
    picture = Picture(figsize=(width * columns, height * rows), layout="constrained")
    picture.set_facecolor("white")
    return picture, picture.subplots(rows, columns, squeeze=False, **further)


def line(index: int) -> dict:
    """Keywords of the line of the arm at `index`."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def marker(index: int) -> dict:
    """Keywords of the marker of the arm at `index`."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 6, "markeredgecolor": "white"}


def reference(ax: Axes, value: float, label: str | None = None) -> None:
    """A thin level line that the eye can compare with."""
    ax.axhline(value, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    if label:
        ax.annotate(
            label, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points", ha="right", fontsize=7.5, color=SOFT
        )


def legend(picture: Picture, ax: Axes) -> None:
    """The names of an axes' lines below the whole picture, in as many columns as there is room for; nothing for a single line."""
    handles, labels = ax.get_legend_handles_labels()
    if len(handles) > 1:
        widest = LETTER * max(map(len, labels)) + HANDLE
        columns = max(1, min(len(handles), int(picture.get_figwidth() / widest)))
        picture.legend(handles, labels, loc="outside lower center", ncols=columns)


def ink_on(colour) -> str:
    """Black or white, whichever reads better on a colour."""
    r, g, b = colour[:3]
    return "white" if 0.299 * r + 0.587 * g + 0.114 * b < 0.55 else INK
