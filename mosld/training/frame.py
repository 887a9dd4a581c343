"""Frame: the plain numbers of one step of all arms. Every view, file and notebook reads Frames and nothing else.

Shapes: T tasks of the mixture, E experts of a linear, K experts a token is sent to, n words of the frame's sentence. A gap (a quantity that
is undefined, such as a ratio over B = 0, or the gates of a task without a token in the batch, and what was not measured at this step) is
None, never 0.

- `packed(frame)`: the frame as a run's log keeps it: its probes as few bytes, unpacked where they are read, every number the same.

Two samples: most of a probe is of the step's own batch, in training. `reads`, `null` and `takes` are of the rows that are scored, in
evaluation, on scored steps only: the same rows each time, and many more of them.
"""

from __future__ import annotations

import dataclasses
import marshal
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated

from pydantic import AliasChoices, Field, TypeAdapter

IMBALANCE = ("updates", "gradient", "step", "relative step")
READS = ("word", "place", "task", "kind", "task given word")  # what an expert may be chosen by: `LinearProbe.reads`


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """One adapted linear of one arm. Definitions: `mosld.probes`. What has a default is missing in logs of older versions."""

    load: list[list[float] | None]  # [T][E] share of a task's tokens sent to expert e
    gate: list[list[float] | None]  # [T][E] mean gate weight
    # entropy of the mean gate over log E, in [0, 1]; 1 where E = 1 (`balance` in older logs)
    evenness: Annotated[float, Field(validation_alias=AliasChoices("evenness", "balance"))]
    effective: float  # effective number of experts of the weights: exp(entropy of the mean gate), in [1, E]
    idle: int  # experts with load under 1 / (10 E)
    token_entropy: float  # mean over tokens of the gate's entropy, in nats
    information: float  # bits that the expert tells of the task, in this batch, bias removed (so it may fall a little below 0)
    norm_a: list[float]  # Frobenius norms: [1] where A is shared, else [E]
    norm_b: list[float]  # [1] where B is shared, else [E]
    norm_ba: list[float]  # [E] norm of B_e A_e (alpha / rank not included)
    ask_a: list[float] | None  # [E] norm of each expert's share G_e of the gradient of a shared A
    imbalance: list[float | None]  # the four definitions in the order of IMBALANCE, log2(A over mean of B_e)
    share: list[float] = field(default_factory=list)  # [E] load over all real tokens; sums to K
    effective_load: float | None = None  # effective number of experts of the load, in [1, E]
    grad_a: list[float] = field(default_factory=list)  # root mean square of the gradient's entries, [1 or E]
    grad_b: list[float] = field(default_factory=list)
    step_a: list[float] = field(default_factory=list)  # root mean square of the entries' change in this step, [1 or E]
    step_b: list[float] = field(default_factory=list)
    most: float | None = None  # the most bits that the expert can tell of anything: log2(E / K); log2(E) where routing is dense
    reads: list[float | None] | None = None  # bits that the expert tells of each of READS, bias removed
    null: list[float | None] | None = None  # the same of the untrained router of this very linear, on the same input
    takes: list[list[str]] | None = None  # [E] of each expert the words it takes most, by lift, at most three
    word_experts: list[list[int]] | None = None  # [n] of each word of the frame's sentence its experts, largest gate first
    word_gates: list[list[float]] | None = None  # [n] the gates of these


@dataclass(frozen=True, slots=True)
class ArmFrame:
    """One arm at one step."""

    loss: float | None  # cross-entropy of the batch in nats, without extra losses; None at step 0
    extra: float  # balance and other extra losses, coefficients included
    lr: float
    dropout: float
    accuracy: dict[str, float] | None = None  # task -> share of validation rows answered right (test rows at the end), on scored steps
    linears: Sequence[LinearProbe] | None = None  # on probed steps, in the order of RunLog.linears


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text of the step's batch, the same for all arms: its words, which the probes' `word_experts` and `word_gates` belong to."""

    words: list[str]  # tokens joined to words, special ones left out; long texts are cut
    task: int  # index in RunLog.tasks
    kind: str  # "question", "option", or "both" where the model reads question and option as one text
    instruction: int = 0  # so many of the first words are the task's instruction


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of all arms. `step` 0 is before training. Equality leaves the clock out."""

    step: int
    arms: list[ArmFrame]
    event: str = ""  # "", "start", "change", "stopped", "diverged" or "end"
    note: str = ""  # one sentence for people, where there is an event
    seconds: float = field(default=0.0, compare=False)  # training time so far, pauses left out
    sentence: Sentence | None = None  # on probed steps

    def to_dict(self) -> dict:
        """Plain values; the lists in them are the frame's own."""
        out = _fields(self) | {"sentence": self.sentence and _fields(self.sentence)}
        return out | {"arms": [_fields(a) | {"linears": a.linears and [_fields(p) for p in a.linears]} for a in self.arms]}

    @classmethod
    def from_dict(cls, data: dict) -> Frame:
        """The frame of such values, also as older versions wrote them. Raises pydantic's ValidationError."""
        return READER.validate_python(data)


