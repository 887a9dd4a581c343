"""Trainable parameters of an adapter configuration on a model's shape, by arithmetic: no weights, no torch.

- `ModelShape`: layers, linears and total weights of a model; `SHAPES`: a few known ones.
- `count(config, shape)`: trainable parameters, from the formulas in the registry.
- `duration`: about how long a run takes, in words.
- `group_of`: which layer group (2-4-6-8) a layer belongs to; used by `attach` too.
"""

from __future__ import annotations

from dataclasses import dataclass

from mosld.config import AdapterConfig, ConfigError, RunConfig
from mosld.registry import METHODS, LinearShape


@dataclass(frozen=True)
class ModelShape:
    """A transformer as a list of equal layers: (d_in, d_out) of each linear under its short name, and all weights in total."""

    layers: int
    linears: dict[str, tuple[int, int]]
    weights: int


def _llama(layers: int, d: int, ffn: int, kv: int, weights: int) -> ModelShape:
    attention = {"q": (d, d), "k": (d, kv), "v": (d, kv), "o": (d, d)}
    return ModelShape(layers, {**attention, "gate": (d, ffn), "up": (d, ffn), "down": (ffn, d)}, weights)


def _bert(layers: int, d: int, ffn: int, weights: int) -> ModelShape:
    return ModelShape(layers, {**{n: (d, d) for n in "qkvo"}, "up": (d, ffn), "down": (ffn, d)}, weights)


# Sizes from the models' published configuration files, weights as their authors count them; of nano, what its shipped file holds.
SHAPES: dict[str, ModelShape] = {
    "llama2-7b": _llama(32, 4096, 11008, 4096, 6_738_415_616),
    "llama2-13b": _llama(40, 5120, 13824, 5120, 13_015_864_320),
    "smollm2": _llama(30, 576, 1536, 192, 134_515_008),
    "nano": _bert(4, 128, 512, 4_393_984),
    "minilm": _bert(6, 384, 1536, 22_713_216),
}


def group_of(layer: int, layers: int, groups: int) -> int:
    """The group, from 0 at the bottom, of one of `layers` layers cut into `groups` runs as equal as can be."""
    return min(layer * groups // layers, groups - 1)


def count(config: AdapterConfig, shape: ModelShape, tasks: int = 1) -> int:
    """Trainable parameters of `config` on `shape`. Raises ConfigError for a target the shape does not have."""
    config = config.effective()
    entry, groups = METHODS[config.method], config.expert_counts
    total = 0
    for name in config.targets:
        if name not in shape.linears:
            raise ConfigError(f"targets: '{name}' is not a linear of this shape; it has {', '.join(shape.linears)}.")
        d_in, d_out = shape.linears[name]
        if config.rank > min(d_in, d_out):
            raise ConfigError(f"rank: {config.rank} is above the smaller side of {name} ({d_in} to {d_out}); give at most {min(d_in, d_out)}.")
        for layer in range(shape.layers):
            experts = groups[group_of(layer, shape.layers, len(groups))]
            if experts:
                total += entry.count(
                    LinearShape(d_in, d_out, config.rank, experts, tasks, name, config.share, config.side, config.options, config.router)
                )
    return total


# Seconds of one question of one arm in one step on two cores, probes and scorings included, as `python -m benchmarks` measures whole runs.
QUESTION_SECONDS = {"nano": 0.005, "minilm": 0.04, "smollm2": 0.4}


def duration(config: RunConfig, steps: int | None = None, jobs: int = 1) -> str:
    """About how long training takes, in words, for people who wait: 'about 30 s', 'about 4 minutes'.

    steps: of several runs together, with the settings of `config`; by default those of one. jobs: processes side by side.
    """
    a_question = QUESTION_SECONDS.get(config.backbone, QUESTION_SECONDS["smollm2"])
    seconds = a_question * (steps or config.steps) * config.batch * len(config.arms) / jobs
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(5, round(seconds / 5) * 5):.0f} s"
