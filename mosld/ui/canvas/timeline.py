"""The page's two components without a canvas: the feed that frames arrive on, and the time line that moves all views."""

from __future__ import annotations

from mosld.ui.canvas.base import script

FEED_HTML = '<span class="lab-feed"></span>'

TIMELINE_HTML = (
    '<div class="lab-line"><button type="button" class="lab-play">Replay</button>'
    '<div class="lab-track"><input type="range" min="0" max="1" value="0" step="1" aria-label="Step shown in all pictures">'
    '<div class="lab-marks"></div></div>'
    '<output class="lab-step">No run yet</output><button type="button" class="lab-live" disabled>Newest</button></div>'
    '<p class="lab-note"></p><p class="lab-aloud lab-sr" role="status"></p>'
)


def feed_javascript() -> str:
    """The shared scripts, then the feed itself: every value that arrives goes into the store, and starts the fetching of frames."""
    shared = "\n".join(script(name) for name in ("store", "choices", "paint", "charts", "feed"))
    return f"{shared}\nwindow.MoSLD.feed(props, watch, trigger);"


def timeline_javascript() -> str:
    return (
        "const go = () => { if (!window.MoSLD || !window.MoSLD.chart) return setTimeout(go, 20);\n"
        f"{script('timeline')}\nwindow.MoSLD.timeline(element); }};\ngo();"
    )
