"""Looking at a journal without touching it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from viewstamp.journal.errors import JournalCorruptError, JournalFormatError, StorageFailedError
from viewstamp.journal.files import Files, RealFiles
from viewstamp.journal.fold import Fold, UnfoldableError
from viewstamp.journal.reading import Reader, SegmentReport, segment_names
from viewstamp.journal.records import Checkpoint, Identity, SnapshotRecord
from viewstamp.journal.snapshot_files import is_snapshot_name, snapshot_problem

_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What was found in a directory, up to the first damage if there is any.

    `torn_bytes` at the end are a batch that a crash, or a writer at work just now, left unfinished: no damage.
    `snapshot_sound` is about the file of `snapshot`: None without one, and in a damaged journal, where it may be old.
    `verdict` is one line for a person. Without a readable header `identity` and `checkpoint` are None.
    """

    location: str
    identity: Identity | None
    checkpoint: Checkpoint | None
    segments: tuple[SegmentReport, ...]
    batches: int
    torn_bytes: int
    is_sound: bool
    verdict: str
    fold: Fold | None
    snapshot_sound: bool | None = None

    @property
    def incarnation(self) -> int:
        """The directory's incarnation; 0 if none could be read."""
        return self.checkpoint.incarnation if self.checkpoint else 0

    @property
    def founding(self) -> bytes | None:
        """The founding record's bytes."""
        return self.checkpoint.founding if self.checkpoint else None

    @property
    def state(self) -> bytes | None:
        """The bytes of the protocol's durable state."""
        return self.checkpoint.state if self.checkpoint else None

    @property
    def last_op(self) -> int:
        """The op of the last entry; 0 if none."""
        return self.checkpoint.last_op if self.checkpoint else 0

    @property
    def first_op(self) -> int:
        """The op of the first entry; one beyond the last op if there is none."""
        return self.fold.first_op if self.fold else 1

    @property
    def snapshot(self) -> SnapshotRecord | None:
        """The snapshot that holds everything before the entries, and perhaps some of them."""
        return self.checkpoint.snapshot if self.checkpoint else None

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Each surviving entry as (op, encoding)."""
        if self.fold is not None:
            yield from self.fold.entries()


def inspect_journal(where: str | os.PathLike[str] | Files) -> JournalReport:
    """Read and verify the journal in a directory, locking and changing nothing.

    Damage is a verdict, not an error. Beside a running replica the report is one of a moment ago.

    Raises:
      MissingJournalError: there is no journal.
      StorageFailedError: a file could not be read.
    """
    files = where if isinstance(where, Files) else RealFiles(where)
    found_before = ""
    for _ in range(_ATTEMPTS - 1):
        before = _names(files)
        try:
            report = _examine(files)
        except StorageFailedError:
            if _names(files) == before:
                raise
            continue
        # What is damaged stays so. But a running replica may take a snapshot and remove what is being read; and it may
        # write one batch where the reading has just passed, and the next where it comes to: half of the first was seen.
        if report.is_sound or (report.verdict == found_before and _names(files) == before):
            return report
        found_before = report.verdict
    return _examine(files)


def _names(files: Files) -> list[str]:
    return segment_names(files) + [name for name in files.names() if is_snapshot_name(name)]


def _examine(files: Files) -> JournalReport:
    reader = Reader(files)
    problem: str | None = None
    snapshot_sound = None
    try:
        fold = reader.read()
        for _ in fold.entries():
            pass
        snapshot = fold.checkpoint.snapshot
        if snapshot is not None:
            problem = snapshot_problem(files, snapshot)
            snapshot_sound = problem is None
    except (JournalCorruptError, JournalFormatError, UnfoldableError) as error:
        problem = str(error)
    if problem is not None:
        verdict = problem
    elif reader.torn_bytes:
        verdict = f"sound, with {reader.torn_bytes} bytes of an unfinished batch at the end"
    else:
        verdict = "sound"
    return JournalReport(
        files.location,
        reader.identity,
        reader.fold.checkpoint if reader.fold else None,
        tuple(reader.segments),
        sum(segment.batches for segment in reader.segments),
        reader.torn_bytes,
        problem is None,
        verdict,
        reader.fold,
        snapshot_sound,
    )
