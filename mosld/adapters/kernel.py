"""The fused kernel: frozen linears that read one input, each with a gated mixture of low-rank experts on it.

    y = W x + b + scale * sum_e g_e(x) up_e down_e x

Shapes: N tokens, E experts, r rank, d_in, d_out, G linears.
    x [N, d_in] · weight [d_out, d_in] · bias [d_out]
    down [r, d_in] shared by all experts, or [E, r, d_in]
    up   [d_out, r] shared, or [d_out, E, r]   (so that all experts' columns lie side by side in one matrix)
    gate [E, N], zero where an expert is not chosen: a dense gate with zeros needs no gather and no host round trip

With H = down x and Z = gate ⊗ H the mixture is one more matrix product, y += scale * Z up. Nothing of size N x E x d_out exists.

Precision: x and weight give the one that products are computed in; down and up are rounded to it, their gradients come back in their own.
The router is not rounded: its logits, softmax and gate are computed in its own precision, float32 as a rule.

- `mixtures`: linears with a top-k router in one autograd node, backward written out, balance loss and weight dropout inside. The hot path. The work
  itself is done by `mosld.adapters.native` (C, on a CPU) or `mosld.adapters.eager` (anywhere), which give the same but for rounding.
- `mixture`: the same for one linear.
- `mix`: base + scale * Z up in plain autograd, for methods that build H or the gate in their own way and for linears that are not plain.
- `routed_gate`: softmax over experts, the largest k kept and renormalised to sum 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mosld.adapters import eager, native
from mosld.adapters.eager import FIELDS, Found, Linear, Work, gated, routed_gate, share


def mix(base: Tensor, hidden: Tensor, gate: Tensor | None, up: Tensor, scale: float) -> Tensor:
    """base [N, d_out] + scale * sum_e gate_e up_e hidden_e, in plain autograd.

    `hidden` is [r, N] (one for all experts) or [E, r, N]; `gate` None stands for one expert with weight 1. All are rounded to base's precision.
    """
    z = gated(hidden, gate, shared_up=up.dim() == 2)
    return torch.addmm(base, z.to(base.dtype).t(), up.reshape(up.shape[0], -1).t().to(base.dtype), alpha=scale)


class Mixed(NamedTuple):
    """What `mixtures` gives. Probabilities, gates and losses have the linears as first dimension; None where nothing is routed."""

    y: Sequence[Tensor]  # [..., d_out] each
    p: Tensor | None  # [G, E, N]; None too where the gate was given
    gate: Tensor | None  # [G, E, N], a record without gradient
    loss: Sequence[Tensor] | None  # one each, where a balance coefficient was given


def mixtures(
    x: Tensor,
    linears: Sequence[Linear],
    scale: float,
    top_k: int = 0,
    balance: float = 0.0,
    tokens: Tensor | None = None,
    sinks: Sequence[dict | None] | None = None,
) -> Mixed:
    """Adapted linears that read one input x [..., d_in], of N tokens, and have as many experts of one rank, in one autograd node.

    Args:
        top_k: experts kept a token; 0 keeps all.
        balance: coefficient of the load-balance loss E sum_e f_e P_e (`mosld.adapters.balance.balance_loss`); 0: no loss.
        tokens: [N] weight of each token in it, sum 1; None: all alike.
        sinks: a dict for each linear, or None. Backward puts `ask` into it, [E]: the Frobenius norm of each expert's own share
            G_e = (g_e * (dL/dy up_e))^T x of the gradient of `down` (for a shared `down`, dL/d down = sum_e G_e), of the weights before dropout.

    Gradients reach x, down, up, router, logits and gate, and weight and bias where they ask for one, through y, the probabilities and the loss.
    Second derivatives are those of the same equation in plain autograd.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            return mixtures(x.to(dtype), linears, scale, top_k, balance, tokens, sinks)
    cast = [
        t if t.weight.dtype == x.dtype else t._replace(weight=t.weight.to(x.dtype), bias=None if t.bias is None else t.bias.to(x.dtype))
        for t in linears
    ]
    loss, p, gate, *ys = _Mixtures.apply(x, tokens, scale, top_k, balance, sinks, *(t for linear in cast for t in linear))
    return Mixed(ys, p, gate, None if loss is None else loss.unbind())


