"""What a running replica has done with snapshot files, in threads beside its loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import trio

from statemachine import Executor, SnapshotError, StateMachine
from viewstamp.cluster import Cluster
from viewstamp.journal import JournalCorruptError, SnapshotFiles
from viewstamp.journal.files import Files
from viewstamp.journal.snapshot_files import snapshot_name, snapshot_problem
from viewstamp.protocol import Snapshot
from viewstamp.replica import FileTask, load, perform, record_of
from viewstamp.shell.parts import RunSync

_BREATH_S = 0.0002


class SnapshotWork:
    """Carries out file tasks one after the other, and loads snapshots. `wake` tells the loop that something is done."""

    def __init__(
        self,
        files: Files,
        make_machine: Callable[[], StateMachine],
        cluster: Cluster,
        wake: Callable[[], None],
        run_sync: RunSync,
    ) -> None:
        self._raw = files
        self._files = SnapshotFiles(files)
        self._make_machine = make_machine
        self._cluster = cluster
        self._wake = wake
        self._run_sync = run_sync
        self._tasks: deque[FileTask] = deque()
        self._wanted = trio.Event()
        self._done: list[tuple[FileTask, bytes | None]] = []
        self._idle = trio.Event()
        self._idle.set()
        self._to_load: Snapshot | None = None
        self._load_wanted = trio.Event()
        self._loaded: list[tuple[Snapshot, Executor]] = []

    def begin(self, tasks: Iterable[FileTask], restore: Snapshot | None) -> None:
        """Take what a turn asks for."""
        self._tasks.extend(tasks)
        if self._tasks:
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._wanted.set()
        if restore is not None:
            self._to_load = restore
            self._load_wanted.set()

    def take_done(self) -> list[tuple[FileTask, bytes | None]]:
        """The tasks carried out since the last call, in order, with what was read."""
        done, self._done = self._done, []
        return done

    async def settle(self) -> None:
        """Wait until no task is under way: for whoever takes the place of the replica that asked for them."""
        await self._idle.wait()

    def take_loaded(self) -> list[tuple[Snapshot, Executor]]:
        """The snapshots loaded since the last call."""
        loaded, self._loaded = self._loaded, []
        return loaded

    async def run(self) -> None:
        """Work, until cancelled. A write under way is never abandoned.

        Raises:
          StorageFailedError: the disk refused; the replica must stop.
          SnapshotError, JournalCorruptError: a snapshot that was whole a moment ago cannot be loaded.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_tasks)
            nursery.start_soon(self._run_loads)

    async def _run_tasks(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._tasks:
                task = self._tasks.popleft()
                if self._raw.in_memory:
                    read = perform(task, self._files)
                else:
                    read = await self._run_sync(perform, task, self._files)
                self._done.append((task, read))
                self._wake()
            self._idle.set()

    async def _run_loads(self) -> None:
        while True:
            await self._load_wanted.wait()
            self._load_wanted = trio.Event()
            while (snapshot := self._to_load) is not None:
                self._to_load = None
                executor = await load_snapshot(self._raw, self._make_machine, self._cluster, snapshot, self._run_sync)
                self._loaded.append((snapshot, executor))
                self._wake()


async def load_snapshot(
    files: Files, make_machine: Callable[[], StateMachine], cluster: Cluster, snapshot: Snapshot, run_sync: RunSync
) -> Executor:
    """A new executor that holds what a snapshot's file does, made in a thread. Always a checkpoint.

    Raises:
      JournalCorruptError: the file is missing, has another size, or is damaged.
      SnapshotError: it is whole, and the state machine cannot read it.
    """
    record = record_of(snapshot)
    pieces: Iterable[bytes] = SnapshotFiles(files).pieces(record)
    # Reading from memory takes no time, but a state machine takes long to be made of what was read: only in a simulated
    # world, which has no threads, is that done in the loop.
    in_loop = files.in_memory and not files.is_volatile
    if not in_loop:
        pieces = _gently(pieces)

    def work() -> Executor:
        try:
            return load(make_machine, snapshot, pieces, max_sessions=cluster.max_sessions, window=cluster.window)
        except SnapshotError as error:
            # A decayed disk and a class that cannot read old state ask for different things from whoever runs this.
            if snapshot_problem(files, record) is None:
                raise
            reason = "its digest is wrong"
            raise JournalCorruptError(snapshot_name(record), 0, reason, files.location) from error

    if in_loop:
        await trio.lowlevel.checkpoint()
        return work()
    # It only reads: one that is cancelled may be left to its end.
    return await run_sync(work, abandon_on_cancel=True)


def _gently(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """With a breath between pieces: a thread that computes without a pause would hold the interpreter's lock for five
    milliseconds each time that the loop, and the service in it, wants it back."""
    for piece in pieces:
        yield piece
        time.sleep(_BREATH_S)
