"""python -m benchmarks load: a class opens the lab at once, some press Run. Loopback only, bounded in number and time.

Starts `python app.py` of a checkout (`--root`, so that two states of the code can be compared on one machine), and prints a table in Markdown:
seconds to the page and its configuration, in a browser to the load event, the first picture (and the bytes until then) and a Run that can be
pressed, to a run's first picture, what was refused or timed out, and the server's memory before and after. The exit status is 1 where somebody was
refused or waited in vain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.served import ROOT, Server, chromium, served

MOST_VISITORS, MOST_RUNS, MOST_PAGES, MOST_SECONDS = 200, 40, 8, 600
SETTINGS = {"steps": 150}
MEMORY, PATIENCE = 150, 150  # megabytes above that, and the seconds until a closed page is let go of
PICTURE = "document.querySelector('#figure-machine [data-expert]')?.checkVisibility({ visibilityProperty: true }) && performance.now()"
READY = "window.MoSLD && MoSLD.ready && performance.now()"  # Run can be pressed


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks load", description=__doc__.partition(": ")[2], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--visitors", type=int, default=50, help=f"who open the page at once, up to {MOST_VISITORS}; default 50")
    parser.add_argument("--runs", type=int, default=10, help=f"of them press Run, up to {MOST_RUNS}; default 10")
    parser.add_argument("--pages", type=int, default=4, help=f"of them have a browser, where Chromium is here, up to {MOST_PAGES}; default 4")
    parser.add_argument("--seconds", type=float, default=240, help=f"at most so long, up to {MOST_SECONDS}; default 240")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose app.py is started; default this one")
    given = parser.parse_args(arguments)
    for name, most in (("visitors", MOST_VISITORS), ("runs", MOST_RUNS), ("pages", MOST_PAGES), ("seconds", MOST_SECONDS)):
        if not 0 <= getattr(given, name) <= most:
            parser.error(f"--{name}: {getattr(given, name)} is not allowed; give a number up to {most}")
    print(f"load: {given.visitors} visitors, {given.runs} runs; at most {given.seconds:.0f} s", flush=True)
    found, failed = measure(given.root, given.visitors, given.runs, given.pages, given.seconds)
    print(table(found))
    if failed:
        raise SystemExit(1)


def measure(root: Path, visitors: int, runs: int, pages: int, seconds: float) -> tuple[dict[str, str], int]:
    """What the table shows, by row; and how many were refused or waited in vain."""
    with served(root) as server:
        try:
            return asyncio.run(_class(server, visitors, runs, pages, time.monotonic() + seconds))
        except httpx.TransportError:
            server.check()
            raise


async def _class(server: Server, visitors: int, runs: int, pages: int, end: float) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    limits, url, failed = httpx.Limits(max_connections=None), server.url, 0
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        which = await start_run(client)
        await _first(client, which, end)  # imports and the default backbone: once a server
        before = server.memory()
        found["memory with one run behind it, MB"] = str(before)
        async with _browser(pages) as browser:
            clients = max(0, visitors - pages) if browser else visitors
            opened = asyncio.gather(*(_open(browser, url) for _ in range(pages if browser else 0)))
            for path in ("/", "/config"):
                times = await asyncio.gather(*(_get(url, path) for _ in range(clients)))
                failed += times.count(None)
                found[f"GET {path}, s (median, 95 %, longest; failed)"] = _spread(times)
            seen = await opened
        failed += seen.count(None)
        if seen:
            for name, k in (("load event", 0), ("first picture", 1), ("until Run can be pressed", 2)):
                found[f"{len(seen)} browsers: {name}, s (median, 95 %, longest; failed)"] = _spread([s and s[k] for s in seen])
            found["kB sent until the first picture: the lab's own, Gradio's; on a second visit"] = next((s[3] for s in seen if s), "none")
        for path in ("/", "/config"):
            found[f"GET {path}, kB as sent"] = f"{await _size(client, path) / 1000:.0f}"
        firsts = await asyncio.gather(*(_first(client, which, end, i * 1.0) for i in range(runs)))
        failed += firsts.count(None)
        found["Run to first picture, s (median, 95 %, longest; failed)"] = _spread(firsts)
        found["memory after, MB"] = str(server.memory())
        left = time.monotonic()
        while (now := server.memory()) > before + MEMORY and time.monotonic() < left + PATIENCE:
            await asyncio.sleep(2)
        found["memory once all have left, MB; after s"] = f"{now}; {time.monotonic() - left:.0f}"
        server.check()
    return found, failed


async def start_run(client: httpx.AsyncClient) -> int:
    """The number by which the server's start_run is called."""
    config = (await client.get("/config")).json()
    calls = [d["id"] for d in config.get("dependencies", []) if d.get("api_name") == "start_run"]
    if not calls:
        raise SystemExit("load: the server's configuration names no start_run.")
    return calls[0]


