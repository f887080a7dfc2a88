"""How often a log is told what would otherwise be said again and again."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

_AGAIN_S = 60.0


class OnceAMinute:
    """When something may be said: at once unless `first` is later, and from then on a minute after it was said last.

    Seconds of `clock`, which never goes back.
    """

    def __init__(self, clock: Callable[[], float], first: float = -inf) -> None:
        self._clock = clock
        self.next = first
        """No sooner is it due."""

    def due(self) -> bool:
        """Whether it is to be said now. Whoever is told so says it."""
        now = self._clock()
        if now < self.next:
            return False
        self.next = now + _AGAIN_S
        return True
