"""Clients of a key-value store in a simulated cluster, their history, and what must hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from statemachine import KeyValueStore
from statemachine.key_value import CannotAppendError
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
_LONG_PADDINGS = (70, 100, 200, 400)


class KeyValueLoad(Load):
    """Clients that read and change a few keys; the world's machine is the store.

    Each value that is written is a new one and no part of another, so that a read tells which writes it saw. Keys are
    left for new ones after a while, so that one unknown outcome does not blur a whole run. At the end what the members
    hold is read as well: whatever was acknowledged must be in it. A read never gives an older version of a key than any
    member held when it began. What the commands of a list wrote has versions that follow each other.
    """

    budget = BUDGET

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        self._values = 0
        self._last_seen: dict[str, Json] = {}
        self._scanned = False
        self._commands = 0
        super().__init__(world, clients, habits)

    def _key(self) -> str:
        generation = self._commands // (_KEYS * _COMMANDS_PER_KEY)
        return f"key {generation * _KEYS + self.world.random.randrange(_KEYS)}"

    def _new_value(self, padding: str = "") -> str:
        self._values += 1
        return f"({self._values}{padding})"

    def _padding(self) -> str:
        paddings, kinds = self.habits.paddings, self.kinds
        length = paddings[self.world.random.randrange(len(paddings))]
        if self.habits.large_replies and kinds.randrange(100) < 2 * self.habits.large_replies:
            length = max(length, kinds.choice(_LONG_PADDINGS))  # A swap that is refused tells what is there.
        return "." * length

    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        self._commands += 1
        draw, key = self.world.random, self._key()
        [op] = draw.choices(_NAMES, _WEIGHTS)
        operation.op, operation.key = op, key
        match op:
            case "put":
                padding = self._padding()
                value = operation.arg = self._new_value(padding)
                if self.habits.raising and self.kinds.randrange(100) < self.habits.raising:
                    operation.arg = -self._values  # Nothing can be put behind a number: appends are refused.
                    return KeyValueStore.put.bind(key, -self._values)
                return KeyValueStore.put.bind(key, value)
            case "append":
                value = operation.arg = self._new_value()
                return KeyValueStore.append.bind(key, value)
            case "cas":
                # What was last seen there is often still there; nothing at all, and a value long gone, rarely.
                operation.arg = self._last_seen.get(key) if draw.randrange(8) else None
                operation.arg2 = self._new_value()
                return KeyValueStore.compare_and_swap.bind(key, cast("str | int | None", operation.arg), operation.arg2)
        return KeyValueStore.delete.bind(key)

    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        operation.op, operation.key = "get", self._key()
        newest = max(self.world.running, key=lambda replica: replica.executor.applied, default=None)
        if newest is not None:
            operation.floor = _version_of(newest, operation.key)
        return KeyValueStore.get.bind(operation.key)

    def check(self, operation: Operation, *, forgotten: bool) -> None:
        out = operation.out
        if operation.op == "append" and isinstance(out, CannotAppendError):
            out = operation.out = {"error": "CannotAppendError"}
        require(not isinstance(out, Exception), "exactly once", "client {} was told {}", operation.client, out)
        outcome = ""
        if operation.op == "cas" and isinstance(out, dict):
            outcome = ": swapped" if out.get("swapped") is True else ": not swapped"
        elif isinstance(out, dict) and "error" in out:
            outcome = ": refused"
        self.world.watch.counts[f"key-value: {operation.op}{outcome}"] += 1
        if operation.op == "get":
            self.reads += 1
            if isinstance(out, dict) and not forgotten:
                version, floor = out.get("version"), operation.floor
                fresh = isinstance(version, int) and version >= floor
                require(fresh, "reads are linearizable", "a read gave version {}, after {}", version, floor)
        else:
            self.acknowledged += 1
        self._learn(operation)

    def check_together(self, parts: Sequence[Operation]) -> None:
        """Each write has the version behind that of the write before; what is seen between is not newer."""
        last: int | None = None
        for part in parts:
            version, wrote = _version_told(part.out)
            if version is None:
                continue
            fits = last is None or (version == last + 1 if wrote else version <= last)
            require(fits, "lists", "a {} of a list gave version {}, the one before {}", part.op, version, last)
            if wrote:
                last = version

    def check_dropped(self, operation: Operation, *, listed: bool) -> None:
        large = listed or operation.op == "cas"
        require(large, "answers", "a small reply ({}) is gone", operation.op)

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


def _version_told(out: object) -> tuple[int | None, bool]:
    """The version in what a command returned, if there is one, and whether it is of what the command wrote."""
    match out:
        case bool():
            return None, False
        case int(version) | {"swapped": True, "version": int(version)}:
            return version, True
        case {"current": {"version": int(version)}}:
            return version, False
    return None, False


def _version_of(replica: Replica, key: str) -> int:
    store = replica.executor.machine
    held = KeyValueStore.get.function(store, key) if isinstance(store, KeyValueStore) else None
    return held["version"] if held is not None else 0
