"""The five rooms for everyone: axe, nothing cut off, links that hide and restore, bad input in one sentence, a run's buttons and keys."""

import json
import urllib.request

import pytest
from browser_helpers import (
    FAST,
    PATIENCE,
    QUICK,
    cut_off,
    faults,
    frames,
    free_port,
    note,
    open_tab,
    painted,
    press_run,
    rest,
    room,
    start,
    wait,
)
from test_run_state import ENDLESS

PLACES = ("Learn", "Watch", "Look inside/Words", "Look inside/Norms", "Compare/Runs", "Compare/Seeds", "Compare/Claims", "Take away")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_axe_finds_nothing_and_nothing_is_cut_off_in_any_room(visit, scheme, width):
    page = visit(scheme=scheme, width=width)
    page.click("#fold-all > button")
    for place in PLACES:
        open_tab(page, place)
        page.wait_for_timeout(500)
        assert faults(page) == [], place
        assert cut_off(page) == [], place
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place


def test_rooms_stand_in_the_address_and_back_goes_back(visit):
    page = visit()
    for title, name in (("Learn", "learn"), ("Compare", "compare"), ("Watch", "watch")):
        room(page, title)
        page.wait_for_selector(f"#room-{name}", state="visible")
        assert f"room={name}" in page.url or name == "watch"
    page.go_back()
    page.wait_for_function("document.body.dataset.room === 'compare'")
    again = visit("?room=take")
    again.wait_for_selector("#take", state="visible")
    assert not again.locator("#panel").is_visible()


def test_run_pause_step_and_reset(visit):
    page = visit(FAST)
    press_run(page, 3)
    assert page.locator(".lab-track input").get_attribute("max") == "3000"  # the scrubber ends at the planned step
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    stopped = frames(page)
    assert note(page) == f"Paused at step {stopped - 1}."
    page.click("#step1")
    wait(page, f"MoSLD.state === 'paused' && MoSLD.frames.length === {stopped + 1}")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("MoSLD.index()") == stopped - 1
    page.keyboard.press("s")
    wait(page, f"MoSLD.frames.length === {stopped + 2}")
    page.get_by_role("button", name="Resume").click()
    wait(page, f"MoSLD.frames.length > {stopped + 3}")
    page.click("#reset")
    wait(page, "MoSLD.state === 'idle' && MoSLD.replay")


@pytest.fixture
def taken(browser, tmp_path):
    """A lab with one place and one seat, both taken: the page of who trains there, and one of somebody who comes to look."""
    port = free_port()
    server = start(port, TMPDIR=tmp_path, MOSLD_RUNS=1, MOSLD_VISITORS=1)
    contexts = [browser.new_context(viewport={"width": 1366, "height": 768}, reduced_motion="reduce") for _ in range(2)]
    try:
        pages = [context.new_page() for context in contexts]
        for page, link in zip(pages, (ENDLESS, ""), strict=True):
            page.goto(f"http://127.0.0.1:{port}/{link}")
            page.wait_for_function("window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1", timeout=PATIENCE * 1000)
            if link:
                press_run(page, 3)
        yield pages
    finally:
        for context in contexts:
            context.close()
        server.terminate()
        server.wait(PATIENCE)


def test_looking_costs_no_seat(taken):
    """Rule 10: recorded runs, lessons on them, the claims and all rooms are there while every place and every seat is taken."""
    owner, page = taken
    health = lambda: json.loads(urllib.request.urlopen(page.url.split("?")[0] + "lab/health").read())  # noqa: E731
    calm = lambda: page.evaluate("MoSLD.kind") != "error"  # noqa: E731
    page.locator(".lab-question", has_text="One shared A").click()
    wait(page, "MoSLD.name === 'share' && MoSLD.controls && MoSLD.wishes === 0")
    page.locator(".lab-ask button").first.click()
    page.wait_for_selector(".lab-outcome", state="visible")
    assert page.inner_text(".lab-outcome").startswith("You guessed: Shared ends ahead.")
    page.wait_for_selector(".lab-differs", state="hidden")  # its settings stand beside it
    page.click("#fold-link > button")
    page.click("#copy")
    page.wait_for_function("(document.querySelector('#link textarea, #link input') || {}).value?.includes('?c=')")
    assert calm()
    room(page, "Learn")
    wait(page, "MoSLD.name === 'lesson-1'")
    page.locator(".lab-guesses button").first.click()
    page.click("#lesson-play")
    page.wait_for_selector("#lesson-answer")
    assert "The recorded run shows" in page.inner_text("#lesson-answer")
    for place in ("Look inside/Words", "Look inside/Norms", "Look inside/Geometry", "Compare/Runs", "Compare/Seeds", "Compare/Merging", "Take away"):
        open_tab(page, place)
        page.wait_for_timeout(300)
        assert calm(), (place, note(page))
    open_tab(page, "Compare/Claims")
    page.wait_for_function("document.querySelectorAll('#claims tbody tr').length > 9")
    assert {"supported", "contradicted"} <= set(page.eval_on_selector_all("#claims tbody td", "els => els.map((e) => e.textContent)"))
    assert calm() and health()["runs"] == 1
    before = frames(owner)  # nobody has taken the seat of who trains
    wait(owner, f"MoSLD.frames.length > {before + 2}")
    room(page, "Watch")
    page.locator(".lab-question", has_text="One shared A").click()
    wait(page, "MoSLD.name === 'share' && MoSLD.wishes === 0")
    page.click("#run")  # training is another matter, and says so in one sentence
    wait(page, "MoSLD.kind === 'error'")
    assert "here" in note(page) and page.evaluate("MoSLD.replay && MoSLD.frames.length > 10")
    painted(page)
    assert page.locator("#figure-machine [data-expert]").count() > 3 and owner.evaluate("MoSLD.state") == "running"


