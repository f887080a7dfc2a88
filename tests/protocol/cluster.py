"""A body reduced to what the contract asks of it, for any protocol; it checks that effects are lawful."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256
from random import Random

from viewstamp.protocol import (
    NEVER,
    Configuration,
    Core,
    Durable,
    Effects,
    Founded,
    Kind,
    Message,
    Origin,
    Promise,
    Proposal,
    ReadFailed,
    ReadReady,
    Snapshot,
    Statement,
    Time,
    Wanted,
    Write,
)
from viewstamp.simulation.stored import StoredRecords

WALL = 1_700_000_000 * 1_000_000_000


def proposal(name: str) -> Proposal:
    return Proposal(Kind.COMMAND, 1, 1, 0, name.encode(), 7)


class Body:
    """One member: its core, its disk, and what the contract says of its effects, checked each turn.

    Its state machine is a digest of all that was applied: `state`, up to op `applied`. A snapshot's digest is that.
    """

    def __init__(self, protocol: type[Core], configuration: Configuration, me: int, origin: Origin, now: Time) -> None:
        self.protocol = protocol
        self.configuration = configuration
        self.me = me
        self.core = protocol(configuration, me, origin, Random(me), now)
        self.incarnation = 1
        self.disk = StoredRecords(origin if isinstance(origin, Durable) else None)
        self.issued = 0
        self.done = 0
        self.commit = 0
        self.writes: deque[Write] = deque()
        self.promises: deque[tuple[int, int, Promise]] = deque()
        self.answers: dict[int, ReadReady | ReadFailed] = {}
        self.sent: deque[tuple[int, Message]] = deque()
        self.disk_held = False
        self.wanted: Wanted | None = None
        self.files: set[Snapshot] = set()
        self.restored: list[Snapshot] = []
        self.applied = 0
        self.state = bytes(32)
        if self.disk.snapshot is not None:
            self._load(self.disk.snapshot)

    def _load(self, snapshot: Snapshot) -> None:
        self.files.add(snapshot)
        self.applied, self.state = snapshot.op, snapshot.digest

    def turn(self, now: Time) -> None:
        """Carry out one turn's effects in the order that the contract gives."""
        effects = self.core.drain()
        self._check(effects)
        for send in effects.sends:
            self.sent.append((send.to, send.message))
        if effects.write is not None:
            self.issued = effects.write.number
            self.writes.append(effects.write)
        for promise in effects.promises:
            assert promise.write <= self.issued, "a promise that waits for a write that was never asked for"
            self.promises.append((promise.write, promise.to, promise.message))
        self._keep()
        if effects.restore is not None:
            assert effects.restore in self.files, "a snapshot is installed that is not on the disk"
            assert effects.restore.op > self.applied, "a snapshot is installed that takes something back"
            self.restored.append(effects.restore)
            self._load(effects.restore)
        self.commit = effects.commit
        while self.applied < self.commit:
            self.applied += 1
            self.state = sha256(self.state + self.core.entry(self.applied).encoded).digest()
        self.wanted = effects.wanted
        for answer in effects.reads:
            assert answer.read not in self.answers, "a read is answered twice"
            self.answers[answer.read] = answer
        if not self.disk_held:
            self.finish_writes(now)

    def finish_writes(self, now: Time) -> None:
        while self.writes:
            write = self.writes.popleft()
            self.disk.store(write.records)
            self.done = write.number
            self._keep()
            self.core.written(write.number, now)
            self.turn(now)

    def compact(self, keep: int, now: Time) -> Snapshot:
        """Take a snapshot of what is applied, and keep so many entries before it."""
        op = self.applied
        assert op > self.core.standing.base, "there is nothing to compact"
        entry = self.core.entry(op)
        taken = Snapshot(entry.view, op, entry.stamp, 100, self.state)
        self.files.add(taken)
        keep_after = max(self.core.standing.base, op - keep)
        self.disk.compact(taken, keep_after)
        self.core.compact(taken, keep_after, now)
        self.turn(now)
        return taken

    def receive_snapshot(self, source: Body, now: Time) -> None:
        """What is wanted comes from its source, or does not if that has another one by now."""
        wanted = self.wanted
        assert wanted is not None
        assert wanted.source == source.me
        if wanted.snapshot == source.disk.snapshot:
            self.core.fetching(wanted.snapshot, now)
            self.files.add(wanted.snapshot)
            self.core.fetched(wanted.snapshot, now)
        else:
            self.core.fetch_failed(wanted.snapshot, now)
        self.turn(now)

    def restarted(self, now: Time) -> Body:
        """Another life with what the disk holds."""
        origin = self.disk.durable
        assert origin is not None, "nothing was saved at the founding"
        body = Body(self.protocol, self.configuration, self.me, origin, now)
        body.incarnation = self.incarnation
        body.turn(now)
        return body

    def _keep(self) -> None:
        while self.promises and self.promises[0][0] <= self.done:
            _, to, message = self.promises.popleft()
            self.sent.append((to, message))

    def _check(self, effects: Effects) -> None:
        others = self.configuration.others(self.me)
        assert all(isinstance(send.message, Statement) and send.to in others for send in effects.sends)
        assert all(isinstance(send.message, Promise) and send.to in others for send in effects.promises)
        if effects.write is not None:
            assert effects.write.number == self.issued + 1, "write numbers grow by one"
            assert effects.write.records, "an empty write"
        numbers = [promise.write for promise in effects.promises]
        assert numbers == sorted(numbers)
        assert effects.commit >= self.commit, "the commit-number went back"
        assert effects.commit <= self.core.standing.op
        assert effects.commit == self.core.standing.commit


