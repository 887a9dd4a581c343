"""What the page's events do. Every handler checks what it is given; what a visitor did wrong comes back as one sentence.

A private endpoint can still be called over HTTP, so nothing here trusts its caller: configurations pass the schema, task names
the catalogue, paths are only those of the visitor's own uploads.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from mosld.config import ConfigError, RunConfig
from mosld.ui.controls import Controls
from mosld.ui.facts import facts
from mosld.ui.limits import UPLOAD_BYTES
from mosld.ui.session import Session, Sessions, message, say, shared


class Handlers:
    """The handlers of one page, over its sessions and its controls."""

    def __init__(self, sessions: Sessions, controls: Controls):
        self.sessions, self.controls = sessions, controls

    def visitor(self, request: gr.Request) -> Session:
        return self.sessions.of(str(request.session_hash))

    # The run. The first of each pair plans and answers at once, `stream` then carries it out.

    def start(self, request: gr.Request, *values) -> tuple:
        """Plan a new run from the controls."""
        return self._plan(request, lambda session: session.prepare(self.controls.read(*values)))

    def toggle(self, request: gr.Request) -> tuple:
        """Pause what runs, or go on with what is paused."""

        def act(session: Session):
            if session.state in ("running", "loading", "ready"):
                session.pause()
            else:
                session.go_on()

        return self._plan(request, act)

    def step1(self, request: gr.Request, *values) -> tuple:
        """Go on for one step, or begin a new run with it."""
        return self._step(1, request, values)

    def step10(self, request: gr.Request, *values) -> tuple:
        """Go on for ten steps, or begin a new run with them."""
        return self._step(10, request, values)

    def _step(self, steps: int, request: gr.Request, values) -> tuple:
        def act(session: Session):
            if session.state == "paused":
                session.go_on(steps)
            else:
                session.prepare(self.controls.read(*values), steps)

        return self._plan(request, act)

    def reset(self, request: gr.Request) -> tuple:
        session = self.visitor(request)
        session.halt()
        return message("clear", state="idle", note="", link=session.link() if session.config else ""), *self.buttons(session)

    def stream(self, request: gr.Request) -> Iterator[str]:
        """Messages for the page until the planned work is done; closed by gradio when the page is."""
        yield from self.visitor(request).stream()

    def settle(self, request: gr.Request) -> tuple:
        return self.buttons(self.visitor(request))

    def resync(self, request: gr.Request) -> str:
        return self.visitor(request).whole()

    def change(self, name: str, request: gr.Request, value) -> str:
        """A hot change of one knob of a run that is there."""
        session = self.visitor(request)
        if session.state not in ("running", "paused"):
            return gr.skip()
        try:
            session.change(**{name: self.controls.read_one(name, value)})
        except ConfigError as problem:
            return say(str(problem), error=True)
        return gr.skip()

    def speed(self, request: gr.Request, choice: str) -> None:
        session = self.visitor(request)
        session.delay = SPEEDS.get(choice, 0.0)

    def _plan(self, request: gr.Request, act) -> tuple:
        try:
            session = self.visitor(request)
            act(session)
        except ConfigError as problem:
            return say(str(problem), error=True), *[gr.skip()] * 4
        return say("Waiting for a free place …", "loading") if session.state == "ready" else gr.skip(), *self.buttons(session)

    @staticmethod
    def buttons(session: Session) -> tuple:
        """Pause or Resume, Step 1, Step 10, Reset: labels and whether they can be pressed."""
        busy, paused = session.state in ("running", "loading", "ready"), session.state == "paused"
        return (
            gr.update(value="Resume" if paused else "Pause", interactive=busy or paused),
            gr.update(interactive=not busy),
            gr.update(interactive=not busy),
            gr.update(interactive=session.state != "idle"),
        )

    # Facts beside the controls.

    def facts(self, *values) -> dict:
        """The method's formula and its trainable parameters, or what is wrong with the controls."""
        try:
            return facts(self.controls.read(*values))
        except ConfigError as problem:
            return {"formula": "", "count": "", "note": "", "problem": str(problem)}

    # Links and files.

    def restore(self, request: gr.Request) -> tuple:
        """Fill the controls from the address; a link that cannot be read leaves them as they are and says why."""
        text = dict(request.query_params).get("c", "")
        self.sessions.warm()
        try:
            config = RunConfig.from_url(text) if text else RunConfig()
            self._check_names(config)
        except ConfigError as problem:
            return say(str(problem), error=True), *self.controls.fill(RunConfig())
        return gr.skip(), *self.controls.fill(config)

    def link(self, request: gr.Request, *values) -> tuple[str, str]:
        """The address part that restores the controls, and a sentence."""
        try:
            session = self.visitor(request)
            config = self.controls.read(*values)
            return "?c=" + shared(config, session.own).to_url(), say(
                "The link is copied; a file of your own is not in it." if any(t in session.own for t in config.tasks) else "The link is copied."
            )
        except ConfigError as problem:
            return "", say(str(problem), error=True)

    def upload(self, request: gr.Request, path: str | None, chosen: list[str]) -> tuple:
        """Take a task file of the visitor's own, if every line of it is in order."""
        from mosld.tasks import own

        if not path:
            return gr.skip(), gr.skip()
        source = Path(path)
        try:
            session = self.visitor(request)
            if source.suffix.lower() not in (".jsonl", ".csv"):
                raise ConfigError(f"file: '{source.name[:60]}' is not allowed; give a .jsonl or a .csv file.")
            if source.stat().st_size > UPLOAD_BYTES:
                raise ConfigError(f"file: {source.stat().st_size:,} bytes are too many; give at most {UPLOAD_BYTES:,}.")
            if len(session.own) >= 8:
                raise ConfigError("file: 8 files of your own are here already; reload the page to start afresh.")
            own.load(source)
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", source.stem)[:40] or "own"
            kept = session.folder / "own" / (name + source.suffix.lower())
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(source, kept)
        except ConfigError as problem:
            return gr.skip(), say(str(problem).replace(str(source), source.name), error=True)
        session.own[str(kept)] = kept
        choices = [*self.controls.tasks, *((f"{Path(p).name} — own", p) for p in session.own)]
        return gr.update(choices=choices, value=[*chosen, str(kept)]), say(f"{kept.name} is read and chosen.")

    def _check_names(self, config: RunConfig) -> None:
        from mosld.tasks import check

        check([*config.tasks, *config.held_out], files=False)

    def leave(self, request: gr.Request) -> None:
        self.sessions.drop(str(request.session_hash))


SPEEDS = {"Full speed": 0.0, "4 steps a second": 0.25, "1 step a second": 1.0}
