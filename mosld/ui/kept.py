"""Answers that are the same for everybody, made and compressed once: the page with its first picture, its configuration, scripts and styles.

Gradio makes page and configuration anew for each visitor, which takes a core a quarter of a second, and compresses its sixty scripts anew, which
takes another; only the former two differ, by the address asked for. The lab's own scripts and styles are files named by what is in them, so that a
browser keeps them until they change.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re

import brotli
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

ADDRESS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")  # headers from which Gradio makes its own address
FOREVER, DAY = "public, max-age=31536000, immutable", "public, max-age=86400"
MOST, MOST_FILES, MOST_BYTES = 32, 512, 1_000_000  # addresses under which the page is kept, files of Gradio's, bytes of one
KINDS = {".js": "text/javascript", ".css": "text/css"}


class Files:
    """Scripts and styles; and Gradio's scripts of components, lifted out of the configuration."""

    def __init__(self):
        self._scripts: dict[str, str] = {}
        self._files: dict[str, dict[str, Response]] = {}

    def add(self, text: str, ending: str) -> str:
        """The address of a file with this text."""
        name = hashlib.sha256(text.encode()).hexdigest()[:16] + ending
        self._files[name] = packed(text.encode(), KINDS[ending], FOREVER)
        return f"lab/script/{name}"

    def lift(self, script: str) -> str:
        """What calls a component's script once the file of all is there."""
        name = "s" + hashlib.sha256(script.encode()).hexdigest()[:12]
        self._scripts[name] = script
        call = f"window.MoSLDScripts.{name}(element,trigger,props,server,upload,watch)"
        return f"const go=()=>window.MoSLDScripts?{call}:setTimeout(go,10);go();"

    def lifted(self) -> str:
        functions = ",\n".join(f"{name}(element,trigger,props,server,upload,watch){{\n{script}\n}}" for name, script in self._scripts.items())
        return f"window.MoSLDScripts = {{\n{functions}\n}};"

    def route(self) -> Route:
        async def file(request: Request) -> Response:
            found = self._files.get(request.path_params["name"])
            return fitting(found, request.headers) if found else PlainTextResponse("file: there is none of this name.", 404)

        return Route("/lab/script/{name}", file)


class Kept:
    """The answers of the application under it that are kept. `first`: what is put into the page, see `with_first`."""

    def __init__(self, app, first):
        self.app, self.first = app, first
        self._pages: dict[tuple, dict[str, Response]] = {}
        self._files: dict[tuple, dict[str, Response]] = {}
        self._making: dict[tuple, asyncio.Lock] = {}

    async def answer(self, scope, headers: Headers) -> Response | None:
        """None for what is not kept: it is asked of the application."""
        path = scope["path"]
        cache = FOREVER if path.startswith("/assets/") else DAY if path == "/theme.css" or path.startswith("/static/") else "no-cache"
        if scope["method"] not in ("GET", "HEAD") or (cache == "no-cache" and path not in ("/", "/config")):
            return None
        kept, most, differ = (self._pages, MOST, ADDRESS) if cache == "no-cache" else (self._files, MOST_FILES, ())
        key = (path, scope.get("root_path", ""), *(headers.get(name, "") for name in differ))
        if key not in kept:
            async with self._making.setdefault(key, asyncio.Lock()):  # a class that comes at once waits for one to be made
                if key not in kept:
                    status, kind, body = await _asked(self.app, scope)
                    self._making.pop(key, None)
                    if status != 200:
                        return Response(body, status, headers={"content-type": kind})
                    if len(kept) >= most:
                        kept.clear()
                    kept[key] = await asyncio.to_thread(self._made, path, body, kind, cache) if len(body) <= MOST_BYTES else {}
        return fitting(answers, headers) if (answers := kept.get(key)) else None

    def _made(self, path: str, body: bytes, kind: str, cache: str) -> dict[str, Response]:
        return packed(self.first(body.decode()).encode() if path == "/" else body, kind, cache)


def with_first(html: str, scripts: str, style: str, run: str, markup: str, others: str) -> str:
    """Gradio's page with `markup` at its beginning, and the script and the style that it needs before all else; `run` is the file it draws. The
    `others` and Gradio's own script are asked for once it has drawn."""
    early = (
        f'<title>MoSLD Lab</title><link rel="icon" href="favicon.ico"><link id="first-style" rel="stylesheet" href="{style}">'
        f'<link rel="preload" as="script" href="{scripts}">'
        f'<link rel="preload" as="fetch" href="{run}" crossorigin>'
    )
    html = re.sub(r"(<base [^>]*>)", lambda found: found[1] + early, html, count=1)
    html = re.sub(r"(<body\b[^>]*>)", lambda found: f'{found[1]}{markup}<script src="{scripts}"></script>', html, count=1)
    late = (
        '<script type="module">const put=(tag,parts)=>document.head.append(Object.assign(document.createElement(tag),parts));'
        f'put("link",{{rel:"modulepreload",href:"\\1"}});await window.MoSLD?.drawn;put("script",{{src:"{others}"}});import("\\1");</script>'
    )
    return re.sub(r'<script type="module" crossorigin src="([^"]+)"></script>', late, html, count=1)


def packed(body: bytes, kind: str, cache: str) -> dict[str, Response]:
    """An answer as it is, and compressed; to be asked for again with its tag."""
    common = {"content-type": kind, "etag": f'"{hashlib.sha256(body).hexdigest()[:20]}"', "cache-control": cache, "vary": "Accept-Encoding"}
    bodies = {"": body, "br": brotli.compress(body, quality=9), "gzip": gzip.compress(body, 9)}
    return {how: Response(data, headers={**common, **({"content-encoding": how} if how else {})}) for how, data in bodies.items()}


def fitting(answers: dict[str, Response], headers: Headers) -> Response:
    """The one of `packed` that the asker reads; or that nothing has changed."""
    accepted = headers.get("accept-encoding", "")
    answer = answers["br" if "br" in accepted else "gzip" if "gzip" in accepted else ""]
    if headers.get("if-none-match") == answer.headers["etag"]:
        return Response(status_code=304, headers={k: answer.headers[k] for k in ("etag", "cache-control", "vary")})
    return answer


async def _asked(app, scope) -> tuple[int, str, bytes]:
    """Status, kind and body of what the application answers to a visitor of whom only the address is known."""
    status, kind, parts = 500, "text/plain", []
    plain = [(k, v) for k, v in scope["headers"] if k not in (b"cookie", b"accept-encoding", b"if-none-match", b"range")]

    told = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        return next(told, None) or await asyncio.Event().wait()  # then nothing more comes: who streams an answer listens for a leave

    async def send(message):
        nonlocal status, kind
        if message["type"] == "http.response.start":
            status, kind = message["status"], dict(message["headers"]).get(b"content-type", b"text/plain").decode("latin-1")
        else:
            parts.append(message.get("body", b""))

    await app({**scope, "method": "GET", "query_string": b"", "headers": plain}, receive, send)
    return status, kind, b"".join(parts)
