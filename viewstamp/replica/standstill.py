"""A primary whose snapshot files do not answer, while its journal does: no protocol sees that."""

from __future__ import annotations

import logging

from viewstamp.protocol import Core, Snapshot, Time

_SUSPECTS = 4
"""A disk that has much to do may take one or two for a block, or for a small state."""

_log = logging.getLogger("viewstamp")


class Standstill:
    """While a member waits for its files: for a block that another has asked for, or for the state to go on from.

    Where it leads, and nothing that it orders is executed all the while, its followers are content nevertheless: it is
    heard, and those who need its snapshot to acknowledge anything count as heard by it. With a disk that takes writes
    and does not read it would lead for ever. Others may have what it cannot give.
    """

    def __init__(self, suspect_ns: int) -> None:
        self._patience = _SUSPECTS * suspect_ns
        self._waits: tuple[int, object, Snapshot | None, int] | None = None
        self._since = 0

    def over(self) -> None:
        """It waits for no file."""
        self._waits = None

    def gives_way(self, core: Core, block: object, loading: Snapshot | None, applied: int, now: Time) -> bool:
        """It waits for this block, and for this to be loaded, and has executed so much. True if it gives way now."""
        waits = (core.leading, block, loading, applied) if core.leading >= 0 and core.standing.op > applied else None
        if waits is None or waits != self._waits:
            self._waits, self._since = waits, now.monotonic
        if now.monotonic - self._since <= self._patience:
            return False
        self.over()
        _log.warning("this member leads and executes nothing, for its snapshot files do not answer: it gives way")
        core.give_way("its snapshot files do not answer", now)
        return True
