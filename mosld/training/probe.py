"""One arm's probes as a list of `LinearProbe`, one an adapted linear: the bridge from `mosld.probes` to Frames.

- `measure`: of the step just made. `Reader`: of the rows that are scored, what the experts tell of words, places and tasks.

Linears of as many experts are measured together, so that the cost hardly grows with their number.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from mosld.adapters import Handle
from mosld.adapters.adapter import Adapter
from mosld.backbones.base import Batch
from mosld.probes import imbalance, norms, routing
from mosld.training.frame import READS, LinearProbe
from mosld.training.sentence import Picked, gates_of, readable

TOKENS = 4096  # that a `Reader` looks at, in equal parts from every task
TAKES = 3  # words shown of an expert
SHUFFLES = 2  # of each label: the bias left out is then known to a tenth of itself, and less over several linears


def before_step(handle: Handle) -> dict[nn.Parameter, Tensor]:
    """Copies of the trainable tensors, to be given to `measure` after the step."""
    return {p: p.detach().clone() for p in handle.parameters()}


@torch.no_grad()
def measure(
    handle: Handle, before: dict[nn.Parameter, Tensor], task: Tensor, mask: Tensor, tasks: int, sentence: Picked | None = None
) -> list[LinearProbe]:
    """Probes of the step just made: gates of its forward pass, its gradients, the change from `before` to now.

    Args:
        task: [M] task of each text row of the batch. mask: [M, L], 1 at real tokens. sentence: of this batch, whose gates are kept.
    """
    length, real = mask.shape[1], mask.reshape(-1).nonzero()[:, 0]
    token_task, text = task.repeat_interleave(length)[real], torch.arange(len(mask), device=task.device).repeat_interleave(length)[real]
    out: list[LinearProbe | None] = [None] * len(handle.adapters)
    for (experts, top_k), members in _groups(handle).items():
        adapters = [handle.adapters[i] for i in members]
        if adapters[0].last is None:
            gate = torch.ones(len(members), 1, len(real), device=task.device)
        else:
            whole = torch.stack([a.last.gate for a in adapters])
            gate = whole[..., real]
            if sentence is not None:
                of_text = whole[..., sentence.row * length : (sentence.row + 1) * length]
                said = gates_of(of_text, sentence.columns)
        load, mean = (_rows(v) for v in routing.by_task(gate, token_task, tasks))
        all_load, all_mean = routing.overall(gate)
        figures = {
            "evenness": routing.evenness(all_mean).tolist(),
            "effective": routing.effective_experts(all_mean).tolist(),
            "effective_load": routing.effective_experts(all_load).tolist(),
            "idle": routing.idle_experts(all_load).tolist(),
            "token_entropy": routing.token_entropy(gate).tolist(),
            "information": routing.information(routing.votes(gate, top_k), token_task, text, shuffles=SHUFFLES).tolist(),
            "share": all_load.tolist(),
        }
        weights = _weights(adapters, before, all_load, handle.dropout)
        for j, (i, a) in enumerate(zip(members, adapters, strict=True)):
            own = {name: values[j] for name, values in figures.items()}
            if sentence is not None and a.last is not None:
                own["word_experts"], own["word_gates"] = said[j]
            out[i] = LinearProbe(load=load[j], gate=mean[j], most=routing.most(experts, top_k), **own, **weights[j])
    return out


def _groups(handle: Handle) -> dict[tuple[int, int], list[int]]:
    """Indices of the adapters that have as many experts and send a token to as many: (E, K), K = 0 where routing is dense."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, a in enumerate(handle.adapters):
        experts = a.site.experts if a.last is not None else 1
        groups[experts, a.config.top_k if 0 < a.config.top_k < experts else int(experts == 1)].append(i)
    return groups


def _rows(values: Tensor) -> list[list[list[float] | None]]:
    """[linears, T, E] as lists, with None for a task that has no token."""
    return [[None if row[0] != row[0] else row for row in linear] for linear in values.tolist()]


def _weights(adapters: list[Adapter], before: dict[nn.Parameter, Tensor], load: Tensor, rate: float) -> list[dict]:
    """Norms, sizes of gradient and step, and imbalance of every adapter; load [adapters, E]."""
    out: list[dict] = [{} for _ in adapters]
    alike = defaultdict(list)
    for j, a in enumerate(adapters):
        alike[a.A.shape, a.B.shape].append(j)
    for places in alike.values():
        for j, found in zip(places, _alike([adapters[j] for j in places], before, load[places], rate), strict=True):
            out[j] = found
    return out


