"""Intuition-MoR1E against its equation as a loop; centroids and similarities against numbers worked by hand."""

import pytest
import torch

from mosld.adapters import attach, saved_config
from mosld.adapters.centroids import kmeans, similarity
from mosld.config import AdapterConfig
from tests.adapters.models import bert
from tests.adapters.same import assert_same, move


def slow(a, x, s):
    """x [M, L, d_in]; s [M, E] or None, where 4 s is 1."""
    r1, r2 = a.A.shape[0], a.B.shape[1]
    w, m = 1 / (1 + torch.exp(-100 * a.o[0])), 1 / (1 + torch.exp(-100 * a.m[0]))
    out = []
    for text, tokens in enumerate(x):
        for token in tokens:
            p = torch.softmax(a.router @ token, 0)
            y = a.weight @ token + a.bias
            for j in range(r2):
                for i in range(r1):
                    e = i * r2 + j
                    g = r1 * r2 * w * p[e] + 4 * (1 - w) * (s[text, e] if s is not None else 0.25)
                    y = y + m * g * (a.A[i] @ token) * a.B[:, j]
            out.append(y)
    return torch.stack(out).view(*x.shape[:-1], -1)


def made(seed=0):
    handle = attach(bert(1).double(), AdapterConfig(method="mor1e", rank=3, experts=2, targets="q"), seed=seed, instance_dim=5)
    move(handle)
    return handle, handle.adapters[0]


@pytest.mark.parametrize("known", [True, False])
def test_equals_the_loop_with_and_without_sentence_embeddings(known):
    handle, a = made()
    g = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 16, generator=g, dtype=torch.float64)
    handle.fit(torch.randn(30, 5, generator=g, dtype=torch.float64))
    instance = torch.randn(2, 5, generator=g, dtype=torch.float64)
    (points,) = handle._context.centroids.values()
    s = torch.stack([torch.stack([torch.cosine_similarity(t, c, 0) for c in points]) for t in instance])

    def fast(x):
        with handle.context(instance=instance if known else None):
            return a(x)

    assert_same(fast, lambda x: slow(a, x, s if known else None), handle, x)
    torch.testing.assert_close(a.last.gate.sum(0), torch.ones(8, dtype=torch.float64))


def test_at_the_start_half_of_each_gate_is_the_router_and_half_the_similarity():
    handle = attach(bert(1), AdapterConfig(method="mor1e", rank=3, experts=2, targets="q"), instance_dim=2)
    a = handle.adapters[0]
    assert a.site.experts == 6 and not any(p.any() for p in (a.B, a.router, a.m, a.o))
    handle._context.centroids = {6: torch.eye(2)[[0, 1, 0, 1, 0, 1]]}
    with handle.context(instance=torch.tensor([[3.0, 4.0]])):
        a(torch.randn(1, 1, 16))
    # g = 6/2 * 1/6 + 4/2 * s with cosines s = 3/5 and 4/5: 1.7 and 2.1, over their sum 11.4
    expected = torch.tensor([1.7, 2.1] * 3)[:, None] / 11.4
    torch.testing.assert_close(a.last.gate, expected)


def test_each_expert_is_the_product_of_its_row_and_its_column():
    _, a = made()
    up, down = a.products()
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(up[i * 2 + j] @ down[i * 2 + j], torch.outer(a.B[:, j], a.A[i]))


def test_kmeans_finds_separate_bundles_of_directions():
    g = torch.Generator().manual_seed(0)
    axes = torch.eye(4)
    points = torch.cat([(axis + 0.1 * torch.randn(20, 4, generator=g)) * 7 for axis in axes])
    found = kmeans(points, 4, seed=1)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    assert sorted(similarity(axes, found).argmax(1).tolist()) == [0, 1, 2, 3]
    for i in range(4):  # each centroid is the direction of its bundle's mean
        mean = torch.nn.functional.normalize(torch.nn.functional.normalize(points[20 * i : 20 * i + 20], dim=1).sum(0), dim=0)
        assert similarity(mean[None], found).max() == pytest.approx(1, abs=1e-5)
    assert torch.equal(found, kmeans(points, 4, seed=1))


def test_more_centroids_than_points_is_no_error():
    assert torch.isfinite(kmeans(torch.eye(3), 8)).all()


def test_centroids_are_saved_and_loaded(tmp_path):
    handle, a = made()
    handle.fit(torch.randn(20, 5))
    x, instance = torch.randn(2, 4, 16, dtype=torch.float64), torch.randn(2, 5)
    with handle.context(instance=instance):
        expected = a(x)
    assert not torch.allclose(expected, a(x))  # the embeddings do count
    handle.save(tmp_path)
    config, extra = saved_config(tmp_path)
    again = attach(handle.detach(), config, seed=4, **extra)
    again.load(tmp_path)
    with again.context(instance=instance):
        assert torch.equal(again.adapters[0](x), expected)
