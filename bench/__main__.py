"""`python -m bench`: durable increments per second and their latency, for several numbers of clients.

Three replica processes with journals on disk, real loopback UDP, and one process with independent clients (own sockets,
own sessions), each waiting for its answer before the next increment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

import trio

from bench.cluster import running_cluster
from viewstamp import Client, Cluster, Counter, open_client


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement: latencies in milliseconds."""

    clients: int
    seconds: float
    increments: int
    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


def sync_latency_us(rounds: int = 200) -> float:
    """The median of a 64-byte append with fdatasync here, in microseconds."""
    with tempfile.TemporaryFile() as file:
        took: list[float] = []
        for _ in range(rounds):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(64))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def loop_speed_ns(rounds: int = 1_000_000) -> float:
    """Nanoseconds for one turn of an empty Python loop here."""
    began = time.perf_counter()
    for _ in range(rounds):
        pass
    return (time.perf_counter() - began) / rounds * 1e9


async def increment(client: Client, until: float, latencies: list[float]) -> None:
    """One client's closed loop."""
    while True:
        began = time.perf_counter()
        if began >= until:
            return
        await client.call(Counter.add, 1)
        latencies.append(time.perf_counter() - began)


async def measure(cluster: Cluster, clients: int, seconds: float) -> Load:
    """Load the cluster with so many clients for so long."""
    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_client(cluster, Counter)) for _ in range(clients)]
        async with trio.open_nursery() as nursery:  # sessions first: their registration is not measured
            for client in opened:
                nursery.start_soon(client.call, Counter.add, 1)
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for client in opened:
                nursery.start_soon(increment, client, began + seconds, latencies)
        took = time.perf_counter() - began
    latencies.sort()
    at = [latencies[min(len(latencies) - 1, int(len(latencies) * q))] * 1e3 for q in (0.5, 0.99, 0.999)]
    return Load(clients, took, len(latencies), len(latencies) / took, at[0], at[1], at[2])


def main() -> None:
    """Print a line per number of clients, and all of it as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--protocol", default="vsr")
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; a 64-byte append with fdatasync takes ", end="")
    print(f"{sync_latency_us():.0f} us, an empty loop {loop_speed_ns():.0f} ns a turn")
    print("clients   increments/s     p50 ms     p99 ms   p99.9 ms")
    results: list[Load] = []
    with running_cluster(options.replicas, options.protocol) as cluster:
        for clients in options.clients:
            load = trio.run(measure, cluster, clients, options.seconds)
            results.append(load)
            print(f"{clients:7} {load.per_second:14,.0f} {load.p50_ms:10.2f} {load.p99_ms:10.2f} {load.p999_ms:10.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump([asdict(load) for load in results], file, indent=2)


if __name__ == "__main__":
    main()
