"""Merges by singular vectors: cases with a known answer, and references by other means (numpy, scipy)."""

import numpy as np
import pytest
import scipy.linalg
import torch

from mosld.merging import spectral, task_arithmetic, ties
from mosld.merging.vectors import Factors, dense


@pytest.fixture
def taus():
    """Three task vectors of rank 2 on a 12 x 10 linear."""
    torch.manual_seed(0)
    return [{"w": Factors(torch.randn(12, 2).double(), torch.randn(2, 10).double())} for _ in range(3)]


def full(taus):
    return [dense(v["w"]).numpy() for v in taus]


def test_tsv_of_tasks_that_share_no_direction_is_their_sum():
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 6).double())[0] for n in (12, 10))
    taus = [{"w": Factors(u[:, 2 * t : 2 * t + 2] * torch.tensor([3.0, 1.0]), v[:, 2 * t : 2 * t + 2].t())} for t in range(3)]
    torch.testing.assert_close(dense(spectral.tsv(taus)["w"]), sum(dense(t["w"]) for t in taus))


def test_tsv_against_polar_factors(taus):
    parts = [np.linalg.svd(t, full_matrices=False) for t in full(taus)]  # 10 directions for 3 tasks: 3 each, of which 2 are there
    u = scipy.linalg.polar(np.concatenate([p[0][:, :2] for p in parts], 1))[0]
    v = scipy.linalg.polar(np.concatenate([p[2][:2].T for p in parts], 1))[0]
    s = np.concatenate([p[1][:2] for p in parts])
    np.testing.assert_allclose(dense(spectral.tsv(taus, 0.5)["w"]).numpy(), 0.5 * u @ np.diag(s) @ v.T, atol=1e-10)


def test_iso_makes_all_singular_values_their_mean_and_keeps_the_directions(taus):
    total, merged = sum(full(taus)), dense(spectral.iso(taus)["w"]).numpy()
    before, after = (np.linalg.svd(m, compute_uv=False)[:6] for m in (total, merged))
    np.testing.assert_allclose(after, before.mean(), rtol=1e-9)
    assert np.linalg.matrix_rank(merged) == 6
    # U V^T of the sum is its polar factor on its own row space.
    np.testing.assert_allclose(merged @ np.linalg.pinv(total) @ merged, before.mean() ** 2 * np.linalg.pinv(total.T), atol=1e-8)


def test_knots_merges_in_one_basis(taus):
    parts = np.linalg.svd(np.concatenate(full(taus), 1), full_matrices=False)
    rank = 6
    right = [{"w": torch.from_numpy(parts[2][:rank, 10 * t : 10 * t + 10].copy())} for t in range(3)]
    expected = (parts[0][:, :rank] * parts[1][:rank]) @ ties.merge(right, 0.3)["w"].numpy()
    np.testing.assert_allclose(dense(spectral.knots(taus, 0.3)["w"]).numpy(), expected, atol=1e-9)
    # Kept whole and summed without election there would be nothing but Task Arithmetic: of one task, KnOTS is that task.
    torch.testing.assert_close(dense(spectral.knots(taus[:1], 1.0)["w"]), dense(task_arithmetic.merge(taus[:1], [1.0])["w"]))


def test_truncation_is_the_nearest_of_its_rank(taus):
    total = torch.from_numpy(sum(full(taus)))
    s = torch.linalg.svdvals(total)
    for rank in (1, 3, 6, 50):
        cut = spectral.truncate(total, rank)
        assert cut.down.shape[0] == min(rank, 6)
        torch.testing.assert_close((total - dense(cut)).norm(), s[rank:].norm(), atol=1e-9, rtol=1e-9)


def test_a_linear_that_no_task_changed_stays_unchanged():
    zero = [{"w": torch.zeros(4, 3)} for _ in range(2)]
    for merge in (spectral.tsv, spectral.iso, spectral.knots):
        assert dense(merge(zero)["w"]).abs().sum() == 0
