"""A real server (`python app.py`) and a real Chromium: Debian's, or Playwright's own; without one the tests skip and say so."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from browser_helpers import again

ROOT = Path(__file__).parents[2]


def _port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
    with playwright.sync_playwright() as p:
        path = shutil.which("chromium") or (p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None)
        if path is None:
            pytest.skip("no Chromium: install Debian's chromium, or run 'playwright install chromium'")
        made = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def server(browser):
    """The address of `python app.py`, and the seconds it took to serve its page."""
    port = _port()
    environ = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "MOSLD_VISITORS": "64", "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}/"
    try:
        while time.monotonic() - began < 90:
            assert process.poll() is None, process.stdout.read()
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


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
        page.wait_for_function("MoSLD.frames.length > 1")
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
