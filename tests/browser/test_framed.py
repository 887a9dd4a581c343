"""The page in a frame of another origin, as a Space or a course page shows it: the bar in reach, Run and Copy at work, strangers refused."""

import contextlib
import http.server
import threading

import pytest
from browser_helpers import QUICK, wait

PAGE = (
    '<body style="margin:0"><p style="height:300px;margin:0">Above.</p><iframe allow="{allow}" width="1200" height="{height}" src="{src}"></iframe>'
)


@contextlib.contextmanager
def outer(markup: str):
    """The address of a page of another origin that shows this markup."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(markup.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://localhost:{served.server_port}/"
        served.shutdown()


@pytest.mark.parametrize(("allow", "whole"), [("clipboard-write", True), ("", False)])
def test_a_frame_of_another_origin(browser, server, allow, whole):
    """`whole`: the frame is as high as what is in it, as a Space makes it, and the page around it scrolls; else the frame itself does."""
    markup = PAGE.format(allow=allow, height=600, src=f"{server}?c=1!{QUICK}!n.300!t.world/mood,world/place")
    with outer(markup) as address, contextlib.closing(browser.new_context(viewport={"width": 1366, "height": 768})) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(address)
        frame = next(f for f in page.frames if f.url.startswith(server))
        wait(frame, "window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1")
        scroller = frame
        if whole:
            high = frame.evaluate("document.body.scrollHeight")
            assert high > 768
            page.evaluate(f"document.querySelector('iframe').height = {high}")
            scroller = page
        for share in (1, 0.5, 0.8):
            scroller.evaluate(f"window.scrollTo(0, {share} * (document.documentElement.scrollHeight - window.innerHeight))")
            frame.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true), 200)))")
            box = frame.locator("#bar").bounding_box()  # in the outer window
            assert -8 <= box["y"] <= 768 - box["height"], (share, box)
        assert scroller.evaluate("window.scrollY") > 100
        frame.locator("#run button, button#run").first.click()
        wait(frame, "!MoSLD.replay && MoSLD.frames.length >= 3")
        frame.locator("#pause button, button#pause").first.click()
        wait(frame, "MoSLD.state === 'paused'")
        frame.evaluate("document.querySelector('#fold-link button').click()")
        frame.locator("#copy").click()
        wait(frame, "document.querySelector('#link :is(input, textarea)').value.startsWith('http')")
        link = frame.locator("#link :is(input, textarea)").input_value()
        assert link.startswith(f"{server}?c=1!") and "n.300" in link
        if allow:
            wait(frame, "MoSLD.note.startsWith('The link is copied')")
            page.bring_to_front()
            assert frame.evaluate("navigator.clipboard.readText().catch(() => null)") in (link, None)
        alone = context.new_page()
        alone.goto(link)
        wait(alone, "window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1")


def test_a_page_that_is_not_named_cannot_frame_it(browser, server):
    markup = PAGE.format(allow="", height=700, src=server)
    with outer(markup) as address, contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(address.replace("localhost", "127.0.0.1"))
        page.wait_for_timeout(500)
        assert not any(f.url.startswith(server) for f in page.frames)
