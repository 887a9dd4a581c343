"""Lessons on the real page: predict, run, reveal; and a link to one of them."""

from browser_helpers import wait

from mosld.ui.lessons import LESSONS

TIME = 180_000


def says(page, words: str, where: str = "#lesson-answer"):
    page.wait_for_function("([where, words]) => document.querySelector(where)?.innerText.includes(words)", arg=[where, words], timeout=TIME)


def test_a_link_opens_a_lesson_and_turning_the_page_changes_the_link(visit):
    page = visit("?lesson=2", width=390)
    page.wait_for_selector("#lesson-card", state="visible")
    says(page, LESSONS[1].title, "#lesson-title")
    assert page.locator("#lesson-guess input").count() == len(LESSONS[1].answers)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#lesson-next")
    says(page, LESSONS[2].title, "#lesson-title")
    page.wait_for_function("window.location.search.includes('lesson=3')")
    says(visit("?lesson=7"), "give a number from 1 to 6", ".lab-note")


def test_predict_run_and_reveal(visit):
    lesson = LESSONS[4]
    page = visit("?lesson=5")
    page.wait_for_selector("#lesson-card", state="visible")
    for button in ("#lesson-run", "#lesson-reveal"):
        page.click(button)
        says(page, "Choose an answer first")
    assert page.evaluate("MoSLD.replay")  # nothing was started
    page.locator("#lesson-guess label").nth(0).click()
    page.click("#lesson-reveal")
    says(page, "There is no run yet")
    page.click("#lesson-run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length > 1")
    assert page.input_value("#knob-values textarea, #knob-values input") == "0, 0.1, 0.5"
    assert lesson.runs[0].to_url() in page.url and "lesson=5" in page.url
    page.click("#lesson-reveal")
    says(page, "has not ended")
    says(page, "The run has ended")
    page.click("#lesson-reveal")
    says(page, "You predicted")
    shown = page.inner_text("#lesson-answer")
    means = page.evaluate("MoSLD.frames[MoSLD.frames.length - 1].arms.map((a) => a.scores.reduce((x, y) => x + y) / a.scores.length)")
    assert ", ".join(f"{m:.3f}" for m in means[:2]) + f" and {means[2]:.3f}" in shown
    assert lesson.answers[0] in shown and page.inner_text("#lesson-run").strip() == "Run again with seed 1"
    page.click("#lesson-answer button")
    page.wait_for_function("document.activeElement.closest('#figure-accuracy')")
