"""Latency in round trips: on an in-memory network on which every datagram takes the same time, and nothing else does.

A write takes two from a client (to the primary and back, from the primary to a backup and back) and one from the
primary itself. No real time passes.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio
import trio.testing

from bench.figures import Table
from bench.runner import Bench, Case
from statemachine import Counter
from transport.fabric import open_fabric
from transport.network import LinkFaults
from viewstamp import open_client, open_replica
from viewstamp.cluster import Cluster

_ONE_WAY_NS = 5_000_000
_ROUND_TRIP_S = 2 * _ONE_WAY_NS / 1e9
_CALLS = 20


def round_trips(bench: Bench, table: Table) -> None:
    """Both protocols, each once: the result is exact."""
    bench.begin(2)
    for protocol in ("vsr", "raft"):
        if bench.step(f"{protocol}: latency in round trips"):
            with tempfile.TemporaryDirectory(prefix="viewstamp-bench-", dir=bench.options.folder) as folder:
                clock = trio.testing.MockClock(autojump_threshold=0.0)
                table.add(protocol, "in round trips", trio.run(measure, protocol, Path(folder), clock=clock))


async def measure(protocol: str, folder: Path) -> dict[str, float]:
    """The median latency of a write and a read, from a client and from the primary itself, in round trips."""
    addresses = [("127.0.0.1", 1000 + number) for number in range(3)]
    cluster = Cluster.make("bench", protocol, addresses)
    even = LinkFaults(delay_base_ns=_ONE_WAY_NS, delay_mean_ns=0)
    async with open_fabric(1, even) as fabric, AsyncExitStack() as stack:
        replicas = []
        for member in cluster.members:
            opened = open_replica(
                Counter, cluster, member.id, folder / str(member.id), transport=fabric.open(member.address)
            )
            replicas.append(await stack.enter_async_context(opened))
        for replica in replicas:
            await replica.wait_ready()
        client = await stack.enter_async_context(
            open_client(cluster, Counter, transport=fabric.open(("127.0.0.1", 2000)))
        )
        await client.call(Counter.add, 1)
        primary = next(replica for replica in replicas if replica.is_primary)
        result: dict[str, float] = {}
        for name, caller in (("client", client), ("primary", primary)):
            write, read = partial(caller.call, Counter.add, 1), partial(caller.read, Counter.get)
            result[f"write_from_{name}"] = await _median_round_trips(write)
            result[f"read_from_{name}"] = await _median_round_trips(read)
        return result


async def _median_round_trips(operation: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(_CALLS):
        began = trio.current_time()
        await operation()
        took.append((trio.current_time() - began) / _ROUND_TRIP_S)
    return statistics.median(took)


CASES = [Case("round-trips", "latency in round trips on a network with delay; exact", True, round_trips)]
