"""A body reduced to what the contract asks of it, for any protocol; it checks that effects are lawful."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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
    Statement,
    Time,
    Write,
)
from viewstamp.simulation.stored import StoredRecords

WALL = 1_700_000_000 * 1_000_000_000


def proposal(name: str) -> Proposal:
    return Proposal(Kind.COMMAND, 1, 1, 0, name.encode(), 7)


class Body:
    """One member: its core, its disk, and what the contract says of its effects, checked each turn."""

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
        self.commit = effects.commit
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
        """All messages arrive."""
        for _ in range(100_000):
            source = next((body for body in self.bodies.values() if body.sent), None)
            if source is None:
                return
            to, message = source.sent.popleft()
            self.trace.append(f"{self.now.monotonic} {source.me} {to} {message}")
            if source.me not in self.cut and to not in self.cut:
                target = self.bodies[to]
                target.core.receive(source.me, source.incarnation, message, self.now)
                target.turn(self.now)
        raise AssertionError("members go on answering each other without end")

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

    def restart(self, member: int) -> None:
        self.bodies[member] = self.bodies[member].restarted(self.now)
