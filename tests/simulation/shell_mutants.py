"""Hand-made bugs of the Trio shell: each a small change to the real code that runs through the shell must find.

Those that are rare need a state that few seeds reach, and no test waits for them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import trio

from tests.simulation.changes import Change
from tests.simulation.stack_mutants import Mutant
from viewstamp.client import Completion
from viewstamp.journal import Journal, StorageFailedError
from viewstamp.protocol import NEVER
from viewstamp.shell.idle import Idle
from viewstamp.shell.journal_writer import JournalWriter, Writes, _records
from viewstamp.shell.parking import Parked, Parking
from viewstamp.shell.replica_loop import ReplicaLoop
from viewstamp.shell.snapshot_work import SnapshotWork


def _mutant(name: str, breaks: str, *changes: Change, first: int = 1, rare: bool = False) -> Mutant:
    """Most are found in the first seeds."""
    return Mutant(name, breaks, "vsr", changes, first, seeds=20, rare=rare)


# Where writes meet the disk.


def _forget_report(self: JournalWriter) -> int:
    self._finished = 0
    return 0


def _report_again(self: JournalWriter) -> int:
    return self._finished


async def _report_first(self: JournalWriter) -> None:
    writes, self._waiting = self._waiting, []
    batch = self._journal.encode_batch(_records(writes))
    self._finished = writes[-1][0]
    self._wake()
    await self._beside_loop(self._write_and_sync, batch)


def _commit_without_sync(self: Journal, records: Any) -> None:
    self.sync()  # That of the batch before.
    self.write(self.encode_batch(records))


def _write_at_once(self: JournalWriter, writes: Writes) -> int:
    if self._quick_in_a_row < 32:
        self._waiting.extend(writes)
        self._idle = trio.Event()
        self._wanted.set()
        return 0
    began = trio.current_time()
    self._journal.commit(_records(writes))
    self._measure(trio.current_time() - began)
    return writes[-1][0]


_write_waiting = JournalWriter._write_waiting


async def _swallow_failure(self: JournalWriter) -> None:
    try:
        await _write_waiting(self)
    except StorageFailedError:
        return


STORAGE = (
    _mutant(
        "the report of a write that has finished is dropped",
        "what a primary's slow disk has written counts for nothing",
        (JournalWriter, "take_finished", _forget_report),
    ),
    _mutant(
        "the report of a write comes again and again",
        "a number that means another write by then could be taken for it",
        (JournalWriter, "take_finished", _report_again),
    ),
    _mutant(
        "a write is reported before it is made",
        "what was promised can be gone after a crash",
        (JournalWriter, "_write_waiting", _report_first),
    ),
    _mutant(
        "a sync in the loop waits for the next write",
        "what was promised is gone when the power goes",
        (Journal, "commit", _commit_without_sync),
    ),
    _mutant(
        "the loop writes while its thread does",
        "two writers put their batches into the journal in any order",
        (JournalWriter, "write", _write_at_once),
        rare=True,
    ),
    _mutant(
        "a failed disk is written to again",
        "what a sync has lost is taken for durable",
        (JournalWriter, "_write_waiting", _swallow_failure),
        first=12,
    ),
)


# Snapshots.


def _files_again(self: SnapshotWork) -> list[Any]:
    return list(self._done)


def _forget_loaded(self: SnapshotWork) -> list[Any]:
    self._loaded.clear()
    return []


SNAPSHOTS = (
    _mutant(
        "what was done with a file is reported again",
        "a snapshot's blocks are counted twice",
        (SnapshotWork, "take_done", _files_again),
    ),
    _mutant(
        "a snapshot that was loaded is not reported",
        "a member that was far behind stays behind",
        (SnapshotWork, "take_loaded", _forget_loaded),
    ),
)


# Callers.


def _forget_others(self: Parked, raise_cancel: object) -> trio.lowlevel.Abort:
    self.parked.clear()
    self.session.abandon(self.handle)
    return trio.lowlevel.Abort.SUCCEEDED


def _last_answer_for_all(self: Parking, completions: list[Completion]) -> None:
    for completion in completions:
        parked = self._parked.pop(completion.handle, None)
        if parked is not None:
            parked.completion = completions[-1]
            trio.lowlevel.reschedule(parked.task)


def _close_silently(self: Parking) -> None:
    self.closed = True


CALLERS = (
    _mutant(
        "one caller goes away, and the others hear nothing any more",
        "calls wait for ever",
        (Parked, "__call__", _forget_others),
        first=27,
    ),
    _mutant(
        "all callers of a turn get the last one's answer",
        "an answer is another call's",
        (Parking, "deliver", _last_answer_for_all),
    ),
    _mutant(
        "a client that is closed releases nobody",
        "whoever waits, in another task, waits for ever",
        (Parking, "close", _close_silently),
        first=8,
    ),
)


# The loop, and its end.


def _sleep_on(self: Idle, turn: Callable[[], int | None]) -> None:
    if turn() is None:
        self.wake()


def _keep_first_deadline(self: Idle, turn: Callable[[], int | None]) -> None:
    deadline = turn()
    if deadline is None:
        self.wake()
    elif self._scope.deadline == inf and deadline < NEVER:
        self._scope.deadline = deadline / 1e9


def _wake_softly(self: Idle) -> None:
    self._woken = True


_run = ReplicaLoop.run


async def _run_on(self: ReplicaLoop) -> None:
    with trio.CancelScope(shield=True):
        await _run(self)


async def _writer_lives_on(self: ReplicaLoop) -> None:
    trio.lowlevel.spawn_system_task(self._storage.run)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(self._snapshots.run)
        await self._idle.between(self._turn)


LOOP = (
    _mutant(
        "an idle wait forgets its deadline",
        "nobody notices that a primary is silent, and nothing is sent again",
        (Idle, "_act", _sleep_on),
    ),
    _mutant(
        "a sleep keeps the deadline that it began with",
        "what is due sooner by then comes late",
        (Idle, "_act", _keep_first_deadline),
        rare=True,
    ),
    _mutant(
        "a sleep is not ended by a wake-up",
        "a call that is made while nothing else happens is never sent",
        (Idle, "wake", _wake_softly),
    ),
    _mutant(
        "a replica that is stopped goes on",
        "two processes of one member write one journal",
        (ReplicaLoop, "run", _run_on),
    ),
    _mutant(
        "the writer outlives its replica",
        "what was never reported is written to a journal that was closed",
        (ReplicaLoop, "run", _writer_lives_on),
        first=2,
    ),
    _mutant(
        "the directory stays locked when a replica is stopped",
        "it cannot be started again in the same process",
        (Journal, "close", lambda self: None),
    ),
)

CATALOGUE = (*STORAGE, *SNAPSHOTS, *CALLERS, *LOOP)
