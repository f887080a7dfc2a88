"""What a simulation replaces in the shell around a replica, beside its transport and its files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from transport.interface import Transport
from viewstamp.journal import ROOM_BYTES, SEGMENT_BYTES
from viewstamp.once_a_minute import OnceAMinute
from viewstamp.replica import Replica
from viewstamp.shell.idle import Idle

_log = logging.getLogger("viewstamp")

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class RunSync(Protocol):
    """How a call that blocks is made beside the loop."""

    async def __call__(
        self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False
    ) -> R:  # pragma: no cover
        """Call it and return what it returns; cancellation waits for it unless `abandon_on_cancel`."""
        ...


class Threads:
    """`trio.to_thread.run_sync`, but it queues behind nobody, and makes the call itself where no thread can be had.

    Trio lends the whole process forty threads unless told otherwise. A service that has as many calls of its own in
    them would hold up this member's disk, and with it what it promises: it would be deposed for it.

    A process at its limit of threads, or a system at its own, is no reason to end: without one the loop is held up for
    as long as the call takes, which others see as a slow disk.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        # Not Trio's clock: one object serves the whole process, and each run of Trio has its own time.
        self._lack = OnceAMinute(clock)

    async def __call__(self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
        begun = False

        def work() -> R:
            nonlocal begun
            begun = True
            return sync_fn(*args)

        limiter = trio.CapacityLimiter(1)
        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        except RuntimeError as error:
            if begun:
                raise
            if self._lack.due():
                _log.warning(
                    "%s: what else goes on waits while files are written and read. Is there a limit of threads (ulimit "
                    "-u, TasksMax of systemd, pids of a container), or no memory left?",
                    error,
                )
        return sync_fn(*args)


run_in_thread = Threads()


@dataclass(frozen=True, slots=True)
class Parts:
    """`make_replica` is called as `Replica` is, once in each life, and `make_idle` as `Idle`. The bytes are those of
    `Journal.open`.
    """

    run_sync: RunSync = run_in_thread
    make_replica: Callable[..., Replica] = Replica
    segment_bytes: int = SEGMENT_BYTES
    room_bytes: int = ROOM_BYTES
    make_idle: Callable[[Transport], Idle] = Idle


REAL = Parts()
