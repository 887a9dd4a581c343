"""The fused kernel: frozen linears that read one input, each with a gated mixture of low-rank experts on it.

    y = W x + b + scale * sum_e g_e(x) up_e down_e x

Shapes: N tokens, E experts, r rank, d_in, d_out, G linears.
    x [N, d_in] · weight [d_out, d_in] · bias [d_out]
    down [r, d_in] shared by all experts, or [E, r, d_in]
    up   [d_out, r] shared, or [d_out, E, r]   (so that all experts' columns lie side by side in one matrix)
    gate [E, N], zero where an expert is not chosen: a dense gate with zeros needs no gather and no host round trip

With H = down x and Z = gate ⊗ H the mixture is one more matrix product, y += scale * Z up. Nothing of size N x E x d_out exists.
Small tensors are kept expert-first ([E, N], [E, r, N]): reductions over experts or rank are then several times quicker on a CPU.
The rows of down and router of all G linears are one matrix: x is read once for all of them, forward and backward. Wide results are written by
the low-rank product first, so that the frozen product adds to them as it goes (beta 1 of a matrix product), not in a pass of its own.

Precision: x and weight give the one that products are computed in; down and up are rounded to it, their gradients come back in their own.
The router is not rounded: its logits, softmax and gate are computed in its own precision, float32 as a rule. (On a GPU a bfloat16 input meets the
router in two parts of bfloat16, which together hold 16 of its bits, and the products are summed up in float32.)

- `mixtures`: linears with a top-k router in one autograd node, backward written out, balance loss and weight dropout inside. The hot path.
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

from mosld.adapters import islands


def routed_gate(logits: Tensor, top_k: int, renormalise: bool = True) -> tuple[Tensor, Tensor]:
    """Router probabilities and gate, both [..., E, N], from logits [..., E, N].

    softmax over experts; the `top_k` largest kept and renormalised to sum 1 (arXiv 2412.08946, section 3), or as they are; 0 keeps all. Of equal
    logits at the edge as many are kept as there is room for, so that a token always has exactly `top_k` experts.
    """
    p = logits.softmax(-2)
    if top_k == 0 or top_k >= p.shape[-2]:
        return p, p
    value, index = p.topk(top_k, -2, sorted=False)
    return p, torch.zeros_like(p).scatter(-2, index, value / value.sum(-2, keepdim=True) if renormalise else value)


def mix(base: Tensor, hidden: Tensor, gate: Tensor | None, up: Tensor, scale: float) -> Tensor:
    """base [N, d_out] + scale * sum_e gate_e up_e hidden_e, in plain autograd.

    `hidden` is [r, N] (one for all experts) or [E, r, N]; `gate` None stands for one expert with weight 1. All are rounded to base's precision.
    """
    z = _gated(hidden, gate, shared_up=up.dim() == 2)
    return torch.addmm(base, z.to(base.dtype).t(), up.reshape(up.shape[0], -1).t().to(base.dtype), alpha=scale)


def _gated(hidden: Tensor, gate: Tensor | None, shared_up: bool) -> Tensor:
    """Z, [..., r, N] where `up` is shared or there is one expert, else [..., E r, N], in the precision of `hidden` ([..., 1 or E, r, N])."""
    if gate is None:
        return hidden.reshape(-1, hidden.shape[-1])
    z = gate.unsqueeze(-2).to(hidden.dtype) * hidden
    return z.sum(-3) if shared_up else z.flatten(-3, -2)


class Linear(NamedTuple):
    """One linear of a node. Without `router`, `logits` and `gate` it has one expert with weight 1 (plain LoRA)."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor
    router: Tensor | None = None  # [E, d_in]
    logits: Tensor | None = None  # [E, N], made elsewhere, in place of the router
    drop: Tensor | None = None  # of the shape of `down`, 0 or 1 / (1 - p): multiplied into it
    gate: Tensor | None = None  # [E, N], made elsewhere (`mosld.adapters.routers`), in place of router and logits; there is no loss then


