"""What stands between the network and Gradio: who may ask, what an answer may do in a browser, what may be uploaded.

`Guard` is ASGI middleware. On a private machine a request is answered only where it names this machine (a name that an attacker's DNS points here
is none) and comes from this page or from no page at all; MCP included. On a hosted Space, where the page is public, any name and page may ask.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from mosld.config import ConfigError
from mosld.tasks.files import SUFFIXES
from mosld.ui.kept import Kept
from mosld.ui.limits import UPLOAD_BYTES

UPLOADS_A_MINUTE = 60  # of all visitors
FORM_BYTES = 20_000  # of an upload around its file
BODY_BYTES = 2_000_000  # of any other request

# Gradio's page needs inline scripts (its configuration) and eval (scripts of gr.HTML); nothing of it needs another host.
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
FRAMES = "'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"  # who may show a hosted page in a frame


class Guard:
    """The middleware. `hosted`: a public page. `hosts`: further names under which a private machine is asked for, "*" for any. `frames`: pages that
    may show this one in a frame. `first`: what is done to the page before it is sent."""

    def __init__(self, app, hosted: bool, hosts: frozenset[str], readers: Readers, frames: tuple[str, ...] = (), first: Callable[[str], str] = str):
        self.app, self.hosted, self.hosts, self.readers, self.kept = app, hosted, hosts, readers, Kept(app, first)
        policy = {**POLICY, "frame-ancestors": " ".join([FRAMES if hosted else "'self'", *frames])}
        self.headers = {
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "cross-origin" if hosted else "same-origin",
        }
        self._uploads: list[float] = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # Gradio has none
                return
            return await self.app(scope, receive, send)
        scope = _under_root(scope)
        headers = Headers(scope=scope)
        refusal = None if self.hosted else self._stranger(headers)
        if refusal is None and scope["method"] == "POST":
            refusal, receive = await self._body(scope, headers, receive)
        if refusal is not None:
            return await refusal(scope, receive, self._dressed(send))
        if (answer := await self.kept.answer(scope, headers)) is not None:
            return await answer(scope, receive, self._dressed(send))
        with self.readers.reading(scope):
            await self.app(scope, receive, self._dressed(send))

    # Who may ask.

    def _stranger(self, headers: Headers) -> Response | None:
        """The refusal of a request that does not name this machine, or comes from another page."""
        host, forwarded = headers.get("host", ""), headers.get("x-forwarded-host", "").split(",")[0].strip()
        for name in filter(None, (host or "none", forwarded)):
            if not self._mine(name):
                words = f"host: '{name[:80]}' is not a name of this lab; set MOSLD_HOSTS to the names under which it is reached."
                return PlainTextResponse(words, 403)
        origin = headers.get("origin")
        if origin is not None and not any(_same(origin, h) for h in (host, forwarded) if h):
            return PlainTextResponse(f"origin: '{origin[:80]}' is another page; this lab answers its own.", 403)
        return None

    def _mine(self, host: str) -> bool:
        name = _name(host)
        if "*" in self.hosts or name in self.hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
            return True  # a page of a name cannot make a browser send an address
        except ValueError:
            return False

    # What may come in.

    async def _body(self, scope, headers: Headers, receive):
        """A refusal or None, and the request's body to be read again: bounded, and of an upload one file of a known kind."""
        upload = scope["path"].rstrip("/").endswith("/upload")
        most = UPLOAD_BYTES + FORM_BYTES if upload else BODY_BYTES
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > most:
            return PlainTextResponse(f"request: {int(length[:20]):,} bytes are too many; {most:,} are read.", 413), receive
        body = bytearray()
        try:
            async for part in Request(scope, receive).stream():
                body += part
                if len(body) > most:
                    return PlainTextResponse(f"request: more than {most:,} bytes are not read.", 413), receive
        except ClientDisconnect:
            return Response(status_code=400), receive
        body = whole_characters(bytes(body))
        told = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again():
            return next(told, None) or await receive()  # the latter waits for the client to leave

        return self._upload(headers.get("content-type", ""), body) if upload else None, again

    def _upload(self, kind: str, body: bytes) -> Response | None:
        """The refusal of a form that is not one file of a known kind."""
        boundary = re.search(r'boundary="?([^";]{1,200})"?', kind)
        mark = f"--{boundary[1]}\r\n".encode("latin-1") if boundary else b""
        head = body.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        names = re.findall(r"filename\*?=([^\r\n]*)", head)
        if not mark or body.count(mark) != 1 or len(names) != 1:
            return PlainTextResponse("file: give one file at a time.", 400)
        name = names[0].split(";")[0].strip().strip('"')
        if not name.lower().removesuffix(".gz").endswith(SUFFIXES):
            return PlainTextResponse(f"file: '{name[-60:]}' is not allowed; give one that ends in {', '.join(SUFFIXES)}.", 400)
        now = time.monotonic()
        self._uploads = [t for t in self._uploads if now - t < 60]
        if len(self._uploads) >= UPLOADS_A_MINUTE:
            return PlainTextResponse("file: too many are uploaded here just now; try again in a minute.", 429)
        self._uploads.append(now)
        return None

    # What goes out.

    def _dressed(self, send):
        async def dressed(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        return dressed


class Readers:
    """Who reads the stream of its queued calls: by session, how many such requests are open."""

    def __init__(self):
        self._open: Counter[str] = Counter()
        self.named = lambda event: ""  # the session of an event

    def reads(self, visitor: str) -> bool:
        return self._open[visitor] > 0

    @contextmanager
    def reading(self, scope):
        visitor = self._visitor(scope)
        self._open[visitor] += 1
        try:
            yield
        finally:
            self._open[visitor] -= 1
            if not self._open[visitor]:
                del self._open[visitor]

    def _visitor(self, scope) -> str:
        if scope["method"] != "GET":
            return ""
        if scope["path"].endswith("/queue/data"):
            return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        called = re.search(r"/call/[^/]+/([0-9a-f]{32})$", scope["path"])
        return self.named(called[1]) if called else ""


def _under_root(scope) -> dict:
    """The request with its sub-path put back where a proxy took it off: at a sub-path named /lab the lab's own routes would lose theirs."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    if root.startswith("/") and re.match(r"/lab/(news|health|file/|script/)", path) and not path.startswith(f"{root}/lab/"):
        return {**scope, "path": root + path}
    return scope


def names_of(text: str) -> frozenset[str]:
    """The names under which this machine may be asked for: those of MOSLD_HOSTS, and its own. Raises ConfigError for what is no name."""
    given = [part.strip().lower() for part in text.split(",") if part.strip()]
    for name in given:
        if name != "*" and not re.fullmatch(r"[a-z0-9._-]{1,253}", name):
            raise ConfigError(f"MOSLD_HOSTS: '{name[:60]}' is not allowed; give names such as lab.example.org, separated by commas, or *.")
    own = {socket.gethostname().lower(), os.environ.get("HOSTNAME", "").lower()} - {""}
    return frozenset({*given, *own, *(f"{name}.local" for name in own)})


def frames_of(text: str) -> tuple[str, ...]:
    """The pages of MOSLD_FRAMES. Raises ConfigError for what is no page's origin."""
    given = [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
    for page in given:
        if not re.fullmatch(r"https?://(\*\.)?[A-Za-z0-9.-]{1,253}(:(\d{1,5}|\*))?", page):
            raise ConfigError(f"MOSLD_FRAMES: '{page[:60]}' is not allowed; give pages such as https://moodle.example.org, separated by commas.")
    return tuple(given)


def _name(host: str) -> str:
    """The name in 'name:port' or '[::1]:port'."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _same(origin: str, host: str) -> bool:
    """Whether a page of `origin` is one of `host`; a proxy may leave the port out of the latter."""
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        usual = {"http": 80, "https": 443}.get(page.scheme)
        return bool(usual) and page.hostname == asked.hostname and (asked.port is None or (page.port or usual) == asked.port)
    except ValueError:
        return False


def whole_characters(body: bytes) -> bytes:
    """A request's JSON with a mark in place of each half of a character (a text cut in an emoji has one): nothing can be answered that holds one,
    and Gradio drops the line, or hangs later calls of the session."""
    if not re.search(rb"\\u[dD][89a-fA-F]", body):
        return body
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return body
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def read_json(body: bytes) -> dict:
    """A JSON object, or an empty one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
