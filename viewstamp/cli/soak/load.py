"""Clients of a soak: each calls one thing after another, and writes down what it asked and what it was told."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from time import monotonic_ns

import trio

from statemachine import CommandError, NotExecutedError, OutcomeUnknownError, Value, Versioned
from viewstamp.cli.soak.findings import SAFETY, Finding
from viewstamp.cli.soak.history import SEPARATOR, Operation
from viewstamp.cli.soak.machine import SoakStore
from viewstamp.cli.soak.proxy import KeptTransport
from viewstamp.cluster import Cluster
from viewstamp.shell.client import Client, open_client

_TASKS = 2
_PAUSE_S = 0.02
_EPOCH_NS = 3_000_000_000
_REGISTERS = 3
_COUNTERS = 2
_LONG = 4_000
_RETURN_S = 0.2
_KINDS = {"put": 16, "get": 22, "cas": 14, "delete": 4, "append": 12, "add": 20, "read": 12}


class Load:
    """`clients` clients, each with several tasks that share its session, until `stop`.

    Keys are used for a few seconds and then left for new ones, so that one unknown outcome does not blur a whole run,
    and so that a history can be checked key by key.
    """

    def __init__(self, cluster: Cluster, transports: Sequence[KeptTransport], seed: int) -> None:
        self._cluster = cluster
        self._transports = transports
        self._seed = seed
        self._stopped = False
        self._lives: dict[int, trio.CancelScope] = {}
        self._began_ns = monotonic_ns()
        self._numbers = 0
        self._values = 0
        self.operations: list[Operation] = []
        self.under_way: dict[int, Operation] = {}
        self.acknowledged = 0
        self.crashes = 0
        self.longest_gap_ns = 0
        self.last_answer_ns = self._began_ns

    @property
    def unknown(self) -> int:
        """Calls whose outcome nobody was told."""
        return sum(1 for operation in self.operations if operation.ok is None)

    def stop(self) -> None:
        """Start nothing new; what is under way is waited for."""
        self._stopped = True

    def crash(self, client: int) -> None:
        """End a client in the middle of whatever it does; it comes back with a new session at its old address."""
        scope = self._lives.get(client)
        if scope is not None:
            self.crashes += 1
            scope.cancel()

    def oldest_call_ns(self) -> int:
        """When the call that has waited longest was made; now, if none waits."""
        return min((operation.call for operation in self.under_way.values()), default=monotonic_ns())

    async def run(self) -> None:
        """All clients; ends after `stop`, when nothing is under way.

        Raises:
          Finding: a call failed in a way that it must not.
        """
        self._began_ns = self.last_answer_ns = monotonic_ns()
        async with trio.open_nursery() as nursery:
            for client in range(len(self._transports)):
                nursery.start_soon(self._live, client)

    async def _live(self, client: int) -> None:
        """One life after another."""
        random = Random(f"{self._seed} client {client}")
        while not self._stopped:
            with trio.CancelScope() as scope:
                self._lives[client] = scope
                async with (
                    open_client(self._cluster, SoakStore, transport=self._transports[client]) as opened,
                    trio.open_nursery() as nursery,
                ):
                    for _ in range(_TASKS):
                        nursery.start_soon(Worker(self, opened, self.new_number(), random).run)
            del self._lives[client]
            await trio.sleep(_RETURN_S if scope.cancelled_caught else 0)

    @property
    def stopped(self) -> bool:
        """Whether nothing new is to be started."""
        return self._stopped

    @property
    def epoch(self) -> int:
        """Which keys are used now."""
        return (monotonic_ns() - self._began_ns) // _EPOCH_NS

    def new_number(self) -> int:
        """The number of a client that calls one thing at a time."""
        self._numbers += 1
        return self._numbers

    def new_value(self) -> str:
        """A text that no other call writes."""
        self._values += 1
        return f"v{self._values}"

    def begin(self, operation: Operation) -> None:
        """A call is about to be made."""
        operation.call = monotonic_ns()
        self.operations.append(operation)
        self.under_way[operation.client] = operation

    def end(self, operation: Operation) -> None:
        """It was answered, or its caller has ended."""
        del self.under_way[operation.client]
        if operation.ok:
            operation.ret = monotonic_ns()
            self.acknowledged += 1
            self.longest_gap_ns = max(self.longest_gap_ns, operation.ret - self.last_answer_ns)
            self.last_answer_ns = operation.ret


class Worker:
    """One task of a client. `client` in its operations is its own number: it calls one thing at a time."""

    def __init__(self, load: Load, client: Client, number: int, random: Random) -> None:
        self._load = load
        self._client = client
        self._number = number
        self._random = random
        self._last: dict[str, Value] = {}

    async def run(self) -> None:
        """Call after call, until the load is stopped or an outcome stays unknown."""
        while not self._load.stopped:
            operation = self._draw()
            self._load.begin(operation)
            try:
                await self._perform(operation)
                operation.ok = True
            except NotExecutedError:
                operation.ok = False
            except OutcomeUnknownError:
                return
            except CommandError as error:
                raise Finding(SAFETY, f"{operation.line()} raised {type(error).__name__}({error})") from error
            finally:
                self._load.end(operation)
            await trio.sleep(self._random.uniform(0, 2 * _PAUSE_S))

    def _draw(self) -> Operation:
        random, epoch = self._random, self._load.epoch
        (kind,) = random.choices(list(_KINDS), list(_KINDS.values()))
        operation = Operation(self._number, kind, "")
        match kind:
            case "add" | "read":
                operation.key = f"counter-{epoch}-{random.randrange(_COUNTERS)}"
                operation.arg = 1 if kind == "add" else None
            case "append":
                operation.key = f"log-{epoch}"
                operation.arg = self._load.new_value() + SEPARATOR
            case "get" if random.random() < 0.2:
                operation.key = f"log-{epoch}"
            case _:
                operation.key = f"register-{epoch}-{random.randrange(_REGISTERS)}"
                if kind == "put":
                    operation.arg = self._load.new_value() + ("x" * _LONG if random.random() < 0.03 else "")
                elif kind == "cas":
                    operation.arg, operation.arg2 = self._last.get(operation.key), self._load.new_value()
        return operation

    async def _perform(self, operation: Operation) -> None:
        client, key = self._client, operation.key
        match operation.op:
            case "get":
                operation.out = self._learn(key, await client.read(SoakStore.get, key))
            case "read":
                operation.out = await client.read(SoakStore.read, key)
            case "put":
                operation.version = await client.call(SoakStore.put, key, operation.arg)
                self._last[key] = operation.arg
            case "append":
                operation.version = await client.call(SoakStore.append, key, operation.arg)
            case "delete":
                operation.out = await client.call(SoakStore.delete, key)
                self._last.pop(key, None)
            case "add":
                operation.out = await client.call(SoakStore.add, key, 1)
            case _:
                answer = await client.call(SoakStore.compare_and_swap, key, operation.arg, operation.arg2)
                operation.out = answer["swapped"]
                if answer["swapped"]:
                    operation.version = answer["version"]
                    self._last[key] = operation.arg2
                else:
                    self._learn(key, answer["current"])

    def _learn(self, key: str, found: Versioned | None) -> Value:
        value = None if found is None else found["value"]
        self._last[key] = value
        return value
