"""Why a replica must stop, or start again."""

from __future__ import annotations

from viewstamp.protocol import RefusesLostDiskError


class DataLostError(RefusesLostDiskError):
    """This member's data is gone, and its protocol cannot bring it back under its old identity."""


class SupersededError(Exception):
    """Another process runs, or ran, this member with a newer data directory; this one must not take part."""


class IncarnationTooOldError(Exception):
    """This blank member must start again with an incarnation of at least `minimum`; a shell does so by itself."""

    def __init__(self, minimum: int) -> None:
        super().__init__(f"a peer knows a newer incarnation; start again with {minimum} or more")
        self.minimum = minimum
