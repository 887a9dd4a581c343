"""The one schema: every knob of the lab with its type, bounds, default, help, group and short link key.

- `AdapterConfig`: what is attached to a model. `RunConfig`: that, plus tasks, backbone, optimiser and arms.
- `knobs()`: the fields as plain records. The command line, the app's controls and the reference table are made from it.
- `to_url` / `from_url`, `to_json` / `from_json`: a configuration as a short versioned link and as JSON.

Nothing here imports torch. Every refusal is a `ConfigError`: one sentence with field, value and what is allowed.
"""

from __future__ import annotations

import json
import math
import re
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mosld.registry import BACKBONES, METHODS, NO_ROUTER
from mosld.texts import choose, plain, read_arms, read_experts, read_names, read_options, read_tasks, shown, to_text, unfit

LINK_VERSION = "1"
LINK_LIMIT = 4000


class ConfigError(ValueError):
    """A setting that cannot be used: one sentence with the field, its value and what is allowed.

    What a sentence quotes of a user's text is cut short, and characters that move a cursor or belong to no text are written out. Where torch raises
    again what a copy of a model or a worker of a data loader raised, it puts the traceback before the sentence: that is left out.
    """

    def __init__(self, sentence: str):
        sentence = str(sentence)
        if sentence.startswith("Caught ConfigError in "):
            sentence = sentence.rpartition("ConfigError: ")[2].strip()
        super().__init__(plain(sentence))


def setting(default, help, group, key, **extra):
    """A pydantic field with the lab's own facts: group of controls, link key, whether it may change during a run."""
    bounds = {k: extra.pop(k) for k in ("ge", "le", "gt", "pattern", "max_length", "min_length") if k in extra}
    return Field(default=default, description=help, json_schema_extra={"group": group, "key": key, **extra}, **bounds)


