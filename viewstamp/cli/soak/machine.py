"""What the members of a soak replicate: keys with values, and keys that count."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from statemachine import KeyValueStore, SnapshotError, command, decode_value, encode_value, query
from statemachine.counter import NotAnIntegerError


class SoakStore(KeyValueStore):
    """A key-value store with counters beside it, so that one cluster serves both kinds of history.

    Counters take no part in the store's versions: these must count its own changes, and nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counters: dict[str, int] = {}

    @command
    def add(self, key: str, amount: int) -> int:
        """Add `amount` to the counter `key`, at first 0, and return its new value.

        Raises:
          NotAnIntegerError: `amount` is something else.
        """
        if type(amount) is not int:
            raise NotAnIntegerError(type(amount).__name__)
        total = self._counters[key] = self._counters.get(key, 0) + amount
        return total

    @query
    def read(self, key: str) -> int:
        """The counter `key`; 0 if it was never added to."""
        return self._counters.get(key, 0)

    def snapshot(self) -> Iterator[bytes]:
        """The counters in one chunk, and then the store."""
        return chain([encode_value(dict(self._counters))], super().snapshot())

    def restore(self, chunks: Iterator[bytes]) -> None:
        """Replace both by those of a snapshot."""
        counters = decode_value(next(chunks, b""))
        if not isinstance(counters, dict):
            raise SnapshotError("the counters of a soak cannot be read")
        super().restore(chunks)
        self._counters = {str(key): value for key, value in counters.items() if isinstance(value, int)}
