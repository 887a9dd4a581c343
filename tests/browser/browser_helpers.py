"""What the browser tests share: the smallest real run, and ways to look at the page."""

import hashlib

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
    tab = page.get_by_role("tab", name=title, exact=True)
    if not tab.count():
        page.get_by_label("More tabs").click()
        tab = page.locator(".overflow-dropdown button", has_text=title)
    tab.click()
