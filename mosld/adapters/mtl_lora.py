"""MTL-LoRA (Yang et al., arXiv 2410.09437): one A, a small matrix for each task, several B mixed by weights that each task learns.

    h = W x + alpha / r * sum_i softmax(w_t / tau)_i B_i L_t A x      for a text of task t

Shapes: A [r, d_in], L [T, r, r] (or its diagonal, [T, r]), B [d_out, n, r], w [T, n], with n the number of experts (3 in the paper).
A as LoRA, L the identity, B zero, w uniform on +- 1 / sqrt(n) (kaiming, as in the authors' code). tau .1. No router looks at the
tokens: the gate of a text is that of its task, so the update merges exactly, one task at a time: `Handle.merge(task=t)`.
Parameters a linear: r d_in + T r^2 (or T r) + n r d_out + T n.

The task of each text comes by `Handle.context(task=...)`; without it every text is of task 0. A held-out task has no L and w of its
own: the trainer scores it as the mixture's last task. For the probes A is A and B is B_i; the update of expert i is B_i times the
mean over tasks of L_t, times A. Unverified: whether the paper's own results have the full or the diagonal L (here full).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mosld.adapters.adapter import Adapter, Call
from mosld.adapters.kernel import mix
from mosld.adapters.stages import heads


class MTLLoRA(Adapter):
    """A task's own mixture of shared B, after a task's own r x r matrix."""

    hints = {
        "gate": "{label} asks no router: the gates are learned for each task, here {task}, and are the same for all its words.",
        "hidden": "A (shared) squeezes x to r = {rows} numbers, then the task's own {rows} × {rows} matrix Λ turns them.",
    }
    steerable = False
    token_routed = False
    task_routed = True
    by_text = True

    def build(self) -> None:
        super().build()
        T, r, n, dtype = self.context.tasks, self.config.rank, self.site.experts, self.A.dtype
        full = self.config.option("matrix") == "full"
        self.L = nn.Parameter(torch.eye(r, dtype=dtype).repeat(T, 1, 1) if full else torch.ones(T, r, dtype=dtype))
        self.w = None
        if n > 1:
            self.w = nn.Parameter(torch.empty(T, n, dtype=dtype).uniform_(-1 / math.sqrt(n), 1 / math.sqrt(n), generator=self.context.generator))

    def add_router(self, d_in: int) -> None:
        self.router = None

    def task_gate(self) -> Tensor:
        """The gate of every task, [T, n]."""
        return (self.w / self.config.option("tau")).softmax(-1)

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        task = self.context.tasks_of(call.shape, x.device)
        hidden = F.linear(x, self.A.to(x.dtype)).view(len(task), len(x) // max(len(task), 1), self.config.rank)  # [M, L, r]
        own = self.L.to(x.dtype)[task]
        hidden = hidden @ own.mT if own.dim() == 3 else hidden * own[:, None]
        gate = None if self.w is None else self.task_gate()[task].t().repeat_interleave(hidden.shape[1], 1)  # [n, N]
        y = mix(call.frozen(x), hidden.flatten(0, 1).t(), gate, self.B, self.scale)
        return y, gate, gate

    def stages(self, x: Tensor, shape: torch.Size) -> dict:
        own = self.L[self.context.tasks_of(shape, x.device)].repeat_interleave(shape[1], 0)  # [N, r, r] or [N, r]
        low = (self.A @ x).t()[..., None]
        hidden = (own @ low)[..., 0] if own.dim() == 3 else own * low[..., 0]
        return {"hidden": hidden.t()[None], "up": heads(self.B), "name": "Λₜ A x"}

    def products(self) -> tuple[Tensor, Tensor]:
        a, b = self.stacks()
        return b, self._between(self.L.mean(0)) @ a

    def task_factors(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """A task's update as one pair of factors, up [d_out, r] and down [r, d_in], the scale in the first."""
        _, b = self.stacks()
        up = b[0] if self.w is None else torch.tensordot(self.task_gate()[task], b, 1)
        return self.scale * up @ self._between(self.L[task]), self.A

    def delta(self, task: int = 0) -> Tensor:
        up, down = self.task_factors(task)
        return up @ down

    def _between(self, own: Tensor) -> Tensor:
        """A task's matrix [r, r], from the full form or from a diagonal [r]."""
        return own if own.dim() == 2 else torch.diag(own)
