"""The fused kernel: one frozen linear with a gated mixture of low-rank experts on it.

    y = W x + b + scale * sum_e g_e(x) up_e down_e x

Shapes: N tokens, E experts, r rank, d_in, d_out.
    x [N, d_in] · weight [d_out, d_in] · bias [d_out]
    down [r, d_in] shared by all experts, or [E, r, d_in]
    up   [d_out, r] shared, or [d_out, E, r]   (so that all experts' columns lie side by side in one matrix)
    gate [E, N], zero where an expert is not chosen: a dense gate with zeros needs no gather and no host round trip

With H = down x and Z = gate ⊗ H the mixture is one more matrix product, y += scale * Z up. Nothing of size N x E x d_out exists.
Small tensors are kept expert-first ([E, N], [E, r, N]): reductions over experts or rank are then several times quicker on a CPU.

- `mixture`: the whole linear with a token top-k router in one autograd node, backward written out. The hot path.
- `mix`: base + scale * Z up in plain autograd, for methods that build H or the gate in their own way.
- `routed_gate`: softmax over experts, the largest k kept and renormalised to sum 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def routed_gate(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Router probabilities and gate, both [E, N], from logits [E, N].

    softmax over experts; the `top_k` largest kept and renormalised to sum 1 (arXiv 2412.08946, section 3); 0 keeps all.
    """
    p = logits.softmax(0)
    if top_k == 0 or top_k >= p.shape[0]:
        return p, p
    value, index = p.topk(top_k, 0, sorted=False)
    return p, torch.zeros_like(p).scatter(0, index, value / value.sum(0))


def mix(base: Tensor, hidden: Tensor, gate: Tensor | None, up: Tensor, scale: float) -> Tensor:
    """base [N, d_out] + scale * sum_e gate_e up_e hidden_e, in plain autograd.

    `hidden` is [r, N] (one for all experts) or [E, r, N]; `gate` None stands for one expert with weight 1.
    """
    z = _gated(hidden, gate, shared_up=up.dim() == 2)
    return torch.addmm(base, z.t(), up.reshape(up.shape[0], -1).t(), alpha=scale)


def _gated(hidden: Tensor, gate: Tensor | None, shared_up: bool) -> Tensor:
    """Z, [r, N] where `up` is shared or there is one expert, else [E r, N]."""
    if gate is None:
        return hidden.reshape(-1, hidden.shape[-1])
    if shared_up:
        return (gate[:, None] * hidden).sum(0)
    return (gate[:, None] * hidden).reshape(-1, hidden.shape[-1])


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
    """The adapted linear: y [N, d_out], router probabilities [E, N] and gate [E, N].

    Args:
        router: [E, d_in]; None stands for one expert with weight 1 (plain LoRA); then probabilities and gate are None.
        top_k: experts kept a token; 0 keeps all.
        sink: if given, backward puts `ask` into it, [E]: the Frobenius norm of each expert's own share
            G_e = (g_e * (dL/dy up_e))^T x of the gradient of `down` (for a shared `down`, dL/d down = sum_e G_e). A `mask` in it
            is multiplied in: the share is then of the weights before dropout.

    Gradients reach x, down, up and router, through y and through the probabilities; the gate is a record without gradient.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, down, up = (t.to(dtype) for t in (x, weight, down, up))
        bias, router = (t if t is None else t.to(dtype) for t in (bias, router))
        with torch.autocast(x.device.type, enabled=False):
            return _Mixture.apply(x, weight, bias, down, up, scale, router, top_k, sink)
    return _Mixture.apply(x, weight, bias, down, up, scale, router, top_k, sink)


class _Mixture(torch.autograd.Function):
    """`mixture` with its backward written out: the frozen weight gets no gradient, every small product is done once.

    The scale is multiplied into the gate, the smallest tensor it can be multiplied into.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, down, up, scale, router, top_k, sink):
        rows = down.flatten(0, -2)  # [r or E r, d_in]
        if router is None:
            stacked, p, g = rows, None, None
            hidden = torch.mm(rows, x.t())
            z = hidden * scale
        else:
            stacked = torch.cat([rows, router])
            hidden, logits = torch.mm(stacked, x.t()).split([len(rows), len(router)])
            p, g = routed_gate(logits, top_k)
            if down.dim() == 3:
                hidden = hidden.unflatten(0, down.shape[:2])
            z = _gated(hidden, g * scale, up.dim() == 2)
        columns = up.flatten(1)
        y = torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())
        y.addmm_(z.t(), columns.t())
        ctx.save_for_backward(x, weight, stacked, columns, hidden, z, p, g)
        ctx.shapes, ctx.scale, ctx.sink = (down.shape, up.shape), scale, sink
        ctx.set_materialize_grads(False)
        if g is not None:
            g = g.clone() if g is p else g
            ctx.mark_non_differentiable(g)
        return y, p, g

    @staticmethod
    def backward(ctx, dy, dp, _):
        x, weight, stacked, columns, hidden, z, p, g = ctx.saved_tensors
        (down_shape, up_shape), scale = ctx.shapes, ctx.scale
        if dy is None:
            dy = x.new_zeros(x.shape[0], weight.shape[0])
        dz = torch.mm(columns.t(), dy.t())  # [r or E r, N]
        d_up = torch.mm(dy.t(), z.t()).view(up_shape)
        if g is None:
            d_stacked, d_router = dz.mul_(scale), None
        else:
            dz = dz.view(-1, hidden.shape[-2], dz.shape[-1])  # [1 or E, r, N]
            own = dz * (g * scale)[:, None]  # [E, r, N]: what each expert asks of its hidden rows
            if ctx.sink is not None:
                shares, mask = torch.matmul(own, x), ctx.sink.get("mask")
                ctx.sink["ask"] = torch.linalg.matrix_norm(shares if mask is None else shares * mask)
            # The kept probabilities, renormalised, are the softmax over the kept logits: its Jacobian needs the gate alone.
            t = (dz * hidden).sum(1).mul_(g)
            d_logits = torch.addcmul(t, g, t.sum(0), value=-1).mul_(scale)
            if dp is not None:
                t = p * dp
                d_logits = d_logits + t - p * t.sum(0)
            d_hidden = own.sum(0) if len(down_shape) == 2 else own.flatten(0, 1)
            d_stacked = torch.cat([d_hidden, d_logits])
        dx = torch.mm(dy, weight).addmm_(d_stacked.t(), stacked) if ctx.needs_input_grad[0] else None
        d_down = torch.mm(d_stacked, x)
        if g is not None:
            d_down, d_router = d_down.split([len(d_hidden), len(g)])
        return dx, None, None, d_down.view(down_shape), d_up, None, d_router, None, None
