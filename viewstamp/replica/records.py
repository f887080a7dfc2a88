"""A protocol's records as its journal keeps them: entries spliced as the bytes they already are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from transport.codec import MessageCodec
from viewstamp.journal import EntriesRecord, JournalRecord, SnapshotRecord, StateRecord, TruncateRecord
from viewstamp.protocol import Append, Install, Record, SaveState, Snapshot, Truncate, join_entries


def journal_records(records: Sequence[Record], codec: MessageCodec) -> list[JournalRecord]:
    """One journal record for each."""
    result: list[JournalRecord] = []
    for record in records:
        match record:
            case Append(entries):
                result.append(EntriesRecord(entries[0].op, len(entries), join_entries(entries)))
            case Truncate(after):
                result.append(TruncateRecord(after))
            case SaveState(state):
                result.append(StateRecord(codec.encode(state)))
            case Install(snapshot):
                result.append(record_of(snapshot))
            case _:
                assert_never(record)
    return result


def record_of(snapshot: Snapshot) -> SnapshotRecord:
    """The journal's name of a snapshot."""
    return SnapshotRecord(snapshot.view, snapshot.op, snapshot.size, snapshot.digest, snapshot.stamp)


def snapshot_of(record: SnapshotRecord) -> Snapshot:
    """The protocol's name of a snapshot."""
    return Snapshot(record.view, record.op, record.stamp, record.size, record.digest)
