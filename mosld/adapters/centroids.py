"""k-means centroids of sentence embeddings, for methods that route by what a text is about.

Shapes: n embeddings of size d, k centroids.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ROUNDS = 25  # of Lloyd's algorithm; on a few hundred sentence embeddings it settles in about ten


def kmeans(points: Tensor, k: int, seed: int = 0, rounds: int = ROUNDS) -> Tensor:
    """Unit-length centroids [k, d] of `points` [n, d] by Lloyd's algorithm with cosine similarity (spherical k-means).

    The first centroids are drawn one by one, each with probability proportional to its squared distance from those drawn before
    (k-means++, Arthur and Vassilvitskii 2007). A centroid that no point is nearest to stays where it is.
    """
    points = F.normalize(points, dim=-1)
    generator = torch.Generator(points.device).manual_seed(seed)
    chosen = torch.zeros(0, points.shape[1], dtype=points.dtype, device=points.device)
    for _ in range(k):
        far = (1 - (points @ chosen.t()).amax(1)).clamp(min=1e-6) if len(chosen) else points.new_ones(len(points))
        chosen = torch.cat([chosen, points[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(rounds):
        member = F.one_hot((points @ chosen.t()).argmax(1), k).to(points.dtype)  # [n, k]
        total = member.t() @ points
        chosen = F.normalize(torch.where(member.sum(0)[:, None] > 0, total, chosen), dim=-1)
    return chosen


def similarity(instance: Tensor, centroids: Tensor) -> Tensor:
    """Cosine of each text's embedding [M, d] with each centroid: [M, k]."""
    return F.normalize(instance, dim=-1) @ centroids.t()
