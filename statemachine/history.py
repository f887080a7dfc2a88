"""A hash over all that was applied, cheap for each entry, and continued from a snapshot taken at any op."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from statemachine.errors import SnapshotError

DIGEST_BYTES = 16
_BLOCK = 32
_LONG_BYTES = 512
_LONG = b"\xff"


class History:
    """The rolling hash: equal on two replicas at equal op if they applied the same entries with the same replies.

    One hash covers a block of operations, chained to the block before; blocks begin at fixed op-numbers. What was
    applied since the last of them is kept as it is, and hashed when someone asks. A hash object that runs on and on
    would be as cheap, but nothing could continue it from a snapshot.

    Entries and replies say themselves where they end, so they need nothing between them. A long one is kept as its
    hash, behind a byte that none begins with.
    """

    __slots__ = ("_chained", "_count", "_recent")

    def __init__(self) -> None:
        self._chained = bytes(DIGEST_BYTES)
        self._recent: list[bytes] = []  # the records of this block
        self._count = 0  # entries in it

    def extend(self, records: Sequence[bytes]) -> None:
        """These were applied: an entry, its reply, the next entry, its reply, and so on."""
        if not records:
            return
        if max(map(len, records)) > _LONG_BYTES:
            records = [*map(_shortened, records)]
        while records:
            room = 2 * (_BLOCK - self._count)
            added, records = records[:room], records[room:]
            self._recent += added
            self._count += len(added) // 2
            if self._count == _BLOCK:
                self._chained = self.digest
                self._recent, self._count = [], 0

    @property
    def digest(self) -> bytes:
        """The hash of it all."""
        return blake2b(self.snapshot(), digest_size=DIGEST_BYTES).digest()

    def snapshot(self) -> bytes:
        """What `restore` needs, besides the number of entries: at most about 32 KiB."""
        return self._chained + b"".join(self._recent)

    def restore(self, data: bytes, entries: int) -> None:
        """Continue from what `snapshot` gave after so many entries.

        Raises:
          SnapshotError: it is cut short.
        """
        if len(data) < DIGEST_BYTES:
            raise SnapshotError("the history of a snapshot is cut short")
        self._chained = data[:DIGEST_BYTES]
        self._recent = [data[DIGEST_BYTES:]]
        self._count = entries % _BLOCK


def _shortened(data: bytes) -> bytes:
    if len(data) <= _LONG_BYTES:
        return data
    return _LONG + blake2b(data, digest_size=2 * DIGEST_BYTES).digest()
