"""Clients of a key-value store in a simulated cluster, their history, and what must hold of it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import cast

from statemachine import KeyValueStore, OutcomeUnknownError, SessionExpiredError
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.checkers import PropertyError
from viewstamp.simulation.history import Json, Operation, OperationName
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.linearizability import BUDGET, Linearizable, check_history
from viewstamp.simulation.models import KEY_VALUE
from viewstamp.simulation.world import World

_MIX: tuple[tuple[OperationName, int], ...] = (("get", 32), ("put", 22), ("append", 22), ("cas", 18), ("delete", 6))
_NAMES = tuple(name for name, _ in _MIX)
_WEIGHTS = tuple(weight for _, weight in _MIX)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An operation under way."""

    client: int
    op: OperationName
    key: str
    arg: Json
    arg2: Json
    call: int

    def ended(self, ret: int | None, out: Json, ok: bool | None) -> Operation:
        return Operation(self.client, self.op, self.key, self.arg, self.arg2, self.call, ret, out, ok)


class KeyValueLoad:
    """Clients that read and change a few keys, each client one operation at a time; the world's machine is the store.

    What is asked is drawn from the world's seed; each value that is written is a new one and no part of another, so
    that a read tells which writes it saw. A client never asks again itself: its session does. Where a session has
    expired, the outcome of what was asked is unknown, and the client goes on in a new session.
    """

    def __init__(self, world: World, clients: int = 3, *, keys: int = 3, think_ns: int = 2 * MILLISECOND) -> None:
        self.world = world
        self.stopped = False
        self.acknowledged = 0
        self.unknown = 0
        self._keys = tuple(f"key {number}" for number in range(keys))
        self._think_ns = think_ns
        self._random = Random(world.random.getrandbits(64))
        self._asked: dict[tuple[int, int], _Asked] = {}
        self._over: list[Operation] = []
        self._values = 0
        self._last_seen: dict[str, Json] = {}
        world.on_answer = self._answered
        self.clients = [world.add_client() for _ in range(clients)]
        for client in self.clients:
            self._next(client)

    @property
    def idle(self) -> bool:
        """Whether every operation has been answered."""
        return not self._asked

    def history(self) -> list[Operation]:
        """All operations so far: those that are over in the order of their answers, then those under way."""
        return [*self._over, *(asked.ended(None, None, None) for asked in self._asked.values())]

    def settle(self, within: int = 20 * SECOND, *, budget: int = BUDGET) -> None:
        """Stop the load and look at what it did: call it when the cluster is healthy, with all members running.

        Within so many nanoseconds everything must be answered, and again all members be equal; then each key is read
        once more. `budget` bounds the check of the history.

        Raises:
          PropertyError: an operation was not answered, the members did not become equal, or the history is not
            linearizable, or is undecided.
        """
        self.stopped = True
        self._await_answers(within)
        if not self.world.run_until(self._abreast, within):
            raise PropertyError("convergence", "members did not all apply the same operations:\n" + self._members())
        if len({replica.executor.state_digest() for replica in self.world.running}) > 1:
            raise PropertyError("convergence", "members hold different states:\n" + self._members())
        reader = self.clients[0] if self.clients else self.world.add_client()
        for key in self._keys:
            self._ask(reader, "get", key, None, None)
        self._await_answers(within)
        verdict = check_history(self.history(), KEY_VALUE, budget=budget)
        if not isinstance(verdict, Linearizable):
            raise PropertyError("linearizability", str(verdict))

    def _await_answers(self, within: int) -> None:
        if not self.world.run_until(lambda: self.idle, within):
            waiting = "\n".join(str(asked.ended(None, None, None)) for asked in self._asked.values())
            raise PropertyError("liveness", f"not answered:\n{waiting}\n{self._members()}")

    def _abreast(self) -> bool:
        replicas = self.world.running
        return len(replicas) == len(self.world.nodes) and len({replica.executor.applied for replica in replicas}) == 1

    def _members(self) -> str:
        nodes = self.world.nodes.items()
        return "\n".join(f"{m}: {n.replica.status() if n.replica is not None else 'not running'}" for m, n in nodes)

    def _next(self, client: SimulatedClient) -> None:
        if self.stopped:
            return
        draw = self._random
        key = draw.choice(self._keys)
        [op] = draw.choices(_NAMES, _WEIGHTS)
        match op:
            case "put" | "append":
                self._ask(client, op, key, self._new_value(), None)
            case "cas":
                # What was last seen there is often still there; nothing at all, and a value long gone, rarely.
                expected = self._last_seen.get(key) if draw.randrange(8) else None
                self._ask(client, op, key, expected, self._new_value())
            case _:
                self._ask(client, op, key, None, None)

    def _new_value(self) -> str:
        self._values += 1
        return f"({self._values})"

    def _ask(self, client: SimulatedClient, op: OperationName, key: str, arg: Json, arg2: Json) -> None:
        client.session.renew()  # Nothing, unless it has expired.
        asked = _Asked(client.number, op, key, arg, arg2, self.world.now)
        if op == "get":
            handle = self.world.read(client, KeyValueStore.get.bind(key))
        else:
            handle = self.world.call(client, _body(op, key, arg, arg2))
        self._asked[client.number, handle] = asked

    def _answered(self, answer: Answer) -> None:
        asked = self._asked.pop((answer.client, answer.handle))
        client = self.clients[answer.client]
        if isinstance(answer.value, OutcomeUnknownError):
            self.unknown += 1
            self._over.append(asked.ended(answer.returned_at, None, None))
            if isinstance(answer.value, SessionExpiredError):
                client.session.expire()
        else:
            self.acknowledged += 1
            out = cast("Json", answer.value)
            self._over.append(asked.ended(answer.returned_at, out, True))
            self._learn(asked, out)
        # At least a nanosecond later: what touches in time counts as concurrent, and this is not.
        delay_ns = 1 + self._random.randrange(self._think_ns + 1)
        self.world.at(self.world.now + delay_ns, lambda: self._next(client))

    def _learn(self, asked: _Asked, out: Json) -> None:
        match asked.op, out:
            case "put", _:
                self._last_seen[asked.key] = asked.arg
            case "cas", {"swapped": True}:
                self._last_seen[asked.key] = asked.arg2
            case "get", {"value": value}:
                self._last_seen[asked.key] = value
            case "cas", {"current": {"value": value}}:
                self._last_seen[asked.key] = value
            case ("delete", _) | ("get", None) | ("cas", {"current": None}):
                self._last_seen.pop(asked.key, None)
            case _:
                pass


def _body(op: OperationName, key: str, arg: Json, arg2: Json) -> bytes:
    # What is bound travels as it is; a store's Value is any JSON value, and more.
    match op:
        case "put":
            return KeyValueStore.put.bind(key, arg)  # type: ignore[arg-type]  # mypy has no equality of recursive types
        case "append":
            return KeyValueStore.append.bind(key, arg)  # type: ignore[arg-type]  # the same
        case "cas":
            return KeyValueStore.compare_and_swap.bind(key, arg, arg2)  # type: ignore[arg-type]  # the same
    return KeyValueStore.delete.bind(key)
