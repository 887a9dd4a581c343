"""`python app.py` in a process of its own, on loopback, for the commands that ask it over HTTP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 150  # seconds until it answers


class Server:
    """`url`, `process`, and the folder `runs` that it has for its temporary files."""

    def __init__(self, url: str, process: subprocess.Popen, runs: Path, said):
        self.url, self.process, self.runs, self._said = url, process, runs, said

    def memory(self) -> int:
        """Megabytes that the process holds; 0 where the system does not say."""
        status = Path(f"/proc/{self.process.pid}/status")
        held = [int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")] if status.exists() else []
        return held[0] // 1000 if held else 0

    def words(self, most: int = 2000) -> str:
        """The last of what it printed."""
        self._said.seek(0)
        return self._said.read()[-most:].decode(errors="replace")

    def check(self) -> None:
        """Raises SystemExit where it has ended."""
        if self.process.poll() is not None:
            raise SystemExit(f"the server ended with status {self.process.returncode}; its last words: {self.words()}")


@contextmanager
def served(root: Path = ROOT, **environ: str) -> Iterator[Server]:
    """The app of a checkout, once it answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as runs, tempfile.TemporaryFile() as said:
        whole = {"MOSLD_VISITORS": "200", **os.environ, **environ, "TMPDIR": runs, "PYTHONUNBUFFERED": "1"}
        whole |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
        process = subprocess.Popen([sys.executable, "app.py"], cwd=root, env=whole, stdout=said, stderr=said)
        server = Server(url, process, Path(runs), said)
        try:
            end = time.monotonic() + PATIENCE
            while not _answers(url):
                server.check()
                if time.monotonic() > end:
                    raise SystemExit(f"the server did not answer within {PATIENCE} s; its last words: {server.words()}")
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def chromium(playwright) -> str | None:
    """Where a Chromium is: Debian's, or Playwright's own; None where there is none."""
    own = playwright.chromium.executable_path
    return shutil.which("chromium") or (own if Path(own).exists() else None)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/config", timeout=20) as answer:
            return answer.status == 200
    except OSError:
        return False
