"""Several seeds, rates and dropouts of one adapter in one process: their adapters stacked over one frozen pass.

- `structure(job)`: runs that agree in it can be stacked. `Stack(jobs, device)`: trains them together and measures each.
- `merge(batches)`: batches of S runs as one, padded to one shape.

Run s of a stack draws the rows, batches, initial values and masks that `mosld.training.Trainer` draws for its configuration, and no
operation mixes runs, so it comes to the same within rounding. Only dropout on activations is drawn anew, since its masks have the batch's
padded shape. The frozen layers see the rows of all runs as one batch, which is what keeps a large processor busy.

Shapes: S runs, N tokens of a run's batch, M text rows of it, L tokens of a row, E experts, r rank, T tasks.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mosld import backbones, tasks
from mosld.adapters import attach
from mosld.adapters.adapter import Adapter
from mosld.adapters.attach import method_class
from mosld.adapters.mtl_lora import MTLLoRA
from mosld.backbones.base import Backbone, Batch
from mosld.config import ROUTING, ConfigError, RunConfig
from mosld.studies.claims.job import Job
from mosld.tasks.base import Example, Task
from mosld.tasks.mixture import Mixture

FREE = ("seed", "lr", "dropout", "balance", "tasks", "held_out", "arms", "eval_every", "eval_rows", "probe_every")  # may differ in a stack


def structure(job: Job) -> str:
    """What all runs of a stack must have in common."""
    common = {k: v for k, v in job.settings.items() if k not in (*FREE, "rows", "rate_a", "rate_router")}
    several = (job.config.method == "mtl-lora" or job.router == "task") and len(job.config.tasks)
    return json.dumps([common, several, job.config.effective().dropout > 0], sort_keys=True)


def stackable(config: RunConfig) -> bool:
    """Whether a method's equation is one that `StackedLinear` computes."""
    cls = method_class(config.method)
    plain = all(getattr(cls, n) is getattr(Adapter, n) for n in ("forward_tokens", "gates", "extra_loss"))
    usual = all(getattr(config, n) == RunConfig.model_fields[n].default for n in ROUTING)
    return (plain or cls is MTLLoRA) and config.side == "input" and usual


@dataclass
class State:
    """What all stacked linears of one model share."""

    rates: list[float]  # [S] dropout
    balance: Tensor  # [S]
    generators: list[torch.Generator]
    balanced: bool  # whether any run has a balance loss
    kept: Tensor  # [S] 1 - rates
    training: bool = False
    mask: Tensor | None = None  # [S, M, L] bool, real tokens
    task: Tensor | None = None  # [S, M]
    ids: Tensor | None = None  # [S, M, L] token ids
    instruction: Tensor | None = None  # [S, M, L] bool, the tokens that an instruction router reads
    aux: list[Tensor] = field(default_factory=list)  # balance losses [S] of the last forward pass
    shuffle: Tensor | None = None  # [S, N]: the gate of token n is taken from here
    level: bool = False  # every gate is replaced by the mean over the run's tokens


