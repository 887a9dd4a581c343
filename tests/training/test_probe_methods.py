"""Probes of every method after one real step: sizes, sums, and norms against matrices multiplied out."""

import pytest
import torch

from mosld.adapters import attach
from mosld.config import METHODS, AdapterConfig
from mosld.training.probe import before_step, measure
from tests.adapters.models import bert, run
from tests.adapters.same import move


@pytest.mark.parametrize("method", METHODS)
def test_probes(method):
    torch.manual_seed(0)
    targets = "q,v,up,down" if method == "mixlora" else "q,v"
    handle = attach(bert(2), AdapterConfig(method=method, rank=2, experts=3, targets=targets), tasks=2)
    move(handle)
    mask = torch.ones(3, 8, dtype=torch.long)
    mask[1, 5:] = 0
    task = torch.tensor([0, 1, 1])
    optimiser = torch.optim.SGD(handle.parameters(), lr=0.1)
    handle.train()
    with handle.context(mask, task, probing=True):
        y = run(handle.model)  # normalised: a sum of squares would have next to no gradient
        ((y * torch.randn(y.shape)).mean() + handle.extra_loss()).backward()
    before = before_step(handle)
    optimiser.step()
    probes = measure(handle, before, task, mask, 2)
    assert len(probes) == len(handle.adapters)
    for a, probe in zip(handle.adapters, probes, strict=True):
        experts = len(probe.load[0])
        assert experts == (a.site.experts if a.last is not None else 1)
        sums = [sum(row) for row in probe.gate]
        # SiRA's experts turn tokens away when they are full: these have no gate
        assert sums == pytest.approx([1, 1], abs=1e-4) or (method == "sira" and all(0 < s <= 1 for s in sums))
        assert 0 <= probe.evenness <= 1 + 1e-6 and 1 - 1e-5 <= probe.effective <= experts + 1e-4
        up, down = a.products()
        products = [float((u @ d).norm()) for u, d in zip(up.detach().expand(experts, -1, -1), down.detach().expand(experts, -1, -1), strict=True)]
        assert probe.norm_ba == pytest.approx(products, rel=1e-3)
        assert {len(probe.norm_a), len(probe.norm_b)} <= {1, experts}
        assert all(v is not None for v in probe.imbalance)
