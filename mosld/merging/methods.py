"""Every merging method by name, on a bench: `run(name, bench, config)` gives a `Merge`.

The mathematics is in the method's own file; here knobs, seeds and batches are put in, and what a view needs is written down as plain rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mosld.adapters import Handle
from mosld.merging import adamerging, channel, concrete, experts, mtllmf, sparse, spectral, task_arithmetic, ties
from mosld.merging.bench import Bench
from mosld.merging.config import MERGES, MergeConfig
from mosld.merging.vectors import TaskVector, entries, size

Progress = Callable[[str, float | None], None]
RECORDS = 50  # records of coefficients, densities and losses over a run
SEEDS = {"mask": 1, "channel": 2}  # each kind of noise has its own draw


@dataclass
class Merge:
    """A merged model and how it came about. The rows are dicts of plain numbers and texts, ready for a table or a chart."""

    method: str
    updates: TaskVector
    learned: int = 0  # numbers that merging itself learned: coefficients, mask logits, realigned weights
    seconds: float = 0.0
    sees: str = "-"  # what the method looked at besides the task vectors; belongs beside every figure of its accuracy
    coefficients: list[dict] = field(default_factory=list)  # step, linear, layer, task, coefficient; linear is '' where one holds for all
    densities: list[dict] = field(default_factory=list)  # step, linear, layer, density: the mean probability that an entry is kept
    losses: list[dict] = field(default_factory=list)  # step, phase ('mask', 'coefficients', 'realign', 'routers'), loss in nats
    jam: list[dict] = field(default_factory=list)  # task, power, jam: what each user sends with and is jammed with

    mixture: Handle | None = None  # instead of `updates`, where the result is a mixture and no single matrix

    def accuracy(self, bench: Bench, part: str = "test", rows: int = 0) -> dict[str, float]:
        """Share of rows answered right, for every task and held-out task of the bench."""
        if self.mixture is not None:
            return bench.accuracy_of(lambda batch: experts.score(self.mixture, bench.backbone, batch), part, rows)
        return bench.accuracy(self.updates, part, rows)

    @property
    def stored(self) -> int:
        """Numbers to keep beside the backbone: factors where they are fewer than the matrix. None are needed once added to its weights."""
        if self.mixture is not None:
            return self.mixture.count()
        return sum(min(size(u), entries(u)) for u in self.updates.values())


# Methods that look at the task vectors alone: (vectors, config, seed) -> merge.
CLOSED: dict[str, Callable[[list[TaskVector], MergeConfig, int], TaskVector]] = {
    "task-arithmetic": lambda v, c, seed: task_arithmetic.merge(v, [c.lam] * len(v)),
    "ties": lambda v, c, seed: ties.merge(v, c.ties_keep, c.ties_of, c.ties_lam),
    "magnitude": lambda v, c, seed: sparse.total(v[0], sparse.magnitude(v, c.density), c.lam),
    "dare": lambda v, c, seed: sparse.total(v[0], sparse.dare(v, c.density, seed), c.lam),
    "dare-ties": lambda v, c, seed: sparse.elected(v[0], sparse.dare(v, c.density, seed)),
    "della": lambda v, c, seed: sparse.elected(v[0], sparse.della(v, c.density, c.della_spread, seed)),
    "tsv": lambda v, c, seed: spectral.tsv(v, c.spectral_lam),
    "iso": lambda v, c, seed: spectral.iso(v, c.spectral_lam),
    "knots": lambda v, c, seed: spectral.knots(v, c.ties_keep, c.ties_of, c.ties_lam),
}


def _experts(name: str, bench: Bench, config: MergeConfig, say: Progress) -> Merge:
    merge = Merge(name, {})
    merge.mixture = experts.assemble(bench.backbone, bench.vectors, bench.targets, config.expert_top_k, bench.seed)
    steps = config.expert_steps

    def watch(step: int, loss: float) -> None:
        say(f"{MERGES[name].label}: step {step}/{steps}, loss {loss:.3f}", step / steps)
        merge.losses.append({"step": step, "phase": "routers", "loss": loss})

    batches = bench.stream("labelled", config.merge_batch)
    merge.learned = experts.train_routers(merge.mixture, bench.backbone, batches, len(bench.vectors), steps, config.expert_lr, watch)
    return merge


def run(name: str, bench: Bench, config: MergeConfig, progress: Progress | None = None) -> Merge:
    """Merge by one method of MERGES. Same bench, same knobs, same machine: same merge. Progress hears (sentence, fraction)."""
    began = time.perf_counter()
    say = progress or (lambda sentence, fraction: None)
    bench = bench.weighed(config.weights)
    closed = CLOSED.get(name)
    if closed is not None:
        merge = Merge(name, closed(bench.vectors, config, bench.seed))
    elif name == "experts":
        merge = _experts(name, bench, config, say)
    elif name.startswith("adamerging"):
        merge = _adamerging(name, bench, config, say)
    elif name.startswith("concrete"):
        merge = _concrete(name, bench, config, say)
    else:
        merge = _mtllmf(name, bench, config, say)
    if config.svd_rank:
        merge.updates = {linear: spectral.truncate(u, config.svd_rank) for linear, u in merge.updates.items()}
    merge.seconds, merge.sees = time.perf_counter() - began, config.looks_at(name)
    return merge


def _adamerging(name: str, bench: Bench, config: MergeConfig, say: Progress) -> Merge:
    vectors = ties.agreeing(bench.vectors, config.ties_keep) if name.endswith("++") else bench.vectors
    merge = Merge(name, {})
    lams = _coefficients(merge, bench, vectors, config, "layer" in name, say)
    merge.updates, merge.learned = adamerging.merge(vectors, lams), lams.numel()
    return merge


def _coefficients(merge: Merge, bench: Bench, vectors: list[TaskVector], config: MergeConfig, layer_wise: bool, say: Progress) -> Tensor:
    """AdaMerging's coefficients, with their way recorded in `merge`."""
    steps, rate = config.ada_steps, max(1, config.ada_steps // RECORDS)

    def record(step: int, lams: Tensor) -> None:
        linears = list(bench.model.linears) if layer_wise else [""]
        for linear, row in zip(linears, lams.tolist(), strict=True):
            layer = bench.model.layer(linear) if linear else None
            merge.coefficients += [
                {"step": step, "linear": linear, "layer": layer, "task": t, "coefficient": c} for t, c in zip(bench.names, row, strict=True)
            ]

    def watch(step: int, lams: Tensor, loss: float) -> None:
        say(f"{MERGES[merge.method].label}: step {step}/{steps}, entropy {loss:.3f}", step / steps)
        if step % rate == 0 or step == steps:
            merge.losses.append({"step": step, "phase": "coefficients", "loss": loss})
            record(step, lams)

    record(0, torch.full((len(bench.model.linears) if layer_wise else 1, len(vectors)), config.lam))
    batches = bench.stream(config.unlabelled, config.merge_batch)
    return adamerging.learn(bench.model, vectors, batches, layer_wise, config.lam, steps, config.ada_lr, watch)


def _concrete(name: str, bench: Bench, config: MergeConfig, say: Progress) -> Merge:
    merge, generator = Merge(name, {}), torch.Generator().manual_seed(bench.seed * 100_003 + SEEDS["mask"])
    steps, rate = config.concrete_steps, max(1, config.concrete_steps // RECORDS)

    def watch(step: int, logits: dict[str, Tensor], loss: float) -> None:
        say(f"{MERGES[name].label}: mask, step {step}/{steps}, entropy {loss:.3f}", step / steps)
        if step == 1 or step % rate == 0 or step == steps:
            merge.losses.append({"step": step, "phase": "mask", "loss": loss})
            merge.densities += [
                {"step": step, "linear": linear, "layer": bench.model.layer(linear), "density": d} for linear, d in concrete.density(logits).items()
            ]

    batches = bench.stream(config.unlabelled, config.merge_batch)
    inner = config.concrete_inner if name == "concrete-adamerging" else None
    logits = concrete.learn_mask(
        bench.model,
        bench.vectors,
        batches,
        generator,
        config.lam,
        inner,
        steps,
        config.concrete_lr,
        config.concrete_temperature,
        watch,
    )
    mask = concrete.freeze(logits, generator, config.concrete_temperature)
    merge.learned = sum(x.numel() for x in logits.values())
    if name == "concrete-adamerging":
        vectors = concrete.masked_vectors(bench.vectors, mask)
        lams = _coefficients(merge, bench, vectors, config, True, say)
        merge.updates, merge.learned = adamerging.merge(vectors, lams), merge.learned + lams.numel()
    else:
        lams = torch.full((1, len(bench.vectors)), config.lam)
        merge.updates = concrete.times(adamerging.merged(bench.vectors, lams), mask)
    return merge


def _mtllmf(name: str, bench: Bench, config: MergeConfig, say: Progress) -> Merge:
    """With '-defended' the realignment follows; 'control' realigns the bare backbone, to show what the labelled steps do without a merge."""
    if name == "mtllmf-control":
        merge = Merge(name, {linear: torch.zeros_like(m.weight) for linear, m in bench.model.linears.items()})
    else:
        powers = [config.powers[i % len(config.powers)] for i in range(len(bench.vectors))]
        jam = channel.jam(name.split("-")[1], powers, config.noise, config.jammer)
        generator = torch.Generator().manual_seed(bench.seed * 100_003 + SEEDS["channel"])
        updates = mtllmf.received(bench.vectors, jam, powers, config.noise, [config.lam] * len(powers), generator)
        merge = Merge(name, updates, jam=[{"task": t, "power": p, "jam": j} for t, p, j in zip(bench.names, powers, jam, strict=True)])
    if MERGES[name].sees == "answers":
        steps = config.realign_steps

        def watch(step: int, loss: float) -> None:
            say(f"{MERGES[name].label}: step {step}/{steps}, loss {loss:.3f}", step / steps)
            merge.losses.append({"step": step, "phase": "realign", "loss": loss})

        batches = bench.stream("labelled", config.merge_batch)
        merge.updates = mtllmf.realign(bench.model, merge.updates, batches, len(bench.vectors), steps, config.realign_lr, watch)
        merge.learned = bench.model.entries
    return merge
