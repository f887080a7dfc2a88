"""What a replica asks to be done with snapshot files. It waits for none of it: a shell does it beside the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from viewstamp.journal import SnapshotFiles
from viewstamp.protocol import Snapshot
from viewstamp.replica.records import record_of


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Put `data` at `offset` of the one unfinished file (0 begins it anew), durably; `finished` then gives its name."""

    offset: int
    data: bytes
    finished: Snapshot | None


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """Read up to `size` bytes at `offset` of a finished file."""

    snapshot: Snapshot
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class RemoveSnapshot:
    """Nobody needs this file any more."""

    snapshot: Snapshot


FileTask = WriteBlock | ReadBlock | RemoveSnapshot


def perform(task: FileTask, files: SnapshotFiles) -> bytes | None:
    """Do it, blocking, in the order asked for; what was read, None if there is no such file, or a damaged one.

    Raises:
      StorageFailedError: the disk refused; the replica must stop.
    """
    match task:
        case WriteBlock(offset, data, finished):
            files.write(offset, data)
            if finished is not None:
                files.finish(record_of(finished))
        case ReadBlock(snapshot, offset, size):
            return files.read_proved(record_of(snapshot), offset, size)
        case RemoveSnapshot(snapshot):
            files.remove(record_of(snapshot))
        case _:
            assert_never(task)
    return None