class StackedLinear(nn.Module):
    """One frozen linear with the adapters of S runs on it; rows of run s are the s-th block of the batch."""

    def __init__(self, adapters: Sequence[Adapter], state: State, reads: str = "token", tasks: int = 1):
        super().__init__()
        one = adapters[0]
        self.reads = reads
        self.frozen, self.state, self.site, self.scale, self.config = [one.weight, one.bias], state, one.site, one.scale, one.config
        names = [n for n, _ in one.named_parameters() if not n.startswith("base.")]
        for name in names:
            setattr(self, name, nn.Parameter(torch.stack([dict(a.named_parameters())[name].detach() for a in adapters])))
        E = one.site.experts
        if "router" in names and reads == "task":  # drawn like the token router it stands for
            self.router = nn.Parameter(self.router[..., :1].detach().mT.repeat(1, tasks, 1) * 0)
            for s, generator in enumerate(state.generators):
                self.router.data[s] = torch.empty(tasks, E).normal_(0, 0.02, generator=torch.Generator().manual_seed(generator.initial_seed()))
        if "router" in names and reads == "hash":
            picks = torch.rand(1 << 16, E, generator=torch.Generator().manual_seed(0)).topk(one.config.top_k or E, 1).indices
            self.register_buffer("picks", torch.zeros(1 << 16, E).scatter(1, picks, 1 / picks.shape[1]))
        if "router" in names and reads in ("hash", "uniform"):
            del self.router
            names = [n for n in names if n != "router"]
        self.names, self.experts = names, E
        self.tau = one.config.option("tau") if isinstance(one, MTLLoRA) else None
        self.gate: Tensor | None = None  # [S, N, E] of the last forward pass

    @property
    def weight(self) -> Tensor:
        return self.frozen[0]

    @property
    def bias(self) -> Tensor | None:
        return self.frozen[1]

    def _drop(self, w: Tensor, site: str) -> Tensor:
        if not self.state.training or self.config.dropout_on != site or not any(self.state.rates):
            return w
        masks = torch.empty_like(w)
        for mask, rate, generator in zip(masks, self.state.rates, self.state.generators, strict=True):
            mask.bernoulli_(1 - rate, generator=generator)
        return w * masks.div_(self.state.kept.view(-1, *[1] * (w.dim() - 1)))

    def _gate(self, x: Tensor) -> Tensor | None:
        """Gates [S, N, E]; the balance loss is left in the state."""
        if self.tau is not None:
            return self._task_gate()
        if self.experts == 1:
            return None
        if self.reads == "hash":
            return self._disturbed(self.picks[self.state.ids.flatten(1) % len(self.picks)])
        if self.reads == "uniform":
            return self._disturbed(x.new_full((*x.shape[:2], self.experts), 1 / self.experts))
        p = self._logits(x).softmax(-1)
        gate, k = p, self.config.top_k
        if 0 < k < p.shape[-1]:
            value, index = p.topk(k, -1)
            gate = torch.zeros_like(p).scatter(-1, index, value / value.sum(-1, keepdim=True))
        if self.state.training and self.state.balanced:
            w = self.state.mask.flatten(1).to(p.dtype)  # [S, N]
            chosen = torch.einsum("sn,sne->se", w, (gate > 0).to(p.dtype))
            mean = torch.einsum("sn,sne->se", w / w.sum(1, keepdim=True), p)
            even = p.shape[-1] * (chosen / chosen.sum(1, keepdim=True) * mean).sum(1)
            self.state.aux.append(self.state.balance * even)
        return self._disturbed(gate)

    def _logits(self, x: Tensor) -> Tensor:
        """Router logits [S, N, E] of tokens x [S, N, d_in]."""
        if self.reads in ("token", "random"):
            return x @ self.router.mT
        S, M, L = self.state.mask.shape
        if self.reads == "task":
            of_text = self.router.gather(1, self.state.task[..., None].expand(-1, -1, self.experts))
        else:
            w = (self.state.instruction if self.reads == "instruction" else self.state.mask)[..., None].to(x.dtype)  # [S, M, L, 1]
            of_text = ((x.view(S, M, L, -1) * w).sum(2) / w.sum(2).clamp(min=1)) @ self.router.mT  # [S, M, E]
        return of_text.repeat_interleave(L, 1)

    def _task_gate(self) -> Tensor | None:
        if "w" not in self.names:
            return None
        of_task = (self.w / self.tau).softmax(-1)  # [S, T, E]
        L = self.state.mask.shape[2]
        return of_task.gather(1, self.state.task[..., None].expand(-1, -1, self.experts)).repeat_interleave(L, 1)

    def _disturbed(self, gate: Tensor) -> Tensor:
        if self.state.shuffle is not None:
            return gate.gather(1, self.state.shuffle[..., None].expand_as(gate))
        if self.state.level:
            w = self.state.mask.flatten(1).to(gate.dtype)
            return torch.einsum("sn,sne->se", w / w.sum(1, keepdim=True), gate)[:, None].expand_as(gate)
        return gate

    def forward(self, x: Tensor) -> Tensor:
        S, L = len(self.state.rates), x.shape[1]
        tokens = x.reshape(S, -1, x.shape[-1])
        down, up = self._drop(self.A, "A"), self._drop(self.B, "B")  # [S, (E,) r, d_in], [S, d_out, (E,) r]
        hidden = self._drop(tokens, "activations") @ down.flatten(1, -2).mT  # [S, N, r or E r]
        gate = self._gate(tokens)
        self.gate = None if gate is None else gate.detach()
        if self.tau is not None:
            own = self.L.gather(1, self.state.task.view(S, -1, *[1] * (self.L.dim() - 2)).expand(-1, -1, *self.L.shape[2:]))  # [S, M, r, r]
            rows = hidden.view(S, -1, L, hidden.shape[-1])
            hidden = (rows @ own.mT if own.dim() == 4 else rows * own[:, :, None]).flatten(1, 2)
        if gate is not None:
            experts = hidden.view(S, hidden.shape[1], -1, self.A.shape[-2]) * gate[..., None]  # [S, N, E, r]
            hidden = experts.sum(2) if up.dim() == 3 else experts.flatten(2)
        base = F.linear(x, self.weight, self.bias)
        y = torch.baddbmm(base.view(S, tokens.shape[1], -1), hidden, up.flatten(2).mT, alpha=self.scale)
        return y.view_as(base)

    @torch.no_grad()
    def imbalance(self, before: dict[str, Tensor]) -> Tensor:
        """The four definitions of `mosld.probes.imbalance` for every run, [S, 4], NaN where one is undefined. After a step from `before`."""

        def rms(w: Tensor, of: str) -> Tensor:
            stacks = w[:, None] if w.dim() == 3 else w if of == "A" else w.transpose(1, 2)
            return stacks.flatten(2).square().mean(2).sqrt()  # [S, 1 or E]

        ratios = []
        if self.gate is None:
            load = self.A.new_ones(len(self.A), 1)
        else:
            w = self.state.mask.flatten(1).to(self.gate.dtype)
            load = torch.einsum("sn,sne->se", w, (self.gate > 0).to(w.dtype)) / w.sum(1, keepdim=True)
        kept = self.state.kept[:, None]
        reach = {}
        for of, p in (("A", self.A), ("B", self.B)):
            reach[of] = (torch.ones_like(load[:, :1]) if p.dim() == 3 else load) * (kept if self.config.dropout_on == of else 1)
        ratios.append(reach["A"].mean(1) / reach["B"].mean(1))
        for read in (lambda n: getattr(self, n).grad, lambda n: getattr(self, n) - before[n]):
            ratios.append(rms(read("A"), "A").mean(1) / rms(read("B"), "B").mean(1))
        relative = {n: rms(getattr(self, n) - before[n], n) / rms(before[n], n) for n in ("A", "B")}  # x / 0 is left out below
        relative = {n: v.where(v.isfinite(), torch.nan).nanmean(1) for n, v in relative.items()}
        ratios.append(relative["A"] / relative["B"])
        out = torch.stack(ratios, 1)
        return out.where((out > 0) & out.isfinite(), torch.nan).log2()


