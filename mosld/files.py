"""Files written whole: under a temporary name first, then renamed, so that an interrupted write is never taken for a good file.

- `whole(path)`: a file to write into that takes its place when it is complete. `write(path, data)`: the same for data at hand.
- `write_tensors(path, tensors)`: safetensors, whose own error of a full disk is none of the system's.
- `flush(path)`: what was written to a file is on the disk.
- `trial(folder)`: refuses a folder that cannot be written, before anything slow is done.
- `unwritable(name, path, error)`: that refusal: a ConfigError with the system's reason.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from mosld.config import ConfigError

TRIAL_BYTES = 1 << 20  # more than a run writes before its first checkpoint is there
TRIALS = 100  # of a folder that several processes try at once


def unwritable(name: str, path: str | Path, error: Exception) -> ConfigError:
    """The refusal of a path, with the system's own words for the reason."""
    return ConfigError(f"{name}: '{path}' cannot be written ({getattr(error, 'strerror', None) or error}); give a directory that can.")


@contextmanager
def whole(path: Path):
    """A binary file to write into. It takes the place of `path` when the block ends; what ends it early leaves the old file, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        with open(part, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all: an interrupted write leaves the old file, or none."""
    with whole(path) as sink:
        sink.write(data.encode() if isinstance(data, str) else data)


def write_tensors(path: Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors. Raises OSError where the system refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def flush(path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def trial(folder: str | Path, name: str = "out") -> None:
    """Make a folder, write a file of a megabyte into it, and leave everything as it was. Raises ConfigError where that cannot be done."""
    if not str(folder):
        raise ConfigError(f"{name}: '' is not allowed; give a directory.")
    for _ in range(TRIALS):
        with suppress(FileNotFoundError):
            return _try(Path(folder), name)
    raise unwritable(name, folder, FileNotFoundError(2, os.strerror(2)))


def _try(folder: Path, name: str) -> None:
    """`trial`, once. Raises FileNotFoundError where the folder is gone meanwhile: another process that tries it takes away what it made."""
    made: list[Path] = []
    try:
        for parent in reversed((folder, *folder.parents)):
            if not parent.exists():
                with suppress(FileExistsError):
                    parent.mkdir()
                    made.append(parent)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(20, "it is not a directory")
        part = folder / f".trial-{os.getpid()}-{threading.get_ident()}"
        try:
            part.write_bytes(bytes(TRIAL_BYTES))
        finally:
            part.unlink(missing_ok=True)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a character that no path can have
        raise unwritable(name, folder, error) from None
    finally:
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
