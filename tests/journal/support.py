"""What the journal's tests share: a cluster's identity, small batches of real entries, and what they must add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from viewstamp.journal import (
    EntriesRecord,
    Files,
    FoundingRecord,
    Journal,
    JournalRecord,
    SnapshotFiles,
    SnapshotRecord,
    StateRecord,
    TruncateRecord,
)
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.protocol import Kind, Proposal, join_entries, make_entry, split_entries

CLUSTER = b"cluster1"
INCARNATION = 77
Image = tuple[bytes | None, bytes | None, tuple[tuple[int, bytes], ...]]
"""Founding record, state, and (op, body) of each entry."""

BLANK: Image = (None, None, ())


def open_journal(
    files: Files,
    *,
    cluster: bytes = CLUSTER,
    replica: int = 1,
    protocol: str = "vsr",
    incarnation: int = INCARNATION,
    segment_bytes: int = 1 << 20,
    room_bytes: int = 1 << 13,
) -> Journal:
    return Journal.open(
        files,
        cluster=cluster,
        replica=replica,
        protocol=protocol,
        create_incarnation=lambda: incarnation,
        segment_bytes=segment_bytes,
        room_bytes=room_bytes,
    )


def entries(first: int, bodies: Sequence[bytes]) -> EntriesRecord:
    made = [
        make_entry(op, 1, 0, Proposal(Kind.COMMAND, 1, op, 0, body, 0)) for op, body in enumerate(bodies, start=first)
    ]
    return EntriesRecord(first, len(made), join_entries(made))


def apply(image: Image, records: Sequence[JournalRecord]) -> Image:
    """The plainest model of a journal: what `image` becomes by one batch."""
    founding, state, log = image
    for record in records:
        match record:
            case FoundingRecord(data):
                founding = data
            case StateRecord(data):
                state = data
            case TruncateRecord(after):
                log = log[:after]
            case EntriesRecord(_, _, data):
                log += tuple((entry.op, entry.body) for entry in split_entries(data))
    return founding, state, log


def image_of(journal: Journal) -> Image:
    recovered = journal.recovered
    log = tuple((entry.op, entry.body) for entry in split_entries(recovered.entries))
    assert recovered.last_op == len(log)
    return recovered.founding, recovered.state, log


def scenario() -> list[list[JournalRecord]]:
    """A short life with every kind of record; segments of 600 bytes are left several times."""
    return [
        [FoundingRecord(b"founded by all three"), StateRecord(b"view 0")],
        [entries(1, [b"one", b"two"])],
        [entries(3, [b"three" * 40])],
        [StateRecord(b"view 3"), TruncateRecord(2), entries(3, [b"another three", b"four"])],
        [TruncateRecord(3)],
        [entries(4, [b"x" * 700])],
        [StateRecord(b"view 4"), entries(5, [b"five", b"six", b"seven"])],
    ]


def images(batches: Sequence[Sequence[JournalRecord]]) -> list[Image]:
    """What may be recovered: `images(batches)[n]` after the first n batches."""
    result = [BLANK]
    for records in batches:
        result.append(apply(result[-1], records))
    return result


def blank_disk(seed: int = 1) -> SimulatedDisk:
    return SimulatedDisk(Random(seed))


def snapshot_at(op: int, size: int = 3000, view: int = 1) -> tuple[SnapshotRecord, bytes]:
    """A snapshot's record and its contents, which end with the digest of all before, as an executor's do."""
    body = Random(op * 1000 + size).randbytes(size - 32)
    digest = blake2b(body, digest_size=32).digest()
    return SnapshotRecord(view, op, size, digest), body + digest


def write_snapshot(snapshots: SnapshotFiles, op: int, size: int = 3000) -> SnapshotRecord:
    """Write a snapshot in blocks; it counts once its record is in the journal."""
    record, content = snapshot_at(op, size)
    for offset in range(0, size, 1000):
        snapshots.write(offset, content[offset : offset + 1000])
    snapshots.finish(record)
    return record


@dataclass(frozen=True)
class Log:
    """What a journal means when it takes snapshots: `entries` are as if no segment was ever dropped."""

    snapshot: SnapshotRecord | None = None
    last_op: int = 0
    entries: tuple[tuple[int, bytes], ...] = ()

    @property
    def snapshot_op(self) -> int:
        return self.snapshot.op if self.snapshot else 0

    def after(self, records: Sequence[JournalRecord]) -> Log:
        snapshot, last_op, log = self.snapshot, self.last_op, self.entries
        for record in records:
            match record:
                case TruncateRecord(after):
                    last_op = min(last_op, after)
                    log = tuple(entry for entry in log if entry[0] <= after)
                case EntriesRecord(_, count, data):
                    last_op += count
                    log += tuple((entry.op, entry.body) for entry in split_entries(data))
                case SnapshotRecord(_, op):
                    snapshot = record
                    if op >= last_op:
                        last_op, log = op, ()
        return Log(snapshot, last_op, log)

    def is_what(self, journal: Journal) -> bool:
        """Whether this came back: all beyond the snapshot, and before it no more than what was there."""
        recovered = journal.recovered
        log = tuple((entry.op, entry.body) for entry in split_entries(recovered.entries))
        assert [op for op, _ in log] == list(range(recovered.first_op, recovered.last_op + 1))
        assert recovered.first_op <= (recovered.snapshot.op if recovered.snapshot else 0) + 1
        kept = tuple(entry for entry in self.entries if entry[0] >= recovered.first_op)
        return (recovered.snapshot, recovered.last_op, log) == (self.snapshot, self.last_op, kept)
