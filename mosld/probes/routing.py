"""Where the router sends tokens, and what its choice tells of them.

- `by_task`, `overall`: load and mean gate. `evenness`, `effective_experts`, `idle_experts`, `token_entropy`: how evenly, how surely.
- `information`: bits that the expert tells of a word, a place, a task; `most`: the most it can. `lift`: the words an expert takes.

Shapes: N tokens, E experts, T tasks; leading dimensions (several linears of as many experts) are carried through.
A gate is [..., E, N], zero where an expert is not chosen and summing to 1 over E. `task` is [N], `mask` [N] is 1 at real tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def by_task(gate: Tensor, task: Tensor, tasks: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Load and mean gate of every task and expert, both [..., T, E].

    load[t, e]: share of the tokens of task t that are sent to expert e (a token sent to K experts counts for each, so a row sums to K).
    mean gate[t, e]: mean gate weight (a row sums to 1). A task without a token gives NaN.
    """
    member = torch.nn.functional.one_hot(task, tasks).to(gate.dtype)  # [N, T]
    if mask is not None:
        member = member * mask.to(gate.dtype)[:, None]
    tokens = member.sum(0)[:, None]  # [T, 1]
    load = ((gate > 0).to(gate.dtype) @ member).transpose(-1, -2) / tokens
    mean = (gate @ member).transpose(-1, -2) / tokens
    return load, mean


