"""The name of a snapshot: which history it holds, and by which bytes it is known.

A protocol never looks inside a snapshot. It says which one it needs and from whom, and drops the part of its log
that one stands for; the body takes, keeps, sends and loads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from viewstamp.protocol.clock import LATEST_STAMP
from viewstamp.protocol.entry import Viewstamp

SNAPSHOT_DIGEST_BYTES = 32
LARGEST_SNAPSHOT_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after every op up to `op`, whose entry was made in `view` with the agreed time `stamp`.

    `size` in bytes and `digest` (32 bytes) name the bytes themselves: two transfers are never mixed. What it holds is
    committed. `stamp`, nanoseconds since the Unix epoch and never negative, keeps agreed time from going back at
    a member that knows the last entry only by this.
    """

    view: int
    op: int
    stamp: int
    size: int
    digest: bytes

    @property
    def viewstamp(self) -> Viewstamp:
        """The place of the last operation that it holds."""
        return Viewstamp(self.view, self.op)


def misnamed(snapshot: Snapshot, view: int) -> str:
    """Why no correct member in `view` could have offered a snapshot of this name, or an empty string."""
    if not snapshot.op > 0 or snapshot.view > view:
        return "a snapshot of a later view, or of nothing"
    if not 0 < snapshot.size <= LARGEST_SNAPSHOT_BYTES or len(snapshot.digest) != SNAPSHOT_DIGEST_BYTES:
        return "a snapshot of an impossible size"
    if snapshot.stamp > LATEST_STAMP:
        return "a snapshot of an impossible time"  # no journal's record of it could be encoded
    return ""
