"""Figures: matplotlib pictures of runs, tables and tensors, in one style, for notebooks and export. Nothing here knows gradio.

- `runs`: `losses`, `accuracy`, `gates`, `router`, `norms`, `imbalance`, `overview` of a RunLog, or of several with other seeds; `tables`.
- `machine`: one adapted linear as what it is, with a run's numbers at a step.
- `plain`: `heat`, `bars`, `dots`, `curves`, `scatter` of matrices, dictionaries and tables from anywhere.
- `film`: the machine over a whole run, as an animated WebP.
- `files`: `pictures`, all of a run's pictures as PNG or SVG files.
- `live`: `watch` a run in one picture that is updated in place; `progress`, a line that is.
- `style`: the one style.
"""

from mosld.figures.files import pictures
from mosld.figures.film import film
from mosld.figures.live import progress, watch
from mosld.figures.machine import machine
from mosld.figures.plain import bars, curves, dots, heat, scatter
from mosld.figures.runs import accuracy, gates, imbalance, losses, norms, overview, router, tables
from mosld.figures.style import Picture

__all__ = [
    "Picture",
    "accuracy",
    "bars",
    "curves",
    "dots",
    "film",
    "gates",
    "heat",
    "imbalance",
    "losses",
    "machine",
    "norms",
    "overview",
    "pictures",
    "progress",
    "router",
    "scatter",
    "tables",
    "watch",
]
