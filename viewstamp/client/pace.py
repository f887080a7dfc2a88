"""What a session has sent and not been answered, and what of it seems lost."""

from __future__ import annotations

from dataclasses import dataclass

from viewstamp.protocol import MILLISECOND

LONGEST_RETRY_NS = 1000 * MILLISECOND


@dataclass(slots=True)
class Sent:
    """What was sent and not answered yet; `first_at` and `at` are when it was sent first and last, `to` the one member
    to ask, 0 for any."""

    handle: int
    body: bytes
    first_at: int
    at: int
    to: int = 0


@dataclass(slots=True)
class Pace:
    """How answers come: when the youngest that was answered had first been sent, and how long the last one took."""

    youngest_at: int = 0
    took: int = 0

    def answered(self, sent: Sent, now: int) -> None:
        if sent.first_at > self.youngest_at:
            self.youngest_at = sent.first_at
        self.took = now - sent.first_at

    def lost_before(self, now: int) -> int:
        """What was last sent up to then and has no answer seems lost: something younger was answered, or answers take
        half of that time.

        To go by a fixed age would be to send everything again and again to a cluster that is slow because it has much
        to do, and to give it more. But whoever was answered after a minute in which there was no primary is not to wait
        for two when the next datagram is lost.
        """
        return max(self.youngest_at - 1, now - min(2 * self.took, LONGEST_RETRY_NS))
