"""Inspect and Slow motion in a real page: a run answers while it trains and when it is paused, and both can be used by keyboard."""

import re

import pytest
from browser_helpers import FAST, cut_off, faults, look, note, open_tab, press_run, shot, wait

ALT = "document.querySelector('#figure-{} .lab-say').textContent"


def words(page, view: str, part: str) -> str:
    """The picture's words, once they hold `part`."""
    page.wait_for_function(f"part => {ALT.format(view)}.includes(part)", arg=part)
    return page.evaluate(ALT.format(view))


def choose(page, control: str, name: str) -> None:
    page.click(f"#{control} input")
    page.get_by_role("option", name=name, exact=True).click()


def test_a_training_run_is_inspected_and_steered(visit):
    page = visit(FAST)
    open_tab(page, "Look inside/Words")
    page.fill("#inspect-text textarea", "Mood? The tired nurse wept by the waves.")
    page.fill("#inspect-options textarea", "a happy feeling\na sad feeling")
    page.click("#inspect-ask")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('press Run mine first')")
    press_run(page, 3)
    page.click("#inspect-ask")
    first = words(page, "inspect", "Accuracy on mood")
    assert re.search(r"nurse [1-4], .*Scores: a happy feeling [\d.]+ %; a sad feeling [\d.]+ %\.", first) and "right" not in first
    assert page.evaluate("MoSLD.state") == "running"
    page.locator("#figure-inspect .lab-words li").first.hover()
    tip = page.inner_text("#lab-tip")
    gates = [float(v) for v in re.findall(r"expert \d: gate ([\d.]+)", tip)]
    assert "“[CLS]”" in tip and len(gates) == 4 and sum(gates) == pytest.approx(1, abs=0.02) and gates.count(0) == 2
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    page.click("#inspect-another")
    assert " (right) " in words(page, "inspect", "(right)")
    choose(page, "inspect-steer", "mute expert 3")
    steered = words(page, "inspect", "expert 3 muted in every linear")
    steered = words(page, "inspect", "Accuracy on mood")
    scores = [(float(a), float(b)) for a, b in re.findall(r"([\d.]+) % to ([\d.]+) %", steered)]
    assert len(scores) == 5 and any(a != b for a, b in scores)  # four options and the accuracy
    page.focus("#figure-inspect .lab-drawing")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "expert 3: gate" in page.inner_text("#lab-tip") and "steered 0.00" in page.inner_text("#lab-tip")
    before = shot(page, "inspect")
    page.select_option("#look-selects select >> nth=0", label="layer 2")  # one selection for all pictures
    page.select_option("#look-selects select >> nth=1", label="v")
    words(page, "inspect", "layer 2, v")
    page.wait_for_timeout(200)
    assert shot(page, "inspect") != before
    page.fill("#inspect-text textarea", "")
    page.click("#inspect-ask")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('it is empty')")
    assert note(page) == "text: it is empty; give a sentence and at least one option."


def test_slow_motion_walks_through_its_stages(visit):
    page = visit(FAST)
    press_run(page, 3)
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    open_tab(page, "Look inside/Slow motion")
    page.wait_for_selector(".walk-next:visible")
    seen = []
    for stage in range(6):
        assert page.inner_text("[aria-current=step]") == f"{stage + 1} {('x', 'gate', 'mask', 'A x', 'B', 'sum')[stage]}"
        assert page.inner_text(".walk-hint").startswith(f"{stage + 1}. ")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen.append(shot(page, "walk"))
        if stage == 2:
            assert "the very one the next step will make" in page.inner_text(".walk-hint")
        if stage < 5:
            page.click(".walk-next")
    assert len(set(seen)) == 6 and page.locator(".walk-next").is_disabled()
    page.focus("#figure-walk .lab-drawing")
    page.keyboard.press("ArrowDown")
    assert re.search(r"“\w+” — number 1 of 128: -?[\d.e-]+\nthe frozen linear", page.inner_text("#lab-tip"))
    page.get_by_role("button", name="3 mask").click()
    choose(page, "slow-mode", "evaluation")
    page.wait_for_function("document.querySelector('.walk-hint').textContent.includes('In evaluation nothing is dropped')")
    page.click(".walk-play")
    page.wait_for_function("document.querySelector('.walk-hint').textContent.startsWith('4. ')")
    page.get_by_role("button", name="Stop", exact=True).click()
    assert page.inner_text(".walk-play") == "Play"


def test_both_tabs_are_for_everyone(visit):
    page = visit(FAST)
    press_run(page, 2)
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    for tab, view, part in (("Look inside/Words", "inspect", "Accuracy on"), ("Look inside/Slow motion", "walk", "of length")):
        for scheme, width in (("light", 1440), ("dark", 390)):
            look(page, width, 844, scheme)
            open_tab(page, tab)
            page.locator(f"#figure-{view} .lab-drawing").scroll_into_view_if_needed()  # out of sight it is not drawn
            words(page, view, part)
            assert faults(page) == [], (tab, width)
            assert cut_off(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
