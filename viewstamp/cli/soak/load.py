"""Clients of a soak: each calls one thing after another, and writes down what it asked and what it was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic_ns
from typing import assert_never, cast

import trio

from statemachine import CommandError, NotExecutedError, OutcomeUnknownError
from viewstamp.cli.soak.checks import SEPARATOR
from viewstamp.cli.soak.findings import SAFETY, Finding
from viewstamp.cli.soak.machine import SoakStore
from viewstamp.cli.soak.proxy import KeptTransport
from viewstamp.cluster import Cluster
from viewstamp.shell.client import Client, open_client
from viewstamp.simulation.history import Json, Operation, OperationName

_TASKS = 2
_PAUSE_S = 0.02
_EPOCH_NS = 3_000_000_000
_REGISTERS = 3
_COUNTERS = 2
_LONG = 4_000
_RETURN_S = 0.2
_KINDS: dict[OperationName, int] = {"put": 16, "get": 22, "cas": 14, "delete": 4, "append": 12, "add": 20, "read": 12}


@dataclass(slots=True)
class Call:
    """An operation that is being made, or was; see `Operation` for the fields."""

    client: int
    op: OperationName
    key: str = ""
    arg: str | int | None = None
    arg2: str | None = None
    call: int = 0
    ret: int | None = None
    out: Json = None
    ok: bool | None = None

    def recorded(self) -> Operation:
        """As it stands in a history."""
        return Operation(self.client, self.op, self.key, self.arg, self.arg2, self.call, self.ret, self.out, self.ok)


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
        self.calls: list[Call] = []
        self.under_way: dict[int, Call] = {}
        self.acknowledged = 0
        self.crashes = 0
        self.longest_gap_ns = 0
        self.last_answer_ns = self._began_ns

    @property
    def unknown(self) -> int:
        """Calls whose outcome nobody was told."""
        return sum(1 for call in self.calls if call.ok is None)

    def history(self) -> list[Operation]:
        """Every call so far, in the order in which they were made."""
        return [call.recorded() for call in self.calls]

    def stop(self) -> None:
        """Start nothing new; what is under way is waited for."""
        self._stopped = True

    def crash(self, client: int) -> None:
        """End a client in the middle of whatever it does; it comes back with a new session at its old address."""
        scope = self._lives.get(client)
        if scope is not None:
            self.crashes += 1
            scope.cancel()

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

    def begin(self, call: Call) -> None:
        """It is about to be made."""
        call.call = monotonic_ns()
        self.calls.append(call)
        self.under_way[call.client] = call

    def end(self, call: Call) -> None:
        """It was answered, or its caller has ended."""
        del self.under_way[call.client]
        if call.ok:
            call.ret = monotonic_ns()
            self.acknowledged += 1
            self.longest_gap_ns = max(self.longest_gap_ns, call.ret - self.last_answer_ns)
            self.last_answer_ns = call.ret


class Worker:
    """One task of a client. In the history it is a client of its own: it calls one thing at a time."""

    def __init__(self, load: Load, client: Client, number: int, random: Random) -> None:
        self._load = load
        self._client = client
        self._number = number
        self._random = random
        self._last: dict[str, str | int | None] = {}

    async def run(self) -> None:
        """Call after call, until the load is stopped or an outcome stays unknown."""
        while not self._load.stopped:
            call = self._draw()
            self._load.begin(call)
            try:
                call.out = cast("Json", await self._perform(call))
                call.ok = True
            except NotExecutedError:
                call.ok = False
            except OutcomeUnknownError:
                return
            except CommandError as error:
                raise Finding(SAFETY, f"{call.recorded()}: raised {type(error).__name__}({error})") from error
            finally:
                self._load.end(call)
            self._learn(call)
            await trio.sleep(self._random.uniform(0, 2 * _PAUSE_S))

    def _draw(self) -> Call:
        random, epoch = self._random, self._load.epoch
        (kind,) = random.choices(list(_KINDS), list(_KINDS.values()))
        call = Call(self._number, kind)
        match kind:
            case "add" | "read":
                call.key = f"counter-{epoch}-{random.randrange(_COUNTERS)}"
                call.arg = 1 if kind == "add" else None
            case "append":
                call.key = f"log-{epoch}"
                call.arg = self._load.new_value() + SEPARATOR
            case "get" if random.random() < 0.2:
                call.key = f"log-{epoch}"
            case _:
                call.key = f"register-{epoch}-{random.randrange(_REGISTERS)}"
                if kind == "put":
                    call.arg = self._load.new_value() + ("x" * _LONG if random.random() < 0.03 else "")
                elif kind == "cas":
                    call.arg, call.arg2 = self._last.get(call.key), self._load.new_value()
        return call

    async def _perform(self, call: Call) -> object:
        client, key = self._client, call.key
        match call.op:
            case "get":
                return await client.read(SoakStore.get, key)
            case "read":
                return await client.read(SoakStore.read, key)
            case "put":
                return await client.call(SoakStore.put, key, call.arg)
            case "append":
                return await client.call(SoakStore.append, key, call.arg)
            case "delete":
                return await client.call(SoakStore.delete, key)
            case "add":
                return await client.call(SoakStore.add, key, 1)
            case "cas":
                return await client.call(SoakStore.compare_and_swap, key, call.arg, call.arg2)
            case _:
                assert_never(call.op)

    def _learn(self, call: Call) -> None:
        """Remember what the key held last, so that a swap has some chance."""
        match call.op, call.out:
            case ("get", {"value": str(value)}) | ("cas", {"swapped": False, "current": {"value": str(value)}}):
                self._last[call.key] = value
            case ("put", _):
                self._last[call.key] = call.arg
            case ("cas", {"swapped": True}):
                self._last[call.key] = call.arg2
            case ("get" | "cas" | "delete", _):
                self._last.pop(call.key, None)
