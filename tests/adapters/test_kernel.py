"""The fused kernel and the router against plain loops, autograd's finite differences and numbers worked by hand."""

import pytest
import torch

from mosld.adapters.balance import balance_loss
from mosld.adapters.kernel import Linear, mix, mixture, mixtures, routed_gate
from tests.adapters.same import one_linear
from tests.adapters.slow import slow_mixture

N, D_IN, D_OUT, R, E = 9, 6, 5, 3, 4


def tensors(shared_down, shared_up, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (N, D_IN),
        "down": (R, D_IN) if shared_down else (E, R, D_IN),
        "up": (D_OUT, R) if shared_up else (D_OUT, E, R),
        "router": (E, D_IN),
    }
    leaves = {k: torch.randn(s, generator=g, dtype=torch.float64, requires_grad=True) for k, s in shapes.items()}
    weight = torch.randn(D_OUT, D_IN, generator=g, dtype=torch.float64)
    bias = torch.randn(D_OUT, generator=g, dtype=torch.float64)
    return leaves, weight, bias


def as_lists(leaves):
    down = [leaves["down"]] if leaves["down"].dim() == 2 else list(leaves["down"])
    up = [leaves["up"]] if leaves["up"].dim() == 2 else list(leaves["up"].unbind(1))
    return down, up


@pytest.mark.parametrize("top_k", [0, 1, 2, E])
@pytest.mark.parametrize("shared_down,shared_up", [(True, False), (False, True), (False, False)])
def test_outputs_and_gradients_equal_a_plain_loop(shared_down, shared_up, top_k):
    leaves, weight, bias = tensors(shared_down, shared_up)
    probe = torch.randn(N, D_OUT, dtype=torch.float64)
    y, _, _ = mixture(leaves["x"], weight, bias, leaves["down"], leaves["up"], 1.7, leaves["router"], top_k)
    fast = torch.autograd.grad((y * probe).sum(), leaves.values())
    down, up = as_lists(leaves)
    z = slow_mixture(leaves["x"], weight, bias, down, up, 1.7, leaves["router"], top_k)
    slow = torch.autograd.grad((z * probe).sum(), leaves.values(), allow_unused=True)
    torch.testing.assert_close(y, z)
    for name, f, s in zip(leaves, fast, slow, strict=True):
        # top-1 renormalised is always 1: the loop's router then has a gradient of zero
        torch.testing.assert_close(f, torch.zeros_like(f) if s is None else s, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("top_k", [0, 2])
def test_gradcheck_through_outputs_and_probabilities(top_k):
    leaves, weight, bias = tensors(True, False, seed=1)
    assert torch.autograd.gradcheck(lambda x, d, u, r: mixture(x, weight, bias, d, u, 0.5, r, top_k)[:2], tuple(leaves.values()))


def test_one_expert_without_router_is_a_plain_low_rank_update():
    leaves, weight, bias = tensors(True, True)
    y, p, g = mixture(leaves["x"], weight, bias, leaves["down"], leaves["up"], 2.0)
    assert p is None and g is None
    torch.testing.assert_close(y, leaves["x"] @ (weight + 2.0 * leaves["up"] @ leaves["down"]).t() + bias)
    assert torch.autograd.gradcheck(lambda x, d, u: mixture(x, weight, bias, d, u, 2.0)[0], (leaves["x"], leaves["down"], leaves["up"]))


def test_the_open_form_gives_the_same_numbers():
    leaves, weight, bias = tensors(True, False)
    fused, _, _ = mixture(leaves["x"], weight, bias, leaves["down"], leaves["up"], 1.3, leaves["router"], 2)
    _, gate = routed_gate(leaves["router"] @ leaves["x"].t(), 2)
    opened = mix(leaves["x"] @ weight.t() + bias, leaves["down"] @ leaves["x"].t(), gate, leaves["up"], 1.3)
    torch.testing.assert_close(fused, opened)


def test_gate_by_hand():
    logits = torch.log(torch.tensor([[0.5], [0.3], [0.2]]))
    p, g = routed_gate(logits, 2)
    torch.testing.assert_close(p, torch.tensor([[0.5], [0.3], [0.2]]))
    torch.testing.assert_close(g, torch.tensor([[0.625], [0.375], [0.0]]))


def test_balance_loss_by_hand_and_without_padding():
    # two experts, four tokens: the first three choose expert 0, the last is padding that chose expert 1
    p = torch.tensor([[0.9, 0.8, 0.7, 0.0], [0.1, 0.2, 0.3, 1.0]])
    g = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(balance_loss(p, g, torch.tensor([1, 1, 1, 0])), torch.tensor(2 * (1.0 * 0.8 + 0.0 * 0.2)))
    torch.testing.assert_close(balance_loss(p, g, None), torch.tensor(2 * (0.75 * 0.6 + 0.25 * 0.4)))
    even = torch.full((4, 8), 0.25)
    torch.testing.assert_close(balance_loss(even, even, None), torch.tensor(1.0))


def test_each_experts_share_of_a_shared_factors_gradient():
    leaves, weight, bias = tensors(True, False)
    probe = torch.randn(N, D_OUT, dtype=torch.float64)
    sink = {}
    y, _, gate = mixture(leaves["x"], weight, bias, leaves["down"], leaves["up"], 1.7, leaves["router"], 2, sink)
    (y * probe).sum().backward()
    shares = []
    for e in range(E):  # G_e = (g_e * (dL/dy up_e))^T x, from the definition
        pull = 1.7 * gate[e][:, None] * (probe @ leaves["up"][:, e].detach())
        shares.append(pull.t() @ leaves["x"].detach())
    torch.testing.assert_close(sum(shares), leaves["down"].grad)
    torch.testing.assert_close(sink["ask"], torch.stack([s.norm() for s in shares]))


def test_autocast_runs_and_is_close():
    leaves, weight, bias = tensors(True, False)
    single = [t.detach().float() for t in leaves.values()]
    x, down, up, router = [t.requires_grad_() for t in single]
    with torch.autocast("cpu", torch.bfloat16):
        y, _, _ = mixture(x, weight.float(), bias.float(), down, up, 1.0, router, 0)
    y.float().sum().backward()
    exact, _, _ = mixture(x.detach(), weight.float(), bias.float(), down, up, 1.0, router, 0)
    assert y.dtype == torch.bfloat16 and down.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), exact, atol=0.3, rtol=0.05)


