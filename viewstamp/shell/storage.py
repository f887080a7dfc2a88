"""Where a replica's writes meet its disk: one blob and one sync for all that has piled up.

While the disk is quick a write is synced in the loop: handing it to a thread and back costs more than the sync itself.
When a sync takes long, the following ones go through a thread, so that heartbeats and the service around the replica go
on; the protocol sees the write that does not finish, and a primary gives way.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

import trio

from viewstamp.journal import Batch, Journal, JournalRecord
from viewstamp.protocol import MILLISECOND

_SLOW_NS = 8 * MILLISECOND
_QUICK_NS = 2 * MILLISECOND
_QUICK_IN_A_ROW = 32

Writes = list[tuple[int, tuple[JournalRecord, ...]]]


class Storage:
    """The journal of one replica, written in the loop or beside it."""

    def __init__(self, journal: Journal, wake: Callable[[], None]) -> None:
        self._journal = journal
        self._wake = wake
        self._waiting: Writes = []
        self._wanted = trio.Event()
        self._busy = False
        self._finished = 0
        self._quick_in_a_row = _QUICK_IN_A_ROW
        self.slowest_sync_ns = 0

    @property
    def journal_bytes(self) -> int:
        """The size of the journal on disk."""
        return self._journal.statistics().bytes

    def write(self, writes: Writes) -> int:
        """Take these writes; returns the number that is durable at once, 0 if they go through the thread.

        Raises:
          StorageFailedError: the disk refused; the replica must stop.
        """
        if self._busy or self._waiting or self._quick_in_a_row < _QUICK_IN_A_ROW:
            self._waiting.extend(writes)
            self._wanted.set()
            return 0
        began = perf_counter_ns()
        self._journal.commit(_records(writes))
        self._measure(perf_counter_ns() - began)
        return writes[-1][0]

    def take_finished(self) -> int:
        """The number of the last write that became durable in the thread since the last call, 0 if none."""
        finished, self._finished = self._finished, 0
        return finished

    def _measure(self, took_ns: int) -> None:
        self.slowest_sync_ns = max(self.slowest_sync_ns, took_ns)
        if took_ns > _SLOW_NS:
            self._quick_in_a_row = 0
        elif took_ns <= _QUICK_NS:
            self._quick_in_a_row += 1

    async def run(self) -> None:
        """The writer: all that waits, as one batch, again and again. A write under way is never abandoned."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._waiting:
                writes, self._waiting = self._waiting, []
                batch = self._journal.encode_batch(_records(writes))
                self._busy = True
                began = perf_counter_ns()
                try:
                    await trio.to_thread.run_sync(self._write_and_sync, batch)
                finally:
                    self._busy = False
                self._measure(perf_counter_ns() - began)
                self._finished = writes[-1][0]
                self._wake()

    def _write_and_sync(self, batch: Batch) -> None:
        self._journal.write(batch)
        self._journal.sync()


def _records(writes: Writes) -> list[JournalRecord]:
    return [record for _, records in writes for record in records]
