"""A training step: adapters over the frozen backbone's own forward and backward, probing, and what the pace of two arms is.

    python benchmarks/step.py [backbone]

32 texts of 24 tokens; MoSLD on all q and v (E 4, r 8, top-2, dropout .1). The candidates take turns in one process; medians and ratios.
The frozen backbone's own backward goes to the output of its embeddings, as it must wherever an adapter sits in the lowest layer.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from mosld import backbones
from mosld.backbones.base import Batch
from mosld.config import RunConfig
from mosld.training.arms import Arm, share_prefix
from mosld.training.probe import before_step, measure

TEXTS, TOKENS, QUESTIONS = 32, 24, 16


def make_batch(vocabulary: int) -> Batch:
    """Random word pieces: 16 questions with one of 16 texts each as options."""
    ids = torch.randint(1000, vocabulary, (TEXTS, TOKENS))
    options = torch.stack([torch.arange(QUESTIONS, TEXTS), torch.arange(QUESTIONS, TEXTS).roll(1)], 1)
    return Batch(ids, torch.ones_like(ids), torch.arange(QUESTIONS), options, torch.zeros(QUESTIONS, dtype=torch.long), torch.arange(TEXTS) % 3)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else RunConfig().backbone
    torch.manual_seed(0)
    backbone = backbones.load(name)
    batch = make_batch(backbone.model.config.vocab_size)
    config = RunConfig(backbone=name)
    arms = [Arm(label, config.arm(i), backbone, 3) for i, label in enumerate(config.arm_names())]
    share_prefix(arms)
    embeddings = backbone.replica()
    embeddings.embeddings.register_forward_hook(lambda _, __, out: out.requires_grad_())

    def frozen():
        loss = torch.nn.functional.cross_entropy(backbone.score(batch, embeddings), batch.answer)
        loss.backward()

    def step(arm: Arm, probing: bool = False):
        before = before_step(arm.handle) if probing else None
        arm.backward(batch, probing, 100)
        arm.update(100)
        if probing:
            measure(arm.handle, before, batch.task, batch.attention_mask, 3)

    def pair():
        fresh = Batch(**{**vars(batch), "input_ids": batch.input_ids.clone()})  # a new batch for the shared prefix
        for arm in arms:
            arm.backward(fresh, False, 100)
            arm.update(100)

    candidates = {"frozen backbone": frozen, "one arm": lambda: step(arms[1]), "one arm, probed": lambda: step(arms[1], True), "two arms": pair}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + 20
    while time.perf_counter() < end or len(times["two arms"]) < 6:
        for label, run in candidates.items():
            start = time.perf_counter()
            run()
            times[label].append(time.perf_counter() - start)
    t = {label: statistics.median(values[2:]) for label, values in times.items()}
    rate = config.probe_every
    print(f"{name}: {backbone.n_layers} layers of width {backbone.d_model}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for label, value in t.items():
        print(f"  {label:<16} {value * 1e3:8.1f} ms")
    print(f"  one arm over the frozen backbone: {t['one arm'] / t['frozen backbone']:.3f}")
    print(f"  cost of probing every {rate} steps, over training: {(t['one arm, probed'] - t['one arm']) / rate / t['one arm']:.3f}")
    print(f"  paired steps a second: {1 / t['two arms']:.1f}")


if __name__ == "__main__":
    main()
