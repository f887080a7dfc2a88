"""Clients of a ledger in a simulated cluster, and what must hold of what they are told."""

from __future__ import annotations

from collections.abc import Sequence

from statemachine import CommandFailedError
from statemachine.outcome import MAXIMUM_REPLY_BYTES
from viewstamp.replica import Replica
from viewstamp.simulation.inhabitants import SimulatedClient
from viewstamp.simulation.ledger import DefectError, KeptError, Ledger, NotInTurnError, UndoneError, in_turn, shown
from viewstamp.simulation.linearizability import Linearizable, check_history
from viewstamp.simulation.load import Habits, Load, Operation
from viewstamp.simulation.models import COUNTER
from viewstamp.simulation.verdict import ViolationError, require
from viewstamp.simulation.world import World

ADD = Ledger.add.bind(0)
SIZE = Ledger.size.bind()

# What is atomic copies the whole ledger: not often.
_RAISING = ("add_in_turn", "add_in_turn", "add_or_undo", "add_and_complain", "add_and_complain", "add_and_fail")
_WITH_LARGE_REPLIES = ("add_or_undo", "add_and_complain", "add_and_complain", "add_and_complain")
_SIZES = (70, 100, 100, 300, 300, 1_000, 5_000)
_TOO_LARGE_OF = 100
"""One of so many commands with a large reply has one that is larger than any can be."""


class LedgerLoad(Load):
    """Clients that add tokens, each once, and read how many there are.

    What any answer has shown, each operation that begins later must show too; no answer can count more than was begun.
    A read must also show what any member had applied when it began, whether anybody had been told or not.

    A command that raised has done what it says, and never does more: in the history it is an add that was told its sum,
    or a read. What was executed with a result that is lost is an add of unknown outcome there; at the end its token
    must be found once.
    """

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        self._highest = 0
        self._begun_tokens = 0
        self._nameless: set[int] = set()  # tokens that are 0 in the ledger: their commands are equal
        self._places: dict[int, int] = {}  # of acknowledged tokens, by token
        self._tokens: dict[int, int] = {}  # by place
        self._refused: set[int] = set()  # tokens that were told not to be there
        self._placeless: set[int] = set()  # tokens that are there, and nobody was told where
        super().__init__(world, clients, habits)

    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        self._begun_tokens += 1
        token = operation.token = self._begun_tokens
        operation.op, operation.arg, operation.name, operation.floor = "add", 1, "add", self._highest
        kinds, habits = self.kinds, self.habits
        if habits.raising and kinds.randrange(100) < habits.raising:
            operation.name = kinds.choice(_RAISING)
            operation.size = self._draw_size() if kinds.randrange(100) < habits.large_replies else 0
        elif habits.large_replies and kinds.randrange(100) < habits.large_replies:
            operation.name, operation.size = kinds.choice(_WITH_LARGE_REPLIES), self._draw_size()
        match operation.name:
            case "add_in_turn":
                return Ledger.add_in_turn.bind(token)
            case "add_or_undo":
                return Ledger.add_or_undo.bind(token, operation.size)
            case "add_and_complain":
                return Ledger.add_and_complain.bind(token, operation.size)
            case "add_and_fail":
                return Ledger.add_and_fail.bind(token)
        return self._plain(client, token)

    def _draw_size(self) -> int:
        return self.kinds.choice(_SIZES) if self.kinds.randrange(_TOO_LARGE_OF) else MAXIMUM_REPLY_BYTES

    def _plain(self, client: SimulatedClient, token: int) -> bytes:
        paddings = self.habits.paddings
        padding = bytes(paddings[client.random.randrange(len(paddings))]) if len(paddings) > 1 else b""
        if self.world.random.randrange(8):
            return Ledger.add.bind(token, padding)
        self._nameless.add(token)
        return ADD

    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        operation.op = "read"
        operation.floor = max(self._highest, *map(_tokens_of, self.world.running), 0)
        return SIZE

    def check(self, operation: Operation, *, forgotten: bool) -> None:
        token = operation.token
        count, added = _told_count(operation)
        if token:
            self._count(operation, added=added)
        if count is None:
            # Nothing says when it happened; to the history it may have, or it certainly did not.
            operation.ok = None if added else False
            (self._placeless if added else self._refused).add(token)
            self.acknowledged += 1
            return
        if not added:
            operation.op, operation.arg = "read", None
            self._refused.update((token,) if token else ())
            self._check_read(operation, count, forgotten=forgotten)
        else:
            self._check_add(operation, count, forgotten=forgotten)
        operation.out = count
        begun = self._begun_tokens
        require(count <= begun, "exactly once", "{} is answered, and only {} adds were begun", count, begun)
        if not forgotten:
            self._highest = max(self._highest, count)

    def _count(self, operation: Operation, *, added: bool) -> None:
        counts = self.world.watch.counts
        if isinstance(operation.out, Exception):
            counts[f"load: {type(operation.out).__name__}"] += 1
        counts["load: large replies"] += added and operation.size > 0

    def _check_read(self, operation: Operation, count: int, *, forgotten: bool) -> None:
        floor = operation.floor
        require(forgotten or count >= floor, "reads are linearizable", "a read gave {}, after {}", count, floor)
        self.reads += 1

    def _check_add(self, operation: Operation, count: int, *, forgotten: bool) -> None:
        token, floor, lost = operation.token, operation.floor, "nothing acknowledged is lost"
        require(forgotten or count > floor, lost, "an add gave {}, after {}", count, floor)
        other = self._tokens.setdefault(count, token)
        require(other == token, lost, "tokens {} and {} are both {}.", token, other, count)
        self._places[token] = count
        self.acknowledged += 1

    def check_together(self, parts: Sequence[Operation]) -> None:
        """Each begins with what the one before has left."""
        expected: int | None = None
        for part in parts:
            count, added = _told_count(part)
            if expected is not None:
                expected += added
            require(
                count is None or expected is None or count == expected,
                "lists",
                "a command ({}) of a list was told {}; those before it in the list leave it {}",
                part.name,
                count,
                expected,
            )
            expected = count if count is not None else expected

    def check_dropped(self, operation: Operation, *, listed: bool) -> None:
        large = listed or operation.size > 0
        require(large, "answers", "a small reply ({}) is gone", operation.name)
        if operation.name in ("add", "add_and_complain", "add_and_fail"):
            self._placeless.add(operation.token)

    def scan(self, replica: Replica) -> None:
        machine = replica.executor.machine
        tokens = machine.tokens if isinstance(machine, Ledger) else []
        named = {token for token in tokens if token}
        require(len(named) == len(tokens) - tokens.count(0), "exactly once", "a token is there twice")
        late = named & self._refused
        require(not late, "exactly once", "token {} is there, though its command was undone", min(late, default=0))
        gone = self._placeless - self._nameless - named
        require(not gone, "nothing acknowledged is lost", "token {} is not there", min(gone, default=0))
        for token, place in self._places.items():
            found = tokens[place - 1] if place <= len(tokens) else None
            expected = 0 if token in self._nameless else token
            require(found == expected, "nothing acknowledged is lost", "token {} is not at its place {}", token, place)

    def judge(self) -> None:
        verdict = check_history(self.told(), COUNTER)
        if not isinstance(verdict, Linearizable):
            raise ViolationError("linearizability", str(verdict))


