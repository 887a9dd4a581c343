"""Intuition-MoR1E (Liu et al., arXiv 2404.08985): r1 x r2 rank-one experts, gated by a token router and by what the text is about.

    h = W x + sigmoid(100 m) B v,   v_j = sum_{i<=r1} g_ij a_i x,   j <= r2
    g = E w softmax(W_r x) + 4 (1 - w) s,   w = sigmoid(100 o),   E = r1 r2

A [r1, d_in], B [d_out, r2]: expert (i, j) is the rank-one matrix b_j a_i. s [E] is the cosine of the text's sentence embedding with E
k-means centroids, found once a data set from the frozen backbone's embeddings (`fit`, before training; saved with the adapter)
and handed in as `Context.instance`. There is no alpha / r. A starts as in LoRA, B, router, m and o at zero.
Parameters a linear: r1 d_in + r2 d_out + r1 r2 d_in + 2. `rank` is r1 and `experts` is r2: rank 8, experts 4 are the paper's 32 experts.

Unverified: which r1 and r2 make the 32; E in front of the softmax where E is not 32; the similarity (here the cosine).
Where no embedding of the texts is given, s is 1/4: then 4 s is the mean weight of the router's part. All columns of
B are then treated alike, so train with embeddings, as the Trainer does.
Probes: A and B as stacks of rows a_i and columns b_j, one entry an expert (i, j); the gate is |g| over its sum.
"""

import dataclasses

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.centroids import similarity
from mosld.adapters.context import one_a_text
from mosld.adapters.kernel import mix
from mosld.config import ConfigError


class MoR1E(Adapter):
    """Rank-one experts b_j a_i that share rows and columns."""

    hints = {
        "gate": "Two parts are added: a router's softmax, and the similarity of the whole text to known centroids. These weights need not sum to 1.",
        "hidden": "An expert is of rank one: its row of A gives a single number. Rows are shared among experts.",
    }
    steerable = False
    by_text = True

    def build(self) -> None:
        self.rows, self.columns = self.config.rank, self.site.experts
        self.clusters = self.rows * self.columns
        self.site = dataclasses.replace(self.site, experts=self.clusters)
        zeros = lambda *shape: nn.Parameter(torch.zeros(shape, dtype=self.dtype))  # noqa: E731
        self.A, self.B, self.router = zeros(self.rows, self.d_in), zeros(self.d_out, self.columns), zeros(self.clusters, self.d_in)
        self.draw_a(self.A.data, self.d_in)
        self.m, self.o = zeros(1), zeros(1)
        self.register_buffer("centroids", None)  # its own copy under PEFT, whose files hold what the modules hold

    def intuition(self, shape: torch.Size) -> Tensor | float:
        """s of every token [E, N], or 1/4 where the texts' embeddings are not known. Raises ConfigError: embeddings without centroids, or of
        other texts."""
        instance = self.context.instance
        if instance is None:
            return 0.25
        centroids = self.centroids if self.centroids is not None else self.context.centroids.get(self.clusters)
        if centroids is None:
            raise ConfigError("instance: sentence embeddings are given, but no centroids to compare them with; find these first, with fit.")
        if len(shape) != 3 or instance.shape[1] != centroids.shape[1]:
            raise ConfigError(
                f"instance: embeddings of size {instance.shape[1]} are compared with centroids of size {centroids.shape[1]} and weigh texts "
                f"[texts, tokens, size], and {self.site.name} gets {list(shape)}; give embeddings of the size fitted, or choose other targets."
            )
        s = similarity(one_a_text("instance: embeddings", instance.to(centroids), shape[0]), centroids).to(self.A.dtype)
        return self.context.token_values(s, shape).t()

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        hidden = self.A.to(x.dtype) @ x.t()  # [r1, N]
        p = (self.router @ x.to(self.router.dtype).t()).softmax(0)  # [E, N]
        w = torch.sigmoid(100 * self.o)
        g = self.clusters * w * p + 4 * (1 - w) * self.intuition(call.shape)  # expert (i, j) in row i r2 + j
        v = (g.view(self.rows, self.columns, len(x)) * hidden[:, None]).sum(0)  # [r2, N]
        y = mix(call.frozen(x), torch.sigmoid(100 * self.m) * v, None, self.B, 1.0)
        size = g.detach().abs()
        return y, p, size / size.sum(0)

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        w = torch.sigmoid(100 * self.o)
        up, down = self.products()
        weight = self.clusters * w * self.last.probabilities + 4 * (1 - w) * self.intuition(shape)
        return {"hidden": down @ x, "up": up, "weight": weight, "scale": float(torch.sigmoid(100 * self.m)), "name": "aᵢ x"}

    def stacks(self, read=lambda p: p) -> tuple[Tensor, Tensor]:
        """Rows a_i [E, 1, d_in] and columns b_j [E, d_out, 1], each repeated so that entry i r2 + j is expert (i, j)."""
        rows, columns = read(self.A)[:, None], read(self.B).t()[:, :, None]
        return rows.repeat_interleave(self.columns, 0), columns.repeat(self.rows, 1, 1)
