"""Where writes meet the disk: in the loop while it is quick, through a thread when it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.viewstamp.running import Account, unstarted
from viewstamp.journal import EntriesRecord, Journal, StorageFailedError
from viewstamp.journal.simulated import Operation, SimulatedDisk
from viewstamp.shell.journal_writer import JournalWriter, Writes
from viewstamp.shell.parts import RunSync, Threads, run_in_thread


class SlowDisk(SimulatedDisk):
    """Syncs take `sync_s` of the mock clock's time. `threads` are those it was synced from."""

    def __init__(self, clock: MockClock) -> None:
        super().__init__(Random(1))
        self.sync_s = 0.0
        self.threads: list[int] = []
        self._clock = clock
        self.on_operation = self._operation

    def _operation(self, operation: Operation, _: str) -> None:
        if operation is Operation.SYNC:
            self.threads.append(threading.get_ident())
            if self.sync_s:
                self._clock.jump(self.sync_s)


def open_journal(disk: SimulatedDisk) -> Journal:
    return Journal.open(disk.files(), cluster=b"storage!", replica=1, protocol="vsr", create_incarnation=lambda: 1)


def write_of(number: int) -> Writes:
    return [(number, (EntriesRecord(number, 1, b"entry %d " % number),))]


class Written:
    """A `JournalWriter` and what it reports, in order."""

    def __init__(self, journal: Journal, run_sync: RunSync = run_in_thread) -> None:
        self.finished: list[int] = []
        self._changed = trio.Event()
        self.storage = JournalWriter(journal, self._wake, run_sync)

    def _wake(self) -> None:
        number = self.storage.take_finished()
        if number:
            self.finished.append(number)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, number: int) -> None:
        while number not in self.finished:
            await self._changed.wait()


async def test_a_slow_disk_is_written_in_order_through_a_thread(mock_clock: MockClock) -> None:
    disk = SlowDisk(mock_clock)
    journal = open_journal(disk)
    written = Written(journal)
    storage = written.storage
    here = threading.get_ident()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.run)
        assert storage.write(write_of(1)) == 1
        disk.sync_s = 0.02
        assert storage.write(write_of(2)) == 2  # This one showed how slow it is.
        disk.threads.clear()
        assert storage.write(write_of(3)) == 0
        assert storage.write(write_of(4)) == 0
        await written.wait_for(4)
        assert written.finished == [4]
        assert here not in disk.threads
        assert storage.take_finished() == 0

        disk.sync_s = 0.0
        for number in range(5, 37):
            assert storage.write(write_of(number)) == 0
            await written.wait_for(number)
        disk.threads.clear()
        await storage.settle()
        assert storage.write(write_of(37)) == 37, "quick for long enough: in the loop again"
        assert disk.threads == [here]
        nursery.cancel_scope.cancel()
    assert written.finished == list(range(4, 37))
    journal.close()
    recovered = open_journal(disk).recovered
    assert recovered.entries == b"".join(b"entry %d " % number for number in range(1, 38))


async def test_what_waits_becomes_one_batch(mock_clock: MockClock) -> None:
    disk = SlowDisk(mock_clock)
    disk.sync_s = 0.02
    journal = open_journal(disk)
    written = Written(journal)
    written.storage.write(write_of(1))
    syncs = len(disk.threads)
    for number in range(2, 100):
        assert written.storage.write(write_of(number)) == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(written.storage.run)
        await written.wait_for(99)
        await written.storage.settle()
        nursery.cancel_scope.cancel()
    assert len(disk.threads) == syncs + 1


