"""What routers read, and whether it matters: the table of routers over seeds.

    python -m mosld.studies.routers --seeds 5 --jobs 10                                   the world's tasks, nano
    python -m mosld.studies.routers --tasks real/movies,real/tweets,real/wiki,real/bbc --backbone minilm --steps 200

Each line is a router; each number a mean over seeds with a 95 % t interval of that mean. Runs are kept, one small file each, and not made
again. Any setting of `python -m mosld train` may be given. Bits: what the choice of experts tells of word, place and task in the test rows, the
mean over linears, bias removed; in brackets the untrained router's on the same input. Accuracy: of the test rows, then with gates
exchanged over tokens, over texts, and for their mean, without training again (`mosld.training.inspector`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mosld.config import ConfigError, RunConfig
from mosld.counting import duration
from mosld.probes.seeds import interval

LINES: dict[str, dict] = {
    "each token": {},
    "each token, never trained": {"router": "random"},
    "the mean of the text": {"router": "text"},
    "the instruction, rate x 10": {"router": "instruction", "router_lr": 10.0},
    "which task it is": {"router": "task"},
    "the token's id": {"router": "hash"},
    "nothing": {"router": "uniform"},
    "the text, top-1, not renormalised": {"router": "text", "top_k": 1, "renormalise": "no"},
}
BASE = {"steps": 400, "probe_every": 1000, "eval_rows": 300, "arms": ""}
LABELS = ("word", "place", "task")


def configurations(values: dict, seeds: int, lines: dict[str, dict] = LINES) -> dict[tuple[str, int], RunConfig]:
    """(line, seed) -> its run. Raises ConfigError."""
    out = {}
    for label, own in lines.items():
        for n in range(seeds):
            config = RunConfig(**{**BASE, **values, **own})
            out[label, n] = config.replace(seed=config.seed + n, eval_every=config.steps)
    return out


def run(config: RunConfig, file: Path) -> dict:
    """What one run found, from its file where it is there already."""
    settings = config.model_dump(mode="json")
    if file.is_file() and (kept := json.loads(file.read_text()))["config"] == settings:
        return kept
    from mosld.training import Trainer
    from mosld.training.inspector import contribution

    trainer = Trainer(config)
    for _ in trainer.frames():
        pass
    probes = [p for p in trainer.log.frames[-1].arms[0].linears or [] if p.reads]
    found = {
        "config": settings,
        "linears": [{"reads": p.reads, "null": p.null, "most": p.most, "effective_load": p.effective_load} for p in probes],
        "accuracy": contribution(trainer, rows=config.eval_rows, part="test")["accuracy"],
        "untrained": trainer.log.untrained,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def say(text: str) -> None:
    """A line that is seen at once, also through a pipe."""
    print(text, flush=True)


def study(values: dict, seeds: int, out: Path, jobs: int = 1, lines: dict[str, dict] = LINES, tell=say) -> dict[tuple[str, int], dict]:
    """All runs, `jobs` at a time, each on one thread."""
    from joblib import Parallel, delayed, parallel_config

    configs, order = configurations(values, seeds, lines), list({**LINES, **lines})  # a line's file has one name, whichever lines are asked for
    one = next(iter(configs.values()))
    took = duration(one, sum(c.steps for c in configs.values()), min(jobs, 2))
    tell(f"{len(configs)} runs of {one.steps} steps, {jobs} at a time: {took} on two cores; finished ones in {out} are kept.")
    files = {key: out / f"{order.index(key[0])}-{key[1]}.json" for key in configs}
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        found = Parallel(return_as="generator")(delayed(run)(configs[key], files[key]) for key in configs)
        results = {}
        for key, result in zip(configs, found, strict=True):
            results[key] = result
            tell(f"{len(results)} of {len(configs)} runs done: {key[0]}, seed {key[1]}")
    return results


def table(results: dict[tuple[str, int], dict]) -> str:
    """The table in Markdown."""
    labels, seeds = list(dict.fromkeys(label for label, _ in results)), sorted({n for _, n in results})
    ways = ["as it is", "tokens", "texts", "mean"]
    head = ["the router reads", "most", *(f"bits: {n}" for n in LABELS), "accuracy", *(f"gates over {w}" for w in ways[1:3]), "mean gates"]
    rows = [head, ["---"] * len(head)]
    for label in labels:
        runs = [results[label, n] for n in seeds]
        cells = [label, f"{np.mean([p['most'] for r in runs for p in r['linears']]):.2g}"]
        for i, _ in enumerate(LABELS):
            told, null = ([_over(p[k] and p[k][i] for p in r["linears"]) for r in runs] for k in ("reads", "null"))
            cells.append(_number(told, 3) + ("" if np.isnan(null).all() else f" ({np.nanmean(null):.3f})"))
        cells += [_number([np.mean(list(r["accuracy"][way].values())) for r in runs], 3) for way in ways]
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _over(values) -> float:
    """Mean over the linears that have a value."""
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else np.nan


def _number(values: list[float], digits: int) -> str:
    mean, low, high = interval(values)
    return f"{mean:.{digits}f}" + (f" ± {(high - low) / 2:.{digits}f}" if np.isfinite(low) else "")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mosld.studies.routers", description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each line (5)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (1)")
    parser.add_argument("--out", type=Path, default=Path("runs/routers"), help="folder of the results (runs/routers)")
    parser.add_argument("--lines", default="", help="some lines only, by their numbers from 0, as in 0,2,3")
    args, rest = parser.parse_known_args(argv)
    try:
        if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
            raise ConfigError(f"settings: '{' '.join(rest)[:60]}' is not of the form --name value.")
        values = {name[2:].replace("-", "_"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
        names = list(LINES)
        picked = [names[int(i)] for i in args.lines.split(",")] if args.lines else names
        results = study(values, args.seeds, args.out, args.jobs, {n: LINES[n] for n in picked})
    except (ConfigError, IndexError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(table(results))


if __name__ == "__main__":
    main()
