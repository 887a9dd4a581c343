"""What one visitor may ask of the machine, in one place.

On your own computer the bounds are wide. On a hosted Space (SPACE_ID is set) they are narrow; each can be set by an environment
variable: MOSLD_MAX_STEPS, MOSLD_MAX_TOKENS, MOSLD_MAX_SECONDS, MOSLD_RUNS, MOSLD_VISITORS.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mosld.config import ConfigError, RunConfig
from mosld.registry import BACKBONES
from mosld.tasks.files import MAX_BYTES

UPLOAD_BYTES = MAX_BYTES  # a file of one's own is bounded in one place
QUEUE = 32  # visitors waiting for a place; the next one is told that the lab is busy
KEEP_SECONDS = 3600  # a run left behind can be resumed for this long
IDLE_SECONDS = 1800  # a paused run gives its memory back after this long


@dataclass(frozen=True)
class Limits:
    """Bounds of one run and of the whole page."""

    steps: int
    tokens: int  # upper bound: steps x questions x tokens a text x arms
    seconds: int  # wall clock of one press of Run, Resume or Step
    runs: int  # runs that train at the same time
    visitors: int  # sessions kept in memory
    any_model: bool  # whether hub ids other than the known backbones may be loaded

    @classmethod
    def from_environment(cls, environ=os.environ) -> Limits:
        """Wide on a private machine, narrow on a hosted Space. Raises ConfigError on a variable that is no positive whole number."""
        hosted = bool(environ.get("SPACE_ID"))
        default = {"STEPS": 600, "TOKENS": 20_000_000, "SECONDS": 600} if hosted else {"STEPS": 100_000, "TOKENS": 10**10, "SECONDS": 12 * 3600}
        default = {"MAX_" + name: value for name, value in default.items()} | {"RUNS": 2, "VISITORS": 16 if hosted else 8}
        values = {}
        for name, value in default.items():
            text = environ.get("MOSLD_" + name, str(value))
            if not text.isdigit() or int(text) < 1:
                raise ConfigError(f"MOSLD_{name}: '{text[:40]}' is not allowed; give a whole number from 1.")
            values[name.lower().removeprefix("max_")] = int(text)
        return cls(**values, any_model=not hosted)

    def check(self, config: RunConfig) -> None:
        """Refuse a run that is too large for this page. Raises ConfigError."""
        if config.steps > self.steps:
            raise ConfigError(f"steps: {config.steps} is not allowed on this page; give at most {self.steps}.")
        tokens = config.steps * config.batch * config.max_tokens * len(config.arms)
        if tokens > self.tokens:
            raise ConfigError(
                f"steps: {tokens:,} tokens (steps x batch x max_tokens x arms) are not allowed on this page; stay within {self.tokens:,}."
            )
        if not self.any_model and config.backbone not in BACKBONES:
            raise ConfigError(f"backbone: '{config.backbone}' is not offered on this page; choose {', '.join(BACKBONES)}.")
