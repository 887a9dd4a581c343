"""Live views. Each is one .py (what it shows, how it is defined) and one .js (how it is drawn) over the page's store of frames.

- `View`: the facts of a view; `VIEWS`: all of them by name. `script(name)`: the text of a .js beside this file.

A view draws plain data and knows nothing of gradio: `store.js` (memory of a run), `paint.js` (canvas, pointer, keys) and
`charts.js` (text and lines) are all it needs, in the app or in any page.
"""

from mosld.ui.canvas import imbalance, loss, norms, router
from mosld.ui.canvas.base import View, script

VIEWS: dict[str, View] = {m.VIEW.name: m.VIEW for m in (imbalance, loss, router, norms)}

__all__ = ["VIEWS", "View", "script"]