def merge(batches: Sequence[Batch], left: bool) -> tuple[Batch, Tensor, Tensor, Tensor]:
    """S batches as one, padded to the same rows, tokens, questions and options.

    Returns the batch (rows of run s are its s-th block), the real tokens [S, M, L] (bool), the task of each row [S, M] and which questions
    are real [S, N] (bool). A row that fills up has one token, which no adapter counts and no loss reads. `left`: padding is on the left.
    """
    S = len(batches)
    M, L = (max(b.input_ids.shape[i] for b in batches) for i in (0, 1))
    N, most = (max(b.option_row.shape[i] for b in batches) for i in (0, 1))
    ids, real = torch.zeros(S, M, L, dtype=torch.long), torch.zeros(S, M, L, dtype=torch.bool)
    task, question, option = torch.zeros(S, M, dtype=torch.long), torch.full((S, N), -1), torch.full((S, N, most), -1)
    answer, asked, mask = torch.zeros(S, N, dtype=torch.long), torch.zeros(S, N, dtype=torch.bool), torch.zeros(S, M, L, dtype=torch.bool)
    for s, b in enumerate(batches):
        m, length = b.input_ids.shape
        n, o = b.option_row.shape
        at = slice(L - length, L) if left else slice(0, length)
        ids[s, :m, at], real[s, :m, at], task[s, :m] = b.input_ids, b.attention_mask.bool(), b.task
        question[s, :n] = torch.where(b.question_row >= 0, b.question_row + s * M, -1)
        option[s, :n, :o] = torch.where(b.option_row >= 0, b.option_row + s * M, -1)
        option[s, n:, 0] = s * M
        if (b.question_row >= 0).all():
            question[s, n:] = s * M
        answer[s, :n], asked[s, :n] = b.answer, True
        if b.option_mask is not None:
            mask[s, :m, at] = b.option_mask
    seen = real.clone()
    seen[..., -1 if left else 0] |= ~real.any(-1)
    whole = Batch(
        input_ids=ids.flatten(0, 1),
        attention_mask=seen.flatten(0, 1).long(),
        question_row=question.flatten(),
        option_row=option.flatten(0, 1),
        answer=answer.flatten(),
        task=task.flatten(),
        option_mask=mask.flatten(0, 1) if batches[0].option_mask is not None else None,
    )
    return whole, real, task, asked


