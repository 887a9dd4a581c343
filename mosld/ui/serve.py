"""Serves the page: `launch(page)`, with every open door shut that Gradio leaves open by default (SECURITY.md says what is promised).

Beside Gradio's own routes there are three, under `/lab/`:
- `news`: the messages that a page has not got yet. A page asks with its session's key, the run and the number of frames it has; while a run is on
  its way the answer waits until there is something new. Whoever does not ask any more has left.
- `file/NAME`: a file of `assets/`, and `script/NAME`: the page's scripts and the style of its first picture (`kept.py`).
- `health`: whether the server answers, and how many runs are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mosld.ui import api
from mosld.ui.canvas.page import first
from mosld.ui.guard import Guard, Readers, frames_of, names_of, read_json
from mosld.ui.kept import Files, with_first
from mosld.ui.limits import UPLOAD_BYTES
from mosld.ui.sessions import Sessions
from mosld.ui.theme import css, first_css, theme
from mosld.ui.watch.questions import QUESTIONS

TICK = 0.1  # seconds between two answers to a page while its run trains
HOLD = 8  # seconds that an answer may wait for something new
LONG = 400  # characters of a script that stays in the configuration
ASSETS = Path(__file__).parent / "assets"


def launch(page: gr.Blocks, **extra):
    """Serve the page. `extra` goes to Gradio's launch.

    No monitoring page, no run history, no analytics, no server-side rendering (it starts a second server), no traceback in the browser, small
    uploads, temporary files deleted after an hour. MCP tools only where MOSLD_MCP=1 asks for them. Ctrl-C or SIGTERM pauses all runs.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    _few_arenas()
    sessions: Sessions = page.sessions
    readers = Readers()
    readers.named = lambda event: getattr(page._queue.event_ids_to_events.get(event), "session_hash", "")
    sessions.reads = readers.reads
    files = Files()
    for block in page.blocks.values():
        if isinstance(block, gr.HTML) and len(block.js_on_load or "") > LONG:
            block.js_on_load = files.lift(block.js_on_load)
    hosted = bool(os.environ.get("SPACE_ID"))
    hosts, frames = names_of(os.environ.get("MOSLD_HOSTS", "")), frames_of(os.environ.get("MOSLD_FRAMES", ""))
    guard = Middleware(Guard, hosted=hosted, hosts=hosts, readers=readers, frames=frames, first=_first(page.scripts, files))
    settings = {
        "theme": theme(),
        "css": css(),  # 5 KB once compressed; Gradio puts its own scope around each rule, so it stays in the configuration
        "enable_monitoring": False,
        "run_history": False,
        "show_error": False,
        "ssr_mode": False,
        "max_file_size": UPLOAD_BYTES,
        "footer_links": [],
        "pwa": False,
        "mcp_server": api.tools(),
        "_frontend": False,  # no look at itself: where that takes 3 s, as on a machine with other work, Gradio ends the server
        "app_kwargs": {"middleware": [guard], "routes": [*_routes(sessions), files.route()]},
    }
    waits = not extra.pop("prevent_thread_lock", False)
    served = page.launch(**{**settings, **extra}, prevent_thread_lock=True)
    if waits:
        _wait(page, sessions)
    return served


def _routes(sessions: Sessions) -> list[Route]:
    async def news(request: Request) -> Response:
        asked = read_json(await request.body())
        session = sessions.by_key(asked.get("key"))
        if session is None:
            return JSONResponse(None)  # not in memory: the page asks for it by its key (an error status would be one in the browser's log)
        number, at, mark = (asked.get(name) for name in ("run", "at", "mark"))
        number, at = (v if isinstance(v, int) and not isinstance(v, bool) else -1 for v in (number, at))
        end = time.monotonic() + HOLD
        if session.busy and number == session.run and at > 0:
            await asyncio.sleep(TICK)  # so many pictures a second, and no more
        while not (texts := session.news(number, at, str(mark))) and session.busy and time.monotonic() < end:
            await asyncio.sleep(TICK / 2)
            if await request.is_disconnected():
                break
        return Response("[" + ",".join(_quoted(texts)) + "]", media_type="application/json", headers={"cache-control": "no-store"})

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True, "runs": sessions.places.busy}, headers={"cache-control": "no-store"})

    async def file(request: Request) -> Response:
        name = request.path_params["name"].removesuffix(".gz")
        for ending, packing in (("", {}), (".gz", {"content-encoding": "gzip"})):
            path = (ASSETS / (name + ending)).resolve()
            if path.is_relative_to(ASSETS) and path.is_file() and path.suffix in (".json", ".gz"):
                return Response(path.read_bytes(), media_type="application/json", headers={"cache-control": "public, max-age=3600", **packing})
        return PlainTextResponse("file: there is none of this name.", 404)

    return [
        Route("/lab/news", news, methods=["POST"]),
        Route("/lab/health", health),
        Route("/lab/file/{name:path}", file),
    ]


def _quoted(texts: list[str]):
    """Messages as JSON texts in JSON."""
    from mosld.ui.wire import to_json

    return map(to_json, texts)


def _first(others: str, files: Files) -> Callable[[str], str]:
    """What puts the first picture into Gradio's page."""
    run = next(iter(QUESTIONS))
    scripts, markup = first(run)
    parts = {"scripts": files.add(scripts, ".js"), "style": files.add(first_css(), ".css"), "others": files.add(f"{others}\n{files.lifted()}", ".js")}
    return partial(with_first, markup=markup, run=f"lab/file/runs/{run}.json", **parts)


def _wait(page: gr.Blocks, sessions: Sessions) -> None:
    """Serve until Ctrl-C or SIGTERM; then pause every run, say so, and end."""
    over = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
    while not over.wait(3600):
        pass
    print("\nThe lab is closing: runs under way are paused after their step …", flush=True)
    paused = sessions.close()
    print(f"{paused} paused and saved; their pages offer them again once the lab is back." if paused else "None was under way.", flush=True)
    page.close(verbose=False)
    sys.stdout.flush()
    os._exit(0)  # threads of tensor libraries end the process by a signal otherwise


def _few_arenas() -> None:
    """Fewer pools of memory for glibc, which otherwise keeps one for each thread that ever trained."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX
