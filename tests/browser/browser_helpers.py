"""What the browser tests share: the smallest real run, and ways to look at the page."""

import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT, PATIENCE = Path(__file__).parents[2], 300  # seconds

# The default backbone, few questions.
QUICK = "bs.2!er.10!r.4"
LONG = 180_000  # milliseconds that a wait may take: it ends with what it waits for, and a machine may have other work
ROOMS = {"Learn": "learn", "Watch": "watch", "Look inside": "look", "Compare": "compare", "Take away": "take"}
# A run that does not end while it is looked at.
FAST = f"?c=1!{QUICK}!n.3000!t.world/mood,world/place"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(port: int, **more) -> subprocess.Popen:
    """`python app.py` at a port of this machine, once it answers. `more`: variables of its environment."""
    more = {name: str(value) for name, value in more.items()}
    environ = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONUNBUFFERED": "1", **more}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/lab/health", timeout=5).read()
            return process
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def shot(page, view: str) -> str:
    """A digest of what a picture shows."""
    return hashlib.sha256(page.inner_html(f"#figure-{view} .lab-drawing").encode()).hexdigest()


def drawn(page, place: str) -> str:
    """What a picture of elements shows, as text."""
    return page.evaluate(f"document.querySelector('{place} svg[role=group]').outerHTML")


def look(page, width: int, height: int, scheme: str):
    """Another window and theme of the same page, once everything is drawn anew."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    wait(page, f"document.body.classList.contains('dark') === {str(scheme == 'dark').lower()}")
    painted(page)


def painted(page):
    """Wait until what is known has been drawn."""
    page.evaluate("() => new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 130))")


def again(page):
    """Put a shared page back to what it shows at first sight."""
    look(page, 1366, 768, "light")
    page.evaluate(
        """async () => {
          Object.assign(MoSLD, { asking: null, each: false, size: "step", guessMark: null, beside: null });
          MoSLD.goto("watch");
          await MoSLD.recorded("dropout", false, true);
          MoSLD.select({ arm: 0, expert: null, task: null, word: null, layer: "all", target: "all" });
          document.activeElement.blur();
        }"""
    )
    page.mouse.move(2, 2)
    wait(page, "MoSLD.name === 'dropout' && document.querySelector('#figure-machine [data-expert]')")
    painted(page)


def frames(page) -> int:
    return page.evaluate("MoSLD.replay ? 0 : MoSLD.frames.length")


def wait(page, condition: str):
    page.wait_for_function(condition)


def press_run(page, count: int):
    page.click("#run")
    wait(page, f"!MoSLD.replay && MoSLD.frames.length >= {count}")


def rest(page):
    """Nothing trains any more: the run is paused, unless it came to its end first."""
    page.wait_for_function("() => { const b = document.querySelector('#pause'); if (!b.disabled) b.click(); return MoSLD.state !== 'running'; }")


def note(page) -> str:
    page.wait_for_function("document.querySelector('.lab-note').textContent.trim()")
    return page.inner_text(".lab-note")


def room(page, title: str):
    """Open a room by its button in the head."""
    page.locator(".lab-head nav button", has_text=title).click()
    page.wait_for_function("title => document.querySelector('.lab-head nav [aria-current]').textContent === title", arg=title)


def open_tab(page, title: str):
    """Open a room and, after a slash, a tab in it: "Compare/Merging". A tab without room is in the menu behind the others."""
    where, _, tab = title.partition("/")
    room(page, where)
    if not tab:
        return
    page.wait_for_timeout(300)  # for gradio to measure which tabs have room
    found = page.get_by_role("tab", name=tab, exact=True)
    if not found.count() or not found.first.is_visible():
        page.locator(f"#room-{ROOMS[where]}").get_by_label("More tabs").click()
        found = page.locator(f"#room-{ROOMS[where]} .overflow-dropdown button", has_text=tab)
    found.first.click()


def faults(page) -> list[tuple[str, str]]:
    """What axe-core finds: rule and the first element. Skips where axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed (requirements-dev.txt)").Axe()
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


def cut_off(page) -> list[str]:
    """What can be seen and sticks out of the page to the right. Left out are gradio's tab buttons (those without room are in a menu) and what
    scrolls in a box of its own."""
    return page.eval_on_selector_all(
        "button, input, select, textarea, svg.lab-chart, h1, h2, p",
        "els => els.filter(e => e.checkVisibility() && !e.closest('.tab-container, .lab-scroll') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 99))",
    )
