"""Looking at a journal without touching it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from viewstamp.journal.errors import JournalCorruptError, JournalFormatError
from viewstamp.journal.files import Files, RealFiles
from viewstamp.journal.fold import Fold, UnfoldableError
from viewstamp.journal.reading import Reader, SegmentReport
from viewstamp.journal.records import Checkpoint, Identity


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What was found in a directory, up to the first damage if there is any.

    `torn_bytes` at the end are a batch that a crash, or a writer at work just now, left unfinished: no damage.
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
    reader = Reader(files)
    problem = ""
    try:
        fold = reader.read()
        for _ in fold.entries():
            pass
    except (JournalCorruptError, JournalFormatError, UnfoldableError) as error:
        problem = str(error)
    batches = sum(segment.batches for segment in reader.segments)
    checkpoint = reader.fold.checkpoint if reader.fold else None
    if problem:
        verdict = problem
    elif reader.torn_bytes:
        verdict = f"sound, with {reader.torn_bytes} bytes of an unfinished batch at the end"
    else:
        verdict = "sound"
    return JournalReport(
        files.location,
        reader.identity,
        checkpoint,
        tuple(reader.segments),
        batches,
        reader.torn_bytes,
        not problem,
        verdict,
        reader.fold,
    )
