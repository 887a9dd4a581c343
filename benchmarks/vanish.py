"""python -m benchmarks vanish: visitors press Run and are gone; the server lets go of what they left. Loopback only, bounded in number and time.

Starts `python app.py`, lets so many press Run and close at once, some of them with their answers unread, and then looks at what stays: runs under
way, memory, and whether somebody new is served. The exit status is 1 where a promise of docs/hosting.md does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time

import httpx

from benchmarks.load import _first, join, start_run
from benchmarks.served import Server, served

MOST_STARTS, AT_ONCE = 400, 40
MEMORY = 150  # megabytes above what the server held with one run behind it
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
        wrong = asyncio.run(_leave(server, given.starts, began + given.seconds))
    print(f"{time.monotonic() - began:.0f} s")
    if wrong:
        raise SystemExit("\n".join(wrong))


async def _leave(server: Server, starts: int, end: float) -> list[str]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        which = await start_run(client)
        if await _first(client, which, max(end, time.monotonic() + PATIENCE)) is None:
            return ["vanish: there is no first picture."]
        before = server.memory()
        done = 0
        while done < starts and time.monotonic() < end:
            many = min(AT_ONCE, starts - done)
            await asyncio.gather(*(_vanish(server.url, which) for _ in range(many)))
            done += many
        left = time.monotonic()
        while (runs := (await client.get("/lab/health")).json()["runs"]) and time.monotonic() < max(end, left + PATIENCE):
            await asyncio.sleep(1)
        empty, after = time.monotonic() - left, server.memory()
        first = await _first(client, which, max(end, time.monotonic() + PATIENCE))
        server.check()
    print(
        f"{done} starts; {runs} runs under way {empty:.0f} s later; memory {before} MB before, {after} MB after; a new run's first picture: ", end=""
    )
    print("none" if first is None else f"{first:.1f} s", flush=True)
    wrong = [f"vanish: {runs} runs are under way though nobody is there."] if runs else []
    wrong += [f"vanish: the memory grew by {after - before} MB, more than {MEMORY}."] if after - before > MEMORY else []
    return wrong + (["vanish: nobody new is served."] if first is None else [])


async def _vanish(url: str, which: int) -> None:
    """Press Run and be gone: nobody reads what it answers."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=20, verify=False) as client:
            await client.get("/")
            await join(client, which, 100, secrets.token_hex(8))
    except httpx.TransportError:
        pass
