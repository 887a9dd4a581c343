"""The Merge tab on the real page: train two small adapters, move a slider, merge, look inside; axe, keys and phones."""

import pytest
from browser_helpers import cut_off, faults, open_tab

TWO = "?c=1!t.world/mood,world/place"


def opened(page):
    """The page at its Merge tab."""
    open_tab(page, "Compare/Merging")
    page.wait_for_selector("#merge-now-title")
    return page


def idle(page):
    page.wait_for_function("!document.querySelector('#merge-train').disabled && document.querySelector('#merge-stop-train').disabled")


def press(page, name: str):
    """Press a button and wait until it has done its work."""
    page.click(f"#merge-{name}")
    page.wait_for_function("document.querySelector('#merge-train').disabled")
    idle(page)


def trained(page):
    opened(page)
    page.wait_for_function("document.querySelectorAll('#merge-tasks .token').length === 2")  # the tasks of the page's link
    page.fill("#merge-steps input", "4")
    page.keyboard.press("Tab")
    press(page, "train")
    page.wait_for_selector("#merge-lam-1 input[type=range]")
    return page


def choose(page, label: str):
    page.click("#merge-method input")
    page.get_by_role("option", name=label, exact=True).click()


@pytest.mark.slow
def test_train_slide_merge_and_look_inside(visit):
    page = trained(visit(TWO))
    assert "λ mood" in page.inner_text("#merge-lam-0") and not page.locator("#merge-lam-2").is_visible()
    page.focus("#merge-lam-0 input[type=range]")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelectorAll('#merge-now tbody tr')[1].innerText.startsWith('mood\\t0.60')")
    page.click("#merge-settings > button")
    page.fill("#merge-ada-steps input", "3")
    page.keyboard.press("Tab")
    choose(page, "AdaMerging, layer-wise")
    press(page, "merge")
    page.wait_for_selector("#figure-merge_course svg.lab-chart")
    page.wait_for_function("document.querySelector('#merge-table').innerText.includes('looked at validation questions')")
    page.wait_for_function("document.querySelector('#figure-merge_course .lab-say').textContent.includes('λ, layer 4, v')")
    assert "Untrained backbone" in page.inner_text("#merge-table")
    assert faults(page) == []
    page.fill("#merge-ada-steps input", "-3")
    page.keyboard.press("Tab")
    page.click("#merge-merge")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('ada_steps: -3 is not allowed')")


def test_stop_and_go_on(visit):
    page = opened(visit(TWO))
    page.click("#merge-train")
    page.wait_for_function("document.querySelector('#merge-told-train').textContent.includes('step')")
    page.click("#merge-stop-train")
    idle(page)
    page.wait_for_function("document.querySelector('#merge-told-train').textContent.includes('Stopped at')")
    assert not page.locator("#merge-ways").is_visible()


def test_a_phone_in_the_dark(visit):
    page = trained(visit(TWO, width=390, scheme="dark"))
    page.click("#merge-settings > button")
    choose(page, "after R-MTLLMF, ideal channel, defended")
    page.fill("#merge-realign-steps input", "1")
    page.keyboard.press("Tab")
    press(page, "merge")
    page.wait_for_selector("#figure-merge_course svg.lab-chart")
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert cut_off(page) == []


def test_what_the_queue_refuses_says_so_and_can_be_pressed_again(server, browser):
    """The answer is that of Gradio's full queue; nothing goes on waiting for a place that will never come."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(server)
    page.wait_for_function("window.MoSLD && MoSLD.there && MoSLD.frames.length > 1 && MoSLD.ready")
    open_tab(page, "Compare/Claims")
    page.wait_for_selector(".lab-quick")
    full = {"status": 503, "content_type": "application/json", "body": '{"detail": "Queue is full. Max size is 64 and size is 64."}'}
    page.route("**/queue/join*", lambda route: route.fulfill(**full))
    told = "document.querySelector('#claim-C1').closest('tr').innerText"
    page.click(".lab-quick >> nth=0")
    page.wait_for_function(f"document.querySelector('.lab-note').textContent.includes('too many wait') && {told}.includes('Not started.')")
    assert "Waiting" not in page.evaluate(told)
    open_tab(page, "Compare/Merging")
    page.click("#merge-train")
    page.wait_for_function("document.querySelector('#merge-told-train').innerText.includes('Not started.')")
    idle(page)
    page.unroute("**/queue/join*")
    open_tab(page, "Compare/Claims")
    page.click(".lab-quick >> nth=0")
    page.wait_for_function(f"{told}.includes('Counted now: ')")
    context.close()