def _alike(adapters: list[Adapter], before: dict[nn.Parameter, Tensor], load: Tensor, rate: float) -> list[dict]:
    """The same, of adapters of one shape."""

    def both(read) -> list[Tensor]:
        """[adapters, 1 or E, ., .] of A and of B."""
        return [torch.stack(own) for own in zip(*(a.stacks(read) for a in adapters), strict=True)]

    up, down = (torch.stack(own) for own in zip(*(a.products() for a in adapters), strict=True))
    now_a, now_b = both(lambda p: p)
    old_a, old_b = map(norms.rms, both(lambda p: before.get(p, p)))
    grad_a, grad_b = map(norms.rms, both(lambda p: torch.zeros_like(p) if p.grad is None else p.grad))
    step_a, step_b = map(norms.rms, both(lambda p: p - before.get(p, p)))
    kept = {site: 1 - rate if adapters[0].config.dropout_on == site else 1.0 for site in "AB"}
    reach_a, reach_b = imbalance.update_counts(load, now_a.shape[1] == 1, now_b.shape[1] == 1, kept["A"], kept["B"])
    pairs = (
        (reach_a, reach_b),
        (grad_a, grad_b),
        (step_a, step_b),
        (imbalance.relative(step_a, old_a), imbalance.relative(step_b, old_b)),
    )
    figures = {
        "norm_a": norms.frobenius(now_a).tolist(),
        "norm_b": norms.frobenius(now_b).tolist(),
        "norm_ba": norms.product_norm(up, down).tolist(),
        "ask_a": [None if a.sink.get("ask") is None else a.sink["ask"].tolist() for a in adapters],
        "grad_a": grad_a.tolist(),
        "grad_b": grad_b.tolist(),
        "step_a": step_a.tolist(),
        "step_b": step_b.tolist(),
        "imbalance": [list(four) for four in zip(*(imbalance.log_ratios(a, b) for a, b in pairs), strict=True)],
    }
    return [{name: values[j] for name, values in figures.items()} for j in range(len(adapters))]


