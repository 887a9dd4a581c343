"""Slow motion: one batch through one adapted linear, stage by stage, in the numbers of a real forward pass.

- `walkable`: the linears of an arm that can be walked through. `walk`: a forward pass of the next batch's first rows, caught at one of them.
- `Walk`: its stages for all tokens; `Walk.output` multiplies them out, `Walk.shown` gives a few tokens as plain values.

    y = W x + b + scale * sum_e g_e up_e hidden_e,   hidden_e = down_e x (in some methods with a small step between: `Adapter.stages`)

A walk changes nothing in the run: the state of the generator that draws dropout is put back. In training mode the mask is therefore
the very draw that the next step will make, wherever the draws do not depend on the batch.

Shapes: N = M L tokens of M texts, E experts, r rows of what B gets, d_in, d_out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mosld.adapters.adapter import Adapter, Routing
from mosld.config import ConfigError
from mosld.training.arms import Arm
from mosld.training.sentence import SPECIAL
from mosld.training.trainer import Trainer

ROWS = 3  # questions of the batch
TOKENS, DIMS, EXPERTS, CHOSEN = 5, 8, 16, 3  # what `shown` gives: tokens, numbers of a vector, gates, and experts of a token
MATRIX = (16, 128)  # rows and columns of the dropped matrix that are given


@dataclass
class Walk:
    """What happened at one linear. Vectors are columns of [., N]; a `None` is what the method does not have."""

    adapter: Adapter
    x: Tensor  # [d_in, N], what comes in
    base: Tensor  # [d_out, N], W x + b
    hidden: Tensor  # [1 or E, r, N], what B (the factor next to the output) gets
    up: Tensor  # [1 or E, d_out, r]
    weight: Tensor | None  # [E, N], what each expert's vector is multiplied by
    probabilities: Tensor | None  # [E, N], of the router
    y: Tensor  # [d_out, N], the module's own output
    scale: float
    mask: Tensor | None  # the dropout draw, 0 or 1 / (1 - p), of the shape of what it acts on
    name: str  # of `hidden`
    factors: tuple[str, str] = ("A", "B")  # which one is next to the input, which one next to the output
    texts: list[dict] = field(default_factory=list)  # of each question: its task, text, tokens and their columns in [., N]
    training: bool = False
    step: int = 0  # steps made before it

    def expert(self, e: int) -> Tensor:
        """up_e hidden_e of every token [d_out, N], before gate and scale."""
        return self.up[min(e, len(self.up) - 1)] @ self.hidden[min(e, len(self.hidden) - 1)]

    def update(self) -> Tensor:
        """scale * sum_e g_e up_e hidden_e [d_out, N]."""
        if self.weight is None:
            return self.scale * self.expert(0)
        return self.scale * sum(g * self.expert(e) for e, g in enumerate(self.weight))

    def output(self) -> Tensor:
        """All stages multiplied out [d_out, N]."""
        return self.base + self.update()

    def error(self) -> float:
        """Largest difference between `output` and what the module gave."""
        return float((self.output() - self.y).abs().max())

    def shown(self, row: int = 0) -> dict:
        """A few tokens of one question and a few numbers of each vector, with norms, as plain values."""
        text = self.texts[row]
        words = [i for i, t in enumerate(text["tokens"]) if any(map(str.isalpha, t)) and not SPECIAL.fullmatch(t)] or list(range(len(text["tokens"])))
        picked = sorted({words[round(i)] for i in torch.linspace(0, len(words) - 1, TOKENS).tolist()})
        at = [text["columns"][i] for i in picked]
        update, a = self.update(), self.adapter
        return {
            "linear": {"name": a.site.name, "layer": a.site.layer, "target": a.site.target},
            "d_in": a.d_in,
            "d_out": a.d_out,
            "rank": self.hidden.shape[1],
            "scale": self.scale,
            "step": self.step,
            "training": self.training,
            "factors": list(self.factors),
            "hints": dict(a.hints),
            "texts": [{"task": t["task"], "text": t["text"]} for t in self.texts],
            "row": row,
            "sentence": text["tokens"],
            "tokens": [{"text": text["tokens"][i], "place": i} for i in picked],
            "x": [_vector(self.x[:, n]) for n in at],
            "gate": None if self.weight is None else self._gates(at),
            "dropout": self._dropout(at),
            "hidden": {"name": self.name, "own": len(self.hidden) > 1, "of": [self._each(n, self._hidden) for n in at]},
            "experts": [self._each(n, lambda e, n: self.up[min(e, len(self.up) - 1)] @ self._hidden(e, n)) for n in at],
            "update": [_vector(update[:, n]) for n in at],
            "base": [_vector(self.base[:, n]) for n in at],
            "y": [_vector(self.y[:, n]) for n in at],
            "error": self.error(),
        }

    def _hidden(self, e: int, n: int) -> Tensor:
        return self.hidden[min(e, len(self.hidden) - 1), :, n]

    def _each(self, n: int, vector) -> list[dict]:
        """vector(e, n) for the experts of token n that weigh most, best first."""
        if self.weight is None:
            return [{"expert": 0, "weight": 1.0, **_vector(vector(0, n))}]
        size, best = self.weight[:, n].abs().topk(min(CHOSEN, len(self.weight)))
        chosen = best[size > 0].tolist()
        return [{"expert": e, "weight": _number(self.weight[e, n]), **_vector(vector(e, n))} for e in chosen]

    def _gates(self, at: list[int]) -> dict:
        """Probabilities and weights [token][expert] of the experts that weigh most on these tokens, in the order of their numbers."""
        weight = self.weight[:, at]
        experts = weight.abs().mean(1).topk(min(EXPERTS, len(weight))).indices.sort().values.tolist()
        take = lambda v: [[_number(v[e, n]) for e in experts] for n in at]  # noqa: E731
        return {"experts": experts, "of": len(weight), "probabilities": take(self.probabilities), "weights": take(self.weight)}

    def _dropout(self, at: list[int]) -> dict:
        """The matrix that dropout acts on (A where it acts on nothing), with its mask, both cut to what can be drawn."""
        on = self.adapter.config.dropout_on
        if on == "activations" and self.mask is not None:
            values, mask = self.x[:, at].t(), self.mask[at]
        else:
            on = on if on in ("A", "B") else "A"
            p = getattr(self.adapter, on).detach()
            rows_first = p.dim() == 3 and p.shape[-1] == self.adapter.d_in and (on == "A") == (self.adapter.config.side == "input")
            flat = lambda w: w.flatten(0, -2) if rows_first else w.flatten(1)  # noqa: E731
            values, mask = flat(p), None if self.mask is None else flat(self.mask)
        rows, columns = (min(a, b) for a, b in zip(values.shape, MATRIX, strict=True))
        cut = lambda w: [[_number(v) for v in row] for row in w[:rows, :columns].tolist()]  # noqa: E731
        return {
            "on": on,
            "shape": list(values.shape),
            "values": cut(values),
            "mask": None if mask is None else cut(mask),
            "rate": self.adapter.context.dropout if self.mask is not None else 0.0,
            "dropped": 0 if self.mask is None else int((self.mask == 0).sum()),
            "entries": values.numel() if self.mask is None else self.mask.numel(),
            "next": self.mask is not None and on != "activations" and type(self.adapter).forward_tokens is Adapter.forward_tokens,
        }


def _number(value) -> float:
    return float(f"{float(value):.4g}")


def _vector(v: Tensor) -> dict:
    """The first numbers of a vector, and its length."""
    return {"values": [_number(x) for x in v[:DIMS]], "norm": _number(v.norm())}


def walkable(trainer: Trainer, arm: int = 0) -> list[Adapter]:
    """The adapters of an arm that can be walked through: all but those whose experts are whole blocks."""
    return [a for a in trainer.arms[arm].handle.adapters if a.walkable]


@torch.no_grad()
def walk(trainer: Trainer, arm: int = 0, linear: int = 0, training: bool = True, rows: int = ROWS) -> Walk:
    """The next batch's first rows at one linear of one arm, as a training step would send them (dropout acts) or in evaluation.

    Args:
        linear: index among `walkable`. Raises ConfigError for an arm or a linear that is not there.
    """
    if not 0 <= arm < len(trainer.arms):
        raise ConfigError(f"arm: {arm} is not allowed; give a whole number from 0 to {len(trainer.arms) - 1}.")
    adapters, of = walkable(trainer, arm), trainer.arms[arm]
    if not 0 <= linear < len(adapters):
        allowed = f"give a whole number from 0 to {len(adapters) - 1}" if adapters else "its routed blocks cannot be walked through"
        raise ConfigError(f"linear: {linear} of {of.config.label} is not allowed; {allowed}.")
    picked = trainer.mixture.batch(trainer.step)[:rows]
    batch = trainer.place(trainer.backbone.batch([e for _, e in picked], [t for t, _ in picked]))
    seen = _caught(of, adapters[linear], batch, training)
    seen.step = trainer.step
    length = batch.input_ids.shape[1]
    for i, (task, example) in enumerate(picked):
        at = int(batch.question_row[i]) if batch.question_row[i] >= 0 else int(batch.option_row[i, example.answer])
        real = batch.attention_mask[at].nonzero()[:, 0].tolist()
        tokens = trainer.backbone.tokenizer.convert_ids_to_tokens(batch.input_ids[at, real].tolist())
        name = trainer.tasks[task].name
        seen.texts.append({"task": name, "text": example.question, "tokens": tokens, "columns": [at * length + n for n in real]})
    return seen


def _caught(arm: Arm, adapter: Adapter, batch, training: bool) -> Walk:
    """One forward pass with a hook on the adapter."""
    caught: list[Walk] = []
    hook = adapter.register_forward_hook(lambda a, args, y: caught.append(_stages(a, args[0], y, training)))
    state, adapter.mask, adapter.last = arm.handle.generator.get_state(), None, None
    try:
        arm.handle.train(training)
        arm.score(batch)
    finally:
        arm.handle.train(False)
        arm.handle.generator.set_state(state)
        hook.remove()
    return caught[-1]


def _stages(a: Adapter, x: Tensor, y: Tensor, training: bool) -> Walk:
    """The stages of a forward pass that has just been made, read inside its context."""
    shape, x = x.shape, x.reshape(-1, a.d_in).t()
    base = torch.nn.functional.linear(x.t(), a.weight, a.bias).t()
    last: Routing | None = a.last
    parts = {"scale": a.scale, "weight": None if last is None else last.gate, **a.stages(x, shape)}
    parts["up"] = parts["up"].detach().clone()  # B trains on
    if a.config.side == "output":
        parts["factors"] = ("B", "A")
    return Walk(a, x, base, y=y.reshape(-1, a.d_out).t(), mask=a.mask, probabilities=last and last.probabilities, training=training, **parts)
