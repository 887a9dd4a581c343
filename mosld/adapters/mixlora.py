"""MixLoRA (Li et al., TUDB, arXiv 2404.15159): experts that are whole feed-forward blocks, told apart by LoRA on their linears.

    ffn(x) = sum_{k in top-K} g_k(x) F_k(x),   F_k = the frozen block with B_k A_k on `up`, `gate` and `down`
    attention linears: W x + alpha / r * B A x, plain LoRA

One token router a block, softmax(W_r x) on the block's input x, K = 2 of E = 8 kept and renormalised; it belongs to `up`. A as in LoRA, B at
zero, router N(0, .02^2); balance loss E sum F_e P_e with coefficient .001, once a block.
Parameters: E r (d_in + d_out) for each of the block's linears, + E d_in for `up`; r (d_in + d_out) for every other linear.

The activation lies between the linears, so the K chosen experts of a token cannot be mixed before `down`. `up` and `gate` therefore give K
results a token, [K, ..., d_ffn] (the frozen product is computed once), the model's own activation works on all of them, and `down`, which is
linear, mixes them before its frozen product. Every token sent to its own K experts costs K activations and no more; K = 0 takes all E.
A `gate` that is not among the targets stays frozen. Targets must be given by their short names.
Unverified: whether the shares F_e sum to K (here to 1).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from mosld.adapters.adapter import Adapter, Call, Routing
from mosld.adapters.kernel import mix
from mosld.config import AdapterConfig, ConfigError
from mosld.registry import BLOCK


@dataclass(frozen=True)
class Route:
    """Where a block sends its tokens, handed from its first linear to the others: K choices a token, best first."""

    x: Tensor  # the block's input
    chosen: Tensor  # [K, E, N], one-hot over E
    weight: Tensor  # [K, N], the gates of the choices
    record: Routing
    p: Tensor  # [E, N], with gradient


class MixLoRA(Adapter):
    """A linear of a routed feed-forward block; plain LoRA anywhere else."""

    steerable = False

    @property
    def walkable(self) -> bool:
        return self.site.experts == 1  # a routed block's experts are whole blocks

    @classmethod
    def check(cls, config: AdapterConfig) -> None:
        if set(config.targets) & set(BLOCK) and not {"up", "down"} <= set(config.targets):
            raise ConfigError(
                f"targets: {','.join(config.targets)} is not allowed; MixLoRA's experts are whole feed-forward blocks: "
                "give up and down together (and gate where the model has it), or none of them."
            )

    def build(self) -> None:
        if self.site.target not in BLOCK:
            self.site = dataclasses.replace(self.site, experts=1)
        super().build()

    def add_router(self, d_in: int) -> None:
        self.token_routed, self.task_routed = True, False  # whole blocks with an activation between merge into nothing
        if self.site.target == "up":
            super().add_router(d_in)
            self.context.owners[self.site.block] = self
        else:
            self.router = None

    def answer(self, x: Tensor, call: Call) -> Tensor:
        if self.site.experts == 1:
            return super().answer(x, call)
        route = self.route(x, call)
        self.note(route.p if self.site.target == "up" else None, route.record.gate, call)
        if not call.again:
            self.last = route.record
        return self.mixed(x, route, call) if self.site.target == "down" else self.each(x, route, call)

    def route(self, x: Tensor, call: Call) -> Route:
        """The block's choices, made by whichever of `up` and `gate` is called first, taken out by `down`."""
        routes, block = self.context.block, self.site.block
        if self.site.target == "down":
            return routes.pop(block)
        if block not in routes or routes[block].x is not call.x:
            p, gate = self.context.owners[block].gates(x.reshape(-1, self.d_in), call)
            weight, index = gate.topk(self.config.top_k or len(p), 0)
            chosen = p.new_zeros(len(index), *p.shape).scatter(1, index[:, None], 1.0)
            routes[block] = Route(call.x, chosen, weight, Routing(p.detach(), gate.detach(), call.mask, call.shape), p)
        return routes[block]

    def each(self, x: Tensor, route: Route, call: Call) -> Tensor:
        """The linear for every chosen expert: [..., d_in] to [K, ..., d_out]."""
        tokens, up = x.reshape(-1, self.d_in), self.B.flatten(1).to(x.dtype)
        hidden = (self.A.flatten(0, 1).to(x.dtype) @ tokens.t()).view(*self.A.shape[:2], len(tokens))  # [E, r, N]
        z = (route.chosen[:, :, None].to(x.dtype) * hidden).flatten(1, 2)  # [K, E r, N]
        base = call.frozen(tokens)
        y = torch.baddbmm(base.expand(len(z), -1, -1), z.transpose(1, 2), up.t().expand(len(z), -1, -1), alpha=self.scale)
        return y.view(len(z), *x.shape[:-1], self.d_out)

    def mixed(self, x: Tensor, route: Route, call: Call) -> Tensor:
        """The weighted sum of the linear over the chosen experts: [K, ..., d_in] to [..., d_out]."""
        tokens, weight = x.flatten(1, -2), route.weight.to(x.dtype)  # [K, N, d_in], [K, N]
        hidden = (self.A.flatten(0, 1).to(x.dtype) @ tokens.transpose(1, 2)).view(len(tokens), *self.A.shape[:2], tokens.shape[1])  # [K, E, r, N]
        z = ((weight[:, None] * route.chosen.to(x.dtype))[:, :, None] * hidden).sum(0).flatten(0, 1)  # [E r, N]
        mean = (weight[:, :, None] * tokens).sum(0)
        return mix(call.frozen(mean), z, None, self.B, self.scale).view(*x.shape[1:-1], self.d_out)
