"""Disks and links that take nearly as long as the suspect time-out: all goes on, only later.

Whoever leads must be let go on, for no other is quicker; and reads must be waited for.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from raft import Raft
from tests.protocol.cluster import WALL, proposal
from viewstamp.protocol import (
    MILLISECOND,
    SECOND,
    Configuration,
    Core,
    Founded,
    Message,
    ReadFailed,
    ReadReady,
    SendAfter,
    Time,
)
from vsr import ViewstampedReplication

_LINK_NS = MILLISECOND // 5
_READ_NS = 35 * MILLISECOND
_TICK_NS = 5 * MILLISECOND
_LOAD_NS = 10 * MILLISECOND
_MEMBERS = (1, 2, 3)


@dataclass(slots=True)
class _Disk:
    """It takes all that waits as one write, and then as long as ever."""

    busy: bool = False
    waiting: int = 0
    done: int = 0
    promises: deque[SendAfter] = field(default_factory=deque)


class _World:
    """Three members with such disks and links, under a load of commands, and perhaps of reads, that never ends."""

    def __init__(self, protocol: type[Core], disk_ns: int, link_ns: int = _LINK_NS, *, reads: bool = False) -> None:
        configuration = Configuration(_MEMBERS)
        self._disk_ns, self._link_ns = disk_ns, link_ns
        self.now = 0
        self.asked: dict[int, int] = {}  # read -> what was committed anywhere when it was asked
        self.answers: dict[int, ReadReady | ReadFailed] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        founded = Founded(tuple(_MEMBERS))
        self.cores = {me: protocol(configuration, me, founded, Random(me), self._time) for me in _MEMBERS}
        self._disks = {me: _Disk() for me in _MEMBERS}
        for me in _MEMBERS:
            self._turn(me)
        self._at(0, self._tick)
        self._at(0, self._load)
        if reads:
            self._at(0, self._read)

    def run(self, until: int) -> None:
        while self._events[0][0] < until:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def kill(self, me: int) -> None:
        """It is gone for good."""
        del self.cores[me]

    @property
    def _time(self) -> Time:
        return Time(self.now, WALL + self.now)

    def _at(self, delay: int, event: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + delay, self._number, event))

    def _turn(self, me: int) -> None:
        disk, effects = self._disks[me], self.cores[me].drain()
        for send in effects.sends:
            self._send(me, send.to, send.message)
        disk.promises.extend(effects.promises)
        self.answers.update({answer.read: answer for answer in effects.reads})
        if effects.write is not None:
            disk.waiting = effects.write.number
        self._begin_write(me)
        self._keep_promises(me)

    def _begin_write(self, me: int) -> None:
        disk = self._disks[me]
        if disk.waiting > disk.done and not disk.busy:
            disk.busy = True
            number = disk.waiting
            self._at(self._disk_ns, lambda: self._written(me, number))

    def _written(self, me: int, number: int) -> None:
        if me not in self.cores:
            return
        disk = self._disks[me]
        disk.busy, disk.done = False, number
        self.cores[me].written(number, self._time)
        self._turn(me)

    def _keep_promises(self, me: int) -> None:
        disk = self._disks[me]
        while disk.promises and disk.promises[0].write <= disk.done:
            promise = disk.promises.popleft()
            self._send(me, promise.to, promise.message)

    def _send(self, sender: int, to: int, message: Message) -> None:
        def deliver() -> None:
            if to not in self.cores:
                return
            self.cores[to].receive(sender, sender, message, self._time)
            self._turn(to)

        self._at(self._link_ns, deliver)

    def _tick(self) -> None:
        for me, core in self.cores.items():
            if self.now >= core.deadline:
                core.tick(self._time)
                self._turn(me)
        self._at(_TICK_NS, self._tick)

    def _load(self) -> None:
        for me, core in self.cores.items():
            if core.leading >= 0:
                core.propose([proposal("more")], self._time)
                self._turn(me)
        self._at(_LOAD_NS, self._load)

    def _read(self) -> None:
        for me, core in self.cores.items():
            read = len(self.asked) + 1
            self.asked[read] = max(core.standing.commit for core in self.cores.values())
            core.read(read, self._time)
            self._turn(me)
        self._at(_READ_NS, self._read)


@pytest.mark.parametrize("protocol", [ViewstampedReplication, Raft], ids=["vsr", "raft"])
@pytest.mark.parametrize("disk_ms", [100, 200, 280])
def test_members_on_slow_disks_keep_their_primary(protocol: type[Core], disk_ms: int) -> None:
    world = _World(protocol, disk_ms * MILLISECOND)
    world.run(10 * SECOND)
    found = {me: core.standing for me, core in world.cores.items()}
    assert len({standing.view for standing in found.values()}) == 1
    world.run(30 * SECOND)
    assert {me: core.standing.view for me, core in world.cores.items()} == {me: found[me].view for me in _MEMBERS}
    committed = min(core.standing.commit - found[me].commit for me, core in world.cores.items())
    assert committed > 0.9 * 20 * SECOND / _LOAD_NS


@pytest.mark.parametrize("protocol", [ViewstampedReplication, Raft], ids=["vsr", "raft"])
@pytest.mark.parametrize(("disk_ms", "link_ms"), [(200, 1), (280, 1), (1, 100), (1, 140), (100, 50)])
def test_reads_are_served_wherever_commands_are(protocol: type[Core], disk_ms: int, link_ms: int) -> None:
    """A round takes two links and up to two disks, and at a backup two links more: longer than a suspect time-out."""
    world = _World(protocol, disk_ms * MILLISECOND, link_ms * MILLISECOND, reads=True)
    world.run(6 * SECOND)  # With such disks Raft's first elections take that long.
    first = len(world.asked) + 1
    world.run(9 * SECOND)
    last = len(world.asked)
    world.run(10 * SECOND)
    for read in range(first, last + 1):
        answer = world.answers[read]
        assert isinstance(answer, ReadReady), answer
        assert answer.op >= world.asked[read]


@pytest.mark.parametrize("protocol", [ViewstampedReplication, Raft], ids=["vsr", "raft"])
@pytest.mark.parametrize(("disk_ms", "link_ms"), [(83, 61), (241, 22), (41, 101)])
def test_members_far_apart_on_slow_disks_get_over_the_loss_of_their_primary(
    protocol: type[Core], disk_ms: int, link_ms: int
) -> None:
    """A round trip and a disk fit into a time-out, as ever; what a view change takes need not."""
    world = _World(protocol, disk_ms * MILLISECOND, link_ms * MILLISECOND)
    world.run(6 * SECOND)
    [primary] = [me for me, core in world.cores.items() if core.leading >= 0]
    world.kill(primary)
    world.run(14 * SECOND)
    found = {me: core.standing for me, core in world.cores.items()}
    world.run(20 * SECOND)
    for me, core in world.cores.items():
        assert core.standing.view == found[me].view
        assert core.standing.commit - found[me].commit > 0.9 * 6 * SECOND / _LOAD_NS
