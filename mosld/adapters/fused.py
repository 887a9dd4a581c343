"""Fused linears: which rows of a linear that holds q, k and v (or gate and up) side by side belong to which, so that q and v can be adapted alone.

- `FUSED`: by the name of the linear and the class of the module around it. A fused linear of an unknown class is adapted whole, by its own name, or
  not at all. `HOLDS`: what each name holds.
- `Rows`: the rows of one part. `join`: the outputs of all parts as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Split = tuple[int, tuple[tuple[str, int], ...]]  # groups of rows, and what each group holds: (target, rows)


def _thirds(owner: nn.Module, d_in: int, d_out: int) -> Split:
    return 1, tuple((t, d_out // 3) for t in "qkv")


def _heads(owner: nn.Module, d_in: int, d_out: int) -> Split:
    """q, k and v of each head side by side."""
    of = owner if hasattr(owner, "num_heads") or hasattr(owner, "num_attention_heads") else owner.config
    heads = getattr(of, "num_heads", None) or of.num_attention_heads
    return heads, tuple((t, d_out // heads // 3) for t in "qkv")


def _gpt2(owner: nn.Module, d_in: int, d_out: int) -> Split:
    """Cross-attention has its q apart."""
    return (1, tuple((t, d_out // 2) for t in "kv")) if owner.is_cross_attention else _thirds(owner, d_in, d_out)


def _bigcode(owner: nn.Module, d_in: int, d_out: int) -> Split | None:
    if owner.is_cross_attention:
        return None
    return (1, (("q", owner.embed_dim), ("k", owner.kv_dim), ("v", owner.kv_dim))) if owner.multi_query else _heads(owner, d_in, d_out)


def _falcon(owner: nn.Module, d_in: int, d_out: int) -> Split:
    d, heads = owner.head_dim, owner.num_heads
    if owner.new_decoder_architecture:
        return owner.num_kv_heads, (("q", heads // owner.num_kv_heads * d), ("k", d), ("v", d))
    return (1, (("q", heads * d), ("k", d), ("v", d))) if owner.multi_query else _heads(owner, d_in, d_out)


def _grouped(owner: nn.Module, d_in: int, d_out: int) -> Split:
    """All q, then fewer k, then as many v."""
    kv = owner.num_key_value_heads * owner.head_dim
    return 1, (("q", d_out - 2 * kv), ("k", kv), ("v", kv))


def _gate_up(owner: nn.Module, d_in: int, d_out: int) -> Split:
    return 1, (("gate", d_out // 2), ("up", d_out // 2))


def _up_gate(owner: nn.Module, d_in: int, d_out: int) -> Split:
    return 1, (("up", d_out // 2), ("gate", d_out // 2))


# by the name of the linear, then by the class around it
FUSED: dict[str, dict[str, Callable[[nn.Module, int, int], Split | None]]] = {
    "c_attn": {
        **dict.fromkeys(("GPT2Attention", "ImageGPTAttention", "DecisionTransformerGPT2Attention"), _gpt2),
        "Attention": _thirds,  # OpenAI GPT
        "GPTBigCodeAttention": _bigcode,
    },
    "query_key_value": {
        **dict.fromkeys(("GPTNeoXAttention", "GPTNeoXJapaneseAttention", "BloomAttention", "PersimmonAttention"), _heads),
        **dict.fromkeys(("FalconAttention", "FalconFlashAttention2"), _falcon),
    },
    "qkv_proj": {"Phi3Attention": _grouped, "Phi4MultimodalAttention": _grouped},
    "Wqkv": {"ModernBertAttention": _thirds, "MptAttention": _thirds, "DbrxAttention": _grouped},
    "in_proj": {"DisentangledSelfAttention": _heads},
    "qkv": dict.fromkeys(("BlipAttention", "Blip2Attention", "SamVisionAttention", "SamVisionSdpaAttention", "VitDetAttention"), _thirds),
    "gate_up_proj": dict.fromkeys(("Phi3MLP", "GlmMLP", "Glm4MLP", "Phi4MultimodalMLP"), _gate_up),
    "Wi": {"ModernBertMLP": _up_gate, "ModernBertDecoderMLP": _up_gate},
}
HOLDS = {name: ("gate", "up") if name in ("gate_up_proj", "Wi") else ("q", "k", "v") for name in FUSED}


@dataclass(frozen=True)
class Rows:
    """The rows of a fused linear that belong to one part: in each of `groups` equal runs of rows, `size` of them from `start` on."""

    groups: int
    start: int
    size: int

    def take(self, t: Tensor, dim: int = 0) -> Tensor:
        """The part's rows of `t` along `dim`; a view where there is one group."""
        if self.groups == 1:
            return t.narrow(dim, self.start, self.size)
        dim = dim % t.dim()
        return t.unflatten(dim, (self.groups, -1)).narrow(dim + 1, self.start, self.size).flatten(dim, dim + 1)

    def put(self, t: Tensor, part: Tensor) -> None:
        """Add `part` to these rows of `t`, in place."""
        t.unflatten(0, (self.groups, -1)).narrow(1, self.start, self.size).add_(part.unflatten(0, (self.groups, self.size)))


def join(parts: list[Tensor], groups: int) -> Tensor:
    """The outputs [..., rows] of all parts of a fused linear, in the order of its rows."""
    if groups == 1:
        return torch.cat(parts, -1)
    return torch.cat([p.unflatten(-1, (groups, -1)) for p in parts], -1).flatten(-2)
