"""`python -m bench.load`: the process that loads a cluster, told by one JSON object, answering with one.

`kind` is "viewstamp" (independent clients), "shared" (many tasks on one client), "floor" or "bare_primary"; a load of
0 seconds goes on until the standard input has a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace

import trio

from bench.callers import Caller, Drive, LoadError, SessionCaller, clients_of
from bench.figures import Load, load_of
from bench.lean_callers import LARGEST_BODY_BYTES, LeanCaller
from statemachine import Counter, KeyValueStore
from viewstamp import open_client
from viewstamp.cluster import Cluster
from viewstamp.shell.callers import Callers


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a load process is to do. `target` is a cluster file, or the port of the floor's primary or of the bare one.

    `operation`: "increment", "put" or "get", or what `list_of` gives, for calls alone. `clients`: independent ones, or
    with "shared" tasks on one client.
    """

    kind: str
    target: str
    operation: str
    clients: int
    seconds: float
    warm_s: float = 0.3
    value_bytes: int = 16


def bodies(operation: str, clients: int, value_bytes: int) -> list[bytes]:
    """The encoded command or query of each client."""
    value = b"v" * value_bytes
    match operation:
        case "increment":
            return [Counter.add.bind(1)] * clients
        case "put":
            return [KeyValueStore.put.bind(f"key-{number:04}", value) for number in range(clients)]
        case "get":
            return [KeyValueStore.get.bind(f"key-{number:04}") for number in range(clients)]
        case _:
            raise ValueError(f"no such operation: {operation}")


def list_of(length: int) -> str:
    """The operation that hands over so many increments in one list."""
    return f"{length} increments"


async def call_list(caller: Callers, operation: str) -> int:
    """Hand over the list that `list_of` names; its commands are encoded anew, as a service's are. The last result."""
    results = await caller.call_all([Counter.add.bind(1) for _ in range(int(operation.split()[0]))])
    if not isinstance(results[-1], int):
        raise LoadError(f"an increment failed: {results[-1]!r}")
    return results[-1]


def operation_of(caller: Callers, operation: str, value_bytes: int) -> Callable[[int], Awaitable[object]]:
    """What a task with this number does again and again. Plain functions: no coroutine around that of the call."""
    value = b"v" * value_bytes
    match operation:
        case "increment":
            return lambda _: caller.call(Counter.add, 1)
        case "put":
            return lambda number: caller.call(KeyValueStore.put, f"key-{number:04}", value)
        case "get":
            return lambda number: caller.read(KeyValueStore.get, f"key-{number:04}")
        case several:
            return lambda _: call_list(caller, several)


def machine_of(operation: str) -> str:
    """The state machine that serves this operation, as the command line names it."""
    return "counter" if operation == "increment" else "kv"


async def closed_loops(
    operation: Callable[[int], Awaitable[object]], tasks: int, warm_s: float, seconds: float
) -> Load:
    """So many tasks, each awaiting one operation after another; what ends while it is measured counts."""
    latencies: list[int] = []
    clock = time.perf_counter_ns
    begins = clock() + int(warm_s * 1e9)
    ends = begins + int(seconds * 1e9)
    processor = 0.0

    async def loop(number: int) -> None:
        while (began := clock()) < ends:
            await operation(number)
            if begins <= (now := clock()) < ends:
                latencies.append(now - began)

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(loop, number)
        await trio.sleep(warm_s)
        processor = time.process_time()
        await trio.sleep(seconds)
        processor = time.process_time() - processor
    return load_of(latencies, seconds, processor)


async def shared(request: LoadRequest) -> Load:
    """Many tasks that share one client, and so one session and one socket."""
    cluster = Cluster.load(request.target)
    async with open_client(cluster, KeyValueStore) as client:
        once = operation_of(client, request.operation, request.value_bytes)
        await once(0)
        before = client.statistics()
        load = await closed_loops(once, request.clients, request.warm_s, request.seconds)
        after = client.statistics()
        share = request.seconds / (request.seconds + request.warm_s)
        return replace(
            load,
            datagrams_out=int((after.datagrams_out - before.datagrams_out) * share),
            bytes_out=int((after.bytes_out - before.bytes_out) * share),
        )


def independent(request: LoadRequest, callers: list[Caller]) -> Load:
    """Independent clients, for a time or until told to stop."""
    drive = Drive(callers)
    drive.warm_up(request.warm_s)
    print("{}", flush=True)
    sys.stdin.readline()
    return drive.measure(request.seconds) if request.seconds else drive.gaps_until(sys.stdin.fileno())


def main() -> None:
    """Load as the first line of the standard input says. An empty object says that the warm-up is over."""
    request = LoadRequest(**json.loads(sys.argv[1]))
    match request.kind:
        case "viewstamp":
            cluster = Cluster.load(request.target)
            prepared = bodies(request.operation, request.clients, request.value_bytes)
            # At a failover a client's own patience counts, too: then it is the library's.
            lean = request.seconds and max(request.value_bytes, *map(len, prepared)) <= LARGEST_BODY_BYTES
            callers = clients_of(LeanCaller if lean else SessionCaller, cluster, prepared, request.operation == "get")
            load = independent(request, callers)
        case "floor":
            from bench.floor import floor_callers  # the other kinds do not need it

            load = independent(request, floor_callers(int(request.target), request.clients))
        case "bare_primary":
            from bench.bare_primary import bare_callers

            load = independent(request, bare_callers(int(request.target), request.clients))
        case _:
            print("{}", flush=True)
            sys.stdin.readline()
            load = trio.run(shared, request)
    print(json.dumps(asdict(load)), flush=True)


if __name__ == "__main__":
    main()
