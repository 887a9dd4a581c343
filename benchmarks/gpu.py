"""On a CUDA device: layers of LLaMA-7B's shape in bfloat16, one linear, peak memory, and small runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch

from benchmarks import rivals, steps
from benchmarks.arms import FAR, trainer
from benchmarks.linear import candidates as one_linear
from benchmarks.timing import FROZEN, Row, duration, ratio, rows, take_turns
from mosld import backbones
from mosld.config import RunConfig
from mosld.studies.claims.feed import Feed
from mosld.studies.claims.job import Job
from mosld.studies.claims.stack import Stack

BF16, FLOAT32 = "peft LoRA r 8, bfloat16", "peft LoRA r 8, its default: float32"
WIDTH, FEED, HEADS, EXPERTS = 4096, 11008, 32, 8
RUNS = 20  # side by side
PLACE = {"device": "cuda", "dtype": torch.bfloat16}


def measure(seconds: float) -> Iterator[Row]:
    if not torch.cuda.is_available():
        print("gpu: this machine has no CUDA device; nothing is measured.", flush=True)
        return
    torch.manual_seed(0)
    yield from side_by_side(seconds)
    for balance in (0.0, 0.01):
        words = "with balance loss" if balance else "without balance loss"
        times = take_turns(linear(4096, 4096, balance), seconds / 2, settle=torch.cuda.synchronize)
        yield from rows(f"linear, d 4096, 4,096 tokens, {words}", times, lora=BF16)
    times = take_turns({name: graph(once) for name, once in linear(4096, 4096, 0.01).items()}, seconds / 2, settle=torch.cuda.synchronize)
    yield from rows("linear, d 4096, 4,096 tokens, with balance loss, each in a CUDA graph", times, lora=BF16)
    for targets, layers, texts, length in (("q,v", 4, 2, 2048), (",".join(steps.LINEARS), 8, 4, 2048)):
        work = f"step, {layers} layers of LLaMA-7B's shape, {targets.replace(',', ' ')}, {texts * length:,} tokens"
        found = large(targets, layers, texts, length)
        yield from rows(work, take_turns(found, seconds, 8, torch.cuda.synchronize), lora=BF16)
        yield from (Row(f"peak memory: {work}", name, f"{n / 2**30:.2f} GiB") for name, n in peaks(found).items())
        del found
        torch.cuda.empty_cache()


def side_by_side(seconds: float, device: str = "cuda") -> list[Row]:
    """A training step of 20 runs of nano over one frozen pass, beside a step of one run by the Trainer."""
    backbone = backbones.load("nano")
    backbone.model.to(device)
    jobs = [Job(RunConfig(seed=s, arms="dropout=0.1", steps=FAR)) for s in range(RUNS)]
    stack, feed, steps_done = Stack(jobs, backbone, device), Feed(jobs, backbone, device), itertools.count()
    one = trainer(arms="dropout=0.1")
    together = {"one run, by the Trainer": lambda: list(one.advance(1)), f"{RUNS} runs, stacked": lambda: stack.train(feed.batch(next(steps_done)))}
    times = take_turns(together, seconds, 12, torch.cuda.synchronize if device == "cuda" else lambda: None)
    work = f"step of nano, default run, {device}"
    out = [Row(work, name, duration(t)) for name, t in times.items()]
    alone, stacked = times.values()
    return [*out, Row(work, f"{RUNS} runs over one", ratio(stacked, alone))]


def linear(d: int, tokens: int, balance: float) -> dict:
    """One linear: frozen, peft with both settings of autocast_adapter_dtype, MoSLD."""
    return one_linear(d, tokens, lora={BF16: False, FLOAT32: True}, loops=False, balance=balance, **PLACE)


def graph(once: Callable[[], object]) -> Callable[[], object]:
    """The same work recorded once and played again: its launches then cost the processor nothing."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            once()
    torch.cuda.synchronize()
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded, stream=side):
        once()
    return recorded.replay


def large(targets: str, layers: int, texts: int, length: int) -> dict[str, steps.Step]:
    """Steps of replicas of one model: frozen, peft with both settings of autocast_adapter_dtype, MoSLD, one expert."""
    model, loss = steps.llama(WIDTH, layers, texts, length, FEED, HEADS, **PLACE)
    ends = [steps.LINEARS[t] for t in targets.split(",")]
    lora = {BF16: lambda m: rivals.peft_lora(m, ends, cast=False), FLOAT32: lambda m: rivals.peft_lora(m, ends, cast=True)}
    return steps.candidates(model, loss, targets, ends, [EXPERTS], loops=False, lora=lora, equal=False)


def peaks(found: dict[str, steps.Step]) -> dict[str, int]:
    """Bytes at the highest point of a step: weights, what trains with its optimiser's state, activations and gradients."""
    frozen = sum(p.numel() * p.element_size() for p in found[FROZEN].model.parameters())
    out = {}
    for name, step in found.items():
        for other in found.values():
            other.forget()
        own = step.held()
        step()
        torch.cuda.synchronize()
        step.forget()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        out[name] = frozen + own + torch.cuda.max_memory_allocated() - before
    return out
