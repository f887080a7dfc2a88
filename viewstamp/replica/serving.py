"""Giving snapshots to members that fetch them: from blocks read ahead, never waiting for the disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from viewstamp.protocol import Snapshot
from viewstamp.replica.chunks import BLOCK_BYTES, CHUNK_BYTES
from viewstamp.replica.file_tasks import ReadBlock
from viewstamp.wire import Chunk, GetChunk, NoSnapshot

_BLOCKS_KEPT = 3
_WAITING_AT_MOST = 256

Send = Callable[[int, object], None]
Block = tuple[Snapshot, int]


class Serving:
    """The snapshots that are being fetched from here. Times are monotonic nanoseconds.

    A snapshot asked for within `pin_ns` is pinned: its file stays, and so does the log behind it, or whoever fetches it
    would find, when it is done, that it needs the next. Who asks for a newer one needs the older no more.
    """

    def __init__(self, send: Send, pin_ns: int) -> None:
        self._send = send
        self._pin = pin_ns
        self.asked_at: dict[Snapshot, int] = {}
        """When a chunk of each was asked for last, of those that were being fetched a moment ago."""
        self._progress: dict[int, tuple[Snapshot, int]] = {}
        self._blocks: OrderedDict[Block, bytes] = OrderedDict()
        self._waiting: dict[Block, dict[tuple[int, int], None]] = {}
        self.reads: list[ReadBlock] = []
        """The blocks to be read next."""

    def ask(self, member: int, question: GetChunk, available: Iterable[Snapshot], now: int) -> None:
        """A member wants a chunk."""
        name = question.op, question.digest
        snapshot = next((each for each in available if (each.op, each.digest) == name), None)
        if snapshot is None:
            self._send(member, NoSnapshot(question.op, question.digest))
            return
        if question.offset % CHUNK_BYTES or question.offset >= snapshot.size:
            return
        self.asked_at[snapshot] = now
        before, _ = self._progress.get(member, (snapshot, 0))
        self._progress[member] = snapshot, question.offset
        if before.op < snapshot.op and all(each != before for each, _ in self._progress.values()):
            self._forget(before)
        start = question.offset - question.offset % BLOCK_BYTES
        block = snapshot, start
        data = self._blocks.get(block)
        if data is not None:
            self._blocks.move_to_end(block)
            self._give(member, block, question.offset, data)
            return
        waiting = self._waiting.get(block)
        if waiting is None:
            waiting = self._waiting[block] = {}
            self.reads.append(ReadBlock(snapshot, start, BLOCK_BYTES))
        if len(waiting) < _WAITING_AT_MOST:
            waiting[member, question.offset] = None

    def _give(self, member: int, block: Block, offset: int, data: bytes) -> None:
        snapshot, start = block
        part = data[offset - start : offset - start + CHUNK_BYTES]
        self._send(member, Chunk(snapshot.op, snapshot.digest, offset, part))

    def read(self, task: ReadBlock, data: bytes | None) -> None:
        """A block was read, or is not there, or is not what it should be."""
        block = task.snapshot, task.offset
        waiting = self._waiting.pop(block, {})
        if data is None:
            for other in [other for other in self._blocks if other[0] == task.snapshot]:
                del self._blocks[other]
            for member, _ in waiting:
                self._send(member, NoSnapshot(task.snapshot.op, task.snapshot.digest))
            return
        self._blocks[block] = data
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        for member, offset in waiting:
            self._give(member, block, offset, data)

    @property
    def waits_for(self) -> Block | None:
        """The block that somebody has waited for longest while it is being read."""
        return next(iter(self._waiting), None)

    def take_reads(self) -> list[ReadBlock]:
        """Hand over the blocks to be read next."""
        reads, self.reads = self.reads, []
        return reads

    def pinned(self, now: int) -> list[Snapshot]:
        """What is being fetched now; the rest is forgotten."""
        if not self.asked_at:
            return []
        stale = [snapshot for snapshot, asked_at in self.asked_at.items() if now - asked_at >= self._pin]
        for snapshot in stale:
            self._progress = {m: (s, offset) for m, (s, offset) in self._progress.items() if s != snapshot}
            self._forget(snapshot)
        return list(self.asked_at)

    def _forget(self, snapshot: Snapshot) -> None:
        del self.asked_at[snapshot]
        for block in [block for block in self._blocks if block[0] == snapshot]:
            del self._blocks[block]

    @property
    def progress(self) -> dict[int, tuple[Snapshot, int]]:
        """What each member that is fetching asked for last, for people."""
        return self._progress
