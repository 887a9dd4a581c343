"""MoELoRA (Luo et al., arXiv 2402.12851): MoLA's layer with a contrastive loss that keeps the experts' outputs apart.

    h = W x + alpha / r * sum_{k in top-2} g_k(x) B_k A_k x
    L = L_task + lb L_Switch + lc L_con

L_con is InfoNCE over outputs z = B_i A_i x of tokens that were sent to expert i: outputs of one expert attract, those of different
experts repel (`contrastive_loss`). It looks at up to 16 tokens an expert, drawn at random from those routed to it; padding is left out.
No z of d_out entries is made: z_a . z_b = u_a^T (B_i^T B_j) u_b with u = A x, through the (E r) x (E r) Gram matrix of the B.
At the start all z are 0, so the loss sets in after the warm-up (option `after`); without a step in the context it acts at once.
A_k as LoRA, B_k zero; lb = lc = .01. Parameters a linear: E r (d_in + d_out) + E d_in.

Unverified: tau (.07) and that z is compared by its cosine, tokens an expert, when the loss sets in, the form of InfoNCE with several
positives (the mean over all pairs of one expert), the router's start.
"""

import torch
from torch import Tensor

from mosld.adapters.adapter import Adapter, Call

TINY = 1e-20  # floor of a squared length


class MoELoRA(Adapter):
    """Separate experts behind a top-K router, told to differ."""

    def forward_tokens(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
        y, p, g = super().forward_tokens(x, call)
        late = self.context.step is None or self.context.step > self.config.option("after")
        if g is not None and late and self.training and torch.is_grad_enabled():
            index, valid = self.sample(g, call.mask)
            down, up = self.factors()
            u = torch.einsum("ecd,erd->ecr", x[index].to(down.dtype), down)
            call.kept = self.config.option("contrast") * contrastive_loss(u, up, valid, self.config.option("tau"))
        return y, p, g

    def sample(self, gate: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Up to `tokens` of those routed to each expert, at random: their numbers [E, C] and which of these entries are real [E, C]."""
        routed = gate > 0 if mask is None else (gate > 0) & (mask > 0)
        draw = torch.empty_like(gate).uniform_(0.5, 1, generator=self.context.draws()) * routed
        value, index = draw.topk(min(int(self.config.option("tokens")), gate.shape[1]), 1)
        return index, value > 0

    def extra_loss(self, p: Tensor, g: Tensor, call: Call) -> Tensor | None:
        balance, contrast = super().extra_loss(p, g, call), call.kept
        return balance if contrast is None else contrast if balance is None else balance + contrast


def contrastive_loss(u: Tensor, up: Tensor, valid: Tensor, tau: float) -> Tensor:
    """Mean InfoNCE of all pairs (a, b) of outputs of one expert: -log(e^{s_ab} / (e^{s_ab} + sum_n e^{s_an})), n: outputs of other experts.

    s is the cosine of two outputs over tau; z_ec = up_e u_ec is never formed.

    Args:
        u: [E, C, r], the low-rank activations of C tokens of each expert. up: [d_out, E, r]. valid: [E, C], which of them count.
    """
    E, C, r = u.shape
    columns = up.reshape(up.shape[0], E * r)
    gram = (columns.t() @ columns).view(E, r, E, r)
    half = torch.einsum("ecr,erfs->ecfs", u, gram)
    dots = torch.einsum("ecfs,fbs->ecfb", half, u).reshape(E * C, E * C)
    length = dots.diagonal().clamp(min=TINY).sqrt()
    s = dots / (length[:, None] * length * tau)
    real = valid.reshape(-1)
    expert = torch.arange(E, device=u.device).repeat_interleave(C)
    same, both = expert[:, None] == expert, real[:, None] & real
    # the lowest finite number where there is no other: the pair then costs 0, and -inf would make second derivatives NaN
    others = s.masked_fill(same | ~both, torch.finfo(s.dtype).min).logsumexp(1, keepdim=True)
    pairs = (same & both).fill_diagonal_(False).to(s.dtype)
    return (torch.nn.functional.softplus(others - s) * pairs).sum() / pairs.sum().clamp(min=1)
