"""The files that a replica's snapshots lie in, beside the segments of its journal."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from viewstamp.journal.errors import JournalCorruptError, StorageFailedError
from viewstamp.journal.files import Files
from viewstamp.journal.records import SnapshotRecord
from viewstamp.journal.snapshot_digest import SnapshotDigest
from viewstamp.protocol import check

UNFINISHED_NAME = "snapshot.new"
PIECE_BYTES = 64 * 1024

_NAME = re.compile(r"snapshot-\d{20}-[0-9a-f]{16}")


def snapshot_name(snapshot: SnapshotRecord) -> str:
    """The file name of a finished snapshot."""
    return f"snapshot-{snapshot.op:020d}-{snapshot.digest[:8].hex()}"


def is_snapshot_name(name: str) -> bool:
    """Whether a finished snapshot can have this file name."""
    return _NAME.fullmatch(name) is not None


def snapshot_problem(files: Files, snapshot: SnapshotRecord) -> str | None:
    """What is wrong with a snapshot's file, in words; None if it is whole and its digest right.

    Raises:
      StorageFailedError: the file could not be read, or vanished meanwhile.
    """
    name = snapshot_name(snapshot)
    if name not in files.names():
        return f"{name} is missing"
    size = files.size(name)
    if size != snapshot.size:
        return f"{name} has {size} bytes, not {snapshot.size}"
    held = SnapshotDigest(size)
    for offset in range(0, size, PIECE_BYTES):
        held.add(files.read_at(name, offset, min(PIECE_BYTES, size - offset)))
    return None if held.matches(snapshot.digest) else f"{name} is damaged: its digest is wrong"


class SnapshotFiles:
    """Writes, reads and removes a replica's snapshots, over the same `Files` as its journal, which holds the lock.

    A snapshot is written block by block into one unfinished file, gets its name with `finish`, and counts from when a
    `SnapshotRecord` is durable in the journal. Only then may the one before be removed and `Journal.release` be called.
    Whatever a crash leaves besides the one that the journal names is removed by `sweep`, to be called once after
    `Journal.open` and before all else.

    All calls block. One thread at a time may use it, beside the thread that writes the journal; nothing may be under
    way when the journal is closed. A `StorageFailedError` is final, for every later call too: the replica must stop.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._unfinished: tuple[int, int] | None = None
        """The unfinished file's handle and size. None while a call works on it, so that one that was interrupted
        cannot be gone on from."""
        self._failure: StorageFailedError | None = None
        self._proof: tuple[SnapshotRecord, SnapshotDigest] | None = None

    @property
    def failure(self) -> StorageFailedError | None:
        """What ended this, if anything did."""
        return self._failure

    def write(self, offset: int, data: bytes) -> None:
        """Append a block to the unfinished snapshot and sync it; offset 0 drops what there is and begins anew.

        A call costs one sync, however much `data` is.

        Raises:
          InvariantError: `offset` is not 0 and not how many bytes the unfinished snapshot has.
          StorageFailedError: now, or earlier.
        """
        with self._ending():
            if offset == 0:
                self._begin()
            handle, size = self._unfinished or (0, None)
            check(offset == size, "a snapshot's block for byte {} was written where it has {} bytes", offset, size)
            self._unfinished = None
            self._files.append(handle, data)
            self._files.sync(handle)
            self._unfinished = (handle, offset + len(data))

    def finish(self, snapshot: SnapshotRecord) -> None:
        """Give the unfinished snapshot its name; the file is durable, with its name, when this returns.

        Raises:
          InvariantError: there is none, or it has not exactly `snapshot.size` bytes.
          StorageFailedError: now, or earlier.
        """
        with self._ending():
            handle, size = self._unfinished or (0, None)
            check(size == snapshot.size, "a snapshot of {} bytes was finished with {}", snapshot.size, size)
            self._unfinished = None
            self._files.close(handle)
            # If the name exists, its file is replaced at once by an equal one.
            self._files.rename(UNFINISHED_NAME, snapshot_name(snapshot))
            self._files.sync_directory()

    def read(self, snapshot: SnapshotRecord, offset: int, size: int) -> bytes | None:
        """`size` bytes of a finished snapshot, fewer at its end; None if there is no such file.

        Raises:
          StorageFailedError: now, or earlier.
        """
        with self._ending():
            try:
                return self._files.read_at(snapshot_name(snapshot), offset, size)
            except StorageFailedError as error:
                if error.errno != errno.ENOENT:
                    raise
                return None

    def read_proved(self, snapshot: SnapshotRecord, offset: int, size: int) -> bytes | None:
        """Like `read`, to give it to others; None also where the file turns out not to hold that snapshot.

        It does as soon as a read comes short. Blocks that are read one after the other, from the beginning, are also
        added up, and the last one is withheld if their digest is wrong: a disk that has decayed is noticed by whoever
        gives, not by whoever receives alone. No more is read for that.

        Raises:
          StorageFailedError: now, or earlier.
        """
        data = self.read(snapshot, offset, size)
        if data is None or len(data) != min(size, max(0, snapshot.size - offset)):
            return None
        if self._proof is None or self._proof[0] != snapshot:
            self._proof = snapshot, SnapshotDigest(snapshot.size)
        _, held = self._proof
        if offset != held.received:
            return data
        held.add(data)
        if held.received < snapshot.size:
            return data
        self._proof = None
        return data if held.matches(snapshot.digest) else None

    def pieces(self, snapshot: SnapshotRecord, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """A whole finished snapshot, in pieces of `piece_bytes`, the last one as long as it is.

        Raises, while it is iterated:
          JournalCorruptError: the file is missing, or has not the size that the journal says.
          StorageFailedError: now, or earlier.
        """
        name, where = snapshot_name(snapshot), self._files.location
        for offset in range(0, snapshot.size, piece_bytes):
            expected = min(piece_bytes, snapshot.size - offset)
            piece = self.read(snapshot, offset, expected)
            if piece is None:
                raise JournalCorruptError(name, 0, "the file is missing", where)
            if len(piece) != expected:
                raise JournalCorruptError(name, offset + len(piece), f"it ends before its {snapshot.size} bytes", where)
            yield piece
        if self.read(snapshot, snapshot.size, 1):
            raise JournalCorruptError(name, snapshot.size, "more follows the end", where)

    def remove(self, snapshot: SnapshotRecord) -> None:
        """Remove a finished snapshot that the journal does not name any longer, if it is there.

        Its name can come back when the power is lost; `sweep` then removes it again.

        Raises:
          StorageFailedError: now, or earlier.
        """
        with self._ending():
            name = snapshot_name(snapshot)
            if name in self._files.names():
                self._files.remove(name)

    def sweep(self, keep: SnapshotRecord | None) -> None:
        """Remove, durably, every snapshot and the unfinished one, but not `keep`: the one that the journal names.

        Raises:
          StorageFailedError: now, or earlier.
        """
        with self._ending():
            self._drop_unfinished()
            kept = snapshot_name(keep) if keep else None
            names = [name for name in self._files.names() if is_snapshot_name(name) or name == UNFINISHED_NAME]
            for name in names:
                if name != kept:
                    self._files.remove(name)
            self._files.sync_directory()

    def _begin(self) -> None:
        self._drop_unfinished()
        if UNFINISHED_NAME in self._files.names():
            self._files.remove(UNFINISHED_NAME)
        self._unfinished = (self._files.create(UNFINISHED_NAME), 0)

    def _drop_unfinished(self) -> None:
        if self._unfinished is not None:
            handle, _ = self._unfinished
            self._unfinished = None
            self._files.close(handle)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Refuse to go on after a failure, and remember one that happens."""
        if self._failure is not None:
            failure = self._failure
            raise StorageFailedError(failure.file, failure.operation, failure.errno, failure.reason) from failure
        try:
            yield
        except StorageFailedError as error:
            self._failure = error
            raise
