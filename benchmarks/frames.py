"""python -m benchmarks frames: what a long run takes of the server and of the browser that watches it. Loopback only, bounded in number and time.

Opens `python app.py` in Chromium, presses Run, and follows the memory of both while the frames come: megabytes a thousand frames, the slope of a
line through all looks. The exit status is 1 where either takes more than docs/hosting.md says.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.served import ROOT, Server, chromium, served

MOST_FRAMES, MOST_SECONDS = 5000, 600
FIRST, LOOKS = 200, 9  # frames before the first look: caches are full by then; looks in all
SERVER, BROWSER = 5, 3  # megabytes a thousand frames


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks frames", description=__doc__.partition(": ")[2])
    parser.add_argument("--frames", type=int, default=1000, help=f"of them, up to {MOST_FRAMES}; default 1000")
    parser.add_argument("--seconds", type=float, default=300, help=f"at most so long, up to {MOST_SECONDS}; default 300")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose app.py is started; default this one")
    given = parser.parse_args(arguments)
    if not 100 <= given.frames <= MOST_FRAMES or not 1 <= given.seconds <= MOST_SECONDS:
        parser.error(f"give 100 to {MOST_FRAMES} frames and up to {MOST_SECONDS} seconds")
    print(f"frames: {given.frames} of a default run; at most {given.seconds:.0f} s", flush=True)
    from playwright.sync_api import sync_playwright

    with served(given.root) as server, sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            raise SystemExit("frames: there is no Chromium.")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        looks = _follow(server, browser.new_page(viewport={"width": 1366, "height": 768}), given.frames, time.monotonic() + given.seconds)
        browser.close()
    print("| frames | server, MB | browser, MB |\n|---|---|---|")
    for count, held, heap in looks:
        print(f"| {count} | {held:.1f} | {heap:.1f} |")
    counts, *kinds = zip(*looks, strict=True)
    slopes = [1000 * statistics.linear_regression(counts, kind).slope for kind in kinds]
    print(f"a thousand frames take {slopes[0]:.1f} MB of the server (goal {SERVER}), {slopes[1]:.1f} MB of the browser (goal {BROWSER})")
    if slopes[0] > SERVER or slopes[1] > BROWSER:
        raise SystemExit(1)


def _follow(server: Server, page, frames: int, end: float) -> list[tuple[int, float, float]]:
    """(frames, megabytes of the server, megabytes of the page's heap after a collection) at each look."""
    line = page.context.new_cdp_session(page)
    page.goto(f"{server.url}/?c=1!n.{FIRST + frames + 100}", timeout=120_000)
    page.wait_for_function("window.MoSLD && MoSLD.there && MoSLD.frames.length > 1", timeout=120_000)
    page.locator("#run button, button#run").first.click()
    looks = []
    for k in range(LOOKS):
        goal = FIRST + frames * k // (LOOKS - 1)
        rest = max(1.0, end - time.monotonic())
        page.wait_for_function(f"!MoSLD.replay && MoSLD.frames.length >= {goal}", timeout=1000 * rest, polling=250)
        line.send("HeapProfiler.collectGarbage")
        used = line.send("Runtime.getHeapUsage")
        heap = used["usedSize"] + used.get("embedderHeapUsedSize", 0) + used.get("backingStorageSize", 0)
        looks.append((page.evaluate("MoSLD.frames.length"), server.bytes() / 1e6, heap / 1e6))
    return looks