class Strict(BaseModel):
    """A frozen model that knows its fields and no others. Raises ConfigError: one sentence for the first problem."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_sentence(type(self), error)) from None
        except UnicodeEncodeError as error:  # of pydantic's, which cannot name such a value
            raise ConfigError(f"config: {shown(str(error.object))} holds half a character; give whole characters.") from None

    def replace(self, /, **changes):
        """A checked copy with some fields changed. Raises ConfigError."""
        return type(self)(**{**self.model_dump(), **changes})


class AdapterConfig(Strict):
    """What `adapters.attach` needs. Symbols as in arXiv 2412.08946: rank r, alpha, E experts, top-K, dropout rate p."""

    method: str = setting("mosld", "Adapter method.", "adapter", "m", choices=tuple(METHODS))
    rank: int = setting(8, "Rank r of every low-rank expert.", "adapter", "r", ge=1, le=256, quick=True)
    alpha: float = setting(16.0, "Scale: the update is multiplied by alpha / rank.", "adapter", "al", gt=0, le=1024)
    experts: Annotated[str, BeforeValidator(read_experts)] = setting(
        "4",
        "Experts a linear: one number, or one per group of layers from bottom to top, as in 2-4-6-8 (0 leaves a group without adapters).",
        "adapter",
        "e",
        pattern=r"^[0-9]{1,2}(-[0-9]{1,2}){0,31}$",
        allowed="a number such as 4, or numbers joined by '-', such as 2-4-6-8, each up to 64",
        quick=True,
    )
    top_k: int = setting(
        2, "Experts each token is sent to; 0 is dense routing, where all experts take part.", "adapter", "k", ge=0, le=64, quick=True
    )
    dropout: float = setting(0.1, "Dropout rate p.", "adapter", "p", ge=0, le=0.9, hot=True, quick=True)
    dropout_on: Literal["A", "B", "activations", "none"] = setting(
        "A", "Where dropout acts: on the weights of A (the paper's), on the weights of B, or on the adapter's input.", "adapter", "po"
    )
    share: Literal["A", "B", "none"] = setting("A", "Which matrix all experts of a linear share.", "adapter", "sh")
    side: Literal["input", "output"] = setting(
        "input",
        "Which side A is on: the paper's initial values put A next to the input, its printed shapes next to the output.",
        "adapter",
        "sd",
    )
    balance: float | None = setting(
        None, "Coefficient of the load-balance loss; empty takes the method's own.", "adapter", "b", ge=0, le=10, hot=True, text="own"
    )
    router: Literal["token", "text", "instruction", "task", "random", "hash", "uniform"] = setting(
        "token",
        "What the router reads: each token (the papers'), the mean of the text or of its instruction, which task it is, a token without ever "
        "learning (random), the token's id by a fixed table (hash), or nothing (uniform). In a causal model it never reads ahead.",
        "router",
        "ro",
    )
    renormalise: Literal["yes", "no"] = setting(
        "yes",
        "Whether the gates of the chosen experts are divided by their sum. With one expert a token (top_k 1) that makes every gate 1, and the "
        "router learns from the balance loss alone.",
        "router",
        "rn",
    )
    router_lr: float = setting(1.0, "Learning rate of the router, as a multiple of the others'.", "router", "rl", ge=0, le=1000)
    router_noise: float = setting(0.0, "Standard deviation of Gaussian noise on the router's logits, in training only.", "router", "rz", ge=0, le=100)
    z_loss: float = setting(
        0.0, "Coefficient of the router's z-loss, the mean square of log sum exp of its logits (arXiv 2202.08906).", "router", "zl", ge=0, le=10
    )
    targets: Annotated[tuple[str, ...], BeforeValidator(read_names)] = setting(
        ("q", "v"),
        "Linears that get adapters: q, k, v, o, up, down, gate, the end of a module's name, all-linear, or re: and a regular expression "
        "that fits a whole name (to the end of the text).",
        "adapter",
        "tg",
        min_length=1,
        allowed="at least one name, such as q,v",
    )
    exclude: Annotated[tuple[str, ...], BeforeValidator(read_names)] = setting(
        (), "Linears that get none although the targets name them, written as the targets are.", "adapter", "xt"
    )
    options: Annotated[dict[str, float | str], BeforeValidator(read_options)] = setting(
        {}, "Settings that only this method has, as name=value.", "adapter", "o"
    )

    @model_validator(mode="after")
    def _check_method(self):
        if self.method not in METHODS:
            raise ConfigError(f"method: {self.method!r:.60} is not known; {choose(self.method, METHODS)}.")
        counts = self.expert_counts
        if max(counts) > 64 or max(counts) < 1:
            raise ConfigError(f"experts: '{self.experts}' is not allowed; give numbers from 0 to 64, not all 0.")
        fixes = METHODS[self.method].fixes
        used = [c for c in (_counts(fixes.get("experts", self.experts))) if c]
        top_k = fixes.get("top_k", self.top_k)
        if top_k > min(used):
            raise ConfigError(f"top_k: {top_k} is above the number of experts, {min(used)}; choose at most {min(used)}, or 0 for dense routing.")
        self.__dict__["options"] = _check_options(self.method, self.options)
        for field in ("targets", "exclude"):
            names = getattr(self, field)
            for name in names:
                _check_regex(field, name)
            _check_names(field, tuple(name for name in names if not name.startswith("re:")), ",+;")
            if any(name.startswith("re:") for name in names[:-1]):
                raise ConfigError(f"{field}: a regular expression goes on to the end of the text; put one, and last.")
        routes_by = METHODS[self.method].routes_by
        if routes_by and routes_by != NO_ROUTER and self.router != "token":
            raise ConfigError(f"router: {self.router} is not allowed; {self.label} routes by {routes_by}: leave the router at token.")
        return self

    @property
    def expert_counts(self) -> tuple[int, ...]:
        """Experts of each group of layers, bottom to top."""
        return _counts(self.experts)

    def option(self, name: str) -> float | str:
        """The value of one of the method's own settings."""
        return self.options.get(name, METHODS[self.method].options[name].default)

    @property
    def label(self) -> str:
        return METHODS[self.method].label

    def effective(self):
        """The configuration with what the method fixes put in and the balance coefficient filled in."""
        entry = METHODS[self.method]
        dense = {"top_k": 0} if self.router == "uniform" and not entry.routes_by else {}
        return self.replace(**{**entry.fixes, **dense}, balance=entry.balance if self.balance is None else self.balance)

    def ignored(self) -> list[str]:
        """One sentence for each explicitly set knob that the method's definition, or another setting, leaves without effect."""
        return self._fixed() + self._idle()

    def _fixed(self) -> list[str]:
        fixes = METHODS[self.method].fixes
        return [
            f"{name}: {self.label} fixes it at {to_text(name, value)}; {to_text(name, getattr(self, name))} is ignored."
            for name, value in fixes.items()
            if name in self.model_fields_set and getattr(self, name) != value
        ]

    def _idle(self) -> list[str]:
        """Of the router's settings."""
        moved = [n for n in ROUTING if n in self.model_fields_set and getattr(self, n) != type(self).model_fields[n].default]
        routes_by, out = METHODS[self.method].routes_by, []
        if routes_by:
            left = [n for n in moved if not (n == "router_lr" and routes_by != NO_ROUTER)]
            return [f"{n}: {self.label} routes by {routes_by}; {to_text(n, getattr(self, n))} is ignored." for n in left]
        top_k = self.effective().top_k
        if self.router in ("hash", "uniform"):
            out += [f"{n}: the gates of router {self.router} are fixed; {to_text(n, getattr(self, n))} is ignored." for n in moved if n != "router"]
        elif self.router == "random" and "router_lr" in moved:
            out.append("router_lr: router random is never trained; it is ignored.")
        if self.router == "uniform" and "top_k" in self.model_fields_set and self.top_k:
            out.append(f"top_k: router uniform takes every expert; {self.top_k} is ignored.")
        if "renormalise" in moved and top_k == 0 and self.router not in ("hash", "uniform"):
            out.append("renormalise: dense gates sum to 1 without it; no is ignored.")
        if top_k == 1 and self.renormalise == "yes" and max(self.expert_counts) > 1 and self.router not in ("hash", "random"):
            out.append(
                "renormalise: with one expert a token every gate is 1, so the router learns from the balance loss alone; renormalise=no lets it "
                "learn from the task."
            )
        return out

    def adapter(self) -> AdapterConfig:
        """The part that `attach` takes."""
        return AdapterConfig(**{name: getattr(self, name) for name in AdapterConfig.model_fields})


