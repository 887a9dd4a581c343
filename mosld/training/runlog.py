"""RunLog: the append-only list of a run's Frames with what is needed to read them; to and from disk, to tidy tables.

In a run directory: `run.json` is the header, written whole; `frames.jsonl` has one frame a line. `Record` appends to it while a run trains, and
cuts it back where a run goes on from a checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from mosld.config import ConfigError, RunConfig
from mosld.files import unwritable, write
from mosld.training.frame import IMBALANCE, READER, READS, Frame, packed

HEADER, FRAMES = "run.json", "frames.jsonl"


@dataclass(frozen=True)
class LinearInfo:
    """An adapted linear: its module name, layer from the bottom (0 first), target name and experts."""

    name: str
    layer: int
    target: Annotated[str, Field(validation_alias=AliasChoices("target", "projection"))]  # as older files call it
    experts: int


@dataclass
class RunLog:
    """The header of a run and its Frames."""

    config: RunConfig
    arms: list[str]  # names of the arms
    tasks: list[str]  # names in the mixture, in the order of the probes' rows
    held_out: list[str]
    chance: dict[str, float]
    majority: dict[str, float]
    linears: list[list[LinearInfo]]  # [arm][adapted linear]
    parameters: list[int]  # trainable, one an arm
    versions: dict[str, str]
    data: dict[str, str]  # task -> sha256 of its rows
    untrained: dict[str, float] = field(default_factory=dict)  # the bare backbone's accuracy on test rows, once the run is at its end
    frames: list[Frame] = field(default_factory=list)

    def append(self, frame: Frame) -> None:
        self.frames.append(packed(frame))

    def header(self) -> dict:
        """Everything but the frames, as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("frames", "config", "linears")}
        return {"config": self.config.model_dump(mode="json"), **fields, "linears": [[dataclasses.asdict(x) for x in arm] for arm in self.linears]}

    @classmethod
    def from_header(cls, data: dict) -> RunLog:
        """The log, still without frames, that a header describes. Raises ConfigError for a setting, ValueError for anything else in it."""
        if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
            raise ValueError("it holds no configuration")
        log = _header.validate_python({**data, "config": RunConfig(**data["config"]), "frames": []})
        names, arms = {*log.tasks, *log.held_out}, len(log.arms)
        if log.tasks != list(log.config.tasks) or log.held_out != list(log.config.held_out) or arms != len(log.config.arms):
            raise ValueError("its tasks or arms are not those of its configuration")
        if len(log.linears) != arms or len(log.parameters) != arms or not names <= set(log.chance) or not names <= set(log.majority):
            raise ValueError("its tasks and arms do not go together")
        return log

    def save(self, folder: str | Path) -> None:
        """Write `run.json` (header) and `frames.jsonl` (one frame a line) anew, each whole. Raises ConfigError where that cannot be done."""
        folder = Path(folder)
        try:
            write(folder / FRAMES, "".join(_line(f) for f in self.frames))
            write(folder / HEADER, json.dumps(self.header(), indent=1))
        except OSError as error:
            raise unwritable("out", folder, error) from None

    @classmethod
    def load(cls, folder: str | Path) -> RunLog:
        """Read a run directory. A last line cut short by a crash is left out. Raises ConfigError, naming the file that is damaged."""
        folder = Path(folder)
        if not (folder / HEADER).is_file():
            raise ConfigError(f"run: '{folder}' holds no {HEADER}; give the directory of a run.")
        try:
            log = cls.from_header(json.loads((folder / HEADER).read_bytes()))
        except ConfigError as error:
            raise ConfigError(f"run: '{folder / HEADER}' has a setting that cannot be used: {error}") from None
        except ValidationError as error:
            raise ConfigError(f"run: '{folder / HEADER}' is damaged: {_first(error)}.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"run: '{folder / HEADER}' is damaged: {error}.") from None
        for frame, _ in _read(folder / FRAMES, log):
            log.append(frame)
        return log

    def accuracies(self) -> pd.DataFrame:
        """Columns step, arm, task, accuracy, part: one row a scoring, of the part 'validation', at the end of a run 'test'."""
        rows = [
            (f.step, arm, task, value, "test" if f.event == "end" else "validation")
            for f in self.frames
            for arm, a in zip(self.arms, f.arms, strict=True)
            for task, value in (a.accuracy or {}).items()
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "task", "accuracy", "part"])

    def losses(self) -> pd.DataFrame:
        """Columns step, arm, loss, extra, lr, dropout: one row a step and arm."""
        rows = [(f.step, arm, a.loss, a.extra, a.lr, a.dropout) for f in self.frames for arm, a in zip(self.arms, f.arms, strict=True)]
        return pd.DataFrame(rows, columns=["step", "arm", "loss", "extra", "lr", "dropout"])

    def gates(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, task, expert, load, gate."""
        rows = [
            (f.step, arm, info.name, info.layer, info.target, task, e, load[e], gate[e])
            for f, arm, info, p in self._probes()
            for task, load, gate in zip(self.tasks, p.load, p.gate, strict=True)
            if load is not None
            for e in range(len(load))
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", "task", "expert", "load", "gate"])

    def norms(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, quantity (A, B, BA, ask_A), expert, norm."""
        rows = []
        for f, arm, info, p in self._probes():
            for quantity, values in (("A", p.norm_a), ("B", p.norm_b), ("BA", p.norm_ba), ("ask_A", p.ask_a or [])):
                rows += [(f.step, arm, info.name, info.layer, info.target, quantity, e, v) for e, v in enumerate(values)]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", "quantity", "expert", "norm"])

    def imbalance(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, definition, log2_ratio (A over mean of B_e; NaN is a gap)."""
        rows = [
            (f.step, arm, info.name, info.layer, info.target, name, value)
            for f, arm, info, p in self._probes()
            for name, value in zip(IMBALANCE, p.imbalance, strict=True)
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", "definition", "log2_ratio"])

    def sizes(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, quantity (gradient or step), matrix (A or B), expert, rms (of the entries)."""
        rows = []
        for f, arm, info, p in self._probes():
            for quantity, a, b in (("gradient", p.grad_a, p.grad_b), ("step", p.step_a, p.step_b)):
                for matrix, values in (("A", a), ("B", b)):
                    rows += [(f.step, arm, info.name, info.layer, info.target, quantity, matrix, e, v) for e, v in enumerate(values)]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", "quantity", "matrix", "expert", "rms"])

    def routing(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, evenness, effective, effective_load, idle, token_entropy, information, most."""
        names = ["evenness", "effective", "effective_load", "idle", "token_entropy", "information", "most"]
        rows = [(f.step, arm, i.name, i.layer, i.target, *(getattr(p, n) for n in names)) for f, arm, i, p in self._probes()]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", *names])

    def reads(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, label (one of READS), bits, null, most: what the expert tells, on scored steps.

        `null` is what the untrained router of the same linear tells on the same input; NaN where the method's gate is not made from its input.
        """
        rows = [
            (f.step, arm, i.name, i.layer, i.target, label, bits, null, p.most)
            for f, arm, i, p in self._probes()
            if p.reads
            for label, bits, null in zip(READS, p.reads, p.null or [None] * len(READS), strict=True)
        ]
        columns = ["step", "arm", "linear", "layer", "target", "label", "bits", "null", "most"]
        return pd.DataFrame(rows, columns=columns).astype({"bits": float, "null": float, "most": float})

    def words(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, expert, rank (0 first), word: what each expert takes most, on scored steps."""
        rows = [
            (f.step, arm, i.name, i.layer, i.target, e, rank, word)
            for f, arm, i, p in self._probes()
            for e, words in enumerate(p.takes or [])
            for rank, word in enumerate(words)
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", "expert", "rank", "word"])

    def sentences(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, target, task, kind, place, word, expert, gate: the frames' sentences and where they went."""
        rows = [
            (f.step, arm, i.name, i.layer, i.target, self.tasks[f.sentence.task], f.sentence.kind, place, word, e, g)
            for f, arm, i, p in self._probes()
            if f.sentence and p.word_experts
            for place, word in enumerate(f.sentence.words)
            for e, g in zip(p.word_experts[place], p.word_gates[place], strict=True)
        ]
        names = ["task", "kind", "place", "word", "expert", "gate"]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "target", *names])

    def _probes(self):
        for f in self.frames:
            for arm, infos, a in zip(self.arms, self.linears, f.arms, strict=True):
                for info, p in zip(infos, a.linears or [], strict=False):
                    yield f, arm, info, p


class Record:
    """The files of a run under way. Frames are only appended; a second writer is noticed by the length of their file.

    Args:
        folder: the run directory. size: bytes of its frames.
    """

    def __init__(self, folder: Path, size: int = 0):
        self.folder, self.size = folder, size

    @classmethod
    def begin(cls, folder: Path, log: RunLog) -> Record:
        """The files of a new run: no frame yet. The header comes last: where it is, there is a run. Raises ConfigError."""
        try:
            write(folder / FRAMES, b"")
            write(folder / HEADER, json.dumps(log.header(), indent=1))
        except OSError as error:
            raise unwritable("out", folder, error) from None
        return cls(folder)

    @classmethod
    def go_on(cls, folder: Path, log: RunLog) -> Record:
        """Go on with a run's files: all that follows the frames that `log` has is cut off. Raises ConfigError."""
        size, ends = 0, _read(folder / FRAMES, log)
        for _, (_, size) in zip(log.frames, ends, strict=False):  # noqa: B007
            pass
        try:
            with open(folder / FRAMES, "ab+") as file:
                file.truncate(size)
                file.seek(max(size - 1, 0))
                if size and file.read(1) != b"\n":  # the last line was whole but for its end
                    size += file.write(b"\n")
        except OSError as error:
            raise unwritable("out", folder, error) from None
        return cls(folder, size)

    def append(self, frame: Frame) -> None:
        """Put one frame at the end. Raises ConfigError where it cannot be written, or where another process has written meanwhile."""
        line = _line(frame).encode()
        try:
            with open(self.folder / FRAMES, "ab") as file:
                if file.tell() != self.size:
                    raise ConfigError(f"out: '{self.folder / FRAMES}' was changed by another process; let one at a time go on with a run.")
                file.write(line)
        except OSError as error:
            raise unwritable("out", self.folder, error) from None
        self.size += len(line)

    def settle(self, log: RunLog) -> None:
        """Frames are on the disk, and the header says what it says now. Raises OSError."""
        with open(self.folder / FRAMES, "rb+") as file:
            os.fsync(file.fileno())
        text = json.dumps(log.header(), indent=1).encode()
        if (self.folder / HEADER).read_bytes() != text:
            write(self.folder / HEADER, text)


def cut(log: RunLog, folder: Path, step: int) -> list[Frame]:
    """The frames of a log up to a checkpoint of `step`. Raises ConfigError where one is missing."""
    frames = [f for f in log.frames if f.step <= step and f.event != "stopped"]
    if [f.step for f in frames] != list(range(step + 1)):
        raise ConfigError(f"resume: '{folder / FRAMES}' does not have every frame up to step {step}, at which its checkpoint was made.")
    return frames


def _line(frame: Frame) -> str:
    return json.dumps(frame.to_dict()) + "\n"


def _read(path: Path, log: RunLog):
    """(frame, offset of its end in the file) for each line, checked against the header. Raises ConfigError."""
    if not path.is_file():
        return
    end, before, names = 0, -1, {*log.tasks, *log.held_out}
    for number, line in enumerate(_lines(path), 1):
        end += len(line)
        try:
            frame = READER.validate_json(line, strict=True)
        except ValidationError:
            if not line.endswith(b"\n"):  # the last one, cut short by a crash
                return
            raise ConfigError(f"run: line {number} of {path.name} in '{path.parent}' is not a frame.") from None
        fits = len(frame.arms) == len(log.arms) and all(
            (a.linears is None or len(a.linears) == len(own)) and set(a.accuracy or ()) <= names
            for a, own in zip(frame.arms, log.linears, strict=True)
        )
        if not fits or not before <= frame.step <= log.config.steps:
            raise ConfigError(f"run: line {number} of {path.name} in '{path.parent}' is not a frame of this run.")
        before = frame.step
        yield frame, end


def _lines(path: Path):
    try:
        with open(path, "rb") as file:
            yield from file
    except OSError as error:
        raise ConfigError(f"run: '{path}' cannot be read ({error.strerror}).") from None


def _first(error: ValidationError) -> str:
    """Where the first fault of a header is."""
    problem: dict[str, Any] = error.errors(include_url=False, include_input=False)[0]
    return f"'{'.'.join(map(str, problem['loc']))}': {problem['msg'][:1].lower()}{problem['msg'][1:]}"


_header = TypeAdapter(RunLog)
