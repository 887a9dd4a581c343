"""The small operations of the kernel in C, on a CPU and for a gate that keeps few experts of a token.

Beside the large products stand some thirty small operations, and products with a gate that is mostly zeros. In `native.c` they are one call a linear
and direction, which touches the chosen experts alone. It is compiled when first wanted, by the C compiler that Python was built with or $CC names,
for the instructions that torch itself uses, and kept in the cache. Where there is no compiler, the plain code (`mosld.adapters.eager`) does the same;
`CC=false` asks for that.

- `fits`: whether a call can go this way. `forward`, `backward`: as in `mosld.adapters.eager`.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from mosld.adapters.eager import Found, Gradients, Work, leave, stack
from mosld.fetch import cache_dir

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_suffix(".c")
MOST = 256  # experts: a token's row is held on the stack
THREADS = 2  # with more of them torch's dense products, which are shared out, are as quick
TARGET = {"AVX2": ["-mavx2", "-mfma"], "AVX512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]}
TYPES = {torch.float32: ("float", "expf"), torch.float64: ("double", "exp")}
_lock = threading.Lock()
_libraries: dict[torch.dtype, ctypes.CDLL | None] = {}


def fits(work: Work) -> bool:
    """Whether a call can go this way: on a CPU and few threads, all in float32 or all in float64, top-K of more experts, an `up` for each."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode() or torch.get_num_threads() > THREADS:
        return False  # somebody watches operations, or there are threads to share them out to
    x, first = work.x, work.linears[0]
    if not x.is_cpu or x.dtype not in TYPES or first.router is None or first.up.dim() != 3 or not 0 < work.top_k < first.router.shape[0] <= MOST:
        return False
    given = [x] if work.tokens is None else [x, work.tokens]
    for t in work.linears:
        given += (t.down, t.up, t.router) if t.bias is None else (t.down, t.up, t.router, t.bias)
    if not all(type(t) in (Tensor, nn.Parameter) and t.dtype == x.dtype and t.is_cpu for t in given) or not all(t.is_contiguous() for t in given[1:]):
        return False
    return _sound(work) and _library(x.dtype) is not None


def _sound(work: Work) -> bool:
    """Whether all shapes agree: C would read beside the tensors where torch raises an error."""
    (N, d_in), first = work.x.shape, work.linears[0]
    E, r = first.up.shape[1:]
    if first.down.shape not in ((r, d_in), (E, r, d_in)) or (work.tokens is not None and work.tokens.shape != (N,)):
        return False
    for t in work.linears:
        d = (t.weight.shape[0],)
        if t.up.shape != (*d, E, r) or t.router.shape != (E, d_in) or t.down.shape != first.down.shape or (t.bias is not None and t.bias.shape != d):
            return False
    return True


def forward(work: Work) -> Found:
    """What the linears answer. Kept: rows that multiply x, their products with it, then for each linear chosen [N, K] and z [N, K, r]."""
    x, linears, scale, K, balance, tokens = work
    call, N, G, (E, _) = _library(x.dtype).forward, x.shape[0], len(linears), linears[0].router.shape
    r, like = linears[0].up.shape[2], {"dtype": x.dtype}
    stacked = stack(linears)
    both = torch.mm(x, stacked.t())
    p, g = torch.empty(G, E, N, **like), torch.empty(G, E, N, **like)
    pull, loss = (torch.empty(G, E, **like), torch.empty(G, **like)) if balance else (None, None)
    R, ys, kept = stacked.shape[0] // G - E, [], [stacked, both]
    for i, t in enumerate(linears):
        d = t.up.shape[0]
        chosen, z = torch.empty(N, K, dtype=torch.int32), torch.empty(N, K, r, **like)
        rows, y = torch.empty(E, r, d, **like), torch.empty(N, d, **like)
        call(
            *(both.data_ptr(), t.up.data_ptr(), _place(t.bias), _place(tokens)),
            *(_place(p, i), _place(g, i), chosen.data_ptr(), z.data_ptr(), rows.data_ptr(), y.data_ptr(), _place(pull, i), _place(loss, i)),
            *(G * (R + E), i * R, G * R + i * E, N, E, r, K, d, r < R, scale, balance),
        )
        ys.append(y.addmm_(x, t.weight.t()))
        kept += [chosen, z]
    return Found(ys, p, g, loss, pull, kept)


