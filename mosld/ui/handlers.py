"""What the page's events do. Every handler checks what it is given; what a visitor did wrong comes back as one sentence.

A private endpoint can still be called over HTTP, so nothing here trusts its caller: configurations pass the schema, task names
the catalogue, paths are only those of the visitor's own uploads.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import gradio as gr

from mosld.config import ConfigError, RunConfig
from mosld.tasks import check
from mosld.tasks.files import is_path
from mosld.ui import RUN
from mosld.ui.controls import HIDEABLE, Controls
from mosld.ui.facts import facts
from mosld.ui.folders import shared
from mosld.ui.session import Session, message, say
from mosld.ui.sessions import Sessions
from mosld.ui.watch.questions import QUESTIONS
from mosld.ui.wire import short


class Handlers:
    """The handlers of one page, over its sessions and its controls."""

    def __init__(self, sessions: Sessions, controls: Controls):
        self.sessions, self.controls = sessions, controls

    def visitor(self, request: gr.Request) -> Session:
        """The visitor's session, made where there is none: for what starts or keeps something. Raises ConfigError where the page is full."""
        return self.sessions.of(str(request.session_hash))

    def look(self, request: gr.Request) -> Session:
        """The visitor's session, or an empty one that nobody keeps: for what only reads."""
        return self.sessions.look(str(request.session_hash))

    # The run. Each notes a wish and says what stands; the page fetches the frames by itself (`serve.py`).

    def start(self, request: gr.Request, *values) -> str:
        """Start a new run from the controls."""
        return self.plan(request, lambda session: session.prepare(self.controls.read(*values)))

    def toggle(self, request: gr.Request) -> str:
        """Pause what runs, or go on with what is paused."""
        return self.plan(request, Session.toggle)

    def step1(self, request: gr.Request, *values) -> str:
        """Go on for one step, or begin a new run with it."""
        return self._step(1, request, values)

    def step10(self, request: gr.Request, *values) -> str:
        """Go on for ten steps, or begin a new run with them."""
        return self._step(10, request, values)

    def _step(self, steps: int, request: gr.Request, values) -> str:
        def act(session: Session):
            if session.busy or session.state == "paused":
                session.go_on(steps)
            else:
                session.prepare(self.controls.read(*values), steps)

        return self.plan(request, act)

    def reset(self, request: gr.Request) -> str:
        session = self.look(request)
        session.halt()
        return message("clear", state="idle", note="", link=session.link())

    def plan(self, request: gr.Request, act) -> str:
        """Carry out a wish in the visitor's session; what the page is told of it."""
        try:
            session = self.visitor(request)
            act(session)
        except ConfigError as problem:
            return say(str(problem), error=True)
        return session.word()

    def attach(self, request: gr.Request, memory) -> str:
        """Find the page's session again, after the server was started anew or had let go of it."""
        try:
            session = self._kept(request, memory, ("tab",), None)
        except ConfigError as problem:
            return say(str(problem), "idle", error=True)
        gone = f"The lab was started anew, and the run that was here is gone. Press {RUN} to start it again."
        return session.word() if session else say(gone, "idle")

    async def rested(self, request: gr.Request) -> None:
        """Wait until no run of the visitor is on its way."""
        session = self.look(request)
        while session.busy:
            await asyncio.sleep(0.1)

    def change_lr(self, request: gr.Request, value) -> tuple:
        return self._change("lr", request, value)

    def change_dropout(self, request: gr.Request, value) -> tuple:
        return self._change("dropout", request, value)

    def change_balance(self, request: gr.Request, value) -> tuple:
        return self._change("balance", request, value)

    def _change(self, name: str, request: gr.Request, value) -> tuple:
        """A hot change of one knob of a run that is there. What cannot be is refused, and the control shows the run's value again."""
        session = self.look(request)
        if session.state not in ("running", "paused") or session.trainer is None:
            return gr.skip(), gr.skip()
        arm = session.trainer.arms[0]
        now = getattr(arm if name == "lr" else arm.handle, name)
        try:
            asked = self.controls.read_one(name, value)
            if asked == now:
                return gr.skip(), gr.skip()
            session.change(**{name: asked})
        except ConfigError as problem:
            return say(str(problem), error=True), gr.update(value="own" if now is None else now)
        return gr.skip(), gr.skip()

    def speed(self, request: gr.Request, choice: str) -> None:
        session = self.look(request)
        session.delay = SPEEDS.get(str(choice), 0.0)

    # Choices that fill other controls.

    def compare(self, by: str) -> str:
        """Values to start from when a visitor chooses what to compare."""
        return self.controls.suggestion(str(by))

    def settle_knobs(self, by: str, values: str) -> list:
        """Hide the controls of what the arms settle."""
        settled = self.controls.settled(by, values)
        return [gr.update(visible=name not in settled) for name in self.controls.single]

    def question(self, request: gr.Request, event: gr.EventData) -> tuple:
        """A question was chosen: its settings fill the controls, and a run of the visitor's own that trains is paused."""
        chosen = QUESTIONS.get(str((event._data or {}).get("name")))
        if chosen is None:
            return gr.skip(), *[gr.skip()] * len(self.controls.parts)
        session = self.look(request)
        if session.busy:
            session.pause()
        return gr.skip(), *self.controls.fill(chosen.config)

    # Facts beside the controls.

    def facts(self, *values) -> dict:
        """The method's formula and its trainable parameters, or what is wrong with the controls."""
        try:
            return facts(self.controls.read(*values))
        except ConfigError as problem:
            return {"formula": "", "count": "", "note": "", "problem": str(problem), "mark": "", "about": ""}

    # Links and files.

    def restore(self, request: gr.Request, memory) -> tuple:
        """Fill the page from its address: settings (c), hidden groups of controls (hide); and give it back its run, or that left in this browser.

        `memory`: the keys that the browser keeps (`KEYS`). A link that cannot be read leaves the controls as they are and says why.
        """
        query = dict(request.query_params)
        self.sessions.warm()
        feed, config, hidden = gr.skip(), RunConfig(), set()
        try:
            hidden = hidden_groups(query.get("hide", ""))
            linked = RunConfig.from_url(query["c"]) if "c" in query else None
            if linked is not None:
                check([*linked.tasks, *linked.held_out], files=False)
            session = self._kept(request, memory, ("tab", "browser"), linked)
            config = session.config if session else linked or config
            feed = session.word() if session else feed
        except ConfigError as problem:
            feed = say(str(problem), error=True)
        return feed, *[gr.update(visible=name not in hidden) for name in HIDEABLE], *self.controls.fill(config)

    def _kept(self, request: gr.Request, memory, names: tuple[str, ...], linked: RunConfig | None) -> Session | None:
        """The session of a key that the browser keeps: that of this tab (after a reload), or of one that is closed. Where the address holds
        other settings than the session's run, those count. Raises ConfigError."""
        keys = json.loads(memory) if isinstance(memory, str) and MEMORY.fullmatch(memory) else {}
        for name in names:
            session = self.sessions.attach(str(request.session_hash), keys.get(name), unless_used=name != "tab")
            if session is not None and session.config is not None and (linked is None or session.link() == linked.to_url()):
                return session
            if session is not None:
                self.sessions.detach(str(request.session_hash))
        return None

    def link(self, hide: list[str], *values) -> tuple[str, str]:
        """The address part that restores the controls and hides some, and a sentence."""
        try:
            return self.address(self.controls.read(*values), hidden_groups(",".join(hide or [])))
        except ConfigError as problem:
            return "", say(str(problem), error=True)

    @staticmethod
    def address(config: RunConfig, hidden: set[str] = frozenset()) -> tuple[str, str]:
        """The address part that restores a configuration, and a sentence."""
        own = any(map(is_path, (*config.tasks, *config.held_out)))
        text = "?c=" + shared(config) + ("&hide=" + ",".join(sorted(hidden)) if hidden else "")
        return text, say("The link is below; a file of your own is not in it." if own else "The link is below.")

    def upload(self, request: gr.Request, path: str | None, chosen: list[str]) -> tuple:
        """Take a task file of the visitor's own, and say what was understood of it."""
        if not path:
            return (gr.skip(),) * 3
        try:
            session = self.visitor(request)
            name, words = session.keep(Path(path))
        except ConfigError as problem:
            return gr.skip(), say(str(problem), error=True), []
        choices = [*self.controls.tasks, *((f"{short(name)} — own", name) for name in session.own)]
        update = gr.update(choices=choices, value=[*dict.fromkeys([*chosen, name])])
        return update, say(f"{short(name)} is read and chosen."), words.splitlines()


def hidden_groups(text: str) -> set[str]:
    """The groups of controls that a link hides. Raises ConfigError for an unknown one."""
    names = {part.strip() for part in text.split(",") if part.strip()}
    for name in sorted(names - set(HIDEABLE)):
        raise ConfigError(f"hide: '{name[:40]}' is no group of controls; the groups are {', '.join(HIDEABLE)}.")
    return names


# What a browser keeps of its run: the tab's own over a reload, and the last one of all tabs. Given to `restore` and `attach` in place of a value.
KEYS = """() => {
  const get = (store) => { try { return window[store].getItem("mosld-run") || ""; } catch { return ""; } };
  return [JSON.stringify({ tab: get("sessionStorage"), browser: get("localStorage") })];
}"""
MEMORY = re.compile(r'\{"tab":"[\w-]{0,40}","browser":"[\w-]{0,40}"\}')
SPEEDS = {"Full speed": 0.0, "4 steps a second": 0.25, "1 step a second": 1.0}
