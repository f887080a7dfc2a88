"""One member driven by hand through the contract: the test is its network, its disk and its clock."""

from __future__ import annotations

from random import Random
from typing import ClassVar, Self, TypeVar

from viewstamp.protocol import (
    Configuration,
    Core,
    Durable,
    Effects,
    Entry,
    Founded,
    Kind,
    Message,
    Origin,
    Proposal,
    ReadFailed,
    ReadReady,
    Snapshot,
    Time,
    Transition,
    Wanted,
    Write,
    make_entry,
)
from viewstamp.simulation.stored import StoredRecords

WALL = 1_700_000_000 * 1_000_000_000
M = TypeVar("M", bound=Message)


def proposal(name: str = "x") -> Proposal:
    """A client's command; `name` tells it apart."""
    return Proposal(Kind.COMMAND, 1, 1, 0, name.encode(), 0)


def entry(op: int, view: int = 0, name: str = "x", stamp: int = WALL) -> Entry:
    return make_entry(op, view, stamp, proposal(name))


def entries(first: int, last: int, view: int = 0) -> tuple[Entry, ...]:
    """Entries of `view` from op `first` to op `last`."""
    return tuple(entry(op, view) for op in range(first, last + 1))


def snapshot(op: int, view: int = 0, stamp: int = WALL) -> Snapshot:
    """The name of a snapshot of everything up to `op`, whose entry was made in `view`."""
    return Snapshot(view, op, stamp, 100, bytes(32))