FIELDS = len(Linear._fields)


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
            f, mean = _share(g.detach(), tokens), p.mean(-1) if tokens is None else torch.matmul(p, tokens)
            ps.append(p)
            losses.append(balance * len(p) * (f * mean).sum())
        ys.append(mix(F.linear(x, t.weight, t.bias), torch.matmul(down.to(x.dtype), x.t()), g, t.up, scale).view(*shape[:-1], -1))
    return torch.stack(losses) if balance and losses else None, torch.stack(ps) if ps else None, *ys


def _share(gate: Tensor, tokens: Tensor | None) -> Tensor:
    """Share of all choices that fell on each expert, [..., E, N] to [..., E]."""
    chosen = gate.sign()
    f = chosen.sum(-1) if tokens is None else torch.matmul(chosen, tokens)
    return f / f.sum(-1, keepdim=True).clamp(min=torch.finfo(f.dtype).tiny)


class _Mixtures(torch.autograd.Function):
    """`mixtures` with its backward written out: every small product is done once, a frozen weight gets no gradient.

    The scale is the factor that a matrix product takes anyway (alpha), in each that has `up` or its gradient.
    """

    @staticmethod
    def forward(ctx, x, tokens, scale, top_k, balance, sinks, *tensors):
        linears = [Linear(*tensors[i : i + FIELDS]) for i in range(0, len(tensors), FIELDS)]
        given, shape, x = x, x.shape, x.reshape(-1, x.shape[-1])
        first, G, N = linears[0], len(linears), len(x)
        loss = p = g = pull = None
        quick = islands.fits(x, linears)
        if quick:
            stacked, E = islands.stack(linears), len(first.router)
            hidden = torch.mm(stacked, x.t(), out_dtype=torch.float32)
            p, g, z, pull, loss = islands.gate(hidden, G, E, first.up.shape[2], scale, top_k, balance, tokens)
            stacked = stacked[: len(stacked) - G * E]
        else:
            rows = [(t.down if t.drop is None else t.down * t.drop).flatten(0, -2).to(x.dtype) for t in linears]  # [r or E r, d_in] each
            stacked, hidden, logits = _read(x, rows, [t.router for t in linears] if first.router is not None else [])
            if first.logits is not None:
                logits = torch.stack([t.logits for t in linears])
            hidden = hidden.view(G, -1, first.down.shape[-2], N)  # [G, 1 or E, r, N]
            if first.gate is not None:
                g = torch.stack([t.gate for t in linears])
            elif logits is not None:
                p, g = routed_gate(logits.view(G, -1, N), top_k)
                if balance:
                    pull = _share(g, tokens).mul_(balance * g.shape[1])  # [G, E]
                    loss = (pull * (p.mean(-1) if tokens is None else torch.matmul(p, tokens))).sum(-1)
            z = (hidden.flatten(1, 2) if g is None else _gated(hidden, g, first.up.dim() == 2)).to(x.dtype)
        ys, alpha = [], 1.0 if quick else scale
        for t, own in zip(linears, _each(z), strict=True):
            u = t.up.flatten(1).to(x.dtype)  # [d_out, r or E r]
            y = _times(own.t(), u.t(), alpha) if t.bias is None else torch.addmm(t.bias, own.t(), u.t(), alpha=alpha)
            ys.append(y.addmm_(x, t.weight.t()).view(*shape[:-1], -1))
        ctx.save_for_backward(given, tokens, stacked, hidden, z, p, g, pull, *tensors)
        ctx.settings, ctx.sinks, ctx.shape, ctx.quick = (scale, top_k, balance), sinks, shape, quick
        ctx.set_materialize_grads(False)
        if g is not None:
            g = g.clone() if g is p else g
            ctx.mark_non_differentiable(g)
        return loss, p, g, *ys

    @staticmethod
    def backward(ctx, d_loss, dp, _, *dys):
        given, tokens, stacked, hidden, z, p, g, pull, *tensors = ctx.saved_tensors
        G = len(dys)
        linears = [Linear(*tensors[i : i + FIELDS]) for i in range(0, len(tensors), FIELDS)]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # create_graph: a second derivative is to be taken
            return _again(ctx, given, tokens, linears, d_loss, dp, dys)  # of the very input: what was made of it in `forward` has no graph
        x = given.reshape(-1, given.shape[-1])
        first, N, (scale, _, _), quick = linears[0], len(x), ctx.settings, ctx.quick
        dys = [x.new_zeros(N, len(t.weight)) if dy is None else dy.reshape(N, -1) for t, dy in zip(linears, dys, strict=True)]
        routers = [t.router for t in linears] if first.router is not None else []
        d_logits = d_gate = None
        if quick and dp is None and not any(ctx.sinks or ()):
            dz = [torch.mm(t.up.flatten(1).to(x.dtype).t(), dy.t()) for t, dy in zip(linears, dys, strict=True)]
            d_stacked = islands.gate_backward(dz[0] if G == 1 else torch.cat(dz), hidden, p, g, scale, pull, d_loss, tokens)
        else:
            d_stacked, d_logits, d_gate = _gate_backward(ctx, x, hidden, p, g, pull, linears, dys, d_loss, dp, tokens)
        needs = ctx.needs_input_grad
        dx, d_rows, d_routers = _write(x, stacked, d_stacked, d_logits, routers, dys, linears, needs[0])
        out = [None if dx is None else dx.view(ctx.shape), None, None, None, None, None]
        for i, (t, dy, own) in enumerate(zip(linears, dys, _each(z), strict=True)):
            at = 6 + FIELDS * i
            d_weight = torch.mm(dy.t(), x) if needs[at] else None
            d_bias = dy.sum(0) if needs[at + 1] else None
            d_down = d_rows[i].view(t.down.shape).to(t.down.dtype)
            d_up = torch.mm(dy.t(), own.t(), out_dtype=torch.float32) if quick else _times(dy.t(), own.t(), scale)
            d_up = d_up.view(t.up.shape).to(t.up.dtype)
            out += [d_weight, d_bias, d_down if t.drop is None else d_down * t.drop, d_up]
            out += [d_routers[i] if routers else None, None if t.logits is None else d_logits[i], None, None if t.gate is None else d_gate[i]]
        return tuple(out)


