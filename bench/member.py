"""`python -m bench.member`: one member of a Viewstamp cluster that answers questions on its standard input.

It is `viewstamp serve` with a way to ask for statistics, and to have tasks of the member's own process make calls.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict

import trio

from bench.figures import Json
from bench.load import closed_loops, operation_of
from statemachine import StateMachine
from viewstamp import open_replica
from viewstamp.cli.options import MACHINES
from viewstamp.cli.poll import until
from viewstamp.cli.serve import settle_memory
from viewstamp.cluster import Cluster
from viewstamp.shell.replica import RunningReplica


async def _lines() -> AsyncIterator[Json]:
    unread = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        while more := await stream.receive_some():
            *lines, unread = (unread + more).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _standing(replica: RunningReplica[StateMachine]) -> Json:
    status, statistics = replica.status(), replica.statistics()
    return {
        "leads": replica.is_primary,
        "ready": replica.is_primary or status.primary != 0,
        "applied": status.applied,
        "journal_bytes": status.journal_bytes,
        "writes": statistics.writes,
        "datagrams_in": statistics.transport.datagrams_in,
        "datagrams_out": statistics.transport.datagrams_out,
        "messages_out": statistics.transport.messages_out,
        "bytes_out": statistics.transport.bytes_out,
    }


async def _own_load(replica: RunningReplica[StateMachine], request: Json) -> Json:
    """Calls of this process's own tasks, as a service that embeds the library makes them."""
    operation, value_bytes = str(request["operation"]), int(str(request["value_bytes"]))
    once = operation_of(replica, operation, value_bytes)
    seconds, warm_s = float(str(request["seconds"])), float(str(request["warm_s"]))
    return asdict(await closed_loops(once, int(str(request["clients"])), warm_s, seconds))


async def _applied(replica: RunningReplica[StateMachine], op: int) -> None:
    await until(lambda: replica.status().applied >= op)


async def _serve(file: str, member: int, data: str, machine: str) -> None:
    began = time.monotonic()
    async with open_replica(MACHINES[machine], Cluster.load(file), member, data) as replica:
        opened_s = time.monotonic() - began
        settle_memory()
        async for request in _lines():
            match request["do"]:
                case "wait_ready":
                    await replica.wait_ready()
                    answer: Json = {"opened_s": opened_s, "ready_s": time.monotonic() - began}
                case "wait_applied":
                    await _applied(replica, int(str(request["op"])))
                    answer = {"applied_s": time.monotonic() - began}
                case "load":
                    answer = await _own_load(replica, request)
                case _:
                    answer = _standing(replica)
            print(json.dumps(answer), flush=True)


def main() -> None:
    """Arguments: the cluster file, the member, its directory, its machine. Ends with the standard input."""
    file, member, data, machine = sys.argv[1:5]
    trio.run(_serve, file, int(member), data, machine)


if __name__ == "__main__":
    main()
