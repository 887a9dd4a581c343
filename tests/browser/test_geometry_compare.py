"""Geometry and Compare on the real page: real runs, real clicks, numbers that agree with the page's own store."""

import pytest
from browser_helpers import FAST, QUICK, cut_off, faults, note, open_tab, press_run, shot, wait

SHORT = f"?c=1!{QUICK}!n.8!ee.4!t.world/mood,world/place!ho.world/tense"


def words(page, view: str) -> str:
    """A picture in words; one that is out of sight is not drawn."""
    page.locator(f"#figure-{view}").scroll_into_view_if_needed()
    page.wait_for_function(f"document.querySelector('#figure-{view} .lab-say').textContent.length > 0")
    return page.text_content(f"#figure-{view} .lab-say")


def test_geometry_opens_on_the_run_and_its_menus_choose(visit):
    page = visit(FAST, scheme="dark")
    open_tab(page, "Look inside/Geometry")
    assert page.get_attribute(".lab-note", "data-kind") != "error"  # no run to look into is no fault
    page.click("#geometry-look")
    page.wait_for_function("document.querySelector('.lab-note').textContent.includes('press Run mine first')")
    press_run(page, 4)
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")  # it looks by itself, again where the run rests at another step
    page.wait_for_function("document.querySelector('#figure-updates .lab-say').textContent.includes(`at step ${MoSLD.frames.length - 1},`)")
    step = page.evaluate("MoSLD.frames.length - 1")
    assert f"at step {step}, layer 1, q. dropout 0: mean cosine between two experts" in words(page, "updates")
    page.locator("#figure-conflict").scroll_into_view_if_needed()
    said = "document.querySelector('#figure-conflict .lab-say').textContent"
    wait(page, f"{said}.includes('of 1 pairs below 0') && !{said}.includes('so far')")  # it is told as it goes on
    assert "on A" in words(page, "conflict") and "so far" not in words(page, "conflict")  # no task is left out
    offered = page.locator("#updates-linear option").all_inner_texts()
    assert offered[:3] == ["layer 1, q", "layer 1, v", "layer 2, q"] and page.locator("#conflict-linear option").first.inner_text() == "all together"
    before = page.locator("#figure-updates .lab-grid").first.inner_text()
    page.select_option("#updates-linear", label="layer 2, v")
    page.wait_for_function("document.querySelector('#figure-updates .lab-say').textContent.includes('layer 2, v')")
    assert page.locator("#figure-updates .lab-grid").first.inner_text() != before
    page.locator("#figure-updates .lab-heat td[data-help]").nth(1).hover()
    assert "layer 2, v: expert 1 of dropout 0, expert 2 of dropout 0" in page.inner_text("#lab-tip")
    assert faults(page) == []


def test_compare_shelf_overlay_and_tasks_alone(visit):
    page = visit(SHORT, width=390)
    page.wait_for_function("!document.querySelector('#knob-tasks').innerText.includes('meant')")  # the link has filled the controls
    open_tab(page, "Compare/Runs")
    page.wait_for_function("document.querySelector('#shelf').innerText.includes('There is none yet')")
    assert not page.locator("#compare-rest").is_visible()
    open_tab(page, "Watch")  # where the bar is
    page.click("#run")
    wait(page, "!MoSLD.replay && MoSLD.state === 'ended'")
    open_tab(page, "Compare/Runs")
    page.click("#compare-again")
    page.wait_for_selector("#shelf td")
    scores = page.evaluate("MoSLD.header.arms.map((_, arm) => MoSLD.scores(arm))")
    rows = page.eval_on_selector_all("#shelf tbody tr", "rows => rows.map(r => [...r.children].map(c => c.innerText.trim()))")
    assert [row[0].split("\n")[0].removesuffix(" settings") for row in rows[3:]] == ["Run 1, dropout 0", "Run 1, dropout 0.1"]
    for row, of in zip(rows[3:], scores, strict=True):
        assert [float(v) for v in row[3:6]] == pytest.approx(of, abs=5e-4) and float(row[2]) == pytest.approx(sum(of[:2]) / 2, abs=6e-4)
    assert "?c=1!" in page.get_attribute("#shelf a", "href") and "n.8" in page.get_attribute("#shelf a", "href")
    assert "loss: Run 1, dropout 0 " in words(page, "overlay")
    hollow = page.eval_on_selector_all("#figure-overlay .lab-chart", "els => els.map((e) => e.querySelectorAll('path[fill=none][d*=l]').length)")
    told = page.eval_on_selector_all("#figure-overlay .lab-chart", "els => els.map((e) => e.dataset.help.split('the hollow mark').length - 1)")
    assert hollow == told and sum(told) == 2 * 4  # the mean and three tasks, of both arms: test questions are no part of a curve
    before = shot(page, "overlay")
    page.click("#compare-second input")
    page.get_by_role("option", name="Run 1, dropout 0", exact=True).click()
    page.wait_for_function("!document.querySelector('#figure-overlay .lab-say').textContent.includes('dropout 0.1')")
    assert shot(page, "overlay") != before
    page.click("#fold-alone > button")
    page.click("#alone-start")
    page.wait_for_function("document.querySelector('#alone').innerText.includes('has been trained alone, with as many of its questions')")
    cells = page.locator("#alone tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[:2] == ["dropout 0, mood", f"{100 * scores[0][0]:.1f} %"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and cut_off(page) == []
    assert note(page).startswith("All 8 steps are done")
    assert faults(page) == []
