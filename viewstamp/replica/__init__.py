"""The replica: everything one member does, synchronous, around whichever protocol it is given."""

from viewstamp.replica.body import Replica
from viewstamp.replica.errors import DataLostError, IncarnationTooOldError, SupersededError
from viewstamp.replica.founding import Founding, FoundingRecord
from viewstamp.replica.turn import Stored, Turn

__all__ = [
    "DataLostError",
    "Founding",
    "FoundingRecord",
    "IncarnationTooOldError",
    "Replica",
    "Stored",
    "SupersededError",
    "Turn",
]
