"""python -m benchmarks frames: what a long run takes of the server and of the browser that watches it. Loopback only, bounded in number and time.

Serves the lab in this process, opens it in Chromium, presses Run, and follows while the frames come: all objects that the server reaches from the
run's log and from what it has for the page (the process as a whole moves by tens of megabytes with the tensors of a step), and the page's JavaScript
heap after a collection. Megabytes a thousand frames are the slope of a line through all looks. The exit status is 1 where either is over its goal.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
import types

from benchmarks.served import chromium

MOST_FRAMES, MOST_SECONDS = 5000, 1200
FIRST, LOOKS = 200, 9  # frames before the first look: caches are full by then; looks in all
SERVER, BROWSER = 5, 3  # megabytes a thousand frames


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks frames", description=__doc__.partition(": ")[2])
    parser.add_argument("--frames", type=int, default=1000, help=f"of them, up to {MOST_FRAMES}; default 1000")
    parser.add_argument("--seconds", type=float, default=300, help=f"at most so long, up to {MOST_SECONDS}; default 300")
    given = parser.parse_args(arguments)
    if not 100 <= given.frames <= MOST_FRAMES or not 1 <= given.seconds <= MOST_SECONDS:
        parser.error(f"give 100 to {MOST_FRAMES} frames and up to {MOST_SECONDS} seconds")
    print(f"frames: {given.frames} of a default run; at most {given.seconds:.0f} s", flush=True)
    from playwright.sync_api import sync_playwright

    from mosld.ui.page import build
    from mosld.ui.serve import launch

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            raise SystemExit("frames: there is no Chromium.")
        tempfile.tempdir = folder  # where the lab puts its runs
        lab = build()
        url = launch(lab, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")[1]
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        looks = _follow(lab, url, browser.new_page(viewport={"width": 1366, "height": 768}), given.frames, time.monotonic() + given.seconds)
        browser.close()
        lab.sessions.close()
        lab.close(verbose=False)
    if len(looks) < 3:
        raise SystemExit("frames: the time was over before there were enough of them.")
    counts, *kinds = zip(*looks, strict=True)
    slopes = [1000 * statistics.linear_regression(counts, kind).slope for kind in kinds]
    print(f"a thousand frames take {slopes[0]:.1f} MB of the server (goal {SERVER}), {slopes[1]:.1f} MB of the browser (goal {BROWSER})")
    if slopes[0] > SERVER or slopes[1] > BROWSER:
        raise SystemExit(1)


def _follow(lab, url: str, page, frames: int, end: float) -> list[tuple[int, float, float]]:
    """(frames, megabytes of the server, megabytes of the page's heap) at each look."""
    line = page.context.new_cdp_session(page)
    page.goto(f"{url}?c=1!n.{FIRST + frames + 100}", timeout=120_000)
    page.wait_for_function("window.MoSLD && MoSLD.ready && MoSLD.frames.length > 1", timeout=120_000)
    page.locator("#run button, button#run").first.click()
    looks = []
    print("| frames | server, MB | browser, MB |\n|---|---|---|")
    for k in range(LOOKS):
        goal = FIRST + frames * k // (LOOKS - 1)
        while not (there := page.evaluate(f"!MoSLD.replay && MoSLD.frames.length >= {goal}")) and time.monotonic() < end:
            page.wait_for_timeout(250)
        if not there:
            break
        line.send("HeapProfiler.collectGarbage")
        used = line.send("Runtime.getHeapUsage")  # without what the debugger itself keeps of every answer
        (run,) = [s._run for s in lab.sessions._keys.values() if s.trainer is not None]
        held = reached(run.trainer.log.frames, run.packer._course, *(s._frames for s in lab.sessions._keys.values()))
        looks.append((page.evaluate("MoSLD.frames.length"), held / 1e6, (used["usedSize"] + used.get("backingStorageSize", 0)) / 1e6))
        print("| {} | {:.2f} | {:.2f} |".format(*looks[-1]), flush=True)
    return looks


def reached(*things) -> int:
    """Bytes of all objects that are reached from these, those of the interpreter, of modules and of the settings left out."""
    seen, rest, total = set(), list(things), 0
    while rest:
        item = rest.pop()
        if id(item) in seen or isinstance(item, (type, types.ModuleType, types.FunctionType)) or type(item).__name__ in ("RunLog", "RunConfig"):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        rest += gc.get_referents(item)
    return total
