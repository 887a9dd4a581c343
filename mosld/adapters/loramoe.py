"""LoRAMoE (Dou et al., arXiv 2312.09979): dense LoRA experts, balanced within the type of task that they are for.

    h = W x + alpha / r * sum_i softmax(W_g x)_i B_i A_i x

Localized balancing constraint: Q [E, M] holds the router's probabilities of expert e summed over the real tokens of text m, and
Z = I * Q with I_em = 1 + delta where expert and text are of one type, else 1 - delta. L = beta Var(Z) / Mean(Z)^2 over all entries
(population variance): experts share the work evenly but for the lean to their own type.
A_i as LoRA, B_i zero. Parameters a linear: E r (d_in + d_out) + E d_in.

The paper has two types, world knowledge and other tasks. Here task t is of type t mod `types`, and the experts are cut into as many
equal runs. The task of each text comes by `Handle.context(task=...)`; without it every text is of task 0.
Unverified: delta (.1), beta (.01, the balance coefficient), the router's start.
"""

import torch
from torch import Tensor

from mosld.adapters.adapter import Adapter, Call


class LoRAMoE(Adapter):
    """Separate experts, dense routing, balance within types."""

    by_text = True

    def extra_loss(self, p: Tensor, g: Tensor, call: Call) -> Tensor | None:
        if self.context.balance == 0 or not self.rule.trained:
            return None
        E, types = self.site.experts, int(self.config.option("types"))
        task = self.context.tasks_of(call.shape, p.device)
        q = (p if call.mask is None else p * call.mask).reshape(E, len(task), p.shape[1] // max(len(task), 1)).sum(-1)
        expert_type = torch.arange(E, device=p.device) * types // E
        return self.context.balance * localized_balance(q, expert_type[:, None] == task % types, self.config.option("delta"))


def localized_balance(importance: Tensor, own: Tensor, delta: float) -> Tensor:
    """Var(Z) / Mean(Z)^2 of Z = importance [E, M], times 1 + delta where `own` [E, M] says that expert and text are of one type, else 1 - delta.

    0 where there is no token."""
    z = importance * torch.where(own, 1 + delta, 1 - delta)
    if not z.numel():
        return z.sum()
    return z.var(correction=0) / (z.mean() ** 2).clamp(min=torch.finfo(z.dtype).tiny)
