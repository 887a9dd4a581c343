"""The site without a server: opened from disk, offline, by mouse and by keys; and what cannot be written."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

from mosld import site
from mosld.cli import main
from mosld.config import ConfigError
from mosld.ui.learn.lessons import LESSONS
from mosld.ui.record import recorded, runs
from mosld.ui.watch.questions import QUESTIONS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "out"
    assert main(["site", "--out", str(out)]) == 0
    return out


@pytest.fixture
def visit(browser, folder):
    """visit(page, width, scheme) opens a file offline; at the end nothing but files was asked for and no error was told."""
    faults, contexts = [], []

    def open_page(name: str, width: int = 1366, height: int = 768, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else faults.append("request to " + r.url))
        page.goto((folder / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def test_its_size_and_that_it_holds_every_recorded_run(folder):
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= site.MOST_BYTES
    assert {f.stem for f in (folder / "runs").iterdir()} == set(runs()) and all(recorded(name) for name in runs())
    assert len(runs()) == len(QUESTIONS) + len(LESSONS)
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n") and "sdk: static" in (folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_every_question_plays_after_the_guess(visit):
    page = visit("watch")
    page.wait_for_function("MoSLD.frames.length > 1")
    for name, question in QUESTIONS.items():
        page.click(f".lab-question[data-name={name}]")
        page.wait_for_function("name => MoSLD.name === name && MoSLD.frames.length > 1", arg=name)
        assert page.inner_text(".lab-says") == question.title and page.is_hidden(".lab-outcome")
        page.click(".lab-ask button >> nth=0")
        page.wait_for_function("!document.querySelector('.lab-outcome').hidden")
        told = page.inner_text(".lab-outcome")
        assert told.startswith(f"You guessed: {question.answers[0]}") and any(a in told.split("This run: ")[1] for a in question.answers)
        assert page.inner_text(".lab-says") != question.title
    assert page.locator("#figure-machine svg").count() > 0


def test_every_lesson_guesses_first_and_reveals(visit):
    page = visit("learn")
    for number, lesson in enumerate(LESSONS, 1):
        page.wait_for_function("n => document.querySelector('#lesson-title').textContent.startsWith(n + '.')", arg=str(number))
        page.click("#lesson-play")
        assert "Choose an answer first" in page.inner_text(".lab-told")
        page.click(".lab-guesses button >> nth=1")
        page.click("#lesson-play")
        page.wait_for_selector("#lesson-answer")
        told = page.inner_text("#lesson-answer")
        assert f"You predicted: {lesson.answers[1]}." in told and "The recorded run shows" in told
        assert page.is_hidden("#lesson-run")  # nothing can be trained here
        if number < len(LESSONS):
            page.click("#lesson-next")


def test_the_index_leads_to_every_question_and_lesson_and_the_report_leads_back(visit):
    page = visit("index")
    links = page.eval_on_selector_all("main a", "all => all.map((a) => a.getAttribute('href'))")
    assert {f"watch.html?question={name}" for name in QUESTIONS} | {f"learn.html?lesson={n + 1}" for n in range(len(LESSONS))} <= set(links)
    last = list(QUESTIONS)[-1]
    page.click(f'a[href="watch.html?question={last}"]')
    page.wait_for_function("name => MoSLD.name === name && MoSLD.frames.length > 1", arg=last)
    assert page.inner_text(".lab-says") == QUESTIONS[last].title
    page.click("nav >> text=Claims")
    assert page.evaluate("[...document.querySelectorAll('td')].every((c) => c.scrollWidth <= c.clientWidth + 1)")
    page.click("nav >> text=MoSLD Lab")
    page.click('a[href="learn.html?lesson=4"]')
    page.wait_for_function("document.querySelector('#lesson-title').textContent.startsWith('4.')")


def test_keys_move_the_run(visit):
    page = visit("watch")
    page.wait_for_function("MoSLD.frames.length > 1")
    page.evaluate("MoSLD.seek(null)")
    last = page.evaluate("MoSLD.index()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("MoSLD.index()") == last - 1
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('lab-question')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_function("MoSLD.asking !== null && MoSLD.replay")


@pytest.mark.parametrize("width, height", [(1366, 768), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "watch", "learn"])
def test_every_page_fits_and_is_accessible(visit, name, width, height, scheme):
    page = visit(name, width, height, scheme)
    if name != "index":
        page.wait_for_function("MoSLD.frames.length > 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    found = Axe().run(page, options={"preload": False}).response["violations"]  # it would fetch the style sheet, which a file may not
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found] == []


def test_a_lab_that_is_known_is_linked(tmp_path):
    site.write(tmp_path, "https://lab.example/")
    assert '<a href="https://lab.example/">Train your own</a>' in (tmp_path / "watch.html").read_text(encoding="utf-8")
    assert f"window.MoSLD.lab = {json.dumps('https://lab.example/')};" in (tmp_path / "lab.js").read_text(encoding="utf-8")


def test_what_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for arguments, sentence in (((tmp_path / "file" / "x",), "cannot be written"), ((tmp_path, "javascript:alert(1)"), "is not an address")):
        with pytest.raises(ConfigError, match=sentence) as error:
            site.write(*arguments)
        assert "\n" not in str(error.value)
