"""File descriptors kept for the day on which the process, or the system, has no other left."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from viewstamp.once_a_minute import OnceAMinute

T = TypeVar("T")

_log = logging.getLogger("viewstamp")
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)
_KEPT = 4
"""A new segment beside the old one; a snapshot that is written; one that another member fetches; the names."""


class Spares:
    """As many descriptors as a member may need beyond those it has open all the time.

    A service that takes all that its process may have, for its own connections, is no broken disk: its member goes on,
    and whatever it acknowledged stays where it is. Threads may share one of these.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: int | None = None
        self._kept: list[int] = []
        self._lack = OnceAMinute(time.monotonic)

    def keep(self, descriptor: int) -> None:
        """Keep copies of this one, which stays the caller's."""
        self._of = descriptor
        self.refill()

    def refill(self) -> None:
        """One may be free again: what was given up is taken back, if there is room."""
        with self._lock, suppress(OSError):
            while self._of is not None and len(self._kept) < _KEPT:
                self._kept.append(fcntl.fcntl(self._of, fcntl.F_DUPFD_CLOEXEC, 3))

    def release(self) -> None:
        """Close them all."""
        with self._lock:
            self._of = None
            while self._kept:
                with suppress(OSError):
                    os.close(self._kept.pop())

    def opening(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, which opens something; where there is no descriptor for it, one of these is given up.

        Raises:
          OSError: as `attempt` does.
        """
        try:
            return attempt()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            with self._lock:
                if not self._kept:
                    raise
                os.close(self._kept.pop())
                if self._lack.due():
                    _log.warning(
                        "%s: the journal goes on with descriptors that it has kept. Raise the limit (ulimit -n)",
                        os.strerror(error.errno),
                    )
        return attempt()