def _check_regex(field: str, name: str) -> None:
    """Raises ConfigError for a name that begins with re: and is no regular expression."""
    if name.startswith("re:"):
        if fault := unfit(name, ""):
            raise ConfigError(f"{field}: {shown(name)} is not allowed; {fault}.")
        try:
            re.compile(name[3:])
        except re.error as error:
            raise ConfigError(f"{field}: '{name[:60]}' is no regular expression ({error}); write re: and one that fits whole names.") from None


def _check_names(field: str, names: tuple[str, ...], marks: str) -> None:
    """Refuse names that a link cannot hold, as `marks` separate them there. Raises ConfigError."""
    for name in names:
        if fault := unfit(name, marks, field == "instruction"):
            raise ConfigError(f"{field}: {shown(name)} is not allowed; {fault}.")


ROUTING = ("router", "renormalise", "router_lr", "router_noise", "z_loss")


def _check_options(method: str, given: dict[str, Any]) -> dict[str, float | str]:
    """The method's own settings as numbers, or as names where it has choices. Raises ConfigError, naming the setting and what is allowed."""
    known, out = METHODS[method].options, {}
    for name, value in given.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"options: '{name}' is not a setting of {METHODS[method].label}; {has}.")
        if known[name].choices:
            if value not in known[name].choices:
                raise ConfigError(f"options: {name}={shown(value)} is not allowed; choose one of {', '.join(known[name].choices)}.")
            out[name] = value
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not known[name].low <= number <= known[name].high:
            raise ConfigError(f"options: {name}={shown(value)} is not allowed; give a number from {known[name].low:.12g} to {known[name].high:.12g}.")
        out[name] = number
    return out


