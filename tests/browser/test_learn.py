"""Lessons on the real page: the picture beside the text, nothing told before the guess, recorded runs without a place, one thing to try."""

import pytest
from browser_helpers import LONG, faults, room, wait

from mosld.ui.learn.lessons import LESSONS


def opened(visit, number: int, **how):
    page = visit(f"?lesson={number}", **how)
    wait(page, f"MoSLD.name === 'lesson-{number}'")
    page.wait_for_timeout(400)
    return page


@pytest.mark.parametrize("zoom", [1, 1.5])
def test_text_and_picture_stand_in_one_viewport(visit, zoom):
    page = opened(visit, 1, width=round(1366 / zoom), height=round(768 / zoom))
    ask, picture = page.locator("#lesson-ask").bounding_box(), page.locator("#figure-lesson").bounding_box()
    if zoom == 1:
        assert picture["x"] > ask["x"] + ask["width"] * 0.8 and ask["y"] + ask["height"] < 768 and picture["y"] + picture["height"] < 768
    assert page.locator("#lesson-title").inner_text() == f"1. {LESSONS[0].title}"
    assert page.evaluate("document.documentElement.scrollWidth") <= round(1366 / zoom)


def test_the_answer_comes_after_the_guess_and_the_guess_is_in_the_picture(visit):
    page = opened(visit, 1)
    assert page.evaluate("MoSLD.index()") == 0 and "right before training" in page.inner_text("#figure-lesson")
    assert "test" not in page.locator("#figure-lesson svg[role=group]").text_content()
    page.click("#lesson-play")
    page.wait_for_function("document.querySelector('.lab-told').innerText.includes('Choose an answer first')")
    page.locator(".lab-guesses button").nth(1).click()
    page.wait_for_function("document.querySelector('#figure-lesson').innerText.includes('your guess')")
    page.click("#lesson-play")
    page.wait_for_selector("#lesson-answer", timeout=LONG)
    told = page.evaluate("MoSLD.told")
    assert told["sentence"] in page.inner_text("#lesson-answer").replace("\n", " ") and LESSONS[0].answers[told["answer"]] in page.inner_text(
        "#lesson-answer"
    )
    assert "Now try" in page.inner_text(".lab-try") and page.locator(".lab-try select").count() == 1
    assert faults(page) == []


def test_what_was_trained_alone_stands_beside(visit):
    page = opened(visit, 2)
    page.locator(".lab-guesses button").first.click()
    page.click("#lesson-play")
    page.wait_for_selector("#lesson-answer", timeout=LONG)
    page.wait_for_function("document.querySelector('#figure-lesson').innerText.includes('mood alone')")
    assert page.evaluate("MoSLD.header.tasks[MoSLD.pick.task]") == "mood"


def test_a_lesson_is_run_and_its_answer_read_from_that_run(visit):
    page = opened(visit, 1)
    page.locator(".lab-guesses button").first.click()
    page.click("#lesson-run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length > 1")
    page.wait_for_function("document.querySelector('#lesson-answer')?.innerText.includes('Your run shows')", timeout=3 * LONG)
    assert page.inner_text("#lesson-run") == "Run it again, another seed" and LESSONS[0].runs[0].to_url() in page.url


def test_a_lesson_that_is_not_there_is_answered_in_one_sentence_that_stays(visit):
    page = visit("?lesson=9")
    wait(page, "MoSLD.name === 'lesson-1'")  # the first one is shown in its place
    page.wait_for_timeout(600)
    assert page.inner_text(".lab-note") == "lesson: '9' is not there; give a number from 1 to 8."
    assert page.get_attribute(".lab-note", "data-kind") == "error" and page.evaluate("document.body.dataset.room") == "learn"


def test_back_from_a_lesson_stays_in_the_lab(visit):
    page = visit()
    room(page, "Learn")
    page.click("#lesson-next")
    page.wait_for_function("location.search.includes('lesson=2')")
    page.go_back()
    page.wait_for_function("document.body.dataset.room === 'watch' && !location.search.includes('lesson')")
