"""Where the router sends tokens.

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


def _entropy(p: Tensor, dim: int = -1) -> Tensor:
    return -torch.special.xlogy(p, p).sum(dim)


def balance(mean_gate: Tensor) -> Tensor:
    """Entropy of the mean gate [..., E] over log E, in [0, 1]: 1 is an even spread; 1 by definition where E = 1."""
    experts = mean_gate.shape[-1]
    return _entropy(mean_gate) / math.log(experts) if experts > 1 else torch.ones(mean_gate.shape[:-1])


def effective_experts(mean_gate: Tensor) -> Tensor:
    """exp(entropy of the mean gate [..., E]): the number of experts that an even spread of the same entropy would use, in [1, E]."""
    return _entropy(mean_gate).exp()


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


def task_information(gate: Tensor, task: Tensor, tasks: int, mask: Tensor | None = None) -> Tensor:
    """Mutual information of expert choice and task, in bits.

    I = sum_{t,e} p(t, e) log2 (p(t, e) / (p(t) p(e))), where p(t, e) is the share of all choices (token, chosen expert) made by a token of
    task t for expert e. 0 where routing does not depend on the task; at most min(log2 T, log2 E).
    """
    member = torch.nn.functional.one_hot(task, tasks).to(gate.dtype)
    if mask is not None:
        member = member * mask.to(gate.dtype)[:, None]
    joint = (gate > 0).to(gate.dtype) @ member  # [..., E, T]
    joint = joint / joint.sum((-1, -2), keepdim=True)
    h = _entropy(joint.sum(-1)) + _entropy(joint.sum(-2)) - _entropy(joint.flatten(-2))
    return (h / math.log(2)).clamp(min=0)
