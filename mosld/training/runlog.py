"""RunLog: the append-only list of a run's Frames with what is needed to read them; to and from disk, to tidy tables."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mosld.config import ConfigError, RunConfig
from mosld.training.frame import IMBALANCE, READS, Frame


@dataclass(frozen=True)
class LinearInfo:
    """An adapted linear: its module name, layer from the bottom (0 first), projection name and experts."""

    name: str
    layer: int
    projection: str
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
        self.frames.append(frame)

    def header(self) -> dict:
        """Everything but the frames, as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("frames", "config", "linears")}
        return {"config": self.config.model_dump(mode="json"), **fields, "linears": [[dataclasses.asdict(x) for x in arm] for arm in self.linears]}

    @classmethod
    def from_header(cls, data: dict) -> RunLog:
        linears = [[LinearInfo(**x) for x in arm] for arm in data["linears"]]
        return cls(**{**data, "config": RunConfig(**data["config"]), "linears": linears})

    def save(self, folder: str | Path) -> None:
        """Write `run.json` (header) and `frames.jsonl` (one frame a line) anew."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(self.header(), indent=1))
        (folder / "frames.jsonl").write_text("".join(json.dumps(f.to_dict()) + "\n" for f in self.frames))

    def write(self, folder: str | Path, frame: Frame) -> None:
        """Put one frame at the end of `frames.jsonl`, with the header before the first: a crash then loses nothing."""
        folder = Path(folder)
        if not (folder / "run.json").exists():
            self.save(folder)
        with (folder / "frames.jsonl").open("a") as file:
            file.write(json.dumps(frame.to_dict()) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> RunLog:
        """Read a run directory. A last line cut short by a crash is left out. Raises ConfigError."""
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            raise ConfigError(f"run: '{folder}' holds no run.json; give the directory of a run.")
        log = cls.from_header(json.loads((folder / "run.json").read_text()))
        path = folder / "frames.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                log.append(Frame.from_dict(json.loads(line)))
            except (json.JSONDecodeError, TypeError, KeyError):
                if number < len(lines):
                    raise ConfigError(f"run: line {number} of {path.name} is not a frame.") from None
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
        """Columns step, arm, linear, layer, projection, task, expert, load, gate."""
        rows = [
            (f.step, arm, info.name, info.layer, info.projection, task, e, load[e], gate[e])
            for f, arm, info, p in self._probes()
            for task, load, gate in zip(self.tasks, p.load, p.gate, strict=True)
            if load is not None
            for e in range(len(load))
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", "task", "expert", "load", "gate"])

    def norms(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, quantity (A, B, BA, ask_A), expert, norm."""
        rows = []
        for f, arm, info, p in self._probes():
            for quantity, values in (("A", p.norm_a), ("B", p.norm_b), ("BA", p.norm_ba), ("ask_A", p.ask_a or [])):
                rows += [(f.step, arm, info.name, info.layer, info.projection, quantity, e, v) for e, v in enumerate(values)]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", "quantity", "expert", "norm"])

    def imbalance(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, definition, log2_ratio (A over mean of B_e; NaN is a gap)."""
        rows = [
            (f.step, arm, info.name, info.layer, info.projection, name, value)
            for f, arm, info, p in self._probes()
            for name, value in zip(IMBALANCE, p.imbalance, strict=True)
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", "definition", "log2_ratio"])

    def sizes(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, quantity (gradient or step), matrix (A or B), expert, rms (of the entries)."""
        rows = []
        for f, arm, info, p in self._probes():
            for quantity, a, b in (("gradient", p.grad_a, p.grad_b), ("step", p.step_a, p.step_b)):
                for matrix, values in (("A", a), ("B", b)):
                    rows += [(f.step, arm, info.name, info.layer, info.projection, quantity, matrix, e, v) for e, v in enumerate(values)]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", "quantity", "matrix", "expert", "rms"])

    def routing(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, balance, effective, effective_load, idle, token_entropy, information, most."""
        names = ["balance", "effective", "effective_load", "idle", "token_entropy", "information", "most"]
        rows = [(f.step, arm, i.name, i.layer, i.projection, *(getattr(p, n) for n in names)) for f, arm, i, p in self._probes()]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", *names])

    def reads(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, label (one of READS), bits, null, most: what the expert tells, on scored steps.

        `null` is what the untrained router of the same linear tells on the same input; NaN where the method's gate is not made from its input.
        """
        rows = [
            (f.step, arm, i.name, i.layer, i.projection, label, bits, null, p.most)
            for f, arm, i, p in self._probes()
            if p.reads
            for label, bits, null in zip(READS, p.reads, p.null or [None] * len(READS), strict=True)
        ]
        columns = ["step", "arm", "linear", "layer", "projection", "label", "bits", "null", "most"]
        return pd.DataFrame(rows, columns=columns).astype({"bits": float, "null": float, "most": float})

    def words(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, expert, rank (0 first), word: what each expert takes most, on scored steps."""
        rows = [
            (f.step, arm, i.name, i.layer, i.projection, e, rank, word)
            for f, arm, i, p in self._probes()
            for e, words in enumerate(p.takes or [])
            for rank, word in enumerate(words)
        ]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", "expert", "rank", "word"])

    def sentences(self) -> pd.DataFrame:
        """Columns step, arm, linear, layer, projection, task, kind, place, word, expert, gate: the frames' sentences and where they went."""
        rows = [
            (f.step, arm, i.name, i.layer, i.projection, self.tasks[f.sentence.task], f.sentence.kind, place, word, e, g)
            for f, arm, i, p in self._probes()
            if f.sentence and p.word_experts
            for place, word in enumerate(f.sentence.words)
            for e, g in zip(p.word_experts[place], p.word_gates[place], strict=True)
        ]
        names = ["task", "kind", "place", "word", "expert", "gate"]
        return pd.DataFrame(rows, columns=["step", "arm", "linear", "layer", "projection", *names])

    def _probes(self):
        for f in self.frames:
            for arm, infos, a in zip(self.arms, self.linears, f.arms, strict=True):
                for info, p in zip(infos, a.linears or [], strict=False):
                    yield f, arm, info, p
