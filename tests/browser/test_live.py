"""The live page: Run moves the pictures, Pause and Step do what they say, a link restores, bad input is one sentence."""

import json

from browser_helpers import FAST, LONG, QUICK, frames, note, press_run, shot, wait


def test_run_moves_every_picture_then_pause_step_and_reset(visit):
    page = visit(FAST)
    press_run(page, 3)
    before = {v: shot(page, v) for v in ("gates", "accuracy", "imbalance")}
    wait(page, f"MoSLD.frames.length >= {frames(page) + 3}")
    page.wait_for_timeout(300)
    changed = {v for v in before if shot(page, v) != before[v]}
    assert {"gates", "imbalance"} <= changed
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    stopped = frames(page)
    page.wait_for_timeout(700)
    assert frames(page) == stopped and note(page) == f"Paused at step {stopped - 1}."
    page.click("#step1")
    wait(page, f"MoSLD.state === 'paused' && MoSLD.frames.length === {stopped + 1}")
    page.click("#step10")
    wait(page, f"MoSLD.state === 'paused' && MoSLD.frames.length === {stopped + 11}")
    page.get_by_role("button", name="Resume").click()
    wait(page, f"MoSLD.frames.length > {stopped + 13}")
    page.click("#reset")
    wait(page, "MoSLD.state === 'idle' && (MoSLD.replay || MoSLD.frames.length === 0)")


def test_the_other_tabs_draw_too(visit):
    page = visit(FAST)
    press_run(page, 3)
    for tab, view in (("Loss", "loss"), ("Router", "router"), ("Norms", "norms")):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(f"#figure-{view} canvas")
        page.wait_for_timeout(200)
        first = shot(page, view)
        wait(page, f"MoSLD.frames.length >= {frames(page) + 3}")
        page.wait_for_timeout(300)
        assert shot(page, view) != first, view


def test_one_scrubber_moves_every_view_and_hover_gives_numbers(visit):
    page = visit(FAST)
    press_run(page, 8)
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    live = {v: shot(page, v) for v in ("gates", "accuracy", "imbalance")}
    page.focus(".lab-track input")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert page.inner_text(".lab-step") == "Step 1 of 200"
    assert all(shot(page, v) != live[v] for v in live)
    box = page.locator("#figure-gates canvas").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 55)
    tip = page.inner_text("#lab-tip")
    probe = page.evaluate("MoSLD.shown().arms[0].probe[0]")
    assert "layer " in tip and "expert 1 of 4" in tip and "load" in tip and len(probe["load"][0]) == 4


def test_a_link_restores_everything_and_the_address_holds_the_run(visit):
    page = visit(f"?c=1!{QUICK}!s.42!lr.0.02!t.world/tense:2,world/place!a.rank=2+4".replace("+", ","))
    page.wait_for_function("document.querySelector('#knob-lr input').value === '0.02'")
    assert page.input_value("#knob-values textarea, #knob-values input") == "2, 4"
    press_run(page, 2)
    header = page.evaluate("MoSLD.header")
    assert header["seed"] == 42 and header["tasks"] == ["tense", "place"] and header["arms"] == ["rank 2", "rank 4"]
    assert "s.42" in page.url and "t.world/tense:2,world/place" in page.url
    page.click("#pause")


def test_bad_input_is_one_sentence_on_the_page(visit, tmp_path):
    for link, words in (
        ("?c=1!t.world/moood", "did you mean world/mood"),
        ("?c=1!m.nonsense", "method: 'nonsense' is not known"),
        ("?c=1!k.9", "top_k: 9 is above the number of experts"),
    ):
        page = visit(link)
        assert words in note(page)
        assert page.get_attribute(".lab-note", "data-kind") == "error"
    page = visit(FAST)
    page.locator("#knob-tasks").get_by_label("Clear").or_(page.locator("#knob-tasks .token-remove.remove-all")).first.click()
    page.wait_for_timeout(300)
    page.click("#run")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('tasks: none is chosen')", timeout=LONG)
    broken = tmp_path / "broken.jsonl"
    rows = [json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(20)]
    broken.write_text("\n".join([*rows[:2], '{"question": "no options"}', *rows[2:]]))
    page.locator("#fold-own button").first.click()
    page.set_input_files("#fold-own input[type=file]", str(broken))
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('line 3')", timeout=LONG)
