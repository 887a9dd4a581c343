"""The fused kernel: one frozen linear with a gated mixture of low-rank experts on it.

    y = W x + b + scale * sum_e g_e(x) up_e down_e x

Shapes: N tokens, E experts, r rank, d_in, d_out.
    x [N, d_in] · weight [d_out, d_in] · bias [d_out]
    down [r, d_in] shared by all experts, or [E, r, d_in]
    up   [d_out, r] shared, or [d_out, E, r]   (so that all experts' columns lie side by side in one matrix)
    gate [E, N], zero where an expert is not chosen: a dense gate with zeros needs no gather and no host round trip

With H = down x and Z = gate ⊗ H the mixture is one more matrix product, y += scale * Z up. Nothing of size N x E x d_out exists.
Small tensors are kept expert-first ([E, N], [E, r, N]): reductions over experts or rank are then several times quicker on a CPU.

Precision: x and weight give the one that products are computed in; down and up are rounded to it, their gradients come back in their own.
The router is not rounded: its logits, softmax and gate are computed in its own precision, float32 as a rule.

- `mixture`: the whole linear with a token top-k router in one autograd node, backward written out. The hot path.
- `mix`: base + scale * Z up in plain autograd, for methods that build H or the gate in their own way and for linears that are not plain.
- `routed_gate`: softmax over experts, the largest k kept and renormalised to sum 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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

    `hidden` is [r, N] (one for all experts) or [E, r, N]; `gate` None stands for one expert with weight 1. All are rounded to base's precision.
    """
    z = _gated(hidden, gate, shared_up=up.dim() == 2)
    return torch.addmm(base, z.to(base.dtype).t(), up.reshape(up.shape[0], -1).t().to(base.dtype), alpha=scale)


def _gated(hidden: Tensor, gate: Tensor | None, shared_up: bool) -> Tensor:
    """Z, [r, N] where `up` is shared or there is one expert, else [E r, N], in the precision of `hidden`."""
    if gate is None:
        return hidden.reshape(-1, hidden.shape[-1])
    z = gate[:, None].to(hidden.dtype) * hidden
    return z.sum(0) if shared_up else z.reshape(-1, hidden.shape[-1])


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

    Gradients reach x, down, up and router, and weight and bias where they ask for one, through y and through the probabilities; the gate is a
    record without gradient. Second derivatives are those of the same equation in plain autograd.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            return mixture(x.to(dtype), weight, bias, down, up, scale, router, top_k, sink)
    if weight.dtype != x.dtype:  # as autocast has it
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    return _Mixture.apply(x, weight, bias, down, up, scale, router, top_k, sink)


def _open(x, weight, bias, down, up, scale, router, top_k):
    """`mixture` in plain autograd."""
    p = g = None
    if router is not None:
        p, g = routed_gate(torch.matmul(router, x.to(router.dtype).t()), top_k)
    return mix(F.linear(x, weight, bias), torch.matmul(down.to(x.dtype), x.t()), g, up, scale), p


