"""Taking a run away: every file of a real session, what is refused, and that no path of the server is in any of them."""

import json
import zipfile

import gradio as gr
import pytest
from safetensors.numpy import load
from visiting import stream

from mosld.config import ConfigError, RunConfig
from mosld.studies.export_files import TABLES, table
from mosld.training import RunLog
from mosld.ui.handlers import Handlers
from mosld.ui.lab import Lab
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.sessions import Sessions
from mosld.ui.take import room as take
from mosld.ui.take.files import OFFERS, current, made

WIDE = Limits.from_environment({})
SMALL = {"batch": 2, "eval_rows": 10, "rank": 2, "layers": 1, "steps": 4}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A paused run, half way, on a world task and a file of one's own."""
    made = Session(WIDE, tmp_path_factory.mktemp("sessions"))
    own = made.folder / "own" / "even.jsonl"
    own.parent.mkdir(parents=True)
    own.write_text("\n".join(json.dumps({"question": f"Is {n} even?", "options": ["yes", "no"], "answer": n % 2}) for n in range(60)))
    made.own[str(own)] = own
    made.prepare(RunConfig(tasks=["world/mood", str(own)], **SMALL), steps=2)
    list(stream(made))
    yield made
    made.halt()


def contents(path) -> dict[str, bytes]:
    if path.suffix != ".zip":
        return {path.name: path.read_bytes()}
    archive = zipfile.ZipFile(path)
    return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def taken(session):
    """Every file, by its offer: its place and what is in it."""
    places = {name: made(session, name) for name in OFFERS}
    return {name: (path, contents(path)) for name, path in places.items()}


def test_every_file_is_made_and_names_no_folder_of_the_server(session, taken):
    root = str(session.folder.parent).encode()
    for name, (path, files) in taken.items():
        assert path.name == f"mosld-step2-{OFFERS[name].ending}" and files and all(files.values())
        assert not [inside for inside, data in files.items() if root in data or session.key.encode() in data], name


def test_the_last_file_of_each_kind_is_kept_and_no_more(session):
    made(session, "tables", "losses")
    path = made(session, "tables", "gates")
    assert list(path.parent.iterdir()) == [path]


def test_one_table_by_name(session):
    path = made(session, "tables", "losses")
    assert path.name == "mosld-step2-losses.csv" and path.read_text() == table(session.trainer.log, "losses")
    assert take.TABLES == TABLES
    with pytest.raises(ConfigError, match=r"table: '\.\./x' is not known"):
        made(session, "tables", "../x")
    with pytest.raises(ConfigError, match="file: '../html' is not offered"):
        made(session, "../html")


def test_pictures_are_of_their_kind(taken):
    png, svg = taken["png"][1], taken["svg"][1]
    names = {"loss", "accuracy", "gates-1-dropout-0", "gates-2-dropout-0.1", "norms-1-dropout-0", "norms-2-dropout-0.1", "router", "imbalance"}
    names |= {"machine-1-dropout-0", "machine-2-dropout-0.1"}
    assert {n.removesuffix(".png") for n in png} == {n.removesuffix(".svg") for n in svg} == names
    assert all(data.startswith(b"\x89PNG") for data in png.values()) and all(b"<svg " in data and b"</svg>" in data for data in svg.values())
    assert b"Loss by step; arms: dropout 0, dropout 0.1." in svg["loss.svg"]  # said in words for who cannot see it


def test_adapters_are_those_of_the_run_and_load_as_the_text_says(session, tmp_path, monkeypatch):
    path = made(session, "adapters")
    files = contents(path)
    for i, arm in enumerate(session.trainer.arms):
        tensors = load(files[f"arm-{i + 1}/adapter.safetensors"])
        assert sum(t.size for t in tensors.values()) == session.trainer.log.parameters[i]
        assert all((tensors[n] == p.detach().numpy()).all() for n, p in arm.handle.named_parameters())
    zipfile.ZipFile(path).extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    how = files["how-to-load.txt"].decode()
    code = "\n".join(line[4:] for line in how.split("\nArms:")[0].splitlines() if line.startswith("    "))
    space: dict = {}
    exec(code, space)
    assert space["handle"].count() == session.trainer.log.parameters[0]
    assert all((p == q).all() for p, q in zip(space["handle"].parameters(), session.trainer.arms[0].handle.parameters(), strict=True))
    space["handle"].detach()


def test_a_run_left_by_an_earlier_page_can_be_taken_before_it_is_loaded(session, tmp_path):
    later = Session(WIDE, session.folder.parent, session.key)
    assert later.reopen()
    assert later.trainer is None
    assert current(later).frames[-1].step == 2
    assert contents(made(later, "adapters"))["arm-2/adapter.safetensors"] == contents(made(session, "adapters"))["arm-2/adapter.safetensors"]


def test_without_a_run_there_is_one_sentence(tmp_path):
    lab = Lab(Handlers(Sessions(WIDE, tmp_path), None), None, None)
    request = gr.Request(session_hash="visitor")
    *_, (feed, file) = take.giver(lab, "html")(request)
    assert json.loads(feed)["note"] == "run: there is none to look into yet; press Run mine first." and file is None
    link, feed = take.linker(lab)(request)
    assert link == "" and json.loads(feed)["kind"] == "error"


def test_the_link_is_that_of_the_run_without_own_files(session):
    handlers = Handlers(Sessions(WIDE, session.folder.parent), None)
    handlers.sessions._pages["visitor"] = session
    link, feed = take.linker(Lab(handlers, None, None))(gr.Request(session_hash="visitor"))
    assert RunConfig.from_url(link.removeprefix("?c=")) == RunConfig(tasks="world/mood", **SMALL)
    assert "not in it" in json.loads(feed)["note"]


def test_json_gives_the_run_back(session):
    data = json.loads(made(session, "json").read_text())
    frames = data.pop("frames")
    assert RunLog.from_header(data).tasks == ["world/mood", "even.jsonl"] and [f["step"] for f in frames] == [0, 1, 2]
