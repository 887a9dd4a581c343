"""The work of the kernel's node in torch's own operations, forward and backward: on any device, in any precision.

Small tensors are kept expert-first ([E, N], [E, r, N]): reductions over experts or rank are then several times quicker on a CPU than token-first.
The rows of down and router of all G linears are one matrix: x is read once for all of them, forward and backward. Wide results are written by
the low-rank product first, so that the frozen product adds to them as it goes (beta 1 of a matrix product), not in a pass of its own. The scale is
the factor that a matrix product takes anyway (alpha), in each that has `up` or its gradient.

On a GPU a bfloat16 input meets a float32 router in two parts of bfloat16, which together hold 16 of its bits, and the products are summed up in
float32; the small operations are then four launches (`mosld.adapters.islands`), where Triton works.

- `Linear`, `Work`: what is asked. `Found`, `Gradients`: what `forward` and `backward` give, here and in `mosld.adapters.native`.
- `routed_gate`: softmax over experts, the largest k kept and renormalised to sum 1. `gated`, `share`, `stack`, `leave`: parts of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mosld.adapters import islands


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


class Work(NamedTuple):
    """What the node was called with; see `mosld.adapters.kernel.mixtures`."""

    x: Tensor  # [N, d_in]
    linears: Sequence[Linear]
    scale: float
    top_k: int
    balance: float
    tokens: Tensor | None


class Found(NamedTuple):
    """What a forward pass gives, and what it keeps for the backward pass."""

    ys: Sequence[Tensor]  # [N, d_out] each
    p: Tensor | None  # [G, E, N]
    gate: Tensor | None  # [G, E, N]
    loss: Tensor | None  # [G]
    pull: Tensor | None  # [G, E]: d loss / d p, but for the tokens' weights
    kept: list[Tensor]


class Gradients(NamedTuple):
    """Of x (or None), and for each linear of down after its dropout, up, router, logits and gate."""

    x: Tensor | None
    down: Sequence[Tensor]  # [r or E r, d_in] each
    up: Sequence[Tensor]
    router: Sequence[Tensor] | None
    logits: Tensor | None
    gate: Tensor | None


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


def gated(hidden: Tensor, gate: Tensor | None, shared_up: bool) -> Tensor:
    """Z, [..., r, N] where `up` is shared or there is one expert, else [..., E r, N], in the precision of `hidden` ([..., 1 or E, r, N])."""
    if gate is None:
        return hidden.reshape(-1, hidden.shape[-1])
    z = gate.unsqueeze(-2).to(hidden.dtype) * hidden
    return z.sum(-3) if shared_up else z.flatten(-3, -2)


def share(gate: Tensor, tokens: Tensor | None) -> Tensor:
    """Share of all choices that fell on each expert, [..., E, N] to [..., E]."""
    chosen = gate.sign()
    f = chosen.sum(-1) if tokens is None else torch.matmul(chosen, tokens)
    return f / f.sum(-1, keepdim=True).clamp(min=torch.finfo(f.dtype).tiny)


def stack(linears: Sequence[Linear]) -> Tensor:
    """Rows of all `down`, with this pass's dropout, then of all routers, [G R + G E, d_in], where all are of one precision."""
    return torch.cat([_rows(t) for t in linears] + [t.router for t in linears])


def _rows(t: Linear) -> Tensor:
    return (t.down if t.drop is None else t.down * t.drop).flatten(0, -2)