class _Mixture(torch.autograd.Function):
    """`mixture` with its backward written out: every small product is done once, a frozen weight gets no gradient.

    The scale is multiplied into the gate, the smallest tensor it can be multiplied into.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, down, up, scale, router, top_k, sink):
        rows, columns = down.flatten(0, -2).to(x.dtype), up.flatten(1).to(x.dtype)  # [r or E r, d_in], [d_out, r or E r]
        if router is None:
            p, g = None, None
            hidden = torch.mm(rows, x.t())
            z = hidden * scale
        else:
            if router.dtype == x.dtype:
                hidden, logits = torch.mm(torch.cat([rows, router]), x.t()).split([len(rows), len(router)])
            else:
                hidden, logits = torch.mm(rows, x.t()), torch.mm(router, x.to(router.dtype).t())
            p, g = routed_gate(logits, top_k)
            if down.dim() == 3:
                hidden = hidden.unflatten(0, down.shape[:2])
            z = _gated(hidden, g * scale, up.dim() == 2)
        y = torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())
        y.addmm_(z.t(), columns.t())
        ctx.save_for_backward(x, weight, bias, down, up, router, hidden, z, p, g)
        ctx.scale, ctx.top_k, ctx.sink = scale, top_k, sink
        ctx.set_materialize_grads(False)
        if g is not None:
            g = g.clone() if g is p else g
            ctx.mark_non_differentiable(g)
        return y, p, g

    @staticmethod
    def backward(ctx, dy, dp, _):
        x, weight, bias, down, up, router, hidden, z, p, g = ctx.saved_tensors
        scale, needs = ctx.scale, ctx.needs_input_grad
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # create_graph: a second derivative is to be taken
            return _again(ctx, (x, weight, bias, down, up, router), dy, dp)
        if dy is None:
            dy = x.new_zeros(x.shape[0], weight.shape[0])
        rows, columns = down.flatten(0, -2).to(x.dtype), up.flatten(1).to(x.dtype)
        dz = torch.mm(columns.t(), dy.t())  # [r or E r, N]
        d_up = torch.mm(dy.t(), z.t()).view(up.shape).to(up.dtype)
        d_logits = d_router = None
        if g is None:
            d_hidden = dz.mul_(scale)
        else:
            dz = dz.view(-1, hidden.shape[-2], dz.shape[-1])  # [1 or E, r, N]
            own = dz * (g * scale)[:, None].to(dz.dtype)  # [E, r, N]: what each expert asks of its hidden rows
            if ctx.sink is not None:
                shares, mask = torch.matmul(own, x), ctx.sink.get("mask")
                ctx.sink["ask"] = torch.linalg.matrix_norm((shares if mask is None else shares * mask).to(down.dtype))
            # The kept probabilities, renormalised, are the softmax over the kept logits: its Jacobian needs the gate alone.
            t = (dz * hidden).sum(1, dtype=g.dtype).mul_(g)
            d_logits = torch.addcmul(t, g, t.sum(0), value=-1).mul_(scale)
            if dp is not None:
                t = p * dp
                d_logits = d_logits + t - p * t.sum(0)
            d_hidden = own.sum(0) if down.dim() == 2 else own.flatten(0, 1)
        if g is not None and router.dtype == x.dtype:
            d_stacked = torch.cat([d_hidden, d_logits])
            dx = torch.mm(dy, weight).addmm_(d_stacked.t(), torch.cat([rows, router])) if needs[0] else None
            d_down, d_router = torch.mm(d_stacked, x).split([len(d_hidden), len(g)])
        else:
            dx = torch.mm(dy, weight).addmm_(d_hidden.t(), rows) if needs[0] else None
            d_down = torch.mm(d_hidden, x)
            if g is not None:
                dx = dx + torch.mm(d_logits.t(), router).to(x.dtype) if needs[0] else None
                d_router = torch.mm(d_logits, x.to(router.dtype))
        d_weight = torch.mm(dy.t(), x) if needs[1] else None
        d_bias = dy.sum(0) if needs[2] else None
        return dx, d_weight, d_bias, d_down.view(down.shape).to(down.dtype), d_up, None, d_router, None, None


def _again(ctx, tensors, dy, dp):
    """The gradients of `_Mixture` as functions of its inputs and of dy and dp, for second derivatives."""
    with torch.enable_grad():
        leaves = [t if t is None or not n else t.view_as(t) for t, n in zip(tensors, [ctx.needs_input_grad[i] for i in INPUTS], strict=True)]
        y, p = _open(*leaves[:5], ctx.scale, leaves[5], ctx.top_k)
        outs = [(o, d) for o, d in ((y, dy), (p, dp)) if d is not None]
        asked = [i for i, t in enumerate(leaves) if t is not None and ctx.needs_input_grad[INPUTS[i]]]
        found = torch.autograd.grad([o for o, _ in outs], [leaves[i] for i in asked], [d for _, d in outs], create_graph=True, allow_unused=True)
    out: list[Tensor | None] = [None] * 9
    for i, grad in zip(asked, found, strict=True):
        out[INPUTS[i]] = grad
    return tuple(out)


INPUTS = (0, 1, 2, 3, 4, 6)  # where x, weight, bias, down, up and router stand among the arguments
