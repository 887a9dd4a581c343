"""The page's controls, made from the schema alone.

- `Controls`: builds a component for every knob and reads and fills them; `read(values)` gives a checked RunConfig.

What a newcomer meets: tasks, method, what to compare, and the knobs that are both quick and hot (they act while a run goes on).
The other quick knobs are one click away, the rest two, by the schema's own groups. "Compare by" is another way to write `arms`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from mosld.config import ARM_FIELDS, ConfigError, Knob, RunConfig, knobs, to_text
from mosld.registry import METHODS
from mosld.ui.wire import short

NOTHING, SEVERAL = "nothing (one arm)", "several settings"
_TITLES = {"tasks": "Weights and held-out tasks", "model": "Backbone"}
GROUPS = {k.group: _TITLES.get(k.group, k.group.capitalize()) for k in knobs() if k.kind != "arms"}
# What a teacher can hide by a link, and what it is called.
HIDEABLE = {"preset": "Preset", "compare": "Compare by", "shape": "Shape and length", **GROUPS, "own": "A task of your own", "link": "Link"}
LABELS = {
    "tasks": "Tasks",
    "method": "Method",
    "top_k": "Experts a token (top-k)",
    "experts": "Experts a linear",
    "lr": "Learning rate",
    "rank": "Rank",
    "dropout": "Dropout rate",
    "steps": "Steps",
    "dropout_on": "Dropout acts on",
    "share": "Shared matrix",
    "side": "Side of A",
    "held_out": "Held-out tasks",
    "max_tokens": "Tokens a text",
    "eval_every": "Steps between scorings",
    "eval_rows": "Rows scored a task",
    "probe_every": "Steps between probes",
    "weight_decay": "Weight decay",
    "balance": "Balance coefficient",
    "router": "The router reads",
    "options": "Settings of the method",
}


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " ").capitalize())


def _weights(text: str, count: int) -> list[float]:
    """`2, 1` to numbers; empty is 1 each. Raises ConfigError."""
    parts = [p.strip() for p in (text or "").split(",") if p.strip()]
    if not parts:
        return [1.0] * count
    try:
        numbers = [float(p) for p in parts]
    except ValueError:
        raise ConfigError(f"weights: '{text[:60]}' is not allowed; give numbers separated by commas, one a task.") from None
    if len(numbers) != count:
        raise ConfigError(f"weights: {len(numbers)} are given for {count} tasks; give one a task, or none for equal weights.")
    return numbers


class Controls:
    """Components by name, in the order in which handlers get their values."""

    def __init__(self, tasks: list[tuple[str, str]]):
        """`tasks`: (label, name) of every task in the catalogue."""
        self.tasks = tasks
        self.knobs = {k.name: k for k in knobs() if k.kind != "arms"}
        self.default = RunConfig()
        self.parts: dict[str, gr.components.Component] = {}

    # Building. Each method adds components where it is called.

    def front(self) -> None:
        self.add(*(k.name for k in self.knobs.values() if k.quick and k.hot))

    def compare(self) -> None:
        """What the arms differ in, and their values."""
        by, values = self._arms_to_parts(self.default)
        self.parts["by"] = gr.Dropdown(
            [(NOTHING, NOTHING), *[(label(n), n) for n in ARM_FIELDS], (SEVERAL, SEVERAL)], value=by, label="Compare by", elem_id="knob-by"
        )
        self.parts["values"] = gr.Textbox(values, label="One value an arm", elem_id="knob-values", max_length=400)

    def shape(self) -> None:
        self.add(*(k.name for k in self.knobs.values() if k.quick and not k.hot and k.name != "tasks"))

    def rest(self) -> dict[str, gr.Accordion]:
        """A fold for each group of the schema that still has knobs; given back by group, so that a link can hide them."""
        folds = {}
        for group in dict.fromkeys(k.group for k in self.knobs.values()):
            left = [k.name for k in self.knobs.values() if k.group == group and k.name not in self.parts]
            if left:
                with gr.Accordion(GROUPS[group], open=False, elem_id=f"fold-{group}") as folds[group]:
                    if group == "tasks":
                        self._weights()
                    self.add(*left)
        return folds

    def _weights(self) -> None:
        info = "Of the tasks above, in their order, such as 2, 1, 1."
        self.parts["weights"] = gr.Textbox(label="Weights of the mixture", placeholder="equal", info=info, elem_id="knob-weights", max_length=400)

    def add(self, *names: str) -> None:
        """A component for each of these knobs."""
        for name in names:
            self._add(name)

    def _add(self, name: str) -> None:
        knob = self.knobs[name]
        common = {
            "label": label(name),
            "info": None if (knob.quick and name != "experts") or name in ("method", "router") else knob.help,
            "elem_id": f"knob-{name}",
        }
        common["visible"] = name not in self.settled(*self._arms_to_parts(self.default))
        value = self._shown(knob, knob.default)
        if name in ("tasks", "held_out"):
            part = gr.Dropdown(self.tasks, value=value, multiselect=True, allow_custom_value=True, **common)
        elif knob.choices:
            texts = [(METHODS[c].label if name == "method" else str(c), c) for c in knob.choices]
            part = gr.Dropdown(texts, value=value, allow_custom_value=True, **common)
        elif knob.kind == "float" and knob.low == 0 and knob.high is not None and knob.high <= 1:  # a share
            part = gr.Slider(0, knob.high, value=value, step=0.01, buttons=[], **common)
        elif knob.kind in ("int", "float") and knob.default is not None:
            part = gr.Number(value=value, **common)
        else:
            part = gr.Textbox(value, max_length=400, **common)
        self.parts[name] = part

    # Compare by.

    def suggestion(self, name: str) -> str:
        """Two values to compare, the default among them where it can be: a start that a visitor may change."""
        knob = self.knobs.get(name)
        if knob is None:
            return to_text("arms", self.default.arms) if name == SEVERAL else ""
        now = knob.default
        others = [c for c in knob.choices or () if c != now]
        if knob.kind in ("int", "float"):
            others = [v for v in (knob.low, now and now * 2) if v is not None]
        elif name == "experts":
            others = ["2"]
        for other in others:
            pair = [other, now] if knob.choices or other != (now and now * 2) else [now, other]
            text = ", ".join(to_text(name, v) for v in pair)
            try:
                RunConfig(arms=f"{name}={text}")
            except ConfigError:
                continue
            return text
        return ""

    def settled(self, by: Any, values: Any) -> set[str]:
        """Names of the knobs that the arms settle, whose own controls therefore say nothing."""
        if by == SEVERAL:
            return {part.partition("=")[0].strip() for part in str(values or "").split(";")}
        return {str(by)}

    # Values.

    @property
    def single(self) -> list[str]:
        """Controls of one knob that arms may differ in."""
        return [name for name in self.parts if name in ARM_FIELDS]

    @property
    def inputs(self) -> list:
        return list(self.parts.values())

    def _shown(self, knob: Knob, value: Any) -> Any:
        """A knob's value as its component holds it."""
        if knob.kind == "tasks" or knob.name == "held_out":
            return list(value)
        if (knob.kind in ("int", "float") and knob.default is not None) or knob.choices:
            return value
        return to_text(knob.name, value)

    def _arms_to_parts(self, config: RunConfig) -> tuple[str, str]:
        names = list(dict.fromkeys(n for arm in config.arms for n in arm))
        if not names:
            return NOTHING, ""
        text = to_text("arms", config.arms)
        if len(names) == 1:
            return names[0], text.partition("=")[2].replace(",", ", ")
        return SEVERAL, text

    def fill(self, config: RunConfig) -> list:
        """The values of all components that show `config`."""
        by, values = self._arms_to_parts(config)
        weights = [f"{w:g}" for w in config.tasks.values()]
        own = {"by": by, "values": values, "weights": "" if set(weights) == {"1"} else ", ".join(weights)}
        return [own[n] if n in own else self._shown(self.knobs[n], getattr(config, n)) for n in self.parts]

    def read(self, *values) -> RunConfig:
        """A checked configuration from the components' values. Raises ConfigError."""
        given = dict(zip(self.parts, values, strict=True))
        out: dict[str, Any] = {}
        for name, knob in self.knobs.items():
            value = given[name]
            if name == "tasks":
                chosen = self._names(value)
                value = dict(zip(chosen, _weights(given["weights"], len(chosen)), strict=True)) if chosen else {}
            elif name == "held_out":
                value = tuple(self._names(value))
            elif name == "balance" and (value is None or str(value).strip() in ("", "own")):
                value = None
            elif value is None:
                raise ConfigError(f"{name}: it is empty; {knob.help[0].lower()}{knob.help[1:]}")
            elif knob.kind == "int" and isinstance(value, float) and value.is_integer():
                value = int(value)
            if value != knob.default and to_text(name, value) != to_text(name, knob.default):
                out[name] = value
        return RunConfig(**out, arms=self._arms(given["by"], given["values"]))

    def read_one(self, name: str, value: Any) -> Any:
        """One knob's checked value. Raises ConfigError."""
        if name == "balance" and (value is None or str(value).strip() in ("", "own")):
            return None
        return getattr(RunConfig(**{name: value, "arms": ({},)}), name)

    @staticmethod
    def _names(value: Any) -> list[str]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise ConfigError("tasks: give a list of names.")
        return list(dict.fromkeys(value))

    @staticmethod
    def _arms(by: Any, values: Any) -> Any:
        by, values = str(by or NOTHING), str(values or "")
        if by == NOTHING:
            return ({},)
        if by == SEVERAL:
            return values
        if not values.strip():
            raise ConfigError(f"arms: no value of {by} is given; give one an arm, such as 0, 0.1.")
        return f"{by}={values}"


def task_choices(catalogue) -> list[tuple[str, str]]:
    """(label, name) of the catalogue's tasks for a list of choices."""
    return [(short(t.name) if t.suite == "world" else f"{short(t.name)} ({t.suite})", t.name) for t in catalogue]
