"""A real server (`python app.py`) and a real Chromium: Debian's, or Playwright's own; without one the tests skip and say so."""

import shutil
from pathlib import Path

import pytest
from browser_helpers import LONG, again, free_port, start


def _patient(make):
    """What `make` gives waits as long as a machine with other work may take."""

    def made(*args, **options):
        place = make(*args, **options)
        place.set_default_timeout(LONG)
        return place

    return made


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
    with playwright.sync_playwright() as p:
        path = shutil.which("chromium") or (p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None)
        if path is None:
            pytest.skip("no Chromium: install Debian's chromium, or run 'playwright install chromium'")
        made = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        made.new_context, made.new_page = _patient(made.new_context), _patient(made.new_page)
        yield made
        made.close()


@pytest.fixture(scope="session")
def server(browser):
    """The address of a running `python app.py`."""
    port = free_port()
    process = start(port, MOSLD_VISITORS=64, MOSLD_FRAMES="http://localhost:*")
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.wait(300)


def _visits(browser, server):
    """visit(link, width, scheme) opens the page; at the end there was no console error and no request to another host."""
    faults, contexts = [], []

    def open_page(link: str = "", width: int = 1440, scheme: str = "light", motion: str = "reduce", grant=(), height: int = 1000, touch=False):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion=motion, permissions=list(grant), has_touch=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((server, "data:", "blob:")) else faults.append("request to " + r.url))
        page.goto(server + link)
        page.wait_for_function("window.MoSLD && window.MoSLD.there && document.querySelector('#run') && document.body.dataset.room")
        page.wait_for_function("MoSLD.frames.length > 1 && MoSLD.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


visit = pytest.fixture(_visits)
visit_once = pytest.fixture(_visits, scope="module")  # for pages that the tests of a module share: a page takes seconds to open


@pytest.fixture(scope="module")
def shared(visit_once):
    """The page at first sight, for all tests of a module that only look; `again` puts it back."""
    return visit_once(width=1366, height=768)


@pytest.fixture
def page(shared):
    """The shared page, as it is at first sight."""
    again(shared)
    return shared
