"""python -m benchmarks vanish: visitors press Run and are gone; the server lets go of what they left. Loopback only, bounded in number and time.

Starts `python app.py`, lets so many press Run and close: three of four at their first picture, the others at once, with their answers unread. Then it
looks at what stays: runs under way, their files (each as far as its last frame), memory, and whether somebody new is served. The exit status is 1
where a promise of docs/hosting.md does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from pathlib import Path

import httpx

from benchmarks.load import MEMORY, _first, join, start_run
from benchmarks.served import Server, served

MOST_STARTS, AT_ONCE = 400, 24  # with those whose closed page is not yet missed they find room in the line
PATIENCE = 120  # seconds for each of what must happen in the end: a run's page is missed after 20, and then its step is finished


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks vanish", description=__doc__.partition(": ")[2])
    parser.add_argument("--starts", type=int, default=200, help=f"who press Run and leave, up to {MOST_STARTS}; default 200")
    parser.add_argument("--seconds", type=float, default=300, help="at most so long, up to 600; default 300")
    given = parser.parse_args(arguments)
    if not 1 <= given.starts <= MOST_STARTS or not 1 <= given.seconds <= 600:
        parser.error(f"give up to {MOST_STARTS} starts and 600 seconds")
    print(f"vanish: {given.starts} press Run and leave, {AT_ONCE} at once; at most {given.seconds:.0f} s", flush=True)
    began = time.monotonic()
    with served() as server:
        wrong = asyncio.run(_leave(server, given.starts, time.monotonic() + given.seconds))
    print(f"{time.monotonic() - began:.0f} s")
    if wrong:
        raise SystemExit("\n".join(wrong))


async def _leave(server: Server, starts: int, end: float) -> list[str]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        which = await start_run(client)
        if await _first(client, which, max(end, time.monotonic() + PATIENCE)) is None:
            return ["vanish: there is no first picture."]
        before = server.memory()
        done, seen = 0, []
        while done < starts and time.monotonic() < end:
            many = range(done, min(done + AT_ONCE, starts))
            seen += await asyncio.gather(*(_vanish(server.url, which, n % 4 == 0, end) for n in many))
            done = many.stop
        left = time.monotonic()
        runs = await _empty(client, max(end, left + PATIENCE))
        empty, after = time.monotonic() - left, server.memory()
        first = await _first(client, which, max(end, time.monotonic() + PATIENCE))
        server.check()
        await _empty(client, time.monotonic() + PATIENCE)
        kept, lost = await asyncio.to_thread(on_disk, server.runs)
    print(f"{done} starts, {seen.count('picture')} of them to the first picture; {runs} runs under way {empty:.0f} s later")
    print(f"{kept} runs on disk, {lost} of them not whole; memory {before} MB before, {after} MB after")
    print(f"a new run's first picture: {'none' if first is None else f'{first:.1f} s'}", flush=True)
    wrong = ["vanish: no run came to its first picture."] if not seen.count("picture") else []
    wrong += [f"vanish: {lost} runs on disk are not whole."] if lost else []
    wrong += [f"vanish: {runs} runs are under way though nobody is there."] if runs else []
    wrong += [f"vanish: the memory grew by {after - before} MB, more than {MEMORY}."] if after - before > MEMORY else []
    return wrong + (["vanish: nobody new is served."] if first is None else [])


async def _empty(client: httpx.AsyncClient, end: float) -> int:
    """How many runs are under way, once there is none or the time is over."""
    while (runs := (await client.get("/lab/health")).json()["runs"]) and time.monotonic() < end:
        await asyncio.sleep(1)
    return runs


async def _vanish(url: str, which: int, unread: bool, end: float) -> str:
    """Press Run and be gone: before anything is read, or at the first picture."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as client:
            await client.get("/")
            if not unread:
                return "picture" if await _first(client, which, end) is not None else "none"
            await join(client, which, 100, secrets.token_hex(8))
    except httpx.TransportError:
        pass
    return "unread"


def on_disk(folder: Path) -> tuple[int, int]:
    """How many runs are on disk, and of how many the last frame has no checkpoint: those would lose steps."""
    from mosld.training import RunLog, checkpoint

    runs = [path.parent for path in folder.glob("mosld-sessions-*/s-*/run-*/run.json")]
    ends = [(checkpoint.step(run), RunLog.load(run).frames) for run in runs]
    return len(runs), sum(not frames or step != frames[-1].step for step, frames in ends)
