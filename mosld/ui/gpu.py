"""ZeroGPU: a Space whose GPU is lent for a minute at a time. Runs on larger backbones are trained there, a stretch for each press of Run or Resume.

The GPU is seen by a forked process alone, and what it is told and gives travels pickled. So a run travels as its folder: that process opens it,
trains, yields frames and leaves a checkpoint. The page's own process stays on its processor, where it also looks into such a run.

- `ready()`: before anything computes; `wanted(config)`: whether a run is for the GPU; `stretch(...)`: its next frames.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui.facts import shape_of

SECONDS = 60  # that a GPU is lent at a time, loading included
SPARE = 15  # of them, for loading and for the last checkpoint
WEIGHTS = 20_000_000  # of a backbone that is too slow on a Space's processor: MiniLM and SmolLM2
_lent: list[Callable[..., Iterator]] = []


def ready(environ=os.environ) -> None:
    """On ZeroGPU hardware, have the GPU's function known before the page is launched, and keep this process off the GPU, which it cannot use."""
    zero = environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
    if not zero or _lent or importlib.util.find_spec("spaces") is None:
        return
    import spaces

    os.environ["ACCELERATE_USE_CPU"] = "true"
    _lent.append(spaces.GPU(duration=SECONDS)(frames))


def wanted(config: RunConfig) -> bool:
    shape = shape_of(config)
    return bool(_lent) and (shape is None or shape.weights >= WEIGHTS)


def stretch(config: RunConfig, folder: Path, goal: int) -> Iterator:
    """Frames of a run in its folder, until step `goal` or until the GPU is due back. Closing it ends after a step, saved. Raises ConfigError, also
    with what the Space says where it lends none."""
    import gradio as gr

    try:
        yield from _lent[0](config.to_json(), str(folder), goal, float(SECONDS - SPARE))
    except gr.Error as problem:
        raise ConfigError(f"gpu: {re.sub('<[^>]*>', '', str(problem.message))}") from None


def frames(config: str, folder: str, goal: int, seconds: float) -> Iterator:
    """What the forked process does."""
    import torch
    from accelerate.state import AcceleratorState

    from mosld.training import Trainer

    os.environ.pop("ACCELERATE_USE_CPU", None)
    AcceleratorState._reset_state(True)  # that of the process which this one was forked from
    torch.set_num_threads(1)  # threads do not outlive a fork
    end = time.monotonic() + seconds
    there = (Path(folder) / "run.json").exists()
    trainer = Trainer.resume(folder) if there else Trainer(RunConfig.from_json(config), folder)
    with closing(trainer.frames()) as made:
        for frame in made:
            yield frame
            if frame.step >= goal or time.monotonic() > end:
                trainer.pause()
