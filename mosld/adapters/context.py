"""Context: what a forward pass knows besides its input, shared by all adapters of one name: padding mask, task and sentence embedding of each text,
and the values that may change during a run (dropout rate, balance coefficient).

Shapes: M texts, L tokens a text, N = M L tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mosld.config import ConfigError

if TYPE_CHECKING:
    from mosld.adapters.adapter import Adapter


@dataclass
class Context:
    """Shared by all adapters of one name."""

    dropout: float
    balance: float
    generator: torch.Generator  # of the initial values
    stream: torch.Generator | None = None  # of the draws of forward passes; None: torch's own generator of the device, see `draws`
    tasks: int = 1  # T, for methods that keep something per task
    instance_dim: int = 0  # size of a sentence embedding, for methods routed by it
    mask: Tensor | None = None  # [M, L], 1 at real tokens
    source: Tensor | None = None  # [M, L', d], what a cross-attention under way reads its keys and values from
    source_mask: Tensor | None = None  # [M, L'], 1 at its real tokens
    task: Tensor | None = None  # [M]
    instance: Tensor | None = None  # [M, instance_dim]
    question: Tensor | None = None  # [M, L], 1 at the question: all that a text router of a causal model may read
    instruction: Tensor | None = None  # [M, L], 1 at the instruction
    ids: Tensor | None = None  # [M, L] token ids of the pass under way
    past: int = 0  # tokens in the cache that the pass under way goes on from
    step: int | None = None  # optimiser step under way, from 1; None outside a run
    time_first: bool = False  # inputs are [L, M, d_in] (XLNet)
    probing: bool = False
    depth: int = 0  # modules under way that can begin a pass (`mosld.adapters.passes`)
    grad: bool = True  # whether the pass under way was begun with gradients
    block: dict = field(default_factory=dict)  # what the linears of one block hand to one another in a forward pass, by block
    owners: dict[int, Adapter] = field(default_factory=dict)  # by block: the adapter that holds the router of a whole block
    centroids: dict[int, Tensor] = field(default_factory=dict)  # by their number k: [k, instance_dim], set by `Handle.fit`

    def __getstate__(self) -> dict:
        """A copy is taken between passes: what belongs to one pass stays behind (tensors of a graph cannot be copied)."""
        return {**self.__dict__, "mask": None, "source": None, "source_mask": None, "ids": None, "depth": 0, "block": {}}

    def draws(self) -> torch.Generator | None:
        """What a forward pass draws with. Torch's own generator (None) is the rule: gradient checkpointing puts its state back before it computes
        a segment again, a trainer saves it with a checkpoint, the compiler traces it. Runs of several arms have a `stream` each."""
        if self.stream is not None and in_backward():
            raise ConfigError("generator: a handle's own generator would draw another mask in gradient checkpointing; set handle.generator = None.")
        return self.stream

    @property
    def texts(self) -> tuple:
        """What is known of the texts besides their mask."""
        return tuple(getattr(self, name) for name in KNOWN)

    @texts.setter
    def texts(self, texts: tuple) -> None:
        for name, value in zip(KNOWN, texts, strict=True):
            setattr(self, name, value)

    def token_mask(self, shape: torch.Size) -> Tensor | None:
        """The padding mask of N flattened tokens, where the input has the batch's shape, else None (all tokens count)."""
        if self.mask is None:
            return None
        if self.time_first and len(shape) == 3:
            return self._flat(self.mask, True) if shape[:2] == self.mask.t().shape else None
        if (len(shape) == 3 and shape[:2] == self.mask.shape) or (len(shape) == 2 and shape[0] == self.mask.numel()):
            return self._flat(self.mask)
        return None

    def _flat(self, mask: Tensor, turned: bool = False) -> Tensor:
        """A mask [M, L] as [N], by which all linears of a pass know it again. (By where it lies in memory a compiled model could not.)"""
        return self._once("masks", mask, turned, lambda: (mask.t() if turned else mask).reshape(-1))

    def _once(self, kind: str, of: Tensor, how: object, make: Callable[[], Tensor]) -> Tensor:
        """What is made of a tensor, made once a pass."""
        made = self.block.setdefault(kind, [])
        for known, way, found in made:
            if known is of and way == how:
                return found
        made.append((of, how, make()))
        return made[-1][2]

    def token_weights(self, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """A padding mask [N] as weights of sum 1 (0 where there is no token), made once a pass for the linears that share it."""
        if mask is None:
            return None

        def make() -> Tensor:
            weights = mask.to(dtype)
            return weights / weights.sum().clamp(min=1)

        return self._once("token weights", mask, dtype, make)

    def mask_of(self, x: Tensor) -> Tensor | None:
        """The padding mask [N] of an input: of the texts themselves, or in cross-attention of the texts that are read."""
        if self.source is x:
            fits = self.source_mask is not None and self.source_mask.shape == x.shape[:2]
            return self._flat(self.source_mask) if fits else None
        return self.token_mask(x.shape)

    def tasks_of(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Task of each of the M texts of an input [M, L, d_in], [M]; 0 where no tasks are given. Raises ConfigError for a wrong number."""
        if self.task is None:
            return torch.zeros(shape[0], dtype=torch.long, device=device)
        return one_a_text("task: ids", self.task.to(device), shape[0])

    def token_values(self, values: Tensor, shape: torch.Size) -> Tensor:
        """One value a text, repeated for its tokens: [M, ...] to [N, ...]."""
        return values.repeat_interleave(shape[1], 0)


def one_a_text(what: str, values: Tensor, texts: int) -> Tensor:
    """Values [M', ...] as [M, ...], one for each of M texts. Raises ConfigError for a wrong number.

    Without gradients a multiple of the texts is a search with beams: it stands each text's beams side by side, so each value is repeated.
    """
    if texts == len(values):
        return values
    if not len(values) or texts % len(values) or torch.is_grad_enabled():
        raise ConfigError(f"{what} of {len(values)} texts are given, but the batch has {texts}; give one a text.")
    return values.repeat_interleave(texts // len(values), 0)


KNOWN = ("task", "instance", "question", "instruction", "ids", "past", "step")


def in_backward() -> bool:
    """Whether a backward pass is under way: a forward pass is then one that gradient checkpointing makes again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
