"""The node's work in C against the same in torch's operations: outputs, gradients, balance loss, what experts ask of A; and when C is left alone."""

import os
import stat
import subprocess
import tempfile

import pytest
import torch

from mosld.adapters import eager, kernel, native
from mosld.adapters.eager import Linear, Work


def compiler_works() -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        command = [*native._compiler(), "-shared", "-fPIC", "-xc", "-", "-o", f"{scratch}/one.so"]
        try:
            return subprocess.run(command, input=b"int one;", capture_output=True).returncode == 0 and os.path.exists(command[-1])
        except OSError:
            return False


compiled = pytest.mark.skipif(not compiler_works(), reason="needs a C compiler")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def leaves(N, d_in, d_outs, E, r, shared, dtype, seed=0, drop=True, bias=True):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    x, weights = draw(N, d_in), draw(N).abs()
    weights[: N // 3] = 0  # padding
    linears = []
    for d in d_outs:
        down = draw(*((r,) if shared else (E, r)), d_in)
        mask = (draw(*down.shape) > 0) * 2.0 if drop else None
        linears.append(Linear(draw(d, d_in), draw(d) if bias else None, down, draw(d, E, r), draw(E, d_in) / d_in**0.5, None, mask))
    x, weights = x.to(dtype), (weights / weights.sum()).to(dtype)
    return x, weights, [Linear(*(None if t is None else t.to(dtype) for t in own)) for own in linears]


def results(x, linears, tokens, top_k, balance, d_p=True):
    """All that a node gives and all its gradients, with what experts ask of A where it is shared."""
    x = x.clone().requires_grad_()
    own = [t._replace(**{n: getattr(t, n).clone().requires_grad_() for n in ("down", "up", "router")}) for t in linears]
    sinks = [{} if t.down.dim() == 2 else None for t in own]
    y, p, gate, loss = kernel.mixtures(x, own, 1.7, top_k, balance, tokens, sinks)
    total = sum((v * torch.cos(torch.arange(v.numel()).view_as(v))).sum() for v in [*y, *(loss or []), *([p] if d_p else [])])
    grads = torch.autograd.grad(total, [x, *(getattr(t, n) for t in own for n in ("down", "up", "router"))])
    return [*y, p, gate, *(loss or []), *grads, *(s["ask"] for s in sinks if s)]


# widths of whole registers, of parts of one, and of both; ranks of 8, 4 and rests of both
SHAPES = [(40, 24, (128, 256), 8, 8), (33, 16, (300,), 4, 5), (17, 9, (7, 66, 20), 5, 13), (64, 32, (96,), 3, 1), (1, 4, (40,), 2, 4)]


@compiled
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared,balance,padded,d_p", [(True, 0.3, True, True), (False, 0.3, False, False), (True, 0.0, False, True)])
def test_it_gives_what_torch_gives(shape, shared, balance, padded, d_p, monkeypatch):
    N, d_in, d_outs, E, r = shape
    x, weights, linears = leaves(N, d_in, d_outs, E, r, shared, torch.float64, bias=padded)
    tokens = weights if padded and N > 2 else None
    for top_k in {1, 2, E - 1} - {E}:
        assert native.fits(Work(x, linears, 1.7, top_k, balance, tokens))
        quick = results(x, linears, tokens, top_k, balance, d_p)
        with monkeypatch.context() as without:
            without.setattr(native, "fits", lambda work: False)
            plain = results(x, linears, tokens, top_k, balance, d_p)
        for a, b in zip(quick, plain, strict=True):
            torch.testing.assert_close(a, b)


@compiled
def test_float32_is_as_near_to_the_exact_numbers_as_torch_is(monkeypatch):
    x, weights, linears = leaves(200, 128, (384, 128), 8, 8, True, torch.float64)
    exact = results(x, linears, weights, 2, 0.3)
    single = x.float(), [Linear(*(None if t is None else t.float() for t in own)) for own in linears], weights.float()
    quick = results(*single, 2, 0.3)
    monkeypatch.setattr(native, "fits", lambda work: False)
    plain = results(*single, 2, 0.3)

    def off(found):
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]

    for ours, theirs in zip(off(quick), off(plain), strict=True):
        assert ours < 1e-6 + 2 * theirs