def overall(gate: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Load and mean gate over all real tokens, both [..., E]."""
    weight = torch.ones(gate.shape[-1], dtype=gate.dtype) if mask is None else mask.to(gate.dtype)
    weight = weight.to(gate.device) / weight.sum()
    return (gate > 0).to(gate.dtype) @ weight, gate @ weight


def _entropy(p: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    return -torch.special.xlogy(p, p).sum(dim)


def evenness(mean_gate: Tensor) -> Tensor:
    """Entropy of the mean gate [..., E] over log E, in [0, 1]: 1 is an even spread; 1 by definition where E = 1."""
    experts = mean_gate.shape[-1]
    return _entropy(mean_gate) / math.log(experts) if experts > 1 else torch.ones(mean_gate.shape[:-1])


def effective_experts(spread: Tensor) -> Tensor:
    """exp(entropy of `spread` [..., E]): the number of experts that an even spread of the same entropy would use, in [1, E].

    Of the mean gate it counts weights, of the load tokens; a load is first divided by its sum, K.
    """
    return _entropy(spread / spread.sum(-1, keepdim=True)).exp()


def idle_experts(load: Tensor) -> Tensor:
    """How many experts get less than 1 / (10 E) of the tokens; load [..., E]."""
    return (load < 1 / (10 * load.shape[-1])).sum(-1)


def token_entropy(gate: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over real tokens of the entropy of a token's gate, in nats: 0 where each token has one expert."""
    h = _entropy(gate, -2)
    if mask is None:
        return h.mean(-1)
    weight = mask.to(gate.dtype)
    return (h * weight).sum(-1) / weight.sum()


def most(experts: int, top_k: int) -> float:
    """The most bits that the choice of experts can tell of anything: log2(E / K), for a token that takes K of E experts still leaves K open.

    Dense routing (top_k 0) is read as drawing one expert with the gates as probabilities: log2(E).
    """
    return math.log2(experts / (top_k or 1))


def votes(gate: Tensor, top_k: int) -> Tensor:
    """What each token gives each expert, [..., E, N]: an equal part of 1 to the chosen ones; the gates themselves where routing is dense."""
    if not top_k:
        return gate
    chosen = (gate > 0).to(gate.dtype)
    return chosen / chosen.sum(-2, keepdim=True).clamp(min=1)


def information(vote: Tensor, label: Tensor, unit: Tensor | None = None, given: Tensor | None = None, shuffles: int = 4, seed: int = 0) -> Tensor:
    """Mutual information of the expert and a label of the token, in bits [...], without the bias of a small sample; below `most`.

    The expert of a token is drawn by its votes, so I(e; y) = H(e) + H(y) - H(e, y), over votes [..., E, N] and labels [N] (whole numbers).
    Counted from few tokens this lies too high, the more labels the higher. What independence would give is therefore measured too, with
    the labels shuffled, and the value is set between that, B, and the most that this sample allows, M: M (I - B) / (M - B). It is 0 in the
    mean for independent labels, M where the label settles the choice, and hardly depends on the number of tokens (the adjustment of Vinh,
    Epps and Bailey, JMLR 11, 2010; the plain difference I - B falls short where the dependence is strong and labels are rare).

    Args:
        unit: [N] what is shuffled as a whole, such as the token's text, for a label that is the same within a unit. None: single tokens.
        given: [N] condition: I(e; y | given), labels shuffled among the tokens of the same value. Not together with `unit`.
        seed: of the shuffles: the same input gives the same bits.
    """
    tokens = vote.shape[-1]
    flat = vote.reshape(-1, tokens).t().contiguous()  # [N, linears E]
    shape = vote.shape[:-1]
    generator = torch.Generator().manual_seed(seed)
    label = label.unique(return_inverse=True)[1]
    within = torch.zeros_like(label) if given is None else given.unique(return_inverse=True)[1]
    size = int(label.max()) + 1
    h_given = _entropy(_table(flat, within, shape), (-1, -2))  # of (expert, condition)

    def told(y: Tensor) -> Tensor:
        """H(e | given) - H(e | y, given)."""
        pair = (within * size + y).unique(return_inverse=True)[1]
        return h_given - h_condition - (_entropy(_table(flat, pair, shape), (-1, -2)) - _entropy(_share(pair)))

    h_condition = _entropy(_share(within))
    plain = told(label)
    by_chance = torch.stack([told(_shuffled(label, unit, within, generator)) for _ in range(shuffles)]).mean(0)
    joint = vote.double() / vote.double().sum((-1, -2), keepdim=True)
    of_token = _entropy(joint, (-1, -2)) - _entropy(joint.sum(-2))  # H(e | token)
    h_label = _entropy(_share((within * size + label).unique(return_inverse=True)[1])) - h_condition
    bound = torch.minimum(h_given - h_condition - of_token, h_label)
    room = bound - by_chance
    value = torch.where(room > 1e-9, bound * (plain - by_chance) / room.clamp(min=1e-9), torch.zeros_like(plain))
    return (value / math.log(2)).to(vote.dtype)


def _table(flat: Tensor, label: Tensor, shape: torch.Size) -> Tensor:
    """Votes [N, linears E] summed by label, as shares: [..., E, labels]."""
    table = flat.new_zeros(int(label.max()) + 1, flat.shape[1]).index_add_(0, label, flat)
    table = table.t().reshape(*shape, -1).double()
    return table / table.sum((-1, -2), keepdim=True)


def _share(label: Tensor) -> Tensor:
    return torch.bincount(label).double() / len(label)


def _shuffled(label: Tensor, unit: Tensor | None, within: Tensor, generator: torch.Generator) -> Tensor:
    """The labels [N] in a new order: whole units change places, or tokens of the same condition do."""
    if unit is not None:
        names, number = unit.unique(return_inverse=True)
        of_unit = label.new_zeros(len(names)).scatter(0, number, label)
        return of_unit[torch.randperm(len(names), generator=generator).to(label.device)[number]]
    order = torch.randperm(len(label), generator=generator).to(label.device)
    mixed = order[within[order].argsort(stable=True)]  # the tokens condition by condition, in chance order within each
    out = torch.empty_like(label)
    out[within.argsort(stable=True)] = label[mixed]
    return out


def lift(vote: Tensor, label: Tensor, prior: float = 10.0) -> tuple[Tensor, Tensor]:
    """How much likelier an expert is for tokens of a label than for any: (labels [n], lift [..., E, n]).

    p(e | y) / p(e), with `prior` tokens of average routing added to every label, so that a label seen once does not lead by chance.
    """
    names, label = label.unique(return_inverse=True)
    flat = vote.reshape(-1, vote.shape[-1]).t()
    table = flat.new_zeros(len(names), flat.shape[1]).index_add_(0, label, flat)  # [n, linears E]
    mean = flat.mean(0)
    p = (table + prior * mean) / (torch.bincount(label).to(table)[:, None] + prior)
    return names, (p / mean.clamp(min=1e-12)).t().reshape(*vote.shape[:-1], -1)
