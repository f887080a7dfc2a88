"""What a simulation replaces in the shell around a replica, beside its transport and its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from viewstamp.journal import ROOM_BYTES, SEGMENT_BYTES
from viewstamp.replica import Replica

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class RunSync(Protocol):
    """How a call that blocks is made beside the loop; `trio.to_thread.run_sync` is one."""

    async def __call__(
        self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False
    ) -> R:  # pragma: no cover
        """Call it and return what it returns; cancellation waits for it unless `abandon_on_cancel`."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """`make_replica` is called as `Replica` is, once in each life. The bytes are those of `Journal.open`."""

    run_sync: RunSync = trio.to_thread.run_sync
    make_replica: Callable[..., Replica] = Replica
    segment_bytes: int = SEGMENT_BYTES
    room_bytes: int = ROOM_BYTES


REAL = Parts()
