"""The small operations of the kernel in four launches, by Triton: what stands between the matrix products of `mosld.adapters.eager` on a GPU.

A single linear on a GPU is bound by launches: some sixty small operations stand beside seven products. Here they are four kernels, each of which
reads its tensors once. They do what the plain code does (`routed_gate`, `gated`, `share` and their backward pass), in float32.

Shapes: N tokens, E experts, r rank, G linears that read one input, R rows of `down` of each: r shared by all experts, or E r.
    stacked [G R + 2 G E, d_in]: rows of all `down`, then the routers in two parts of bfloat16, which together hold 16 of a float32's bits
    both [G R + 2 G E, N] = stacked x^T, float32
    p, g [G, E, N] float32 · z [G, E r, N] = scale g hidden, bfloat16 · pull [G, E], loss [G]: what the balance loss pulls with, and the loss

- `fits`: whether a call can go this way; `stack`, `gate`, `gate_backward`: the steps, in their order.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mosld.adapters.eager import Linear

log = logging.getLogger(__name__)
MOST = 64  # experts, and rank: a token's column is held in registers
TOKENS, COLUMNS = 64, 1024  # of one program


def fits(x: Tensor, linears: Sequence[Linear]) -> bool:
    """Whether a call of the kernel can go this way: bfloat16 on the current GPU, a float32 router, an `up` for each expert, and Triton at work."""
    t = linears[0]
    if not x.is_cuda or x.dtype != torch.bfloat16 or t.router is None or t.up.dim() != 3 or torch.compiler.is_compiling():
        return False
    E, r, most = len(t.router), t.up.shape[2], max(len(x), x.shape[-1])
    if max(E, r) > MOST or len(linears) * E * (r + 2) * most >= 2**31 or x.device.index != torch.cuda.current_device():
        return False  # too wide for registers, for 32 bits of an address, or elsewhere: Triton starts its kernels on the current device
    return all(_plain(t) for t in linears) and _kernels() is not None


def _plain(t: Linear) -> bool:
    wanted = [t.down, t.router, *([] if t.drop is None else [t.drop])]
    return all(type(w) in (Tensor, nn.Parameter) and w.dtype == torch.float32 and w.is_contiguous() for w in wanted)


def stack(linears: Sequence[Linear]) -> Tensor:
    """`stacked`, with this pass's dropout, in a launch a linear."""
    k, first, G = _kernels(), linears[0], len(linears)
    R, E, d = first.down.flatten(0, -2).shape[0], *first.router.shape
    out = torch.empty(G * (R + 2 * E), d, dtype=torch.bfloat16, device=first.down.device)
    for i, t in enumerate(linears):
        grid = (R + E, -(-d // COLUMNS))
        k.stack[grid](t.down, t.down if t.drop is None else t.drop, t.router, out, i, R, E, G, d, t.drop is not None, COLUMNS)
    return out


def gate(
    both: Tensor, G: int, E: int, r: int, scale: float, top_k: int, balance: float, tokens: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """p, g, z, pull and loss from `both`; the last two None without a balance coefficient."""
    k, N = _kernels(), both.shape[1]
    R = len(both) // G - 2 * E
    p, g = (torch.empty(G, E, N, device=both.device) for _ in range(2))
    z = torch.empty(G, E * r, N, dtype=torch.bfloat16, device=both.device)
    blocks = -(-N // TOKENS)
    sums = torch.empty(blocks, G, 2, E, device=both.device) if balance else p
    chosen = top_k if 0 < top_k < E else 0
    k.gate[blocks, G](
        both, p if tokens is None else tokens, p, g, z, sums, scale,
        N, R, E, r, chosen, G, _power(E), _power(r), tokens is not None, balance != 0, TOKENS,
    )  # fmt: skip
    if not balance:
        return p, g, z, None, None
    pull, loss = torch.empty(G, E, device=both.device), torch.empty(G, device=both.device)
    k.settle[(G,)](sums, pull, loss, blocks, G, E, balance, _power(E))
    return p, g, z, pull, loss


def gate_backward(
    dz: Tensor, both: Tensor, p: Tensor, g: Tensor, scale: float, pull: Tensor | None, d_loss: Tensor | None, tokens: Tensor | None
) -> Tensor:
    """Gradients of hidden rows and logits, [G R + G E, N] in bfloat16, from dz of z's size; with d_loss [G], the balance loss's too."""
    k, (G, E, N) = _kernels(), g.shape
    r, R = dz.numel() // (G * E * N), len(both) // G - 2 * E
    out = torch.empty(G * (R + E), N, dtype=torch.bfloat16, device=dz.device)
    lossy = d_loss is not None
    k.gate_backward[-(-N // TOKENS), G](
        dz, both, p, g, pull if lossy else p, d_loss if lossy else p, p if tokens is None else tokens, out, scale,
        N, R, E, r, G, _power(E), _power(r), tokens is not None, lossy, TOKENS,
    )  # fmt: skip
    return out


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()


@functools.cache
def _kernels():
    """The kernels, tried once; None where there is no Triton, or none that works here (it needs a C compiler)."""
    if importlib.util.find_spec("triton") is None:
        return None
    from mosld.adapters import triton_kernels as found

    try:
        sums, pull, loss = torch.ones(1, 1, 2, 2, device="cuda"), torch.empty(1, 2, device="cuda"), torch.empty(1, device="cuda")
        found.settle[(1,)](sums, pull, loss, 1, 1, 2, 1.0, 2)
    except Exception as problem:  # whatever it is: the plain code gives the same
        log.info("Triton does not work here, so the adapters' small operations stay many: %s", problem)
        return None
    return found
