"""What one visitor may ask of the machine, in one place.

On your own computer the bounds are wide. On a hosted Space (SPACE_ID is set) they are narrow; each can be set by an environment
variable: MOSLD_MAX_STEPS, MOSLD_MAX_TOKENS, MOSLD_MAX_SECONDS, MOSLD_RUNS, MOSLD_VISITORS, MOSLD_MEMORY (megabytes for the runs of all
visitors together) and MOSLD_THREADS (of one run, so that its numbers do not depend on who else trains).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mosld.config import ConfigError, RunConfig
from mosld.counting import SHAPES, count
from mosld.registry import BACKBONES
from mosld.tasks.files import MAX_BYTES
from mosld.ui.facts import shape_of

UPLOAD_BYTES = MAX_BYTES
UPLOADS = 8  # own files of one visitor
KEEP_SECONDS = 3600  # a run left behind can be resumed for this long
IDLE_SECONDS = 1800  # a paused run gives its memory back after this long
AWAY_SECONDS = 20  # a run whose messages nobody has fetched for so long is paused

# Bytes that a run takes, as measured: weights, gradients, two moments of Adam, what a probe copies, and the products of a step.
PER_PARAMETER, PER_WEIGHT, PER_RUN = 50, 4, 64_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds of one run and of the whole page."""

    steps: int
    tokens: int  # upper bound: steps x questions x tokens a text x arms
    seconds: int  # of training after one press of Run, Resume or Step
    runs: int  # runs that are under way at the same time, taking turns
    visitors: int  # sessions kept in memory
    memory: int  # bytes of all runs under way
    run_memory: int  # bytes of one run
    threads: int  # of one run
    any_model: bool  # whether hub ids other than the known backbones may be loaded

    @classmethod
    def from_environment(cls, environ=os.environ) -> Limits:
        """Wide on a private machine, narrow on a hosted Space. Raises ConfigError on a variable that is no positive whole number."""
        hosted = bool(environ.get("SPACE_ID"))
        default = {"STEPS": 600, "TOKENS": 20_000_000, "SECONDS": 600} if hosted else {"STEPS": 100_000, "TOKENS": 10**10, "SECONDS": 12 * 3600}
        default = {"MAX_" + name: value for name, value in default.items()} | {"RUNS": 12, "VISITORS": 200, "MEMORY": _half(), "THREADS": 1}
        values = {}
        for name, value in default.items():
            text = environ.get("MOSLD_" + name, str(value))
            if not (text.isascii() and text.isdigit()) or not int(text[:12]) >= 1:
                raise ConfigError(f"MOSLD_{name}: '{text[:40]}' is not allowed; give a whole number from 1.")
            values[name.lower().removeprefix("max_")] = int(text[:12])
        memory = values.pop("memory") * 1_000_000
        return cls(**values, memory=memory, run_memory=memory // 4 if hosted else memory, any_model=not hosted)

    @property
    def workers(self) -> int:
        """Runs that compute at one moment: as many as there are cores for their threads, in a container those that it has."""
        from joblib import cpu_count  # half a second

        return max(1, cpu_count() // self.threads)

    def check(self, config: RunConfig) -> None:
        """Refuse a run that is too large for this page, before anything of it is loaded. Raises ConfigError, with what would fit."""
        if config.steps > self.steps:
            raise ConfigError(f"steps: {config.steps} is not allowed on this page; give at most {self.steps}.")
        tokens = config.steps * config.batch * config.max_tokens * len(config.arms)
        if tokens > self.tokens:
            raise ConfigError(
                f"steps: {tokens:,} tokens (steps x batch x max_tokens x arms) are not allowed on this page; stay within {self.tokens:,}."
            )
        if not self.any_model and config.backbone not in BACKBONES:
            raise ConfigError(f"backbone: '{config.backbone}' is not offered on this page; choose {', '.join(BACKBONES)}.")
        if (need := size(config)) > self.run_memory:
            raise ConfigError(
                f"rank: {sum(parameters(config)):,} trainable parameters in {len(config.arms)} arm{'s' * (len(config.arms) > 1)} need about "
                f"{need / 1e6:,.0f} MB of memory; a run here may take {self.run_memory / 1e6:,.0f} MB: {self._fitting(config)}."
            )

    def _fitting(self, config: RunConfig) -> str:
        """What of this configuration would fit: a smaller rank, else one arm, fewer experts, or fewer linears."""

        def fits(**changes) -> bool:
            try:
                return size(config.replace(**changes)) <= self.run_memory
            except ConfigError:
                return False

        differing = {name for arm in config.arms for name in arm}
        if "rank" not in differing:
            low, high = 0, config.rank  # the largest that fits; size grows with the rank
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if fits(rank=middle) else (low, middle)
            if low:
                return f"rank {low} fits"
        if len(config.arms) > 1 and fits(arms=()):
            return "one arm fits"
        for experts in ("8", "4", "2"):
            if "experts" not in differing and config.expert_counts and max(config.expert_counts) > int(experts) and fits(experts=experts):
                return f"{experts} experts fit"
        return "give a lower rank, fewer experts, fewer linears or fewer arms"


def parameters(config: RunConfig) -> list[int]:
    """Trainable parameters of every arm, by arithmetic. Of a backbone whose shape is not known, those of the largest known one that may be run."""
    shape = shape_of(config) or SHAPES["smollm2"]
    return [count(config.arm(i).adapter(), shape, len(config.tasks)) for i in range(len(config.arms))]


def size(config: RunConfig) -> int:
    """About how many bytes a run takes while it is open; 0 extra where its parts cannot be counted (loading says why)."""
    shape = shape_of(config)
    try:
        trained = sum(parameters(config))
    except ConfigError:
        trained = 0
    return PER_RUN + PER_PARAMETER * trained + PER_WEIGHT * (shape or SHAPES["smollm2"]).weights


def _half() -> int:
    """Half of this machine's memory in megabytes; 2000 where it does not say. In a container, half of what the container has."""
    whole = 4_000
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(name) as file:
                whole = min(whole, int(file.read()) // 1_000_000)
        except (OSError, ValueError):
            continue
    return max(500, whole // 2)