class Reader:
    """What the experts of one arm tell of the texts it is asked while they are scored: `reads`, `null` and `takes` of its probes.

        with Reader(arm.handle, start, tasks=6) as reader:
            ...; arm.score(batch); reader.add(batch)
        reader.read(tokenizer)

    Args:
        start: routers as they were before training, by the adapter's index: what the untrained router would have chosen on the same input.
        tasks: T, for equal parts.

    A text that comes again within its task is left out, and of a decoder's rows, which repeat the question for every option, so is the question.
    """

    def __init__(self, handle: Handle, start: dict[int, Tensor], tasks: int):
        self.handle, self.start, self.room = handle, start, -(-TOKENS // tasks)
        self.labels: list[Tensor] = []  # [4, n]: word, place, task, kind
        self.units: list[Tensor] = []  # [n] number of the token's text
        self.gates: list[list[Tensor]] = []  # of each batch, of each adapter, [E, n]
        self.nulls: list[list[Tensor | None]] = []
        self._untrained: dict[int, Tensor] = {}  # gates of the pass under way
        self._seen: set[tuple[int, bytes]] = set()
        self._left: dict[int, int] = {}
        self._texts = 0

    def __enter__(self) -> Reader:
        def keep(index: int):
            return lambda a, args: self._untrained.__setitem__(index, a.choices(args[0], self.start[index]))

        self._hooks = [self.handle.adapters[i].register_forward_pre_hook(keep(i)) for i in self.start]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def add(self, batch: Batch) -> None:
        """Take in the forward pass that has just been made, on texts of one task."""
        task = int(batch.task[0])
        left = self._left.get(task, self.room)
        if left <= 0 or all(a.last is None for a in self.handle.adapters):
            return
        counted = batch.attention_mask.bool()
        if batch.option_mask is None:
            option = torch.ones_like(counted)
            option[batch.question_row] = False
        else:
            option = batch.option_mask & counted
            first = torch.zeros(len(counted), 1, dtype=torch.bool, device=counted.device)
            first[batch.option_row[:, 0]] = True
            counted = counted & (option | first)
        fresh = []
        for ids, real in zip(batch.input_ids.cpu().numpy(), batch.attention_mask.bool().cpu().numpy(), strict=True):
            key = (task, ids[real].tobytes())
            fresh.append(key not in self._seen)
            self._seen.add(key)
        counted &= torch.tensor(fresh, device=counted.device)[:, None]
        at = counted.reshape(-1).nonzero()[:, 0]
        order = torch.randperm(len(counted), generator=torch.Generator().manual_seed(self._texts))  # else questions alone might fill the room
        at = at[order.to(at.device).argsort()[at // counted.shape[1]].argsort(stable=True)][:left]
        self._left[task] = left - len(at)
        place = (batch.attention_mask.cumsum(1) - 1).reshape(-1)[at]
        word, kind, length = batch.input_ids.reshape(-1)[at], option.reshape(-1)[at].long(), counted.shape[1]
        self.labels.append(torch.stack([word, place, torch.full_like(word, task), kind]))
        self.units.append(at // length + self._texts)
        self._texts += len(counted)
        self.gates.append([None if a.last is None else a.last.gate[:, at] for a in self.handle.adapters])
        self.nulls.append([self._untrained[i][:, at] if i in self._untrained else None for i in range(len(self.handle.adapters))])
        self._untrained.clear()

    def read(self, tokenizer) -> list[dict]:
        """`reads`, `null` and `takes` of every adapter; without an entry where it has no gate, or nothing was added."""
        out: list[dict] = [{} for _ in self.handle.adapters]
        if not self.gates:
            return out
        labels, unit = torch.cat(self.labels, 1), torch.cat(self.units)
        for (experts, top_k), members in _groups(self.handle).items():
            if experts == 1:
                continue
            vote = self._votes(self.gates, members, top_k)
            reads = _reads(vote, labels, unit)
            with_null = [i for i in members if self.nulls[0][i] is not None]
            null = dict(zip(with_null, _reads(self._votes(self.nulls, with_null, top_k), labels, unit), strict=True)) if with_null else {}
            takes = _takes(vote, labels[0], tokenizer)
            for j, i in enumerate(members):
                out[i] = {"reads": reads[j], "null": null.get(i), "takes": takes[j]}
        return out

    @staticmethod
    def _votes(gates: list[list[Tensor]], members: list[int], top_k: int) -> Tensor:
        return routing.votes(torch.stack([torch.cat([g[i] for g in gates], 1) for i in members]), top_k)


def starts(handle: Handle) -> dict[int, Tensor]:
    """Copies of the routers that look at a linear's input, by the adapter's index: to be made before training."""
    found = enumerate(handle.adapters)
    return {i: a.router.detach().clone() for i, a in found if a.steerable and a.site.experts > 1 and a.router is not None}


def _reads(vote: Tensor, labels: Tensor, unit: Tensor) -> list[list[float | None]]:
    """READS of every linear. Task is one value a text, and so shuffled by text; kind is, where question and option are texts of their own."""
    word, place, task, kind = labels
    pairs = torch.stack([unit, kind]).unique(dim=1).shape[1]
    kind_unit = unit if pairs == len(unit.unique()) else None
    several, kinds = bool((task != task[0]).any()), bool((kind != kind[0]).any())
    found = {
        "word": routing.information(vote, word, shuffles=SHUFFLES).tolist(),
        "place": routing.information(vote, place, shuffles=SHUFFLES).tolist(),
        "task": routing.information(vote, task, unit, shuffles=SHUFFLES).tolist() if several else None,
        "kind": routing.information(vote, kind, kind_unit, shuffles=SHUFFLES).tolist() if kinds else None,
        "task given word": routing.information(vote, task, given=word, shuffles=SHUFFLES).tolist() if several else None,
    }
    return [[None if found[name] is None else round(found[name][j], 5) for name in READS] for j in range(len(vote))]


def _takes(vote: Tensor, word: Tensor, tokenizer) -> list[list[list[str]]]:
    """Of every linear and expert the words it takes most, by lift."""
    ids, lift = routing.lift(vote, word)
    text = [readable(t) for t in tokenizer.convert_ids_to_tokens(ids.tolist())]
    usable = torch.tensor([any(map(str.isalpha, t)) for t in text], device=lift.device)
    best, index = lift.masked_fill(~usable, 0).topk(min(TAKES, len(ids)), -1)
    return [
        [[text[i] for i, v in zip(row, size, strict=True) if v > 1] for row, size in zip(rows, sizes, strict=True)]
        for rows, sizes in zip(index.tolist(), best.tolist(), strict=True)
    ]
