"""Runs of the study: which are wanted, which are there, and the processes that make the rest.

- `wanted(ids, setting, ...)`: the runs that some claims need in a setting, in waves: later waves rest on the rates that earlier ones chose.
- `train(jobs, device, ...)`: one stack of runs, from nothing to records.
- `study(...)`: every wave, by joblib's processes or on a Dask cluster, until all is done or the deadline has come.

A run is found by the hash of its configuration, so what is there is not made again.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from mosld.config import ConfigError
from mosld.studies.claims import CLAIMS
from mosld.studies.claims.arms import ARMS, jobs
from mosld.studies.claims.claim import Setting
from mosld.studies.claims.job import Job
from mosld.studies.claims.results import TUNING, add, load, measure, plan_hash

CORE = ("C4", "C11", "C2", "C3", "C9")  # run to the end, tuned too, before the others begin
PROBES = 20  # of imbalance in a run
DRAWN = ("MoSL", "MoSLD")  # whose imbalance is kept probe by probe
THOROUGH = ("MoSLD", *(a for a in ARMS if a.startswith("router ")))  # whose gates are also disturbed, and asked what they know
WIDENED = 2  # times that the grid of an arm may grow by two rates where the best is at its edge


@dataclass(frozen=True)
class Wish:
    """A run that is wanted, and for which arm."""

    arm: str
    job: Job


# which runs


def _of(arms: Iterable[str], setting: Setting, seeds: Iterable[int], rates: dict[str, float] | None = None) -> list[Wish]:
    seeds = list(seeds)
    return [
        Wish(arm, job) for arm in arms if rates is None or arm in rates for s in seeds for job in jobs(setting, arm, s, rates[arm] if rates else None)
    ]


def seeds_of(ids: Iterable[str], setting: Setting, arm: str, reading: str) -> int:
    """Test seeds of an arm: as many as the claim that asks for most."""
    return max([max(CLAIMS[i].seeds, setting.seeds) for i in ids if setting.name in CLAIMS[i].settings and arm in CLAIMS[i].arms(reading)], default=0)


def test_arms(ids: Iterable[str], setting: Setting, reading: str) -> list[str]:
    """The arms that some claims need in a setting, most wanted first. SmolLM2 is given the contrasts that decide alone."""
    if reading == "tuned" and not setting.tuned:
        return []
    chosen = [CLAIMS[i] for i in ids if setting.name in CLAIMS[i].settings and reading in CLAIMS[i].readings]
    names = dict.fromkeys(a for c in chosen for a in c.arms(reading, further=False))
    if setting.backbone != "smollm2":
        names |= dict.fromkeys(a for c in chosen for a in c.arms(reading))
    return list(names)


def grid(setting: Setting, arm: str, known: dict[str, dict]) -> tuple[list[float], float | None]:
    """Rates tried for an arm so far or next, and the best where all are there and it is not at an edge that may still be widened."""
    rates = list(setting.grid)
    for turn in range(WIDENED + 1):
        scores = {r: tuning_score(setting, arm, r, known) for r in rates}
        if None in scores.values():
            return rates, None
        best = max(scores, key=scores.get)
        if best not in (min(rates), max(rates)) or turn == WIDENED:
            return rates, best
        step = 0.5 if best == min(rates) else 2.0
        rates += [float(f"{best * step:.4g}"), float(f"{best * step**2:.4g}")]
    return rates, None


def tuning_score(setting: Setting, arm: str, rate: float, known: dict[str, dict]) -> float | None:
    """Mean validation log-probability over the tuning seeds, None where some are missing."""
    records = [known.get(j.key) for s in setting.tuning_seeds for j in jobs(setting, arm, s, rate)]
    values = [measure(r, "validation") for r in records if r]
    return sum(values) / len(values) if len(values) == len(records) else None


def waves(ids: Sequence[str], setting: Setting, known: dict[str, dict]) -> Iterator[tuple[str, list[Wish]]]:
    """(name, runs) of each wave. `known` is read anew before each, so let it grow in between."""
    core = [i for i in ids if i in CORE] or list(ids)
    rest = [i for i in ids if i not in core]

    def recipe(of: Sequence[str]) -> list[Wish]:
        return [w for a in test_arms(of, setting, "recipe") for w in _of([a], setting, range(seeds_of(of, setting, a, "recipe")))]

    def tuning(of: Sequence[str]) -> list[Wish]:
        out = []
        for arm in test_arms(of, setting, "tuned"):
            rates, best = grid(setting, arm, known)
            out += [] if best else [w for rate in rates for w in _of([arm], setting, setting.tuning_seeds, {arm: rate})]
        return out

    def tuned(of: Sequence[str]) -> list[Wish]:
        out = []
        for arm in test_arms(of, setting, "tuned"):
            best = grid(setting, arm, known)[1]
            if best:
                out += _of([arm], setting, range(seeds_of(of, setting, arm, "tuned")), {arm: best})
        return out

    yield "recipe and tuning", recipe(core) + tuning(core)
    yield "recipe of the rest", tuning(core) + recipe(rest)
    yield "tuned, tuning of the rest", tuning(core) + tuned(core) + tuning(rest)
    yield "tuned", tuned(core) + tuning(rest)
    yield "tuned, the rest", tuning(rest) + tuned(core) + tuned(rest)
    yield "the last", tuned(core) + tuned(rest)


def quick_wishes(ids: Sequence[str], setting: Setting) -> list[Wish]:
    """The arms that decide, at the recipe's rate, with the setting's seeds."""
    arms = dict.fromkeys(a for i in ids for a in CLAIMS[i].arms("recipe", further=False))
    return [w for a in arms for w in _of([a], setting, range(setting.seeds))]


def missing(wishes: Iterable[Wish], known: dict[str, dict]) -> list[Wish]:
    """Those that are not there yet, each once."""
    out: dict[str, Wish] = {}
    for w in wishes:
        if w.job.key not in known:
            out.setdefault(w.job.key, w)
    return list(out.values())


def stacks(wishes: Sequence[Wish], width: int) -> list[list[Wish]]:
    """Runs that can be trained together, at most `width`, in the order in which the first of them is wanted. Tuning and test seeds stay apart."""
    from mosld.studies.claims.stack import stackable, structure

    groups: dict[tuple, list[Wish]] = {}
    for w in wishes:
        if not stackable(w.job.config):
            raise ConfigError(f"arm: '{w.arm}' cannot be stacked; a claim's arms are LoRA, MoLA, HydraLoRA, MTL-LoRA and MoSLD in its readings.")
        groups.setdefault((w.arm, structure(w.job), w.job.config.seed >= TUNING), []).append(w)  # so that stacks have seeds, and batches, in common
    cut = [(group[i : i + width]) for group in groups.values() for i in range(0, len(group), width)]
    place = {id(w): n for n, w in enumerate(wishes)}
    return sorted(cut, key=lambda group: place[id(group[0])])


# one stack


def environment(device: str) -> dict:
    """Versions, processor and card, and the plan that the runs are made under."""
    import torch

    names = ("torch", "transformers", "numpy")
    out = {"python": platform.python_version(), **{n: version(n) for n in names}, "machine": platform.machine(), "cores": os.cpu_count()}
    if device.startswith("cuda"):
        out |= {"device": torch.cuda.get_device_name(device), "products": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "float32"}
    else:
        out["device"] = "cpu"
    return out


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


_backbones: dict[tuple, object] = {}


def _backbone(job: Job, device: str):
    from mosld import backbones

    c = job.config
    key = (c.backbone, c.layers, c.max_tokens, c.temperature, device)
    if key not in _backbones:
        _backbones[key] = backbones.load(c.backbone, c.layers, c.max_tokens, c.temperature)
        _backbones[key].model.to(device)
    return _backbones[key]


def train(group: Sequence[Wish], setting: Setting, device: str = "cpu", deadline: float = math.inf) -> list[dict]:
    """Train a stack and measure its runs: one record each; none where the deadline (seconds since the epoch) comes first."""
    import torch

    from mosld.studies.claims.feed import feed_of
    from mosld.studies.claims.stack import Stack

    began, clock = _now(), time.perf_counter()
    torch.backends.cuda.matmul.allow_tf32 = device.startswith("cuda")
    runs = [w.job for w in group]
    backbone = _backbone(runs[0], device)
    feed = feed_of(runs, backbone, device, setting.scored)
    stack = Stack(runs, backbone, device)
    steps = runs[0].config.steps
    every = max(1, steps // PROBES)
    for step in range(steps):
        if time.time() > deadline:
            return []
        stack.train(feed.batch(step), probing=(step + 1) % every == 0)
    test = runs[0].config.seed < TUNING
    scored = {}
    for part in ("validation", "test", "train", "held_out") if test else ("validation",):
        if part != "held_out" or runs[0].config.held_out:
            parts, names = feed.parts(part)
            right, likely = stack.answers(parts)
            scored[part] = [_by_task(*values) for values in zip(names, right, likely, strict=True)]
    more: dict[str, list] = {}
    if test:
        if group[0].arm == "MoSLD":  # the same for every arm
            more["untrained"] = _untrained(feed, stack)
        if group[0].arm in THOROUGH and stack.linears[0].experts > 1:
            parts, _ = feed.parts("some")
            shares = {
                by: [sum(r) / len(r) for r in stack.answers(parts, "" if by == "none" else by)[0]] for by in ("none", "tokens", "texts", "mean")
            }
            more["disturbed"] = [{by: round(v[s], 5) for by, v in shares.items()} for s in range(len(runs))]
            if "world/" in next(iter(runs[0].config.tasks)):
                more["information"] = [[round(b, 5) for b in bits] for bits in stack.information(parts, len(runs[0].config.tasks))]
    losses = torch.stack(stack.losses).cpu()  # [steps, S]
    imbalance = [(step, values.cpu()) for step, values in stack.imbalance]
    seconds = (time.perf_counter() - clock) / len(runs)
    env = {**environment(device), "backbone": backbone.source}
    out = []
    for s, (wish, job) in enumerate(zip(group, runs, strict=True)):
        record = {"key": job.key, "setting": setting.name, "arm": wish.arm, "seed": job.config.seed, "lr": job.config.lr, "settings": job.settings}
        record |= {"config_steps": steps, "parameters": stack.parameters, "data": feed.digest(s)}
        record |= {part: values[s] if part in ("test", "held_out") else _mean(values[s]) for part, values in scored.items()}
        record |= {name: values[s] for name, values in more.items()}
        record["loss"] = _number(losses[-max(1, steps // 10) :, s].mean())
        record["diverged"] = not bool(losses[:, s].isfinite().all())
        if test:
            record["imbalance"] = _imbalance([(step, values[s]) for step, values in imbalance], steps, wish.arm in DRAWN)
        out.append(record | {"began": began, "seconds": round(seconds, 2), "stacked": len(runs), "plan": plan_hash(), "env": env})
    return out


def _imbalance(probes: Sequence[tuple], steps: int, whole: bool) -> list[list]:
    """[[step, four definitions]]: every probe, or where it is not `whole` one row, the mean over the last half."""
    import torch

    if whole:
        return [[step, *(_number(v, 3) for v in values)] for step, values in probes]
    last = torch.stack([values for step, values in probes if step > steps / 2] or [torch.full((4,), torch.nan)])
    return [[steps, *(_number(v, 4) for v in last.nanmean(0))]]


def _mean(values: dict[str, list[float]]) -> list[float]:
    """Over the tasks, of both numbers."""
    return [round(sum(v[i] for v in values.values()) / len(values), 5) for i in (0, 1)]


def _number(value, digits: int = 5) -> float | None:
    value = float(value)
    return round(value, digits) if math.isfinite(value) else None


def _by_task(names: Sequence[str], right: Sequence[bool], likely: Sequence[float]) -> dict[str, list[float]]:
    """Task -> [share answered right, mean log-probability of the right option]."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return {n: [round(sum(of[i] for i in own) / len(own), 4) for of in (right, likely)] for n, own in rows.items()}


