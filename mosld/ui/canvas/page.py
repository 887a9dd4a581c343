"""The page's own scripts and the markup of what has no canvas: head, bar and feed; and its first picture, which stands before Gradio has built it.

- `first()`: the scripts that draw a run, in a file that is loaded before all else, and what it draws into.
- `rest(examples)`: the others, loaded once the first picture is there.
"""

from __future__ import annotations

import json
import re

from mosld.config import knobs
from mosld.ui import PAUSE, RESUME, RUN
from mosld.ui.canvas.base import script

# In this order: each needs only what stands before it.
SHARED = ("store", "terms", "choices", "paint", "charts", "svg")
MACHINE = ("machine", "machine_parts", "machine_flow", "small", "timeline", "watch", "recorded")
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
    '<div class="lab-marks"></div></div><span class="lab-step">no run yet</span><button type="button" class="lab-play">Replay</button>'
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


# What arrives goes into the store, and starts the fetching of frames; all other components wait for that.
FEED_SCRIPT = """const go = () => { if (!window.MoSLDScripts) return setTimeout(go, 10);
window.MoSLD.feed(props, watch, trigger, ['attach', 'rest']); window.MoSLD.there = true; }; go();"""  # quoted: Gradio looks for the events' names
BAR_SCRIPT = "M.timeline(element, trigger, ['run', 'pause', 'step1', 'step10', 'reset'])"  # quoted: Gradio looks for the events' names


def first(run: str) -> tuple[str, str]:
    """The scripts of the first picture, and the page around it, of which nothing can be pressed that asks the lab. `run`: the recorded run shown."""
    off = [re.sub(r"<button (?=[^>]*(?:id=|data-room=|lab-jump))", "<button disabled ", part) for part in (HEAD_HTML, BAR_HTML)]
    html = (
        f'<div id="first" data-run="{run}" hidden><div id="head">{off[0]}</div><div id="lab"><div id="panel"></div>'
        f'<main id="stage"><div id="bar">{off[1]}</div><div class="lab-watch"></div></main></div>'
        '<p class="lab-opening" role="status">Opening the lab: what is grey cannot be pressed yet.</p></div>'
    )
    return "\n".join(script(name) for name in (*SHARED, *MACHINE, "first")), html


def rest(examples: dict[str, str]) -> str:
    """All other scripts of the page. `examples`: a question of every task by its label."""
    scripts = "\n".join(script(name) for name in PAGE)
    helps = json.dumps({k.name: k.help for k in knobs()} | {"by": "What the arms differ in.", "values": "One value an arm, such as 0, 0.1."})
    asked = json.dumps(examples, ensure_ascii=False)
    return f"{scripts}\nwindow.MoSLD.help = {helps};\nwindow.MoSLD.examples = {asked};"
