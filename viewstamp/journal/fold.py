"""What the records of a journal add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from viewstamp.journal.records import (
    Checkpoint,
    EntriesRecord,
    FoundingRecord,
    IncarnationRecord,
    JournalRecord,
    SnapshotRecord,
    StateRecord,
    TruncateRecord,
)
from viewstamp.protocol import MalformedEntryError, split_entries

DIGEST_BYTES = 32
"""The size of a snapshot's digest."""


class UnfoldableError(ValueError):
    """A record cannot follow what came before it."""


def advance(checkpoint: Checkpoint, record: JournalRecord) -> Checkpoint:
    """The checkpoint after one more record.

    Raises:
      UnfoldableError: entries that do not begin at the op after the last, or none; an incarnation that is not larger;
        a snapshot older than the one before or with an impossible digest; a truncation of what a snapshot holds.
    """
    incarnation, founding, state, last_op, snapshot = (
        checkpoint.incarnation,
        checkpoint.founding,
        checkpoint.state,
        checkpoint.last_op,
        checkpoint.snapshot,
    )
    match record:
        case EntriesRecord(first, count, _):
            if first != last_op + 1 or count < 1:
                raise UnfoldableError(f"{count} entries from op {first} cannot follow op {last_op}")
            last_op += count
        case StateRecord(data):
            state = data
        case TruncateRecord(after):
            if snapshot is not None and after < snapshot.op:
                raise UnfoldableError(f"op {after + 1} cannot be truncated: the snapshot at op {snapshot.op} holds it")
            last_op = min(last_op, after)
        case FoundingRecord(data):
            founding = data
        case IncarnationRecord(number):
            if number <= incarnation:
                raise UnfoldableError(f"incarnation {number} cannot follow {incarnation}")
            incarnation = number
        case SnapshotRecord(_, op, _, digest):
            if snapshot is not None and op < snapshot.op:
                raise UnfoldableError(f"a snapshot at op {op} cannot follow one at op {snapshot.op}")
            if len(digest) != DIGEST_BYTES:
                raise UnfoldableError(f"the digest of the snapshot at op {op} has {len(digest)} bytes")
            snapshot = record
            last_op = max(last_op, op)
        case _:
            assert_never(record)
    return Checkpoint(incarnation, founding, state, last_op, snapshot)


class Fold:
    """The surviving entries, and the latest of each small record."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._pages: list[EntriesRecord] = []

    def add(self, record: JournalRecord) -> None:
        """Take one more record.

        Raises:
          UnfoldableError: it cannot follow what came before it.
        """
        after = advance(self.checkpoint, record)
        if isinstance(record, EntriesRecord):
            self._pages.append(record)
        elif isinstance(record, TruncateRecord):
            self._truncate(record.after)
        elif isinstance(record, SnapshotRecord) and record.op >= self.checkpoint.last_op:
            self._pages.clear()  # the log begins anew after the snapshot
        self.checkpoint = after

    def _truncate(self, after: int) -> None:
        while self._pages and self._pages[-1].first > after:
            self._pages.pop()
        if not self._pages:
            return
        last = self._pages[-1]
        kept = after - last.first + 1
        if kept < last.count:
            data = b"".join([encoded for _, encoded in _split(last)][:kept])
            self._pages[-1] = EntriesRecord(last.first, kept, data)

    @property
    def first_op(self) -> int:
        """The op of the first surviving entry; one beyond the last op if there is none.

        It can be lower than what was said where reading began: a truncation takes the log back to before that, and
        new entries follow there.
        """
        return self._pages[0].first if self._pages else self.checkpoint.last_op + 1

    def joined(self) -> bytes:
        """The encodings of all surviving entries, one behind the other."""
        return b"".join([page.data for page in self._pages])

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Each surviving entry as (op, encoding).

        Raises:
          UnfoldableError: a page is not made of the entries it says.
        """
        for page in self._pages:
            yield from _split(page)


def _split(page: EntriesRecord) -> list[tuple[int, bytes]]:
    try:
        entries = split_entries(page.data)
    except MalformedEntryError as error:
        raise UnfoldableError(f"the entries from op {page.first} cannot be read: {error}") from error
    if len(entries) != page.count or entries[0].op != page.first:
        raise UnfoldableError(f"{page.count} entries from op {page.first} are not what their record says")
    return [(entry.op, entry.encoded) for entry in entries]