def _gate_backward(ctx, x, hidden, p, g, pull, linears, dys, d_loss, dp, tokens):
    """Gradients of hidden rows, with those of the logits where `_read` had both in one product; and of logits and gate, [G, E, N]."""
    G, N, first, (scale, _, _) = len(linears), len(x), linears[0], ctx.settings
    if ctx.quick:  # what was kept are all rows of one product
        hidden = hidden[: len(hidden) - 2 * g.shape[0] * g.shape[1]].view(G, -1, first.down.shape[-2], N)
    dz = [_times(t.up.flatten(1).to(x.dtype).t(), dy.t(), scale) for t, dy in zip(linears, dys, strict=True)]  # rounded again, not kept
    dz = (dz[0] if G == 1 else torch.stack(dz)).view(G, -1, *hidden.shape[2:])  # [G, 1 or E, r, N]
    if g is None:
        return dz.reshape(-1, N).to(x.dtype), None, None
    d_logits = d_gate = None
    t = (dz * hidden).sum(2, dtype=g.dtype)  # [G, E, N]
    # The kept probabilities, renormalised, are the softmax over the kept logits: its Jacobian needs the gate alone.
    if first.gate is None:
        t.mul_(g)
        d_logits = t.addcmul_(g, t.sum(1, keepdim=True), value=-1)
    else:
        d_gate = t
    if d_loss is not None:
        each = (pull * d_loss[:, None])[:, :, None]
        each = each / N if tokens is None else each * tokens
        dp = each if dp is None else dp + each
    if dp is not None:
        t = p * dp
        d_logits = d_logits.add_(t).addcmul_(p, t.sum(1, keepdim=True), value=-1)
    own = dz * g[:, :, None].to(dz.dtype)  # [G, E, r, N]: what each expert asks of its hidden rows
    if ctx.sinks:
        _ask(ctx.sinks, own.to(x.dtype), x, linears)
    d_hidden = (own.sum(1) if hidden.shape[1] == 1 else own).reshape(-1, N).to(x.dtype)
    if first.router is None or (first.router.dtype != x.dtype and not _halves(x, first.router)):
        return d_hidden, d_logits, d_gate
    return torch.cat([d_hidden, d_logits.flatten(0, 1).to(x.dtype)]), d_logits, d_gate


