"""Fetching a snapshot from a peer: chunks by offset, asked for again when they do not come.

The name (op, digest) is in every question and answer, so that two snapshots are never mixed, and what has come stays
good when another member that has the same one becomes the source.
"""

from __future__ import annotations

from viewstamp.journal.snapshot_digest import SnapshotDigest
from viewstamp.protocol import NEVER, Snapshot
from viewstamp.replica.chunks import BLOCK_BYTES, CHUNK_BYTES
from viewstamp.replica.file_tasks import WriteBlock
from viewstamp.wire import Chunk, GetChunk

_WINDOW_CHUNKS = 5
"""Enough to keep the source busy. With more, both ends handle longer bursts, and others wait for them: beside a
transfer of 200 MB on loopback a call took 60 ms at most with 5 chunks on their way, and 200 ms with 16."""


class DamagedSnapshotError(Exception):
    """All bytes have come, and they are not those of the name."""


class Fetching:
    """One snapshot on its way here. Times are monotonic nanoseconds."""

    def __init__(self, snapshot: Snapshot, source: int, retry_ns: int, now: int) -> None:
        self.snapshot = snapshot
        self.source = source
        self.progressed_at = now
        self._retry = retry_ns
        self._early: dict[int, bytes] = {}
        self._asked: dict[int, int] = {}
        self._held = SnapshotDigest(snapshot.size)
        self._buffer = bytearray()
        self._offset = 0
        self._writing = False

    @property
    def received(self) -> int:
        """How many bytes have come, without a gap."""
        return self._held.received

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self.received == self.snapshot.size

    def follow(self, source: int, now: int) -> None:
        """Go on, with this source."""
        if source != self.source:
            self.source = source
            self._asked.clear()
            self.progressed_at = now

    def questions(self, now: int) -> list[GetChunk]:
        """What to ask for now: a window beyond what has come, each again when it is overdue."""
        if self._waits_for_disk:
            return []
        snapshot = self.snapshot
        result: list[GetChunk] = []
        end = min(snapshot.size, self.received + _WINDOW_CHUNKS * CHUNK_BYTES)
        for offset in range(self.received, end, CHUNK_BYTES):
            if offset not in self._early and now - self._asked.get(offset, now - self._retry) >= self._retry:
                self._asked[offset] = now
                result.append(GetChunk(snapshot.op, snapshot.digest, offset))
        return result

    @property
    def deadline(self) -> int:
        """When the oldest question is to be asked again."""
        if self._waits_for_disk:
            return NEVER
        return min(self._asked.values(), default=self.progressed_at) + self._retry

    def overdue(self, patience_ns: int, now: int) -> bool:
        """Whether its source has been silent for so long."""
        return not self._waits_for_disk and now - self.progressed_at > patience_ns

    @property
    def _waits_for_disk(self) -> bool:
        """All has come, or more than the disk takes at the moment."""
        return self.complete or len(self._buffer) > 2 * BLOCK_BYTES

    def take(self, chunk: Chunk, now: int) -> bool:
        """One chunk came; True if more of the snapshot is here than before.

        Raises:
          DamagedSnapshotError: this was the last, and the whole is not what it should be.
        """
        offset = chunk.offset
        expected = min(CHUNK_BYTES, self.snapshot.size - offset)
        if offset not in self._asked or len(chunk.data) != expected:
            return False
        del self._asked[offset]
        self._early[offset] = chunk.data
        if self.received not in self._early:
            return False
        while (data := self._early.pop(self.received, None)) is not None:
            self._held.add(data)
            self._buffer += data
        self.progressed_at = now
        if self.complete and not self._held.matches(self.snapshot.digest):
            raise DamagedSnapshotError
        return True

    def next_block(self) -> WriteBlock | None:
        """The next block to store, once it is complete and the one before it is written."""
        if self._writing or not (len(self._buffer) >= BLOCK_BYTES or (self.complete and self._buffer)):
            return None
        data = bytes(self._buffer[:BLOCK_BYTES] if not self.complete else self._buffer)
        finished = self.snapshot if self.complete else None
        block = WriteBlock(self._offset, data, finished)
        self._offset += len(data)
        del self._buffer[: len(data)]
        self._writing = True
        return block

    def written(self, now: int) -> None:
        """The block is durable."""
        self._writing = False
        self.progressed_at = now  # A disk that was slow is no silence of the source.
