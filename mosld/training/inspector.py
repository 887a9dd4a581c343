"""The router under the glass: real gates of one text, and what muting or forcing an expert does to answers and accuracy.

- `Inspector.route`: tokens of a question, the gates each adapted linear gave them, the option scores.
- `Inspector.steered`: a block inside which an expert is muted (it gets no token) or forced (it gets every token).
- `Inspector.accuracy`: share of a task's validation rows answered right, steered or not.
- `Inspector.exchanged`: a block inside which the gates are dealt out anew. `contribution`: the accuracy then, which says what routing is good for.
- `route_text`: all of this for one text as plain JSON-able values, for the page, the API and scripts.

Experts and arms are counted from 0. Shapes: E experts, L tokens of the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mosld.adapters.adapter import Adapter
from mosld.config import ConfigError
from mosld.registry import METHODS
from mosld.tasks.base import Example
from mosld.training.trainer import SCORE_ROWS, Trainer

EXCHANGES = {
    "tokens": "every token gets the gates of another token, of any text of the batch",
    "texts": "every text gets the gates of another text, token by token",
    "mean": "every token gets the mean of the layer's gates over all tokens",
}


@dataclass(frozen=True)
class Routed:
    """What one question met. `gates` and `probabilities`: linear name -> [E][L]; `scores`: softmax over the options."""

    tokens: list[str]
    gates: dict[str, list[list[float]]]
    probabilities: dict[str, list[list[float]]]
    scores: list[float]


class Inspector:
    """Looks at one arm of a trainer, between steps. Raises ConfigError for an arm that is not there."""

    def __init__(self, trainer: Trainer, arm: int = 0):
        if not 0 <= arm < len(trainer.arms):
            raise ConfigError(f"arm: {arm} is not allowed; give a whole number from 0 to {len(trainer.arms) - 1}.")
        self.trainer, self.arm = trainer, trainer.arms[arm]
        self.adapters = {a.site.name: a for a in self.arm.handle.adapters}

    @torch.inference_mode()
    def route(self, question: str, options: tuple[str, ...] | list[str], task: int = 0) -> Routed:
        """Gates of every token of `question` and the scores of its options.

        `task`, an index among the trainer's tasks, matters to task-routed methods only; a held-out task is put to them as the mixture's
        last. A decoder reads question and first option as one text. Raises ConfigError for an empty text.
        """
        if not question.strip() or not options or not all(o.strip() for o in options):
            raise ConfigError("text: it is empty; give a sentence and at least one option.")
        backbone = self.trainer.backbone
        batch = self.trainer.place(backbone.batch([Example(question, tuple(options), 0)], [min(task, self.trainer.mixture_size - 1)]))
        scores = self.arm.score(batch)[0].softmax(0)
        row = int(batch.question_row[0]) if batch.question_row[0] >= 0 else int(batch.option_row[0, 0])
        real = batch.attention_mask[row].bool()
        length = batch.input_ids.shape[1]
        gates, probabilities = {}, {}
        for name, adapter in self.adapters.items():
            last = adapter.last
            if last is None or last.shape[:2] != batch.input_ids.shape:
                continue
            of_row = slice(row * length, (row + 1) * length)
            gates[name] = last.gate[:, of_row][:, real].tolist()
            probabilities[name] = last.probabilities[:, of_row][:, real].tolist()
        tokens = backbone.tokenizer.convert_ids_to_tokens(batch.input_ids[row][real].tolist())
        return Routed(tokens, gates, probabilities, scores.tolist())

    @contextmanager
    def steered(self, expert: int, force: bool = False, linears: list[str] | None = None) -> Iterator[Inspector]:
        """Inside the block, `expert` (from 0) is muted, or with `force` takes every token, in `linears` (all routed ones by default).

        Raises ConfigError for an expert or a linear that is not there, and for a method whose gate cannot be steered.
        """
        chosen = [a for a in self.routed if linears is None or a.site.name in linears]
        if not chosen or not all(a.steerable for a in chosen):
            raise ConfigError(f"expert: {self.arm.config.label} has no token router here that could be steered.")
        low = min(a.site.experts for a in chosen)
        if not 0 <= expert < low:
            raise ConfigError(f"expert: {expert} is not allowed; give a whole number from 0 to {low - 1}.")
        for a in chosen:
            steer = torch.full((a.site.experts,), -torch.inf if force else 0.0, device=a.weight.device, dtype=a.weight.dtype)
            steer[expert] = 0.0 if force else -torch.inf
            a.steer = steer
        try:
            yield self
        finally:
            for a in chosen:
                a.steer = None

    @contextmanager
    def exchanged(self, way: str, seed: int = 0) -> Iterator[Inspector]:
        """Inside the block every routed linear's gates are exchanged in one of the EXCHANGES among a batch's real tokens or texts.

        Nothing is trained again, so what accuracy loses is what the model makes of who is sent where. Raises ConfigError for another way, and
        for a method whose gates are not made by a router of its linears.
        """
        if way not in EXCHANGES:
            raise ConfigError(f"exchange: '{way}' is not known; choose {', '.join(EXCHANGES)}.")
        if not self.routed or METHODS[self.arm.config.method].routes_by:
            raise ConfigError(
                f"exchange: {self.arm.config.label} routes by {METHODS[self.arm.config.method].routes_by or 'nothing'}; there is no gate."
            )
        for a in self.routed:
            a.swap = _Exchange(way, a, seed)
        try:
            yield self
        finally:
            for a in self.routed:
                a.swap = None

    @torch.inference_mode()
    def mixed_accuracy(self, rows: int = SCORE_ROWS, part: str = "validation") -> dict[str, float]:
        """Task -> share of its first `rows` rows answered right, with the tasks of the mixture side by side in every batch: gates that are
        exchanged then go from task to task too."""
        trainer = self.trainer
        tasks = trainer.tasks[: trainer.mixture_size]
        left = [list(getattr(t, part)[:rows]) for t in tasks]
        order = [(i, n) for n in range(max(map(len, left))) for i in range(len(tasks)) if n < len(left[i])]
        right = [0] * len(tasks)
        for start in range(0, len(order), SCORE_ROWS):
            chunk = order[start : start + SCORE_ROWS]
            batch = trainer.place(trainer.backbone.batch([left[i][n] for i, n in chunk], [i for i, _ in chunk]))
            hits = (self.arm.score(batch).argmax(1) == batch.answer).tolist()
            for (i, _), hit in zip(chunk, hits, strict=True):
                right[i] += hit
        return {t.name: r / len(own) for t, r, own in zip(tasks, right, left, strict=True)}

    @torch.inference_mode()
    def accuracy(self, name: str, rows: int = SCORE_ROWS) -> float:
        """Share of the first `rows` validation rows of one of the run's tasks that the arm answers right."""
        index = self.task(name)
        return self.trainer.accuracy(self.arm, index, self.trainer.tasks[index].validation[:rows])

    def task(self, name: str) -> int:
        """Index of a task of the run, held-out ones at the end. Raises ConfigError."""
        names = [t.name for t in self.trainer.tasks]
        if name not in names:
            raise ConfigError(f"task: '{name}' is not one of this run; choose {', '.join(names)}.")
        return names.index(name)

    @property
    def routed(self) -> list[Adapter]:
        """The adapters that have gates."""
        return [a for a in self.adapters.values() if a.site.experts > 1]

    @property
    def steerable(self) -> bool:
        """Whether experts can be muted and forced: some linear has a router, and every router looks at tokens."""
        return bool(self.routed) and all(a.steerable for a in self.routed)


