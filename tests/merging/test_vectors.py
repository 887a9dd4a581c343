"""Task vectors: factors against dense matrices, adapters against Handle.merge, refusals."""

import pytest
import torch
from merging_helpers import adapters

from mosld.adapters import attach
from mosld.config import AdapterConfig, ConfigError
from mosld.merging import adamerging, task_arithmetic
from mosld.merging.vectors import Factors, dense, dot, entries, rms, size, stack, task_vector, weighted


@pytest.fixture
def updates():
    """Three updates of 5 x 4, of ranks 1, 2 and 3."""
    torch.manual_seed(0)
    return [Factors(torch.randn(5, r).double(), torch.randn(r, 4).double()) for r in (1, 2, 3)]


def test_factored_equals_dense(updates):
    scales = [0.3, -1.0, 2.0]
    full = [u.up @ u.down for u in updates]
    expected = sum(s * f for s, f in zip(scales, full, strict=True))
    stacked = stack(updates, scales)
    assert isinstance(stacked, Factors) and stacked.up.shape == (5, 6)
    torch.testing.assert_close(dense(stacked), expected)
    torch.testing.assert_close(weighted(updates, scales), expected)
    torch.testing.assert_close(weighted([full[0], updates[1], full[2]], scales), expected)
    torch.testing.assert_close(dense(stack([full[0], *updates[1:]], scales)), expected)
    gradient = torch.randn(5, 4).double()
    for u, f in zip(updates, full, strict=True):
        torch.testing.assert_close(dot(gradient, u), (gradient * f).sum())
        torch.testing.assert_close(dot(gradient, f), (gradient * f).sum())
    assert (size(updates[1]), entries(updates[1]), size(full[1])) == (2 * 9, 20, 20)


def test_rms_of_factors_is_that_of_the_matrices(updates):
    vector = {"a": updates[0], "b": updates[2], "c": torch.ones(2, 2).double()}
    squares = torch.cat([(updates[0].up @ updates[0].down).flatten(), (updates[2].up @ updates[2].down).flatten(), torch.ones(4)]).square()
    assert rms(vector) == pytest.approx(squares.mean().sqrt().item())


def test_task_arithmetic_of_two_parameters_by_hand():
    one, two = {"w": torch.tensor([[1.0, -2.0]])}, {"w": torch.tensor([[3.0, 4.0]])}
    # 0.5 * (1, -2) + 0.25 * (3, 4)
    assert task_arithmetic.merge([one, two], [0.5, 0.25])["w"].tolist() == [[1.25, 0.0]]


def test_coefficients_a_linear_merge_alike_in_factors_and_dense(updates):
    vectors = [{"a": updates[0], "b": updates[1]}, {"a": updates[2], "b": updates[0]}]
    lams = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double()
    factored, full = adamerging.merge(vectors, lams), adamerging.merged(vectors, lams)
    assert factored["a"].up.shape == (5, 4)
    for name, expected in (("a", 0.1 * dense(updates[0]) + 0.2 * dense(updates[2])), ("b", 0.3 * dense(updates[1]) + 0.4 * dense(updates[0]))):
        torch.testing.assert_close(dense(factored[name]), expected)
        torch.testing.assert_close(full[name], expected)


def test_a_task_vector_is_what_merge_adds(backbone):
    handle = adapters(backbone, 3)
    vector = task_vector(handle)
    base = {n: p.clone() for n, p in backbone.model.named_parameters()}
    merged = dict(handle.merge().named_parameters())
    assert all(isinstance(u, Factors) for u in vector.values()) and len(vector) == 4
    for name, update in vector.items():
        torch.testing.assert_close(merged[f"{name}.weight"] - base[f"{name}.weight"], dense(update))


def test_the_merged_model_answers_as_the_adapters_do(backbone, bench):
    handle = adapters(backbone, 1)
    batch = backbone.batch(bench.tasks[0].test, [0] * len(bench.tasks[0].test))
    with torch.no_grad():
        expected = backbone.score(batch, handle.model)
        for updates in (task_vector(handle), {n: dense(u) for n, u in task_vector(handle).items()}):
            bench.model.put(updates)
            torch.testing.assert_close(bench.model.score(batch), expected)
        bench.model.put({})
        torch.testing.assert_close(bench.model.score(batch), backbone.score(batch))


def test_adapters_without_one_matrix_are_refused(backbone):
    handle = attach(backbone.replica(), AdapterConfig(method="mosld", rank=2))
    with pytest.raises(ConfigError, match="MoSLD has no single update to merge; train the adapters of single tasks with lora"):
        task_vector(handle)