def _times(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * a b, in one product."""
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _each(stack: Tensor) -> Sequence[Tensor]:
    """The tensors of a stack."""
    return (stack[0],) if len(stack) == 1 else stack.unbind()


def _ask(sinks: Sequence[dict | None], own: Tensor, x: Tensor, linears: Sequence[Linear]) -> None:
    """Leave in each sink how large every expert's own share of the gradient of `down` is; own [G, E, r, N]: what it asks of its hidden rows."""
    for sink, part, linear in zip(sinks, own, linears, strict=True):
        if sink is not None:
            shares = torch.matmul(part, x).to(linear.down.dtype)
            sink["ask"] = torch.linalg.matrix_norm(shares if linear.drop is None else shares * linear.drop)


def _halves(x: Tensor, router: Tensor) -> bool:
    """Whether a router meets x in two parts of x's precision."""
    return x.is_cuda and x.dtype == torch.bfloat16 and router.dtype == torch.float32


def _read(x: Tensor, rows: list[Tensor], routers: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """All that multiplies x, in one product where precision allows: the stacked rows, hidden [G rows, N], logits [G E, N] or None."""
    inner = len(rows) * len(rows[0])
    if not routers:
        stacked = rows[0] if len(rows) == 1 else torch.cat(rows)
        return stacked, torch.mm(stacked, x.t()), None
    if routers[0].dtype == x.dtype:
        stacked = torch.cat([*rows, *routers])
        both = torch.mm(stacked, x.t())
        return stacked, both[:inner], both[inner:]
    if _halves(x, routers[0]):
        wide = routers[0] if len(routers) == 1 else torch.cat(routers)
        high = wide.to(x.dtype)
        stacked = torch.cat([*rows, high, (wide - high).to(x.dtype)])
        both = torch.mm(stacked, x.t(), out_dtype=torch.float32)
        end = inner + len(wide)
        return stacked[:end], both[:inner], both[inner:end] + both[end:]
    stacked = rows[0] if len(rows) == 1 else torch.cat(rows)
    return stacked, torch.mm(stacked, x.t()), torch.mm(torch.cat(routers), x.to(routers[0].dtype).t())


def _write(x, stacked, d_stacked, d_logits, routers, dys, linears, wanted):
    """Gradients of x (or None), of the rows of each down, and of each router, from those of all that x was multiplied by; of the logits [G, E, N]
    where they are not among them."""
    halves = bool(routers) and _halves(x, routers[0])
    apart = bool(routers) and not halves and routers[0].dtype != x.dtype
    dx = None
    if wanted:
        dx = torch.mm(d_stacked.t(), stacked)
        if apart:
            dx += torch.mm(d_logits.flatten(0, 1).t(), torch.cat(routers)).to(x.dtype)
        for t, dy in zip(linears, dys, strict=True):
            dx.addmm_(dy, t.weight)
    d_all = torch.mm(d_stacked, x, out_dtype=torch.float32) if halves else torch.mm(d_stacked, x)
    inner = len(d_all) - (0 if apart else sum(map(len, routers)))
    d_rows = d_all[:inner].chunk(len(linears))
    d_routers = torch.mm(d_logits.flatten(0, 1), x.to(routers[0].dtype)) if apart else d_all[inner:]
    return dx, d_rows, d_routers.chunk(len(linears)) if routers else None


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
