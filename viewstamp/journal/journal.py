"""A replica's durable log: batches of records appended to segment files, one write and one sync each.

What it keeps: a batch is whole or absent; a crash keeps a prefix of the batches, at least all whose `sync` returned;
what `open` gives back has been synced again. What it refuses: after any error of the operating system, everything.
What it drops: whole segments from the beginning, once a snapshot holds what was in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import NamedTuple, Self

from viewstamp.journal import format as layout
from viewstamp.journal.errors import (
    JournalClosedError,
    StorageFailedError,
)
from viewstamp.journal.files import Files
from viewstamp.journal.fold import UnfoldableError, advance
from viewstamp.journal.opening import clean, create_segment, prepare, verify_identity
from viewstamp.journal.reading import Reader
from viewstamp.journal.records import Checkpoint, Identity, IncarnationRecord, JournalRecord, Recovered
from viewstamp.protocol import InvariantError, check

SEGMENT_BYTES = 4 * 1024 * 1024
ROOM_BYTES = 256 * 1024


class Batch(NamedTuple):
    """An encoded batch, good for one `Journal.write`; `after` is what the small records are once it is written."""

    sequence: int
    chain: int
    blob: bytes
    after: Checkpoint


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """Sizes in bytes on disk, without snapshot files; counts and times (nanoseconds, 0 without a clock) since the
    journal was opened; the op of the last snapshot that was written, 0 if none."""

    bytes: int
    segments: int
    batches: int
    syncs: int
    last_sync_ns: int
    maximum_sync_ns: int
    snapshot_op: int = 0


class _Segment(NamedTuple):
    """A segment that is left behind: its size, and the op of the last entry at its end."""

    name: str
    bytes: int
    last_op: int


class _Phase(Enum):
    """Where the writing side is. A call that was interrupted, by whatever, leaves its middle phase for good."""

    READY = "ready"
    WRITING = "writing"
    WRITTEN = "written"
    SYNCING = "syncing"
    RELEASING = "releasing"
    CLOSED = "closed"


class Journal:
    """One directory's log. Made by `Journal.open`.

    Threads: `encode_batch` belongs to one thread (the replica's loop), `write` and `sync` to one other at a time (a
    writer). The two sides share nothing but the `Batch` handed over, so that the loop encodes the next batch while
    the writer syncs this one. `commit`, `release`, `set_incarnation` and `close` belong to both: call them
    while no write is under way. `statistics` reads a few integers and may be called at any time.

    Batches are written in the order in which they were encoded, each once, and each is synced before the next is
    written: a batch that is damaged while a later one is whole can then only be a failing disk, never a crash. What
    piles up during a sync goes into *one* next batch.
    """

    def __init__(self, files: Files, identity: Identity, reader: Reader, recovered: Recovered) -> None:
        """Not to be called: see `open`."""
        if reader.fold is None:
            raise InvariantError("a journal is made from one that was read")
        self._files = files
        self._identity = identity
        self._seed = layout.identity_seed(identity)
        self._recovered: Recovered | None = recovered
        self._failure: StorageFailedError | None = None
        self._segment_bytes = SEGMENT_BYTES
        self._room_bytes = ROOM_BYTES
        self._clock: Callable[[], int] | None = None
        # The encoding side.
        self._sequence = reader.sequence
        self._chain = reader.chain
        self._encoded = reader.fold.checkpoint
        # The writing side.
        self._phase = _Phase.READY
        self._written_sequence = reader.sequence
        self._written_chain = reader.chain
        self._written = reader.fold.checkpoint
        last = reader.segments[-1]
        self._number = last.number
        self._handle = files.open(last.name)
        self._size = self._room_end = last.valid_bytes
        self._segment_batches = last.batches
        self._older = deque(
            _Segment(segment.name, segment.bytes, following.preceding_op)
            for segment, following in pairwise(reader.segments)
        )
        self._older_bytes = sum(segment.bytes for segment in self._older)
        self._batches = self._syncs = self._last_sync_ns = self._maximum_sync_ns = 0

    @classmethod
    def open(
        cls,
        files: Files,
        *,
        cluster: bytes,
        replica: int,
        protocol: str,
        create_incarnation: Callable[[], int],
        segment_bytes: int = SEGMENT_BYTES,
        room_bytes: int = ROOM_BYTES,
        clock: Callable[[], int] | None = None,
    ) -> Self:
        """Lock the directory, read and verify everything in it, and make durable again what was read.

        A directory without a segment is blank: it gets its first one, with the incarnation that
        `create_incarnation` (a positive number below 2**64) gives. A segment that has grown beyond `segment_bytes`
        is followed by a new one; `room_bytes` at a time are made ready to be written to. `clock` gives nanoseconds,
        for the sync times in the statistics.

        Raises:
          DirectoryInUseError: another process has the directory.
          WrongJournalError: the directory belongs to another cluster, replica or protocol.
          JournalFormatError: it was written in a format version that is not known.
          JournalCorruptError: what was durable is damaged; this member has lost its disk.
          StorageFailedError: the operating system reported an error.
        """
        identity = Identity(cluster, replica, protocol)
        files.lock()
        try:
            prepare(files, identity, create_incarnation)
            reader = Reader(files)
            fold = reader.read()
            verify_identity(files, identity, reader.identity)
            clean(files, reader)
            checkpoint = fold.checkpoint
            recovered = Recovered(
                checkpoint.founding,
                checkpoint.state,
                fold.joined(),
                checkpoint.last_op,
                reader.torn_bytes,
                checkpoint.snapshot,
                fold.first_op,
            )
            journal = cls(files, identity, reader, recovered)
        except BaseException:
            files.unlock()
            raise
        journal._segment_bytes = segment_bytes
        journal._room_bytes = room_bytes
        journal._clock = clock
        return journal

    @property
    def identity(self) -> Identity:
        """Whose journal this is."""
        return self._identity

    @property
    def in_memory(self) -> bool:
        """Whether no call takes any time."""
        return self._files.in_memory

    @property
    def is_volatile(self) -> bool:
        """Whether nothing that is written here can ever be read again, so that it need not be written."""
        return self._files.is_volatile

    @property
    def incarnation(self) -> int:
        """This directory's incarnation."""
        return self._encoded.incarnation

    @property
    def last_op(self) -> int:
        """The op of the last entry encoded so far; 0 if none."""
        return self._encoded.last_op

    @property
    def failure(self) -> StorageFailedError | None:
        """What ended this journal, if anything did."""
        return self._failure

    @property
    def recovered(self) -> Recovered:
        """What the journal held when it was opened."""
        if self._recovered is None:
            raise JournalClosedError("what was recovered has been released")
        return self._recovered

    def release_recovered(self) -> None:
        """Forget `recovered`, which otherwise keeps the log as it was at the start in memory a second time."""
        self._recovered = None

    def set_incarnation(self, new: int) -> None:
        """Give the directory a larger incarnation; durable when this returns."""
        self.commit([IncarnationRecord(new)])

    def encode_batch(self, records: Sequence[JournalRecord]) -> Batch:
        """Encode records as the next batch, which must then be written.

        Raises:
          InvariantError: entries that do not continue the log, an incarnation that is not larger, a snapshot older
            than the one before or with a digest of another size than 32 bytes, a truncation of what a snapshot holds.
          ValueError: more than 1 GiB of records.
        """
        after = self._encoded
        try:
            for record in records:
                after = advance(after, record)
        except UnfoldableError as error:
            raise InvariantError(str(error)) from error
        blob, checksum = layout.encode_batch(self._seed, self._sequence, self._chain, layout.record_parts(records))
        batch = Batch(self._sequence, checksum, blob, after)
        self._sequence += 1
        self._chain = checksum
        self._encoded = after
        return batch

    def write(self, batch: Batch) -> None:
        """Hand a batch to the operating system with one call; it is durable after `sync`.

        A full segment is left first: the batch then begins a new one.

        Raises:
          StorageFailedError: now, or earlier: the journal is at its end.
          JournalClosedError: the journal was closed.
          InvariantError: not the batch that comes next, or the one before it was not synced.
        """
        self._refuse_unless_usable()
        check(self._phase is _Phase.READY, "a batch was written while the one before it was not synced")
        expected = self._written_sequence
        check(batch.sequence == expected, "batch {} was written in the place of {}", batch.sequence, expected)
        self._phase = _Phase.WRITING
        try:
            if self._segment_batches and self._size + len(batch.blob) > self._segment_bytes:
                self._rotate()
            if self._size + len(batch.blob) > self._room_end:
                self._make_room(len(batch.blob))
            self._files.append(self._handle, batch.blob)
        except StorageFailedError as error:
            self._failure = error
            raise
        self._size += len(batch.blob)
        self._segment_batches += 1
        self._batches += 1
        self._written_sequence = batch.sequence + 1
        self._written_chain = batch.chain
        self._written = batch.after
        self._phase = _Phase.WRITTEN

    def sync(self) -> None:
        """Make the batch written last durable; harmless if there is none.

        Raises:
          StorageFailedError: now, or earlier: whether the batch is durable is then unknown, and it is not tried again.
          JournalClosedError: the journal was closed.
        """
        self._refuse_unless_usable()
        if self._phase is not _Phase.WRITTEN:
            return
        self._phase = _Phase.SYNCING
        clock = self._clock
        started = clock() if clock else 0
        try:
            self._files.sync(self._handle)
        except StorageFailedError as error:
            self._failure = error
            raise
        if clock:
            self._last_sync_ns = clock() - started
            self._maximum_sync_ns = max(self._maximum_sync_ns, self._last_sync_ns)
        self._syncs += 1
        self._phase = _Phase.READY

    def commit(self, records: Sequence[JournalRecord]) -> None:
        """Encode, write and sync one batch; durable when this returns. Errors as of those three."""
        self._refuse_unless_usable()
        self.write(self.encode_batch(records))
        self.sync()

    def release(self, op: int) -> None:
        """Drop the oldest segments while nothing in them is beyond `op`; the newest stays in any case.

        The space is free when this returns. A crash within leaves some of the segments, which does no harm.

        Raises:
          InvariantError: `op` is beyond the last snapshot that is durable, or a batch is not synced.
          StorageFailedError: now, or earlier: the journal is at its end.
          JournalClosedError: the journal was closed.
        """
        self._refuse_unless_usable()
        check(self._phase is _Phase.READY, "segments were released while a batch was not synced")
        snapshot_op = _snapshot_op(self._written)
        check(op <= snapshot_op, "entries up to op {} were released, with a snapshot at op {}", op, snapshot_op)
        older = self._older
        if not snapshot_op or not older or older[0].last_op > op:
            return  # Without a snapshot the first segment stays, though it may hold no entry: it proves the beginning.
        self._phase = _Phase.RELEASING
        try:
            # In order, so that whatever comes first of a crash and the end, no gap is left behind.
            while older and older[0].last_op <= op:
                self._files.remove(older[0].name)
                self._older_bytes -= older.popleft().bytes
            self._files.sync_directory()
        except StorageFailedError as error:
            self._failure = error
            raise
        self._phase = _Phase.READY

    def statistics(self) -> JournalStatistics:
        """Sizes, counts and sync times as they are now."""
        return JournalStatistics(
            self._older_bytes + self._size,
            len(self._older) + 1,
            self._batches,
            self._syncs,
            self._last_sync_ns,
            self._maximum_sync_ns,
            _snapshot_op(self._written),
        )

    def close(self) -> None:
        """Release the files and the lock. Syncs nothing, never raises, and may be called again."""
        if self._phase is not _Phase.CLOSED:
            self._phase = _Phase.CLOSED
            self._files.unlock()

    def _refuse_unless_usable(self) -> None:
        if self._phase is _Phase.CLOSED:
            raise JournalClosedError(f"the journal in {self._files.location} is closed")
        if self._failure is None and self._phase in (_Phase.WRITING, _Phase.SYNCING, _Phase.RELEASING):
            # Half a batch may be on disk, or a sync may have failed unseen: neither may be followed by anything.
            self._failure = StorageFailedError(self._files.location, self._phase.value, 0, "it was interrupted")
        failure = self._failure
        if failure is not None:
            raise StorageFailedError(failure.file, failure.operation, failure.errno, failure.reason) from failure

    def _rotate(self) -> None:
        """Begin a new segment; every batch before is durable, and the new header is before its name is.

        The old one's room goes first: of a segment that another follows, every byte is accounted for.
        """
        if self._room_end > self._size:
            self._files.truncate(self._handle, self._size)
            self._files.sync(self._handle)
        number = self._number + 1
        header = layout.SegmentHeader(
            self._identity, number, self._written_sequence, self._written_chain, self._written
        )
        handle, size = create_segment(self._files, header)
        self._files.close(self._handle)
        self._older.append(_Segment(layout.segment_name(self._number), self._size, self._written.last_op))
        self._older_bytes += self._size
        self._handle, self._number, self._segment_batches = handle, number, 0
        self._size = self._room_end = size

    def _make_room(self, needed: int) -> None:
        """A sync that need not make a new size and new places of blocks durable, too, takes half of the time."""
        self._room_end = self._size + max(needed, min(self._room_bytes, self._segment_bytes - self._size))
        self._files.reserve(self._handle, self._room_end)


def _snapshot_op(checkpoint: Checkpoint) -> int:
    return checkpoint.snapshot.op if checkpoint.snapshot else 0
