"""The fused kernel and the router against plain loops, autograd's finite differences and numbers worked by hand."""

import pytest
import torch

from mosld.adapters.adapter import balance_loss
from mosld.adapters.kernel import mix, mixture, routed_gate
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
