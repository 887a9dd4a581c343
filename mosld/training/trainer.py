"""The Trainer: steps all arms of a run in lockstep and yields Frames. It knows nothing of any interface.

    trainer = Trainer(RunConfig(tasks="world/mood,world/place", steps=100), out="runs/first")
    for frame in trainer.frames():
        print(frame.step, [arm.loss for arm in frame.arms])

Pause, step, change and stop are calls: `frames()` returns after the step during which `pause()` was called, and calling it again
goes on. Same configuration, same machine: same Frames. With `out`, every Frame is on disk as soon as it is made, and the adapters are
saved whenever the iteration ends, whatever ended it; `Trainer.resume(out)` goes on bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from mosld import backbones, tasks
from mosld.backbones.base import Batch
from mosld.config import ConfigError, RunConfig, to_text
from mosld.registry import METHODS
from mosld.tasks.base import Example, Task
from mosld.tasks.mixture import Mixture
from mosld.training import checkpoint
from mosld.training.arms import ALL, Arm, Share, share_prefix
from mosld.training.frame import ArmFrame, Frame
from mosld.training.instances import give_instances
from mosld.training.probe import Reader, before_step, measure
from mosld.training.runlog import LinearInfo, RunLog
from mosld.training.sentence import pick

SCORE_ROWS = 64  # questions scored in one forward pass
HOT = ("lr", "dropout", "balance")  # what may change during a run
Progress = Callable[[str, float | None], None]


class Trainer:
    """All arms of one run.

    Args:
        config: the run. out: its directory, made on the first Frame. progress: told of loading, as (sentence, fraction or None).

    Raises ConfigError for a task, backbone or adapter that cannot be had.
    """

    def __init__(self, config: RunConfig, out: str | Path | None = None, progress: Progress | None = None):
        self.config, self.out = config, Path(out) if out is not None else None
        if self.out is not None and (self.out / "run.json").exists():
            raise ConfigError(f"out: '{self.out}' already holds a run; give another directory, or resume that run.")
        self.accelerator = Accelerator()
        self._build(progress)
        self.accelerator.wait_for_everyone()
        self.step, self.seconds, self._pausing, self._ended = 0, 0.0, False, False
        self._changes: list[str] = []

    def _build(self, progress: Progress | None) -> None:
        config = self.config
        tasks.check([*config.tasks, *config.held_out])
        names = [*config.tasks, *config.held_out]
        self.tasks: list[Task] = [tasks.load(name, config.seed, progress, config.instruction) for name in names]
        self.backbone = backbones.load(config.backbone, config.layers, config.max_tokens, config.temperature, progress)
        self.backbone.model.to(self.accelerator.device)
        mixed = self.tasks[: len(config.tasks)]
        self.mixture = Mixture(mixed, list(config.tasks.values()), config.batch, config.seed)
        labels = config.arm_names()
        self.arms = [Arm(label, config.arm(i), self.backbone, len(mixed)) for i, label in enumerate(labels)]
        _check_instructions(self.arms, self.tasks)
        share_prefix(self.arms)
        give_instances(self.arms, self.backbone, mixed, self.accelerator.device)
        self.log = RunLog(
            config=config,
            arms=labels,
            tasks=list(config.tasks),
            held_out=list(config.held_out),
            chance={t.name: t.chance for t in self.tasks},
            majority={t.name: t.majority for t in self.tasks},
            linears=[[_info(a.site) for a in arm.handle.adapters] for arm in self.arms],
            parameters=[arm.handle.count() for arm in self.arms],
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "accelerate")},
                "threads": str(torch.get_num_threads()),  # sums of floats depend on how many add them up
            },
            data={**{t.name: t.digest() for t in self.tasks}, "backbone": self.backbone.source},
        )

    # the loop

    def frames(self) -> Iterator[Frame]:
        """Frames until the run ends or `pause` is called; the first Frame, step 0, is scored before any training."""
        return self.advance(self.config.steps)

    def advance(self, steps: int) -> Iterator[Frame]:
        """Frames of at most `steps` further optimiser steps (and of step 0, if it was not made yet)."""
        self._pausing = False
        return self._run(min(self.step + steps, self.config.steps))

    def _run(self, last: int) -> Iterator[Frame]:
        try:
            if not self.log.frames:
                yield self._emit(self._start())
            while self.step < last and not self._ended and not self._pausing:
                yield self._emit(self._train())
        finally:
            if self.out is not None and self.log.frames:
                self.save(self.out)

    def pause(self) -> None:
        """Make `frames` return after the step it is in. Safe to call from another thread."""
        self._pausing = True

    def stop(self) -> Frame | None:
        """End the run here. Returns the last Frame, or None if the run had ended already."""
        if self._ended or not self.log.frames:
            return None
        self._pausing = self._ended = True
        arms = [ArmFrame(None, 0.0, arm.rate(self.step), arm.handle.dropout) for arm in self.arms]
        frame = self._emit(Frame(self.step, arms, "stopped", f"Stopped at step {self.step}.", self.seconds))
        if self.out is not None:
            self.save(self.out)
        return frame

    @property
    def done(self) -> bool:
        """Whether the run has ended: all steps made, stopped or diverged."""
        return self._ended

    def change(self, arm: int | None = None, **values: float) -> None:
        """Change learning rate, dropout or balance from the next step on, in one arm or in all; what a method fixes stays. Raises ConfigError."""
        for name, value in values.items():
            if name not in HOT:
                raise ConfigError(f"{name}: it cannot change during a run; what can is {', '.join(HOT)}.")
            checked = getattr(self.config.replace(**{name: value}), name)
            meant = self.arms if arm is None else [self.arms[arm]]
            free = [a for a in meant if name not in METHODS[a.config.method].fixes]
            if not free:
                label, fixed = meant[0].config.label, METHODS[meant[0].config.method].fixes[name]
                raise ConfigError(f"{name}: {label} fixes it at {to_text(name, fixed)}; it cannot change during a run.")
            for a in free:
                if getattr(a if name == "lr" else a.handle, name) == checked:
                    continue
                target = a if name == "lr" else a.handle
                self._changes.append(f"{a.name}: {name} {to_text(name, getattr(target, name))} to {to_text(name, checked)}.")
                setattr(target, name, checked)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and speaks; the only one unless started by `accelerate launch`."""
        return self.accelerator.is_main_process

    def _emit(self, frame: Frame) -> Frame:
        if self.out is not None and self.main:
            self.log.write(self.out, frame)
        self.log.append(frame)
        return frame

    def _start(self) -> Frame:
        began = time.perf_counter()
        accuracy = self._score(None, "validation")
        arms = [ArmFrame(None, 0.0, 0.0, arm.handle.dropout, accuracy) for arm in self.arms]
        self.seconds += time.perf_counter() - began
        return Frame(0, arms, "start", "Before training: every arm equals the frozen backbone.", self.seconds)

    def _train(self) -> Frame:
        began = time.perf_counter()
        self.step += 1
        rows = self.mixture.batch(self.step - 1)
        processes, mine = self.accelerator.num_processes, self.accelerator.process_index
        own = rows[mine::processes]
        some = own or rows[:1]  # a process left without questions goes along with one that weighs nothing
        batch = self.place(self.backbone.batch([e for _, e in some], [t for t, _ in some]))
        share = ALL if processes == 1 else self._share(len(own) / len(rows), batch)
        final = self.step == self.config.steps
        scoring = final or self.step % self.config.eval_every == 0
        probing = scoring or self.step % self.config.probe_every == 0 or self.step == 1
        sentence = pick(batch, self.backbone.tokenizer, self.step) if probing else None
        arms, lost = [], []
        for arm in self.arms:
            before = before_step(arm.handle) if probing else None
            loss, extra = arm.backward(batch, probing, self.step, share)
            if processes > 1:
                loss, extra = self._sum(arm, loss, extra)
            value = float(loss)
            if not math.isfinite(value):
                lost.append(arm.name)
                arms.append(ArmFrame(None, 0.0, arm.rate(self.step), arm.handle.dropout))
                continue
            rate = arm.update(self.step)
            probes = measure(arm.handle, before, batch.task, batch.attention_mask, self.mixture_size, sentence) if probing else None
            arms.append(ArmFrame(value, extra, rate, arm.handle.dropout, None, probes))
        event, note = ("change", " ".join(self._changes)) if self._changes else ("", "")
        self._changes = []
        if lost:
            self._ended, event = True, "diverged"
            lost_note = f"The loss of '{lost[0]}' is no longer finite at step {self.step}: the run ends here; try a smaller learning rate."
            note = " ".join(filter(None, [note, lost_note]))
        elif scoring:
            part = "test" if final else "validation"
            arms = [self._read(arm, frame, part) for arm, frame in zip(self.arms, arms, strict=True)]
            if final:
                self.log.untrained = self._score(None, part)
                self._ended, event = True, "end"
                note = " ".join(filter(None, [note, f"All {self.step} steps are done; the last accuracies are on test rows."]))
        self.seconds += time.perf_counter() - began
        return Frame(self.step, arms, event, note, self.seconds, sentence and sentence.sentence)

    @property
    def mixture_size(self) -> int:
        return len(self.config.tasks)

    def _share(self, questions: float, batch: Batch) -> Share:
        """This process's share of the step's questions and of the tokens that all processes read."""
        tokens = batch.attention_mask.sum().float() * (questions > 0)
        return Share(questions, float(tokens / self.accelerator.reduce(tokens, "sum")))

    def _sum(self, arm: Arm, loss: torch.Tensor, extra: float) -> tuple[torch.Tensor, float]:
        """Gradients, loss and extra losses of the whole batch, of which every process had its share."""
        gradients = [p.grad for p in arm.handle.parameters() if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([loss.view(1), loss.new_tensor([extra]), *(g.reshape(-1) for g in gradients)]), "sum")
        offset = 2
        for g in gradients:
            g.copy_(flat[offset : offset + g.numel()].view_as(g))
            offset += g.numel()
        return flat[0], float(flat[1])

    def _score(self, arm: Arm | None, part: str, reader: Reader | None = None) -> dict[str, float]:
        """Accuracy of one arm, or of the bare backbone, on each task's validation or test rows."""
        return {t.name: self.accuracy(arm, i, getattr(t, part)[: self.config.eval_rows], reader) for i, t in enumerate(self.tasks)}

    def _read(self, arm: Arm, frame: ArmFrame, part: str) -> ArmFrame:
        """The arm's frame with its accuracies, and with what its routers read in the rows that were scored."""
        with Reader(arm.handle, arm.starts, self.mixture_size) as reader:
            accuracy = self._score(arm, part, reader)
        found = reader.read(self.backbone.tokenizer)
        return dataclasses.replace(frame, accuracy=accuracy, linears=[dataclasses.replace(p, **f) for p, f in zip(frame.linears, found, strict=True)])

    @torch.inference_mode()
    def accuracy(self, arm: Arm | None, index: int, rows: Sequence[Example], reader: Reader | None = None) -> float:
        """Share of rows answered right by one arm, or by the bare backbone. `index` is the rows' task among `tasks`; a held-out task is
        put to task-routed methods as the last one of the mixture. A `reader` takes in the rows of the mixture's tasks."""
        right = 0
        for start in range(0, len(rows), SCORE_ROWS):
            chunk = rows[start : start + SCORE_ROWS]
            batch = self.place(self.backbone.batch(chunk, [min(index, self.mixture_size - 1)] * len(chunk)))
            logits = self.backbone.score(batch) if arm is None else arm.score(batch)
            right += int((logits.argmax(1) == batch.answer).sum())
            if reader is not None and index < self.mixture_size:
                reader.add(batch)
        return right / len(rows)

    def place(self, batch: Batch) -> Batch:
        """A batch on the device of the run."""
        return batch.to(self.accelerator.device)

    # files

    def save(self, folder: str | Path) -> None:
        """Write header, frames, the adapters of every arm and what `resume` needs."""
        if self.main:
            self.log.save(folder)
            checkpoint.save(self, Path(folder))

    @classmethod
    def resume(cls, folder: str | Path, progress: Progress | None = None) -> Trainer:
        """A trainer that goes on where `folder`'s last checkpoint was made, bit for bit. Raises ConfigError."""
        log = RunLog.load(folder)
        trainer = cls(log.config, progress=progress)
        changed = [name for name, digest in log.data.items() if trainer.log.data.get(name) != digest]
        if changed:
            raise ConfigError(f"resume: the rows or weights of '{changed[0]}' are not those the run was started with.")
        checkpoint.load(trainer, Path(folder))
        trainer.log.frames = [f for f in log.frames if f.step <= trainer.step and f.event != "stopped"]
        trainer.log.untrained = log.untrained
        trainer.out = Path(folder)
        trainer._ended = trainer.step >= trainer.config.steps
        return trainer


def _check_instructions(arms: list[Arm], tasks: list[Task]) -> None:
    """Raises ConfigError where a router shall read instructions and a task has none."""
    reading = any(arm.config.router == "instruction" and max(a.site.experts for a in arm.handle.adapters) > 1 for arm in arms)
    bare = next((t.name for t in tasks if not all(e.instruction for e in t.train[:1])), None)
    if reading and bare:
        raise ConfigError(
            f"router: 'instruction' reads the instruction before a question, and {bare} has none; give --instruction, or take router text."
        )


def _info(site) -> LinearInfo:
    return LinearInfo(site.name, site.layer, site.target, site.experts)
