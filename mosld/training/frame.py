"""Frame: the plain numbers of one step of all arms. Every view, file and notebook reads Frames and nothing else.

Shapes: T tasks of the mixture, E experts of a linear, K experts a token is sent to, n words of the frame's sentence. A gap (a quantity that
is undefined, such as a ratio over B = 0, or the gates of a task without a token in the batch, and what was not measured at this step) is
None, never 0.

Two samples: most of a probe is of the step's own batch, in training. `reads`, `null` and `takes` are of the rows that are scored, in
evaluation, on scored steps only: the same rows each time, and many more of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AliasChoices, Field, TypeAdapter

IMBALANCE = ("updates", "gradient", "step", "relative step")
READS = ("word", "place", "task", "kind", "task given word")  # what an expert may be chosen by: `LinearProbe.reads`


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class ArmFrame:
    """One arm at one step."""

    loss: float | None  # cross-entropy of the batch in nats, without extra losses; None at step 0
    extra: float  # balance and other extra losses, coefficients included
    lr: float
    dropout: float
    accuracy: dict[str, float] | None = None  # task -> share of validation rows answered right (test rows at the end), on scored steps
    linears: list[LinearProbe] | None = None  # on probed steps, in the order of RunLog.linears


@dataclass(frozen=True)
class Sentence:
    """A text of the step's batch, the same for all arms: its words, which the probes' `word_experts` and `word_gates` belong to."""

    words: list[str]  # tokens joined to words, special ones left out; long texts are cut
    task: int  # index in RunLog.tasks
    kind: str  # "question", "option", or "both" where the model reads question and option as one text
    instruction: int = 0  # so many of the first words are the task's instruction


@dataclass(frozen=True)
class Frame:
    """One step of all arms. `step` 0 is before training. Equality leaves the clock out."""

    step: int
    arms: list[ArmFrame]
    event: str = ""  # "", "start", "change", "stopped", "diverged" or "end"
    note: str = ""  # one sentence for people, where there is an event
    seconds: float = field(default=0.0, compare=False)  # training time so far, pauses left out
    sentence: Sentence | None = None  # on probed steps

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> Frame:
        """The frame of such values, also as older versions wrote them. Raises pydantic's ValidationError."""
        return READER.validate_python(data)


READER = TypeAdapter(Frame)
