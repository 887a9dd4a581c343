"""Frame: the plain numbers of one step of all arms. Every view, file and notebook reads Frames and nothing else.

Shapes: T tasks of the mixture, E experts of a linear. A gap (a quantity that is undefined, such as a ratio over B = 0, or the
gates of a task without a token in the batch) is None, never 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

IMBALANCE = ("updates", "gradient", "step", "relative step")


@dataclass(frozen=True)
class LinearProbe:
    """One adapted linear of one arm. Definitions: `mosld.probes`."""

    load: list[list[float] | None]  # [T][E] share of a task's tokens sent to expert e
    gate: list[list[float] | None]  # [T][E] mean gate weight
    balance: float  # entropy of the mean gate over log E, in [0, 1]; 1 where E = 1
    effective: float  # exp(entropy of the mean gate), in [1, E]
    idle: int  # experts with load under 1 / (10 E)
    token_entropy: float  # mean over tokens of the gate's entropy, in nats
    information: float  # mutual information of expert and task, in bits
    norm_a: list[float]  # Frobenius norms: [1] where A is shared, else [E]
    norm_b: list[float]  # [1] where B is shared, else [E]
    norm_ba: list[float]  # [E] norm of B_e A_e (alpha / rank not included)
    ask_a: list[float] | None  # [E] norm of each expert's share G_e of the gradient of a shared A
    imbalance: list[float | None]  # the four definitions in the order of IMBALANCE, log2(A over mean of B_e)


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
class Frame:
    """One step of all arms. `step` 0 is before training. Equality leaves the clock out."""

    step: int
    arms: list[ArmFrame]
    event: str = ""  # "", "start", "change", "stopped", "diverged" or "end"
    note: str = ""  # one sentence for people, where there is an event
    seconds: float = field(default=0.0, compare=False)  # training time so far, pauses left out

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> Frame:
        arms = [ArmFrame(**{**a, "linears": a["linears"] and [LinearProbe(**p) for p in a["linears"]]}) for a in data["arms"]]
        return cls(**{**data, "arms": arms})
