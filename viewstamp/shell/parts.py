"""What a simulation replaces in the shell around a replica, beside its transport and its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from transport.interface import Transport
from viewstamp.journal import ROOM_BYTES, SEGMENT_BYTES
from viewstamp.replica import Replica
from viewstamp.shell.idle import Idle

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class RunSync(Protocol):
    """How a call that blocks is made beside the loop."""

    async def __call__(
        self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False
    ) -> R:  # pragma: no cover
        """Call it and return what it returns; cancellation waits for it unless `abandon_on_cancel`."""
        ...


async def run_in_thread(sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
    """`trio.to_thread.run_sync`, but it queues behind nobody.

    Trio lends the whole process forty threads unless told otherwise. A service that has as many calls of its own in
    them would hold up this member's disk, and with it what it promises: it would be deposed for it.
    """
    limiter = trio.CapacityLimiter(1)
    return await trio.to_thread.run_sync(sync_fn, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter)


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
