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
from mosld.tasks import check
from mosld.ui.controls import HIDEABLE, Controls
from mosld.ui.facts import facts
from mosld.ui.limits import UPLOAD_BYTES
from mosld.ui.presets import PRESETS
from mosld.ui.session import Session, message, say, shared
from mosld.ui.sessions import Sessions


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
            elif session.state == "idle" and session.left:
                session.adopt(session.left)
                session.go_on()
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
        """Buttons as the run's state has them, and the key under which this browser finds the run again."""
        session = self.visitor(request)
        return *self.buttons(session), session.key

    def resync(self, request: gr.Request) -> str:
        return self.visitor(request).whole()

    def change_lr(self, request: gr.Request, value) -> str:
        return self._change("lr", request, value)

    def change_dropout(self, request: gr.Request, value) -> str:
        return self._change("dropout", request, value)

    def change_balance(self, request: gr.Request, value) -> str:
        return self._change("balance", request, value)

    def _change(self, name: str, request: gr.Request, value) -> str:
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

    # Choices that fill other controls.

    def compare(self, by: str) -> str:
        """Values to start from when a visitor chooses what to compare."""
        return self.controls.suggestion(str(by))

    def settle_knobs(self, by: str, values: str) -> list:
        """Hide the controls of what the arms settle."""
        settled = self.controls.settled(by, values)
        return [gr.update(visible=name not in settled) for name in self.controls.single]

    def preset(self, name: str) -> tuple:
        """Fill the controls from a preset and say what it shows."""
        chosen = PRESETS.get(str(name))
        if chosen is None:
            return {"text": ""}, *[gr.skip()] * len(self.controls.parts)
        return {"text": chosen.text}, *self.controls.fill(chosen.config)

    # Facts beside the controls.

    def facts(self, *values) -> dict:
        """The method's formula and its trainable parameters, or what is wrong with the controls."""
        try:
            return facts(self.controls.read(*values))
        except ConfigError as problem:
            return {"formula": "", "count": "", "note": "", "problem": str(problem)}

    # Links and files.

    def restore(self, request: gr.Request, memory) -> tuple:
        """Fill the page from its address: settings (c), hidden groups of controls (hide); or offer the run left in this browser.

        A link that cannot be read leaves the controls as they are and says why. Run can be pressed from here on, not before the controls
        hold what the link says.
        """
        query = dict(request.query_params)
        self.sessions.warm()
        feed, config, hidden, go_on = gr.skip(), RunConfig(), set(), gr.skip()
        try:
            hidden = hidden_groups(query.get("hide", ""))
            if "c" in query:
                config = RunConfig.from_url(query["c"])
                check([*config.tasks, *config.held_out], files=False)
            else:
                left = self.sessions.left(self.visitor(request), memory)
                if left is not None:
                    config, step = left
                    feed = say(
                        f"A run of yours stopped at step {step} of {config.steps}: press Resume to go on with it, or Run for a new one.", "left"
                    )
                    go_on = gr.update(value="Resume", interactive=True)
        except ConfigError as problem:
            feed, config = say(str(problem), error=True), RunConfig()
        return feed, go_on, gr.update(interactive=True), *[gr.update(visible=name not in hidden) for name in HIDEABLE], *self.controls.fill(config)

    def link(self, request: gr.Request, hide: list[str], *values) -> tuple[str, str]:
        """The address part that restores the controls and hides some, and a sentence."""
        try:
            session = self.visitor(request)
            config = self.controls.read(*values)
            hidden = hidden_groups(",".join(hide or []))
            text = "?c=" + shared(config, session.own).to_url() + ("&hide=" + ",".join(sorted(hidden)) if hidden else "")
            own = any(t in session.own for t in config.tasks)
            return text, say("The link is below; a file of your own is not in it." if own else "The link is below.")
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

    def leave(self, request: gr.Request) -> None:
        self.sessions.drop(str(request.session_hash))


def hidden_groups(text: str) -> set[str]:
    """The groups of controls that a link hides. Raises ConfigError for an unknown one."""
    names = {part.strip() for part in text.split(",") if part.strip()}
    for name in sorted(names - set(HIDEABLE)):
        raise ConfigError(f"hide: '{name[:40]}' is no group of controls; the groups are {', '.join(HIDEABLE)}.")
    return names


SPEEDS = {"Full speed": 0.0, "4 steps a second": 0.25, "1 step a second": 1.0}
