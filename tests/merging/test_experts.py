"""Adapters as experts of one mixture: exactly themselves when chosen, and a router that learns."""

import pytest
import torch
from merging_helpers import adapters

from mosld.config import ConfigError
from mosld.merging import experts
from mosld.merging.bench import Bench
from mosld.merging.vectors import dense, task_vector


def test_an_expert_is_its_adapter(backbone, loaded, bench):
    vectors = [task_vector(adapters(backbone, seed, rank=2 + seed)) for seed in range(3)]  # ranks 2, 3 and 4
    handle = experts.assemble(backbone, vectors, ("q", "v"), top_k=1)
    batch = backbone.batch(loaded[0].test[:6], [0] * 6)
    with torch.no_grad():
        for t, vector in enumerate(vectors):
            for a in handle.adapters:
                a.steer = torch.where(torch.arange(3) == t, 0.0, -torch.inf).to(a.router)
            bench.model.put(vector)
            torch.testing.assert_close(experts.score(handle, backbone, batch), bench.model.score(batch))


def test_all_experts_alike_are_one_adapter(backbone, loaded, bench):
    vector = task_vector(adapters(backbone, 0))
    handle = experts.assemble(backbone, [vector] * 4, ("q", "v"), top_k=0)  # gates sum to 1, whatever the router says
    batch = backbone.batch(loaded[0].test[:6], [0] * 6)
    with torch.no_grad():
        bench.model.put(vector)
        torch.testing.assert_close(experts.score(handle, backbone, batch), bench.model.score(batch))


def test_only_routers_are_trained_and_the_loss_falls(backbone, loaded):
    vectors = [task_vector(adapters(backbone, seed)) for seed in range(3)]
    bench = Bench(backbone, loaded[:3], vectors, ("q", "v"), eval_rows=30)
    handle = experts.assemble(backbone, vectors, ("q", "v"))
    before = {n: p.detach().clone() for n, p in handle.named_parameters()}
    losses = []
    same = lambda step: bench.stream("labelled", 16)(0)  # noqa: E731 - one batch again and again: its loss must fall
    count = experts.train_routers(handle, backbone, same, 3, 40, 0.05, lambda step, loss: losses.append(loss))
    assert count == 4 * 3 * 16 and losses[-1] < losses[0]
    for name, p in handle.named_parameters():
        assert torch.equal(p, before[name]) != name.endswith(".router"), name


def test_dense_updates_are_no_experts(backbone):
    vector = {name: dense(u) for name, u in task_vector(adapters(backbone, 0)).items()}
    with pytest.raises(ConfigError, match="one dense matrix is no low-rank expert"):
        experts.assemble(backbone, [vector, vector], ("q", "v"))
