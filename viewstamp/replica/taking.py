"""Taking a snapshot: the state as of one op, written block by block while commands go on."""

from __future__ import annotations

from collections.abc import Iterator

from viewstamp.protocol import SNAPSHOT_DIGEST_BYTES, Snapshot, Viewstamp, check
from viewstamp.replica.chunks import BLOCK_BYTES
from viewstamp.replica.file_tasks import WriteBlock

COLLECT_BYTES = 64 * 1024
"""How much of a snapshot is collected in one turn, unless one piece is larger."""
_TOLD_CHARACTERS = 500


class Taking:
    """One snapshot under way. `pieces` are consistent as of `viewstamp`; the last of them is the digest of all others.

    One block is being written at a time, and the next is collected meanwhile, a little in each turn.
    """

    def __init__(self, viewstamp: Viewstamp, stamp: int, pieces: Iterator[bytes], collect_bytes: int) -> None:
        self._viewstamp = viewstamp
        self._stamp = stamp
        self._pieces = pieces
        self._collect_bytes = collect_bytes
        self._buffer = bytearray()
        self._offset = 0
        self._end = b""
        self._ended = False
        self._writing = False

    @property
    def op(self) -> int:
        """What it will hold."""
        return self._viewstamp.op

    @property
    def wants_turn(self) -> bool:
        """Whether there is more to collect right now."""
        return not self._ended and len(self._buffer) < BLOCK_BYTES

    def next_block(self) -> WriteBlock | None:
        """Collect some more; the next block, once it is complete and the one before it is written."""
        pulled = 0
        while self.wants_turn and pulled < self._collect_bytes:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                break
            self._buffer += piece
            self._end = piece
            pulled += len(piece)
        if self._writing or not (self._ended or len(self._buffer) >= BLOCK_BYTES):
            return None
        data = bytes(self._buffer)
        block = WriteBlock(self._offset, data, self._name(self._offset + len(data)) if self._ended else None)
        self._offset += len(data)
        self._buffer.clear()
        self._writing = True
        return block

    def _name(self, size: int) -> Snapshot:
        check(len(self._end) == SNAPSHOT_DIGEST_BYTES, "a snapshot ends with {} bytes of digest", len(self._end))
        return Snapshot(*self._viewstamp, self._stamp, size, self._end)

    def written(self, now: int) -> None:  # as for one that is fetched
        """The block is durable."""
        self._writing = False


def told(error: Exception) -> str:
    """What a service's own code raised, in text that can be sent: every member has the same to tell, and telling it
    must end none of them."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:  # noqa: BLE001 - the service's own code once more
        text = name
    return text[:_TOLD_CHARACTERS].encode(errors="backslashreplace").decode()
