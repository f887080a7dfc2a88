"""What a session has sent and not been answered, and what of it seems lost. Times are monotonic nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from viewstamp.protocol import MILLISECOND

LONGEST_RETRY_NS = 1000 * MILLISECOND


@dataclass(slots=True)
class Sent:
    """What was sent and not answered yet, and for which handles; `first_at` and `at` are when it was sent first and
    last, `to` the one member to ask, 0 for any."""

    handles: Sequence[int]
    body: bytes
    first_at: int
    at: int
    to: int = 0


@dataclass(slots=True)
class Pace:
    """How answers come: when the youngest that was answered had first been sent, and how long the last one took, of
    those first sent at `since` or later."""

    youngest_at: int = 0
    took: int = 0
    since: int = 0

    def begin(self, now: int) -> None:
        """There was nobody to answer: how long that lasted tells nothing of how long answers take."""
        self.since, self.took = now, 0

    def answered(self, sent: Sent, now: int) -> None:
        """This has its answer now."""
        if sent.first_at > self.youngest_at:
            self.youngest_at = sent.first_at
        if sent.first_at >= self.since:
            self.took = now - sent.first_at

    def lost_before(self, now: int) -> int:
        """What was last sent up to then and has no answer seems lost: something younger was answered, or answers take
        half of that time.

        To go by a fixed age would be to send everything again and again to a cluster that is slow because it has much
        to do, and to give it more. But nobody is to wait for long when a datagram is lost, or what it carried was more
        than the primary had room for.
        """
        return max(self.youngest_at - 1, now - min(2 * self.took, LONGEST_RETRY_NS))
