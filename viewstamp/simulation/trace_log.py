"""A member's log as an onlooker knows it: from what its journal gave back, and from each write it asks for since."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, assert_never

from transport.codec import MessageCodec
from viewstamp.journal import (
    EntriesRecord,
    FoundingRecord,
    IncarnationRecord,
    JournalRecord,
    Recovered,
    SnapshotRecord,
    StateRecord,
    TruncateRecord,
)
from viewstamp.protocol import split_entries
from viewstamp.simulation.trace_format import LOG_TAIL, runs, summary, whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class LogMirror:
    """Which (view, op) pairs a member holds, and up to where its disk holds these.

    `base` is the op below the first that it holds; `durable` the op up to which the log is durable.
    """

    def __init__(self, recovered: Recovered | None = None) -> None:
        entries = split_entries(recovered.entries) if recovered is not None else ()
        snapshot = recovered.snapshot if recovered is not None else None
        held = snapshot.op if snapshot is not None else 0
        self.base = entries[0].op - 1 if entries else held
        self._views = [entry.view for entry in entries]
        self.durable = self.op
        self._writes: deque[tuple[int, int]] = deque()  # (number, op that it covers), those not durable yet

    @property
    def op(self) -> int:
        """The op of the last entry."""
        return self.base + len(self._views)

    @property
    def tail(self) -> list[list[int]]:
        """The last few (view, op), the last one last."""
        first = max(0, len(self._views) - LOG_TAIL)
        return [[view, op] for op, view in enumerate(self._views[first:], self.base + first + 1)]

    def asked(self, number: int, records: Iterable[JournalRecord], codec: MessageCodec) -> dict[str, Any]:
        """The member asks for a write; what it holds, for a trace."""
        described = [self._fold(record, codec) for record in records]
        self._writes.append((number, self.op))
        return {"number": number, "records": described}

    def written(self, number: int) -> None:
        """A write, and all before it, is durable."""
        while self._writes and self._writes[0][0] <= number:
            self.durable = max(self.durable, self._writes.popleft()[1])

    def begins_after(self, base: int) -> None:
        """The member keeps no entries up to this op any more."""
        if base > self.base:
            del self._views[: base - self.base]
            self.base = base

    def _fold(self, record: JournalRecord, codec: MessageCodec) -> dict[str, Any]:
        match record:
            case EntriesRecord(_, _, data):
                entries = split_entries(data)
                self._views.extend(entry.view for entry in entries)
                return {"kind": "append", "entries": runs((entry.view, entry.op) for entry in entries)}
            case TruncateRecord(after):
                del self._views[max(0, after - self.base) :]
                self.durable = min(self.durable, after)
                self._writes = deque((number, min(op, after)) for number, op in self._writes)
                return {"kind": "truncate", "after": after}
            case StateRecord(data):
                state: DataclassInstance = codec.decode(data)
                return {"kind": "state", "type": type(state).__name__, "fields": summary(state)}
            case SnapshotRecord(view, op, size):
                if op > self.op:  # Another's, in the place of the whole log; the member's own holds what it has.
                    self.base, self._views = op, []
                return {"kind": "snapshot", "view": view, "op": op, "bytes": size}
            case FoundingRecord():
                return {"kind": "founding"}
            case IncarnationRecord(incarnation):
                return {"kind": "incarnation", "incarnation": whole(incarnation)}
            case _:
                assert_never(record)
