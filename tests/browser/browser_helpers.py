"""What the browser tests share: the smallest real run, and ways to look at the page."""

import hashlib

import pytest

# The default backbone, few questions.
QUICK = "bs.2!er.10!r.4"
LONG = 60_000
FAST = f"?c=1!{QUICK}!n.200!t.world/mood,world/place"


def shot(page, view: str) -> str:
    """A digest of what a canvas shows."""
    return hashlib.sha256(page.evaluate(f"document.querySelector('#figure-{view} canvas').toDataURL()").encode()).hexdigest()


def frames(page) -> int:
    return page.evaluate("MoSLD.replay ? 0 : MoSLD.frames.length")


def wait(page, condition: str):
    page.wait_for_function(condition, timeout=LONG)


def press_run(page, count: int):
    page.click("#run")
    wait(page, f"!MoSLD.replay && MoSLD.frames.length >= {count}")


def note(page) -> str:
    page.wait_for_function("document.querySelector('.lab-note').textContent.trim()", timeout=LONG)
    return page.inner_text(".lab-note")


def open_tab(page, title: str):
    """Click a tab; where there is no room for all, the last ones are in the menu behind them."""
    page.wait_for_timeout(300)  # for gradio to measure which tabs have room
    tab = page.get_by_role("tab", name=title, exact=True)
    if not tab.count() or not tab.first.is_visible():
        page.get_by_label("More tabs").click()
        tab = page.locator(".overflow-dropdown button", has_text=title)
    tab.first.click()


def faults(page) -> list[tuple[str, str]]:
    """What axe-core finds: rule and the first element. Skips where axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed (requirements-dev.txt)").Axe()
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200]) for v in found]


def cut_off(page) -> list[str]:
    """What can be seen and sticks out of the page to the right. Left out are gradio's tab buttons (those without room are in a menu) and what
    scrolls in a box of its own."""
    return page.eval_on_selector_all(
        "button, input, select, textarea, canvas, h1, h2, p",
        "els => els.filter(e => e.checkVisibility() && !e.closest('.tab-container, .lab-scroll') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 99))",
    )
