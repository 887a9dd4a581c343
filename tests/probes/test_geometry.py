"""Geometry through r x r matrices against the full products, and cases known by hand."""

import pytest
import torch

from mosld.probes import geometry


@pytest.mark.parametrize("ups,downs", [(4, 1), (1, 4), (4, 4)])
def test_cosines_and_singular_values_equal_those_of_the_full_updates(ups, downs):
    torch.manual_seed(0)
    up, down = torch.randn(ups, 9, 3, dtype=torch.float64), torch.randn(downs, 3, 7, dtype=torch.float64)
    full = [up[e % ups] @ down[e % downs] for e in range(4)]
    flat = torch.stack([f.flatten() for f in full])
    expected = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=-1)
    torch.testing.assert_close(geometry.update_cosines(up, down), expected)
    values = geometry.singular_values(up, down)
    torch.testing.assert_close(values, torch.stack([torch.linalg.svdvals(f)[:3] for f in full]))
    torch.testing.assert_close(geometry.stable_rank(values[0]), full[0].norm() ** 2 / torch.linalg.matrix_norm(full[0], 2) ** 2)


def test_zero_updates_are_gaps():
    up, down = torch.zeros(2, 4, 2), torch.randn(1, 2, 3)
    up[1] = torch.randn(4, 2)
    cosines = geometry.update_cosines(up, down)
    assert cosines[0].isnan().all() and cosines[1, 1] == pytest.approx(1)
    assert geometry.stable_rank(geometry.singular_values(up, down))[0].isnan()


def test_stable_rank_by_hand():
    assert float(geometry.stable_rank(torch.tensor([2.0, 1.0, 0.0]))) == 1.25
    assert float(geometry.stable_rank(torch.tensor([3.0, 3.0, 3.0]))) == 3


def test_conflict_by_hand():
    gradients = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    cosines = geometry.conflict(gradients)
    torch.testing.assert_close(cosines[:3, :3], torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert cosines[3].isnan().all()
