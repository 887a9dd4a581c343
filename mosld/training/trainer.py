"""The Trainer: steps all arms of a run in lockstep and yields Frames. It knows nothing of any interface.

    trainer = Trainer(RunConfig(tasks="world/mood,world/place", steps=100), out="runs/first")
    for frame in trainer.frames():
        print(frame.step, [arm.loss for arm in frame.arms])

Pause, step, change and stop are calls: `frames()` returns after the step during which `pause()` was called, and calling it again
goes on. Same configuration, same machine: same Frames. With `out`, every Frame is on disk as soon as it is made, and a checkpoint is made
with each scoring, at the latest after a minute, and when the iteration ends, unless that was in the middle of a step; `Trainer.resume(out)` goes
on from the last one bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from joblib import cpu_count

from mosld import backbones, tasks
from mosld.backbones.base import Batch
from mosld.config import ConfigError, RunConfig, to_text
from mosld.files import trial, unwritable
from mosld.registry import METHODS
from mosld.tasks.base import Example, Task
from mosld.tasks.mixture import Mixture
from mosld.training import checkpoint
from mosld.training.arms import ALL, Arm, Share, share_prefix, side_by_side
from mosld.training.frame import ArmFrame, Frame
from mosld.training.instances import give_instances
from mosld.training.probe import Reader, before_step, measure
from mosld.training.runlog import HEADER, LinearInfo, Record, RunLog, cut
from mosld.training.sentence import pick

SCORE_ROWS = 64  # questions scored in one forward pass
KEPT_SECONDS = 60.0  # at most so long between two checkpoints, so that a killed run loses no more
HOT = ("lr", "dropout", "balance")  # what may change during a run
Progress = Callable[[str, float | None], None]


class Trainer:
    """All arms of one run.

    Args:
        config: the run. out: its directory, made on the first Frame. progress: told of loading, as (sentence, fraction or None).
        clock: seconds, by which checkpoints are made.

    Raises ConfigError for a task, backbone or adapter that cannot be had, and for a directory that cannot be written.
    """

    def __init__(
        self,
        config: RunConfig,
        out: str | Path | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if out is not None:
            trial(out)
        self.config, self.out = config, Path(out) if out is not None else None
        if self.out is not None and (self.out / HEADER).exists():
            raise ConfigError(f"out: '{self.out}' already holds a run; give another directory, or resume that run.")
        self.workers = cpu_count()  # arms worked on at a time, on a CPU; it may change between steps and changes no result
        self.accelerator = Accelerator()
        self._build(progress)
        self.accelerator.wait_for_everyone()
        self.step, self.seconds, self._pausing, self._ended = 0, 0.0, False, False
        self.changes: list[str] = []  # made by hand since the last Frame, which the next one tells
        self._clock, self._record = clock, None
        self._whole = True  # no step is half made
        self._kept: int | None = None  # the step of the last checkpoint, if nothing has changed since
        self._saved = clock()

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
        if not self._whole:
            where = f"; go on with Trainer.resume('{self.out}')" if self.out else ""
            raise ConfigError(f"run: step {self.step} was broken off half made{where}.")
        return self._run(min(self.step + steps, self.config.steps))

    def _run(self, last: int) -> Iterator[Frame]:
        try:
            if not self.log.frames:
                yield self._make(self._start)
            while self.step < last and not self._ended and not self._paused():
                yield self._make(self._train)
        finally:
            self._keep()

    def _make(self, frame: Callable[[], Frame]) -> Frame:
        """The next frame, on disk, with a checkpoint where one is due."""
        self._whole = False
        made = self._emit(frame())
        self._whole, self._kept = True, None
        if made.arms[0].accuracy is not None or self._clock() - self._saved >= KEPT_SECONDS:
            self._keep()
        return made

    def _keep(self) -> None:
        """Make a checkpoint, unless the last one holds all this already, a step is half made, or the run diverged: weights are then past use."""
        lost = bool(self.log.frames) and self.log.frames[-1].event == "diverged"
        if self.out is not None and self.log.frames and self._whole and self._kept is None and not lost:
            self.save(self.out)

    def _paused(self) -> bool:
        """Whether a pause was asked for, in any process: all of them make the same steps."""
        if self.accelerator.num_processes == 1:
            return self._pausing
        asked = torch.tensor(float(self._pausing), device=self.accelerator.device)
        return float(self.accelerator.reduce(asked, "sum")) > 0

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
        self._keep()
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
                self.changes.append(f"{a.name}: {name} {to_text(name, getattr(target, name))} to {to_text(name, checked)}.")
                setattr(target, name, checked)
                self._kept = None

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and speaks; the only one unless started by `accelerate launch`."""
        return self.accelerator.is_main_process

    def _emit(self, frame: Frame) -> Frame:
        if self.out is not None and self.main:
            self._record = self._record or Record.begin(self.out, self.log)
            self._record.append(frame)
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

        def work(arm: Arm) -> ArmFrame:
            before = before_step(arm.handle) if probing else None
            loss, extra = arm.backward(batch, probing, self.step, share)
            if processes > 1:
                loss, extra = self._sum(arm, loss, extra)
            value = float(loss)
            if not math.isfinite(value):
                return ArmFrame(None, 0.0, arm.rate(self.step), arm.handle.dropout)
            rate = arm.update(self.step)
            probes = measure(arm.handle, before, batch.task, batch.attention_mask, self.mixture_size, sentence) if probing else None
            return ArmFrame(value, extra, rate, arm.handle.dropout, None, probes)

        arms = self._each(work)
        lost = [arm.name for arm, made in zip(self.arms, arms, strict=True) if made.loss is None]
        event, note = ("change", " ".join(self.changes)) if self.changes else ("", "")
        self.changes = []
        if lost:
            self._ended, event = True, "diverged"
            lost_note = f"The loss of '{lost[0]}' is no longer finite at step {self.step}: the run ends here; try a smaller learning rate."
            note = " ".join(filter(None, [note, lost_note]))
        elif scoring:
            part = "test" if final else "validation"
            made = dict(zip(self.arms, arms, strict=True))
            arms = self._each(lambda arm: self._read(arm, made[arm], part))
            if final:
                self.log.untrained = self._score(None, part)
                self._ended, event = True, "end"
                note = " ".join(filter(None, [note, f"All {self.step} steps are done; the last accuracies are on test rows."]))
        self.seconds += time.perf_counter() - began
        return Frame(self.step, arms, event, note, self.seconds, sentence and sentence.sentence)

    def _each(self, work: Callable[[Arm], ArmFrame]) -> list[ArmFrame]:
        """The frames of all arms. Several processes wait for one another arm by arm: there the arms go in order."""
        return [work(arm) for arm in self.arms] if self.accelerator.num_processes > 1 else side_by_side(work, self.arms, self.workers)

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
        """Accuracy of one arm, or of the bare backbone, on each task's validation or test rows. The latter is kept with the backbone."""
        out = {}
        for i, t in enumerate(self.tasks):
            measure = partial(self.accuracy, arm, i, getattr(t, part)[: self.config.eval_rows], reader)
            key = (self.log.data[t.name], part, self.config.eval_rows, self.config.max_tokens, self.config.temperature, torch.get_num_threads())
            out[t.name] = measure() if arm is not None else self.backbone.kept.score((*key, str(self.accelerator.device)), measure)
        return out

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
        """Write what `resume` needs: in the run's own directory a checkpoint beside the frames, elsewhere header and frames as well.

        Raises ConfigError where it cannot be written, and in the middle of a step.
        """
        if not self._whole:
            raise ConfigError(f"run: step {self.step} is half made and is not saved; the last checkpoint holds.")
        if not self.main:
            return
        folder = Path(folder)
        try:
            if self._record is not None and folder == self.out:
                self._record.settle(self.log)
                checkpoint.save(self, folder)
                self._kept, self._saved = self.step, self._clock()
            else:
                self.log.save(folder)
                checkpoint.save(self, folder)
        except OSError as error:
            raise unwritable("out", folder, error) from None

    @classmethod
    def resume(cls, folder: str | Path, progress: Progress | None = None, clock: Callable[[], float] = time.monotonic) -> Trainer:
        """A trainer that goes on where `folder`'s last checkpoint was made, bit for bit; frames after it are cut off.

        A run that was killed before its first checkpoint, which is made before the first step, begins anew. Raises ConfigError.
        """
        folder = Path(folder)
        log = RunLog.load(folder)
        trial(folder, "resume")
        trainer = cls(log.config, progress=progress, clock=clock)
        changed = [name for name, digest in log.data.items() if trainer.log.data.get(name) != digest]
        if changed:
            raise ConfigError(f"resume: the rows or weights of '{changed[0]}' are not those the run was started with.")
        if log.linears != trainer.log.linears or log.parameters != trainer.log.parameters:
            raise ConfigError(f"resume: the linears of '{folder / HEADER}' are not those of its configuration.")
        if checkpoint.known(folder) or len(log.frames) > 1:
            checkpoint.load(trainer, folder)
            trainer.log.frames = cut(log, folder, trainer.step)
            trainer.log.untrained = log.untrained
            trainer._kept = trainer.step
        elif trainer.main:
            checkpoint.tidy(folder, None)
        if trainer.main:
            trainer._record = Record.go_on(folder, trainer.log)
        trainer.out = folder
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
