"""Rows of the study that the package index does not carry: published splits from a folder of JSON lines, put into the lab's cache.

The study's six real tasks are ARC easy and challenge, OpenBookQA, CommonsenseQA, PIQA and Social IQa. Where the model hub is reached the lab
gets the first three from there. Elsewhere a folder with `<name>.train.jsonl` and `<name>.test.jsonl`, an object a line with question,
options and the answer's place, serves as well: `adopt(folder)`.
"""

from __future__ import annotations

import json
from pathlib import Path

from mosld import fetch, files
from mosld.config import ConfigError
from mosld.tasks.real import FORMAT
from mosld.tasks.rows import Row, clean, dump

NAMES = {"arc_easy": "Science exam", "arc_challenge": "Hard science exam", "openbookqa": "Science fact"}  # and what a question begins with
SOURCE = "published training and test part, as distributed with AGI-Edgerunners/LLM-Adapters"


def adopt(folder: str | Path) -> dict[str, int]:
    """Put the tasks of `NAMES` that `folder` holds into the cache; returns how many rows each has. Raises ConfigError where there is none."""
    out = {}
    for name, instruction in NAMES.items():
        parts = {part: Path(folder) / f"{name}.{part}.jsonl" for part in ("train", "test")}
        if not all(f.is_file() for f in parts.values()):
            continue
        rows = []
        for part, file in parts.items():
            for line in file.read_text(encoding="utf-8").splitlines():
                values = json.loads(line)
                rows.append(Row(f"{instruction}: {values['question']}", tuple(values["options"]), values["answer"], tested=part == "test"))
        rows = clean(rows)
        files.write(fetch.cache_dir() / "real" / f"{name}.jsonl", dump({"format": FORMAT, "source": SOURCE}, rows))
        out[f"real/{name}"] = len(rows)
    if not out:
        raise ConfigError(f"data: '{folder}' holds none of {', '.join(f'{n}.train.jsonl' for n in NAMES)}.")
    return out
