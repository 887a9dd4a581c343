"""What a router reads: one small class for each answer, used by every method that routes by a router of its linear's own.

    p = softmax(logits over experts),   g = the K largest of p, renormalised or not

- token: each token, logits W x (the papers'). random: the same with W never trained.
- text: the mean over the text's real tokens. instruction: the mean over the instruction's tokens. One gate for all tokens of a text.
- task: which task it is, a column of logits for each task: the upper bound of what knowing the task can give.
- hash: the token's id, by a fixed table. uniform: nothing, all experts alike.

W is linear, so the logits of a mean are the mean of the logits: text and instruction routers average E numbers a token, not d_in.

A causal model must not read ahead: there the mean at a token goes over what stands before it and the token itself, over the question at
most. A pass that goes on from a cache goes on from the sums that the last pass left. So the outputs of a prefix do not depend on what
follows, nor on cache or neighbours.

Shapes: M texts, L tokens a text, N = M L, E experts, T tasks; n is N, or M where a text has one gate. Logits are [E, n].
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from mosld.config import ConfigError

UNTOLD = "router: where the instruction ends is not known (handle.context(instruction=...)), so the router reads the mean of the whole text."


@dataclass
class Texts:
    """What a pass knows of the texts at one linear. Masks are [M, L] with 1 at what counts; None: not known, or all tokens."""

    shape: tuple[int, int]  # M, L
    real: Tensor | None = None
    question: Tensor | None = None  # causal models: what is read at most
    instruction: Tensor | None = None
    task: Tensor | None = None  # [M]
    ids: Tensor | None = None  # [M, L] token ids
    causal: bool = False
    past: int = 0  # tokens in the cache
    carry: dict | None = None  # what the last pass left for the next, at this linear

    def each(self, values: Tensor) -> Tensor:
        """[E, M] repeated for a text's tokens, [E, N]; [E, N] as it is."""
        texts, length = self.shape
        return values.repeat_interleave(length, 1) if values.shape[1] == texts and length > 1 else values

    def mask(self, values: Tensor | None, like: Tensor) -> Tensor:
        """A mask [M, L] of floats. One that was told for the prompt is cut or filled with zeros to where the pass is, and repeated for beams."""
        texts, length = self.shape
        if values is None:
            return like.new_ones(texts, length)
        values = values.to(like)
        if len(values) != texts and texts % max(len(values), 1) == 0 and not torch.is_grad_enabled():
            values = values.repeat_interleave(texts // len(values), 0)
        if len(values) != texts:
            raise ConfigError(f"router: the masks given are of {len(values)} texts, but the batch has {texts}; give one row a text.")
        values = values[:, self.past : self.past + length]
        return torch.cat([values, values.new_zeros(texts, length - values.shape[1])], 1)


class Router:
    """Reads each token."""

    trained = True  # whether it learns
    scored = True  # whether the gate comes from logits, so that experts can be muted and forced

    def columns(self, d_in: int, tasks: int) -> int:
        """Columns of W [E, columns]; 0: the router has none."""
        return d_in

    def start(self, d_in: int) -> float:
        """Standard deviation of W at the start."""
        return 0.02

    def logits(self, weight: Tensor, x: Tensor, texts: Texts) -> Tensor:
        """[E, n] of tokens x [N, d_in]."""
        return weight @ x.to(weight.dtype).t()

    def gate(self, x: Tensor, experts: int, top_k: int, texts: Texts) -> Tensor:
        """[E, N] of a router that has no logits."""
        raise NotImplementedError


class Random(Router):
    """Reads each token, and never learns."""

    trained = False


class Text(Router):
    """Reads the mean over the text; in a causal model over the question so far."""

    name = "text"

    def logits(self, weight: Tensor, x: Tensor, texts: Texts) -> Tensor:
        scores = super().logits(weight, x, texts).view(len(weight), *texts.shape)
        real = texts.mask(None, scores[0]) if texts.real is None else texts.real.to(scores)
        asked = real * texts.mask(self.limit(texts), scores[0]) if texts.causal and self.limit(texts) is not None else real
        return self.mean(scores, asked, texts)

    def limit(self, texts: Texts) -> Tensor | None:
        """What of a causal model's text may be read."""
        if texts.past and texts.question is None:
            raise ConfigError(
                f"router: '{self.name}' cannot tell in a cache where the question ends; give handle.context(question=...) or generate with "
                "use_cache=False."
            )
        return texts.question

    def mean(self, scores: Tensor, read: Tensor, texts: Texts) -> Tensor:
        return _mean(scores, texts, read, None)


class Instruction(Text):
    """Reads the mean over the instruction; where a text has none, and in a causal model before it begins, the mean over the text."""

    name = "instruction"

    def limit(self, texts: Texts) -> Tensor | None:
        if texts.question is None and texts.instruction is not None:
            return torch.ones_like(texts.instruction)  # as far as the mask reaches
        return super().limit(texts)

    def mean(self, scores: Tensor, read: Tensor, texts: Texts) -> Tensor:
        if texts.instruction is None:
            warnings.warn(UNTOLD, stacklevel=2)
            return _mean(scores, texts, read, None)
        return _mean(scores, texts, texts.mask(texts.instruction, scores[0]) * read, read)


def _mean(scores: Tensor, texts: Texts, first: Tensor, otherwise: Tensor | None) -> Tensor:
    """Mean of scores [E, M, L] over the tokens `first`, over `otherwise` where that is none: [E, M], or so far at each token, [E, N]."""
    total, count = _sums(scores, first, texts, "first")
    if otherwise is not None:
        more, all_of = _sums(scores, otherwise, texts, "otherwise")
        total, count = torch.where(count > 0, total, more), torch.where(count > 0, count, all_of)
    return (total / count.clamp(min=1)).flatten(1)


def _sums(scores: Tensor, weight: Tensor, texts: Texts, key: str) -> tuple[Tensor, Tensor]:
    """Sum of scores and of weights, over the text or so far: [E, M] and [M], or [E, M, L] and [M, L]."""
    weighed = scores * weight
    if not texts.causal:
        return weighed.sum(2), weight.sum(1)
    total, count = weighed.cumsum(2), weight.cumsum(1)
    if texts.past:
        before = texts.carry.get(key)
        if before is None or before[0].shape[1] != total.shape[1]:
            raise ConfigError("router: this pass goes on from a cache that another pass has filled; begin with the whole text.")
        total, count = total + before[0], count + before[1]
    if texts.carry is not None and not torch.is_grad_enabled():
        texts.carry[key] = total[:, :, -1:].detach(), count[:, -1:].detach()
    return total, count


class TaskRouter(Router):
    """Is told which task it is: a column of W for each."""

    def columns(self, d_in: int, tasks: int) -> int:
        return tasks

    def start(self, d_in: int) -> float:
        return 0.02 * math.sqrt(d_in)  # logits of the size that a token router gives an input of unit entries

    def logits(self, weight: Tensor, x: Tensor, texts: Texts) -> Tensor:
        if texts.task is None:
            raise ConfigError("router: 'task' needs the task of every text; give handle.context(task=...), or choose another router.")
        return weight[:, texts.task]


class Hash(Router):
    """Reads the token's id: K experts by a fixed pseudo-random table, each with 1 / K (after Hash Layers, arXiv 2106.04426)."""

    trained = scored = False

    def columns(self, d_in: int, tasks: int) -> int:
        return 0

    def gate(self, x: Tensor, experts: int, top_k: int, texts: Texts) -> Tensor:
        if texts.ids is None:
            raise ConfigError("router: 'hash' needs token ids, and this model was called without input_ids; choose another router.")
        chosen = hashed(texts.ids.reshape(-1), experts, top_k or 1)  # [N, K]
        return x.new_zeros(experts, len(chosen)).scatter(0, chosen.t(), 1 / chosen.shape[1])


class Uniform(Router):
    """Reads nothing: every expert has 1 / E of every token."""

    trained = scored = False

    def columns(self, d_in: int, tasks: int) -> int:
        return 0

    def gate(self, x: Tensor, experts: int, top_k: int, texts: Texts) -> Tensor:
        return x.new_full((experts, len(x)), 1 / experts)


def hashed(ids: Tensor, experts: int, k: int) -> Tensor:
    """k different experts of E for every id [N], [N, k]: the k smallest of E mixed 31-bit numbers of id and expert. The same everywhere."""
    key = ids[:, None].long() * experts + torch.arange(experts, device=ids.device)
    for multiplier in (0x45D9F3B, 0x2C1B3C6D):  # a multiply-xor mix; products stay below 2^63
        key = ((key ^ (key >> 16)) & 0x7FFFFFFF) * multiplier & 0x7FFFFFFF
    return (key ^ (key >> 16)).topk(k, 1, largest=False).indices


ROUTERS: dict[str, Router] = {
    "token": Router(),
    "text": Text(),
    "instruction": Instruction(),
    "task": TaskRouter(),
    "random": Random(),
    "hash": Hash(),
    "uniform": Uniform(),
}
