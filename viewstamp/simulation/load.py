"""What clients do in a simulated cluster, what they must be told, and what must be left of it at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

from statemachine import OutcomeUnknownError, SessionExpiredError
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import Replica
from viewstamp.shell.callers import ClosedError
from viewstamp.simulation.history import Json, OperationName
from viewstamp.simulation.history import Operation as Told
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.ledger import Ledger
from viewstamp.simulation.linearizability import Linearizable, check_history
from viewstamp.simulation.models import COUNTER
from viewstamp.simulation.verdict import Kind, ViolationError, require
from viewstamp.simulation.world import World

ADD = Ledger.add.bind(0)
SIZE = Ledger.size.bind()


@dataclass(slots=True)
class Operation:
    """One call as its client saw it; times in nanoseconds. `ok` None: whether it was executed is not known."""

    client: int
    op: str
    key: str
    arg: object
    call: int
    ret: int | None = None
    out: object = None
    ok: bool | None = None
    arg2: object = None

    def as_json(self) -> dict[str, object]:
        """One line of a history file."""
        names = ("client", "op", "key", "arg", "arg2", "call", "ret", "out", "ok")
        return {name: getattr(self, name) for name in names}

    def told(self) -> Told:
        """As it stands in a history.

        Raises:
          HistoryError: it is none of the operations that histories have.
        """
        arg, arg2, out = cast("Json", self.arg), cast("Json", self.arg2), cast("Json", self.out)
        return Told(self.client, cast("OperationName", self.op), self.key, arg, arg2, self.call, self.ret, out, self.ok)


@dataclass(frozen=True, slots=True)
class Habits:
    """How clients behave: `think` nanoseconds at most between calls, `reads` of a hundred calls read, and so on.

    With `read_anywhere` half of the reads ask any one member and no other. `paddings` are the sizes of commands in
    bytes, drawn from. After `many` calls clients think twenty times as long: a run that is too healthy finds nothing.
    """

    think: int = 2 * MILLISECOND
    reads: int = 20
    read_anywhere: bool = False
    paddings: tuple[int, ...] = (0,)
    many: int = 1 << 40


class Load(ABC):
    """Clients that each wait for an answer before they call again, but for bursts. Everything becomes history."""

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        self.world = world
        self.habits = habits or Habits()
        self.history: list[Operation] = []
        self.begun = 0
        self.acknowledged = 0
        self.answered = 0
        self.reads = 0
        self.unknown = 0
        self.stopped = False
        self.longest_gap = 0
        self._last_answer = world.now
        self._surplus = 0
        self._waiting: dict[tuple[int, int], Operation] = {}
        self._forgotten: dict[tuple[int, int], Operation] = {}
        self._pinned: dict[tuple[int, int], int] = {}
        world.on_answer = self._answered
        self.clients = [world.add_client() for _ in range(clients)]
        for client in self.clients:
            self._next(client)

    @abstractmethod
    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        """Draw the next command: its body, described in `operation`."""

    @abstractmethod
    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        """Draw the next read likewise."""

    @abstractmethod
    def check(self, operation: Operation, *, forgotten: bool) -> None:
        """An operation ended with `operation.out`; `forgotten` if its caller had gone away. Raises ViolationError."""

    @abstractmethod
    def scan(self, replica: Replica) -> None:
        """At the end, when all is still: what was acknowledged is there, exactly once. Raises ViolationError."""

    def told(self) -> list[Told]:
        """The whole history, for a checker."""
        return [operation.told() for operation in self.history]

    # Clients.

    def _next(self, client: SimulatedClient) -> None:
        if self._surplus:
            self._surplus -= 1  # One of a burst: the client had others under way.
        elif not self.stopped and client.alive:
            self._begin(client, reads=client.random.randrange(100) < self.habits.reads)

    def burst(self, client: SimulatedClient, calls: int) -> None:
        """A client calls several times at once."""
        self._surplus += calls
        for _ in range(calls):
            self._begin(client, reads=False)

    def fresh(self) -> None:
        """Every client calls once more."""
        for client in self.clients:
            self.burst(client, 1)

    def read_at(self, client: SimulatedClient, member: int) -> None:
        """A client reads at this member and no other, beside what it has under way."""
        self._surplus += 1
        self._begin(client, reads=True, member=member)

    def _begin(self, client: SimulatedClient, *, reads: bool, member: int = 0) -> None:
        world = self.world
        operation = Operation(client.number, "", "", None, world.now)
        self.history.append(operation)
        if reads:
            body = self.query(client, operation)
            if not member and self.habits.read_anywhere and client.random.randrange(2):
                member = client.random.choice(world.cluster.configuration.members)
            handle = world.read(client, body, member)
            if member:
                self._pinned[client.number, handle] = member
        else:
            self.begun += 1
            handle = world.call(client, self.command(client, operation))
        self._waiting[client.number, handle] = operation

    def cancel(self, client: SimulatedClient) -> None:
        """Whoever made the client's oldest call goes away; it may happen, or have happened, all the same."""
        for key in self._waiting:
            if key[0] == client.number:
                self._forgotten[key] = self._waiting.pop(key)
                self.world.abandon(client, key[1])
                self._next(client)
                return

    def forget_reads_at(self, members: Collection[int]) -> None:
        """Whoever wanted to read at one of these members, and at no other, goes away."""
        for key in [key for key in self._waiting if self._pinned.get(key) in members]:
            self._forgotten[key] = self._waiting.pop(key)
            self.world.abandon(self.world.clients[key[0]], key[1])

    def replace(self, position: int) -> None:
        """A client's process ends, and another takes its place, with a session of its own."""
        world, gone = self.world, self.clients[position]
        world.remove_client(gone)
        for key in [key for key in self._waiting if key[0] == gone.number]:
            self._forgotten[key] = self._waiting.pop(key)
        self._surplus = 0
        self.clients[position] = world.add_client()
        self._next(self.clients[position])

    def _answered(self, answer: Answer) -> None:
        key = (answer.client, answer.handle)
        forgotten = self._forgotten.pop(key, None)
        operation = forgotten or self._waiting.pop(key)
        client = self.world.clients[answer.client]
        if isinstance(answer.value, ClosedError):
            self.unknown += 1  # Whoever was asked has ended. No call through the heap has this end.
        elif isinstance(answer.value, OutcomeUnknownError):
            self._left_unknown(client, answer.value)
        else:
            self.answered += 1
            operation.out = answer.value
            self.check(operation, forgotten=forgotten is not None)
            if forgotten is not None:
                operation.out = None
            else:
                operation.ret, operation.ok = answer.returned_at, True
                self.longest_gap = max(self.longest_gap, self.world.now - self._last_answer)
                self._last_answer = self.world.now
        if forgotten is None:
            think = self.habits.think if self.begun < self.habits.many else 20 * self.habits.think
            delay = client.random.randrange(think + 1)
            self.world.at(self.world.now + delay, lambda: self._next(client))

    def _left_unknown(self, client: SimulatedClient, error: OutcomeUnknownError) -> None:
        """Only a session that had to make room for others may leave a caller without an answer."""
        opened, most = self.world.watch.sessions_opened, self.world.cluster.max_sessions
        expired = isinstance(error, SessionExpiredError) and opened > most
        require(expired, "answers", "client {} was told that {!r}, with {} sessions ever", client.number, error, opened)
        self.unknown += 1
        self.world.renew(client)

    # The end.

    @property
    def idle(self) -> bool:
        """Whether every operation has been answered."""
        return not self._waiting

    def settle(self, within: int = 20 * SECOND) -> None:
        """Stop the load: everything outstanding must be answered, and all members must hold the same, exact state."""
        self.stopped = True
        self.serve(within)
        self.agree(list(self.world.nodes), within)

    def probe(self, within: int) -> None:
        """A client that is new, and has nothing to remember, calls once: it must be answered."""
        client = self.world.add_client()
        self.burst(client, 1)
        mine = [key for key in self._waiting if key[0] == client.number]
        if not self.world.run_until(lambda: mine[0] not in self._waiting, within):
            raise ViolationError(
                "service", f"a new client has no answer in {within} ns; {self._standings()}", Kind.LIVENESS
            )

    def serve(self, within: int) -> None:
        """Let time pass until everything outstanding is answered."""
        if not self.world.run_until(lambda: self.idle, within):
            oldest = min(self._waiting.values(), key=lambda operation: operation.call)
            raise ViolationError(
                "service",
                f"{len(self._waiting)} calls are not answered {within} ns after the faults ended, the oldest "
                f"({oldest.op}) of client {oldest.client}, made {self.world.now - oldest.call} ns ago; "
                + self._standings(),
                Kind.LIVENESS,
            )

    def catch_up(self, within: int) -> None:
        """Let time pass until everything that is outstanding now is answered; clients go on calling meanwhile."""
        keys = list(self._waiting)

        def answered() -> bool:
            while keys and keys[-1] not in self._waiting:
                keys.pop()
            return not keys

        if not self.world.run_until(answered, within):
            operation = self._waiting[keys[-1]]
            raise ViolationError(
                "service",
                f"a call ({operation.op}) of client {operation.client}, made {self.world.now - operation.call} ns ago, "
                f"is not answered {within} ns after all was well; " + self._standings(),
                Kind.LIVENESS,
            )

    def agree(self, members: Sequence[int], within: int) -> None:
        """Let time pass until these members have all applied the same; then look at each."""
        world = self.world

        def alike() -> bool:
            replicas = [world.nodes[member].replica for member in members]
            return {r.executor.applied if r is not None else -1 for r in replicas} == {world.watch.committed}

        if not world.run_until(alike, within):
            raise ViolationError(
                "convergence",
                f"{within} ns after all faults ended members have not all applied op {world.watch.committed}; "
                + self._standings(),
                Kind.LIVENESS,
            )
        replicas = [replica for member in members if (replica := world.nodes[member].replica) is not None]
        world.watch.compare_states(replicas)
        for replica in replicas:
            self.scan(replica)
        self.judge()

    @abstractmethod
    def judge(self) -> None:
        """At the end likewise: look at the whole history, if there is a model of what it should be."""

    def _standings(self) -> str:
        standings = []
        for member, node in self.world.nodes.items():
            if node.replica is None:
                standings.append(f"{member}: down")
                continue
            s = node.replica.status()
            standings.append(f"{member}: {s.role}, {s.status}, view {s.view}, op {s.op}, commit {s.commit} {s.waiting}")
        return "; ".join(standings)


