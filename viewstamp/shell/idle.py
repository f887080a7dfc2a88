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
    """How a loop sleeps, in two tasks: one until the socket is readable, one until the deadline, or until it is woken.

    Whichever is up makes the turn. A single task would have to be cancelled to be woken, and that takes as long as a
    turn. A cancel scope is made only when a deadline passes.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._sleeper = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._armed = NEVER
        self._woken = False

    def wake(self) -> None:
        """There is something to do; from the same thread, at any time."""
        if not self._woken:  # Of ten thousand tasks that call in one turn, only the first has to.
            self._woken = True
            self._sleeper.unpark()

    async def between(self, turn: Callable[[], int | None]) -> None:
        """Sleep between turns, for ever: each gives when the next is due, None if at once. Every turn is followed by a
        checkpoint. What a turn raises ends this, in a group.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._whenever_readable, turn)
            while True:
                with trio.CancelScope() as self._scope:
                    self._armed = NEVER
                    await self._whenever_woken(turn)

    async def _whenever_readable(self, turn: Callable[[], int | None]) -> None:
        while True:
            await self._transport.wait_readable()
            self._act(turn)

    async def _whenever_woken(self, turn: Callable[[], int | None]) -> None:
        while True:
            self._woken = False
            self._act(turn)
            if self._woken:
                await trio.lowlevel.checkpoint()
            else:
                await self.sleep()

    async def sleep(self) -> None:
        """Until somebody wakes it; simulations hold it here for longer."""
        await self._sleeper.park()

    def _act(self, turn: Callable[[], int | None]) -> None:
        deadline = turn()
        if deadline is None:
            self.wake()
        elif deadline < self._armed:
            # It only ever comes nearer: to move it with each turn costs more than a turn for nothing when it passes.
            self._armed = deadline
            self._scope.deadline = deadline / 1e9