def group(G, shared_down, shared_up, drop, seed=3):
    """Tensors of G linears of different widths that read one input; a dropout mask for each down where asked."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, N, D_IN, generator=g, dtype=torch.float64, requires_grad=True)
    linears = []
    for i in range(G):
        own, weight, bias = tensors(shared_down, shared_up, seed + i)
        up = torch.randn(D_OUT + i, *own["up"].shape[1:], generator=g, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(D_OUT + i, D_IN, generator=g, dtype=torch.float64)
        bias = torch.randn(D_OUT + i, generator=g, dtype=torch.float64) if i else None
        mask = torch.bernoulli(torch.full(own["down"].shape, 0.7, dtype=torch.float64), generator=g) / 0.7 if drop else None
        linears.append(Linear(weight, bias, own["down"], up, own["router"], None, mask))
    return x, linears


def trained(x, linears):
    return [x, *(t for linear in linears for t in (linear.down, linear.up, linear.router))]


@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize("shared_down,shared_up", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("drop", [False, True])
def test_linears_in_one_node_equal_each_alone_in_plain_autograd(shared_down, shared_up, drop, top_k):
    x, linears = group(3, shared_down, shared_up, drop)
    real = torch.rand(2 * N) > 0.3
    tokens = real.double() / real.sum()
    found = mixtures(x, linears, 1.7, top_k, 0.3, tokens)
    plain = []
    for t in linears:  # the equation, one at a time
        flat = x.reshape(-1, D_IN)
        p, gate = routed_gate(t.router @ flat.t(), top_k)
        hidden = (t.down if t.drop is None else t.down * t.drop) @ flat.t()
        y = mix(flat @ t.weight.t() + (0 if t.bias is None else t.bias), hidden, gate, t.up, 1.7)
        plain.append((y.view(2, N, -1), p, 0.3 * balance_loss(p, gate.detach(), real)))
    pulls = [torch.randn_like(y) for y in found.y]
    total = sum((y * pull).sum() + 2 * loss + p.square().sum() for y, pull, loss, p in zip(found.y, pulls, found.loss, found.p, strict=True))
    slow = sum((y * pull).sum() + 2 * loss + p.square().sum() for (y, p, loss), pull in zip(plain, pulls, strict=True))
    for y, (z, _, _) in zip(found.y, plain, strict=True):
        torch.testing.assert_close(y, z)
    torch.testing.assert_close(torch.stack(found.loss), torch.stack([loss for _, _, loss in plain]))
    for a, b in zip(torch.autograd.grad(total, trained(x, linears)), torch.autograd.grad(slow, trained(x, linears)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("unused", [0, 1])
def test_an_answer_that_nobody_reads_has_no_gradient(unused):
    x, linears = group(2, True, False, False)
    found = mixtures(x, linears, 1.0, 2, 0.1)
    grads = torch.autograd.grad(found.y[1 - unused].square().sum(), trained(x, linears))
    for t in grads[1 + 3 * unused : 4 + 3 * unused]:
        torch.testing.assert_close(t, torch.zeros_like(t))
    alone = mixtures(x, [linears[1 - unused]], 1.0, 2)
    torch.testing.assert_close(grads[0], torch.autograd.grad(alone.y[0].square().sum(), x)[0])


def test_second_derivatives_of_a_node():
    x, linears = group(2, True, False, True)
    leaves = trained(x, linears)

    def outputs(*given):
        own = [t._replace(down=given[1 + 3 * i], up=given[2 + 3 * i], router=given[3 + 3 * i]) for i, t in enumerate(linears)]
        found = mixtures(given[0], own, 0.5, 2, 0.1)
        return (*found.y, *found.loss)

    assert torch.autograd.gradcheck(outputs, leaves)
    grads = torch.autograd.grad(sum(o.square().sum() for o in outputs(*leaves)), leaves, create_graph=True)
    assert torch.autograd.grad(sum(t.square().sum() for t in grads), x)[0].isfinite().all()


def test_logits_made_elsewhere_stand_for_the_router():
    leaves, weight, bias = tensors(True, False)
    logits = (leaves["router"] @ leaves["x"].t()).detach().requires_grad_()
    own = mixtures(leaves["x"], [Linear(weight, bias, leaves["down"], leaves["up"], leaves["router"])], 1.3, 2, 0.2)
    given = mixtures(leaves["x"], [Linear(weight, bias, leaves["down"], leaves["up"], None, logits)], 1.3, 2, 0.2)
    torch.testing.assert_close(own.y[0], given.y[0])
    d_router = torch.autograd.grad(own.y[0].square().sum() + own.loss[0], leaves["router"])[0]
    d_logits = torch.autograd.grad(given.y[0].square().sum() + given.loss[0], logits)[0]
    torch.testing.assert_close(d_router, d_logits @ leaves["x"])


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_equal_logits_keep_exactly_k_experts(top_k):
    leaves, weight, bias = tensors(True, False)
    with torch.no_grad():
        leaves["router"].copy_(leaves["router"][:1].expand(E, -1))  # equal rows: every token ties
        leaves["x"][0] = 0  # a token whose logits are all zero
    y, p, gate = mixture(leaves["x"], weight, bias, leaves["down"], leaves["up"], 1.0, leaves["router"], top_k)
    assert ((gate > 0).sum(0) == top_k).all()
    torch.testing.assert_close(gate.sum(0), torch.ones(N, dtype=torch.float64))
    torch.testing.assert_close(p, torch.full_like(p, 1 / E))
    slow = leaves["x"] @ weight.t() + bias
    for e in range(E):
        slow = slow + gate[e][:, None] * (leaves["x"] @ leaves["down"].t() @ leaves["up"][:, e].t())
    torch.testing.assert_close(y, slow)
    assert all(t.isfinite().all() for t in torch.autograd.grad(y.square().sum(), leaves.values()))


def test_half_precision_is_the_exact_layer_within_its_rounding():
    """bfloat16 input and weight, float32 trainables, beside float64: the error is of bfloat16's size (2^-8), everywhere."""
    x, linears = group(2, True, False, False)
    low = [t._replace(weight=t.weight.bfloat16(), bias=None if t.bias is None else t.bias.bfloat16()) for t in linears]
    exact = [t._replace(weight=t.weight.double(), bias=None if t.bias is None else t.bias.double()) for t in low]
    single = [t._replace(**{n: getattr(t, n).detach().float().requires_grad_() for n in ("down", "up", "router")}) for t in low]
    rounded = x.detach().bfloat16()
    found = mixtures(rounded.requires_grad_(), single, 1.0, 0, 0.1)
    right = mixtures(rounded.detach().double().requires_grad_(), exact, 1.0, 0, 0.1)
    assert found.y[0].dtype == torch.bfloat16 and found.loss[0].dtype == torch.float32
    sum(y.float().square().sum() for y in found.y).backward()
    sum(y.square().sum() for y in right.y).backward()
    for a, b in zip(single, exact, strict=True):
        for name in ("down", "up", "router"):
            got, want = getattr(a, name).grad, getattr(b, name).grad
            assert got.dtype == torch.float32
            assert (got - want).norm() < 0.03 * want.norm(), name


