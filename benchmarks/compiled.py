"""What `torch.compile` gives: whole training steps of a small LLaMA with adapters, eager and compiled, adapters inside the graph and left out of it.

The optimiser's step is not compiled. Compiling itself takes some minutes on a CPU and is not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks import steps
from benchmarks.timing import FROZEN, LORA, Row, ratio, rows, take_turns
from mosld.adapters.adapter import Adapter

MIXTURE = "MoSLD, 4 experts"
TARGETS = {"q and v": "q,v", "all seven linears": ",".join(steps.LINEARS)}


def compiled(step: steps.Step, loss: Callable[[nn.Module], Tensor], inside: bool = True) -> steps.Step:
    """The step of a replica whose forward and backward passes are compiled. `inside`: the adapters too; else each is a break in the graph."""
    model = steps.replica(step.model)
    handle = None if step.handle is None else type(step.handle).of(model)
    if not inside:
        for module in model.modules():
            if isinstance(module, Adapter):
                module.forward = torch.compiler.disable(module.forward)
    trained = [] if handle is None else handle.parameters()
    return steps.Step(torch.compile(model), loss, trained, handle)


def measure(seconds: float) -> Iterator[Row]:
    for words, targets in TARGETS.items():
        torch._dynamo.reset()
        model, loss = steps.llama(256, 4, 8, 64)
        ends = [steps.LINEARS[t] for t in targets.split(",")]
        found = steps.candidates(model, loss, targets, ends, [4], loops=False, equal=False)
        found = {name: found[name] for name in (FROZEN, LORA, MIXTURE)}
        found |= {f"{name}, compiled": compiled(found[name], loss) for name in (FROZEN, MIXTURE)}
        found[f"{MIXTURE}, compiled but for the adapters"] = compiled(found[MIXTURE], loss, inside=False)
        work = f"step of a LLaMA, width 256, 4 layers, {words}, 8 x 64 tokens"
        times = take_turns(found, seconds, 6)
        yield from rows(work, times)
        for name in (f"{MIXTURE}, compiled but for the adapters", MIXTURE, f"{FROZEN}, compiled"):
            yield Row(work, f"{MIXTURE}, compiled, over {name}", ratio(times[f"{MIXTURE}, compiled"], times[name]))
