"""What stands beside the method: its formula and what its arms cost in trainable parameters, without loading a weight."""

from __future__ import annotations

from dataclasses import replace

from mosld.config import ConfigError, RunConfig
from mosld.counting import SHAPES, ModelShape, count
from mosld.registry import METHODS
from mosld.ui.wire import mark


def facts(config: RunConfig) -> dict[str, str]:
    """Formula, parameters of every arm, a note on knobs that the method overrules, the settings' mark, and about how long a run takes."""
    arms = [config.arm(index) for index in range(len(config.arms))]
    notes = list(dict.fromkeys(note for arm in arms for note in arm.ignored()))
    return {
        "formula": METHODS[config.method].formula,
        "count": _count(config, arms),
        "note": " ".join(notes),
        "problem": "",
        "mark": mark(config),
        "about": about(config),
    }


# Seconds on two cores, of one arm: a step of 16 questions, and a question scored. Others differ; it is said as "about".
STEP, SCORED = 0.025, 0.0006


def about(config: RunConfig) -> str:
    """How long a run of these settings takes, in words."""
    shape, nano = shape_of(config), SHAPES["nano"]
    if shape is None:
        return "a while; how long is known once its first steps are made"
    size = max(1.0, shape.weights / nano.weights / 2) * config.max_tokens / 64
    scorings = config.steps / config.eval_every + 2
    questions = config.eval_rows * (len(config.tasks) + len(config.held_out))
    seconds = len(config.arms) * size * (config.steps * STEP * config.batch / 16 + scorings * questions * SCORED)
    if seconds < 90:
        return f"about {max(2, round(seconds, -1 if seconds > 20 else 0)):.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 5400 else f"about {seconds / 3600:.0f} hours"


def shape_of(config: RunConfig) -> ModelShape | None:
    """The shape of a configuration's backbone, with the layers it keeps; None where it is not known before loading."""
    shape = SHAPES.get(config.backbone)
    return replace(shape, layers=config.layers) if shape and 0 < config.layers < shape.layers else shape


def _count(config: RunConfig, arms: list[RunConfig]) -> str:
    shape = shape_of(config)
    if shape is None:
        return "Trainable parameters are counted when the run starts."
    try:
        numbers = [count(arm.adapter(), shape, len(config.tasks)) for arm in arms]
    except ConfigError as problem:
        return str(problem)
    text = f"{numbers[0]:,}" if len(set(numbers)) == 1 else " and ".join(f"{n:,}" for n in numbers)
    return f"Trainable: {text} of {shape.weights:,} ({_share(numbers, shape.weights)})."


def _share(numbers: list[int], weights: int) -> str:
    shares = [f"{n / weights:.1%}" for n in dict.fromkeys(numbers)]
    return " and ".join(dict.fromkeys(shares))