def test_a_question_while_a_run_trains_and_the_run_again(visit):
    """The last wish counts: the recorded run is shown, one's own is paused and comes back when it is resumed."""
    page = visit(FAST)
    press_run(page, 3)
    page.locator(".lab-question", has_text="One shared A").click()
    wait(page, "MoSLD.name === 'share' && MoSLD.replay && MoSLD.state === 'paused'")
    page.get_by_role("button", name="Resume").click()
    wait(page, "!MoSLD.replay && MoSLD.frames.length > 4")
    assert page.evaluate("MoSLD.frames.map((f) => f.step)")[:4] == [0, 1, 2, 3]
    rest(page)


def test_a_link_restores_everything_and_a_class_link_hides(visit):
    page = visit(f"?c=1!{QUICK}!s.42!lr.0.02!t.world/tense:2,world/place!a.rank=2,4&hide=preset,link")
    page.wait_for_function("document.querySelector('#knob-values textarea, #knob-values input').value === '2, 4'")
    assert not page.locator("#questions").is_visible() and not page.locator("#fold-link").is_visible()
    press_run(page, 2)
    header = page.evaluate("MoSLD.header")
    assert header["seed"] == 42 and header["tasks"] == ["tense", "place"] and header["arms"] == ["rank 2", "rank 4"]
    assert "s.42" in page.url and "t.world/tense:2,world/place" in page.url
    rest(page)
    assert "hide: 'everything' is no group of controls" in note(visit("?hide=everything"))


def test_bad_input_is_one_sentence_and_a_visitors_text_is_text(visit, tmp_path):
    page = visit("?c=1!t.world/moood")
    assert "did you mean world/mood" in note(page) and page.get_attribute(".lab-note", "data-kind") == "error"
    page = visit(FAST)
    page.click("#fold-all > button")
    page.click("#fold-tasks > button")
    page.fill("#knob-weights textarea, #knob-weights input", "${1+1} \\ <b>")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#facts').innerText.includes('${1+1}')")  # as it was typed
    page.fill("#knob-weights textarea, #knob-weights input", "")
    file = tmp_path / "mine.jsonl"
    rows = [json.dumps({"question": f"Is {n} `even`?", "options": ["yes", "no"], "answer": n % 2}) for n in range(20)]
    file.write_text("\n".join([*rows[:2], "no json", *rows[2:]]))
    page.click("#fold-own > button")
    page.set_input_files("#fold-own input[type=file]", str(file))
    page.wait_for_function("document.querySelector('#own-read').innerText.includes('line 3')")
    assert "`even`" in page.inner_text("#own-read")


def test_a_change_during_the_run_acts_and_a_method_that_fixes_it_says_so(visit):
    page = visit(FAST)
    page.click("#fold-all > button")
    press_run(page, 3)
    page.fill("#knob-lr input", "0.02")
    page.press("#knob-lr input", "Enter")
    wait(page, "MoSLD.frames.some((f) => f.event === 'change')")
    assert "lr 0.003 to 0.02" in page.evaluate("MoSLD.frames.find((f) => f.event === 'change').note")
    page.wait_for_selector(".lab-marks span.change", state="attached")
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    page = visit(FAST + "!m.lora!a.")
    page.click("#fold-all > button")
    press_run(page, 2)
    page.fill("#knob-dropout input[type=number]", "0.5")
    page.press("#knob-dropout input[type=number]", "Enter")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('LoRA fixes')")
    page.wait_for_function("document.querySelector('#knob-dropout input[type=number]').value === '0'")  # the run's value
    rest(page)


def test_nothing_jumps_while_training(visit):
    page = visit(FAST)
    press_run(page, 3)
    page.evaluate(
        "() => { window.jumps = []; new PerformanceObserver((l) => l.getEntries().forEach((e) => { if (!e.hadRecentInput) jumps.push(e.value); }))"
        ".observe({ type: 'layout-shift', buffered: false }); }"
    )
    wait(page, f"MoSLD.frames.length >= {frames(page) + 8}")
    assert sum(page.evaluate("jumps")) < 0.01
    rest(page)
