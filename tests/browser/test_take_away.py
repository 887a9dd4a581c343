"""A run taken away: the replay opens from disk, offline, and every number in it is that of the run's CSV."""

import csv
import io
import itertools
import re
import zipfile

import pytest
from browser_helpers import FAST, faults, open_tab, press_run, wait

VALUES = """() => ({
  arms: MoSLD.header.arms, tasks: MoSLD.header.tasks, linears: MoSLD.header.linears,
  frames: MoSLD.frames.map((f) => ({ step: f.step, arms: f.arms.map((a) => ({ loss: a.loss, scores: a.scores, probe: a.fresh ? a.probe : null })) })),
})"""


def download(page, button: str, folder):
    with page.expect_download(timeout=60_000) as caught:
        page.click(button)
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    return path


def filled(page):
    """Wait until the page's controls show the two tasks of the link."""
    wait(page, "MoSLD.header && !document.querySelector('#knob-tasks').innerText.includes('meant')")


@pytest.fixture(scope="module")
def taken(browser, server, tmp_path_factory):
    """The replay and the tables of one run, downloaded from the page while the run is paused."""
    folder, page = tmp_path_factory.mktemp("taken"), browser.new_page(reduced_motion="reduce")
    page.goto(server + FAST)
    page.wait_for_function("window.MoSLD && window.MoSLD.ready && MoSLD.frames.length > 1")
    filled(page)
    press_run(page, 26)  # past the scoring at step 25
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    open_tab(page, "Take away")
    html = download(page, "#take-html", folder)
    page.wait_for_function("name => document.querySelector('.lab-note').textContent.startsWith(name + ' is made')", arg=html.name)
    archive = zipfile.ZipFile(download(page, "#take-tables", folder))
    page.close()
    tables = {name[:-4]: list(csv.DictReader(io.StringIO(archive.read(name).decode()))) for name in archive.namelist() if name.endswith(".csv")}
    return html, tables