class _Exchange:
    """The gates [E, N] of one pass of one adapter, dealt out anew. Padding keeps its own."""

    def __init__(self, way: str, adapter: Adapter, seed: int):
        self.way, self.adapter, self.seed = way, adapter, seed

    def __call__(self, gate: torch.Tensor) -> torch.Tensor:
        mask = self.adapter.context.mask
        if mask is None or mask.numel() != gate.shape[1]:
            mask = torch.ones(1, gate.shape[1], device=gate.device)
        real, out = mask.reshape(-1).bool(), gate.clone()
        draw = torch.Generator().manual_seed(self.seed)
        if self.way == "mean":
            out[:, real] = gate[:, real].mean(1, keepdim=True)
        elif self.way == "tokens":
            at = real.nonzero()[:, 0]
            out[:, at] = gate[:, at[torch.randperm(len(at), generator=draw).to(at.device)]]
        else:
            texts = len(mask)
            round_ = torch.randperm(texts, generator=draw)  # each text takes the gates of the one before it in a chance round
            other = torch.empty_like(round_).scatter(0, round_, round_.roll(1))
            places = [row.nonzero()[:, 0] + m * mask.shape[1] for m, row in enumerate(mask.bool())]
            for m, n in enumerate(other.tolist()):  # a shorter text's gates begin again from its first token
                out[:, places[m]] = gate[:, places[n][torch.arange(len(places[m]), device=gate.device) % len(places[n])]]
        return out