def test_what_each_expert_asks_of_a_dropped_out_a_is_its_share_of_the_gradient():
    """G_e = scale (g_e (dL/dy B_e))^T x, times the mask on A; their sum is dL/dA, their norms are what the probes show."""
    adapter, handle, x = one_linear("mosld", experts=3, top_k=2, dropout=0.5, balance=0.0)
    handle.train()
    up = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with handle.context(mask=torch.ones(3, 5, dtype=torch.long), probing=True):
        (adapter(x) * up).sum().backward()
    X, D, g = x.detach().reshape(-1, 16), up.reshape(-1, 16), adapter.last.gate
    shares = [adapter.scale * (g[e][:, None] * (D @ adapter.B.detach()[:, e])).T @ X * adapter.mask for e in range(3)]
    assert (adapter.mask == 0).any()
    torch.testing.assert_close(sum(shares), adapter.A.grad)
    torch.testing.assert_close(adapter.sink["ask"], torch.stack([s.norm() for s in shares]))


def test_the_balance_loss_of_a_padded_batch_is_that_of_its_real_tokens():
    draw = torch.Generator().manual_seed(3)
    p, g = routed_gate(torch.randn(4, 12, generator=draw), 2)
    mask = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0])
    torch.testing.assert_close(balance_loss(p, g, mask), balance_loss(p[:, mask > 0], g[:, mask > 0], None))
    assert abs(float(balance_loss(p, g, None) - balance_loss(p, g, mask))) > 1e-6  # else this could not tell
