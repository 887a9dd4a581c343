"""Adapter: one frozen linear with a gated mixture of low-rank experts, the base class of every method.

Shapes: M texts, L tokens a text, N = M L tokens, E experts, r rank.
    A and B follow `side`. With A on the input side: A [r, d_in] shared or [E, r, d_in], B [d_out, r] shared or [d_out, E, r].
    With A on the output side the two change places: A [d_out, r] or [d_out, E, r], B [r, d_in] or [E, r, d_in].

- `Context`: what a forward pass knows besides its input: padding mask, task and sentence embedding of each text, and the values
  that may change during a run (dropout rate, balance coefficient).
- `Site`: where an adapter sits. `Adapter`: parameters, forward pass, weight dropout, balance loss, routing record.

A method is a subclass: it sets how A starts, and overrides `build`, `gate` or `forward_tokens` where its equation differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mosld.adapters.kernel import mix, mixture, routed_gate
from mosld.config import AdapterConfig, ConfigError


@dataclass
class Context:
    """Shared by all adapters of one handle."""

    dropout: float
    balance: float
    generator: torch.Generator
    tasks: int = 1  # T, for methods that keep something per task
    instance_dim: int = 0  # size of a sentence embedding, for methods routed by it
    mask: Tensor | None = None  # [M, L], 1 at real tokens
    task: Tensor | None = None  # [M]
    instance: Tensor | None = None  # [M, instance_dim]
    step: int | None = None  # optimiser step under way, from 1; None outside a run
    probing: bool = False
    block: dict = field(default_factory=dict)  # what the linears of one layer hand to one another in a forward pass, by layer
    owners: dict[int, Adapter] = field(default_factory=dict)  # by layer: the adapter that holds the router of a whole block
    centroids: dict[int, Tensor] = field(default_factory=dict)  # by their number k: [k, instance_dim], set by `Handle.fit`

    def token_mask(self, shape: torch.Size) -> Tensor | None:
        """The padding mask of N flattened tokens, where the input has the batch's shape, else None (all tokens count)."""
        if self.mask is None or len(shape) != 3 or shape[:2] != self.mask.shape:
            return None
        return self.mask.reshape(-1)

    def tasks_of(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Task of each of the M texts of an input [M, L, d_in], [M]; 0 where no tasks are given. Raises ConfigError for a wrong number."""
        if self.task is None:
            return torch.zeros(shape[0], dtype=torch.long, device=device)
        if shape[0] != len(self.task):
            raise ConfigError(f"task: ids of {len(self.task)} texts are given, but the batch has {shape[0]}; give one a text.")
        return self.task

    def token_values(self, values: Tensor, shape: torch.Size) -> Tensor:
        """One value a text, repeated for its tokens: [M, ...] to [N, ...]."""
        return values.repeat_interleave(shape[1], 0)


@dataclass(frozen=True)
class Site:
    """Where an adapter sits: the linear's name, its layer from the bottom, its short target name and its experts."""

    name: str
    layer: int
    target: str
    experts: int


@dataclass(frozen=True)
class Routing:
    """The router's last decision at one linear: probabilities and gate [E, N], token mask [N] or None, input shape."""

    probabilities: Tensor
    gate: Tensor
    mask: Tensor | None
    shape: torch.Size


class Adapter(nn.Module):
    """y = W x + b + alpha / r * sum_e g_e(x) B_e A_e x, with the frozen W and b of `base` (any module with an [d_out, d_in] weight)."""

    formula = "h = W x + α/r · Σₑ gₑ(x) Bₑ Aₑ x"
    token_routed = True  # the gate depends on the input
    steerable = True  # its gate comes from `logits`: experts can be muted and forced
    task_routed = False  # the update depends on the task and on nothing else
    clusters = 0  # centroids of sentence embeddings the adapter routes by; 0: it does not look at `Context.instance`

    @classmethod
    def check(cls, config: AdapterConfig) -> None:
        """Refuse, before anything is replaced, what the method cannot do. Raises ConfigError."""

    def __init__(self, base: nn.Module, weight: Tensor, bias: Tensor | None, site: Site, config: AdapterConfig, context: Context):
        super().__init__()
        self.base, self.frozen_weight, self.frozen_bias = base, [weight], [bias]  # in lists: not registered a second time
        self.site, self.config, self.context = site, config, context
        self.d_out, self.d_in = weight.shape
        self.scale = config.alpha / config.rank
        self.aux: Tensor | None = None  # extra loss of the last forward pass
        self.last: Routing | None = None
        self.steer: Tensor | None = None  # [E], added to the router's logits: -inf mutes an expert (`mosld.training.inspector`)
        self.mask: Tensor | None = None  # the last dropout mask, 0 or 1 / (1 - p)
        self.sink: dict = {}  # what the kernel's backward leaves for the probes
        self.build()

    # What a method may override

    def build(self) -> None:
        """Make and draw the parameters: A drawn by `draw_a`, B zero, router N(0, .02^2)."""
        E, r = self.site.experts, self.config.rank
        a_in = self.config.side == "input"
        self.A = nn.Parameter(self._empty(self.config.share == "A" or E == 1, a_in, r, E))
        self.B = nn.Parameter(torch.zeros_like(self._empty(self.config.share == "B" or E == 1, not a_in, r, E)))
        self.draw_a(self.A.data, self.d_in if a_in else self.d_out)
        self.add_router(self.d_in)

    def draw_a(self, a: Tensor, fan: int) -> None:
        """kaiming_uniform(sqrt 5) of LoRA's code: uniform on +- 1 / sqrt(fan)."""
        a.uniform_(-1 / math.sqrt(fan), 1 / math.sqrt(fan), generator=self.context.generator)

    def forward_tokens(self, x: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """y [N, d_out], probabilities and gate [E, N] of tokens x [N, d_in] that came in `shape`."""
        down, up = self.factors()
        weight, bias, router = self.frozen_weight[0], self.frozen_bias[0], self.router
        if self.dropping("activations") or self.steer is not None:
            hidden = down @ (self.drop(x) if self.dropping("activations") else x).t()
            p = g = None
            if router is not None:
                p, g = routed_gate(self.logits(x), self.config.top_k)
            return mix(F.linear(x, weight, bias), hidden, g, up, self.scale), p, g
        sink = None
        if self.context.probing and router is not None and self.A.dim() == 2 and self.config.side == "input":
            self.sink = sink = {"mask": self.mask if self.dropping("A") else None}
        return mixture(x, weight, bias, down, up, self.scale, router, self.config.top_k, sink)

    def logits(self, x: Tensor) -> Tensor:
        """Router logits [E, N] of tokens x [N, d_in], with what `steer` adds to them."""
        logits = self.router @ x.t()
        return logits if self.steer is None else logits + self.steer[:, None]

    def extra_loss(self, p: Tensor, g: Tensor, mask: Tensor | None) -> Tensor | None:
        """The load-balance loss, coefficient included."""
        if self.context.balance == 0 or self.site.experts == 1:
            return None
        return self.context.balance * balance_loss(p, g, mask)

    # What all share

    def _empty(self, shared: bool, at_input: bool, r: int, E: int) -> Tensor:
        weight = self.frozen_weight[0]
        shape = ((r,) if shared else (E, r)) + (self.d_in,) if at_input else (self.d_out,) + ((r,) if shared else (E, r))
        return torch.empty(shape, dtype=weight.dtype)

    def add_router(self, d_in: int) -> None:
        """A token router without bias, or None where there is one expert."""
        self.router = None
        if self.site.experts > 1:
            router = torch.empty(self.site.experts, d_in, dtype=self.frozen_weight[0].dtype)
            self.router = nn.Parameter(router.normal_(0, 0.02, generator=self.context.generator))

    @property
    def weight(self) -> Tensor:
        """The frozen weight [d_out, d_in]; transformers' own code looks at a linear's dtype through it."""
        return self.frozen_weight[0]

    @property
    def bias(self) -> Tensor | None:
        return self.frozen_bias[0]

    def dropping(self, site: str) -> bool:
        return self.training and self.context.dropout > 0 and self.config.dropout_on == site

    def drop(self, w: Tensor) -> Tensor:
        """w with every entry dropped at the rate p and the rest scaled by 1 / (1 - p). One draw for the whole forward pass."""
        keep = 1 - self.context.dropout
        self.mask = torch.empty_like(w).bernoulli_(keep, generator=self.context.generator).div_(keep)
        return w * self.mask

    def factors(self) -> tuple[Tensor, Tensor]:
        """(down, up): the factor next to the input and the one next to the output, with this forward pass's weight dropout."""
        a = self.drop(self.A) if self.dropping("A") else self.A
        b = self.drop(self.B) if self.dropping("B") else self.B
        return (a, b) if self.config.side == "input" else (b, a)

    def stacks(self, read: Callable[[nn.Parameter], Tensor] = lambda p: p) -> tuple[Tensor, Tensor]:
        """A and B without dropout as stacks of matrices, [1 or E, ., .] each. `read` may give something else of the same shape: the
        gradient, or the last step."""

        def matrices(p: nn.Parameter, at_input: bool) -> Tensor:
            w = read(p)
            if w.dim() == 2:
                return w[None]
            return w if at_input else w.permute(1, 0, 2)

        a_in = self.config.side == "input"
        return matrices(self.A, a_in), matrices(self.B, not a_in)

    def products(self) -> tuple[Tensor, Tensor]:
        """(up [1 or E, d_out, r], down [1 or E, r, d_in]) so that up_e @ down_e is the update of expert e, scale left out."""
        a, b = self.stacks()
        return (b, a) if self.config.side == "input" else (a, b)

    def delta(self, task: int = 0) -> Tensor:
        """The update as one matrix [d_out, d_in], for an adapter of one expert; `task` matters to task-routed methods only."""
        up, down = self.products()
        return self.scale * up[0] @ down[0]

    def forward(self, x: Tensor) -> Tensor:
        self.aux = None
        y, p, g = self.forward_tokens(x.reshape(-1, self.d_in), x.shape)
        if p is not None:
            mask = self.context.token_mask(x.shape)
            self.last = Routing(p.detach(), g.detach(), mask, x.shape)
            if self.training and torch.is_grad_enabled():
                self.aux = self.extra_loss(p, g, mask)
        return y.view(*x.shape[:-1], self.d_out)


def balance_loss(p: Tensor, g: Tensor, mask: Tensor | None) -> Tensor:
    """E * sum_e f_e P_e over real tokens: 1 where balanced (Switch Transformer, arXiv 2101.03961, equation 4).

    f_e is the share of all choices that fell on expert e, a constant to the gradient; P_e is the mean router probability.
    The paper's L_b = sum_k c_k s_k (arXiv 2412.08946) is the same up to counts in place of shares.
    """
    chosen = (g > 0).to(p.dtype)
    if mask is None:
        f, mean = chosen.sum(1), p.mean(1)
    else:
        w = mask.to(p.dtype)
        f, mean = chosen @ w, p @ (w / w.sum())
    return p.shape[0] * (f / f.sum()) @ mean