@dataclass(frozen=True)
class Merged:
    """A merged batch on its device."""

    batch: Batch
    real: Tensor
    task: Tensor
    asked: Tensor
    instruction: Tensor  # [S, M, L] bool

    @classmethod
    def of(cls, batches: Sequence[Batch], left: bool, device: torch.device, lengths: Sequence[Sequence[int]] = ()) -> Merged:
        """`lengths`: of every run, how many of its questions' first tokens are the instruction; without it a text's own tokens count."""
        batch, real, task, asked = merge(batches, left)
        instruction = real.clone()
        for s, (b, own) in enumerate(zip(batches, lengths, strict=False)):
            for row, length in zip(b.question_row.tolist(), own, strict=True):
                if row >= 0:
                    instruction[s, row, length:] = False
        return cls(batch.to(device), *(t.to(device) for t in (real, task, asked, instruction)))


def instruction_tokens(backbone: Backbone, question: str) -> int:
    """How many of the first tokens of an encoder's question are its instruction, which ends with the first ':' or '?'."""
    end = min((i for mark in ":?" if (i := question.find(mark)) >= 0), default=len(question) - 1) + 1
    return min(len(backbone._cached(question[:end], backbone._encode)) - 1, backbone.max_tokens)  # without the token that ends a text


def load_rows(names: Sequence[str], seed: int, rows: int = 0) -> list[Task]:
    """The tasks of a run, their training part cut to `rows` where it is not 0."""
    loaded = [tasks.load(name, seed) for name in names]
    return [dataclasses.replace(t, train=t.train[:rows]) if rows else t for t in loaded]


def whole(backbone: Backbone, rows: Sequence[Sequence[tuple[int, Example]]], device: torch.device) -> Merged:
    """One merged batch of the (task index, row) pairs of every run."""
    left, made = backbone.kind == "decoder", {}
    for own in rows:
        if id(own) not in made:  # runs of one seed at several rates have the same list
            lengths = [] if left else [instruction_tokens(backbone, e.question) for _, e in own]
            made[id(own)] = backbone.batch([e for _, e in own], [t for t, _ in own]), lengths
    batches, lengths = zip(*(made[id(own)] for own in rows), strict=True)
    return Merged.of(batches, left, device, () if left else lengths)


def score_rows(backbone: Backbone, rows: Sequence[Sequence[tuple[int, Example]]], device: torch.device, size: int) -> list[Merged]:
    """All rows of every run in merged batches of `size`; a run that has no more rows takes part with one that is not counted."""
    out = []
    for start in range(0, max(map(len, rows)), size):
        cut = {id(own): own[start : start + size] or own[:1] for own in rows}
        m = whole(backbone, [cut[id(own)] for own in rows], device)
        for s, own in enumerate(rows):
            if start >= len(own):
                m.asked[s] = False
                m.real[s] = False
        out.append(m)
    return out


