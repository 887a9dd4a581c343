"""What a forward pass keeps for its backward pass, beyond weights and what trains: exact, not sampled. On a GPU `gpu` adds the peak."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks import steps
from benchmarks.linear import EXPERTS, TOKENS, WIDTHS, One
from benchmarks.timing import FROZEN, LORA, Row


def kept(step: steps.Step) -> int:
    """Bytes of all storages that autograd saves in a forward pass, those of parameters and buffers left out."""
    sizes, known = {}, {t.untyped_storage().data_ptr() for t in (*step.model.parameters(), *step.model.buffers())}

    def note(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in known:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        step()
    return sum(sizes.values())


def measure(seconds: float) -> Iterator[Row]:
    del seconds
    works = []
    for d in WIDTHS:
        x = torch.randn(TOKENS, d, requires_grad=True)
        found = steps.candidates(One(d), lambda m, x=x: m(x).sum(), "q", ["query"], [EXPERTS])
        works.append((f"linear, d {d}, {TOKENS} tokens", found))
    model, loss, mask = steps.encoder("nano")
    works.append(
        (f"step of nano, q and v, {steps.TEXTS} x {steps.TOKENS} tokens", steps.candidates(model, loss, "q,v", ["query", "value"], [4, 8], mask=mask))
    )
    for work, found in works:
        size = {name: kept(step) for name, step in found.items()}
        for name, n in size.items():
            over = [f"{n / size[over]:.2f}" if size[over] and name != over else "" for over in (FROZEN, LORA)]
            yield Row(f"kept for backward: {work}", name, f"{n / 2**20:.2f} MiB", *over)
