"""The state machine of one replica as far as it has come, and the place in history where that is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from statemachine import Executor, SnapshotError, StateMachine
from statemachine.sessions import MAXIMUM_REPLIES_BYTES
from viewstamp.journal import JournalError
from viewstamp.protocol import MILLISECOND, Core, Entry, Snapshot, Viewstamp
from viewstamp.replica.taking import told

LONG_NS = 10 * MILLISECOND
"""How long commands, or reads, may hold the loop in one turn: then the rest waits for the next."""
_PRIMARY_GIVES_WAY_NS = 2 * MILLISECOND
_BACKUP_GIVES_WAY_NS = 10 * MILLISECOND
_AT_ONCE = 32
_log = logging.getLogger("viewstamp")


class Applied:
    """The executor, and the viewstamp and agreed time of the last entry that it has applied.

    A snapshot that is installed brings a new executor: until it is loaded (`restoring`), nothing is applied.

    `measure` reads a clock in nanoseconds, for nothing but how long commands and reads hold the loop.
    """

    def __init__(
        self, executor: Executor, snapshot: Snapshot | None = None, measure: Callable[[], int] = lambda: 0
    ) -> None:
        self.executor = executor
        self.measure = measure
        self.viewstamp = Viewstamp(0, 0)
        self.stamp = 0
        self.restoring: Snapshot | None = None
        self._gives_way_since: int | None = None
        if snapshot is not None:
            self.stand_at(snapshot)

    def stand_at(self, snapshot: Snapshot) -> None:
        """The executor holds what this snapshot does."""
        if self.executor.applied != snapshot.op:
            raise SnapshotError(f"a snapshot up to op {snapshot.op} was loaded as one up to {self.executor.applied}")
        self.viewstamp = snapshot.viewstamp
        self.stamp = snapshot.stamp

    def is_behind(self, commit: int) -> bool:
        """Whether there is anything to apply."""
        return commit > self.executor.applied and self.restoring is None

    def gives_way(self, now: int, *, leads: bool) -> bool:
        """Whether a member that has messages or writes to hand over, for which others wait, executes later.

        Not for long: where a sync takes most of a turn there is something of the kind in each, and as long as commands
        come in nothing would be executed. A primary, for whose answers clients wait, puts it off for no more than one
        sync of a few milliseconds. Monotonic nanoseconds.
        """
        if self._gives_way_since is None:
            self._gives_way_since = now
        return now - self._gives_way_since < (_PRIMARY_GIVES_WAY_NS if leads else _BACKUP_GIVES_WAY_NS)

    def advance(self, core: Core, upto: int, executed: Callable[[Sequence[Entry], Sequence[bytes]], None]) -> int:
        """Execute entries up to op `upto`, beyond what is applied, and hand them over with their replies.

        Fewer where they take long. A thousand that have waited for each other, of a third of a millisecond each, would
        keep the heartbeats back until their primary is given up; the next one would begin with the same thousand.

        Returns their size in bytes.
        """
        self._gives_way_since = None
        executor, measure, size = self.executor, self.measure, 0
        until = measure() + LONG_NS

        def over() -> bool:
            return measure() >= until

        while True:
            first = executor.applied + 1
            entries = core.entries(first, min(upto, first + _AT_ONCE - 1))
            replies = executor.apply(entries, over)
            entries = entries[: len(replies)]
            executed(entries, replies)
            size += sum([len(entry.encoded) for entry in entries])
            if executor.applied >= upto or over():
                break
        core.executed(executor.applied)
        last = entries[-1]
        self.viewstamp = Viewstamp(last.view, last.op)
        self.stamp = max(0, last.stamp)
        return size


def load(
    make_machine: Callable[[], StateMachine],
    snapshot: Snapshot,
    pieces: Iterable[bytes],
    *,
    max_sessions: int,
    window: int,
    max_reply_bytes: int = MAXIMUM_REPLIES_BYTES,
) -> Executor:
    """A new executor with a new machine, holding what a snapshot's bytes say. Takes as long as it takes.

    It shares nothing with a replica that runs, so a shell may call it in a thread.

    Raises:
      SnapshotError: these are not the bytes of this snapshot, or the state machine cannot read them.
    """
    executor = Executor(make_machine(), max_sessions=max_sessions, window=window, max_reply_bytes=max_reply_bytes)
    try:
        digest = executor.restore(pieces)
    except SnapshotError as error:
        raise SnapshotError(f"the snapshot up to op {snapshot.op} cannot be loaded: {error}") from error
    except (JournalError, MemoryError, RecursionError):
        raise
    except Exception as error:  # the service's own code; it should be a ValueError, with a sentence
        if not isinstance(error, ValueError):
            names = type(executor.machine).__name__, type(error).__name__
            _log.error("%s.restore raised %s: a defect", *names, exc_info=error)
        raise SnapshotError(f"the snapshot up to op {snapshot.op} cannot be loaded: {told(error)}") from error
    if digest != snapshot.digest:
        raise SnapshotError(f"the file of the snapshot up to op {snapshot.op} holds another")
    return executor
