"""The first picture, before Gradio has built the page: what it costs, that it tells the truth, and that the page takes it over as it is."""

import pytest
from browser_helpers import faults

MOST_BYTES = 300_000
# Where the machine is in sight, noted at each painting; and what has moved of its own accord.
NOTED = """() => addEventListener('DOMContentLoaded', () => {
  Object.assign(window, { places: new Set(), moved: [] });
  const told = (list) => list.getEntries().forEach((e) => moved.push(e.sources.map((s) => s.node && (s.node.id || s.node.className))));
  new PerformanceObserver(told).observe({ type: 'layout-shift', buffered: true });
  const box = (e) => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height].map(Math.round); };
  const look = () => {
    const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && e.querySelector('[data-expert]');
    const machine = [...document.querySelectorAll('#figure-machine')].find(seen);
    if (machine) {
      window.pictured ??= performance.now();
      places.add([machine, machine.querySelector('.lab-place svg')].flatMap(box).join());
    }
    requestAnimationFrame(look);
  };
  look();
})"""
OPEN = "window.MoSLD && MoSLD.ready"


@pytest.mark.parametrize(("width", "height", "scheme"), [(1366, 768, "light"), (390, 844, "dark")])
def test_the_first_picture_comes_early_tells_the_truth_and_stays(browser, server, width, height, scheme):
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    page, held, bytes_, began = context.new_page(), [], [], []
    page.free = False
    line = context.new_cdp_session(page)
    line.on("Network.requestWillBeSent", lambda e: began.append(e["timestamp"]))
    line.on("Network.responseReceived", lambda e: bytes_.append((e["timestamp"], e["response"]["encodedDataLength"])))
    line.on("Network.dataReceived", lambda e: bytes_.append((e["timestamp"], e["encodedDataLength"])))
    line.send("Network.enable")
    page.add_init_script(f"({NOTED})()")
    page.route(
        "**/assets/Blocks-*.js", lambda route: route.continue_() if page.free else held.append(route)
    )  # of Gradio: without it the page cannot be built
    page.goto(server, wait_until="commit")
    page.wait_for_function("window.pictured")
    until = min(began) + page.evaluate("pictured") / 1000
    assert 50_000 < sum(n for at, n in bytes_ if at <= until) <= MOST_BYTES

    # What does not work yet does not look as if it did, and that is said; what works, works.
    assert page.locator(".lab-opening").get_attribute("role") == "status" and "cannot be pressed yet" in page.inner_text(".lab-opening")
    assert page.eval_on_selector_all(".lab-head nav button, #bar button[id]", "els => els.length > 9 && els.every((e) => e.disabled)")
    looks = page.eval_on_selector_all("#bar button[id]", "els => els.map((e) => getComputedStyle(e).color + getComputedStyle(e).backgroundColor)")
    assert len(set(looks)) == 1  # Run too is grey
    assert page.get_by_role("group", name="The machine at step").count() == 1 and page.get_by_role("button", name="word").count() > 5
    page.locator("#figure-machine .chip").first.click()
    assert page.locator("#figure-machine .chip.chosen").count() == 1 and page.evaluate("MoSLD.pick.word") == 0
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark") and faults(page) == []
    page.evaluate("document.querySelector('#figure-machine').mine = true; document.querySelector('#figure-machine svg [data-mark]').focus()")

    page.free = True
    for route in held:
        route.continue_()
    page.wait_for_function(OPEN)
    page.wait_for_function("document.querySelector('.lab-head nav [aria-current]')")
    assert page.evaluate("[document.querySelectorAll('#first, #first-style, .opening').length, document.querySelectorAll('#run').length]") == [0, 1]
    assert page.evaluate("document.querySelector('gradio-app #figure-machine').mine === true")  # the very one
    assert page.evaluate("document.activeElement.dataset.mark") and page.locator("#run").is_enabled()
    places, moved = page.evaluate("[[...places], moved]")
    assert places[1:] == [] and moved == []
    context.close()


def test_who_comes_for_something_else_is_not_shown_what_is_taken_away_again(browser, server):
    """Another room, a run of one's own: the page opens as it is; and it opens too where the first picture's run cannot be fetched."""
    for kind in ("room", "own", "failed"):
        context = browser.new_context(viewport={"width": 1366, "height": 768})
        page = context.new_page()
        page.add_init_script("addEventListener('DOMContentLoaded', () => { window.early = !!document.getElementById('first'); })")
        if kind == "own":
            page.add_init_script("sessionStorage.setItem('mosld-run', 'x'.repeat(22))")
        if kind == "failed":
            page.route("**/runs/*.json", lambda route: route.abort())
        page.goto(server + ("?room=learn" if kind == "room" else ""))
        page.wait_for_function(OPEN)
        assert page.evaluate("early") == (kind == "failed") and page.evaluate("document.querySelectorAll('#run').length") == 1
        if kind == "failed":
            assert "could not be fetched" in page.inner_text(".lab-note")
        context.close()
