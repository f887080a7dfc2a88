"""The snapshots of one replica: when one is taken, and how one comes from a peer.

Both protocols use it. A protocol says what it needs (`Effects.wanted`) and what it has put in the place of its log
(`Effects.restore`), and is told what is durable here. What of all this is kept, and how long, `Retention` knows.

Order kept: a snapshot's file is durable before the record that names it, and that before the log it stands for goes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from viewstamp.cluster import Cluster
from viewstamp.journal import JournalRecord
from viewstamp.protocol import NEVER, Core, Effects, Snapshot, Time, check
from viewstamp.replica.applied import Applied
from viewstamp.replica.fetching import DamagedSnapshotError, Fetching
from viewstamp.replica.file_tasks import FileTask, ReadBlock, RemoveSnapshot, WriteBlock
from viewstamp.replica.records import record_of
from viewstamp.replica.retention import Retention
from viewstamp.replica.serving import Serving
from viewstamp.replica.standstill import Standstill
from viewstamp.replica.taking import COLLECT_BYTES, Taking, told
from viewstamp.replica.turn import Turn
from viewstamp.status import SnapshotStatus, Transfer
from viewstamp.wire import Chunk, GetChunk, NoSnapshot

_LARGEST_SCALE = 8
_PIN_SUSPECTS = 10
_PATIENCE_SUSPECTS = 10

_log = logging.getLogger("viewstamp")


class Snapshots:
    """`issue(records)` writes to the journal and returns the write's number; `send(member, message)` sends.

    `measure` reads a clock in nanoseconds, for nothing but how long a state machine held the loop.
    """

    def __init__(
        self,
        cluster: Cluster,
        me: int,
        applied: Applied,
        *,
        send: Callable[[int, object], None],
        issue: Callable[[tuple[JournalRecord, ...]], int],
        measure: Callable[[], int],
        stored: Snapshot | None,
        collect_bytes: int = COLLECT_BYTES,
    ) -> None:
        self._applied = applied
        self._send = send
        self._issue = issue
        self._measure = measure
        self._collect_bytes = collect_bytes
        self._entries_limit = cluster.snapshot_entries
        self._bytes_limit = cluster.snapshot_bytes
        # Not all at the same op: a state machine that is written down at once would hold a majority at the same time.
        members = cluster.configuration.members
        self._stagger = cluster.snapshot_entries * members.index(me) // (2 * len(members))
        self._log_limit = cluster.limits.log_bytes // 2
        self._least_entries = self._entries_limit + self._stagger
        self._least_bytes = min(self._bytes_limit, self._log_limit // 2)
        self._retry = cluster.timeouts.retry
        self._patience = _PATIENCE_SUSPECTS * cluster.timeouts.suspect
        self._core: Core | None = None

        self._serving = Serving(send, _PIN_SUSPECTS * cluster.timeouts.suspect)
        self._kept = Retention(cluster, stored, self._serving, self._under_way)
        self._log_bytes = 0  # applied since the last one was taken
        self._demanded = False
        self._taking: Taking | None = None
        self._recording: tuple[int, Snapshot] | None = None  # the write of its record, and the snapshot
        self._retry_at = 0
        self._fetching: Fetching | None = None
        self.fetching = False
        """Whether chunks are on their way, or to be asked for again."""
        self._fetched: Snapshot | None = None
        self._standstill = Standstill(cluster.timeouts.suspect)

        # Whose blocks are being written, and the names that some of them give their files.
        self._blocks: deque[tuple[Taking | Fetching, Snapshot | None]] = deque()
        self._files: list[FileTask] = []
        self._release = 0
        self._pause_ns = 0
        self._failure = ""

    def start(self, core: Core) -> None:
        """There is a protocol now."""
        self._core = core

    # Peers.

    def receive(self, sender: int, message: GetChunk | Chunk | NoSnapshot, now: Time) -> bool:
        """A peer asks for a chunk, or answers; False if that was not asked for."""
        if isinstance(message, GetChunk):
            self._serving.ask(sender, message, self._kept.offered, now.monotonic)
            return True
        fetching, core = self._fetching, self._core
        if fetching is None or core is None or fetching.source != sender:
            return False
        if (message.op, message.digest) != (fetching.snapshot.op, fetching.snapshot.digest):
            return False
        if isinstance(message, NoSnapshot):
            self._give_up(fetching, core, now, f"member {sender} has it no more")
            return True
        try:
            if fetching.take(message, now.monotonic):
                core.fetching(fetching.snapshot, now)
        except DamagedSnapshotError:
            self._give_up(fetching, core, now, f"what member {sender} sent has another digest")
        return True

    def _give_up(self, fetching: Fetching, core: Core, now: Time, why: str) -> None:
        _log.warning("the snapshot up to op %d could not be fetched: %s", fetching.snapshot.op, why)
        self._fetching = None
        core.fetch_failed(fetching.snapshot, now)

    # The disk.

    def file_done(self, task: FileTask, data: bytes | None, now: Time) -> None:
        """A task was carried out; `data` is what was read, None if there is no such file, or a damaged one."""
        if isinstance(task, ReadBlock):
            self._serving.read(task, data)
            if data is None and task.snapshot == self._kept.newest:
                self._replace(task.snapshot)
        elif isinstance(task, WriteBlock):
            owner, _ = self._blocks.popleft()
            owner.written(now.monotonic)
            if task.finished is not None:
                self._file_finished(owner, task.finished, now)

    def _replace(self, snapshot: Snapshot) -> None:
        """The disk has decayed below the snapshot that this member would restart from, and that others need."""
        if not self._kept.decayed:
            _log.error("the file of the snapshot up to op %d is missing or damaged: taking it again", snapshot.op)
        self._kept.decayed = True

    def _file_finished(self, owner: Taking | Fetching, snapshot: Snapshot, now: Time) -> None:
        if owner is self._taking:
            self._taking = None
            self._recording = self._issue((record_of(snapshot),)), snapshot
        elif owner is self._fetching and self._core is not None:
            self._fetching = None
            before, self._fetched = self._fetched, snapshot
            if before is not None:
                self._remove(before)  # From an attempt that came to nothing.
            self._core.fetched(snapshot, now)
        else:
            self._remove(snapshot)  # It was given up while its last block was being written.

    def written(self, write: int, now: Time) -> None:
        """Write number `write` of this replica is durable, and all before it."""
        self._kept.durable_write = write
        core = self._core
        if self._recording is None or write < self._recording[0] or core is None:
            return
        snapshot, self._recording = self._recording[1], None
        if self._kept.recorded(snapshot, write):
            self._failure = ""
            self._compact(core, snapshot, now)

    def _compact(self, core: Core, snapshot: Snapshot, now: Time) -> None:
        """Drop the log that a durable snapshot stands for, up to what is kept."""
        keep_after = self._kept.log_after(core, snapshot, now.monotonic)
        core.compact(snapshot, keep_after, now)
        self._release = keep_after

    def _remove(self, snapshot: Snapshot) -> None:
        if self._kept.may_go(snapshot):
            self._files.append(RemoveSnapshot(snapshot))

    def _under_way(self) -> tuple[Snapshot | None, ...]:
        """What is being finished or recorded, or waits to be installed."""
        recording = self._recording[1] if self._recording is not None else None
        return (self._fetched, recording, *(named for _, named in self._blocks))

    # The turn's end.

    def follow(self, effects: Effects, write: int, now: Time, turn: Turn) -> None:
        """What the protocol has installed in this turn, with this write, and what it needs now."""
        if effects.wanted is None and effects.restore is None:
            self.fetching = False
            return
        installed = effects.restore
        if installed is not None:
            check(installed == self._fetched, "the snapshot up to op {} was installed and is not here", installed.op)
            self._taking = self._fetched = None
            self._log_bytes = 0
            self._kept.install(installed, write)
            self._applied.restoring = turn.restore = installed
        self.fetching = effects.wanted is not None
        if effects.wanted is not None and self._core is not None:
            self._want(effects.wanted.snapshot, effects.wanted.source, self._core, now, turn)

    def _want(self, snapshot: Snapshot, source: int, core: Core, now: Time, turn: Turn) -> None:
        if snapshot == self._fetched:
            self._fetching = None  # Were another one finished, before this is installed, it would take its place.
            core.fetched(snapshot, now)  # Here already, from an attempt that came to nothing.
            turn.more = True
            return
        fetching = self._fetching
        if fetching is None or fetching.snapshot != snapshot:
            self._taking = None
            fetching = self._fetching = Fetching(snapshot, source, self._retry, now.monotonic)
        fetching.follow(source, now.monotonic)
        if fetching.overdue(self._patience, now.monotonic):
            self._give_up(fetching, core, now, f"member {source} does not answer")
            turn.more = True
            return
        for question in fetching.questions(now.monotonic):
            self._send(source, question)

    def applied(self, size: int) -> None:
        """Entries of so many bytes were applied in this turn."""
        self._log_bytes += size

    def close(self, now: Time, turn: Turn) -> None:
        """Take a snapshot if it is time, and hand over what is to be done with files."""
        since = self._applied.executor.applied - self._kept.newest_op
        perhaps = self._log_bytes >= self._least_bytes or since >= self._least_entries
        if (perhaps or self._demanded or self._kept.decayed) and self._due(since):
            self._begin()
        block = self._collect(turn) if self._taking is not None else None
        if self._taking is None and self._fetching is not None:
            block = self._fetching.next_block()
            if block is not None:
                self._blocks.append((self._fetching, block.finished))
        if block is not None:
            self._files.append(block)
        if self._kept.keeps_more:
            self._let_go(now, turn)
        asked, loading = self._serving.waits_for, self._applied.restoring
        if self._core is not None and (asked is not None or loading is not None):
            turn.more |= self._standstill.gives_way(self._core, asked, loading, self._applied.executor.applied, now)
        else:
            self._standstill.over()
        if self._serving.reads:
            self._files += self._serving.take_reads()
        if self._files:
            turn.files, self._files = self._files, []
        if self._release:
            turn.release, self._release = self._release, 0

    def _let_go(self, now: Time, turn: Turn) -> None:
        """What was kept for members that were fetching, and are no more, or until the journal named the next."""
        newest, core = self._kept.newest, self._core
        if newest is not None and core is not None and self._kept.log_may_go(core, now.monotonic):
            self._compact(core, newest, now)
            turn.more = True
        self._files += [RemoveSnapshot(each) for each in self._kept.let_go(now.monotonic)]

    # Taking.

    def demand(self) -> None:
        """Take a snapshot at the end of this turn, or as soon as nothing is in the way."""
        self._demanded = True

    def _due(self, since: int) -> bool:
        """Whether to take one, so many entries after the newest."""
        busy = self._taking is not None or self._recording is not None or self._applied.restoring is not None
        needless = since <= 0 and not self._kept.decayed
        if self._core is None or needless or busy or (self.fetching and self._fetching is not None):
            return False
        if self._demanded:
            return True
        if self._kept.decayed:
            return self._applied.executor.applied >= self._retry_at
        # A large state is written less often: what it costs is to be in proportion to the commands between. But a log
        # that grows towards its bound must not reach it: nothing would be taken any more, and so no snapshot either.
        size = self._kept.newest.size if self._kept.newest is not None else 0
        scale = min(max(1, size // self._bytes_limit), _LARGEST_SCALE)
        enough = since >= self._entries_limit * scale + self._stagger
        enough |= self._log_bytes >= min(self._bytes_limit * scale, self._log_limit // 2)
        return enough and self._applied.executor.applied >= self._retry_at

    def _begin(self) -> None:
        applied = self._applied
        self._demanded = False
        self._fetching = None  # What is left of one that is not wanted any more: there is one unfinished file.
        began = self._measure()
        try:
            pieces = applied.executor.snapshot()
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001  # the service's own code; the log stays, and nothing is lost
            self._failed(error)
            return
        self._pause_ns = self._measure() - began
        self._log_bytes = 0
        self._taking = Taking(applied.viewstamp, applied.stamp, pieces, self._collect_bytes)

    def _collect(self, turn: Turn) -> WriteBlock | None:
        taking = self._taking
        if taking is None:
            return None
        began = self._measure()
        try:
            block = taking.next_block()
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(error)
            return None
        self._pause_ns = max(self._pause_ns, self._measure() - began)
        if block is not None:
            self._blocks.append((taking, block.finished))
        turn.more |= taking.wants_turn
        return block

    def _failed(self, error: Exception) -> None:
        """A state machine that cannot be written down must not stop the service: say so, and try again later."""
        self._taking = None
        self._retry_at = self._applied.executor.applied + self._entries_limit
        self._failure = told(error)
        # With its traceback: of a KeyError from some method of the service, the text alone is the key.
        _log.error("no snapshot could be taken, and the log goes on growing: %s", self._failure, exc_info=error)

    def restored(self, snapshot: Snapshot) -> bool:
        """This one is loaded, and none that was installed before it will be; whether it is the newest of all."""
        self._kept.loaded(snapshot)
        if self._applied.restoring != snapshot:
            return False
        self._applied.restoring = None
        return True

    # For shells and people.

    @property
    def deadline(self) -> int:
        """When a turn is wanted, in monotonic nanoseconds."""
        return self._fetching.deadline if self._fetching is not None and self.fetching else NEVER

    @property
    def status(self) -> SnapshotStatus:
        """What there is and what is under way."""
        newest, fetching, taking = self._kept.newest, self._fetching, self._taking
        receiving = None
        if fetching is not None and self.fetching:
            snapshot = fetching.snapshot
            receiving = Transfer(fetching.source, snapshot.op, fetching.received, snapshot.size)
        sending = [Transfer(m, s.op, offset, s.size) for m, (s, offset) in sorted(self._serving.progress.items())]
        return SnapshotStatus(
            op=newest.op if newest is not None else 0,
            size=newest.size if newest is not None else 0,
            taking=taking.op if taking is not None else 0,
            loading=self._applied.restoring.op if self._applied.restoring is not None else 0,
            pause_ns=self._pause_ns,
            failure=self._failure,
            receiving=receiving,
            sending=tuple(sending),
        )
