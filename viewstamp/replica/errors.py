"""Why a replica must stop, or start again."""

from __future__ import annotations

from viewstamp.cluster import Storage
from viewstamp.journal import WrongJournalError
from viewstamp.protocol import RefusesLostDiskError

_DISK_ADVICE = (
    "restore its data directory as it was when it stopped, never an older copy, or leave it stopped and let the others "
    "carry on"
)
_MEMORY_ADVICE = (
    "leave it stopped and let the others carry on: it can come back only when all members have been stopped, and are "
    "started anew, with nothing in them"
)


class DataLostError(RefusesLostDiskError):
    """This member's data is gone, and its protocol cannot bring it back under its old identity.

    Where the cluster keeps its data in memory, that is so for every member that was stopped.
    """

    def __init__(self, member: int, protocol: str, storage: Storage = "disk") -> None:
        if storage == "memory":
            lost, advice = 'was stopped, and with it went its data (storage = "memory")', _MEMORY_ADVICE
        else:
            lost, advice = "has lost its data", _DISK_ADVICE
        super().__init__(
            f"member {member} {lost}: the others know it by another incarnation. {protocol} cannot bring it back under "
            f"its old identity; {advice}"
        )


class SupersededError(Exception):
    """Another process runs, or ran, this member with a newer data directory; this one must not take part."""

    def __init__(self, member: int, incarnation: int, known: int) -> None:
        super().__init__(
            f"member {member}: the cluster knows a newer data directory of this member than this one (incarnation "
            f"{known}, here {incarnation}); was an old copy put back? Empty this directory to let it recover"
        )


class MembersChangedError(WrongJournalError):
    """The directory was written in a cluster with more or fewer members."""

    def __init__(self, member: int, before: int, now: int) -> None:
        super().__init__(
            f"the data of member {member} is from a cluster of {before} members, and the cluster file has {now}: "
            "members cannot be added or removed"
        )


class IncarnationTooOldError(Exception):
    """This blank member must start again with an incarnation of at least `minimum`; a shell does so by itself."""

    def __init__(self, minimum: int) -> None:
        super().__init__(f"a peer knows a newer incarnation; start again with {minimum} or more")
        self.minimum = minimum
