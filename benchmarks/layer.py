"""One adapted linear, forward and backward: MoSLD's fused kernel against one peft LoRA and against a loop over experts.

    python benchmarks/layer.py

All candidates take turns in one process; printed are medians and, what can be compared between machines, their ratios.
768 tokens (32 texts of 24), E 8, r 8, top-2, dropout .1 on the weights of A, gradients to the input and to every adapter tensor.
"""

from __future__ import annotations

import statistics
import time

import peft
import torch
from torch import nn
from torch.nn import functional as F

from mosld.adapters import attach
from mosld.config import AdapterConfig

TOKENS, EXPERTS, RANK, TOP_K = 768, 8, 8, 2


class One(nn.Module):
    """A model of one linear, named so that `attach` and peft find it."""

    def __init__(self, d: int):
        super().__init__()
        self.query = nn.Linear(d, d)

    def forward(self, x):
        return self.query(x)


class GatherLoop(nn.Module):
    """What public top-k mixtures do: each expert gathers its tokens, applies its two matrices and adds the result back."""

    def __init__(self, d: int):
        super().__init__()
        self.base = nn.Linear(d, d).requires_grad_(False)
        self.router = nn.Linear(d, EXPERTS, bias=False)
        self.A = nn.ModuleList(nn.Linear(d, RANK, bias=False) for _ in range(EXPERTS))
        self.B = nn.ModuleList(nn.Linear(RANK, d, bias=False) for _ in range(EXPERTS))

    def forward(self, x):
        y = self.base(x)
        weight, chosen = F.softmax(self.router(x), -1).topk(TOP_K, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        where = F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
        for e in range(EXPERTS):
            slot, token = torch.where(where[e])
            update = self.B[e](self.A[e](x[token])) * weight[token, slot, None] * 2.0
            y.index_add_(0, token, update)
        return y


class DenseLoop(GatherLoop):
    """What public dense mixtures do: every expert is applied to every token and weighed, its A anew each time."""

    def forward(self, x):
        y = self.base(x)
        value, chosen = F.softmax(self.router(x), -1).topk(TOP_K, -1)
        gate = torch.zeros(len(x), EXPERTS).scatter(1, chosen, value / value.sum(-1, keepdim=True))
        for e in range(EXPERTS):
            y = y + gate[:, e, None] * self.B[e](self.A[e](x)) * 2.0
        return y


def candidates(d: int) -> dict[str, nn.Module]:
    ours = One(d)
    attach(ours, AdapterConfig(method="mosld", rank=RANK, experts=EXPERTS, top_k=TOP_K, balance=0, targets="q")).train()
    theirs = peft.get_peft_model(One(d), peft.LoraConfig(r=RANK, lora_alpha=16, target_modules=["query"]))
    frozen = One(d).requires_grad_(False)
    return {
        "frozen linear": frozen,
        "peft LoRA": theirs.base_model.model.query,
        "MoSLD": ours,
        "gather loop": GatherLoop(d),
        "dense loop": DenseLoop(d),
    }


def measure(d: int, seconds: float = 6.0) -> dict[str, float]:
    """Median seconds of forward and backward of each candidate."""
    models = candidates(d)
    x, pull = torch.randn(TOKENS, d, requires_grad=True), torch.randn(TOKENS, d)
    times: dict[str, list[float]] = {name: [] for name in models}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["MoSLD"]) < 12:
        for name, model in models.items():
            x.grad = None
            model.zero_grad(set_to_none=True)
            start = time.perf_counter()
            model(x).backward(pull)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[3:]) for name, values in times.items()}


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {TOKENS} tokens, E {EXPERTS}, r {RANK}, top-{TOP_K}; medians in ms")
    names = list(candidates(8))
    print(f"| d | {' | '.join(names)} | MoSLD over LoRA | gather loop over MoSLD | dense loop over MoSLD |\n|{' -: |' * (len(names) + 4)}")
    for d in (128, 384, 2048):
        t = measure(d)
        ratios = [t["MoSLD"] / t["peft LoRA"], t["gather loop"] / t["MoSLD"], t["dense loop"] / t["MoSLD"]]
        print("| " + " | ".join([str(d), *(f"{t[n] * 1e3:.2f}" for n in names), *(f"{r:.2f}" for r in ratios)]) + " |", flush=True)


if __name__ == "__main__":
    main()
