"""Whether bytes are those of a snapshot: its name has their digest, and they end with it."""

from __future__ import annotations

from hashlib import blake2b

from viewstamp.journal.fold import DIGEST_BYTES


class SnapshotDigest:
    """The bytes of a snapshot of this size, added up as they come, in pieces cut anywhere.

    Its digest is their last 32 bytes, and the BLAKE2b of all before them. Nothing but those 32 is kept.
    """

    def __init__(self, size: int) -> None:
        self.received = 0
        self._before_end = size - DIGEST_BYTES
        self._computed = blake2b(digest_size=DIGEST_BYTES)
        self._end = b""

    def add(self, data: bytes) -> None:
        """The next bytes."""
        rest = max(0, self._before_end - self.received)
        self._computed.update(data[:rest])  # No copy, unless the end is in it.
        self._end += data[rest:]
        self.received += len(data)

    def matches(self, digest: bytes) -> bool:
        """Whether all has come, and this is its digest."""
        return self._before_end > 0 and self._end == self._computed.digest() == digest
