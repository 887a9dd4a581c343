"""The page's own script, one file, and the markup of what has no canvas: head, bar and feed."""

from __future__ import annotations

import json

from mosld.config import knobs
from mosld.ui import PAUSE, RESUME, RUN
from mosld.ui.canvas.base import script

# In this order: each needs only what stands before it.
SHARED = ("store", "terms", "choices", "paint", "charts", "svg")
MACHINE = ("machine", "machine_parts", "machine_flow", "small", "timeline", "watch")
PAGE = ("feed", "rooms", "learn")

FEED_HTML = '<span class="lab-feed"></span>'
HEAD_HTML = (
    '<header class="lab-head"><button type="button" class="lab-jump">To the run</button><h1>MoSLD Lab</h1><nav aria-label="Rooms">'
    + "".join(
        f'<button type="button" data-room="{name}">{text}</button>'
        for name, text in (("learn", "Learn"), ("watch", "Watch"), ("look", "Look inside"), ("compare", "Compare"), ("take", "Take away"))
    )
    + '</nav><p class="lab-keys">'
    + "".join(f"<kbd>{k}</kbd> {v} " for k, v in (("space", "play"), ("r", "run"), ("s", "step"), ("←→", "scrub"), ("f", "full"), ("p", "projector")))
    + "</p></header>"
)
TRACK_HTML = (
    '<div class="lab-track"><input type="range" min="0" max="1" value="0" step="1" aria-label="Step shown in all pictures">'
    '<div class="lab-marks"></div></div><output class="lab-step">no run yet</output><button type="button" class="lab-play">Replay</button>'
    '<button type="button" class="lab-live" hidden>Newest</button>'
)
UNDER_HTML = '<div class="lab-state"><p class="lab-note"></p><div class="lab-chips"></div></div><p class="lab-aloud lab-sr" role="status"></p>'
TIMELINE_HTML = f'<div class="lab-line">{TRACK_HTML}</div>{UNDER_HTML}'
BAR_HTML = (
    f'<div class="lab-line"><button type="button" id="run" class="lab-go">{RUN}</button>'
    f'<button type="button" id="pause" data-pause="{PAUSE}" data-resume="{RESUME}" disabled>{PAUSE}</button>'
    '<button type="button" id="step1">Step</button><button type="button" id="step10" aria-label="Ten steps">+10</button>'
    f'<button type="button" id="reset" disabled>Reset</button>{TRACK_HTML}</div>{UNDER_HTML}'
)


BAR_SCRIPT = "M.timeline(element, trigger, ['run', 'pause', 'step1', 'step10', 'reset'])"  # quoted: Gradio looks for the events' names


def bundle(examples: dict[str, str]) -> str:
    """All scripts of the page, then the feed itself: what arrives goes into the store, and starts the fetching of frames. `examples`: a
    question of every task by its label."""
    shared = "\n".join(script(name) for name in (*SHARED, *MACHINE, *PAGE))
    helps = json.dumps({k.name: k.help for k in knobs()} | {"by": "What the arms differ in.", "values": "One value an arm, such as 0, 0.1."})
    asked = json.dumps(examples, ensure_ascii=False)
    known = f"window.MoSLD.help = {helps};\nwindow.MoSLD.examples = {asked};"
    return f"{shared}\n{known}\nwindow.MoSLD.feed(props, watch, trigger);\nwindow.MoSLD.there = true;"
