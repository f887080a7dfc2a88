"""How a loop sleeps: until its socket is readable, its deadline comes, or another task wakes it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import time_ns

import trio

from transport.interface import Transport
from viewstamp.protocol import NEVER, Time

WallClock = Callable[[], int]
"""Nanoseconds since the Unix epoch."""


def read_clock(wall_clock: WallClock = time_ns, current_time: Callable[[], float] = trio.current_time) -> Time:
    """Trio's clock, so that a mock clock drives timers in tests, and the wall clock for stamps.

    Rounded, not cut: a loop that sleeps until a deadline in seconds must find it passed in nanoseconds. Cut, one in
    fifty would be a nanosecond short, and under a mock clock, which stands still while a loop runs, it would spin.
    """
    return Time(round(current_time() * 1e9), wall_clock())


class Idle:
    """One loop's sleep. No task and no channel: one cancel scope, and only when there is nothing to do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._scope: trio.CancelScope | None = None
        self._woken = False

    def wake(self) -> None:
        """There is something to do; from the same thread, at any time."""
        self._woken = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, deadline_ns: int) -> None:
        """Sleep; always a checkpoint."""
        if self._woken:
            self._woken = False
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(deadline=deadline_ns / 1e9 if deadline_ns < NEVER else inf) as scope:
            self._scope = scope
            try:
                await self._transport.wait_readable()
            finally:
                self._scope = None
        self._woken = False
