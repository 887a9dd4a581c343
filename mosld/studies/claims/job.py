"""A run of a study: a configuration of one arm, and what a study varies and the lab's schema does not. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass

from mosld.config import RunConfig, knobs, to_text

# What the gates follow. token: each token's own input, as in the papers; text: the mean over a text's tokens; instruction: the mean over the
# instruction's tokens of a question, over all tokens of an option; task: a table with a row a task; random: the token router as it starts;
# hash: a fixed pick by the token's id; uniform: all experts alike.
ROUTERS = ("token", "text", "instruction", "task", "random", "hash", "uniform")


@dataclass(frozen=True)
class Job:
    """One run. `rows`: training rows kept of each task, 0 for all. `rate_a`, `rate_router`: learning rate of A and of the router over that
    of all else; 0 freezes. `router`: what the router reads, one of `ROUTERS`."""

    config: RunConfig
    rows: int = 0
    rate_a: float = 1.0
    rate_router: float = 1.0
    router: str = "token"

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        """All that is not the default, as texts: what the hash is made of, so that a new setting changes no old hash."""
        out = {k.name: to_text(k.name, v) for k in knobs() if k.name != "arms" and (v := getattr(self.config, k.name)) != k.default}
        own = {f.name: f"{getattr(self, f.name)}" for f in dataclasses.fields(self)[1:] if getattr(self, f.name) != f.default}
        return out | ({"reads": own.pop("router")} if "router" in own else {}) | own

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits of the sha256 of `settings`."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]
