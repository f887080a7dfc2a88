"""Snapshots that are loaded beside the loop, of which one takes longer than the next needs to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from statemachine import Counter, Executor
from tests.statemachine.driving import agreed
from viewstamp.cluster import Cluster, Member
from viewstamp.journal import MemoryFiles, SnapshotFiles
from viewstamp.protocol import Kind, Snapshot
from viewstamp.replica import record_of
from viewstamp.shell.snapshot_work import SnapshotWork

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

CLUSTER = Cluster(name="test", cluster_id=bytes(8), protocol="vsr", members=(Member(id=1, host="::1", port=7001),))


class Held:
    """Stands for threads: a call is made when the test lets it."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = trio.Semaphore(0)

    async def __call__(self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
        self.begun += 1
        await self.may_end.acquire()
        return sync_fn(*args)


def store(files: MemoryFiles, op: int) -> Snapshot:
    """The snapshot of a history of so many sessions, on these files."""
    executor = Executor(Counter(), max_sessions=CLUSTER.max_sessions, window=CLUSTER.window)
    executor.apply([agreed(each, Kind.REGISTER, 0, each, 0, 0, 0, b"") for each in range(1, op + 1)])
    data = b"".join(executor.snapshot())
    snapshot = Snapshot(0, op, 0, len(data), data[-32:])
    written = SnapshotFiles(files)
    written.write(0, data)
    written.finish(record_of(snapshot))
    return snapshot


async def test_what_is_installed_while_another_snapshot_is_loaded_is_loaded_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The replica executes nothing before it has the newest: without it, it would stand still for ever."""
    files, held = MemoryFiles(), Held()
    older, newer, newest = (store(files, op) for op in (3, 5, 8))
    work = SnapshotWork(files, Counter, CLUSTER, lambda: None, held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work.run)
        work.begin((), older)
        await trio.testing.wait_all_tasks_blocked()
        assert held.begun == 1
        work.begin((), newer)
        work.begin((), newest)
        held.may_end.release()
        await trio.testing.wait_all_tasks_blocked()
        assert [snapshot for snapshot, _ in work.take_loaded()] == [older]
        held.may_end.release()
        await trio.testing.wait_all_tasks_blocked()
        [(loaded, executor)] = work.take_loaded()
        assert (loaded, executor.applied) == (newest, 8)
        assert held.begun == 2
        nursery.cancel_scope.cancel()