def mixture(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scale: float,
    router: Tensor | None = None,
    top_k: int = 0,
    sink: dict | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """One adapted linear: y [N, d_out], router probabilities [E, N] and gate [E, N]; None for both where there is no router. See `mixtures`."""
    found = mixtures(x, [Linear(weight, bias, down, up, router)], scale, top_k, sinks=[sink])
    return (found.y[0], None, None) if router is None else (found.y[0], found.p[0], found.gate[0])


def _open(x, tokens, scale, top_k, balance, linears):
    """`mixtures` in plain autograd: the losses [G] and probabilities [G, E, N] (or None), then every y."""
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    ys, ps, losses = [], [], []
    for t in linears:
        p, g = None, t.gate
        down = t.down if t.drop is None else t.down * t.drop
        if t.router is not None or t.logits is not None:
            p, g = routed_gate(torch.matmul(t.router, x.to(t.router.dtype).t()) if t.logits is None else t.logits, top_k)
            f, mean = share(g.detach(), tokens), p.mean(-1) if tokens is None else torch.matmul(p, tokens)
            ps.append(p)
            losses.append(balance * len(p) * (f * mean).sum())
        ys.append(mix(F.linear(x, t.weight, t.bias), torch.matmul(down.to(x.dtype), x.t()), g, t.up, scale).view(*shape[:-1], -1))
    return torch.stack(losses) if balance and losses else None, torch.stack(ps) if ps else None, *ys


class _Mixtures(torch.autograd.Function):
    """`mixtures` with its backward written out: every small product is done once, a frozen weight gets no gradient."""

    @staticmethod
    def forward(ctx, x, tokens, scale, top_k, balance, sinks, *tensors):
        linears = [Linear(*tensors[i : i + FIELDS]) for i in range(0, len(tensors), FIELDS)]
        work = Work(x.reshape(-1, x.shape[-1]), linears, scale, top_k, balance, tokens)
        ctx.way = native if native.fits(work) else eager
        found = ctx.way.forward(work)
        _, p, g, loss, pull, kept = found
        ctx.save_for_backward(x, tokens, p, g, pull, *tensors, *kept)
        ctx.settings, ctx.sinks, ctx.shape = (scale, top_k, balance), sinks, x.shape
        ctx.set_materialize_grads(False)
        if g is not None:
            g = g.clone() if g is p else g
            ctx.mark_non_differentiable(g)
        return loss, p, g, *(y.view(*x.shape[:-1], -1) for y in found.ys)

    @staticmethod
    def backward(ctx, d_loss, dp, _, *dys):
        given, tokens, p, g, pull, *tensors = ctx.saved_tensors
        end = FIELDS * len(dys)
        linears = [Linear(*tensors[i : i + FIELDS]) for i in range(0, end, FIELDS)]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # create_graph: a second derivative is to be taken
            return _again(ctx, given, tokens, linears, d_loss, dp, dys)  # of the very input: what was made of it in `forward` has no graph
        x, needs = given.reshape(-1, given.shape[-1]), ctx.needs_input_grad
        dys = [x.new_zeros(len(x), len(t.weight)) if dy is None else dy.reshape(len(x), -1) for t, dy in zip(linears, dys, strict=True)]
        found = Found((), p, g, None, pull, tensors[end:])
        got = ctx.way.backward(Work(x, linears, *ctx.settings, tokens), found, dys, d_loss, dp, ctx.sinks, needs[0])
        out = [None if got.x is None else got.x.view(ctx.shape), None, None, None, None, None]
        for i, (t, dy) in enumerate(zip(linears, dys, strict=True)):
            at = 6 + FIELDS * i
            d_down = got.down[i].view(t.down.shape).to(t.down.dtype)
            out += [
                torch.mm(dy.t(), x) if needs[at] else None,
                dy.sum(0) if needs[at + 1] else None,
                d_down if t.drop is None else d_down * t.drop,
                got.up[i].view(t.up.shape).to(t.up.dtype),
                None if t.router is None else got.router[i],
                None if t.logits is None else got.logits[i],
                None,
                None if t.gate is None else got.gate[i],
            ]
        return tuple(out)


def _again(ctx, x, tokens, linears, d_loss, dp, dys):
    """The gradients of `_Mixtures` as functions of its inputs and of what comes from above, for second derivatives."""
    flat = [x, *([None] * 5), *(t for linear in linears for t in linear)]
    with torch.enable_grad():
        leaves = [t.view_as(t) if t is not None and n else t for t, n in zip(flat, ctx.needs_input_grad, strict=True)]
        again = [Linear(*leaves[i : i + FIELDS]) for i in range(6, len(leaves), FIELDS)]
        outs = _open(leaves[0], tokens, *ctx.settings, again)
        given = [(o, d) for o, d in zip(outs, (d_loss, dp, *dys), strict=True) if o is not None and d is not None]
        asked = [i for i, t in enumerate(leaves) if t is not None and ctx.needs_input_grad[i]]
        found = torch.autograd.grad([o for o, _ in given], [leaves[i] for i in asked], [d for _, d in given], create_graph=True, allow_unused=True)
    out: list[Tensor | None] = [None] * len(flat)
    for i, grad in zip(asked, found, strict=True):
        out[i] = grad
    return tuple(out)
