"""The app from outside, as a visitor's browser meets it: `python app.py` in a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.timing import Row, duration

ROOT, PATIENCE = Path(__file__).parents[1], 120
LOOKS = 0.02  # seconds between two looks


def measure(seconds: float) -> list[Row]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    began = time.perf_counter()
    environ = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = _until(lambda: _page(port))
        served = time.perf_counter() - began
        from gradio_client import Client

        lab = Client(f"http://127.0.0.1:{port}", verbose=False)
        firsts, rates = [], []
        for _ in range(3):
            first, rate = _run(lab, max(seconds / 2, 2))
            firsts.append(first)
            rates.append(rate)
    finally:
        process.terminate()
        process.wait(20)
    work = "app"
    return [
        Row(work, "from start to page served", f"{duration([served])}, {len(page) / 1e3:.0f} KB"),
        Row(work, "from Run to the first frame: first run, later runs", f"{duration(firsts[:1])}, {duration(firsts[1:])}"),
        Row(work, "frames a second, default run, two arms", f"{sorted(rates)[len(rates) // 2]:.1f}"),
    ]


def _run(lab, seconds: float) -> tuple[float, float]:
    """Seconds from Run to the first step's answer, and steps a second after it."""
    asked = time.perf_counter()
    job = lab.submit('{"steps": 1000}', api_name="/start_run")
    began, step = None, 0
    for answer in job:
        now = time.perf_counter()
        if began is None and answer["step"] >= 1:
            began, first = now, answer["step"]
        if began is not None and now > began + seconds:
            step = answer["step"]
            break
    job.cancel()
    return began - asked, (step - first) / (now - began)


def _page(port: int) -> bytes | None:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
    except OSError:
        return None


def _until(look):
    """What `look` gives as soon as it gives something."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        if found := look():
            return found
        time.sleep(LOOKS)
    raise TimeoutError(f"the app did not answer within {PATIENCE} s")
