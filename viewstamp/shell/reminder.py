"""Saying in the log, now and then, why a member is not ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from viewstamp.replica.status import Status

_log = logging.getLogger("viewstamp")
_FIRST_S = 1.0
_AGAIN_S = 60.0


class Reminder:
    """Logs what `status` says after the first second of a wait, and once a minute from then on."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._due = trio.current_time() + _FIRST_S

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Around each step of the wait: ends it when it is time to say something, and says it."""
        with trio.move_on_at(self._due) as scope:
            yield
        if scope.cancelled_caught:
            self._due = trio.current_time() + _AGAIN_S
            status = self._status()
            _log.info("member %d is not ready: %s", status.member, status.waiting or status.status)