READER = TypeAdapter(Frame)


def _fields(record) -> dict:
    return {name: getattr(record, name) for name in record.__slots__}


class Packed(Sequence):
    """The probes of one arm at one step, as few bytes: 3 KB where the lists of a default run take 30. It reads, and compares, as their list."""

    __slots__ = ("_count", "_data")

    def __init__(self, probes: Sequence[LinearProbe]):
        self._data, self._count = _pack(probes), len(probes)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        found = _unpack(self._data)
        return list(found[index]) if isinstance(index, slice) else found[index]

    def __iter__(self) -> Iterator[LinearProbe]:
        return iter(_unpack(self._data))

    def __eq__(self, other) -> bool:
        return isinstance(other, (Packed, list)) and list(self) == list(other)

    __hash__ = None


def packed(frame: Frame) -> Frame:
    """The same frame in a sixth of the memory."""
    arms = [a if not a.linears or isinstance(a.linears, Packed) else dataclasses.replace(a, linears=Packed(a.linears)) for a in frame.arms]
    sentence = frame.sentence and dataclasses.replace(frame.sentence, words=[sys.intern(str(w)) for w in frame.sentence.words])
    return dataclasses.replace(frame, arms=arms, sentence=sentence)


SINGLES, DOUBLES, HUNDREDTHS, WHOLES = range(4)  # kinds of lists of numbers


def _pack(probes: Sequence[LinearProbe]) -> bytes:
    """Numbers by kind, field after field, and the nested lists that they come from, with (kind, length) in place of each list of numbers. Most
    numbers were single precision once, and gates are hundredths; what is neither is kept as it is."""
    stores = (array("f"), array("d"), array("B"), array("i"))

    def walk(value):
        if type(value) is not list or not value:
            return value
        kinds = set(map(type, value))
        if kinds == {float}:
            kind, numbers = _floats(value)
        elif kinds == {int} and max(map(abs, value)) < 2**31:
            kind, numbers = WHOLES, array("i", value)
        else:
            return [walk(v) for v in value]
        stores[kind].extend(numbers)
        return kind, len(value)

    form = [walk([getattr(p, name) for p in probes]) for name in LinearProbe.__slots__]
    return zlib.compress(marshal.dumps((form, *(_shuffled(s) for s in stores)), 2), 1)


def _floats(values: list[float]) -> tuple[int, array]:
    single = array("f", values)
    if single.tolist() == values:  # not where one is NaN, which equals nothing
        return SINGLES, single
    if all(0 < v <= 2.55 for v in values):
        hundredths = array("B", [round(100 * v) for v in values])
        if [n / 100 for n in hundredths] == values:
            return HUNDREDTHS, hundredths
    return DOUBLES, array("d", values)


def _shuffled(numbers: array) -> bytes:
    """The first bytes of all numbers, then the second ones: bytes of a kind lie together, and compress."""
    data, size = numbers.tobytes(), numbers.itemsize
    return b"".join(data[i::size] for i in range(size))


@lru_cache(maxsize=32)
def _unpack(data: bytes) -> tuple[LinearProbe, ...]:
    form, *texts = marshal.loads(zlib.decompress(data))
    stores = []
    for code, text in zip("fdBi", texts, strict=True):
        size = array(code).itemsize
        whole, each = bytearray(len(text)), len(text) // size
        for i in range(size):
            whole[i::size] = text[i * each : (i + 1) * each]
        stores.append(iter(array(code, bytes(whole))))

    def walk(value):
        if type(value) is tuple:
            kind, count = value
            numbers = [next(stores[kind]) for _ in range(count)]
            return [n / 100 for n in numbers] if kind == HUNDREDTHS else numbers
        return [walk(v) for v in value] if type(value) is list else value

    return tuple(LinearProbe(*values) for values in zip(*map(walk, form), strict=True))
