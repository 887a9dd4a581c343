"""What the adapters are set beside: peft's LoRA, and mixtures of LoRA experts as loops, put into any model.

- `Loop`: a frozen linear with a mixture of experts in the two ways of public code, with a gather and dense.
- `peft_lora`, `put_loops`, `put_adapters`: change a model's chosen linears in place and give back what trains.
- `equal_rank`: the rank at which LoRA has as many parameters as a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence

import peft
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mosld.adapters import attach
from mosld.adapters.handle import Handle
from mosld.config import AdapterConfig

RANK, TOP_K, SCALE = 8, 2, 2.0


class Loop(nn.Module):
    """A mixture of LoRA experts with a matrix A and a matrix B for each, one after another.

    gather: an expert takes out its tokens, applies its two matrices and adds the result back (public top-k mixtures); otherwise every
    expert is applied to every token and weighed (public dense mixtures).
    """

    def __init__(self, base: nn.Linear, experts: int, gather: bool):
        super().__init__()
        self.base, self.gather = base.requires_grad_(False), gather
        place = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.router = nn.Linear(base.in_features, experts, bias=False, **place)
        self.A = nn.ModuleList(nn.Linear(base.in_features, RANK, bias=False, **place) for _ in range(experts))
        self.B = nn.ModuleList(nn.Linear(RANK, base.out_features, bias=False, **place) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        y = self.base(tokens)
        value, chosen = F.softmax(self.router(tokens), -1).topk(TOP_K, -1)
        value = value / value.sum(-1, keepdim=True)
        if self.gather:
            where = F.one_hot(chosen, len(self.A)).permute(2, 1, 0)
            for e, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
                slot, token = torch.where(where[e])
                y = y.index_add(0, token, b(a(tokens[token])) * value[token, slot, None] * SCALE)
        else:
            gate = torch.zeros(len(tokens), len(self.A), dtype=value.dtype, device=x.device).scatter(1, chosen, value)
            for e, (a, b) in enumerate(zip(self.A, self.B, strict=True)):
                y = y + gate[:, e, None] * b(a(tokens)) * SCALE
        return y.view(*x.shape[:-1], -1)


def put_loops(model: nn.Module, ends: Sequence[str], experts: int, gather: bool) -> list[nn.Parameter]:
    """Loops at all linears whose name ends so; the rest is frozen."""
    model.requires_grad_(False)
    loops = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in ends:
            loops.append(Loop(module, experts, gather))
            setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], loops[-1])
    return [p for loop in loops for p in loop.parameters() if p.requires_grad]


def peft_lora(model: nn.Module, ends: Sequence[str], rank: int = RANK, cast: bool = True) -> list[nn.Parameter]:
    """peft's LoRA without dropout. `cast` is peft's autocast_adapter_dtype: float32 adapters on a bfloat16 model, peft's default."""
    config = peft.LoraConfig(r=rank, lora_alpha=int(SCALE * rank), target_modules=list(ends))
    peft.get_peft_model(model, config, autocast_adapter_dtype=cast)
    return [p for p in model.parameters() if p.requires_grad]


def put_adapters(model: nn.Module, targets: str, experts: int, **further) -> Handle:
    """The project's adapters, as a run has them: MoSLD with dropout on A and a balance loss, or LoRA where there is one expert."""
    method = "mosld" if experts > 1 else "lora"
    settings = {"experts": experts, "top_k": TOP_K} if experts > 1 else {}
    handle = attach(model, AdapterConfig(method=method, rank=RANK, alpha=SCALE * RANK, targets=targets, **settings, **further))
    handle.train()
    return handle


def equal_rank(handle: Handle) -> int:
    """The rank at which LoRA on the same linears has the parameters of `handle`."""
    return max(1, round(handle.count() / sum(a.d_in + a.d_out for a in handle.adapters)))
