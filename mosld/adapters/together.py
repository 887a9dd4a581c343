"""Together: adapters of linears that read one input, such as q, k and v of an attention, or up and gate of a feed-forward block.

The first of them that is called answers for all in one node of the kernel (`mosld.adapters.kernel.mixtures`); the others take what is kept for
them. That holds in training, where all are plain, of one kind and called with the very same tensor; any other call is answered alone. Adapters
whose answer was not fetched (they read another input after all, or are switched off) part for good when the next pass begins, not sooner: gradient
checkpointing makes a pass again as it was. The compiler takes the way of each linear alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mosld.adapters.kernel import mixtures

if TYPE_CHECKING:
    from mosld.adapters.adapter import Adapter, Answer, Call

READ_ALIKE = (("q", "k", "v"), ("gate", "up"))  # in the order in which models call them: masks are drawn in it, here as when each is alone
CROSSING = ("cross", "encdec", "encoder_attn")  # in the names of attentions whose keys and values come from elsewhere


def join(adapters: Sequence[Adapter]) -> None:
    """Put adapters together whose linears stand side by side in one module and read one input, by their target names."""
    groups = defaultdict(list)
    for a in adapters:
        parent = a.site.name.rpartition(".")[0]
        kind = next((i for i, targets in enumerate(READ_ALIKE) if a.site.target in targets), None)
        if kind is not None and a.by_kernel and not any(word in parent.lower() for word in CROSSING):
            groups[parent, kind, type(a), a.d_in, a.A.shape[:-1], a.B.shape[1:], a.site.experts].append(a)
    for (_, kind, *_), group in groups.items():
        if len(group) > 1:
            Together(sorted(group, key=lambda a, kind=kind: READ_ALIKE[kind].index(a.site.target)))


class Together:
    """One group. Its members know it as `Adapter.together`."""

    def __init__(self, members: list[Adapter]):
        self.members = members
        self.x: Tensor | None = None
        self.version = 0
        self.kept: dict[int, tuple[Call, Answer]] = {}  # by the member's id: what it was answered with, not fetched yet
        self.apart: set[int] = set()  # ids of members that will part when the next pass begins
        for a in members:
            a.together = self

    def __getstate__(self) -> dict:
        return {**self.__dict__, "x": None, "kept": {}, "apart": set()}

    def forget(self) -> None:
        """A pass begins: members that did not fetch an answer in the last one part from the others."""
        self._drop()
        if not self.apart:
            return
        gone, stay = ([a for a in self.members if (id(a) in self.apart) == out] for out in (True, False))
        for a in self.members:
            a.together = None
        for group in (gone, stay):
            if len(group) > 1:
                Together(group)

    def _drop(self) -> None:
        """Let go of answers that were not fetched. What gradient checkpointing makes again it may break off in between."""
        self.apart |= {key for key, (call, _) in self.kept.items() if not call.again}
        self.x, self.kept = None, {}

    def answer(self, member: Adapter, x: Tensor, call: Call) -> Answer | None:
        """The member's answer to x [..., d_in], in the precision that is to be computed in; None: it has to be found alone."""
        if id(member) in self.kept:
            known, found = self.kept[id(member)]
            if call.x is self.x and call.x._version == self.version and known.base is call.base and known.autocast == call.autocast:
                del self.kept[id(member)]
                self.x = self.x if self.kept else None
                return found
            self._drop()
            return None
        self._drop()
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not member.fused(call) or not member.plainly_routed:
            return None
        members = [member, *(a for a in self.members if a is not member)]
        calls = [call, *(a.call(a.base, call.x) for a in members[1:])]
        for own in calls[1:]:
            own.autocast = call.autocast
        if not all(a.training and a.fused(c) for a, c in zip(members, calls, strict=True)):
            return None
        found = mixtures(
            x,
            [a.linear(c) for a, c in zip(members, calls, strict=True)],
            member.scale,
            member.config.top_k,
            member.coefficient(),
            member.token_weights(call),
            [a.open_sink() for a in members],
        )
        answers = [a.answered(found, i) for i, a in enumerate(members)]
        self.x, self.version = call.x, call.x._version
        self.kept = {id(a): (c, answer) for a, c, answer in zip(members[1:], calls[1:], answers[1:], strict=True)}
        return answers[0]
