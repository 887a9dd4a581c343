"""Lessons on the real page: the picture beside the text, nothing told before the guess, recorded runs without a place, one thing to try."""

from browser_helpers import faults, look, painted, room, wait

from mosld.ui.learn.lessons import LESSONS


def opened(page, number: int):
    """A lesson, chosen by its number."""
    if page.evaluate("document.body.dataset.room") != "learn":
        room(page, "Learn")
    page.click(f".lab-steps button >> nth={number - 1}")
    wait(page, f"MoSLD.name === 'lesson-{number}'")
    painted(page)
    return page


def test_text_and_picture_stand_in_one_viewport(page):
    """Rule 2, of every lesson: a window of 1366 by 768 pixels with the browser's zoom at 100 and at 150 %."""
    for zoom in (1, 1.5):
        width, height = round(1366 / zoom), round(768 / zoom)
        look(page, width, height, "light")
        for number, lesson in enumerate(LESSONS, 1):
            opened(page, number)
            assert page.inner_text("#lesson-title") == f"{number}. {lesson.title}"
            page.evaluate("document.querySelector('.lab-guesses').scrollIntoView({ block: 'end' })")
            painted(page)
            asked, picture = (page.locator(s).bounding_box() for s in (".lab-guesses", "#figure-lesson"))
            assert picture["x"] > asked["x"] + asked["width"] * 0.8, (number, zoom)
            for box in (asked, picture):
                assert box["y"] >= 0 and box["y"] + box["height"] <= height + 1, (number, zoom, box)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_answer_comes_after_the_guess_and_the_guess_is_in_the_picture(page):
    opened(page, 1)
    assert page.evaluate("MoSLD.index()") == 0 and "right before training" in page.inner_text("#figure-lesson")
    assert "test" not in page.locator("#figure-lesson svg[role=group]").text_content() and not page.locator(".lab-chip").first.is_visible()
    page.click("#lesson-play")
    page.wait_for_function("document.querySelector('.lab-told').innerText.includes('Choose an answer first')")
    page.locator(".lab-guesses button").nth(1).click()
    page.wait_for_function("document.querySelector('#figure-lesson').innerText.includes('your guess')")
    page.click("#lesson-play")
    page.wait_for_selector("#lesson-answer")
    told = page.evaluate("MoSLD.told")
    answer = page.inner_text("#lesson-answer").replace("\n", " ")
    assert told["sentence"] in answer and LESSONS[0].answers[told["answer"]] in answer
    assert "Now try" in page.inner_text(".lab-try") and page.locator(".lab-try select").count() == 1
    assert faults(page) == []


def test_what_was_trained_alone_stands_beside(page):
    opened(page, 2)
    page.locator(".lab-guesses button").first.click()
    page.click("#lesson-play")
    page.wait_for_selector("#lesson-answer")
    page.wait_for_function("document.querySelector('#figure-lesson').innerText.includes('mood alone')")
    assert page.evaluate("MoSLD.header.tasks[MoSLD.pick.task]") == "mood"


def test_whoever_leaves_without_a_guess_finds_the_question_again(page):
    opened(page, 3)
    room(page, "Watch")
    wait(page, "MoSLD.name === 'dropout'")


def test_a_run_that_comes_after_its_lesson_was_left_is_not_shown(visit):
    page, held = visit(), []
    page.route("**/runs/lesson-1.json", lambda route: held.append(route))
    room(page, "Learn")
    page.wait_for_function("document.querySelector('.lab-which') && document.querySelector('.lab-which').textContent.includes('being fetched')")
    room(page, "Look inside")
    held[0].continue_()
    page.wait_for_timeout(500)
    assert page.evaluate("MoSLD.name") == "dropout" and page.evaluate("MoSLD.at") is None


def test_a_lesson_is_run_and_its_answer_read_from_that_run(visit):
    page = visit("?lesson=1")
    wait(page, "MoSLD.name === 'lesson-1'")
    page.locator(".lab-guesses button").first.click()
    page.click("#lesson-run")
    wait(page, "!MoSLD.replay && MoSLD.frames.length > 1")
    page.wait_for_function("document.querySelector('#lesson-answer')?.innerText.includes('Your run shows')")
    assert page.inner_text("#lesson-run") == "Run it again, another seed" and LESSONS[0].runs[0].to_url() in page.url


def test_a_lesson_that_is_not_there_is_answered_in_one_sentence_that_stays(visit):
    page = visit("?lesson=9")
    wait(page, "MoSLD.name === 'lesson-1'")  # the first one is shown in its place
    page.wait_for_timeout(600)
    assert page.inner_text(".lab-note") == "lesson: '9' is not there; give a number from 1 to 8."
    assert page.get_attribute(".lab-note", "data-kind") == "error" and page.evaluate("document.body.dataset.room") == "learn"


def test_back_from_a_lesson_stays_in_the_lab(page):
    room(page, "Learn")
    page.click("#lesson-next")
    page.wait_for_function("location.search.includes('lesson=')")
    page.go_back()
    page.wait_for_function("document.body.dataset.room === 'watch' && !location.search.includes('lesson')")
