"""The equations as plain loops over tokens and experts, one matrix product at a time: what the kernel is checked against."""

import torch


def slow_gate(x, router, top_k):
    """softmax over experts for one token, the largest top_k kept and renormalised. x [d_in], router [E, d_in] -> [E]."""
    scores = [float(torch.dot(row, x)) for row in router.detach()]
    keep = sorted(range(len(scores)), key=lambda e: -scores[e])[: top_k or len(scores)]
    exp = {e: torch.exp(torch.dot(router[e], x)) for e in keep}
    total = sum(exp.values())
    return [exp[e] / total if e in exp else torch.zeros((), dtype=x.dtype) for e in range(len(scores))]


def slow_mixture(x, weight, bias, down, up, scale, router=None, top_k=0):
    """y[n] = W x + b + scale * sum_e g_e (up_e (down_e x)). down: list of [r, d_in]; up: list of [d_out, r]."""
    out = []
    for token in x:
        gate = slow_gate(token, router, top_k) if router is not None else [torch.ones((), dtype=x.dtype)]
        y = weight @ token + (bias if bias is not None else 0)
        for e, g in enumerate(gate):
            d, u = down[e % len(down)], up[e % len(up)]
            y = y + scale * g * (u @ (d @ token))
        out.append(y)
    return torch.stack(out)
