"""Pictures: what each shows is in `views.py`, how it is drawn in a .js of its name, over the page's store of frames.

- `View`: the facts of a view; `VIEWS`: all of them by name. `script(name)`: the text of a .js beside this file.

A view draws plain data and knows nothing of gradio: `store.js` (memory of a run), `paint.js` (place, pointer, keys),
`svg.js` and `charts.js` (elements and lines) are all it needs, in the app or in any page.
"""

from mosld.ui.canvas.base import View, script
from mosld.ui.canvas.views import VIEWS

__all__ = ["VIEWS", "View", "script"]
