"""Adapters with random factors, and the merge that keeps everything in one graph."""

import torch
from torch.func import functional_call

from mosld.adapters import attach
from mosld.config import AdapterConfig
from mosld.merging.entropy import entropy
from mosld.merging.vectors import dense


def adapters(backbone, seed, rank=2):
    """Attached LoRA adapters whose B is random, too."""
    handle = attach(backbone.replica(), AdapterConfig(method="lora", rank=rank, targets=("q", "v")), seed)
    generator = torch.Generator().manual_seed(seed)
    for a in handle.adapters:
        a.B.data.normal_(0, 0.3, generator=generator)
    return handle


def naive(bench, lams):
    """The entropy with every merged weight in one graph: autograd through sum_t lambda_t^l tau_t^l."""
    model = bench.backbone.model
    names = list(bench.vectors[0])
    weights = {
        f"{name}.weight": model.get_submodule(name).weight + sum(lams[i, t] * dense(v[name]) for t, v in enumerate(bench.vectors))
        for i, name in enumerate(names)
    }

    class Through(torch.nn.Module):
        def forward(self, **inputs):
            return functional_call(model, weights, (), inputs)

        base_model = property(lambda self: self)

    batches = list(bench.stream("validation", 6)(0))
    return sum(entropy(bench.backbone.score(b, Through())).mean() for b in batches) / len(batches)
