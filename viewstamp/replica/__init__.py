"""The replica: everything one member does, synchronous, around whichever protocol it is given."""

from viewstamp.replica.applied import load
from viewstamp.replica.body import Replica
from viewstamp.replica.errors import DataLostError, IncarnationTooOldError, SupersededError
from viewstamp.replica.file_tasks import FileTask, perform
from viewstamp.replica.founding import Founding, FoundingState
from viewstamp.replica.records import record_of, snapshot_of
from viewstamp.replica.turn import Stored, Turn

__all__ = [
    "DataLostError",
    "FileTask",
    "Founding",
    "FoundingState",
    "IncarnationTooOldError",
    "Replica",
    "Stored",
    "SupersededError",
    "Turn",
    "load",
    "perform",
    "record_of",
    "snapshot_of",
]