def contribution(
    trainer: Trainer, arm: int = 0, rows: int = SCORE_ROWS, ways: Sequence[str] = tuple(EXCHANGES), part: str = "validation", seed: int = 0
) -> dict:
    """What routing contributes in one arm, in plain values: accuracy as it is and with the gates exchanged, without training again.

    Args:
        rows: questions of each task. ways: of the EXCHANGES. part: validation or test.

    Returns a dict: `arm`, `method`, `step`, `rows`; `accuracy`: "as it is" and each way -> task -> share answered right; `mean`: the same over
    tasks; `says`: each way in words. Raises ConfigError as `Inspector.exchanged`, and for an arm that is not there.
    """
    inspector = Inspector(trainer, arm)
    found = {"as it is": inspector.mixed_accuracy(rows, part)}
    for way in ways:
        with inspector.exchanged(way, seed):
            found[way] = inspector.mixed_accuracy(rows, part)
    return {
        "arm": inspector.arm.name,
        "method": inspector.arm.config.label,
        "step": trainer.step,
        "rows": rows,
        "accuracy": found,
        "mean": {way: sum(by_task.values()) / len(by_task) for way, by_task in found.items()},
        "says": {way: EXCHANGES[way] for way in ways},
    }


def route_text(
    trainer: Trainer,
    text: str,
    options: Sequence[str],
    arm: int = 0,
    task: str = "",
    expert: int | None = None,
    force: bool = False,
    linears: list[str] | None = None,
) -> dict:
    """What the router of one arm does with a text, in plain values.

    Args:
        options: answers to choose from. task: name of the task the text belongs to, the first by default; for task-routed methods.
        expert: mute this one, or with `force` send it every token; None steers nothing. linears: where it is steered, everywhere by default.

    Returns a dict: `arm`, `method`, `step`; `note`, a sentence where the gates are not one token's own; `steerable`; `tokens` [L];
    `linears`, of the routed ones, each with `name`, `layer`, `target`, `experts`, `gates` and `probabilities` [E][L] (`steered`: the
    gates while the expert is steered, or None); `options`, each with its `text`, its `score` in [0, 1] and its `steered` score or None.

    Raises ConfigError for an empty text, an arm, task, expert or linear that is not there, and a method that cannot be steered.
    """
    inspector = Inspector(trainer, arm)
    index = inspector.task(task) if task else 0
    free, steered = inspector.route(text, options, index), None
    if expert is not None:
        with inspector.steered(expert, force, linears):
            steered = inspector.route(text, options, index)
    sites = [inspector.adapters[name].site for name in free.gates]
    return {
        "arm": inspector.arm.name,
        "method": inspector.arm.config.label,
        "step": trainer.step,
        "note": _note(inspector, free),
        "steerable": inspector.steerable,
        "tokens": free.tokens,
        "linears": [
            {
                "name": s.name,
                "layer": s.layer,
                "target": s.target,
                "experts": s.experts,
                "gates": free.gates[s.name],
                "probabilities": free.probabilities[s.name],
                "steered": steered and steered.gates[s.name],
            }
            for s in sites
        ],
        "options": [{"text": o, "score": free.scores[i], "steered": steered and steered.scores[i]} for i, o in enumerate(options)],
    }


def _note(inspector: Inspector, seen: Routed) -> str:
    """One sentence where the gates are not what a token router would give each token."""
    label = inspector.arm.config.label
    if not seen.gates:
        return f"{label} has no router here: every token takes the one update, with weight 1."
    if len(seen.tokens) > 1 and all(len(set(row)) == 1 for rows in seen.gates.values() for row in rows):
        task = any(inspector.adapters[name].task_routed for name in seen.gates)
        return f"{label}: all tokens of a text have the same gates" + (", those of its task." if task else ".")
    return ""
