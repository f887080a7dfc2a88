"""A key-value store that is too large to be written down within one turn of its replica."""

from __future__ import annotations

from zlib import crc32

from statemachine import KeyValueStore
from statemachine.key_value import BUCKETS

_BALLAST_BYTES = 70_000
_BALLAST = sorted((f"ballast {number}" for number in range(2000)), key=lambda key: crc32(key.encode()) % BUCKETS)[:4]
"""Keys that a snapshot comes to before nearly all others."""


class BulkyStore(KeyValueStore):
    """It begins with 280,000 bytes, and a snapshot with those: commands come between them and what clients write."""

    def __init__(self) -> None:
        super().__init__()
        for key in _BALLAST:
            KeyValueStore.put.function(self, key, bytes(_BALLAST_BYTES))
        self._revision = 0  # Versions that clients see begin where they do without it.
