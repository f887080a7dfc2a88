"""What the members of a soak replicate: keys with values, and keys that count."""

from __future__ import annotations

from statemachine import CommandError, KeyValueStore, command, query


class NotACounterError(CommandError):
    """The key holds something that cannot be added to."""

    key: str


class SoakStore(KeyValueStore):
    """A key-value store whose keys can also be counters, so that one cluster serves both kinds of history."""

    @command
    def add(self, key: str, amount: int) -> int:
        """Add `amount` to the counter `key`, at first 0, and return its new value.

        Raises:
          NotACounterError: the key holds no integer.
        """
        total = self._count(key) + amount
        self.put(key, total)
        return total

    @query
    def read(self, key: str) -> int:
        """The counter `key`; 0 if it was never added to.

        Raises:
          NotACounterError: the key holds no integer.
        """
        return self._count(key)

    def _count(self, key: str) -> int:
        present = self.get(key)
        if present is None:
            return 0
        value = present["value"]
        if not isinstance(value, int):
            raise NotACounterError(key)
        return value