async def test_what_piled_up_behind_a_disk_that_stood_still_is_written_in_batches_that_a_journal_takes(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viewstamp.journal.format.MAXIMUM_BATCH_BYTES", 400)
    monkeypatch.setattr("viewstamp.shell.journal_writer._BATCH_BYTES", 100)
    disk = SlowDisk(mock_clock)
    disk.sync_s = 0.02
    journal = open_journal(disk)
    written = Written(journal)
    written.storage.write(write_of(1))
    for number in range(2, 100):
        assert written.storage.write(write_of(number)) == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(written.storage.run)
        with trio.fail_after(5):
            await written.wait_for(99)
            await written.storage.settle()
        nursery.cancel_scope.cancel()
    assert written.finished == sorted(written.finished)
    journal.close()
    assert open_journal(disk).recovered.last_op == 99


async def test_a_service_that_keeps_all_its_threads_busy_does_not_hold_up_the_disk(mock_clock: MockClock) -> None:
    disk = SlowDisk(mock_clock)
    disk.sync_s = 0.02
    written = Written(open_journal(disk))
    written.storage.write(write_of(1))
    limiter = trio.to_thread.current_default_thread_limiter()
    free = threading.Event()

    async def occupy() -> None:
        await trio.to_thread.run_sync(free.wait)

    async with trio.open_nursery() as nursery:
        for _ in range(int(limiter.total_tokens)):
            nursery.start_soon(occupy)
        try:
            await trio.testing.wait_all_tasks_blocked()
            assert limiter.available_tokens == 0
            nursery.start_soon(written.storage.run)
            written.storage.write(write_of(2))
            for _ in range(1000):
                await trio.testing.wait_all_tasks_blocked(0.001)
                if written.finished:
                    break
            assert written.finished == [2]
        finally:
            free.set()
        nursery.cancel_scope.cancel()


async def test_an_error_in_the_thread_ends_the_writer(mock_clock: MockClock) -> None:
    disk = SlowDisk(mock_clock)
    disk.sync_s = 0.02
    written = Written(open_journal(disk))
    written.storage.write(write_of(1))
    disk.fail(Operation.SYNC)
    written.storage.write(write_of(2))
    with pytest.raises(StorageFailedError):
        await written.storage.run()
    assert written.finished == []


async def test_a_replica_on_a_slow_disk_serves_and_keeps_what_it_answered(mock_clock: MockClock) -> None:
    async with unstarted(members=1) as cluster:
        disk = cluster.disks[1] = SlowDisk(mock_clock)
        async with cluster.open_member(1) as replica:
            await replica.wait_ready()
            disk.sync_s = 0.02
            for total in range(1, 11):
                assert await replica.call(Account.deposit, 1) == total
            assert threading.get_ident() != disk.threads[-1]
            assert replica.status().journal_bytes == sum(len(data) for name, data in disk.contents().items())
        disk.sync_s = 0.0
        mock_clock.autojump_threshold = 0  # What led before a restart waits to be elected again.
        async with cluster.open_member(1) as replica:
            assert await replica.read(Account.read_balance) == 10


async def test_a_disk_that_fails_in_the_thread_ends_the_block(mock_clock: MockClock) -> None:
    async with unstarted(members=1) as cluster:
        disk = cluster.disks[1] = SlowDisk(mock_clock)
        with pytest.raises(StorageFailedError):  # noqa: PT012 - it ends the block
            async with cluster.open_member(1) as replica:
                await replica.wait_ready()
                disk.sync_s = 0.02
                await replica.call(Account.deposit, 1)
                await replica.call(Account.deposit, 1)
                disk.fail(Operation.SYNC)
                await replica.call(Account.deposit, 1)


async def test_a_disk_that_held_the_loop_is_named(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is told that a member took no turn would look for a command that took long."""
    disk = SlowDisk(mock_clock)
    written = Written(open_journal(disk))
    disk.sync_s = 2.5
    assert written.storage.write(write_of(1)) == 1
    assert caplog.messages == ["member 1: its disk took 2.5 s for a write"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(written.storage.run)
        written.storage.write(write_of(2))
        await written.wait_for(2)
        nursery.cancel_scope.cancel()
    assert len(caplog.messages) == 1, "not for each of many"


async def test_a_disk_that_does_not_answer_is_named_while_it_lasts(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop goes on, and a backup takes part for all that anyone sees."""
    answers = trio.Event()

    async def run_sync(work: Callable[..., None], *arguments: object, abandon_on_cancel: bool = False) -> None:
        await answers.wait()
        work(*arguments)

    disk = SlowDisk(mock_clock)
    storage = JournalWriter(open_journal(disk), lambda: None, cast("RunSync", run_sync))
    disk.sync_s = 0.02
    storage.write(write_of(1))
    disk.sync_s = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.run)
        assert storage.write(write_of(2)) == 0
        await trio.testing.wait_all_tasks_blocked()
        for seconds in (0.5, 0.6, 30, 29, 30):
            mock_clock.jump(seconds)
            assert storage.take_finished() == 0
        answers.set()
        await storage.settle()
        nursery.cancel_scope.cancel()
    assert caplog.messages == [
        "member 1: its disk has not finished a write for 1.1 s",
        "member 1: its disk has not finished a write for 90.1 s",
        "member 1: its disk took 90.1 s for a write",
    ]


async def test_where_no_thread_can_be_had_the_loop_writes_and_says_so(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member must not end because something else in its process, or on its machine, has taken all threads."""
    tried = 0

    async def none_left(*arguments: object, **options: object) -> None:
        nonlocal tried
        tried += 1
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    disk = SlowDisk(mock_clock)
    written = Written(open_journal(disk), Threads(trio.current_time))
    disk.sync_s = 0.02
    written.storage.write(write_of(1))
    monkeypatch.setattr(trio.to_thread, "run_sync", none_left)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(written.storage.run)
        for number, seconds in ((2, 0), (3, 59), (4, 2)):
            mock_clock.jump(seconds)
            assert written.storage.write(write_of(number)) == 0
            await written.wait_for(number)
        nursery.cancel_scope.cancel()
    assert tried == 3
    assert disk.threads == [threading.get_ident()] * len(disk.threads)
    assert [message.split(":")[0] for message in caplog.messages] == ["can't start new thread"] * 2


async def test_an_error_of_what_runs_in_a_thread_is_no_lack_of_threads() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError):
        await Threads()(work)
    assert calls == 1
