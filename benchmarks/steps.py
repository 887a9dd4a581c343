"""Whole training steps: forward, loss, backward and AdamW, of models with adapters beside the frozen model's own forward and backward.

The frozen model's backward goes to the output of its embeddings, as it must wherever an adapter sits in the lowest layer.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from benchmarks import rivals
from benchmarks.timing import FROZEN, LORA, Row, rows, take_turns
from mosld import backbones
from mosld.backbones.base import Batch
from mosld.config import ConfigError

TEXTS, TOKENS, QUESTIONS = 32, 24, 16
LINEARS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def replica(model: nn.Module) -> nn.Module:
    """A new module tree over the same weight tensors."""
    return copy.deepcopy(model, {id(t): t for t in itertools.chain(model.parameters(), model.buffers())})


class Step:
    """One training step of a model: `loss(model)` gives what is minimised; `handle` are the project's adapters, if they are in it."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module], Tensor], parameters=(), handle=None, mask: Tensor | None = None):
        self.model, self.loss, self.handle, self.mask = model, loss, handle, mask
        self.optimiser = torch.optim.AdamW(list(parameters), lr=1e-4, fused=True) if parameters else None

    def __call__(self) -> None:
        if self.optimiser:
            self.optimiser.zero_grad(set_to_none=True)
        with self.handle.context(mask=self.mask) if self.handle and self.mask is not None else nullcontext():
            loss = self.loss(self.model)
            (loss + self.handle.extra_loss() if self.handle else loss).backward()
        if self.optimiser:
            self.optimiser.step()

    def forget(self) -> None:
        """Let go of gradients and records."""
        self.model.zero_grad(set_to_none=True)
        for adapter in self.handle.adapters if self.handle else []:
            adapter.last = adapter.aux = None

    def held(self) -> int:
        """Bytes of what trains, with its optimiser's state."""
        groups = self.optimiser.param_groups if self.optimiser else []
        tensors = [t for g in groups for p in g["params"] for t in (p, *self.optimiser.state[p].values())]
        return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def candidates(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    targets: str,
    ends: list[str],
    experts: list[int],
    mask: Tensor | None = None,
    loops: bool = True,
    equal: bool = True,
    lora: dict[str, Callable] | None = None,
) -> dict[str, Step]:
    """Steps of replicas of one model, which share its frozen weights.

    Args:
        targets, ends: the linears, by short names and by the ends of their own. experts: numbers of experts of MoSLD.
        mask: 1 at real tokens. loops: with loops over experts. equal: with peft at as many parameters. lora: what stands for peft's LoRA.
    """
    model.requires_grad_(False)
    frozen = replica(model)
    bottom = next((m for n, m in frozen.named_modules() if n in ("embeddings", "embed_tokens")), None)
    if bottom is not None:
        bottom.register_forward_hook(lambda _, __, out: out.requires_grad_())
    out = {FROZEN: Step(frozen, loss)}

    def add(name: str, put: Callable[[nn.Module], object]) -> object:
        own = replica(model)
        made = put(own)
        handle = None if isinstance(made, list) else made
        out[name] = Step(own, loss, made if handle is None else handle.parameters(), handle, mask)
        return made

    for name, put in (lora or {LORA: lambda m: rivals.peft_lora(m, ends)}).items():
        add(name, put)
    for e in experts:
        handle = add(f"MoSLD, {e} experts", lambda m, e=e: rivals.put_adapters(m, targets, e))
    rank = rivals.equal_rank(handle)
    if equal:
        add(f"peft LoRA r {rank}, equal to {experts[-1]} experts", lambda m: rivals.peft_lora(m, ends, rank))
    add("our kernel, one expert", lambda m: rivals.put_adapters(m, targets, 1))
    if loops:
        add(f"gather loop, {experts[-1]} experts", lambda m: rivals.put_loops(m, ends, experts[-1], True))
        add(f"dense loop, {experts[-1]} experts", lambda m: rivals.put_loops(m, ends, experts[-1], False))
    return out


def encoder(name: str) -> tuple[nn.Module, Callable, Tensor]:
    """An encoder of the lab, its loss on 16 questions with two options each of 32 random texts, and their mask."""
    backbone = backbones.load(name)
    batch = make_batch(backbone.model.config.vocab_size)
    return backbone.model, lambda model: F.cross_entropy(backbone.score(batch, model), batch.answer), batch.attention_mask


def make_batch(vocabulary: int) -> Batch:
    """Random word pieces: 16 questions with one of 16 texts each as options."""
    ids = torch.randint(1000, vocabulary, (TEXTS, TOKENS))
    options = torch.stack([torch.arange(QUESTIONS, TEXTS), torch.arange(QUESTIONS, TEXTS).roll(1)], 1)
    return Batch(ids, torch.ones_like(ids), torch.arange(QUESTIONS), options, torch.zeros(QUESTIONS, dtype=torch.long), torch.arange(TEXTS) % 3)


def llama(width: int, layers: int, texts: int, tokens: int, feed: int | None = None, heads: int = 8, **place) -> tuple[nn.Module, Callable]:
    """LLaMA's layers at random weights, and a loss on random tokens. `place`: device and dtype."""
    shape = {"vocab_size": 1000, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    with torch.device(place.get("device", "cpu")):
        model = LlamaModel(LlamaConfig(**shape, intermediate_size=feed or width * 11 // 4, use_cache=False)).to(place.get("dtype", torch.float32))
        ids = torch.randint(0, 1000, (texts, tokens))
    return model, lambda m: m(input_ids=ids).last_hidden_state.float().square().mean()


def measure(seconds: float) -> Iterator[Row]:
    for name in ("nano", "minilm"):
        try:
            model, loss, mask = encoder(name)
        except ConfigError as error:
            print(error, flush=True)
            continue
        steps = candidates(model, loss, "q,v", ["query", "value"], [4, 8], mask=mask)
        yield from rows(f"step of {name}, q and v, {TEXTS} x {TOKENS} tokens", take_turns(steps, seconds, 6))
    model, loss = llama(256, 4, 8, 64)
    for targets in ("q,v", ",".join(LINEARS)):
        ends = [LINEARS[t] for t in targets.split(",")]
        words = "q and v" if targets == "q,v" else "all seven linears"
        yield from rows(
            f"step of a LLaMA, width 256, 4 layers, {words}, 8 x 64 tokens", take_turns(candidates(model, loss, targets, ends, [4]), seconds, 6)
        )
