"""One arm's probes as a list of `LinearProbe`, one an adapted linear: the bridge from `mosld.probes` to Frames.

Linears of as many experts are measured together, so that the cost hardly grows with their number.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from mosld.adapters import Handle
from mosld.adapters.adapter import Adapter
from mosld.probes import imbalance, norms, routing
from mosld.training.frame import LinearProbe


def before_step(handle: Handle) -> dict[nn.Parameter, Tensor]:
    """Copies of the trainable tensors, to be given to `measure` after the step."""
    return {p: p.detach().clone() for p in handle.parameters()}


@torch.no_grad()
def measure(handle: Handle, before: dict[nn.Parameter, Tensor], task: Tensor, mask: Tensor, tasks: int) -> list[LinearProbe]:
    """Probes of the step just made: gates of its forward pass, its gradients, the change from `before` to now.

    Args:
        task: [M] task of each text row of the batch. mask: [M, L], 1 at real tokens.
    """
    token_task, token_mask = task.repeat_interleave(mask.shape[1]), mask.reshape(-1)
    groups: dict[int, list[int]] = defaultdict(list)
    for i, a in enumerate(handle.adapters):
        groups[a.site.experts if a.last is not None else 1].append(i)
    out: list[LinearProbe | None] = [None] * len(handle.adapters)
    for experts, members in groups.items():
        adapters = [handle.adapters[i] for i in members]
        if adapters[0].last is None:
            gate = torch.ones(len(members), 1, len(token_task), device=task.device)
        else:
            gate = torch.stack([a.last.gate for a in adapters])
        load, mean = (_rows(v, experts) for v in routing.by_task(gate, token_task, tasks, token_mask))
        all_load, all_mean = routing.overall(gate, token_mask)
        figures = {
            "balance": routing.balance(all_mean).tolist(),
            "effective": routing.effective_experts(all_mean).tolist(),
            "idle": routing.idle_experts(all_load).tolist(),
            "token_entropy": routing.token_entropy(gate, token_mask).tolist(),
            "information": routing.task_information(gate, token_task, tasks, token_mask).tolist(),
        }
        for j, (i, a) in enumerate(zip(members, adapters, strict=True)):
            own = {name: values[j] for name, values in figures.items()}
            out[i] = LinearProbe(load=load[j], gate=mean[j], **own, **_weights(a, before, all_load[j], handle.dropout))
    return out


def _rows(values: Tensor, experts: int) -> list[list[list[float] | None]]:
    """[linears, T, E] as lists, with None for a task that has no token."""
    return [[None if row[0] != row[0] else row for row in linear] for linear in values.tolist()]


def _weights(a: Adapter, before: dict[nn.Parameter, Tensor], load: Tensor, rate: float) -> dict:
    """Norms and imbalance of one adapter."""
    up, down = a.products()
    now_a, now_b = a.stacks()
    old_a, old_b = (norms.rms(w) for w in a.stacks(lambda p: before[p]))
    grad_a, grad_b = (norms.rms(w) for w in a.stacks(lambda p: torch.zeros_like(p) if p.grad is None else p.grad))
    step_a, step_b = (norms.rms(w) for w in a.stacks(lambda p: p - before[p]))
    kept = {site: 1 - rate if a.config.dropout_on == site else 1.0 for site in "AB"}
    reach_a, reach_b = imbalance.update_counts(load, len(now_a) == 1, len(now_b) == 1, kept["A"], kept["B"])
    ask = a.sink.get("ask")
    return {
        "norm_a": norms.frobenius(now_a).tolist(),
        "norm_b": norms.frobenius(now_b).tolist(),
        "norm_ba": norms.product_norm(up, down).tolist(),
        "ask_a": None if ask is None else ask.tolist(),
        "imbalance": [
            imbalance.log_ratio(reach_a, reach_b),
            imbalance.log_ratio(grad_a, grad_b),
            imbalance.log_ratio(step_a, step_b),
            imbalance.log_ratio(imbalance.relative(step_a, old_a), imbalance.relative(step_b, old_b)),
        ],
    }