def forward(work: Work) -> Found:
    """What the linears answer. Kept: rows that multiply x, their products with it, and z [G, r or E r, N]."""
    x, linears, scale, top_k, balance, tokens = work
    first, G, N = linears[0], len(linears), len(x)
    loss = p = g = pull = None
    quick = islands.fits(x, linears)
    if quick:
        stacked, E = islands.stack(linears), len(first.router)
        hidden = torch.mm(stacked, x.t(), out_dtype=torch.float32)
        p, g, z, pull, loss = islands.gate(hidden, G, E, first.up.shape[2], scale, top_k, balance, tokens)
        stacked = stacked[: len(stacked) - G * E]
    else:
        stacked, hidden, logits = _read(x, [_rows(t).to(x.dtype) for t in linears], [t.router for t in linears] if first.router is not None else [])
        if first.logits is not None:
            logits = torch.stack([t.logits for t in linears])
        hidden = hidden.view(G, -1, first.down.shape[-2], N)  # [G, 1 or E, r, N]
        if first.gate is not None:
            g = torch.stack([t.gate for t in linears])
        elif logits is not None:
            p, g = routed_gate(logits.view(G, -1, N), top_k)
            if balance:
                pull = share(g, tokens).mul_(balance * g.shape[1])  # [G, E]
                loss = (pull * (p.mean(-1) if tokens is None else torch.matmul(p, tokens))).sum(-1)
        z = (hidden.flatten(1, 2) if g is None else gated(hidden, g, first.up.dim() == 2)).to(x.dtype)
    ys, alpha = [], 1.0 if quick else scale
    for t, own in zip(linears, _each(z), strict=True):
        u = t.up.flatten(1).to(x.dtype)  # [d_out, r or E r]
        y = _times(own.t(), u.t(), alpha) if t.bias is None else torch.addmm(t.bias, own.t(), u.t(), alpha=alpha)
        ys.append(y.addmm_(x, t.weight.t()))
    return Found(ys, p, g, loss, pull, [stacked, hidden, z])


def backward(
    work: Work, found: Found, dys: Sequence[Tensor], d_loss: Tensor | None, dp: Tensor | None, sinks: Sequence[dict | None] | None, wanted: bool
) -> Gradients:
    """Gradients from those of what was found: dys [N, d_out] each, d_loss [G], dp [G, E, N]. `sinks`: see `mosld.adapters.kernel.mixtures`.

    wanted: whether x asks for one.
    """
    x, linears = work.x, work.linears
    stacked, hidden, z = found.kept
    G, first, quick = len(linears), linears[0], hidden.dim() == 2
    routers = [t.router for t in linears] if first.router is not None else []
    d_logits = d_gate = None
    if quick and dp is None and not any(sinks or ()):
        dz = [torch.mm(t.up.flatten(1).to(x.dtype).t(), dy.t()) for t, dy in zip(linears, dys, strict=True)]
        dz = dz[0] if G == 1 else torch.cat(dz)
        d_stacked = islands.gate_backward(dz, hidden, found.p, found.gate, work.scale, found.pull, d_loss, work.tokens)
    else:
        d_stacked, d_logits, d_gate = _gate_backward(work, found, dys, d_loss, dp, sinks)
    dx, d_rows, d_routers = _write(x, stacked, d_stacked, d_logits, routers, dys, linears, wanted)
    d_up = [
        torch.mm(dy.t(), own.t(), out_dtype=torch.float32) if quick else _times(dy.t(), own.t(), work.scale)
        for dy, own in zip(dys, _each(z), strict=True)
    ]
    return Gradients(dx, d_rows, d_up, d_routers, d_logits if first.logits is not None else None, d_gate)


def _gate_backward(work, found, dys, d_loss, dp, sinks):
    """Gradients of hidden rows, with those of the logits where `_read` had both in one product; and of logits and gate, [G, E, N]."""
    x, linears, scale, _, _, tokens = work
    p, g, hidden = found.p, found.gate, found.kept[1]
    G, N, first = len(linears), len(x), linears[0]
    if hidden.dim() == 2:  # what was kept are all rows of one product
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
        each = (found.pull * d_loss[:, None])[:, :, None]
        each = each / N if tokens is None else each * tokens
        dp = each if dp is None else dp + each
    if dp is not None:
        t = p * dp
        d_logits = d_logits.add_(t).addcmul_(p, t.sum(1, keepdim=True), value=-1)
    own = dz * g[:, :, None].to(dz.dtype)  # [G, E, r, N]: what each expert asks of its hidden rows
    if sinks:
        for sink, part, linear in zip(sinks, own.to(x.dtype), linears, strict=True):
            if sink is not None:
                leave(sink, torch.matmul(part, x), linear)
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


def leave(sink: dict, shares: Tensor, linear: Linear) -> None:
    """Leave in a sink how large every expert's own share [E, r, d_in] of the gradient of `down` is."""
    shares = shares.to(linear.down.dtype)
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
    halves = len(routers) > 0 and _halves(x, routers[0])
    apart = len(routers) > 0 and not halves and routers[0].dtype != x.dtype
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
