"""Real processes: clusters of them, and single ones that are expected to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

import pytest
import trio

from statemachine import Counter
from viewstamp.cli.demo.members import Members
from viewstamp.cli.poll import Sighting, poll
from viewstamp.cluster import ClusterOptions
from viewstamp.shell.client import Client, open_client
from viewstamp.simulation.history import Operation, read_history
from viewstamp.simulation.linearizability import Linearizable, check_history

WITHIN_S = 8.0
PROTOCOLS = pytest.mark.parametrize("protocol", ["vsr", "raft"])


@asynccontextmanager
async def open_members(
    folder: Path, replicas: int = 3, protocol: str = "vsr", **options: Unpack[ClusterOptions]
) -> AsyncIterator[Members]:
    """The processes of a cluster, all started; all ended at the end, whatever their state."""
    members = Members(folder / "members", protocol, replicas, **options)
    try:
        for member in members.ids:
            await members.start(member)
        yield members
    finally:
        await members.stop_all()


async def increment(client: Client, times: int) -> int:
    """The counter after so many increments, which must not take long."""
    with trio.fail_after(WITHIN_S):
        for _ in range(times):
            value = await client.call(Counter.add, 1)
    return value


async def wait_agreed(client: Client, members: list[int], applied: int = 0) -> dict[int, Sighting]:
    """Wait until these members have applied the same, at least `applied` operations, and serve."""
    seen: dict[int, Sighting] = {}
    with trio.move_on_after(WITHIN_S):
        while True:
            seen = await poll(client, members, 0.25) or seen
            states = {(each.status.applied, each.status.digest) for each in seen.values()}
            if len(seen) == len(members) and len(states) == 1 and all(each.status.primary for each in seen.values()):
                ((reached, _),) = states
                if reached >= applied:
                    return seen
            await trio.sleep(0.02)
    raise AssertionError(f"the members did not come to agree: {seen}")


async def values(members: Members) -> set[int]:
    """The counter as every running member reads it from its own state."""
    found: set[int] = set()
    async with open_client(members.cluster, Counter) as client:
        with trio.fail_after(WITHIN_S):
            for member, state in members.state.items():
                if state == "running":
                    found.add(await client.read_from(member, Counter.get))
    return found


def assert_linearizable(file: Path, final: int) -> None:
    """A history file of counts must be linearizable, and so must a read of `final` after all of it."""
    history = read_history(file)
    over = max([operation.ret or operation.call for operation in history], default=0) + 1
    history.append(Operation(0, "read", history[0].key, None, None, over, over + 1, final, ok=True))
    verdict = check_history(history)
    assert isinstance(verdict, Linearizable), str(verdict)


def serve(file: Path, member: int, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a member that is expected to end by itself, soon."""
    command = [sys.executable, "-m", "viewstamp", "serve", "--cluster", str(file), "--id", str(member)]
    return subprocess.run(
        [*command, "--data", str(data), *options], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
