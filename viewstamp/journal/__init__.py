"""The journal: a replica's durable log, over a very small interface to files. Standard library only."""

from viewstamp.journal.errors import (
    DirectoryInUseError,
    JournalClosedError,
    JournalCorruptError,
    JournalError,
    JournalFormatError,
    StorageFailedError,
    WrongJournalError,
)
from viewstamp.journal.files import Files, RealFiles
from viewstamp.journal.inspect import JournalReport, inspect_journal
from viewstamp.journal.journal import ROOM_BYTES, SEGMENT_BYTES, Batch, Journal, JournalStatistics
from viewstamp.journal.memory import MemoryFiles
from viewstamp.journal.reading import MissingJournalError, SegmentReport
from viewstamp.journal.records import (
    Checkpoint,
    EntriesRecord,
    FoundingRecord,
    Identity,
    IncarnationRecord,
    JournalRecord,
    Recovered,
    SnapshotRecord,
    StateRecord,
    TruncateRecord,
)
from viewstamp.journal.snapshot_files import SnapshotFiles

__all__ = [
    "ROOM_BYTES",
    "SEGMENT_BYTES",
    "Batch",
    "Checkpoint",
    "DirectoryInUseError",
    "EntriesRecord",
    "Files",
    "FoundingRecord",
    "Identity",
    "IncarnationRecord",
    "Journal",
    "JournalClosedError",
    "JournalCorruptError",
    "JournalError",
    "JournalFormatError",
    "JournalRecord",
    "JournalReport",
    "JournalStatistics",
    "MemoryFiles",
    "MissingJournalError",
    "RealFiles",
    "Recovered",
    "SegmentReport",
    "SnapshotFiles",
    "SnapshotRecord",
    "StateRecord",
    "StorageFailedError",
    "TruncateRecord",
    "WrongJournalError",
    "inspect_journal",
]