class BodyCluster:
    """Members whose messages all arrive, unless a member is `cut` off."""

    def __init__(self, protocol: type[Core], size: int) -> None:
        self.configuration = Configuration(tuple(range(1, size + 1)))
        self.now = Time(0, WALL)
        self.cut: set[int] = set()
        self.snapshots_held = False
        self.trace: list[str] = []
        founded = Founded((1,) * size)
        self.bodies = {
            me: Body(protocol, self.configuration, me, founded, self.now) for me in self.configuration.members
        }
        for body in self.bodies.values():
            body.turn(self.now)
        self.deliver()

    def act(self, member: int, event: Callable[[Core], object]) -> object:
        """One event at one member, and what follows from it everywhere."""
        body = self.bodies[member]
        result = event(body.core)
        body.turn(self.now)
        self.deliver()
        return result

    def deliver(self) -> None:
        """All messages arrive, and then the snapshots that are wanted, unless these are `snapshots_held`."""
        for _ in range(100_000):
            source = next((body for body in self.bodies.values() if body.sent), None)
            if source is None:
                if not self._hand_over_a_snapshot():
                    return
                continue
            to, message = source.sent.popleft()
            self.trace.append(f"{self.now.monotonic} {source.me} {to} {message}")
            if source.me not in self.cut and to not in self.cut:
                target = self.bodies[to]
                target.core.receive(source.me, source.incarnation, message, self.now)
                target.turn(self.now)
        raise AssertionError("members go on answering each other without end")

    def _hand_over_a_snapshot(self) -> bool:
        for me, body in self.bodies.items():
            wanted = body.wanted
            if wanted is not None and not self.snapshots_held and not self.cut & {me, wanted.source}:
                body.receive_snapshot(self.bodies[wanted.source], self.now)
                return True
        return False

    def run(self, duration_ns: int) -> None:
        """Let time pass."""
        end = self.now.monotonic + duration_ns
        for _ in range(100_000):
            deadline, member = min((body.core.deadline, member) for member, body in self.bodies.items())
            if deadline > end or deadline == NEVER:
                self.now = Time(end, WALL + end)
                return
            monotonic = max(deadline, self.now.monotonic)
            self.now = Time(monotonic, WALL + monotonic)
            self.act(member, lambda core: core.tick(self.now))
        raise AssertionError("a deadline does not move on")

    @property
    def leader(self) -> int:
        """The one member that takes proposals."""
        [leader] = [me for me, body in self.bodies.items() if body.core.standing.leads]
        return leader

    def propose(self, *names: str) -> int:
        """Propose where they are taken; returns the op of the first."""
        first = self.act(self.leader, lambda core: core.propose([proposal(name) for name in names], self.now))
        assert isinstance(first, int)
        return first

    def fill(self, count: int) -> int:
        """Propose so many, one at a time; returns the op of the last."""
        return [self.propose(f"filling {number}") for number in range(count)][-1]

    def compact(self, *members: int, keep: int = 0) -> None:
        """Let these members take a snapshot of what they have committed, and keep so many entries before it."""
        for member in members:
            self.bodies[member].compact(keep, self.now)
        self.deliver()

    def restart(self, member: int) -> None:
        self.bodies[member] = self.bodies[member].restarted(self.now)
