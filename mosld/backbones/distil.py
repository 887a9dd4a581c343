"""How nano was made: all-MiniLM-L6-v2 distilled into a BERT of 4 layers and width 128. `python -m mosld.backbones.distil` is the whole recipe.

Its stages are `prepare`, `train` and `export` of `student.py`; each is skipped when its result is there. A GPU is used if there is one; on a CPU
the same recipe takes days, `--steps` shortens it.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

from mosld.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides the result."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 512
    pieces: int = 28_000
    longest: int = 128  # tokens
    steps: int = 14_400
    batch: int = 2048
    group: int = 8
    lr: float = 2e-3
    warmup: int = 500
    weight_decay: float = 0.01
    seed: int = 0
    # Weights of the losses, see `losses`.
    cosine: float = 1.0
    pairs: float = 10.0
    ranks: float = 1.0
    near: float = 1.0


def main(arguments: list[str] | None = None) -> None:
    """`python -m mosld.backbones.distil --folder DIR`: every field of `Recipe` is a flag."""
    parser = argparse.ArgumentParser(prog="python -m mosld.backbones.distil", description="Distil nano from all-MiniLM-L6-v2.")
    parser.add_argument("--folder", type=Path, default=Path("runs/nano"), help="texts, tokenizer, checkpoint and log (default runs/nano)")
    parser.add_argument("--out", type=Path, help="where the result goes (default FOLDER/weights)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop training after so long, to go on with the same command later")
    for field in dataclasses.fields(Recipe):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    given = parser.parse_args(arguments)
    recipe = Recipe(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Recipe)})
    print(f"Distilling nano in {given.folder}: {recipe.steps:,} steps of {recipe.batch:,} texts; hours on a GPU, days on a CPU.", flush=True)
    import torch  # what follows takes seconds to import: not before the flags are read

    from mosld.backbones.student import export, prepare, train, watch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        prepare(given.folder, recipe, lambda text, share: print(text) if share is None else None)
        done = train(given.folder, recipe, device, given.seconds)
    except ConfigError as error:
        parser.error(str(error))
    target = given.out or given.folder / "weights"
    export(given.folder, target, recipe)
    print("Done." if done else "Stopped; the same command goes on.")
    for key, values in watch(given.folder, target, device).items():
        print(key, {name: round(value, 3) for name, value in values.items()})


if __name__ == "__main__":
    main()
