"""Routing figures against numbers worked by hand."""

import math

import pytest
import torch

from mosld.probes import routing

# four real tokens and one of padding; three experts, top-2. Tokens 0, 1 are of task 0; 2, 3 (and the padding) of task 1
GATE = torch.tensor(
    [
        [0.75, 0.50, 0.00, 0.00, 1.0],
        [0.25, 0.50, 0.60, 0.00, 0.0],
        [0.00, 0.00, 0.40, 1.00, 0.0],
    ]
)
TASK = torch.tensor([0, 0, 1, 1, 1])
MASK = torch.tensor([1, 1, 1, 1, 0])


def test_load_and_mean_gate_by_task():
    load, mean = routing.by_task(GATE, TASK, 3, MASK)
    torch.testing.assert_close(load[:2], torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.5, 1.0]]))
    torch.testing.assert_close(mean[:2], torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.3, 0.7]]))
    assert load[2].isnan().all() and mean[2].isnan().all()  # a task without a token is a gap


def test_several_linears_at_once_equal_one_at_a_time():
    both = torch.stack([GATE, GATE.flip(0)])
    for together, alone in zip(routing.by_task(both, TASK, 2, MASK), routing.by_task(GATE.flip(0), TASK, 2, MASK), strict=True):
        torch.testing.assert_close(together[1], alone)


def test_balance_effective_experts_and_idle():
    load, mean = routing.overall(GATE, MASK)
    torch.testing.assert_close(load, torch.tensor([0.5, 0.75, 0.5]))
    torch.testing.assert_close(mean, torch.tensor([0.3125, 0.3375, 0.35]))
    h = -sum(p * math.log(p) for p in (0.3125, 0.3375, 0.35))
    assert float(routing.evenness(mean)) == pytest.approx(h / math.log(3), rel=1e-5)
    assert float(routing.effective_experts(mean)) == pytest.approx(math.exp(h), rel=1e-5)
    assert int(routing.idle_experts(load)) == 0
    collapsed = torch.tensor([1.0, 0.0, 0.0])
    assert float(routing.evenness(collapsed)) == 0 and float(routing.effective_experts(collapsed)) == 1 and int(routing.idle_experts(collapsed)) == 2
    assert float(routing.evenness(torch.ones(1))) == 1


def test_idle_is_under_a_tenth_of_the_even_share():
    assert routing.idle_experts(torch.tensor([0.024, 0.026, 0.5, 0.5])) == 1  # 1 / (10 * 4) = 0.025


def test_token_entropy():
    h = [-sum(p * math.log(p) for p in (0.75, 0.25)), math.log(2), -sum(p * math.log(p) for p in (0.6, 0.4)), 0.0]
    assert float(routing.token_entropy(GATE, MASK)) == pytest.approx(sum(h) / 4, rel=1e-5)


def test_effective_experts_of_a_load_do_not_depend_on_how_many_experts_a_token_takes():
    assert float(routing.effective_experts(torch.tensor([0.5, 0.5, 0.5, 0.5]))) == pytest.approx(4, rel=1e-5)
    assert float(routing.effective_experts(torch.tensor([1.0, 1.0, 0.0, 0.0]))) == pytest.approx(2, rel=1e-5)


def test_the_most_that_a_choice_can_tell():
    assert routing.most(4, 2) == 1 and routing.most(8, 2) == 2 and routing.most(4, 1) == 2 and routing.most(4, 4) == 0 and routing.most(4, 0) == 2


def test_votes_share_one_between_the_chosen_and_are_the_gates_where_routing_is_dense():
    torch.testing.assert_close(routing.votes(GATE, 2)[:, :2], torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]))
    assert routing.votes(GATE, 0) is GATE


def sent(choice: torch.Tensor, experts: int) -> torch.Tensor:
    """Votes [E, N] of tokens that are sent to `choice` [N] or [N, K]."""
    return torch.nn.functional.one_hot(choice.view(len(choice), -1), experts).float().mean(1).t()


def pairs(n: int, generator: torch.Generator) -> torch.Tensor:
    """Two different experts of four for each of n tokens, [n, 2], evenly drawn."""
    return torch.rand(n, 4, generator=generator).topk(2).indices


@pytest.mark.parametrize("labels,tokens", [(6, 300), (200, 600), (400, 4000)])
def test_independent_choices_tell_nothing(labels, tokens):
    g = torch.Generator().manual_seed(0)
    repeats = torch.stack([sent(pairs(tokens, g), 4) for _ in range(40)])  # forty independent linears
    label = torch.randint(labels, (tokens,), generator=g)
    bits = routing.information(repeats, label)
    error = float(bits.std()) / math.sqrt(40)
    assert abs(float(bits.mean())) < 4 * error + 2e-3  # the shuffles have an error of their own, shared by all forty


