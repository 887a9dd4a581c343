"""python -m benchmarks fuzz: odd texts, links, configurations, files and calls, thousands of them. Loopback only, bounded in number and time.

First the property tests of `tests/test_odd_texts.py` with so many cases each, new ones every time; then so many junk calls to every endpoint of
`python app.py`, named and unnamed. The exit status is 1 where something was neither taken nor refused in a sentence: what hypothesis prints is
the case, to be kept there as an example.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

import httpx

from benchmarks.served import ROOT, Server, served

MOST_CASES, MOST_CALLS, AT_ONCE = 20_000, 20_000, 8
JUNK = ["", " ", "²", "\ud800", "\x00", "1e999", "9" * 5000, "${alert(1)}", "`", "../../etc/passwd", "<b>", "a,,b", "[" * 3000, "?c=1!tg.%24%7B1%7D"]
VALUES = [None, True, -1, 0, 10**30, 1.5, [], {}, [[1]], {"self": 1}, {"tasks": [[1]]}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks fuzz", description=__doc__.partition(": ")[2])
    parser.add_argument("--cases", type=int, default=2000, help=f"of each property, up to {MOST_CASES}; default 2000")
    parser.add_argument("--calls", type=int, default=1500, help=f"to the server, up to {MOST_CALLS}; default 1500")
    parser.add_argument("--seed", type=int, help="of the calls; default a new one, which is printed")
    parser.add_argument("--seconds", type=float, default=600, help="at most so long, up to 3600; default 600")
    given = parser.parse_args(arguments)
    if not 0 <= given.cases <= MOST_CASES or not 0 <= given.calls <= MOST_CALLS or not 1 <= given.seconds <= 3600:
        parser.error(f"give up to {MOST_CASES} cases, {MOST_CALLS} calls and 3600 seconds")
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"fuzz: {given.cases} cases of each property, {given.calls} calls of seed {seed}; at most {given.seconds:.0f} s", flush=True)
    began, failed = time.monotonic(), False
    if given.cases:
        failed = _properties(given.cases, given.seconds)
        print(f"properties: {time.monotonic() - began:.0f} s", flush=True)
    if given.calls:
        at = time.monotonic()
        with served() as server:
            wrong, told = asyncio.run(_calls(server, given.calls, random.Random(seed), began + given.seconds))
        kinds = ", ".join(f"{n} with status {status}" for status, n in sorted(told.items()))
        print(
            f"{sum(told.values())} calls answered ({kinds}), {len(wrong)} wrongly: {time.monotonic() - at:.0f} s", *wrong[:10], sep="\n", flush=True
        )
        failed |= bool(wrong)
    if failed:
        raise SystemExit(1)


def _properties(cases: int, seconds: float) -> bool:
    environ = {**os.environ, "MOSLD_CASES": str(cases)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--durations=0", "-p", "no:cacheprovider", "tests/test_odd_texts.py"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        print("properties: the time is over before the cases are; nothing was found so far.")
        return False
    if done.returncode:
        print(done.stdout[-6000:])
    return bool(done.returncode)


async def _calls(server: Server, calls: int, rng: random.Random, end: float) -> tuple[list[str], Counter]:
    """What was wrong with an answer, and how many answers there were of each status."""
    wrong: list[str] = []
    secrets = (str(ROOT), str(server.runs), "Traceback (most")
    sent, told = 0, Counter()
    # A connection a call: one that rested while others were slow may be closed by the server just as it is used again.
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        endpoints = [(d["id"], d.get("api_name"), len(d["inputs"])) for d in (await client.get("/config")).json()["dependencies"] if d["backend_fn"]]

        async def one() -> None:
            nonlocal sent
            which, name, inputs = rng.choice(endpoints)
            path, body = _call(rng, which, inputs)
            sent += 1
            try:
                answer = await client.post(path, content=body.encode("utf-8", "surrogatepass"), headers={"content-type": "application/json"})
            except httpx.TransportError as problem:
                wrong.append(f"{path} {name}: no answer ({type(problem).__name__}) to {body[:300]!r}")
                return
            told[answer.status_code] += 1
            for leaked in (s for s in secrets if s in answer.text):
                wrong.append(f"{path} {name}: {leaked!r} is in the answer to {body[:300]!r}: {answer.text[:300]!r}")

        while sent < calls and time.monotonic() < end and not wrong:
            await asyncio.gather(*(one() for _ in range(min(AT_ONCE, calls - sent))))
        await asyncio.sleep(1)
        server.check()
        if (health := (await client.get("/lab/health")).json()).get("ok") is not True:
            wrong.append(f"/lab/health says {health}")
    for fault in server.words(10**7).split("Traceback (most recent call last):")[1:]:  # not Gradio's own, which the guard hands on
        ours, ends = (
            re.findall(r'File "[^"]*/(mosld/(?!ui/guard)[^"]*", line \d+)', fault),
            re.findall(r"^\w[\w.]*(?:Error|Exception|Group)\b.*", fault, re.M),
        )
        if ours:
            wrong.append(f"the server's log has a fault at {ours[-1]}: {' '.join(ends[:1])[:300]}")
    return wrong, told


def _call(rng: random.Random, which: int, inputs: int) -> tuple[str, str]:
    """A path and a body that is no honest caller's."""
    import json

    def value(depth: int = 0):
        kind = rng.random()
        if kind < 0.45:
            return rng.choice(JUNK)
        if kind < 0.8 or depth > 2:
            return rng.choice(VALUES)
        if kind < 0.9:
            return [value(depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice(JUNK): value(depth + 1) for _ in range(rng.randrange(3))}

    count = inputs if rng.random() < 0.8 else rng.randrange(inputs + 3)
    session = rng.choice(["fuzz", "fuzz2", "", None, 5, "\ud800", "x" * 4000])
    body = {"data": [value() for _ in range(count)], "fn_index": which if rng.random() < 0.95 else value(), "session_hash": session}
    path = rng.choices(["/gradio_api/run/predict", "/gradio_api/queue/join", "/lab/news", "/gradio_api/reset"], [8, 1, 1, 1])[0]
    text = json.dumps(body) if path != "/lab/news" else json.dumps({"key": value(), "run": value(), "at": value(), "mark": value()})
    return path, text if rng.random() < 0.95 else text[: rng.randrange(len(text))]