def _counts(experts: str) -> tuple[int, ...]:
    return tuple(int(n) for n in experts.split("-"))


class RunConfig(AdapterConfig):
    """A whole run: tasks and weights, backbone, adapter, optimiser, steps, batch, seed, arms."""

    tasks: Annotated[dict[str, float], BeforeValidator(read_tasks)] = setting(
        {f"world/{name}": 1.0 for name in ("mood", "meant", "place", "tense", "actor", "kind")},
        "Tasks of the mixture, with weights as in name:2; a file of your own (.csv, .jsonl, .json, .tsv, .parquet) is a task too.",
        "tasks",
        "t",
        quick=True,
    )
    held_out: Annotated[tuple[str, ...], BeforeValidator(read_names)] = setting(
        (), "Tasks that are scored but never trained on (out of domain).", "tasks", "ho"
    )
    instruction: str = setting(
        "",
        "Put before each question of your own files, as in 'Sentiment'; empty puts nothing.",
        "tasks",
        "in",
        max_length=80,
        allowed="at most 80 letters",
    )
    backbone: str = setting("nano", f"Frozen model: {', '.join(BACKBONES)}, or the hub id of an encoder or a causal language model.", "model", "bb")
    layers: int = setting(0, "Keep only the first layers of the backbone; 0 keeps all.", "model", "ly", ge=0, le=200)
    max_tokens: int = setting(64, "Longer texts are cut to this many tokens.", "model", "mt", ge=8, le=512)
    temperature: float = setting(
        0.05, "Encoders: cosine similarities are divided by this before the softmax over options.", "model", "te", ge=0.005, le=1
    )
    optimiser: Literal["adamw", "sgd"] = setting("adamw", "Optimiser of the adapters.", "training", "op")
    lr: float = setting(3e-3, "Learning rate.", "training", "lr", gt=0, le=100, hot=True, quick=True)
    weight_decay: float = setting(0.0, "Weight decay of the optimiser.", "training", "wd", ge=0, le=1)
    warmup: int = setting(10, "Steps over which the learning rate rises from 0.", "training", "wu", ge=0, le=10000)
    steps: int = setting(150, "Optimiser steps.", "training", "n", ge=1, le=100000, quick=True)
    batch: int = setting(16, "Questions a step, drawn from the mixture.", "training", "bs", ge=1, le=512)
    seed: int = setting(0, "Seed of data, batches, initial values and dropout masks.", "training", "s", ge=0, le=2**31 - 1, quick=True)
    eval_every: int = setting(
        25, "Steps between scorings on validation rows; the start and the end are always scored.", "measuring", "ee", ge=1, le=100000
    )
    eval_rows: int = setting(100, "Rows of each task that are scored.", "measuring", "er", ge=10, le=5000)
    probe_every: int = setting(2, "Steps between probes of router, norms and imbalance.", "measuring", "pe", ge=1, le=1000)
    arms: Annotated[tuple[dict[str, Any], ...], BeforeValidator(read_arms)] = setting(
        ({"dropout": 0.0}, {"dropout": 0.1}),
        "What the arms differ in, one value an arm: dropout=0,0.1 or method=lora,mosld;dropout=0,0.1. Empty is one arm.",
        "arms",
        "a",
        max_length=6,
    )

    @model_validator(mode="after")
    def _check_run(self):
        if not self.tasks:
            raise ConfigError("tasks: none is chosen; choose at least one.")
        for field, texts, marks in (
            ("tasks", tuple(self.tasks), ","),
            ("held_out", self.held_out, ",+"),
            ("backbone", (self.backbone,), ""),
            ("instruction", (self.instruction,), ""),
        ):
            _check_names(field, texts, marks)
        if len(set(self.held_out)) < len(self.held_out):
            raise ConfigError(f"held_out: '{next(n for n in self.held_out if self.held_out.count(n) > 1)}' is named twice.")
        for name, weight in self.tasks.items():
            if not 0 < weight <= 1000:
                raise ConfigError(f"tasks: the weight of {name!r:.60}, {weight:g}, is not allowed; give a number above 0 and up to 1000.")
        both = [name for name in self.held_out if name in self.tasks]
        if both:
            raise ConfigError(f"held_out: '{both[0]}' is also in the mixture; a held-out task must not be trained on.")
        if self.backbone not in BACKBONES and "/" not in self.backbone:
            raise ConfigError(f"backbone: {self.backbone!r:.60} is not known; choose {', '.join(BACKBONES)}, or a hub id such as owner/name.")
        if not self.arms:
            raise ConfigError("arms: there is none; give at least one.")
        for arm in self.arms:
            for name in arm:
                if name not in ARM_FIELDS:
                    raise ConfigError(f"arms: '{name}' cannot differ between arms; choose among {', '.join(ARM_FIELDS)}.")
        names = list(dict.fromkeys(name for arm in self.arms for name in arm))
        if len(self.arms) > 1:
            if any(mark in name for arm in self.arms for field in ("targets", "exclude") for name in arm.get(field, ()) for mark in ",;"):
                raise ConfigError("arms: a regular expression with ',' or ';' cannot differ between arms; write it without.")
            if not names:
                raise ConfigError(f"arms: {len(self.arms)} arms that name no field are not allowed; name what differs, as in dropout=0,0.1.")
            self.__dict__["arms"] = tuple({name: arm.get(name, getattr(self, name)) for name in names} for arm in self.arms)
        typed = [self.arm(index) for index in range(len(self.arms))]
        self.__dict__["arms"] = tuple({k: getattr(own, k) for k in arm} for own, arm in zip(typed, self.arms, strict=True))
        if (length := len(self.to_url())) > LINK_LIMIT:
            raise ConfigError(f"tasks: names and settings make a link of {length} characters; at most {LINK_LIMIT} are read. Use shorter names.")
        return self

    def arm(self, index: int) -> RunConfig:
        """The configuration of one arm: its own values put in. Raises ConfigError, naming the field."""
        if self.arms == ({},):
            return self
        own = {k: v for k, v in self.model_dump(exclude={"arms"}).items() if k in self.model_fields_set}
        return RunConfig(**{**own, **self.arms[index], "arms": ({},)})

    def arm_names(self) -> list[str]:
        """A short label for each arm, made of what it differs in."""
        return [", ".join(f"{k} {to_text(k, v)}" for k, v in arm.items()) or self.arm(i).label for i, arm in enumerate(self.arms)]

    def to_url(self) -> str:
        """The value of the `c` parameter of a link: the version and every value that is not the default."""
        parts = [LINK_VERSION]
        for knob in knobs():
            value = getattr(self, knob.name)
            if value != knob.default:
                parts.append(f"{knob.key}.{quote(to_text(knob.name, value), safe='/:,=-.')}")
        return "!".join(parts)

    @classmethod
    def from_url(cls, text: str) -> RunConfig:
        """The configuration a link holds. Raises ConfigError on anything unknown or out of bounds."""
        if len(text) > LINK_LIMIT:
            raise ConfigError(f"link: {len(text)} characters are too many; at most {LINK_LIMIT} are read.")
        version, *parts = text.split("!")
        if version != LINK_VERSION:
            raise ConfigError(f"link: version '{version[:20]}' is not known; this lab reads version {LINK_VERSION}.")
        names = {k.key: k.name for k in knobs()}
        values: dict[str, str] = {}
        for part in parts:
            key, dot, value = part.partition(".")
            if not dot or key not in names:
                raise ConfigError(f"link: '{key[:20]}' is not a known setting; the settings are {', '.join(names)}.")
            if names[key] in values:
                raise ConfigError(f"link: '{names[key]}' is given twice; give it once.")
            values[names[key]] = unquote(value)
        return cls.from_texts(values)

    @classmethod
    def from_texts(cls, values: dict[str, str]) -> RunConfig:
        """A configuration from texts as typed on the command line or found in a link."""
        return cls(**{k: None if k == "balance" and v == "own" else v for k, v in values.items()})

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1)

    @classmethod
    def from_json(cls, text: str) -> RunConfig:
        """Read what `to_json` wrote. Raises ConfigError."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"config: line {error.lineno} is not JSON ({error.msg}).") from None
        except RecursionError:
            raise ConfigError("config: it is nested too deeply; give one JSON object of settings.") from None
        except ValueError:  # Python reads no number of more than some thousands of digits
            raise ConfigError("config: a number in it has too many digits.") from None
        if not isinstance(values, dict):
            raise ConfigError("config: the file must hold one JSON object.")
        return cls(**values)


def whole(name: str, text: Any, low: int, high: int) -> int:
    """A whole number from `low` to `high`, from a text as typed or a number. Raises ConfigError, naming it `name`."""
    text = str(text) if isinstance(text, int) and not isinstance(text, bool) and abs(text) < 10**18 else text
    if isinstance(text, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) and low <= int(text) <= high:
        return int(text)
    raise ConfigError(f"{name}: {shown(text)} is not allowed; give a whole number from {low} to {high}.")


ARM_FIELDS = (*AdapterConfig.model_fields, "optimiser", "lr", "weight_decay", "warmup")


@dataclass(frozen=True)
class Knob:
    """One field of the schema, as the command line, the app and the reference table need it."""

    name: str
    key: str
    group: str
    help: str
    kind: str  # int, float, str, choice, tasks, names, options, arms
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...] | None
    hot: bool  # may change during a run
    quick: bool  # among the few controls a newcomer meets


def knobs(model: type[BaseModel] = RunConfig) -> list[Knob]:
    """Every knob of the schema, in order."""
    out = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        args = [a for a in typing.get_args(info.annotation) if a is not type(None)] if _optional(info.annotation) else [info.annotation]
        kind = args[0]
        choices = extra.get("choices")
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
        special = {"tasks": "tasks", "held_out": "names", "targets": "names", "exclude": "names", "options": "options", "arms": "arms"}
        low = high = None
        for bound in info.metadata:
            low = getattr(bound, "ge", getattr(bound, "gt", low))
            high = getattr(bound, "le", high)
        kind_name = special.get(name) or ("choice" if choices else {int: "int", float: "float"}.get(kind, "str"))
        out.append(
            Knob(
                name,
                extra["key"],
                extra["group"],
                info.description,
                kind_name,
                info.default,
                low,
                high,
                choices,
                extra.get("hot", False),
                extra.get("quick", False),
            )
        )
    return out


def _optional(annotation) -> bool:
    return type(None) in typing.get_args(annotation)


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem of a pydantic error as one sentence: field, value, what is allowed."""
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    reason = problem.get("ctx", {}).get("error")
    if isinstance(reason, ConfigError):
        return str(reason)
    if name not in model.model_fields:
        return f"{name[:40]}: this is not a known setting; the settings are {', '.join(model.model_fields)}."
    info = model.model_fields[name]
    value = problem["input"]
    given = "an empty value" if value in ("", (), [], {}) else shown(value)
    if reason is not None:
        return f"{name}: {str(reason).rstrip('.')}."
    knob = next(k for k in knobs(model) if k.name == name)
    if info.json_schema_extra.get("allowed"):
        allowed = "give " + info.json_schema_extra["allowed"]
    elif knob.choices:
        allowed = choose(value if isinstance(value, str) else "", list(map(str, knob.choices)))
    elif knob.low is not None and knob.high is not None:
        above = "above " if any(getattr(b, "gt", None) is not None for b in info.metadata) else "from "
        joiner = " and up to " if above == "above " else " to "
        whole = "a whole number " if knob.kind == "int" else "a number "
        allowed = f"give {whole}{above}{knob.low:.12g}{joiner}{knob.high:.12g}"
    else:
        allowed = problem["msg"].rstrip(".").lower()
    return f"{name}: {given} is not allowed; {allowed}."
