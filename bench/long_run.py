"""`python -m bench.long_run`: a long run of one cluster, and a member that was down for most of it.

`increments`: journal and memory stay bounded, a killed member restarts at once, and one that was down catches up
by snapshot while load goes on. `large`: a key-value state of many megabytes is fetched by a member, while another
client measures how long its calls take. Three replicas as processes on loopback, journals on the disk of `--folder`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from statemachine import Counter, KeyValueStore
from viewstamp.cli.demo.members import Members
from viewstamp.cli.poll import poll, primary_of
from viewstamp.shell.client import Client, open_client

_TASKS = 500
_VALUE_BYTES = 100_000
_WRITERS = 4
_CAUGHT_UP_WITHIN_S = 120.0
_CONSOLE = Console()


def size_of(folder: Path) -> int:
    """Bytes in a member's directory."""
    if not folder.is_dir():
        return 0
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())


async def wait_caught_up(client: Client, members: Members, member: int) -> float:
    """Seconds until this member is within a moment's load of the others."""
    began = time.perf_counter()
    with trio.fail_after(_CAUGHT_UP_WITHIN_S):
        while True:
            seen = await poll(client, members.ids, 0.5)
            if member in seen and len(seen) == len(members.ids):
                newest = max(each.status.commit for each in seen.values())
                if seen[member].status.applied > newest - 2000:
                    return time.perf_counter() - began
            await trio.sleep(0.05)


async def increments(members: Members, total: int) -> None:
    """So many increments from many tasks; one member is down for four fifths of them."""
    begun = answered = peak = 0
    async with open_client(members.cluster, Counter) as client:
        await client.call(Counter.add, 0)
        seen = await poll(client, members.ids, 1.0)
        primary = primary_of(each.status for each in seen.values())
        down = next(each for each in members.ids if primary is None or each != primary.member)
        await members.kill(down)
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=_CONSOLE, transient=True) as progress:
            task = progress.add_task("increments", total=total)

            async def work() -> None:
                nonlocal begun, answered
                while begun < total:
                    begun += 1
                    await client.call(Counter.add, 1)
                    answered += 1

            async def watch() -> None:
                nonlocal peak
                started = False
                while answered < total:
                    await trio.sleep(0.25)
                    up = [each for each in members.ids if each != down]
                    peak = max(peak, *(size_of(members.data(each)) for each in up))
                    progress.update(task, completed=answered)
                    if not started and answered > 0.8 * total:
                        started = True
                        await members.start(down)
                        took = await wait_caught_up(client, members, down)
                        _CONSOLE.print(f"member {down}, down for {answered:,} increments, caught up in {took:.2f} s")

            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                for _ in range(_TASKS):
                    nursery.start_soon(work)
            took = time.perf_counter() - began
        value = await client.read(Counter.get)
        _CONSOLE.print(f"{total:,} increments in {took:.1f} s ({total / took:,.0f}/s); the counter is {value:,}")
        _CONSOLE.print(f"largest directory of a member: {peak / 1e6:.1f} MB")
        await members.kill(down)
        began = time.perf_counter()
        await members.start(down)
        while down not in await poll(client, (down,), 0.1):
            continue
        _CONSOLE.print(f"a killed member answers {time.perf_counter() - began:.2f} s after its start")


async def large(members: Members, megabytes: int) -> None:
    """A state of so many megabytes, fetched by a member, beside a client that writes one small value over and over."""
    phases: dict[str, list[float]] = {}
    phase, over = "while it is written", False
    async with (
        open_client(members.cluster, KeyValueStore) as client,
        open_client(members.cluster, KeyValueStore) as other,
    ):
        await client.call(KeyValueStore.put, "first", b"")
        seen = await poll(client, members.ids, 1.0)
        primary = primary_of(each.status for each in seen.values())
        down = next(each for each in members.ids if primary is None or each != primary.member)
        await members.kill(down)
        remaining = list(range(megabytes * 1_000_000 // _VALUE_BYTES))

        async def ping() -> None:
            while not over:
                began = time.perf_counter()
                await other.call(KeyValueStore.put, "ping", b"0123456789abcdef")
                phases.setdefault(phase, []).append(time.perf_counter() - began)
                await trio.sleep(0.002)

        async def write() -> None:
            while remaining:
                await client.call(KeyValueStore.put, f"key-{remaining.pop()}", os.urandom(_VALUE_BYTES))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            async with trio.open_nursery() as writers:
                for _ in range(_WRITERS):
                    writers.start_soon(write)
            phase = "idle"
            await trio.sleep(2)
            phase = "while it is fetched"
            await members.start(down)
            took = await wait_caught_up(client, members, down)
            phase = "afterwards"
            await trio.sleep(2)
            over = True
        seen = await poll(client, members.ids, 1.0)
        pauses = [each.status.snapshot.pause_ns / 1e6 for each in seen.values()]
    _CONSOLE.print(
        f"{megabytes} MB caught up in {took:.1f} s; taking snapshots held a loop for {max(pauses):.1f} ms at most"
    )
    for name, times in phases.items():
        times.sort()
        middle, last = times[len(times) // 2] * 1e3, times[-1] * 1e3
        _CONSOLE.print(f"  a call {name}: median {middle:.1f} ms, longest {last:.0f} ms, of {len(times)}")


async def run(options: argparse.Namespace, protocol: str) -> None:
    """One protocol's run."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        machine = "counter" if options.what == "increments" else "kv"
        members = Members(Path(folder) / "members", protocol, 3, machine=machine)
        try:
            for member in members.ids:
                await members.start(member)
            _CONSOLE.print(f"[bold]{protocol}[/]")
            if options.what == "increments":
                await increments(members, options.count or 1_000_000)
            else:
                await large(members, options.count or 200)
        finally:
            await members.stop_all()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.long_run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("increments", "large"))
    parser.add_argument("--count", type=int, help="increments (1,000,000), or megabytes (200)")
    parser.add_argument("--protocol", choices=("vsr", "raft", "both"), default="both")
    parser.add_argument("--folder", type=Path, help="for journals: its disk is used")
    options = parser.parse_args()
    for protocol in ("vsr", "raft") if options.protocol == "both" else (options.protocol,):
        trio.run(run, options, protocol)


if __name__ == "__main__":
    main()
