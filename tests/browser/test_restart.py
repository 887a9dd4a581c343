"""A page kept open while its server is started anew: the run is offered again, every button works, and the page itself makes no error."""

import signal

import pytest
from browser_helpers import PATIENCE, free_port, start, wait
from test_run_state import ENDLESS, own


@pytest.mark.slow
def test_a_page_kept_open_over_a_restart_offers_its_run(browser, tmp_path):
    port, faults = free_port(), []
    server, context = start(port, TMPDIR=tmp_path), browser.new_context(viewport={"width": 1366, "height": 768})
    try:
        page = context.new_page()
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on(
            "console", lambda m: faults.append(m.text) if m.type == "error" and "net::ERR_" not in m.text else None
        )  # the browser's own, of no line
        page.goto(f"http://127.0.0.1:{port}/{ENDLESS}")
        page.wait_for_function("window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1", timeout=PATIENCE * 1000)
        page.locator("#run button, button#run").first.click()
        page.wait_for_function("!MoSLD.replay && MoSLD.frames.length >= 3", timeout=PATIENCE * 1000)
        server.send_signal(signal.SIGTERM)
        said, _ = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0 and "1 paused and saved" in said
        page.wait_for_function("MoSLD.note.startsWith('The line to the lab is down')", timeout=PATIENCE * 1000)
        before = len(own(page))
        server = start(port, TMPDIR=tmp_path)
        page.wait_for_function("MoSLD.state === 'paused' && MoSLD.note.includes('press Resume to go on with it')", timeout=PATIENCE * 1000)
        steps = own(page)
        assert steps == list(range(len(steps))) and len(steps) >= before
        page.locator("#pause button, button#pause").first.click()  # Resume
        page.wait_for_function(f"MoSLD.frames.length > {len(steps) + 1}", timeout=PATIENCE * 1000)
        page.locator("#pause button, button#pause").first.click()
        wait(page, "MoSLD.state === 'paused'")
        assert own(page) == list(range(len(own(page)))) and faults == []
    finally:
        context.close()
        server.terminate()
        server.wait(PATIENCE)
