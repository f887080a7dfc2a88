"""What of a simulated disk would be there if the power went just now, and what it holds for its next reader."""

from __future__ import annotations

from viewstamp.journal import SnapshotRecord
from viewstamp.journal.format import segment_number
from viewstamp.journal.reading import Reader, segment_names
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.journal.snapshot_files import snapshot_name


def unsafe_segment(disk: SimulatedDisk, newest: int = 0) -> str:
    """A segment of the journal of which a power loss could take something; empty if there is none.

    Looks at the newest so many alone, unless `newest` is 0: what was left behind long ago does not change any more.
    """
    numbered = ((number, name) for name in disk.names() if (number := segment_number(name)) is not None)
    segments = [name for _, name in sorted(numbered, reverse=True)]
    return next((name for name in segments[: newest or None] if not disk.is_durable(name)), "")


def unsafe_snapshot(disk: SimulatedDisk, snapshot: SnapshotRecord | None) -> str:
    """The file of this snapshot if a power loss could take it, or if it is not there; else empty."""
    if snapshot is None or disk.is_durable(name := snapshot_name(snapshot)):
        return ""
    return name


def incarnation_on(disk: SimulatedDisk) -> int:
    """The incarnation that whoever opens the journal next finds; 0 where there is no journal."""
    files = disk.files()
    return Reader(files).read().checkpoint.incarnation if segment_names(files) else 0
