"""A member's scope is cancelled after each step of any task in turn: while it opens, writes, takes a snapshot, closes.

Each time whoever waits elsewhere is released, and the next life opens the same directory at once, with all that was
answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import TypeVar, TypeVarTuple

import pytest
import trio
from trio.testing import MockClock

from tests.viewstamp.running import HOST, Account, wall_clock
from transport.fabric import open_fabric
from viewstamp.cluster import Cluster, Member
from viewstamp.journal import StorageFailedError
from viewstamp.journal.simulated import Operation, SimulatedDisk
from viewstamp.shell.callers import ClosedError
from viewstamp.shell.opening import open_replica
from viewstamp.shell.parts import Parts
from viewstamp.shell.replica import RunningReplica

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

CLUSTER = Cluster(
    "cancelled", b"cancel!!", "vsr", (Member(1, HOST, 7001),), snapshot_entries=8, snapshot_bytes=4096, window=2
)


class _CancelAfter(trio.abc.Instrument):
    """Cancels a scope after so many steps."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.left = steps
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if not self.left:
            self._scope.cancel()


async def _beside(sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
    """In the place of a thread: the work is done a while after it was asked for, and known of a while after that."""
    with trio.CancelScope(shield=not abandon_on_cancel):
        await trio.sleep(0.001)
        result = sync_fn(*args)
        await trio.sleep(0.001)
    return result


class _Service:
    """What a service does with its member, and what it was told."""

    def __init__(self) -> None:
        self.asked = self.answered = self.closed = 0
        self.all_answered = trio.Event()

    async def deposit(self, replica: RunningReplica[Account]) -> None:
        try:
            for _ in range(6):
                self.asked += 1
                await replica.call(Account.deposit, 1)
                self.answered += 1
            if self.answered == 24:
                self.all_answered.set()
        except ClosedError:
            self.closed += 1

    async def live(self, disk: SimulatedDisk, elsewhere: trio.Nursery) -> None:
        async with _open(disk) as replica, trio.open_nursery() as nursery:
            for _ in range(3):
                elsewhere.start_soon(self.deposit, replica)
            await replica.wait_ready()
            nursery.start_soon(self.deposit, replica)
            assert await replica.read(Account.read_balance) >= 0
            replica.take_snapshot()
            await self.all_answered.wait()
            replica.resign()


@asynccontextmanager
async def _open(disk: SimulatedDisk) -> AsyncIterator[RunningReplica[Account]]:
    parts = Parts(run_sync=_beside, segment_bytes=2048)
    async with open_fabric(1) as fabric:
        transport = fabric.open((HOST, 7001))
        files, random = disk.files(), Random(1)
        async with open_replica(
            Account, CLUSTER, 1, transport=transport, files=files, random=random, wall_clock=wall_clock, parts=parts
        ) as replica:
            yield replica


async def _two_lives(disk: SimulatedDisk, steps: int) -> int:
    """A life that is cancelled after so many steps, and another; how many steps there were left."""
    service = _Service()
    with trio.fail_after(60):
        async with trio.open_nursery() as elsewhere:
            with trio.CancelScope() as scope:
                instrument = _CancelAfter(scope, steps)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await service.live(disk, elsewhere)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
        async with _open(disk) as replica:
            assert service.answered <= await replica.read(Account.read_balance) <= service.asked
            await replica.call(Account.deposit, 1)
    return instrument.left


def _disk(clock: MockClock, slow: bool) -> SimulatedDisk:
    disk = SimulatedDisk(Random(1))

    def operation(kind: Operation, _: str) -> None:
        if slow and kind is Operation.SYNC:
            clock.jump(0.009)

    disk.on_operation = operation
    return disk


@pytest.mark.parametrize("slow", [False, True])
def test_a_member_that_is_cancelled_after_each_step(slow: bool) -> None:
    steps, left = 0, 0
    while left <= 0:
        steps += 4 if slow else 1  # Trio runs tasks in another order each time: all steps are met in the end.
        clock = MockClock(autojump_threshold=0)
        left = trio.run(_two_lives, _disk(clock, slow), steps, clock=clock)
    assert steps > 30


async def _until_it_fails(disk: SimulatedDisk, clock: MockClock, how: Operation, nth: int, power_lost: bool) -> bool:
    """A life whose disk refuses the nth of these operations, and another; whether it came to that."""
    service = _Service()
    clock.autojump_threshold = 0
    disk.fail(how, nth=nth)
    failed = False
    with trio.fail_after(60):
        async with trio.open_nursery() as elsewhere:
            try:
                await service.live(disk, elsewhere)
            except* StorageFailedError:
                failed = True
        assert failed == (not disk._platter.faults), "an error of the disk was passed over"
        disk._platter.faults.clear()
        if power_lost:
            disk.lose_power()
        async with _open(disk) as replica:
            assert service.answered <= await replica.read(Account.read_balance) <= service.asked
            await replica.call(Account.deposit, 1)
    return failed


@pytest.mark.parametrize("power_lost", [False, True])
@pytest.mark.parametrize("slow", [False, True])
def test_a_disk_that_refuses_each_operation_in_turn(slow: bool, power_lost: bool) -> None:
    met = 0
    for how in Operation:
        nth, failed = 0, True
        while failed:
            nth += 1
            clock = MockClock()
            failed = trio.run(_until_it_fails, _disk(clock, slow), clock, how, nth, power_lost, clock=clock)
            met += failed
    assert met > 50
