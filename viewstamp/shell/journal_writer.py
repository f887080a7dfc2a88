"""Where a replica's writes meet its disk: one blob and one sync for all that has piled up.

While the disk is quick a write is synced in the loop: handing it to a thread and back costs more than the sync itself.
When a sync takes long, the following ones go through a thread, so that heartbeats and the service around the replica go
on; the protocol sees the write that does not finish, and a primary gives way.

A journal that nobody can ever read again, that of a cluster with `storage = "memory"`, is not written at all: what
would go into it is as durable as it will ever be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVarTuple

import trio

from viewstamp.journal import Batch, EntriesRecord, Journal, JournalRecord
from viewstamp.once_a_minute import OnceAMinute
from viewstamp.shell.parts import RunSync, run_in_thread

_log = logging.getLogger("viewstamp")
_SLOW_S = 0.008
_QUICK_S = 0.002
_QUICK_IN_A_ROW = 32
_BATCH_BYTES = 64 * 1024 * 1024
_SILENT_S = 1.0

Ts = TypeVarTuple("Ts")
Writes = Sequence[tuple[int, tuple[JournalRecord, ...]]]


class JournalWriter:
    """The journal of one replica, written in the loop or beside it."""

    def __init__(self, journal: Journal, wake: Callable[[], None], run_sync: RunSync = run_in_thread) -> None:
        self._journal = journal
        self._wake = wake
        self._run_sync = run_sync
        self._current_time = trio.lowlevel.current_clock().current_time
        self._waiting: list[tuple[int, tuple[JournalRecord, ...]]] = []
        self._wanted = trio.Event()
        self._busy = False
        self._began = 0.0  # when what the thread is busy with began
        self._slowness = OnceAMinute(self._current_time)
        self._told = False  # that it is silent, and not yet that it has answered
        self._finished = 0
        self._release = 0
        self._quick_in_a_row = _QUICK_IN_A_ROW
        self._idle = trio.Event()
        self._idle.set()

    def journal_bytes(self) -> int:
        """The size of the journal on disk; at any time, also while it is written in the thread."""
        return self._journal.statistics().bytes

    def write(self, writes: Writes) -> int:
        """Take these writes; returns the number that is durable at once, 0 if they go through the thread.

        Raises:
          StorageFailedError: the disk refused; the replica must stop.
        """
        if self._journal.is_volatile:
            return writes[-1][0]
        if self._busy or self._waiting or self._quick_in_a_row < _QUICK_IN_A_ROW:
            self._waiting.extend(writes)
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._wanted.set()
            return 0
        began = self._current_time()
        self._journal.commit(_records(writes))
        self._measure(self._current_time() - began)
        return writes[-1][0]

    def release(self, op: int) -> None:
        """Entries up to `op` are needed no more: their segments go, in the thread, between two writes."""
        if self._journal.is_volatile:
            return
        if self._journal.in_memory and not self._busy:
            self._journal.release(op)
            return
        self._release = op
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wanted.set()

    def take_finished(self) -> int:
        """The number of the last write that became durable in the thread since the last call, 0 if none."""
        if self._busy:
            self._tell_if_silent()
        finished, self._finished = self._finished, 0
        return finished

    async def settle(self) -> None:
        """Wait until nothing is under way. For whoever is about to use the journal itself, which is not for two threads
        at a time; it must not call `write` meanwhile.
        """
        await self._idle.wait()

    def _measure(self, took_s: float) -> None:
        if took_s > _SLOW_S:
            self._quick_in_a_row = 0
            if took_s >= _SILENT_S and (self._slowness.due() or self._told):
                self._told = False
                _log.warning("member %d: its disk took %.1f s for a write", self._journal.identity.replica, took_s)
        elif took_s <= _QUICK_S:
            self._quick_in_a_row += 1

    def _tell_if_silent(self) -> None:
        """The member goes on as if nothing were the matter, but for what it promises: nothing else would tell."""
        silent_s = self._current_time() - self._began
        if silent_s >= _SILENT_S and self._slowness.due():
            self._told = True
            member = self._journal.identity.replica
            _log.warning("member %d: its disk has not finished a write for %.1f s", member, silent_s)

    async def run(self) -> None:
        """The writer: all that waits, as one batch, again and again. A write under way is never abandoned.

        What piles up behind a disk that stood still for minutes goes into several: a journal's batch has a bound.
        """
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._waiting or self._release:
                if self._release:
                    op, self._release = self._release, 0
                    await self._beside_loop(self._journal.release, op)
                if self._waiting:
                    await self._write_waiting()
            self._idle.set()

    async def _write_waiting(self) -> None:
        writes = self._take_waiting()
        batch = self._journal.encode_batch(_records(writes))
        began = self._current_time()
        await self._beside_loop(self._write_and_sync, batch)
        self._measure(self._current_time() - began)
        self._finished = writes[-1][0]
        self._wake()

    def _take_waiting(self) -> Writes:
        size = count = 0
        for _, records in self._waiting:
            count += 1
            size += sum([len(record.data) for record in records if isinstance(record, EntriesRecord)])
            if size >= _BATCH_BYTES:
                break
        writes, self._waiting = self._waiting[:count], self._waiting[count:]
        return writes

    async def _beside_loop(self, work: Callable[[*Ts], None], *arguments: *Ts) -> None:
        self._busy = True
        self._began = self._current_time()
        try:
            await self._run_sync(work, *arguments)
        finally:
            self._busy = False

    def _write_and_sync(self, batch: Batch) -> None:
        self._journal.write(batch)
        self._journal.sync()


def _records(writes: Writes) -> list[JournalRecord]:
    return [record for _, records in writes for record in records]
