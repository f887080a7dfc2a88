"""The agreed time: what the primary writes into entries, so that every replica computes with the same."""

from __future__ import annotations

from viewstamp.protocol.configuration import SECOND, Time

_SLACK = SECOND
_HOUR = 3600 * SECOND
LATEST_STAMP = (1 << 63) - 1  # in the year 2262: the most that an entry, or a record, can carry, whatever a clock says


class AgreedClock:
    """Stamps that never go back and cannot run away with one wrong wall clock (VRR section 4.4).

    A stamp is at least the one before it: a new primary's clock may be behind the old one's. From the moment a
    member has seen a stamp, stamps advance by at most 1.1 times the monotonic time that passed since then, plus one
    second. Of a primary that goes on ordering, that is the time since a stamp of its own that is about an hour old.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._anchor: tuple[int, int] | None = None

    def saw(self, stamp: int, now: Time) -> None:
        """An entry made just now by another member carries this stamp; later ones are measured from here."""
        if stamp < self._last:
            return
        self._last = stamp
        if self._anchor is not None:
            before, seen = self._anchor
            if _lags(stamp, before, now.monotonic - seen):
                # It was not made just now. Measured from here, the time that has passed since would be lost for good:
                # after an idle day and a failover, the agreed time would be a day behind.
                return
        self._anchor = (stamp, now.monotonic)

    def saw_of_unknown_age(self, stamp: int) -> None:
        """An entry from a disk or a log that was fetched carries this stamp; how long ago, nobody here can tell."""
        self._last = max(self._last, stamp)

    def stamp(self, now: Time) -> int:
        """The stamp of an entry made now, in nanoseconds since the Unix epoch."""
        wanted = max(self._last, now.wall)
        if self._anchor is None:
            # Nothing was seen in this life of the process: it may have been down for a week. Trust the wall once.
            self._anchor = (wanted, now.monotonic)
        stamp, seen = self._anchor
        elapsed = now.monotonic - seen
        self._last = min(LATEST_STAMP, max(self._last, min(wanted, stamp + elapsed + elapsed // 10 + _SLACK)))
        if elapsed >= _HOUR and not _lags(self._last, stamp, elapsed):
            # Measured from its beginning, a primary of a hundred days could be ten days ahead at once: a clock that is
            # corrected then stands still for as long. Not at each stamp: the second's slack would be gained each time.
            self._anchor = (self._last, now.monotonic)
        return self._last


def _lags(stamp: int, before: int, elapsed: int) -> bool:
    """Whether this stamp, so long after `before`, is behind what any good clock would have come to."""
    return stamp + _SLACK < before + elapsed - elapsed // 10
