"""Clients of a key-value store in a simulated cluster, their history, and what must hold of it."""

from __future__ import annotations

from typing import cast

from statemachine import KeyValueStore
from viewstamp.replica import Replica
from viewstamp.simulation.history import Json, OperationName
from viewstamp.simulation.inhabitants import SimulatedClient
from viewstamp.simulation.linearizability import BUDGET, Linearizable, check_history
from viewstamp.simulation.load import Habits, Load, Operation
from viewstamp.simulation.models import KEY_VALUE
from viewstamp.simulation.verdict import ViolationError, require
from viewstamp.simulation.world import World

_MIX: tuple[tuple[OperationName, int], ...] = (("put", 22), ("append", 22), ("cas", 18), ("delete", 6))
_NAMES = tuple(name for name, _ in _MIX)
_WEIGHTS = tuple(weight for _, weight in _MIX)
_KEYS = 3
_COMMANDS_PER_KEY = 60


class KeyValueLoad(Load):
    """Clients that read and change a few keys; the world's machine is the store.

    Each value that is written is a new one and no part of another, so that a read tells which writes it saw. Keys are
    left for new ones after a while, so that one unknown outcome does not blur a whole run. At the end what the members
    hold is read as well: whatever was acknowledged must be in it. A read never gives an older version of a key than any
    member held when it began.
    """

    budget = BUDGET

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        self._values = 0
        self._last_seen: dict[str, Json] = {}
        self._scanned = False
        self._floors: dict[int, int] = {}  # by the identity of a read under way: the version that was there
        super().__init__(world, clients, habits)

    def _key(self) -> str:
        generation = self.begun // (_KEYS * _COMMANDS_PER_KEY)
        return f"key {generation * _KEYS + self.world.random.randrange(_KEYS)}"

    def _new_value(self, padding: str = "") -> str:
        self._values += 1
        return f"({self._values}{padding})"

    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        draw, key = self.world.random, self._key()
        [op] = draw.choices(_NAMES, _WEIGHTS)
        operation.op, operation.key = op, key
        match op:
            case "put":
                paddings = self.habits.paddings
                padding = "." * paddings[draw.randrange(len(paddings))]
                value = operation.arg = self._new_value(padding)
                return KeyValueStore.put.bind(key, value)
            case "append":
                value = operation.arg = self._new_value()
                return KeyValueStore.append.bind(key, value)
            case "cas":
                # What was last seen there is often still there; nothing at all, and a value long gone, rarely.
                operation.arg = self._last_seen.get(key) if draw.randrange(8) else None
                operation.arg2 = self._new_value()
                return KeyValueStore.compare_and_swap.bind(key, cast("str | None", operation.arg), operation.arg2)
        return KeyValueStore.delete.bind(key)

    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        operation.op, operation.key = "get", self._key()
        newest = max(self.world.running, key=lambda replica: replica.executor.applied, default=None)
        if newest is not None:
            self._floors[id(operation)] = _version_of(newest, operation.key)
        return KeyValueStore.get.bind(operation.key)

    def check(self, operation: Operation, *, forgotten: bool) -> None:
        out = operation.out
        require(not isinstance(out, Exception), "exactly once", "client {} was told {}", operation.client, out)
        outcome = ""
        if operation.op == "cas" and isinstance(out, dict):
            outcome = ": swapped" if out.get("swapped") is True else ": not swapped"
        self.world.watch.counts[f"key-value: {operation.op}{outcome}"] += 1
        if operation.op == "get":
            self.reads += 1
            floor = self._floors.pop(id(operation), 0)
            if isinstance(out, dict) and not forgotten:
                version = out.get("version")
                fresh = isinstance(version, int) and version >= floor
                require(fresh, "reads are linearizable", "a read gave version {}, after {}", version, floor)
        else:
            self.acknowledged += 1
        self._learn(operation)

    def _learn(self, operation: Operation) -> None:
        key = operation.key
        match operation.op, operation.out:
            case "put", _:
                self._last_seen[key] = cast("Json", operation.arg)
            case "cas", {"swapped": True}:
                self._last_seen[key] = cast("Json", operation.arg2)
            case ("get", {"value": value}) | ("cas", {"current": {"value": value}}):
                self._last_seen[key] = cast("Json", value)
            case ("delete", _) | ("get", None) | ("cas", {"current": None}):
                self._last_seen.pop(key, None)
            case _:
                pass

    def scan(self, replica: Replica) -> None:
        """What the first of the members holds, which are all equal, becomes part of the history."""
        store = replica.executor.machine
        if self._scanned or not isinstance(store, KeyValueStore):
            return
        self._scanned = True
        now = self.world.now
        for key in dict.fromkeys(operation.key for operation in self.history):
            held = KeyValueStore.get.function(store, key)
            self.history.append(Operation(0, "get", key, None, now, now + 1, held, True))

    def judge(self) -> None:
        verdict = check_history(self.told(), KEY_VALUE, budget=self.budget)
        if not isinstance(verdict, Linearizable):
            raise ViolationError("linearizability", str(verdict))


def _version_of(replica: Replica, key: str) -> int:
    store = replica.executor.machine
    held = KeyValueStore.get.function(store, key) if isinstance(store, KeyValueStore) else None
    return held["version"] if held is not None else 0