def _told_count(operation: Operation) -> tuple[int | None, bool]:
    """How many tokens there were after it, if that was told, and whether one of them is its own.

    Raises:
      ViolationError: nothing of the kind may be told of this command.
    """
    token, size = operation.token, operation.size
    added, count, data, in_its_turn = True, 0, shown(token, size), True
    match operation.name, operation.out:
        case (("" | "add"), int(told)):
            return told, operation.name == "add"
        case (("add_in_turn" | "add_and_fail"), int(told)):
            count = told
        case (("add_or_undo" | "add_and_complain"), {"count": int(told), "shown": bytes(data), **rest}) if not rest:
            count = told
        case ("add_in_turn", NotInTurnError(count=told)) | ("add_or_undo", UndoneError(count=told)):
            added, count, in_its_turn = False, told, False
        case "add_and_complain", KeptError(count=told, shown=data):
            count, in_its_turn = told, False
        case "add_and_fail", CommandFailedError(name=DefectError.__name__):
            return None, True
        case "add_or_undo", CommandFailedError(name="ReplyTooLargeError") if size == MAXIMUM_REPLY_BYTES:
            return None, False
        case "add_and_complain", CommandFailedError() if size == MAXIMUM_REPLY_BYTES:
            return None, True
        case _:
            count = -1
    if count < 0 or data != shown(token, size) or in_turn(token, count - added) is not in_its_turn:
        told_of = f"{operation.out!r:.100} of {operation.name or 'a read'}"
        raise ViolationError("exactly once", f"client {operation.client} was told {told_of}")
    return count, added


def _tokens_of(replica: Replica) -> int:
    machine = replica.executor.machine
    return len(machine.tokens) if isinstance(machine, Ledger) else 0
