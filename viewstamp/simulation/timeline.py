"""Simulated time: a heap of what is to happen, and no clock but its first entry."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from viewstamp.simulation.verdict import Kind, ViolationError

BOOT = 1_000_000_000
MOST_EVENTS = 3_000_000
"""A run of this many does not end by itself: something is done again and again."""
MOST_PLANNED = 300_000
"""So many under way at once are more than a network and its inhabitants ever need: something piles up."""


class Timeline:
    """Events in order of time, and of when they were planned where times are equal."""

    def __init__(self) -> None:
        self.now = BOOT
        self.events = 0
        self.most_events = MOST_EVENTS
        self._sequence = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def planned(self) -> int:
        """How many events wait."""
        return len(self._heap)

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Do this at a time, in nanoseconds of simulated time."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(when, self.now), self._sequence, action))

    def close(self) -> None:
        """The run is over: there is nothing to release here."""

    def run_for(self, duration: int) -> None:
        """Let this many nanoseconds pass."""
        self.run_until(lambda: False, duration)

    def run_until(self, condition: Callable[[], bool], within: int) -> bool:
        """Let time pass until the condition holds; False if it does not within so many nanoseconds."""
        end = self.now + within
        while not condition():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return condition()
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            if self.events > self.most_events or len(self._heap) > MOST_PLANNED:
                raise ViolationError(
                    "bounds", f"{self.events} events, and {len(self._heap)} more under way", Kind.LIVENESS
                )
            action()
        return True
