"""One adapted linear, forward and backward, with gradients to the input and to all that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks import rivals
from benchmarks.timing import FROZEN, LORA, Row, ratio, rows, take_turns
from mosld.adapters.handle import Handle

TOKENS, EXPERTS, WIDTHS = 768, 8, (128, 384, 2048)


class One(nn.Module):
    """A model of one linear, named so that `attach` and peft find it."""

    def __init__(self, d: int, **place):
        super().__init__()
        self.query = nn.Linear(d, d, **place).requires_grad_(False)

    def forward(self, x):
        return self.query(x)


def candidates(d: int, tokens: int = TOKENS, lora: dict[str, bool] | None = None, loops: bool = True, balance: float = 0.0, **place) -> dict:
    """Forward and backward of each candidate.

    Args:
        lora: peft's LoRA of rank 8 by name, with its autocast_adapter_dtype. balance: coefficient of MoSLD's balance loss. place: device and dtype.
    """
    x, pull = (torch.randn(tokens, d, **place) for _ in range(2))
    x.requires_grad_()

    def run(model: nn.Module, extra: Callable[[], torch.Tensor | float] = lambda: 0.0) -> Callable[[], None]:
        leaves = [x, *(p for p in model.parameters() if p.requires_grad)]

        def once() -> None:
            for p in leaves:
                p.grad = None
            y, loss = model(x), extra()
            torch.autograd.backward([y, loss], [pull, None]) if isinstance(loss, torch.Tensor) else y.backward(pull)

        return once

    def ours(experts: int, balance: float) -> tuple[Callable[[], None], Handle]:
        model = One(d, **place)
        handle = rivals.put_adapters(model, "q", experts, balance=balance)
        return run(model, handle.extra_loss), handle

    def theirs(rank: int, cast: bool = True) -> Callable[[], None]:
        model = One(d, **place)
        rivals.peft_lora(model, ["query"], rank, cast)
        return run(model)

    out = {FROZEN: run(One(d, **place))} | {name: theirs(rivals.RANK, cast) for name, cast in (lora or {LORA: True}).items()}
    out[f"MoSLD, {EXPERTS} experts"], handle = ours(EXPERTS, balance)
    out["our kernel, one expert"], _ = ours(1, 0.0)
    if loops:
        out[f"MoSLD, {EXPERTS} experts, balance loss"], _ = ours(EXPERTS, 0.01)
        rank = rivals.equal_rank(handle)
        out[f"peft LoRA r {rank}, equal parameters"] = theirs(rank)
        for name in ("gather", "dense"):
            model = One(d, **place)
            rivals.put_loops(model, ["query"], EXPERTS, name == "gather")
            out[f"{name} loop, {EXPERTS} experts"] = run(model)
    return out


def measure(seconds: float) -> Iterator[Row]:
    for d in WIDTHS:
        work = f"linear, d {d}, {TOKENS} tokens"
        times = take_turns(candidates(d), seconds)
        yield from rows(work, times)
        ours = times[f"MoSLD, {EXPERTS} experts"]
        yield from (Row(work, f"{name} over MoSLD", f"{ratio(times[name], ours)} times") for name in times if "loop" in name)