@compiled
def test_numbers_that_are_none_stay_so_and_equal_ones_keep_k_experts():
    x, _, linears = leaves(6, 8, (16,), 4, 2, True, torch.float32)
    x[2, 0] = float("nan")
    linears = [linears[0]._replace(router=linears[0].router[:1].expand(4, -1).contiguous())]  # every expert has the same logit
    y, p, gate, _ = kernel.mixtures(x, linears, 1.0, 2)
    assert y[0][2].isnan().all() and p[0, :, 2].isnan().all()
    kept = torch.tensor([0, 1, 3, 4, 5])
    assert y[0][kept].isfinite().all() and (gate[0][:, kept] > 0).sum(0).eq(2).all()


@compiled
def test_what_does_not_agree_is_left_to_torch_which_says_so():
    x, _, linears = leaves(6, 8, (16,), 4, 2, True, torch.float32)
    work = Work(x, linears, 1.0, 2, 0.0, None)
    assert native.fits(work)
    t = linears[0]
    wrong = (
        t._replace(up=t.up[:, :3].contiguous()),
        t._replace(up=t.up[..., :1].contiguous()),
        t._replace(bias=t.bias[:5]),
        t._replace(down=t.down[:, :4].contiguous()),
    )
    for own in wrong:
        assert not native.fits(work._replace(linears=[own]))
        with pytest.raises(RuntimeError):
            eager.forward(work._replace(linears=[own]))
    assert not native.fits(work._replace(tokens=torch.ones(5)))
    for own in (t._replace(up=t.up.transpose(0, 1).contiguous().transpose(0, 1)), t._replace(router=t.router.double())):
        assert not native.fits(work._replace(linears=[own]))


@compiled
def test_who_counts_operations_is_shown_torchs_own():
    from torch.utils.flop_counter import FlopCounterMode

    x, _, linears = leaves(6, 8, (16,), 4, 2, True, torch.float32)
    with FlopCounterMode(display=False) as counted:
        kernel.mixtures(x, linears, 1.0, 2)
    N, d_in, d, E, r = 6, 8, 16, 4, 2
    assert counted.get_total_flops() == 2 * N * (d_in * (r + E) + E * r * d)  # it does not know products that add to what is there: the frozen one


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """As in a process that has compiled nothing, with a cache of its own."""
    monkeypatch.setattr(native, "_libraries", {})
    monkeypatch.setenv("MOSLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "native"


@pytest.mark.parametrize("cc", ["false", "no-such-compiler-here", "true"])
def test_without_a_compiler_torch_does_the_work(cc, anew, monkeypatch):
    monkeypatch.setenv("CC", cc)
    x, _, linears = leaves(6, 8, (16,), 4, 2, True, torch.float32)
    assert not native.fits(Work(x, linears, 1.0, 2, 0.0, None))
    assert kernel.mixtures(x, linears, 1.0, 2).y[0].shape == (6, 16)
    assert not list(anew.glob("*.so"))


@compiled
def test_it_is_compiled_once_and_what_others_may_write_is_not_loaded(anew, monkeypatch):
    x, _, linears = leaves(6, 8, (16,), 4, 2, True, torch.float32)
    work = Work(x, linears, 1.0, 2, 0.0, None)
    assert native.fits(work)
    (kept,) = anew.iterdir()
    assert stat.S_IMODE(anew.stat().st_mode) == 0o700
    calls, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    native._libraries.clear()
    assert native.fits(work) and not calls
    for name, mode, content in (("damaged", 0o700, b"not a library"), ("open", 0o777, kept.read_bytes())):
        monkeypatch.setenv("MOSLD_CACHE", str(anew / name))
        other = anew / name / "native" / kept.name
        other.parent.mkdir(mode=0o700, parents=True)
        other.write_bytes(content)
        other.chmod(mode)
        calls.clear()
        native._libraries.clear()
        assert native.fits(work) and len(calls) == 1
        torch.testing.assert_close(native.forward(work).ys[0], eager.forward(work).ys[0])