class Driven:
    """Events go in one at a time; each is a turn of its own, and its effects are kept until looked at.

    Writes stay under way until `finish_writes`, except where `eager` (the default) finishes each at once. `sent`
    takes what has left: statements, and promises whose write is durable.
    """

    protocol: ClassVar[type[Core]]

    def __init__(
        self,
        me: int,
        *,
        members: int = 3,
        origin: Origin | None = None,
        configuration: Configuration | None = None,
        eager: bool = True,
        seed: int = 1,
    ) -> None:
        self.configuration = configuration or Configuration(tuple(range(1, members + 1)))
        self.me = me
        self.eager = eager
        self.now = Time(0, WALL)
        self.vector = (1,) * len(self.configuration.members)
        self.outbox: list[tuple[int, Message]] = []
        self.promised: list[tuple[int, int, Message]] = []
        self.writes: list[Write] = []
        self.reads: list[ReadReady | ReadFailed] = []
        self.transitions: list[Transition] = []
        self.disk = StoredRecords(origin if isinstance(origin, Durable) else None)
        self.supersede = 0
        self.wanted: Wanted | None = None
        self.restored: list[Snapshot] = []
        self._told_commit = 0
        self.done = 0
        self.core = self.protocol(self.configuration, me, origin or Founded(self.vector), Random(seed), self.now)
        self._turn()

    # Events.

    def receive(self, sender: int, message: Message, incarnation: int = 1) -> Effects:
        self.core.receive(sender, incarnation, message, self.now)
        return self._turn()

    def propose(self, *names: str) -> int:
        first = self.core.propose([proposal(name) for name in names], self.now)
        self._turn()
        return first

    def read(self, number: int) -> None:
        self.core.read(number, self.now)
        self._turn()

    def compact(self, op: int, keep_after: int | None = None) -> Snapshot:
        """This member has taken a snapshot at `op`, and keeps the entries after `keep_after` (that op unless told)."""
        taken = snapshot(op, self.core.viewstamp_of(op).view)
        self.disk.compact(taken, op if keep_after is None else keep_after)
        self.core.compact(taken, op if keep_after is None else keep_after, self.now)
        self._turn()
        return taken

    def fetched(self, taken: Snapshot) -> None:
        self.core.fetched(taken, self.now)
        self._turn()

    def fetching(self, taken: Snapshot) -> None:
        """Another piece of it has come."""
        self.core.fetching(taken, self.now)
        self._turn()

    def fetch_failed(self, taken: Snapshot) -> None:
        """Its source has it no more."""
        self.core.fetch_failed(taken, self.now)
        self._turn()

    @property
    def wants(self) -> tuple[int, int] | None:
        """From whom this member wants a snapshot, and up to which op."""
        return (self.wanted.source, self.wanted.snapshot.op) if self.wanted is not None else None

    @property
    def base(self) -> int:
        return self.core.standing.base

    def tick(self) -> None:
        """The clock is at the next deadline."""
        self.now = self._later(max(0, self.core.deadline - self.now.monotonic))
        self.core.tick(self.now)
        self._turn()

    def wait(self, duration_ns: int) -> None:
        """Time passes; the replica is woken whenever it wants to be."""
        end = self.now.monotonic + duration_ns
        for _ in range(10_000):
            if self.core.deadline > end:
                break
            self.tick()
        else:
            raise AssertionError("a deadline does not move on")
        self.now = self._later(end - self.now.monotonic)
        self.core.tick(self.now)
        self._turn()

    def wait_busy(self, duration_ns: int, step_ns: int) -> None:
        """Time passes, and a command comes with each step; the replica is woken only where it wants to be."""
        for _ in range(duration_ns // step_ns):
            self.now = self._later(step_ns)
            if self.core.deadline <= self.now.monotonic:
                self.tick()
            self.propose("x")

    def finish_write(self) -> None:
        """The oldest write under way becomes durable."""
        write = self.writes.pop(0)
        self.disk.store(write.records)
        self.done = write.number
        self.core.written(write.number, self.now)
        self._turn()

    def finish_writes(self) -> None:
        """Every write under way becomes durable."""
        while self.writes:
            self.finish_write()

    # What came of them.

    def sent(self, kind: type[M]) -> list[tuple[int, M]]:
        """Messages of this kind that have left since the last look, with their addressees."""
        found = [(to, message) for to, message in self.outbox if isinstance(message, kind)]
        self.outbox = [(to, message) for to, message in self.outbox if not isinstance(message, kind)]
        return found

    def last(self, kind: type[M]) -> M:
        """The last message of this kind that has left; it must be there."""
        return self.sent(kind)[-1][1]

    def forget(self) -> None:
        """What has left up to now is not looked at."""
        self.outbox.clear()

    @property
    def op(self) -> int:
        return self.core.standing.op

    @property
    def commit(self) -> int:
        return self.core.standing.commit

    @property
    def view(self) -> int:
        return self.core.standing.view

    @property
    def status(self) -> str:
        return self.core.standing.status

    @property
    def leads(self) -> bool:
        return self.core.standing.leads

    def restarted(self) -> Self:
        """Another life with what the disk holds; writes under way are lost with the process."""
        origin = self.disk.durable
        assert origin is not None, "nothing was saved"
        return type(self)(self.me, configuration=self.configuration, origin=origin, seed=2)

    # The turn.

    def _turn(self) -> Effects:
        pending = self.core.pending
        effects = self.core.drain()
        told = (effects.sends, effects.promises, effects.write, effects.reads, effects.transitions, effects.restore)
        changed = effects.commit != self._told_commit or effects.wanted != self.wanted or effects.supersede
        assert pending or not (any(told) or changed), "a body would have let this turn go by"
        self._told_commit = effects.commit
        self.outbox += [(send.to, send.message) for send in effects.sends]
        if effects.write is not None:
            self.writes.append(effects.write)
        self.promised += [(promise.write, promise.to, promise.message) for promise in effects.promises]
        self.reads += effects.reads
        self.transitions += effects.transitions
        self.wanted = effects.wanted
        if effects.restore is not None:
            self.restored.append(effects.restore)
        self.supersede = max(self.supersede, effects.supersede)
        self._release()
        if self.eager and self.writes:
            self.finish_writes()
        return effects

    def _release(self) -> None:
        self.outbox += [(to, message) for write, to, message in self.promised if write <= self.done]
        self.promised = [promise for promise in self.promised if promise[0] > self.done]

    def _later(self, duration_ns: int) -> Time:
        return Time(self.now.monotonic + duration_ns, self.now.wall + duration_ns)
