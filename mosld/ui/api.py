"""The lab by API: named endpoints over the same sessions, limits and schema as the page.

- With a session (gradio_client keeps one): `start_run`, `read_frames`, `route_text`, `exchange_gates`.
- Pure: `count_parameters`, `list_methods`, `list_tasks`, `list_knobs`. With MOSLD_MCP=1 these four are MCP tools too.

The docstrings of the endpoints are what Gradio shows of them. Each refuses in one sentence. Annotations are evaluated here (no import of
`annotations` from `__future__`): Gradio reads them.
"""

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from mosld.config import ConfigError, RunConfig, knobs
from mosld.counting import SHAPES, count
from mosld.registry import METHODS
from mosld.tasks import catalogue
from mosld.tasks.own import MAX_OPTION, MAX_OPTIONS, MAX_QUESTION
from mosld.ui.facts import shape_of
from mosld.ui.lab import Lab
from mosld.ui.limits import AWAY_SECONDS
from mosld.ui.session import Session

MOST_CHARACTERS = 20_000  # of a configuration
MOST_FRAMES = 100  # in one answer


def tools() -> bool:
    """Whether the pure endpoints are to be MCP tools: MOSLD_MCP=1, which needs `pip install "mcp>=1.21,<2"`."""
    return os.environ.get("MOSLD_MCP") == "1"


@contextmanager
def _told() -> Iterator[None]:
    """What a caller did wrong reaches the caller as it is."""
    try:
        yield
    except ConfigError as problem:
        raise gr.Error(str(problem), print_exception=False) from None


def read(text: Any) -> RunConfig:
    """A configuration from JSON, or from a link, its `?c=` part, or what follows it; empty is the default. Raises ConfigError."""
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise ConfigError(f"config: give a text of at most {MOST_CHARACTERS:,} characters, JSON or a link.")
    text = text.strip()
    if not text:
        return RunConfig()
    if not text.startswith("{"):
        return RunConfig.from_url(text.partition("?c=")[2].partition("&")[0] if "?c=" in text else text)
    try:
        return RunConfig.from_json(text)
    except RecursionError:
        raise ConfigError("config: it is nested too deep; give one JSON object of settings.") from None


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or not low <= value <= high or value != int(value):
        raise ConfigError(f"{name}: {value!r:.40} is not allowed; give a whole number from {low} to {high}.")
    return int(value)


