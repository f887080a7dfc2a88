"""A protocol's log in memory, and which part of it this member's own disk holds.

An entry that is ready to use takes five times the memory of its bytes if it is small, and twice if it is large. Of
those that were executed long ago, which hardly anybody asks for, only the bytes are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import cast

from viewstamp.protocol.checks import check
from viewstamp.protocol.configuration import Limits
from viewstamp.protocol.entry import Entry, Viewstamp, split_entries
from viewstamp.protocol.snapshot import Snapshot

_ORIGIN = Viewstamp(0, 0)
_LARGE_BYTES = 4096


class Log:
    """Consecutive entries, from `base` + 1 to `op`; what lies before, a snapshot holds.

    `durable` is the op up to which this member's disk holds *these* entries. A write that completes after its
    entries were replaced proves nothing about the new ones: each write in flight remembers the op it
    covers, and a truncation lowers those.
    """

    READY = 64
    """So many of the entries that `pack` is told of stay ready to use, and up to twice as many; of large ones one."""

    def __init__(self, entries: Sequence[Entry] = (), snapshot: Snapshot | None = None) -> None:
        held = snapshot.op if snapshot is not None else 0
        first = entries[0].op if entries else held + 1
        check(first <= held + 1 and (first == 1 or held > 0), "a log from op {} cannot follow op {}", first, held)
        base = snapshot.viewstamp if snapshot is not None else _ORIGIN
        if first <= held:
            # The view of the op before the first entry is not known any more, so that one becomes the base.
            check(entries[-1].op >= held, "a log that ends at op {} has lost what follows", entries[-1].op)
            base, entries = entries[0].viewstamp, entries[1:]
        self._begin_after(base)
        self._entries: list[Entry | bytes] = list(entries)
        self._packed = self.base  # the op up to which there are only bytes
        self.op = self.base + len(self._entries)
        """The op-number of the last entry; `base` if there is none."""
        self.bytes = sum(len(entry.encoded) for entry in entries)
        self.durable = self.op
        self._in_flight: deque[tuple[int, int]] = deque()

    def _begin_after(self, base: Viewstamp) -> None:
        self._base = base
        self.base = base.op
        """The op after which the log begins."""

    def entry(self, op: int) -> Entry:
        """The entry at `op`."""
        return _ready(self._held(op))

    def size(self, op: int) -> int:
        """The bytes of the entry at `op`."""
        return len(_bytes_of(self._held(op)))

    def _held(self, op: int) -> Entry | bytes:
        base = self.base
        check(base < op <= self.op, "entry {} is outside the log ({} to {}]", op, base, self.op)
        return self._entries[op - base - 1]

    def entries(self, first: int, last: int) -> list[Entry]:
        """The entries from op `first` to `last`."""
        base = self.base
        check(base < first and last <= self.op, "entries {} to {} are outside the log", first, last)
        return self._slice(first - base - 1, last - base)

    def _slice(self, start: int, stop: int) -> list[Entry]:
        held = self._entries[start:stop]
        if self.base + start < self._packed:
            return [*map(_ready, held)]
        return cast("list[Entry]", held)

    def pack(self, upto: int) -> None:
        """Entries up to op `upto` are executed: of all but the last of them the bytes will do."""
        ready = self.READY if self.bytes < _LARGE_BYTES * len(self._entries) else 1
        if upto - self._packed >= 2 * ready:
            start, stop = self._packed - self.base, upto - ready - self.base
            self._entries[start:stop] = [entry.encoded for entry in self._slice(start, stop)]
            self._packed = self.base + stop

    def viewstamp(self, op: int) -> Viewstamp:
        """The viewstamp at `op`, from the base on; (0, 0) at the beginning of the history."""
        return self._base if op == self.base else self.entry(op).viewstamp

    def holds(self, viewstamp: Viewstamp) -> bool:
        """Whether this very operation is in the log, or is its base: then all before it is the same too."""
        return self.base <= viewstamp.op <= self.op and self.viewstamp(viewstamp.op) == viewstamp

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that continue the log."""
        if entries:
            check(entries[0].op == self.op + 1, "an append at {} would leave a gap after {}", entries[0].op, self.op)
            self._entries.extend(entries)
            self.op += len(entries)
            self.bytes += sum([len(entry.encoded) for entry in entries])

    def truncate(self, after: int) -> None:
        """Drop what lies beyond op `after`, also from what writes in flight will have made durable."""
        check(self.base <= after, "cannot truncate after {}, below the base {}", after, self.base)
        if after < self.op:
            self.bytes -= self._sum(after - self.base, len(self._entries))
            del self._entries[after - self.base :]
            self.op = after
            self._packed = min(self._packed, after)
            self.durable = min(self.durable, after)
            self._in_flight = deque((write, min(op, after)) for write, op in self._in_flight)

    def compact(self, upto: int) -> None:
        """Drop what lies up to op `upto` from memory; harmless if that is gone."""
        check(upto <= self.op, "cannot compact up to {}, beyond the end {}", upto, self.op)
        if upto > self.base:
            base = self.viewstamp(upto)
            count = upto - self.base
            self.bytes -= self._sum(0, count)
            del self._entries[:count]
            self._begin_after(base)
            self._packed = max(self._packed, upto)

    def restart(self, base: Viewstamp) -> None:
        """Begin anew, empty, behind a snapshot. What writes in flight will have made durable is none of this log."""
        check(base.op >= self.base, "a log from {} cannot begin anew at {}", self.base, base.op)
        self._entries = []
        self._begin_after(base)
        self.op = self._packed = base.op
        self.bytes = 0
        self.durable = 0
        self._in_flight.clear()

    def page(self, after: int, limits: Limits, upto: int | None = None) -> tuple[Entry, ...]:
        """Entries after op `after` (to `upto`, or the end): at least one if there is any, and within one page."""
        check(after >= self.base, "no page after {}: the log begins after {}", after, self.base)
        start = after - self.base
        stop = min(len(self._entries), start + limits.page_entries)
        if upto is not None:
            stop = min(stop, upto - self.base)
        size = 0
        for position in range(start, stop):
            size += len(_bytes_of(self._entries[position]))
            if size > limits.page_bytes and position > start:
                stop = position
                break
        return tuple(self._slice(start, stop))

    def _sum(self, start: int, stop: int) -> int:
        return sum([len(_bytes_of(held)) for held in self._entries[start:stop]])

    def issued(self, write: int) -> None:
        """Write number `write` covers the log as it is now."""
        self._in_flight.append((write, self.op))

    def written(self, write: int) -> None:
        """Write number `write` and all before it are durable."""
        while self._in_flight and self._in_flight[0][0] <= write:
            self.durable = max(self.durable, self._in_flight.popleft()[1])


def _ready(held: Entry | bytes) -> Entry:
    return held if isinstance(held, Entry) else split_entries(held)[0]


def _bytes_of(held: Entry | bytes) -> bytes:
    return held.encoded if isinstance(held, Entry) else held