class Stack:
    """Runs of one structure. Raises ConfigError where they cannot be stacked."""

    def __init__(self, jobs: Sequence[Job], backbone: Backbone | None = None, device: str = "cpu"):
        if len({structure(j) for j in jobs}) > 1 or not all(stackable(j.config) for j in jobs):
            raise ConfigError("stack: these runs differ in more than seed, rate, dropout and rows; train them apart.")
        self.jobs, self.device = list(jobs), torch.device(device)
        c = jobs[0].config
        self.backbone = backbone or backbones.load(c.backbone, c.layers, c.max_tokens, c.temperature)
        self.backbone.model.to(self.device)
        self.left = self.backbone.kind == "decoder"
        configs = [j.config.arm(0).effective() for j in jobs]
        handles = [attach(self.backbone.replica(), x, x.seed, len(x.tasks), instance_dim=self.backbone.d_model) for x in configs]
        generators = [torch.Generator(self.device).manual_seed(x.seed) for x in configs]  # as `Arm` gives each run its own
        rates, balance = [x.dropout for x in configs], torch.tensor([x.balance for x in configs])
        self.state = State(rates, balance.to(self.device), generators, bool(balance.any()), 1 - torch.tensor(rates, device=self.device))
        self.model = self.backbone.replica()
        self.linears: list[StackedLinear] = []
        for same in zip(*(h.adapters for h in handles), strict=True):
            linear = StackedLinear(same, self.state, jobs[0].router, len(c.tasks)).to(self.device)
            parent, _, child = same[0].site.name.rpartition(".")
            setattr(self.model.get_submodule(parent), child, linear)
            self.linears.append(linear)
        self.parameters = handles[0].count()
        named = [(n, getattr(x, n)) for x in self.linears for n in x.names]
        self.rates = torch.tensor([j.config.lr for j in jobs], device=self.device)
        self.base = float(self.rates.max())
        part = self.rates / self.base
        own = {"A": [j.rate_a for j in jobs], "router": [j.rate_router * (j.router != "random") for j in jobs]}
        factors = {n: part * torch.tensor(v, device=self.device) for n, v in own.items()}
        self.factors = [factors.get(n, part).view(-1, *[1] * (p.dim() - 1)) for n, p in named]
        self.even = all(bool((f == 1).all()) for f in self.factors)
        self.trained = [p for _, p in named]
        c = configs[0]
        kind = torch.optim.AdamW if c.optimiser == "adamw" else torch.optim.SGD
        self.optimiser = kind(self.trained, lr=self.base, weight_decay=c.weight_decay, fused=True)
        self.step, self.losses, self.imbalance = 0, [], []

    @property
    def mixtures(self) -> list[Mixture]:
        out = []
        for j in self.jobs:
            own = load_rows(list(j.config.tasks), j.config.seed, j.rows)
            out.append(Mixture(own, list(j.config.tasks.values()), j.config.batch, j.config.seed))
        return out

    def merged(self, rows: Sequence[Sequence[tuple[int, Example]]]) -> Merged:
        """One batch of (task index, row) pairs for every run."""
        return whole(self.backbone, rows, self.device)

    def score(self, m: Merged, bare: bool = False) -> Tensor:
        """Logits [S N, O]; of the backbone alone where it is `bare`."""
        self.state.mask, self.state.task, self.state.instruction, self.state.aux = m.real, m.task, m.instruction, []
        self.state.ids = m.batch.input_ids.view(m.real.shape)
        return self.backbone.score(m.batch, None if bare else self.model)

    def train(self, m: Merged, probing: bool = False) -> None:
        """One optimiser step of every run."""
        self.step += 1
        self.state.training = True
        logits = self.score(m)
        losses = F.cross_entropy(logits, m.batch.answer, reduction="none").view(len(self.jobs), -1).mean(1)
        total = losses.sum() + sum(x.sum() for x in self.state.aux)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.state.training = False
        self.losses.append(losses.detach())
        c = self.jobs[0].config
        self.optimiser.param_groups[0]["lr"] = self.base * min(1.0, self.step / max(c.warmup, 1))
        before = None if self.even and not probing else [p.detach().clone() for p in self.trained]
        self.optimiser.step()
        if not self.even:
            with torch.no_grad():
                for p, old, factor in zip(self.trained, before, self.factors, strict=True):
                    p.copy_(old + (p - old) * factor)
        if probing:
            self._probe(before)

    def _probe(self, before: list[Tensor]) -> None:
        rest, rows = iter(before), []
        for x in self.linears:
            rows.append(x.imbalance({n: next(rest) for n in x.names}))
        self.imbalance.append((self.step, torch.stack(rows).nanmean(0)))

    @torch.inference_mode()
    def answers(self, parts: Sequence[Merged], disturb: str = "", bare: bool = False) -> tuple[list[list[bool]], list[list[float]]]:
        """Of every run, for each row of `parts` in order: whether it was answered right, and the log-probability of the right option.

        disturb: 'tokens' gives each token the gate of another of the run's batch, 'texts' that of the same place in another text, 'mean' the
        layer's mean gate.
        """
        right: list[list[Tensor]] = [[] for _ in self.jobs]
        likely: list[list[Tensor]] = [[] for _ in self.jobs]
        for number, m in enumerate(parts):
            self.state.level = disturb == "mean"
            self.state.shuffle = shuffled(m.real, disturb, number) if disturb in ("tokens", "texts") else None
            logits = self.score(m, bare)
            of_answer = logits.log_softmax(1).gather(1, m.batch.answer[:, None])[:, 0].nan_to_num(nan=-20.0).clamp(min=-20)
            hit = (logits.argmax(1) == m.batch.answer) & ~logits.isnan().any(1)
            S = len(self.jobs)
            for s in range(S):
                right[s].append(hit.view(S, -1)[s][m.asked[s]])
                likely[s].append(of_answer.view(S, -1)[s][m.asked[s]])
        self.state.level, self.state.shuffle = False, None
        return [torch.cat(r).tolist() for r in right], [torch.cat(x).tolist() for x in likely]

    @torch.inference_mode()
    def information(self, parts: Sequence[Merged], number: int) -> list[list[float] | None]:
        """Bits that expert choice has of the word, its place and the task (of `number`), on the tokens of `parts`: [S][3], means over the
        routed linears. From each is subtracted what it is after the choices were shuffled over all tokens, which is bias; None without a router.
        """
        routed = [x for x in self.linears if x.experts > 1]
        if not routed:
            return [None] * len(self.jobs)
        words = torch.cat([m.batch.input_ids.unique() for m in parts]).unique()
        sizes = (len(words), max(m.real.shape[2] for m in parts), number)
        joints = [[torch.zeros(len(routed), len(self.jobs), routed[0].experts, k, device=self.device) for k in sizes] for _ in range(2)]
        for n, m in enumerate(parts):
            for null in (False, True):
                self.state.shuffle = None
                self.score(m)
                place = torch.arange(m.real.shape[2], device=self.device).expand_as(m.real)
                labels = (torch.searchsorted(words, self.state.ids), place, m.task[..., None].expand_as(m.real))
                order = shuffled(m.real, "tokens", n) if null else None
                for i, x in enumerate(routed):
                    gate = x.gate if order is None else x.gate.gather(1, order[..., None].expand_as(x.gate))
                    chosen = (gate > 0).to(self.rates.dtype) * m.real.flatten(1)[..., None]
                    for k, label in enumerate(labels):
                        joints[null][k][i] += torch.einsum("sne,snk->sek", chosen, F.one_hot(label.flatten(1), sizes[k]).to(chosen.dtype))
        bits = [torch.stack([_information(j).mean(0) for j in of], 1) for of in joints]  # [S, 3]
        return (bits[0] - bits[1]).tolist()


