"""What SECURITY.md promises of the server, asked over HTTP of a page that is really served."""

import asyncio
import gzip
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import brotli
import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mosld.config import ConfigError, RunConfig
from mosld.ui.guard import Guard, Readers, frames_of, names_of, whole_characters
from mosld.ui.limits import Limits
from mosld.ui.page import build
from mosld.ui.serve import launch
from mosld.ui.session import Session
from mosld.ui.turns import Places, Ticket, Turns

FORM = "multipart/form-data; boundary=xyz"


@pytest.fixture(scope="module")
def page():
    made = build(Limits.from_environment({}))
    with pytest.MonkeyPatch.context() as slow:
        slow.setattr(
            "gradio.networking.url_ok", lambda url: False
        )  # as on a machine that takes more than 3 s to answer itself: it serves all the same
        launch(made, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def ask(page):
    """ask(method, path, body, **headers): (status, headers, body). Names in capitals with _ for - are headers; Host may be any."""

    def call(method, path, body=None, **headers):
        line = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=600)
        try:
            line.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()

    return call


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/lab/news", "/gradio_api/mcp/", "/gradio_api/queue/join"])
def test_a_name_that_is_not_this_machines_is_refused(ask, host, path):
    for method in ("GET", "POST"):
        status, _, body = ask(method, path, Host=host)
        assert status == 403 and b"is not a name of this lab; set MOSLD_HOSTS" in body


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:7860", "lab.localhost", "192.168.0.7:7860"])
def test_this_machines_names_are_answered(ask, host):
    assert ask("GET", "/lab/health", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://"])
def test_another_page_is_refused(ask, page, origin):
    for method, path in (("POST", "/lab/news"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/mcp/"), ("GET", "/config")):
        status, _, body = ask(method, path, Origin=origin)
        assert status == 403 and b"is another page; this lab answers its own." in body
    assert ask("POST", "/lab/news", "{}", Origin=f"http://127.0.0.1:{page.server_port}")[0] == 200  # its own


def test_a_proxy_has_to_be_named():
    assert "lab.example.org" in names_of("lab.example.org, other.example")
    with pytest.raises(ConfigError, match="MOSLD_HOSTS: 'http://lab' is not allowed"):
        names_of("http://lab")


def test_a_page_that_frames_it_has_to_be_named():
    assert frames_of("https://moodle.example.org/, http://localhost:*") == ("https://moodle.example.org", "http://localhost:*")
    for text in ("moodle.example.org", "*", "https://a; script-src *", "javascript:1", "https://a b"):
        with pytest.raises(ConfigError, match="^MOSLD_FRAMES: '.*' is not allowed; give pages such as"):
            frames_of(text)


@pytest.mark.parametrize("path", ["/", "/config", "/lab/health", "/gradio_api/info", "/nothing", "/static/js/iframeResizer.contentWindow.min.js"])
def test_every_answer_says_what_a_browser_may_do_with_it(ask, path):
    _, headers, _ = ask("GET", path)
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'" and policy["object-src"] == "'none'" and policy["frame-ancestors"] == "'self'"
    assert not any("http" in value or "*" in value for value in policy.values())
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"


def upload(name: str, body: bytes = b"x", more: bytes = b"") -> bytes:
    return (
        b'--xyz\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n' + body + b"\r\n" + more + b"--xyz--\r\n"
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (upload("a.exe"), 400, "is not allowed; give one that ends in .jsonl"),
        (upload("a.jsonl.html"), 400, "is not allowed"),
        (upload("a.jsonl", more=upload("b.jsonl")[:-9]), 400, "one file at a time"),
        (b"nothing", 400, "one file at a time"),
        (upload("a.jsonl", b"x" * 26_000_000), 413, "bytes are too many"),
        (upload("a.jsonl", b'{"question": "filename=b.exe"}'), 200, "a.jsonl"),
    ],
)
def test_uploads_are_one_file_of_a_known_kind(ask, body, status, words):
    got, _, answer = ask("POST", "/gradio_api/upload", body, Content_Type=FORM)
    assert got == status and words in answer.decode()


def test_the_page_comes_compressed_once_made_and_with_a_tag(ask):
    for path in ("/", "/config"):
        _, plain, body = ask("GET", path + "?c=1!s.5")
        for kind, opened in (("br", brotli.decompress), ("gzip", gzip.decompress)):
            _, headers, packed = ask("GET", path, Accept_Encoding=kind)
            assert headers["Content-Encoding"] == kind and opened(packed) == body and len(packed) < len(body) / 3
        assert ask("GET", path, If_None_Match=plain["ETag"])[0] == 304
    assert len(ask("GET", "/", Accept_Encoding="br")[2]) < 150_000


def test_a_page_is_made_once_for_all_who_come_at_once():
    made = []

    def page(request):
        made.append(request)
        time.sleep(0.05)
        return PlainTextResponse("page")

    inner = Starlette(routes=[Route("/", page)])
    line = httpx.ASGITransport(app=Guard(inner, hosted=True, hosts=frozenset(), readers=Readers()))

    async def all_at_once():
        async with httpx.AsyncClient(transport=line, base_url="http://lab.example") as client:
            return {answer.text for answer in await asyncio.gather(*(client.get("/") for _ in range(20)))}

    assert asyncio.run(all_at_once()) == {"page"} and len(made) == 1


def test_gradios_scripts_are_compressed_once_and_kept_by_the_browser(ask):
    name = re.search(r'import\("\./(assets/index-[^"]+\.js)"\)', ask("GET", "/")[2].decode())[1]
    _, plain, script = ask("GET", "/" + name)
    status, headers, packed = ask("GET", "/" + name, Accept_Encoding="gzip, br")
    assert status == 200 and headers["Content-Encoding"] == "br" and brotli.decompress(packed) == script and len(packed) < len(script) / 2
    assert "immutable" in headers["Cache-Control"] and headers["ETag"] == plain["ETag"] and headers["X-Content-Type-Options"] == "nosniff"
    assert ask("GET", "/" + name, If_None_Match=headers["ETag"])[::2] == (304, b"")
    assert ask("GET", "/assets/none.js")[0] == 404 and ask("GET", "/assets/../app.py")[0] in (403, 404)
    made = []

    def asset(request):
        made.append(request)
        return PlainTextResponse("x" * int(request.path_params["size"]))

    app = Guard(Starlette(routes=[Route("/assets/{size}", asset)]), hosted=True, hosts=frozenset(), readers=Readers())

    async def twice(size):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://lab.example") as client:
            return [(await client.get(f"/assets/{size}")).text for _ in range(3)]

    assert asyncio.run(twice(900_000)) == ["x" * 900_000] * 3 and len(made) == 1
    assert asyncio.run(twice(1_100_000)) == ["x" * 1_100_000] * 3 and len(made) == 5  # what is too large is not kept


def test_scripts_are_files_that_a_browser_keeps(ask, page):
    body = ask("GET", "/")[2].decode()
    name = re.search(r"lab/script/[0-9a-f]{16}\.js", body)[0]
    status, headers, script = ask("GET", "/" + name)
    assert status == 200 and "immutable" in headers["Cache-Control"] and b"M.receive" in script
    assert all(len(b.js_on_load or "") < 400 for b in page.blocks.values() if isinstance(b, gr.HTML))
    for path in ("/lab/file/../page.py", "/lab/file/%2e%2e/page.py", "/lab/file/lab.css", "/lab/file//etc/passwd", "/lab/script/x.js"):
        assert ask("GET", path)[0] == 404


def test_what_the_first_picture_needs_is_small_without_brotli_too(ask):
    """Over plain HTTP a browser reads gzip only. The page, what it names before Gradio's own script, and that script."""
    named = re.findall(r'(?:href|src|import\()[="]+(?:\./)?((?:lab|assets)/[^"]+)"', ask("GET", "/")[2].decode())
    assert {name.rpartition(".")[2] for name in named} == {"css", "js", "json"} and len(set(named)) >= 5
    sent = {name: ask("GET", "/" + name, Accept_Encoding="gzip") for name in ["", *set(named)]}
    assert all(status == 200 and headers["Content-Encoding"] == "gzip" for status, headers, _ in sent.values())
    assert 100_000 < sum(len(body) for _, _, body in sent.values()) <= 300_000


def test_messages_are_for_who_has_the_key(ask, page):
    session = page.sessions.of("somebody")
    for key in ("", "x" * 22, session.folder.name, None, 5, ["x"], {"a": 1}):
        assert ask("POST", "/lab/news", json.dumps({"key": key, "run": -1, "at": 0}))[2] == b"null"
    for body in (b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"key": "%s", "run": "a", "at": null}' % session.key.encode()):
        assert ask("POST", "/lab/news", body)[0] == 200
    told = json.loads(ask("POST", "/lab/news", json.dumps({"key": session.key, "run": -1, "at": 0, "mark": ""}))[2])
    assert [json.loads(t)["state"] for t in told] == ["idle"]


def test_a_call_that_nobody_reads_ends_and_makes_room(ask, page, monkeypatch):
    monkeypatch.setattr("mosld.ui.api.AWAY_SECONDS", 0.5)
    which = next(f._id for f in page.fns.values() if f.api_name == "start_run")
    for number in range(6):  # made-up sessions, whose answers nobody fetches
        body = json.dumps({"data": ['{"tasks": "world/mood", "steps": 5000, "batch": 2}'], "fn_index": which, "session_hash": f"madeup{number}"})
        assert ask("POST", "/gradio_api/queue/join", body, Content_Type="application/json")[0] == 200
    end = time.monotonic() + 300
    while time.monotonic() < end and (any(s.busy for s in page.sessions._keys.values()) or page.sessions.places.busy):
        time.sleep(0.2)
    assert page.sessions.places.busy == 0 and not any(s.busy for s in page.sessions._keys.values())


# Sizes: known before anything is loaded.


@pytest.mark.parametrize(
    "changes",
    [{"rank": 128}, {"rank": 128, "arms": "lr=0.001,0.002,0.003,0.004,0.005,0.006"}, {"rank": 64, "backbone": "minilm"}],
)
def test_a_run_that_is_too_large_is_refused_with_what_fits(changes, tmp_path):
    session = Session(Limits.from_environment({"MOSLD_MEMORY": "800"}), tmp_path)
    config = RunConfig(**{"experts": "64", "targets": "q,k,v,o,up,down", **changes})
    with pytest.raises(
        ConfigError, match=r"^rank: [\d,]+ trainable parameters in \d arms need about [\d,]+ MB of memory; .*: rank \d+ fits\.$"
    ) as told:
        session.prepare(config)
    rank = int(re.search(r"rank (\d+) fits", str(told.value))[1])
    session.limits.check(config.replace(rank=rank))
    with pytest.raises(ConfigError):
        session.limits.check(config.replace(rank=rank + 1))
    assert session.state == "idle" and session.trainer is None


@pytest.mark.parametrize("root", ["", "/lab", "/x", "/a/lab"])
def test_the_labs_own_routes_are_found_at_any_sub_path(root):
    inner = Starlette(routes=[Route("/lab/health", lambda request: PlainTextResponse("well"))])
    line = httpx.ASGITransport(app=Guard(inner, hosted=True, hosts=frozenset(), readers=Readers()), root_path=root)

    async def both():
        async with httpx.AsyncClient(transport=line, base_url="http://lab.example") as client:
            return [(await client.get(path)).text for path in ("/lab/health", f"{root}/lab/health")]

    assert asyncio.run(both()) == ["well", "well"]  # whether the proxy takes the sub-path off or not


def test_half_a_character_is_answered_and_does_not_hang_the_session(ask):
    assert whole_characters(rb'{"a": "\ud83d\ude00 \ud800"}').decode() == '{"a": "\U0001f600 \ufffd"}'
    for body in (b"\\ud800", b'{"a": ' + b"9" * 5000 + rb', "b": "\ud800"}', b"[" * 10**5 + rb"\ud800"):
        assert whole_characters(body) == body  # no JSON that could be read
    calls = [rb'{"data": ["\ud800"], "fn_index": %d, "session_hash": "\ud800"}' % number for number in (0, 1)]
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join"):
        for body in calls:
            status, _, said = ask("POST", path, body, Content_Type="application/json")
            assert status in (200, 500) and b"Internal Server Error" not in said  # Gradio's answer in JSON: an error, or that it is in the queue


# Places and turns.


def test_places_are_given_first_come_first_served_and_by_memory():
    places = Places(most=2, memory=100)
    a, b, c, d = (Ticket(size, lambda left=left: left) for size, left in ((60, 30.0), (60, None), (20, None), (20, None)))
    for ticket in (a, b, c, d):
        places.ask(ticket)
    assert a.inside and not b.inside and not c.inside  # b does not fit beside a, and c came after b
    assert [places.rank(t) for t in (a, b, c)] == [(0, None), (1, 30.0), (2, None)]
    places.leave(a)
    assert b.inside and c.inside and not d.inside and places.rank(d) == (1, None)
    places.leave(d)  # withdrawn
    assert places.wait(d) is False and places.wait(c) is True
    many = Places(most=1, memory=1)
    for _ in range(33):
        many.ask(Ticket(1, lambda: None))
    with pytest.raises(ConfigError, match="32 are waiting for a place already"):
        many.ask(Ticket(1, lambda: None))


def test_runs_take_turns_and_a_first_picture_comes_before_the_others():
    turns, order, begun = Turns(workers=1, seconds=0), [], threading.Barrier(3)

    def train(name, rank):
        begun.wait()
        with turns.turn(rank) as turn:
            for _ in range(3):
                order.append(name)
                time.sleep(0.02)
                turn.pass_on()

    turns.take(2)
    threads = [threading.Thread(target=train, args=(name, 2)) for name in "abc"]
    [t.start() for t in threads]
    while len(turns._line) < 3:
        time.sleep(0.005)
    newest = threading.Event()

    def first():
        with turns.turn(1):
            order.append("first")
        newest.set()

    threading.Thread(target=first).start()
    while len(turns._line) < 4:
        time.sleep(0.005)
    turns.give()
    [t.join() for t in threads]
    assert newest.wait(300) and order[0] == "first" and turns._free == 1
    assert sorted(order[1:4]) == ["a", "b", "c"] and sorted(order[4:7]) == ["a", "b", "c"]  # each in turn


def test_a_run_keeps_its_turn_until_its_first_picture_unless_that_takes_long():
    turns = Turns(workers=1, seconds=0)
    for rank in (1, 2):
        turns._line.append((rank, 0, threading.Event()))
        assert [turns.awaited(held, 1) for held in (0.5, 10)] == [False, rank == 1]  # slices would make all first pictures late
        assert turns.awaited(0.5, 2) and turns.awaited(0.0, 0) is False
        turns._line.clear()


def test_the_containers_health_check_and_files(page):
    root = Path(__file__).parents[2]
    text = (root / "Dockerfile").read_text()
    check = json.loads(re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", text, re.S)[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody answers there
        for port, healthy in ((page.server_port, True), (free.getsockname()[1], False)):
            command = [sys.executable, *(part.replace("127.0.0.1:7860", f"127.0.0.1:{port}") for part in check[1:])]
            assert f":{port}/" in command[-1] and (subprocess.run(command, capture_output=True, timeout=60).returncode == 0) == healthy
    copied = [name for line in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", text, re.M) for name in line.split()]
    assert {"app.py", "mosld", "requirements.txt"} <= set(copied) and all((root / name).exists() for name in copied)