@pytest.fixture
def replay(browser, taken):
    """replay(scheme, width) opens the downloaded file from disk, offline; at the end nothing was asked of anybody and no error was told."""
    faults, contexts = [], []

    def open_file(scheme: str = "light", width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce", offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: None if r.url == taken[0].as_uri() else faults.append("request to " + r.url))
        page.goto(taken[0].as_uri())
        page.locator("#figure-machine svg[aria-label^='The machine at step']").wait_for()  # the file's policy forbids wait_for_function
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert faults == []


def test_the_replay_holds_the_numbers_of_the_csv(replay, taken):
    tables, page = taken[1], replay()
    found = page.evaluate(VALUES)
    by_step = {f["step"]: f["arms"] for f in found["frames"]}
    place = {arm: {(layer, name): i for i, (layer, name, _) in enumerate(found["linears"][a])} for a, arm in enumerate(found["arms"])}

    losses = [(r, by_step[int(r["step"])][found["arms"].index(r["arm"])]["loss"]) for r in tables["losses"]]
    assert len(losses) == 2 * len(found["frames"]) >= 2 * 26
    assert all(shown == (float(f"{float(r['loss']):.4g}") if r["loss"] else None) for r, shown in losses)

    for r in tables["accuracies"]:
        scores = by_step[int(r["step"])][found["arms"].index(r["arm"])]["scores"]
        assert scores[found["tasks"].index(r["task"].split("/")[1])] == float(f"{float(r['accuracy']):.4g}")
    assert {r["step"] for r in tables["accuracies"]} >= {"0", "25"}

    def probe(r):
        return by_step[int(r["step"])][found["arms"].index(r["arm"])]["probe"][place[r["arm"]][int(r["layer"]), r["target"]]]

    assert len(tables["gates"]) > 1000
    for r in tables["gates"]:
        task, expert = found["tasks"].index(r["task"].split("/")[1]), int(r["expert"])
        assert abs(probe(r)["use"][task][expert] - float(r["load"])) <= 0.5 / 254 + 1e-9

    names = {"A": "A", "B": "B", "BA": "BA", "ask_A": "ask"}
    for r in tables["norms"]:
        assert probe(r)[names[r["quantity"]]][int(r["expert"])] == pytest.approx(float(r["norm"]), rel=6e-4, abs=1e-7)  # half floats
    definitions = ["updates", "gradient", "step", "relative step"]
    for r in tables["imbalance"]:
        shown, value = probe(r)["imbalance"][definitions.index(r["definition"])], r["log2_ratio"]
        assert shown is None if value == "" else shown == pytest.approx(float(value), rel=6e-4, abs=1e-6)
    for r in tables["routing"]:
        columns = ["evenness", "effective", "idle", "token_entropy", "information"]
        assert probe(r)["stats"] == pytest.approx([float(r[c]) for c in columns], rel=6e-4, abs=1e-6)


def test_scrubbing_and_hover_show_the_numbers_of_that_step(replay, taken):
    tables, page = taken[1], replay()
    last = max(int(r["step"]) for r in tables["losses"])
    assert page.inner_text(".lab-step") == f"step {last} / 3000"
    cell = {"arm": "dropout 0", "layer": "3", "target": "q", "task": "world/mood", "expert": "0"}
    row = next(r for r in tables["gates"] if int(r["step"]) >= 4 and cell.items() <= r.items())  # a batch may hold no token of a task
    page.focus(".lab-track input")
    page.keyboard.press("Home")
    for _ in range(int(row["step"])):
        page.keyboard.press("ArrowRight")
    page.locator(".lab-step", has_text=f"step {row['step']} / 3000").wait_for()
    page.wait_for_timeout(300)
    page.locator("#figure-routers [aria-label^='mood, layer 4 q, expert 1:']").hover()
    tip = page.inner_text("#lab-tip")
    assert "mood — layer 4, q, expert 1 of 4" in tip and "even would be 50 %" in tip
    load = float(re.search(r"(\d+) % of its words", tip)[1]) / 100
    assert load == pytest.approx(float(row["load"]), abs=0.5 / 254 + 0.0051)
    page.mouse.move(2, 2)
    page.focus("#figure-loss .lab-drawing")
    page.keyboard.press("ArrowRight")  # the keyboard's tip is that of the last step
    losses = {r["arm"]: float(r["loss"]) for r in tables["losses"] if r["step"] == str(last)}
    tip = page.inner_text("#lab-tip")
    for arm, value in losses.items():  # three digits of a number that travelled with four: rounded twice
        assert float(re.search(rf"^{re.escape(arm)}: (\d+\.\d{{3}})\b", tip, re.MULTILINE)[1]) == pytest.approx(value, abs=0.0011)


def test_the_table_of_the_replay_and_its_looks(replay, taken):
    rows = taken[1]["accuracies"]
    scored = [r for r in rows if int(r["step"]) == max(int(r["step"]) for r in rows)]
    for scheme, width in itertools.product(("light", "dark"), (1280, 390)):
        page = replay(scheme, width)
        cells = page.eval_on_selector_all(".lab-scores tbody tr", "rows => rows.map((r) => [...r.cells].map((c) => c.textContent))")
        shown = {row[0]: row[1:] for row in cells[:5]}
        for arm in ("dropout 0", "dropout 0.1"):
            values = [float(r["accuracy"]) for r in scored if r["arm"] == arm]
            assert shown[arm] == [f"{v:.3f}" for v in (*values, sum(values) / len(values))]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert ground == ("rgb(247, 246, 243)" if scheme == "light" else "rgb(21, 23, 27)")
        assert faults(page) == []


def test_the_tab_without_a_run_with_one_and_for_axe(visit, tmp_path):
    page = visit(f"{FAST}!s.7", scheme="dark", grant=["clipboard-read", "clipboard-write"])
    filled(page)
    open_tab(page, "Take away")
    assert page.inner_text(".lab-take-run").startswith("There is no run of yours yet")
    page.click("#take-script")
    page.wait_for_selector(".lab-note[data-kind=error]")  # in sight, in this room
    assert page.inner_text(".lab-note") == "run: there is none to look into yet; press Run mine first."
    open_tab(page, "Watch")  # where the bar is
    assert page.inner_text(".lab-note") == ""
    press_run(page, 2)
    open_tab(page, "Take away")
    page.wait_for_function("document.querySelector('.lab-take-run').textContent.startsWith('dropout 0 · dropout 0.1, trained on mood, place')")
    open_tab(page, "Watch")
    page.click("#pause")
    wait(page, "MoSLD.state === 'paused'")
    open_tab(page, "Take away")
    assert "config = RunConfig(" in download(page, "#take-script", tmp_path).read_text()
    page.click("#take-link")
    page.wait_for_function("document.querySelector('.lab-note').textContent === 'The link is copied.'")
    assert page.evaluate("navigator.clipboard.readText()").endswith(page.input_value("#take-address input, #take-address textarea"))
    assert "s.7" in page.evaluate("navigator.clipboard.readText()")
    assert faults(page) == []
