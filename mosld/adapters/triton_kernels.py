"""The kernels of `mosld.adapters.islands`, which says what they are given. Columns are tokens; a program has TN of them, of linear number `i`."""

import triton
import triton.language as tl


@triton.jit
def stack(down, drop, router, out, i, R, E, G, d, DROP: tl.constexpr, TD: tl.constexpr):
    """One row of `down` (times its dropout) or of the router (in two parts) of linear number `i`."""
    row, col = tl.program_id(0), tl.program_id(1) * TD + tl.arange(0, TD)
    inside = col < d
    if row < R:
        v = tl.load(down + row * d + col, inside)
        if DROP:
            v *= tl.load(drop + row * d + col, inside)
        tl.store(out + (i * R + row) * d + col, v.to(tl.bfloat16), inside)
    else:
        v = tl.load(router + (row - R) * d + col, inside)
        high, at = v.to(tl.bfloat16), G * R + i * E + row - R
        tl.store(out + at * d + col, high, inside)
        tl.store(out + (at + G * E) * d + col, (v - high.to(tl.float32)).to(tl.bfloat16), inside)


@triton.jit
def gate(
    both, tokens, p_out, g_out, z_out, sums, scale, N, R: tl.constexpr, E: tl.constexpr, r: tl.constexpr, K: tl.constexpr, G,
    EP: tl.constexpr, RP: tl.constexpr, WEIGHTS: tl.constexpr, LOSS: tl.constexpr, TN: tl.constexpr,
):  # fmt: skip
    """Softmax over experts, the K largest renormalised (0: all), z = scale g hidden, and this block's part of the balance loss's sums."""
    block, i = tl.program_id(0), tl.program_id(1)
    n, e, j = block * TN + tl.arange(0, TN), tl.arange(0, EP)[:, None], tl.arange(0, RP)[:, None]
    inside = n[None, :] < N
    high = tl.load(both + (G * R + i * E + e) * N + n, inside & (e < E), 0.0)
    low = tl.load(both + (G * R + G * E + i * E + e) * N + n, inside & (e < E), 0.0)
    logits = tl.where(e < E, high + low, float("-inf"))
    p = tl.exp(logits - tl.max(logits, 0)[None, :])
    p = p / tl.sum(p, 0)[None, :]
    taken = e < E
    if K > 0:
        taken = (e < 0) & inside
        for _ in tl.static_range(K):
            best = tl.argmax(tl.where(taken | (e >= E), -1.0, p), 0)  # of equal ones the first
            taken = taken | (e == best[None, :])
    g = tl.where(taken, p, 0.0)
    if K > 0:
        g = g / tl.sum(g, 0)[None, :]
    tl.store(p_out + (i * E + e) * N + n, p, inside & (e < E))
    tl.store(g_out + (i * E + e) * N + n, g, inside & (e < E))
    for one in tl.static_range(E):
        own = tl.sum(tl.where(e == one, g, 0.0), 0)[None, :]
        rows = i * R + j
        if r < R:  # each expert has rows of its own
            rows += one * r
        h = tl.load(both + rows * N + n, inside & (j < r), 0.0)
        tl.store(z_out + ((i * E + one) * r + j) * N + n, (scale * own * h).to(tl.bfloat16), inside & (j < r))
    if LOSS:
        if WEIGHTS:
            w = tl.load(tokens + n, n < N, 0.0)[None, :]
        else:
            w = tl.where(inside, 1.0 / N, 0.0)
        at = sums + ((block * G + i) * 2) * E + tl.arange(0, EP)
        kept = tl.arange(0, EP) < E
        tl.store(at, tl.sum(tl.where(g > 0, w, 0.0), 1), kept)
        tl.store(at + E, tl.sum(p * w, 1), kept)


@triton.jit
def settle(sums, pull, loss, blocks, G, E: tl.constexpr, balance, EP: tl.constexpr):
    """The sums of all blocks, one after another so that they are the same each time: what the loss pulls with, and the loss."""
    i, e = tl.program_id(0), tl.arange(0, EP)
    chosen, mean = tl.zeros((EP,), tl.float32), tl.zeros((EP,), tl.float32)
    for block in range(blocks):
        at = sums + ((block * G + i) * 2) * E + e
        chosen += tl.load(at, e < E, 0.0)
        mean += tl.load(at + E, e < E, 0.0)
    share = chosen / tl.maximum(tl.sum(chosen, 0), 1.1754943508222875e-38) * (balance * E)
    tl.store(pull + i * E + e, share, e < E)
    tl.store(loss + i, tl.sum(share * mean, 0))


@triton.jit
def gate_backward(
    dz, both, p_in, g_in, pull, d_loss, tokens, out, scale, N, R: tl.constexpr, E: tl.constexpr, r: tl.constexpr, G,
    EP: tl.constexpr, RP: tl.constexpr, WEIGHTS: tl.constexpr, LOSS: tl.constexpr, TN: tl.constexpr,
):  # fmt: skip
    """Gradients of hidden rows and logits. The kept probabilities, renormalised, are the softmax over the kept logits: its Jacobian needs g alone."""
    block, i = tl.program_id(0), tl.program_id(1)
    n, e, j = block * TN + tl.arange(0, TN), tl.arange(0, EP)[:, None], tl.arange(0, RP)[:, None]
    inside = n[None, :] < N
    g = tl.load(g_in + (i * E + e) * N + n, inside & (e < E), 0.0)
    t, d_hidden = tl.zeros((EP, TN), tl.float32), tl.zeros((RP, TN), tl.float32)
    for one in tl.static_range(E):
        rows = i * R + j
        if r < R:
            rows += one * r
        h = tl.load(both + rows * N + n, inside & (j < r), 0.0)
        asked = tl.load(dz + ((i * E + one) * r + j) * N + n, inside & (j < r), 0.0).to(tl.float32) * scale
        t = tl.where(e == one, tl.sum(asked * h, 0)[None, :], t)
        asked *= tl.sum(tl.where(e == one, g, 0.0), 0)[None, :]
        if r < R:
            tl.store(out + rows * N + n, asked.to(tl.bfloat16), inside & (j < r))
        else:
            d_hidden += asked
    if r == R:
        tl.store(out + (i * R + j) * N + n, d_hidden.to(tl.bfloat16), inside & (j < r))
    t *= g
    d_logits = t - g * tl.sum(t, 0)[None, :]
    if LOSS:
        if WEIGHTS:
            w = tl.load(tokens + n, n < N, 0.0)[None, :]
        else:
            w = tl.where(inside, 1.0 / N, 0.0)
        p = tl.load(p_in + (i * E + e) * N + n, inside & (e < E), 0.0)
        t = p * (tl.load(pull + i * E + e, e < E, 0.0) * tl.load(d_loss + i)) * w
        d_logits += t - p * tl.sum(t, 0)[None, :]
    tl.store(out + (G * R + i * E + e) * N + n, d_logits.to(tl.bfloat16), inside & (e < E))
