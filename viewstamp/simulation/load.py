"""What clients do in a simulated cluster, what they must be told, and what must be left of it at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

from statemachine import OutcomeUnknownError, SessionExpiredError, UnknownReason, encode_list
from statemachine.sessions import MAXIMUM_REPLIES_BYTES
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import Replica
from viewstamp.shell.callers import ClosedError
from viewstamp.simulation.history import Json, OperationName
from viewstamp.simulation.history import Operation as Told
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.recorded import kept_for_ever
from viewstamp.simulation.verdict import Kind, ViolationError, require
from viewstamp.simulation.world import World

_LONGEST_LIST = 5
_LIST_HEAD_BYTES = 5
"""In front of a list, and of each command in it, at most."""


@dataclass(slots=True)
class Operation:
    """One call as its client saw it; times in nanoseconds. `ok` None: whether it was executed is not known.

    Of a list of commands `parts` are what stands in the history, an operation for each, which all began and ended with
    it. What else the load has to remember of a command is in `token` and `size`, and which one it is in `name`.
    """

    client: int
    op: str
    key: str
    arg: object
    call: int
    ret: int | None = None
    out: object = None
    ok: bool | None = None
    arg2: object = None
    name: str = ""
    token: int = 0
    size: int = 0
    floor: int = 0
    parts: tuple[Operation, ...] = ()

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
    Of a hundred calls `lists` hand over several commands; of a hundred commands `raising` may raise, and of the others
    `large_replies` have a large reply.
    """

    think: int = 2 * MILLISECOND
    reads: int = 20
    read_anywhere: bool = False
    paddings: tuple[int, ...] = (0,)
    many: int = 1 << 40
    lists: int = 0
    raising: int = 0
    large_replies: int = 0


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
        self.kinds = Random(f"kinds of calls {world.cluster.cluster_id.hex()}")
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
    def check_together(self, parts: Sequence[Operation]) -> None:
        """These were the commands of a list, with what they returned: nothing lies between. Raises ViolationError."""

    @abstractmethod
    def check_dropped(self, operation: Operation, *, listed: bool) -> None:
        """It was executed, and nobody knows its reply, which was a large one, any more; `listed` if it may have been
        together with others'. Raises ViolationError."""

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
        for left in reversed(range(calls)):
            self._begin(client, reads=False, more=left > 0 and self.world.gathered > 1)

    def fresh(self) -> None:
        """Every client calls once more."""
        for client in self.clients:
            self.burst(client, 1)

    def read_at(self, client: SimulatedClient, member: int) -> None:
        """A client reads at this member and no other, beside what it has under way."""
        self._surplus += 1
        self._begin(client, reads=True, member=member)

    def read_on(self, member: int, every: int) -> Callable[[], None]:
        """All clients read at this member too, every so many nanoseconds, whatever else they wait for; gives what ends
        that."""
        going = [True]

        def again() -> None:
            if going:
                for client in self.clients:
                    self.read_at(client, member)
                self.world.at(self.world.now + every, again)

        again()
        return going.clear

    def _begin(self, client: SimulatedClient, *, reads: bool, member: int = 0, more: bool = False) -> None:
        world = self.world
        operation = Operation(client.number, "", "", None, world.now)
        if reads:
            self.history.append(operation)
            body = self.query(client, operation)
            if not member and self.habits.read_anywhere and client.random.randrange(2):
                member = client.random.choice(world.cluster.configuration.members)
            handle = world.read(client, body, member)
            if member:
                self._pinned[client.number, handle] = member
        else:
            self.begun += 1
            body = self._body(client, operation)
            handle = world.call(client, body, is_list=bool(operation.parts), more=more)
        self._waiting[client.number, handle] = operation

    def _body(self, client: SimulatedClient, operation: Operation) -> bytes:
        """The next command, or several as one list."""
        if not self.habits.lists or self.kinds.randrange(100) >= self.habits.lists:
            self.history.append(operation)
            return self.command(client, operation)
        parts: list[Operation] = []
        bodies: list[bytes] = []
        room = self.world.cluster.max_command_bytes - _LIST_HEAD_BYTES
        for _ in range(1 + self.kinds.randrange(_LONGEST_LIST)):
            part = Operation(client.number, "", "", None, operation.call)
            body = self.command(client, part)
            room -= _LIST_HEAD_BYTES + len(body)
            if bodies and room < 0:
                break  # Nobody ever calls this one.
            parts.append(part)
            bodies.append(body)
        self.history += parts
        operation.op, operation.parts = "list", tuple(parts)
        return encode_list(bodies)

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
            self._left_unknown(client, operation, answer.value)
        else:
            self.answered += 1
            operation.out = answer.value
            self._ended(operation, None if forgotten is not None else answer.returned_at)
            if forgotten is None:
                self.longest_gap = max(self.longest_gap, self.world.now - self._last_answer)
                self._last_answer = self.world.now
        if forgotten is None:
            think = self.habits.think if self.begun < self.habits.many else 20 * self.habits.think
            delay = client.random.randrange(think + 1)
            self.world.at(self.world.now + delay, lambda: self._next(client))

    def _ended(self, operation: Operation, returned_at: int | None) -> None:
        """An operation has its result; None: its caller has gone away, and the history does not know of it."""
        parts = operation.parts or (operation,)
        if operation.parts:
            out = operation.out
            if not isinstance(out, list) or len(out) != len(parts):
                raise ViolationError("lists", f"a list of {len(parts)} commands was answered with {out!r:.100}")
            for part, result in zip(parts, out, strict=True):
                part.out = result
            self.check_together(parts)
            self.world.watch.counts["load: lists"] += 1
        for part in parts:
            part.ret, part.ok = returned_at, returned_at is not None or None
            self.check(part, forgotten=returned_at is None)
            if not part.ok:
                part.out = None

    def _left_unknown(self, client: SimulatedClient, operation: Operation, error: OutcomeUnknownError) -> None:
        """Only a session that had to make room for others may leave a caller without an answer; and replies that had
        to, of which it is known that they were there."""
        if error.reason is UnknownReason.REPLY_DROPPED:
            bounded = self.world.max_reply_bytes < MAXIMUM_REPLIES_BYTES
            require(bounded, "answers", "client {} was told that its reply made room, for nothing", client.number)
            for part in operation.parts or (operation,):
                self.check_dropped(part, listed=bool(operation.parts) or self.world.gathered > 1)
            self.world.watch.counts["load: replies dropped"] += 1
            self.unknown += 1
            return
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
            kept = kept_for_ever(replica.executor.sessions)
            require(not kept, "bounds", "a member still keeps {}", kept)
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


def draw_client(random: Random, load: Load) -> SimulatedClient:
    """Any client."""
    return load.clients[random.randrange(len(load.clients))]