def backward(
    work: Work, found: Found, dys: Sequence[Tensor], d_loss: Tensor | None, dp: Tensor | None, sinks: Sequence[dict | None] | None, wanted: bool
) -> Gradients:
    """See `mosld.adapters.eager.backward`."""
    x, linears, scale, K, _, tokens = work
    stacked, both, *each = found.kept
    library, N, G, (E, _) = _library(x.dtype), x.shape[0], len(linears), linears[0].router.shape
    r, R, p, g = linears[0].up.shape[2], stacked.shape[0] // G - E, found.p, found.gate
    pull, d_loss = (None, None) if d_loss is None else (found.pull, d_loss.contiguous())
    d_both, dz, room, d_ups = torch.empty_like(both), torch.empty(N, K, r, dtype=x.dtype), torch.empty(N, K, dtype=torch.int32), []
    dys = [dy.contiguous() for dy in dys]
    for i, (t, dy) in enumerate(zip(linears, dys, strict=True)):
        chosen, z = each[2 * i : 2 * i + 2]
        rows, d_up = torch.empty_like(t.up), torch.empty_like(t.up)
        library.backward(
            *(both.data_ptr(), dy.data_ptr(), t.up.data_ptr(), rows.data_ptr(), _place(tokens), _place(p, i), _place(g, i)),
            *(chosen.data_ptr(), z.data_ptr(), _place(pull, i), _place(d_loss, i)),
            *(dz.data_ptr(), room.data_ptr(), d_both.data_ptr(), d_up.data_ptr()),
            *(G * (R + E), i * R, G * R + i * E, N, E, r, K, t.up.shape[0], r < R, scale),
        )
        d_ups.append(d_up)
        if sinks and sinks[i] is not None:  # what every expert asks of its hidden rows, times x
            own = scale * dz * g[i].t().gather(1, chosen.long())[:, :, None]
            read, d = x.contiguous(), x.shape[1]
            shares = torch.empty(d, E, r, dtype=x.dtype)
            library.by_expert(read.data_ptr(), own.data_ptr(), chosen.data_ptr(), room.data_ptr(), shares.data_ptr(), N, E, r, K, d)
            leave(sinks[i], shares.permute(1, 2, 0), t)
    if dp is not None:
        t = p * dp
        d_both[:, G * R :] += (t - p * t.sum(1, keepdim=True)).flatten(0, 1).t()
    dx = None
    if wanted:
        dx = torch.mm(d_both, stacked)
        for t, dy in zip(linears, dys, strict=True):
            dx.addmm_(dy, t.weight)
    d_all = torch.mm(d_both.t(), x)
    return Gradients(dx, d_all[: G * R].chunk(G), d_ups, d_all[G * R :].chunk(G), None, None)


def _place(t: Tensor | None, i: int = 0) -> int | None:
    """Where part number i of a tensor lies; None of none."""
    return None if t is None else t.data_ptr() + i * t.stride(0) * t.element_size()


def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """`native.c` for one precision, compiled where it is not yet; None where that cannot be done."""
    if dtype not in _libraries:
        with _lock:
            if dtype not in _libraries:
                _libraries[dtype] = _load(dtype)
    return _libraries[dtype]


def _load(dtype: torch.dtype) -> ctypes.CDLL | None:
    kind, exp = TYPES[dtype]
    target = TARGET.get(torch.backends.cpu.get_cpu_capability(), [])
    command = [*_compiler(), "-O3", "-std=gnu11", "-shared", "-fPIC", *target, f"-DT={kind}", f"-DEXP={exp}"]
    name = hashlib.sha256(SOURCE.read_bytes() + repr(command).encode()).hexdigest()[:16] + ".so"
    try:
        return _declare(_kept(command, name))
    except (OSError, subprocess.SubprocessError) as problem:
        log.info("native.c could not be compiled (%s): adapters work without it, more slowly on a CPU.", problem)
        return None


def _compiler() -> list[str]:
    """The command of $CC, of Python's own compiler, or of the system's."""
    own = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shlex.split(os.environ.get("CC") or (own if shutil.which(own) else "cc"))


def _kept(command: list[str], name: str) -> ctypes.CDLL:
    """The library of this name from the cache, into which it is put if it is not there; or compiled for this process alone, where the cache
    cannot be written or others may write it."""
    folder = cache_dir() / "native"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _private(folder):
            path = folder / name
            if not path.exists():
                _compile(command, path)
            if _private(path):
                return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        _compile(command, path)
        return ctypes.CDLL(str(path))


def _private(path: Path) -> bool:
    """Whether nobody else can write it."""
    found = path.stat()
    return hasattr(os, "getuid") and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _compile(command: list[str], path: Path) -> None:
    part = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        subprocess.run([*command, str(SOURCE), "-o", str(part), "-lm"], check=True, capture_output=True, timeout=120)
        part.chmod(0o700)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    place, whole, real = ctypes.c_void_p, ctypes.c_long, ctypes.c_double
    library.forward.argtypes = [place] * 12 + [whole] * 9 + [real] * 2
    library.backward.argtypes = [place] * 15 + [whole] * 9 + [real]
    library.by_expert.argtypes = [place] * 5 + [whole] * 5
    library.forward.restype = library.backward.restype = library.by_expert.restype = None
    return library