class LedgerLoad(Load):
    """Clients that add tokens, each once, and read how many there are.

    What any answer has shown, each operation that begins later must show too; no answer can count more than was begun.
    A read must also show what any member had applied when it began, whether anybody had been told or not.
    """

    def __init__(self, world: World, clients: int = 3, habits: Habits | None = None) -> None:
        self._highest = 0
        self._floors: dict[int, int] = {}  # by the identity of an operation under way
        self._token_of: dict[int, int] = {}  # likewise
        self._nameless: set[int] = set()  # tokens that are 0 in the ledger: their commands are equal
        self._places: dict[int, int] = {}  # of acknowledged tokens, by token
        self._tokens: dict[int, int] = {}  # by place
        super().__init__(world, clients, habits)

    def command(self, client: SimulatedClient, operation: Operation) -> bytes:
        paddings = self.habits.paddings
        padding = bytes(paddings[client.random.randrange(len(paddings))]) if len(paddings) > 1 else b""
        operation.op, operation.arg = "add", 1
        self._token_of[id(operation)] = self.begun
        self._floors[id(operation)] = self._highest
        if self.world.random.randrange(8):
            return Ledger.add.bind(self.begun, padding)
        self._nameless.add(self.begun)
        return ADD

    def query(self, client: SimulatedClient, operation: Operation) -> bytes:
        operation.op = "read"
        self._floors[id(operation)] = max(self._highest, *map(_tokens_of, self.world.running), 0)
        return SIZE

    def check(self, operation: Operation, *, forgotten: bool) -> None:
        value, floor = operation.out, self._floors.pop(id(operation))
        if not isinstance(value, int):
            raise ViolationError("exactly once", f"client {operation.client} was told {value!r}")
        if operation.op == "read":
            require(forgotten or value >= floor, "reads are linearizable", "a read gave {}, after {}", value, floor)
            self.reads += 1
        else:
            token = self._token_of.pop(id(operation))
            require(
                forgotten or value > floor, "nothing acknowledged is lost", "an add gave {}, after {}", value, floor
            )
            other = self._tokens.setdefault(value, token)
            require(
                other == token, "nothing acknowledged is lost", "tokens {} and {} are both {}.", token, other, value
            )
            self._places[token] = value
            self.acknowledged += 1
        require(value <= self.begun, "exactly once", "{} is answered, and only {} adds were begun", value, self.begun)
        if not forgotten:
            self._highest = max(self._highest, value)

    def scan(self, replica: Replica) -> None:
        machine = replica.executor.machine
        tokens = machine.tokens if isinstance(machine, Ledger) else []
        named = [token for token in tokens if token]
        require(len(set(named)) == len(named), "exactly once", "a token is there twice")
        for token, place in self._places.items():
            found = tokens[place - 1] if place <= len(tokens) else None
            expected = 0 if token in self._nameless else token
            require(found == expected, "nothing acknowledged is lost", "token {} is not at its place {}", token, place)

    def judge(self) -> None:
        verdict = check_history(self.told(), COUNTER)
        if not isinstance(verdict, Linearizable):
            raise ViolationError("linearizability", str(verdict))


def _tokens_of(replica: Replica) -> int:
    machine = replica.executor.machine
    return len(machine.tokens) if isinstance(machine, Ledger) else 0


def draw_client(random: Random, load: Load) -> SimulatedClient:
    """Any client."""
    return load.clients[random.randrange(len(load.clients))]
