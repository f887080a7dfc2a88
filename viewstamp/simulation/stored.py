"""What a member's disk holds, kept as the protocol's own records: for drivers without a journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from viewstamp.protocol import Append, Durable, Entry, Install, Record, SaveState, Snapshot, State, Truncate, check


class StoredRecords:
    """The latest state, the latest snapshot, and the entries behind it or behind what was kept before it."""

    def __init__(self, origin: Durable | None = None) -> None:
        self.state: State | None = origin.state if origin is not None else None
        self.snapshot: Snapshot | None = origin.snapshot if origin is not None else None
        self.entries: list[Entry] = list(origin.entries) if origin is not None else []

    @property
    def base(self) -> int:
        """The op before the first entry."""
        if self.entries:
            return self.entries[0].op - 1
        return self.snapshot.op if self.snapshot is not None else 0

    @property
    def last_op(self) -> int:
        """The op of the last entry, or of the snapshot."""
        return self.base + len(self.entries)

    @property
    def durable(self) -> Durable | None:
        """How a member starts on this; None if nothing was ever saved."""
        return Durable(self.state, tuple(self.entries), self.snapshot) if self.state is not None else None

    def store(self, records: Sequence[Record]) -> None:
        """One write, whole."""
        for record in records:
            match record:
                case Append(entries):
                    check(entries[0].op == self.last_op + 1, "an append at {} after {}", entries[0].op, self.last_op)
                    self.entries.extend(entries)
                case Truncate(after):
                    check(after >= self.base, "a truncation after {} below {}", after, self.base)
                    del self.entries[after - self.base :]
                case SaveState(state):
                    self.state = state
                case Install(snapshot):
                    check(snapshot.op >= self.last_op, "snapshot {} before the log's end", snapshot.op)
                    self.snapshot, self.entries = snapshot, []
                case _:
                    assert_never(record)

    def compact(self, snapshot: Snapshot, keep_after: int) -> None:
        """The member's own snapshot: entries up to `keep_after` go."""
        check(keep_after <= snapshot.op <= self.last_op, "a snapshot at {} of a log to {}", snapshot.op, self.last_op)
        if keep_after > self.base:
            del self.entries[: keep_after - self.base]
        self.snapshot = snapshot
