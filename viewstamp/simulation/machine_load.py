"""Clients of any state machine: commands and queries drawn from its methods' annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from statemachine import CommandFailedError, StateMachine, Value, ValueDecodingError, decode_command, encode_command
from statemachine.machine import commands_of, queries_of
from statemachine.outcome import Returned, decode_outcome
from viewstamp.replica import Replica
from viewstamp.simulation.inhabitants import SimulatedClient
from viewstamp.simulation.load import Habits, Load, Operation
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.world import World

_ASKED_IN_THE_END = 20
_WORDS = ("a", "b", "c", "apple", "")


def _any(random: Random) -> object:
    return random.choice((random.randrange(-3, 100), random.choice(_WORDS), True, None, [1, 2], {"a": 1}, b"x"))


_DRAWN: Mapping[object, Callable[[Random], object]] = {
    int: lambda random: random.choice((0, 1, 1, 2, 5, -1, random.randrange(-1000, 1000))),
    str: lambda random: random.choice(_WORDS),
    bool: lambda random: bool(random.randrange(2)),
    bytes: lambda random: bytes(random.choice((0, 1, 100, 3000))),
    float: lambda random: random.randrange(-100, 100) / 4,
    list: lambda random: [random.randrange(3) for _ in range(random.randrange(4))],
    dict: lambda random: {random.choice(_WORDS): random.randrange(3)},
    type(None): lambda random: None,
}


def drawing(hint: object) -> Callable[[Random], object]:
    """How to draw an argument of this annotation; anything, where nothing is known of it."""
    origin = get_origin(hint)
    if origin is Literal:
        values = get_args(hint)
        return lambda random: random.choice(values)
    if origin in (Union, UnionType):
        ways = [drawing(part) for part in get_args(hint)]
        return lambda random: random.choice(ways)(random)
    return _DRAWN.get(origin or hint, _any)


@dataclass(frozen=True, slots=True)
class _Signature:
    """A command or query: how to draw its arguments, of which `minimum` have no default."""

    name: str
    minimum: int
    arguments: tuple[Callable[[Random], object], ...]

    def draw(self, random: Random) -> list[object]:
        """Arguments for a call; of those with defaults the first few, or all, or none."""
        most = len(self.arguments)
        given = random.randint(self.minimum, most) if self.minimum < most else most
        return [draw(random) for draw in self.arguments[:given]]


class MachineLoad(Load):
    """Any machine's commands and queries with arguments of the annotated types, small ones, so that they collide.

    A machine whose commands need other arguments has a static method `fuzz_command(random)` that returns the encoded
    call of one (`Machine.add.bind(5)`). What commands return is not judged: agreement, equal states on all members,
    equal answers to queries in the end, and service are. Exceptions that are no `CommandError` are counted by command.
    """

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        machine = world.machine
        self._commands = _signatures(machine, commands_of(machine))
        self._queries = _signatures(machine, queries_of(machine))
        self._own: Callable[[Random], bytes] | None = getattr(machine, "fuzz_command", None)
        self._told: dict[tuple[int, bytes], tuple[int, bytes]] = {}  # (op, query): by whom, and the answer
        super().__init__(world, clients, habits)

    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        if self._own is not None:
            body = self._own(client.random)
            operation.op, operation.arg = _named(body)
            return body
        return self._draw(client.random, self._commands, operation)

    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        return self._draw(client.random, self._queries or self._commands, operation)

    def _draw(self, random: Random, signatures: list[_Signature], operation: Operation) -> bytes:
        signature = signatures[random.randrange(len(signatures))]
        drawn = signature.draw(random)
        operation.op, operation.arg = signature.name, drawn
        return encode_command(signature.name, drawn)

    def check(self, operation: Operation, *, forgotten: bool) -> None:
        if isinstance(operation.out, CommandFailedError):
            self.world.watch.counts[f"machine: {operation.op} raised {operation.out.name}"] += 1
        if isinstance(operation.out, Exception):
            operation.out = f"{type(operation.out).__name__}: {operation.out}"
        self.acknowledged += 1

    def check_together(self, parts: Sequence[Operation]) -> None:
        """Nor how one follows from the other."""

    def check_dropped(self, operation: Operation, *, listed: bool) -> None:
        """Nor which replies are large."""

    def judge(self) -> None:
        """Nor what its commands should have returned."""

    def scan(self, replica: Replica) -> None:
        """Nothing is known of this machine's states but that they are equal: what its snapshots leave out, too."""
        random, executor, here = Random(0), replica.executor, replica.status().member
        for query in self._queries:
            for _ in range(_ASKED_IN_THE_END if query.arguments else 1):
                drawn = query.draw(random)
                body = encode_command(query.name, drawn)
                answer = executor.query(body)
                member, first = self._told.setdefault((executor.applied, body), (here, answer))
                if answer != first:
                    raise ViolationError(
                        "equal states",
                        f"at op {executor.applied} the query {query.name}({', '.join(map(repr, drawn))}) gives "
                        f"{_plain(first)} at member {member}, and {_plain(answer)} at member {here}",
                    )


def _named(body: bytes) -> tuple[str, list[Value] | None]:
    """The method that a machine's own draw calls, and its arguments; what cannot be read has no name."""
    try:
        return decode_command(body)
    except ValueDecodingError:
        return "command", None


def _plain(reply: bytes) -> str:
    """What a query gave, for people."""
    match decode_outcome(reply):
        case Returned(value):
            return repr(value)
        case outcome:
            return str(outcome)


def _signatures(machine: type[StateMachine], operations: Mapping[str, Any]) -> list[_Signature]:
    found = []
    for name, operation in operations.items():
        hints, code = get_type_hints(operation.function), operation.function.__code__
        arguments = code.co_varnames[1 : code.co_argcount]
        found.append(_Signature(name, operation.minimum, tuple(drawing(hints.get(each)) for each in arguments)))
    return found