def _information(joint: Tensor) -> Tensor:
    """Mutual information in bits of counts [..., E, K]."""
    p = joint / joint.sum((-1, -2), keepdim=True)

    def entropy(q: Tensor) -> Tensor:
        return -torch.special.xlogy(q, q).sum(-1)

    return (entropy(p.sum(-1)) + entropy(p.sum(-2)) - entropy(p.flatten(-2))) / math.log(2)


def shuffled(real: Tensor, by: str, seed: int = 0) -> Tensor:
    """For every token of [S, M, L] the place [S, M L] of the token whose gate it gets; padding keeps its own.

    'tokens': any real token of the run, each used once. 'texts': the token of the same place in the next text of a random round of the run's
    texts; where that text is shorter its places are counted round.
    """
    S, M, L = real.shape
    generator = torch.Generator().manual_seed(seed)
    mask = real.cpu()
    place = torch.arange(M * L).view(1, M, L).expand(S, -1, -1).clone()
    for s in range(S):
        at = mask[s].flatten().nonzero()[:, 0]
        if by == "tokens":
            place[s].view(-1)[at] = at[torch.randperm(len(at), generator=generator)]
            continue
        texts = mask[s].any(1).nonzero()[:, 0]
        texts = texts[torch.randperm(len(texts), generator=generator)]
        for text, other in zip(texts.tolist(), texts.roll(1).tolist(), strict=True):
            own, theirs = mask[s, text].nonzero()[:, 0], mask[s, other].nonzero()[:, 0]
            place[s, text, own] = other * L + theirs[torch.arange(len(own)) % len(theirs)]
    return place.flatten(1).to(real.device)
