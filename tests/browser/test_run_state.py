"""Whatever is pressed in whatever order, and whatever happens to page or line: the last wish counts, and a run is found again."""

import random

import pytest
from browser_helpers import QUICK, wait

SHORT = f"?c=1!{QUICK}!n.30!t.world/mood,world/place"
ENDLESS = f"?c=1!{QUICK}!n.5000!t.world/mood,world/place"
BUSY = ["waiting", "loading", "running"]
RESTS = f"!{BUSY}.includes(MoSLD.state)"


def own(page) -> list[int]:
    """The steps of the page's own run."""
    return page.evaluate("MoSLD.replay ? [] : MoSLD.frames.map((f) => f.step)")


def agrees(page):
    """State, words and frames are those of one run."""
    wait(page, RESTS)
    page.wait_for_timeout(400)
    state, note, steps = page.evaluate("MoSLD.state"), page.evaluate("MoSLD.note"), own(page)
    assert steps == list(range(len(steps)))
    if state == "paused":
        assert f"step {steps[-1]}" in note, (note, steps[-1:])
    if state == "ended":
        assert steps[-1] == 30 and "30 steps are done" in note
    if state == "idle":
        assert steps == []
    return state


def press(page, name):
    button = page.locator(f"button#{name}, #{name} button").first
    if button.is_enabled():
        button.click()
        return True
    return False


def test_run_pressed_while_a_run_trains_starts_the_new_one(visit):
    page = visit(ENDLESS)
    press(page, "run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length >= 3")
    first = page.evaluate("MoSLD.run")
    for _ in range(3):
        press(page, "run")
        page.wait_for_timeout(150)
    wait(page, f"MoSLD.run === {first + 3} && MoSLD.state === 'running' && MoSLD.frames.length >= 2")
    press(page, "pause")
    assert agrees(page) == "paused"


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_random_presses_in_two_tabs(visit, seed):
    rng = random.Random(seed)
    pages = [visit(SHORT)]
    pages.append(pages[0].context.new_page())
    pages[1].goto(pages[0].url)
    wait(pages[1], "!!(window.MoSLD && window.MoSLD.charts)")
    last = {}
    for _ in range(12):
        page = rng.choice(pages)
        name = rng.choice(["run", "run", "pause", "step1", "step10", "reset", "reload"])
        if name == "reload":
            page.reload()
            wait(page, "!!(window.MoSLD && window.MoSLD.charts)")
            page.wait_for_timeout(rng.choice([0, 1500]))
        elif press(page, name):
            last[page] = name
        page.wait_for_timeout(rng.choice([0, 50, 400]))
    for page in pages:
        state = agrees(page)
        if last.get(page) == "run":
            assert state == "ended"
        if last.get(page) == "reset":
            assert state == "idle"


def test_a_reload_in_mid_run_goes_on_with_it(visit):
    page = visit(ENDLESS)
    press(page, "run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length >= 4")
    before = len(own(page))
    page.reload()
    wait(page, f"window.MoSLD && !MoSLD.replay && MoSLD.state === 'running' && MoSLD.frames.length > {before}")
    press(page, "pause")
    assert agrees(page) == "paused"


def test_a_dropped_line_is_taken_up_again(visit):
    page = visit(ENDLESS)
    press(page, "run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length >= 3")
    page.route("**/lab/news", lambda route: route.fulfill(status=200, body="not json"))  # what a proxy says while the lab is out of reach
    wait(page, "MoSLD.note.startsWith('The line to the lab is down')")
    page.unroute("**/lab/news")
    here = len(own(page))
    wait(page, f"MoSLD.frames.length > {here} && MoSLD.note === ''")
    press(page, "pause")
    assert agrees(page) == "paused"
