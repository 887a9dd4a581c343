"""What a screen reader meets in Watch and Learn, as the browser's own accessibility tree has it; and two things that only a moment shows."""

import re

from browser_helpers import painted, room, wait

CONTROLS = ("button", "link", "textbox", "combobox", "slider", "checkbox", "radio", "spinbutton", "switch", "tab", "option")
PLACES = ("img", "region", "navigation", "tabpanel")


def tree(page) -> list[tuple[str, str]]:
    """(role, name) of everything that is read aloud, but for Gradio's own icons inside a control that has a name."""
    found = re.findall(r"^ *- '?([a-z]+)(?: \"((?:[^\"\\]|\\.)*)\")?", page.locator("body").aria_snapshot(), re.MULTILINE)
    return [(role, name) for role, name in found if role != "img" or name]


def held(page) -> list[tuple[str, str]]:
    """The tree of a room, once what is to hold in every room is held."""
    found = tree(page)
    assert [name for role, name in found if role == "heading" and name == "MoSLD Lab"] == ["MoSLD Lab"]
    assert page.locator("h1").count() == 1 and [role for role, _ in found].count("main") == 1
    assert [(role, name) for role, name in found if role in (*CONTROLS, *PLACES) and not name.strip()] == []
    assert not any(re.fullmatch(r"Remove \d+", name) for _, name in found)  # which task, not which number
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id) => id)")
    assert sorted({i for i in ids if ids.count(i) > 1}) == []
    assert page.evaluate("[...document.querySelectorAll('*')].filter((e) => e.tabIndex > 0).length") == 0
    unnamed = "[...document.querySelectorAll('svg.lab-svg')].filter((e) => e.checkVisibility() && !e.closest('[aria-hidden], [aria-label]'))"
    assert page.evaluate(f"{unnamed}.map((e) => e.outerHTML.slice(0, 99))") == []
    return found


def alternatives(page) -> list[str]:
    """The words of the pictures in sight."""
    return page.eval_on_selector_all("svg[role=group]", "els => els.filter((e) => e.checkVisibility()).map((e) => e.getAttribute('aria-label'))")


def test_watch_is_read_aloud_with_its_numbers(page):
    found = held(page)
    assert ("navigation", "Rooms") in found and ("region", "The machine") in found and ("tabpanel", "Watch") in found
    says = page.evaluate("MoSLD.shown().says")
    page.wait_for_function(
        "(text) => document.querySelector('#figure-machine svg[role=group]').getAttribute('aria-label').includes(text)", arg=says[0]
    )
    machine, answers, reads, routers = alternatives(page)
    assert says[0] in machine and says[1] in machine and "Layer" not in machine[:10]
    right = page.evaluate("MoSLD.header.arms.map((_, i) => MoSLD.percent(MoSLD.mean(MoSLD.scores(i).slice(0, MoSLD.header.tasks.length))))")
    assert answers.startswith("Right answers. ") and all(f"{share} at step" in answers or f"{share} on the test" in answers for share in right)
    assert reads.startswith("What does the router read? word: ") and len(re.findall(r"untrained \.\d", reads)) == 6
    lowest, highest = (float(v) for v in re.findall(r"(\d+) % of", routers))
    cells = [float(v) for role, name in found if role == "button" for v in re.findall(r", expert \d: (\d+) %$", name)]
    assert len(cells) == 6 * 8 * 4 and (lowest, highest) == (min(cells), max(cells))


def test_learn_is_read_aloud_with_its_numbers(page):
    room(page, "Learn")
    wait(page, "MoSLD.name === 'lesson-1'")
    page.click(".lab-guesses button >> nth=0")
    page.wait_for_function("MoSLD.percent(MoSLD.mean(MoSLD.scores(0).slice(0, 3))) && document.querySelector('#figure-lesson svg[role=group]')")
    found = held(page)
    assert ("tabpanel", "Learn") in found and any(role == "region" and name.startswith("1. ") for role, name in found)
    now = page.evaluate("MoSLD.percent(MoSLD.mean(MoSLD.scores(0).slice(0, 3)))")
    page.wait_for_function("(share) => document.querySelector('#figure-lesson svg[role=group]').getAttribute('aria-label').includes(share)", arg=now)


def test_one_live_region_speaks_the_one_sentence(page):
    """What stands under the buttons is said, once, by one region; nothing else speaks while the time line moves."""
    regions = "[...document.querySelectorAll('[role=status], [role=alert], [aria-live], output')].filter((e) => e.checkVisibility())"
    live = f"{regions}.map((e) => e.textContent.trim()).filter((text) => text)"
    page.evaluate("MoSLD.receive(JSON.stringify({ k: 'say', note: 'A sentence for everyone.' }))")
    page.wait_for_function("document.querySelector('.lab-note').textContent === 'A sentence for everyone.'")
    assert page.evaluate(live) == ["A sentence for everyone."] == [page.inner_text(".lab-aloud")]
    for _ in range(3):
        page.evaluate("MoSLD.seek(MoSLD.index() - 1)")
    painted(page)
    assert page.evaluate(live) == ["A sentence for everyone."]
    page.evaluate("MoSLD.receive(JSON.stringify({ k: 'say', note: '' }))")


def test_before_its_first_probe_a_method_is_drawn_as_what_it_is(page):
    """MoSLD has one A for all experts, also in the frames that come before anything was measured."""
    boxes = "document.querySelector('#figure-machine svg[role=group]').textContent"
    probed = page.evaluate(boxes)
    page.evaluate(
        """async () => {
          const run = await MoSLD.fetchRun("dropout"), unprobed = (arm) => [...arm.slice(0, 5), 0];
          const frames = run.frames.slice(0, 2).map((frame) => frame.map((part, i) => (i === 4 ? part.map(unprobed) : part)));
          const header = { ...run.header, drawn: run.header.drawn.map((d) => ({ ...d, shared: "A" })) }; // as a run of one's own has it
          MoSLD.receive({ ...run, header, k: "run", run: 0, replay: true, chosen: true, name: "bare", note: "", state: MoSLD.state, frames });
        }"""
    )
    wait(page, f"MoSLD.name === 'bare' && MoSLD.probeOf(0) === null && {boxes} !== {probed!r}")
    painted(page)
    drawn = page.evaluate(boxes)
    assert "A, shared" in drawn and "A 1" not in drawn and all(f"B {e}" in drawn for e in (1, 2, 3, 4))


def test_asking_the_lab_is_said_only_where_the_answer_takes_its_time(page):
    note = "document.querySelector('.lab-note').textContent"
    at_once = page.evaluate("() => { MoSLD.wish(() => {}); return [MoSLD.wishes, MoSLD.slow()]; }")
    assert at_once == [1, False]  # nothing is said yet
    wait(page, f"{note} === 'Asking the lab …'")
    page.evaluate("MoSLD.answered()")
    wait(page, f"MoSLD.wishes === 0 && {note} !== 'Asking the lab …'")
