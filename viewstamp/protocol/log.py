"""A protocol's log in memory, and which part of it this member's own disk holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from viewstamp.protocol.checks import check
from viewstamp.protocol.configuration import Limits
from viewstamp.protocol.entry import Entry, Viewstamp

_ORIGIN = Viewstamp(0, 0)


class Log:
    """Consecutive entries, from `base` + 1 to `op`.

    `durable` is the op up to which this member's disk holds *these* entries. A write that completes after its
    entries were replaced proves nothing about the new ones: each write in flight remembers the op it
    covers, and a truncation lowers those.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        check(not entries or entries[0].op == 1, "a log must begin at op 1, not {}", entries[0].op if entries else 0)
        self._entries = list(entries)
        self.base = 0
        self.durable = len(self._entries)
        self._in_flight: deque[tuple[int, int]] = deque()

    @property
    def op(self) -> int:
        """The op-number of the last entry; `base` if there is none."""
        return self.base + len(self._entries)

    def entry(self, op: int) -> Entry:
        """The entry at `op`."""
        check(self.base < op <= self.op, "entry {} is outside the log ({} to {}]", op, self.base, self.op)
        return self._entries[op - self.base - 1]

    def viewstamp(self, op: int) -> Viewstamp:
        """The viewstamp at `op`; (0, 0) at the beginning of the history."""
        return _ORIGIN if op == 0 else self.entry(op).viewstamp

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that continue the log."""
        if entries:
            check(entries[0].op == self.op + 1, "an append at {} would leave a gap after {}", entries[0].op, self.op)
            self._entries.extend(entries)

    def truncate(self, after: int) -> None:
        """Drop what lies beyond op `after`, also from what writes in flight will have made durable."""
        check(self.base <= after, "cannot truncate after {}, below the base {}", after, self.base)
        if after < self.op:
            del self._entries[after - self.base :]
            self.durable = min(self.durable, after)
            self._in_flight = deque((write, min(op, after)) for write, op in self._in_flight)

    def page(self, after: int, limits: Limits, upto: int | None = None) -> tuple[Entry, ...]:
        """Entries after op `after` (to `upto`, or the end): at least one if there is any, and within one page."""
        check(after >= self.base, "no page after {}: the log begins after {}", after, self.base)
        start = after - self.base
        stop = min(len(self._entries), start + limits.page_entries)
        if upto is not None:
            stop = min(stop, upto - self.base)
        size = 0
        for position in range(start, stop):
            size += len(self._entries[position].encoded)
            if size > limits.page_bytes and position > start:
                return tuple(self._entries[start:position])
        return tuple(self._entries[start:stop])

    def issued(self, write: int) -> None:
        """Write number `write` covers the log as it is now."""
        self._in_flight.append((write, self.op))

    def written(self, write: int) -> None:
        """Write number `write` and all before it are durable."""
        while self._in_flight and self._in_flight[0][0] <= write:
            self.durable = max(self.durable, self._in_flight.popleft()[1])

    @property
    def oldest_unwritten(self) -> int:
        """The number of the oldest write still in flight, 0 if none."""
        return self._in_flight[0][0] if self._in_flight else 0
