"""The app from outside, as a visitor's browser meets it: `python app.py` in a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.timing import Row, duration

ROOT, PATIENCE = Path(__file__).parents[1], 120
LOOKS = 0.02  # seconds between two looks
FRAMES, PACE = 200, 125  # frames that the page is given, and milliseconds between two: eight a second, as a run sends them
# The page's own store is given the frames of the recorded run, as if they came from a run that trains.
GIVE = """async ([frames, pace]) => {
  const packed = await MoSLD.file("runs/dropout.json");
  MoSLD.receive({ ...packed, k: "run", run: 9, replay: false, frames: [], state: "running", note: "" });
  for (let i = 0; i < frames; i++) {
    const f = packed.frames[1 + (i % (packed.frames.length - 2))];
    MoSLD.receive({ k: "add", run: 9, from: i, frames: [[i, ...f.slice(1)]], state: "running" });
    await new Promise((done) => setTimeout(done, pace));
  }
}"""


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
        spent = main_thread(f"http://127.0.0.1:{port}/")
    finally:
        process.terminate()
        process.wait(20)
    work = "app"
    return [
        Row(work, "from start to page served", f"{duration([served])}, {len(page) / 1e3:.0f} KB"),
        Row(work, "from Run to the first frame: first run, later runs", f"{duration(firsts[:1])}, {duration(firsts[1:])}"),
        Row(work, "frames a second, default run, two arms", f"{sorted(rates)[len(rates) // 2]:.1f}"),
        Row(work, f"a browser's main thread for {FRAMES} frames, {1000 // PACE} a second", said(spent)),
    ]


def said(spent: dict[str, float]) -> str:
    parts = {"in all": "TaskDuration", "scripts": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}
    return ", ".join(f"{name} {spent[key]:.2f} s" for name, key in parts.items()) if spent else "no Chromium or no Playwright here"


def main_thread(url: str, frames: int = FRAMES, pace: int = PACE, room: str = "watch") -> dict[str, float]:
    """Seconds of the page's main thread by kind while frames stream into a room of it; empty where there is no browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    with sync_playwright() as p:
        path = shutil.which("chromium") or p.chromium.executable_path
        if not Path(path).exists():
            return {}
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(f"{url}?room={room}")
        page.wait_for_function("window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1 && document.body.dataset.room", timeout=PATIENCE * 1000)
        page.wait_for_timeout(1000)
        line = page.context.new_cdp_session(page)
        line.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the processor: what other programs take is not counted
        counted = lambda: {m["name"]: m["value"] for m in line.send("Performance.getMetrics")["metrics"]}  # noqa: E731
        before = counted()
        page.evaluate(GIVE, [frames, pace])
        after = counted()
        browser.close()
    return {name: after[name] - before[name] for name in after}


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
