"""Nano beside its teacher: accuracy before and after training on every task, and the time of a training step. README's backbone table.

    python -m benchmarks backbones zero-shot   accuracy of the untouched backbones on test rows
    python -m benchmarks backbones lora        accuracy on test rows after single-task LoRA, 200 steps
    python -m benchmarks backbones speed       a training step with LoRA on all q and v, the backbones in turn
    python -m benchmarks backbones table       what the first two have found, against chance

Results are kept in --out (default runs/backbones.jsonl), one line each; what is there already is not measured again. So that MiniLM is
trained on thirty tasks in an hour and not in ten, texts of like length are read together and in bfloat16, for all backbones alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mosld import backbones, tasks
from mosld.config import ConfigError, RunConfig

if TYPE_CHECKING:  # torch takes seconds to import: not before the words of the command are read
    import torch

    from mosld.backbones.base import Batch, Encoder

BACKBONES = {"nano": ("nano", 0), "MiniLM, 6 layers": ("minilm", 0), "MiniLM, 3 layers": ("minilm", 3)}
LORA = {"method": "lora", "rank": 8, "alpha": 16.0, "arms": ({},), "steps": 200, "batch": 8, "max_tokens": 32}
PARTS = 4  # groups of like length that a batch is read in
ROWS = {"zero-shot": 300, "lora": 200}  # test rows of a task, at most
TEXTS, TOKENS = 32, 24  # of a timed step
TIMES = {"zero-shot": "minutes", "lora": "some hours for all tasks", "speed": "about a minute"}


def reachable(begins: str) -> dict[str, tasks.Task]:
    """Every task of the world and the real suite that can be loaded here."""
    out = {}
    for info in (i for i in tasks.catalogue() if i.name.startswith(begins)):
        try:
            out[info.name] = tasks.load(info.name)
        except ConfigError as error:
            print(error)
    return out


def zero_shot(backbone: Encoder, task: tasks.Task) -> dict[str, float]:
    import torch

    rows, right = task.test[: ROWS["zero-shot"]], 0
    for first in range(0, len(rows), 50):
        part = rows[first : first + 50]
        batch = backbone.batch(part, [0] * len(part))
        with torch.inference_mode():
            right += int((backbone.score(batch).argmax(1) == batch.answer).sum())
    return {"accuracy": right / len(rows), "chance": sum(1 / len(e.options) for e in rows) / len(rows)}


def logits(backbone: Encoder, batch: Batch, model: torch.nn.Module) -> torch.Tensor:
    """What `backbone.score` gives, with little padding. LoRA has no router, so nothing else depends on how texts are grouped."""
    import torch
    from torch.nn import functional as F

    from mosld.backbones.student import embed

    with torch.autocast("cpu", torch.bfloat16):
        pooled = embed(model, batch.input_ids, batch.attention_mask.sum(1), min(PARTS, len(batch.task)))
    unit = F.normalize(pooled, dim=-1)
    found = torch.einsum("nd,nod->no", unit[batch.question_row], unit[batch.option_row.clamp(min=0)]) / backbone.temperature
    return found.masked_fill(batch.option_row < 0, -torch.inf)


def lora(name: str, layers: int, task: tasks.Task, lr: float) -> dict[str, float]:
    """One arm of the lab, trained by the lab's schedule on the lab's batches."""
    import torch
    from torch.nn import functional as F

    from mosld.tasks.mixture import Mixture
    from mosld.training.arms import Arm

    config = RunConfig(tasks=task.name, backbone=name, layers=layers, lr=lr, **LORA)
    backbone = backbones.load(name, layers, config.max_tokens)
    arm, mixture = Arm("LoRA", config, backbone, 1), Mixture([task], [1.0], config.batch, config.seed)
    arm.handle.train(True)
    for step in range(1, config.steps + 1):
        batch = backbone.batch([e for _, e in mixture.batch(step - 1)], [0] * config.batch)
        arm.optimiser.zero_grad()
        F.cross_entropy(logits(backbone, batch, arm.model), batch.answer).backward()
        arm.update(step)
    arm.handle.train(False)
    rows = task.test[: ROWS["lora"]]
    with torch.inference_mode():
        batch = backbone.batch(rows, [0] * len(rows))
        right = logits(backbone, batch, arm.model).argmax(1) == batch.answer
    return {"accuracy": right.float().mean().item(), "chance": sum(1 / len(e.options) for e in rows) / len(rows), "lr": lr}


def speed(steps: int = 20) -> None:
    """Median time of forward, backward and update with LoRA of rank 8 on all q and v; the backbones take turns."""
    import torch

    from mosld.training.arms import Arm

    torch.manual_seed(0)
    ids = torch.randint(1000, 20_000, (TEXTS, TOKENS))
    mask = torch.ones_like(ids)
    arms, times = {}, {}
    for label, (name, layers) in BACKBONES.items():
        config = RunConfig(backbone=name, layers=layers, method="lora", arms=({},))
        arms[label], times[label] = Arm(label, config, backbones.load(name, layers), 1), []
    for n in range(steps + 3):
        for label, arm in arms.items():
            began = time.perf_counter()
            arm.optimiser.zero_grad()
            arm.model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1).square().sum().backward()
            arm.optimiser.step()
            if n >= 3:
                times[label].append(time.perf_counter() - began)
    median = {label: statistics.median(values) for label, values in times.items()}
    for label, value in median.items():
        print(f"{label:18s} {1000 * value:7.1f} ms a step, {value / median['nano']:.1f} times nano's")


def table(found: dict[tuple, dict]) -> None:
    """Accuracy of every task and the mean margin over chance."""
    for what in ("zero-shot", "lora"):
        rows = {task for kind, _, task in found if kind == what}
        full = [t for t in rows if all((what, label, t) in found for label in BACKBONES)]
        print(f"\n{what}: {len(full)} tasks\n\n| task | chance | {' | '.join(BACKBONES)} |\n|---|---|{'---|' * len(BACKBONES)}")
        for task in sorted(full):
            cells = [f"{found[what, label, task]['accuracy']:.2f}" for label in BACKBONES]
            print(f"| {task} | {found[what, 'nano', task]['chance']:.2f} | {' | '.join(cells)} |")
        for suite in ("world", "real", ""):
            some = [t for t in full if t.startswith(suite)]
            if some:
                margin = [statistics.mean(found[what, x, t]["accuracy"] - found[what, x, t]["chance"] for t in some) for x in BACKBONES]
                print(f"| margin, {suite or 'all'} | | {' | '.join(f'{m:.3f} ({m / margin[1]:.0%})' for m in margin)} |")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks backbones", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("zero-shot", "lora", "speed", "table"))
    parser.add_argument("--out", type=Path, default=Path("runs/backbones.jsonl"))
    parser.add_argument("--only", nargs="*", default=list(BACKBONES), help="names of backbones")
    parser.add_argument("--tasks", default="", help="beginning of the tasks' names, such as real/")
    parser.add_argument("--lr", type=float, default=RunConfig().lr, help="learning rate of lora")
    given = parser.parse_args(arguments)
    if given.what != "table":
        print(f"{given.what}: of {', '.join(given.only)}; {TIMES[given.what]}", flush=True)
    if given.what == "speed":
        return speed()
    lines = given.out.read_text().splitlines() if given.out.is_file() else []
    found = {(r["what"], r["backbone"], r["task"]): r for r in map(json.loads, lines)}
    if given.what == "table":
        return table(found)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    models = {label: backbones.load(*BACKBONES[label]) for label in given.only} if given.what == "zero-shot" else {}
    for name, task in reachable(given.tasks).items():
        for label in given.only:
            if (given.what, label, name) not in found:
                result = zero_shot(models[label], task) if models else lora(*BACKBONES[label], task, given.lr)
                line = json.dumps({"what": given.what, "backbone": label, "task": name, **result})
                print(line, flush=True)
                with open(given.out, "a") as file:
                    file.write(line + "\n")