def _untrained(feed, stack) -> list[dict[str, float]]:
    """Accuracy of the bare backbone on the test rows and the held-out ones; the same for every adapter, so it is worked out once a feed."""
    if feed._untrained is None:
        out: list[dict] = [{} for _ in feed.jobs]
        for part in ("test", "held_out") if feed.jobs[0].config.held_out else ("test",):
            parts, names = feed.parts(part)
            right, likely = stack.answers(parts, bare=True)
            for s in range(len(out)):
                out[s] |= {name: values[0] for name, values in _by_task(names[s], right[s], likely[s]).items()}
        feed._untrained = out
    return feed._untrained


# many stacks


def work(group: Sequence[Wish], setting: Setting, devices: Sequence[str], deadline: float, folder: str) -> tuple[list[dict], str]:
    """What a process does with one stack: train it, keep it as a file, give back its records and what went wrong, if anything.

    A stack that does not fit into memory is cut in two.
    """
    import torch

    torch.set_num_threads(1)
    if time.time() > deadline:
        return [], ""
    device = _device(devices, Path(folder))
    try:
        records = train(group, setting, device, deadline)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        if len(group) == 1:
            return [], f"{group[0].arm}: one run alone does not fit into the memory of {device}."
        halves = [work(half, setting, devices, deadline, folder) for half in (group[: len(group) // 2], group[len(group) // 2 :])]
        return halves[0][0] + halves[1][0], "; ".join(filter(None, (halves[0][1], halves[1][1])))
    except Exception as problem:  # one stack that fails must not end the study; the caller names it
        return [], f"{group[0].arm}, seed {group[0].job.config.seed}: {type(problem).__name__}: {str(problem)[:300]}"
    if records:
        add(Path(folder), f"{records[0]['key']}-{len(records)}", records)
    return records, ""


_mine: list[str] = []


def _device(devices: Sequence[str], folder: Path) -> str:
    """The device of this process: the next one that no other process of the study has taken."""
    if not _mine:
        for place in range(1000):
            try:
                os.close(os.open(folder / f".place-{os.getppid()}-{place}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            _mine.append(devices[place % len(devices)])
            break
    return _mine[0]


def study(
    ids: Sequence[str],
    setting: Setting,
    folder: Path,
    devices: Sequence[str] = ("cpu",),
    processes: int = 1,
    width: int | None = None,
    deadline: float = math.inf,
    cluster: str = "",
    once: bool = False,
    progress: Callable[[str], object] = print,
    watch: Callable[[int, int], object] = lambda done, of: None,
) -> dict[str, dict]:
    """Every run that `ids` need in `setting` and that `folder` does not hold; returns all it holds then, by key.

    Args:
        devices: of the processes, in turn. processes: that train side by side. width: runs stacked at most; one on a CPU, the setting's elsewhere.
        cluster: address of a Dask scheduler, whose workers then do the work and write nothing. once: the recipe's rate alone, what decides alone.
        progress: told what went wrong with a stack. watch: told how many runs of a wave are done, and of how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width = width or (1 if devices[0] == "cpu" else setting.width)
    known, failed = load(folder), set()
    for name, wishes in [("quick", quick_wishes(ids, setting))] if once else waves(ids, setting, known):
        groups = [g for g in stacks(missing(wishes, known), width) if g[0].job.key not in failed]
        if not groups or time.time() > deadline:
            continue
        done = 0
        for group, (records, problem) in _all(groups, setting, devices, processes, deadline, folder, cluster, name):
            done += len(group)
            watch(done, sum(map(len, groups)))
            if problem:
                failed.add(group[0].job.key)
                progress(problem)
            if cluster:
                add(folder, f"{group[0].job.key}-{len(group)}", records)
            known |= {r["key"]: r for r in records}
    return known


def _all(groups, setting, devices, processes, deadline, folder, cluster, name) -> Iterator[tuple[list[Wish], tuple[list[dict], str]]]:
    """(stack, what it came to) as they are done, with a progress bar that says how long the rest will take."""
    from tqdm import tqdm

    bar = tqdm(total=sum(map(len, groups)), desc=f"{setting.title}: {name}", unit="run", disable=None, mininterval=1)
    with bar:
        for group, result in (_dask if cluster else _joblib)(groups, setting, devices, processes, deadline, folder, cluster):
            bar.update(len(group))
            yield group, result


def _joblib(groups, setting, devices, processes, deadline, folder, _):
    if processes == 1:
        for group in groups:
            yield group, work(group, setting, devices, deadline, str(folder))
        return
    from joblib import Parallel, delayed, parallel_config

    def one(group):
        return group, work(group, setting, devices, deadline, str(folder))

    with parallel_config("loky", n_jobs=processes, inner_max_num_threads=1):
        yield from Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")(delayed(one)(g) for g in groups)


def _dask(groups, setting, devices, processes, deadline, folder, cluster):
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ConfigError("cluster: the package distributed is missing; install it with `pip install distributed`.") from None
    with Client(cluster, timeout=20) as client:
        # a worker that is lost takes its stack with it: the scheduler hands the stack to another
        futures = {client.submit(train, g, setting, "cpu", deadline, pure=False, retries=2): g for g in groups}
        for future in as_completed(futures):
            group = futures[future]
            if future.status == "finished":
                yield group, (future.result(), "")
            else:
                yield group, ([], f"{group[0].arm}, seed {group[0].job.config.seed}: {future.exception()!r:.300}")
