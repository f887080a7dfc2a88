"""Clients that count: each waits for its increment to be acknowledged before it asks for the next."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

import trio

from statemachine import Counter
from viewstamp.cluster import Cluster
from viewstamp.shell.client import open_client

_READ_EVERY = 50


@dataclass(slots=True)
class Operation:
    """One call of one client, in monotonic nanoseconds; `returned_ns` None while its outcome is unknown."""

    client: int
    op: str
    called_ns: int
    returned_ns: int | None = None
    out: int | None = None

    def line(self) -> str:
        """As a line of a history file."""
        known = self.returned_ns is not None
        return json.dumps(
            {
                "client": self.client,
                "op": self.op,
                "key": "counter",
                "arg": 1 if self.op == "add" else None,
                "arg2": None,
                "call": self.called_ns,
                "ret": self.returned_ns,
                "out": self.out,
                "ok": True if known else None,
            }
        )


class Load:
    """`clients` clients that together make `total` increments, or as many as they can until `stop`.

    They pause at `allow`ed increments, so that a short run still has some left when a failure comes.
    """

    def __init__(self, cluster: Cluster, clients: int, total: int | None) -> None:
        self._cluster = cluster
        self._clients = clients
        self._total = total
        self._allowed = total
        self._issued = 0
        self._under_way = 0
        self._stopped = False
        self._opened = trio.Event()
        self.operations: list[Operation] = []
        self.acknowledged_ns: list[int] = []
        self.values: list[int] = []
        self.latencies_ns: list[int] = []
        self.began_ns = 0
        self.last_answered_call_ns = 0
        self._allowed_ns = 0
        self.finished = trio.Event()

    @property
    def acknowledged(self) -> int:
        """Increments whose answer arrived."""
        return len(self.acknowledged_ns)

    @property
    def unknown(self) -> int:
        """Increments without an answer."""
        return sum(1 for each in self.operations if each.op == "add" and each.returned_ns is None)

    @property
    def paused(self) -> bool:
        """Whether all allowed increments are taken, so that silence says nothing about the service."""
        return self._stopped or (self._allowed is not None and self._issued >= self._allowed)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer, and nobody will before more is allowed."""
        return self.finished.is_set() or (self.paused and not self._under_way)

    @property
    def waiting_since_ns(self) -> int:
        """Since when clients have been waiting for the next acknowledgement; now, if none is."""
        if self.idle:
            return monotonic_ns()
        return max(self.acknowledged_ns[-1] if self.acknowledged_ns else 0, self._allowed_ns)

    def allow(self, increments: int | None) -> None:
        """Let the clients go on up to this many increments; None is without bound."""
        self._allowed = increments
        self._allowed_ns = monotonic_ns()
        self._opened.set()
        self._opened = trio.Event()

    def stop(self) -> None:
        """Start no more; what is under way is waited for."""
        self._stopped = True
        self._opened.set()

    async def run(self) -> None:
        """All clients, until the increments are made."""
        self.began_ns = monotonic_ns()
        async with trio.open_nursery() as nursery:
            for number in range(1, self._clients + 1):
                nursery.start_soon(self._count, number)
        self.finished.set()

    async def _count(self, number: int) -> None:
        async with open_client(self._cluster, Counter) as client:
            made = 0
            while await self._take():
                operation = self._begin(number, "add")
                value = await client.call(Counter.add, 1)
                self._end(operation, value)
                self.values.append(value)
                made += 1
                if made % _READ_EVERY == 0:
                    operation = self._begin(number, "read")
                    self._end(operation, await client.read(Counter.get))

    async def _take(self) -> bool:
        """Take one increment to make; False when there are none left."""
        while not self._stopped:
            if self._total is not None and self._issued >= self._total:
                return False
            if self._allowed is None or self._issued < self._allowed:
                self._issued += 1
                return True
            await self._opened.wait()
        return False

    def _begin(self, client: int, op: str) -> Operation:
        operation = Operation(client, op, monotonic_ns())
        self.operations.append(operation)
        self._under_way += 1
        return operation

    def _end(self, operation: Operation, out: int) -> None:
        operation.returned_ns, operation.out = monotonic_ns(), out
        self._under_way -= 1
        if operation.op == "add":
            self.acknowledged_ns.append(operation.returned_ns)
            self.latencies_ns.append(operation.returned_ns - operation.called_ns)
            self.last_answered_call_ns = max(self.last_answered_call_ns, operation.called_ns)

    def history(self) -> Iterator[str]:
        """Every operation as a line of JSON, in the order in which they were called."""
        return (operation.line() for operation in self.operations)

    def write_history(self, path: Path) -> None:
        """Write the lines of `history` to a file."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.history())


def largest_gap_ns(acknowledged_ns: list[int], since_ns: int, until_ns: int) -> int | None:
    """The longest time without an acknowledgement, from `since_ns` to the last acknowledgement before `until_ns`.

    None if there was none in between.
    """
    after = acknowledged_ns[bisect_left(acknowledged_ns, since_ns) : bisect_left(acknowledged_ns, until_ns)]
    if not after:
        return None
    return max(later - earlier for earlier, later in zip([since_ns, *after], after, strict=False))
