"""MoELoRA: the equation as a loop; the contrastive loss against a loop over full outputs and against values worked by hand."""

import math

import pytest
import torch

from mosld.adapters.moelora import contrastive_loss
from tests.adapters.same import assert_same, one_linear
from tests.adapters.slow import slow_mixture


def slow_contrast(outputs, tau):
    """InfoNCE over pairs of one expert; outputs: (expert, z [d_out]) of every sampled token."""
    losses = []
    for i, (expert, z) in enumerate(outputs):
        others = sum(math.e ** (torch.cosine_similarity(z, w, 0) / tau) for e, w in outputs if e != expert)
        for j, (e, w) in enumerate(outputs):
            if e == expert and i != j:
                alike = math.e ** (torch.cosine_similarity(z, w, 0) / tau)
                losses.append(-torch.log(alike / (alike + others)))
    return sum(losses) / len(losses)


def test_forward_and_gradients_equal_the_equation():
    adapter, handle, x = one_linear("moelora")
    up, down = adapter.products()

    def slow(x):
        return slow_mixture(x.view(-1, 16), adapter.weight, adapter.bias, list(down), list(up), 16 / 3, adapter.router, 2).view(3, 5, 16)

    assert_same(adapter, slow, handle, x)


def test_contrast_by_hand():
    # two experts, one output direction each, at right angles: s is 1 / tau with its own kind, 0 with the other
    up = torch.eye(2).view(2, 2, 1)
    u = torch.tensor([[[1.0], [5.0]], [[2.0], [3.0]]])
    every = torch.ones(2, 2, dtype=torch.bool)
    tau = 0.5
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert contrastive_loss(u, up, every, tau).item() == pytest.approx(expected)
    # one output of expert 1 is left out: its anchor has no pair, expert 0's anchors have one other
    some = torch.tensor([[True, True], [True, False]])
    assert contrastive_loss(u, up, some, tau).item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)))
    # all outputs alike: log(1 + 2)
    assert contrastive_loss(u, torch.ones(2, 2, 1), every, tau).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("side", ["input", "output"])
def test_contrast_and_its_gradients_equal_a_loop_over_full_outputs(side):
    adapter, handle, x = one_linear("moelora", side=side, balance=0, options={"contrast": 1, "tau": 0.4})
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    handle.train()
    with handle.context(mask=mask):
        adapter(x)
        loss = handle.extra_loss()
    up, down = adapter.products()
    outputs = []
    for n, token in enumerate(x.view(-1, 16)):  # fewer than 16 tokens an expert: all are compared
        for e in range(4):
            if adapter.last.gate[e, n] > 0 and mask.view(-1)[n]:
                outputs.append((e, up[e] @ (down[e] @ token)))
    assert len(outputs) == 20
    expected = slow_contrast(outputs, 0.4)
    torch.testing.assert_close(loss, expected)
    leaves = [x, adapter.A, adapter.B]
    for ours, loop in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, loop)


def test_sample_takes_at_most_so_many_tokens_and_only_those_that_were_sent():
    adapter, _, _ = one_linear("moelora", options={"tokens": 3})
    gate = torch.zeros(4, 40)
    gate[0, 10:20], gate[1, 5:7], gate[2] = 0.5, 0.5, 0.5
    mask = torch.ones(40)
    mask[12:] = 0
    index, valid = adapter.sample(gate, mask)
    assert valid.sum(1).tolist() == [2, 2, 3, 0]
    assert set(index[0][valid[0]].tolist()) == {10, 11} and set(index[1][valid[1]].tolist()) == {5, 6}
    drawn = [tuple(adapter.sample(gate, mask)[0][2].tolist()) for _ in range(200)]
    counts = torch.bincount(torch.tensor(drawn).view(-1), minlength=12)
    assert len(counts) == 12 and (counts - 50).abs().max() < 4 * math.sqrt(200 * 0.25 * 0.75)  # each of 12 tokens in a quarter of the draws


def test_the_loss_sets_in_after_the_warm_up_and_training_only():
    adapter, handle, x = one_linear("moelora", balance=0, options={"after": 5})
    handle.train()
    seen = {}
    for step in (None, 1, 5, 6):
        with handle.context(step=step):
            adapter(x)
            seen[step] = torch.as_tensor(handle.extra_loss()).item()
    assert seen[1] == seen[5] == 0 and seen[6] > 0 and seen[None] > 0
    handle.train(False)
    adapter(x)
    assert handle.extra_loss() == 0.0


def test_at_the_start_the_contrast_has_no_gradient_and_stays_finite():
    adapter, handle, x = one_linear("moelora", balance=0)
    with torch.no_grad():
        adapter.B.zero_()
    handle.train()
    adapter(x)
    loss = handle.extra_loss()
    loss.backward()
    assert torch.isfinite(loss) and adapter.A.grad.abs().max() == 0 and adapter.B.grad.abs().max() == 0


def test_balance_and_contrast_add_up():
    adapter, handle, x = one_linear("moelora", balance=1.0, options={"contrast": 0.5})
    handle.train()
    adapter(x)
    both = torch.as_tensor(handle.extra_loss()).item()
    handle.balance = 0.0
    adapter(x)
    contrast = torch.as_tensor(handle.extra_loss()).item()
    p, chosen = torch.softmax(adapter.router @ x.detach().view(-1, 16).t(), 0), (adapter.last.gate > 0).double()
    balance = 4 * ((chosen.sum(1) / chosen.sum()) @ p.mean(1)).item()
    assert both == pytest.approx(balance + contrast)
