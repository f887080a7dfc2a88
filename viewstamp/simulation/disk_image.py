"""What an outsider knows of a member's disk: all that its journal has reported durable, record by record."""

from __future__ import annotations

from collections.abc import Sequence

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
from viewstamp.simulation.verdict import ViolationError


class DiskImage:
    """One disk. `ghost` is what a lost one held: it counts until its member takes part again.

    What a lost disk had acknowledged may be counted by a primary that cannot know better; recovery makes it right.
    `owed` is what was committed when one was lost: its member takes part again with that much, and no less.
    `incarnation` is the one that was last read from it, 0 if none was.
    """

    def __init__(self) -> None:
        self.entries: dict[int, bytes] = {}
        self.last_op = 0
        self.state: bytes | None = None
        self.snapshot: SnapshotRecord | None = None
        self.ghost: dict[int, bytes] = {}
        self.owed = 0
        self.incarnation = 0
        self._torn: tuple[Sequence[JournalRecord], ...] = ()

    def holds(self, op: int, encoded: bytes) -> bool:
        """Whether this entry, or a snapshot that holds it, is on this disk, or was when it was lost."""
        return (
            (self.snapshot is not None and op <= self.snapshot.op)
            or self.entries.get(op) == encoded
            or self.ghost.get(op) == encoded
        )

    def add(self, records: Sequence[JournalRecord]) -> None:
        """These were reported durable."""
        for record in records:
            match record:
                case EntriesRecord(data=data):
                    for entry in split_entries(data):
                        self.entries[entry.op] = entry.encoded
                        self.last_op = entry.op
                case TruncateRecord(after=after):
                    for op in range(after + 1, self.last_op + 1):
                        self.entries.pop(op, None)
                    self.last_op = min(self.last_op, after)
                case SnapshotRecord(op=op):
                    self.snapshot = record
                    if op >= self.last_op:
                        self.entries, self.last_op = {}, op
                case StateRecord(data=data):
                    self.state = data
                case FoundingRecord() | IncarnationRecord():
                    pass

    def tear(self, *batches: Sequence[JournalRecord]) -> None:
        """The process ended while these were being written: the first of them are there, each whole, or none."""
        self._torn = batches

    def wipe(self, committed: int = 0) -> None:
        """The disk is lost, when so much was committed."""
        self.ghost |= self.entries
        self.owed = committed
        self.entries, self.last_op, self.state, self.snapshot, self._torn = {}, 0, None, None, ()
        self.incarnation = 0

    def opened(self, member: int, recovered: Recovered) -> None:
        """Its journal was opened and read: it gives back all that was durable, and no more than was asked for."""
        torn, self._torn = self._torn, ()
        for batch in torn:
            if self._agrees(recovered):
                break
            self.add(batch)
        if not self._agrees(recovered):
            raise ViolationError(
                "durability",
                f"member {member}'s journal reported {self.last_op} entries durable, and gives back "
                f"{recovered.last_op}, or other ones, or another state",
            )

    def _agrees(self, recovered: Recovered) -> bool:
        if (recovered.last_op, recovered.state, recovered.snapshot) != (self.last_op, self.state, self.snapshot):
            return False
        held = [self.entries.get(op, b"") for op in range(recovered.first_op, self.last_op + 1)]
        return recovered.entries == b"".join(held)
