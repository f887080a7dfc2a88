"""How a loop sleeps: until its socket is readable, its deadline comes, or another task wakes it."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns

import trio

from transport.interface import Transport
from viewstamp.protocol import NEVER, Time

WallClock = Callable[[], int]
"""Nanoseconds since the Unix epoch."""


def monotonic_ns(current_time: Callable[[], float] = trio.current_time) -> int:
    """Trio's clock, so that a mock clock drives timers in tests.

    Rounded, not cut: a loop that sleeps until a deadline in seconds must find it passed in nanoseconds. Cut, one in
    fifty would be a nanosecond short, and under a mock clock, which stands still while a loop runs, it would spin.
    """
    return round(current_time() * 1e9)


def read_clock(wall_clock: WallClock = time_ns, current_time: Callable[[], float] = trio.current_time) -> Time:
    """Trio's clock for timers, and the wall clock for stamps."""
    return Time(monotonic_ns(current_time), wall_clock())


class Idle:
    """One loop's sleep. No task and no channel, and a cancel scope only when a deadline passes or somebody wakes it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._scope: trio.CancelScope | None = None
        self._woken = False

    def wake(self) -> None:
        """There is something to do; from the same thread, at any time."""
        if self._woken:
            return  # Of ten thousand tasks that call in one turn, the first has done it.
        self._woken = True
        if self._scope is not None:
            self._scope.cancel()

    async def between(self, turn: Callable[[], int | None]) -> None:
        """Sleep between turns, for ever: each gives when the next is due, None if at once. Every turn is followed by a
        checkpoint. What a turn raises ends this.
        """
        while True:
            with trio.CancelScope() as scope:
                self._scope = scope
                try:
                    await self._until_cancelled(scope, turn)
                finally:
                    self._scope = None

    async def _until_cancelled(self, scope: trio.CancelScope, turn: Callable[[], int | None]) -> None:
        """Turn after turn in one scope. Its deadline only ever comes nearer: to move it with each turn costs more than
        a turn for nothing when it passes."""
        armed = NEVER
        while True:
            self._woken = False
            deadline = turn()
            if deadline is None or self._woken:
                await trio.lowlevel.checkpoint()
                continue
            if deadline < armed:
                armed = deadline
                scope.deadline = deadline / 1e9
            await self._transport.wait_readable()
