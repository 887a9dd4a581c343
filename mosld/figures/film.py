"""A run as a film: the machine at evenly chosen probes, one after the other, as an animated WebP that plays in any browser and on GitHub."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mosld.figures.machine import HIGH, WIDE, machine
from mosld.figures.style import COLOURS, GRID
from mosld.training.runlog import RunLog

SECONDS = 10.0
MOST_PICTURES = 48
HELD = 12  # pictures that one sentence stays, so that it can be read: each probe has another one
MOST_BYTES = 3_000_000
PIXELS_PER_INCH = 96


def film(log: RunLog, arm: int = 0, linear: int | str | None = None) -> bytes:
    """The machine of one adapted linear (as `machine` takes it) over the run, about ten seconds long, at most `MOST_BYTES`.

    Raises ValueError for a run that was not probed at two steps yet.
    """
    probed = [f.step for f in log.frames if f.arms[arm].linears]
    if len(probed) < 2:
        raise ValueError("film: the run was probed at fewer than two steps; let it go on for a while.")
    chosen = [probed[i] for i in np.unique(np.linspace(0, len(probed) - 1, min(MOST_PICTURES, len(probed))).round().astype(int))]
    pictures = [_drawn(log, step, chosen[i - i % HELD], arm, linear) for i, step in enumerate(chosen)]
    return webp(pictures, (75, 50, 25, 5), method=2)


def webp(pictures: list[Image.Image], qualities: Sequence[int], method: int) -> bytes:
    """Pictures as a film of `SECONDS`, in the first of the qualities in which it has at most `MOST_BYTES`, or in the last."""
    times = [round(1000 * SECONDS / len(pictures))] * len(pictures)
    times[-1] += 1500  # the end is looked at
    for quality in qualities:
        file = io.BytesIO()
        pictures[0].save(file, "webp", save_all=True, append_images=pictures[1:], duration=times, loop=0, quality=quality, method=method)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()


def _drawn(log: RunLog, step: int, spoken: int, arm: int, linear) -> Image.Image:
    """One picture, with a line below that shows how far the run is."""
    picture = machine(log, step, arm, linear, spoken=spoken)
    ax = picture.axes[0]
    for end, colour in ((log.config.steps, GRID), (step, COLOURS[0])):
        ax.plot([0, WIDE * end / max(1, log.config.steps)], [HIGH - 0.4] * 2, color=colour, linewidth=3, solid_capstyle="butt")
    picture.set_layout_engine("none")  # axes that fill the picture: the same place in every one
    ax.set_position((0.01, 0.01, 0.98, 0.98))
    canvas = FigureCanvasAgg(picture)
    picture.set_dpi(PIXELS_PER_INCH)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