@pytest.mark.parametrize("tokens", [600, 4000])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_constructed_choices_tell_what_is_known(share, tokens):
    """A share of the words settles the pair of experts, the others are sent by chance: share x log2(4 / 2) bits."""
    g = torch.Generator().manual_seed(1)
    words = 100
    own = pairs(words, g)
    fixed = torch.arange(words) < share * words
    found = []
    for _ in range(12):
        word = torch.randint(words, (tokens,), generator=g)
        found.append(sent(torch.where(fixed[word, None], own[word], pairs(tokens, g)), 4))
        found[-1] = routing.information(found[-1], word)
    assert float(torch.stack(found).mean()) == pytest.approx(share * 1.0, abs=0.03)


def test_information_of_two_labels_worked_by_hand():
    """Task t sends a token to expert t with .75, else to the other: 1 - H(.25) bits, at any number of tokens."""
    g = torch.Generator().manual_seed(2)
    exact = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    found = []
    for _ in range(30):
        task = torch.randint(2, (400,), generator=g)
        found.append(routing.information(sent(torch.where(torch.rand(400, generator=g) < 0.75, task, 1 - task), 2), task))
    found = torch.stack(found)
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / math.sqrt(30) + 2e-3


def test_tokens_of_a_text_that_go_one_way_are_shuffled_as_one():
    """One gate a text, by chance: the task is told nothing, but tokens shuffled one by one would say that it is."""
    g = torch.Generator().manual_seed(3)
    text = torch.arange(40).repeat_interleave(12)
    task = torch.randint(4, (40,), generator=g)[text]
    gates = torch.stack([sent(pairs(40, g)[text], 4) for _ in range(40)])
    by_text, by_token = routing.information(gates, task, text), routing.information(gates, task)
    assert abs(float(by_text.mean())) < 4 * float(by_text.std()) / math.sqrt(40) + 4e-3
    assert float(by_token.mean()) > 0.03 > float(by_text.mean())


def test_task_given_word():
    """The pair of experts follows the word alone: the task tells of it through the word, and nothing beyond the word. And the other way."""
    g = torch.Generator().manual_seed(4)
    word = torch.randint(40, (4000,), generator=g)
    task = (word + torch.randint(2, (4000,), generator=g)) % 4  # a word is met in two of four tasks
    by_word = sent(pairs(40, g)[word], 4)
    assert float(routing.information(by_word, task)) > 0.01
    assert abs(float(routing.information(by_word, task, given=word))) < 2e-3
    by_task = sent(torch.stack([task, (task + 1) % 4], 1), 4)
    known = 1.0  # bits that the word leaves open: which of its two tasks
    half = float(routing.information(by_task, task, given=word))
    # of a word's two neighbouring tasks the pairs share one of two experts: H(e | word) - H(e | task) = 1.5 - 1
    assert half == pytest.approx(known * 0.5, abs=0.02)


def test_dense_gates_are_read_as_chances():
    task = torch.tensor([0, 1]).repeat(500)
    gate = torch.stack([torch.where(task == 0, 0.9, 0.2), torch.where(task == 0, 0.1, 0.8)])
    h = lambda p: -p * math.log2(p) - (1 - p) * math.log2(1 - p)  # noqa: E731
    exact = h(0.55) - (h(0.1) + h(0.2)) / 2
    assert float(routing.information(routing.votes(gate, 0), task)) == pytest.approx(exact, abs=2e-3)


def test_information_of_one_expert_or_one_label_is_zero():
    assert float(routing.information(torch.ones(1, 50), torch.arange(50) % 3)) == 0
    assert float(routing.information(sent(torch.arange(50) % 4, 4), torch.zeros(50, dtype=torch.long))) == pytest.approx(0, abs=1e-9)


def test_lift_by_hand():
    word = torch.tensor([7, 7, 7, 9])
    names, lift = routing.lift(sent(torch.tensor([0, 0, 1, 1]), 2), word, prior=2)
    assert names.tolist() == [7, 9]
    # p(e) = 1/2; of word 7 (2 + 2 x .5) / (3 + 2) goes to expert 0, of word 9 (0 + 1) / (1 + 2)
    torch.testing.assert_close(lift, torch.tensor([[0.6, 1 / 3], [0.4, 2 / 3]]) / 0.5)