async def _get(url: str, path: str) -> float | None:
    """Seconds until all of it is here, on a connection of its own; None where it failed."""
    began = time.monotonic()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as client:
            answer = await client.get(path, headers={"accept-encoding": "br, gzip"})
            return time.monotonic() - began if answer.status_code == 200 else None
    except httpx.TransportError:
        return None


@asynccontextmanager
async def _browser(pages: int):
    """A Chromium, or None where there is none or none is wanted."""
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        pages = 0
    if not pages:
        yield None
        return
    async with async_playwright() as playwright:
        path = chromium(playwright)
        browser = path and await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        if browser:
            await browser.close()


async def _open(browser, url: str) -> tuple[float, float, float, str] | None:
    """Of a page opened by a browser without a cache: seconds to the load event, to the first picture and until Run can be pressed, and the bytes
    until the picture and when it is opened again; None where it shows none."""
    context = await browser.new_context(viewport={"width": 1366, "height": 768})
    try:
        page = await context.new_page()
        line, sent, paths = await context.new_cdp_session(page), Counter(), {}
        await line.send("Network.enable")
        line.on("Network.responseReceived", lambda e: paths.update({e["requestId"]: urlsplit(e["response"]["url"]).path}))
        line.on("Network.loadingFinished", lambda e: sent.update({_whose(paths.get(e["requestId"], "")): int(e["encodedDataLength"])}))
        await page.goto(url, timeout=120_000)
        picture = await page.wait_for_function(PICTURE, timeout=120_000)
        seconds = await picture.json_value() / 1000
        first = dict(sent)
        ready = await (await page.wait_for_function(READY, timeout=120_000)).json_value() / 1000
        loaded = await page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
        sent.clear()
        await page.goto(url, timeout=120_000)
        await page.wait_for_function(READY, timeout=120_000)
        return loaded, seconds, ready, f"{first.get('own', 0) / 1000:.0f}, {first.get('Gradio', 0) / 1000:.0f}; {sum(sent.values()) / 1000:.0f}"
    except Exception as problem:  # Playwright's own errors; it may not be here
        print(f"load: a page showed no picture: {str(problem).splitlines()[0]}")
        return None
    finally:
        await context.close()


def _whose(path: str) -> str:
    return "own" if path == "/" or path.startswith("/lab/") else "Gradio"


async def _size(client: httpx.AsyncClient, path: str) -> int:
    async with client.stream("GET", path, headers={"accept-encoding": "br, gzip"}) as answer:
        return sum([len(part) async for part in answer.aiter_raw()])


async def join(client: httpx.AsyncClient, which: int, steps: int, visitor: str) -> httpx.Response:
    body = {"data": [json.dumps({**SETTINGS, "steps": steps})], "fn_index": which, "session_hash": visitor}
    return await client.post("/gradio_api/queue/join", json=body)


async def _first(client: httpx.AsyncClient, which: int, end: float, wait: float = 0) -> float | None:
    """Seconds from Run to the first answer that has a step; None where none came until `end`. The run is then left."""
    await asyncio.sleep(wait)
    began = time.monotonic()
    try:
        return await asyncio.wait_for(_step(client, which, began), max(1, end - began))
    except (TimeoutError, asyncio.TimeoutError):
        return None


async def _step(client: httpx.AsyncClient, which: int, began: float) -> float | None:
    visitor = secrets.token_hex(8)
    try:
        if (await join(client, which, SETTINGS["steps"], visitor)).status_code != 200:
            return None
        async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": visitor}, timeout=MOST_SECONDS) as lines:
            async for line in lines.aiter_lines():
                told = json.loads(line[6:]) if line.startswith("data: ") else {}
                if told.get("msg") == "process_completed":
                    return None
                if told.get("msg") == "process_generating" and not _still(told):
                    return time.monotonic() - began
    except (httpx.TransportError, json.JSONDecodeError):
        pass
    return None


def _still(told: dict) -> bool:
    """Whether an answer has no step yet; later ones come as changes to the first."""
    for part in told["output"]["data"]:
        if isinstance(part, dict):
            return not part.get("step")
        if isinstance(part, list):
            return not any(change[1] == ["step"] and change[2] for change in part)
    return True


def _spread(times: list[float | None]) -> str:
    good = sorted(t for t in times if t is not None)
    if not good:
        return f"none; {len(times)}"
    late = good[min(len(good) - 1, int(0.95 * len(good)))]
    return f"{statistics.median(good):.2f}, {late:.2f}, {good[-1]:.2f}; {len(times) - len(good)}"


def table(found: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found.items())])