def _named(value: Any, names: dict[str, str]) -> Any:
    """Plain data in which own files have the names that a configuration gives them: no path of the server leaves it."""
    if isinstance(value, dict):
        return {names.get(k, k): _named(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_named(v, names) for v in value] if names else value
    return names.get(value, value) if isinstance(value, str) else value


class WithSession:
    """The endpoints that work on the caller's own run."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def _session(self, request: gr.Request) -> Session:
        if not request.session_hash:
            raise ConfigError("session: none is named; give a session_hash, as gradio_client does.")
        return self.lab.visitor(request)

    def _read(self, request: gr.Request) -> bool:
        """Whether somebody reads the answers; a run whose answers nobody reads is paused after a while."""
        return self.lab.handlers.sessions.reads(str(request.session_hash))

    async def start_run(self, config: str, request: gr.Request) -> AsyncIterator[dict]:
        """Train a run to its end. Answers come as it goes on; the last one says how it ended. Cancel the job to pause it.
        It ends the run that this session had before. The page's limits hold.

        Args:
            config: settings as JSON, as a link or as the part of a link after '?c='; an empty text is the default run.

        Returns:
            state (loading, running, paused or ended), step, steps, a note, and the link that restores the settings.
        """
        with _told():
            session = self._session(request)
            self.lab.handlers.sessions.warm()
            session.prepare(read(config))
        number, step, steps, at, mark, last = session.run, 0, session.config.steps, 0, "", None
        try:
            while True:
                resting, texts = not session.busy, session.news(number, at, mark) if self._read(request) else []
                for told in map(json.loads, texts):
                    if told["k"] in ("run", "add") and told["frames"]:
                        at, step = told.get("from", 0) + len(told["frames"]), told["frames"][-1][0]
                    mark = told.get("mark", mark)
                if time.monotonic() - session.fetched > AWAY_SECONDS:
                    session.pause()
                if session.run != number:
                    raise ConfigError("run: another run of this session has taken its place.")
                if session.state == "failed":
                    raise ConfigError(session.note)
                answer = {"state": session.state, "step": step, "steps": steps, "note": session.note, "link": "?c=" + session.link()}
                if answer != last:
                    yield answer
                last = answer
                if resting and not texts:
                    return
                await asyncio.sleep(0.1)
        except ConfigError as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        finally:  # also where the caller cancels the job
            if session.run == number:
                session.pause()

    def read_frames(self, request: gr.Request, start: int = 0, most: int = 100, probes: bool = True) -> dict:
        """Frames of this session's run, also while it trains: loss, learning rate, dropout, accuracies and probes of every arm.

        Args:
            start: index of the first frame wanted; frame 0 is before training.
            most: how many at most, from 1 to 100.
            probes: whether to give router, norms and imbalance too; they are most of the data.

        Returns:
            state, frames, and next: the start of a further call. Once the run is loaded also arms, tasks, linears (of each arm, in the order
            of a frame's probes) and more that frames refer to.
        """
        with _told():
            session = self.lab.look(request)
            start, most = _whole("start", start, 0, 10**9), _whole("most", most, 1, MOST_FRAMES)
            if session.config is None or session.state in ("waiting", "loading"):
                return {"state": session.state, "frames": [], "next": start}
            header, frames = session.ask(lambda trainer: (trainer.log.header(), trainer.log.frames[start : start + most]))
        from mosld.studies.export_files import finite  # imports torch, as the run did

        known = {name: header[name] for name in ("arms", "tasks", "held_out", "chance", "linears", "parameters", "versions")}
        names = {str(path): name for name, path in session.own.items()}
        known, plain = _named((known, [finite(f.to_dict()) for f in frames]), names)
        for arm in (a for f in plain for a in f["arms"] if not probes):
            arm["linears"] = None
        return {"state": session.state, **known, "frames": plain, "next": start + len(plain)}

    def route_text(
        self,
        text: str,
        options: list[str],
        request: gr.Request,
        arm: int = 0,
        layer: int = -1,
        target: str = "",
        task: str = "",
        expert: int = -1,
        force: bool = False,
    ) -> dict:
        """Send a text through this session's run: the gates that every token gets, and the score of each option.
        An expert can be muted or forced, to see what that changes.

        Args:
            text: a question or sentence.
            options: the answers to choose from.
            arm: which arm of the run, from 0.
            layer: only linears of this layer, from 0; -1 is all.
            target: only linears of this target, such as q; empty is all.
            task: the run's task that the text belongs to, for methods that route by task.
            expert: mute this expert in those linears, from 0; -1 mutes none.
            force: send the expert every token instead of none.

        Returns:
            arm, method, step, tokens, linears (each with gates and probabilities by expert and token), and options with their scores.
        """
        with _told():
            if not isinstance(text, str) or len(text) > MAX_QUESTION:
                raise ConfigError(f"text: give a text of at most {MAX_QUESTION} characters.")
            if not isinstance(options, list) or not 1 <= len(options) <= MAX_OPTIONS or not all(isinstance(o, str) for o in options):
                raise ConfigError(f"options: give a list of 1 to {MAX_OPTIONS} texts.")
            if max(map(len, options)) > MAX_OPTION:
                raise ConfigError(f"options: one is longer than {MAX_OPTION} characters.")
            arm, layer, expert = _whole("arm", arm, 0, 5), _whole("layer", layer, -1, 999), _whole("expert", expert, -1, 63)
            return self.lab.look(request).ask(lambda trainer: _routed(trainer, text, options, arm, layer, target, str(task), expert, force))

    def exchange_gates(self, request: gr.Request, arm: int = 0, rows: int = 64) -> dict:
        """What routing contributes in this session's run: accuracy with the gates dealt out anew over tokens, over texts, and replaced by
        their mean, without training again.

        Args:
            arm: which arm of the run, from 0.
            rows: validation questions of each task, from 10 to 300.

        Returns:
            arm, method, step, rows; accuracy by way and task; mean over tasks by way; says, each way in words.
        """
        with _told():
            arm, rows = _whole("arm", arm, 0, 5), _whole("rows", rows, 10, 300)
            return self.lab.look(request).ask(lambda trainer: _contribution(trainer, arm, rows))


def _contribution(trainer, arm, rows) -> dict:
    from mosld.training.inspector import contribution  # imports torch, as the run did

    return contribution(trainer, arm, rows)


def _routed(trainer, text, options, arm, layer, target, task, expert, force) -> dict:
    """`route_text` on a trainer, with the linears of the wanted layer and target alone."""
    from mosld.training.inspector import route_text  # imports torch, as the run did

    infos = trainer.log.linears[arm] if arm < len(trainer.log.linears) else []
    wanted = [i.name for i in infos if layer in (-1, i.layer) and target in ("", i.target)]
    if infos and not wanted:
        there = ", ".join(dict.fromkeys(f"{i.layer} {i.target}" for i in infos))
        raise ConfigError(f"layer: there is no '{layer} {str(target)[:20]}' with adapters; there are {there}.")
    out = route_text(trainer, text, options, arm, task, None if expert < 0 else expert, bool(force), wanted if expert >= 0 else None)
    return {**out, "linears": [x for x in out["linears"] if x["name"] in wanted]}


def count_parameters(config: str = "", shape: str = "") -> dict:
    """Count the trainable parameters of every arm of a configuration, by arithmetic: nothing is loaded.

    Args:
        config: settings as JSON, as a link or as the part of a link after '?c='; an empty text is the default run.
        shape: nano, minilm, smollm2, llama2-7b or llama2-13b; empty is the configuration's own backbone.

    Returns:
        the shape, its weights, and for each arm its name, method and trainable parameters.
    """
    with _told():
        settings = read(config)
        if shape and not (isinstance(shape, str) and shape in SHAPES):
            raise ConfigError(f"shape: {shape!r:.40} is not known; choose one of {', '.join(SHAPES)}.")
        model = SHAPES[shape] if shape else shape_of(settings)
        if model is None:
            raise ConfigError(f"shape: that of '{settings.backbone}' is not known before loading; choose one of {', '.join(SHAPES)}.")
        arms = [settings.arm(i) for i in range(len(settings.arms))]
        numbers = [count(a.adapter(), model, len(settings.tasks)) for a in arms]
    rows = zip(settings.arm_names(), arms, numbers, strict=True)
    arms = [{"arm": name, "method": a.method, "trainable": n} for name, a, n in rows]
    return {"shape": shape or settings.backbone, "weights": model.weights, "arms": arms}


def list_methods() -> list[dict]:
    """Every adapter method: its formula, the settings that its definition fixes, and the settings that it alone has."""
    return [
        {
            "name": name,
            "label": entry.label,
            "formula": METHODS[name].formula,
            "fixes": entry.fixes,
            "routes_by": entry.routes_by or "any router",
            "balance": entry.balance,
            "options": {n: dataclasses.asdict(o) for n, o in entry.options.items()},
        }
        for name, entry in METHODS.items()
    ]


def list_tasks() -> list[dict]:
    """Every task of the catalogue: what it asks, its licence and where it comes from. Real ones are fetched when a run first needs them."""
    return [dataclasses.asdict(task) for task in catalogue()]


def list_knobs() -> list[dict]:
    """Every setting of a run: its meaning, default, bounds or choices, key in links, and whether it may change while a run goes on."""
    return [dataclasses.asdict(knob) for knob in knobs()]


def place(lab: Lab) -> None:
    """Give the page its endpoints. Where there are MCP tools, those of a session stay callable but leave the list: what is listed is a tool."""
    own = WithSession(lab)
    listed = "undocumented" if tools() else "public"
    gr.api(own.start_run, api_name="start_run", api_visibility=listed, concurrency_limit=None)
    gr.api(own.read_frames, api_name="read_frames", api_visibility=listed, concurrency_limit=4)
    gr.api(own.route_text, api_name="route_text", api_visibility=listed, concurrency_limit=2)
    gr.api(own.exchange_gates, api_name="exchange_gates", api_visibility=listed, concurrency_limit=1)
    for pure in (count_parameters, list_methods, list_tasks, list_knobs):
        gr.api(pure, api_name=pure.__name__, queue=False)
