"""The page's handlers as a caller over HTTP meets them, and the hardened launch."""

import json
import math
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import pytest

import mosld
from mosld.config import RunConfig
from mosld.counting import SHAPES
from mosld.tasks import catalogue
from mosld.tasks.files import SUFFIXES
from mosld.ui import PAUSE, RUN
from mosld.ui.canvas.page import BAR_HTML
from mosld.ui.controls import HIDEABLE, Controls, task_choices
from mosld.ui.handlers import Handlers
from mosld.ui.limits import Limits
from mosld.ui.page import build
from mosld.ui.serve import launch
from mosld.ui.sessions import Sessions


@pytest.fixture
def handlers(tmp_path):
    controls = Controls(task_choices(catalogue()))
    with gr.Blocks():
        controls.add("tasks", "method", "router")
        controls.compare()
        controls.front()
        controls.shape()
        controls.rest()
    return Handlers(Sessions(Limits.from_environment({}), tmp_path), controls)


def opened(handlers, **query):
    """What opening the page at an address says, and the configuration that its controls then show."""
    feed, *rest = handlers.restore(visit(**query), "")
    return feed, handlers.controls.read(*rest[len(HIDEABLE) :])


def visit(**query) -> gr.Request:
    return gr.Request(session_hash="visitor", query_params=query)


def sentence(update) -> str:
    out = json.loads(update)
    assert out["k"] == "say" and out["kind"] == "error"
    return out["note"]


def test_a_link_fills_the_controls(handlers):
    config = RunConfig(tasks="world/mood:2,world/place", method="mola", seed=11, arms="rank=4,8")
    assert opened(handlers, c=config.to_url())[1] == config


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("1!t.world/moood", "did you mean world/mood"),
        ("1!m.nonsense", "method: 'nonsense' is not known"),
        ("1!k.9", "top_k: 9 is above the number of experts"),
        ("1!t." + quote("/etc/passwd.csv"), "is a file, which cannot be named here"),
        ("9!t.world/mood", "link: version '9' is not known"),
        ("<script>", "link: version"),
    ],
)
def test_a_bad_link_says_why_and_leaves_the_defaults(handlers, link, words):
    feed, shown = opened(handlers, c=link)
    assert words in sentence(feed)
    assert shown == RunConfig()


def test_bad_controls_start_nothing(handlers):
    values = handlers.controls.fill(RunConfig())
    values[list(handlers.controls.parts).index("tasks")] = []
    feed = handlers.start(visit(), *values)
    assert sentence(feed) == "tasks: none is chosen; choose at least one."
    assert handlers.look(visit()).state == "idle"


def test_pausing_nothing_says_so(handlers):
    feed = handlers.toggle(visit())
    assert "press Run mine first" in sentence(feed)


def test_a_text_that_names_a_button_takes_its_name_from_the_button():
    """Nothing under `ui/` says "press ..." with a name of its own: it is a name of `mosld.ui`, or the browser asks the button."""
    ui = Path(mosld.ui.__file__).parent
    files = [path for ending in ("py", "js") for path in ui.rglob(f"*.{ending}")]
    own = [(path.name, found) for path in files for found in re.findall(r"[Pp]ress (?:the )?['\"‘“]?[A-Z].*", path.read_text(encoding="utf-8"))]
    assert own == [] and len(files) > 60
    assert {f">{name}</button>" in BAR_HTML for name in (RUN, PAUSE)} == {True}


def test_an_own_file_is_chosen_and_stays_out_of_the_link(handlers, tmp_path):
    rows = [json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(60)]
    file = tmp_path / "even numbers.jsonl"
    file.write_text("\n".join(rows))
    update, feed, read = handlers.upload(visit(), str(file), ["world/mood"])
    assert any("even?" in line for line in read)
    chosen = update["value"]
    assert chosen[0] == "world/mood" and chosen[1].endswith("even_numbers.jsonl") and json.loads(feed)["kind"] == ""
    values = handlers.controls.fill(RunConfig(tasks=chosen))
    link, _ = handlers.link([], *values)
    assert RunConfig.from_url(link.removeprefix("?c=")).tasks == {"world/mood": 1.0}
    stranger = gr.Request(session_hash="stranger")
    feed = handlers.start(stranger, *values)
    assert "cannot be named here" in sentence(feed)


def test_a_broken_own_file_names_the_line(handlers, tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(20)]
    file.write_text("\n".join([*rows[:4], "not json", *rows[4:]]))
    _, feed, read = handlers.upload(visit(), str(file), [])
    assert json.loads(feed)["kind"] == "" and any("line 5" in line for line in read) and not any(str(tmp_path) in line for line in read)
    file.write_text("not json")
    _, feed, read = handlers.upload(visit(), str(file), [])
    assert "mine.jsonl" in sentence(feed) and str(tmp_path) not in feed and read == []


def test_facts_count_without_torch_and_name_what_is_overruled(handlers):
    read = dict(zip(handlers.controls.parts, handlers.controls.fill(RunConfig(method="lora", dropout=0.3, backbone="minilm", arms="")), strict=True))
    facts = handlers.facts(*read.values())
    # LoRA of rank 8 on q and v of 6 layers of width 384: 6 * 2 * 8 * (384 + 384)
    assert "73,728" in facts["count"] and facts["formula"].startswith("h = W x") and "dropout: LoRA fixes it" in facts["note"]


def test_facts_of_the_default_run_and_the_file_they_count(handlers):
    facts = handlers.facts(*handlers.controls.fill(RunConfig()))
    # MoSLD of rank 8 with 4 experts on q and v of 4 layers of width 128: one A, four B and a router for each linear
    assert 4 * 2 * (8 * 128 + 4 * 8 * 128 + 4 * 128) == 45_056 and "45,056 of 4,393,984" in facts["count"]
    with (Path(mosld.__file__).parent / "backbones/nano_weights/model.safetensors").open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert sum(math.prod(t["shape"]) for name, t in tensors.items() if name != "__metadata__") == SHAPES["nano"].weights


def test_importing_the_page_leaves_torch_alone():
    code = "import sys; from mosld.ui.page import build; build(); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip().endswith("[]"), done.stderr


def test_the_page_lets_every_kind_of_file_through_that_is_read():
    (own,) = (b for b in build().blocks.values() if isinstance(b, gr.File) and b.file_types)
    assert set(own.file_types) == {*SUFFIXES, ".gz"}, "Gradio looks at the last ending alone"


def test_the_server_shuts_what_gradio_leaves_open():
    page = build()
    _, url, _ = launch(page, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        assert "MoSLD Lab" in urllib.request.urlopen(url).read().decode()
        for path in ("monitoring", "gradio_api/runs", "gradio_api/file=/etc/passwd", "gradio_api/file=requirements.txt"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url + path)
            assert caught.value.code in (401, 403, 404), path
        config = json.loads(urllib.request.urlopen(url + "config").read())
        assert not any(config[name] for name in ("analytics_enabled", "run_history", "show_error"))
    finally:
        page.close()


def test_a_speed_that_is_no_name_is_full_speed(handlers):
    session = handlers.visitor(visit())
    for choice in (["4 steps a second"], {"speed": 1}, None, 7, "4 steps a second"):
        handlers.speed(visit(), choice)
        assert session.delay == (0.25 if choice == "4 steps a second" else 0.0)
