"""Saying in the log why a member is not ready, or was not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from viewstamp.once_a_minute import OnceAMinute
from viewstamp.protocol import SECOND
from viewstamp.status import Status

_log = logging.getLogger("viewstamp")
_FIRST_S = 1.0

_NO_ACCIDENT = 3
"""One datagram that was damaged on its way can look like that; who has another file says everything several times."""
_STRANGERS = {
    "configuration": "have another cluster file",
    "cluster": "belong to another cluster",
    "version": "run another version of Viewstamp",
}


def refusals(status: Status) -> tuple[str, ...]:
    """What a member refuses and only people can mend, in words; it sees nobody else's cluster file, only its digest."""
    return tuple(
        f"refused {refused} datagrams since its start: their senders {what}"
        for reason, what in _STRANGERS.items()
        if (refused := status.drops.get(reason, 0)) >= _NO_ACCIDENT
    )


def tell_late(member: int, late_ns: int, applied: int) -> None:
    """The others have suspected a member for that long, and it can tell neither them nor `status` why."""
    _log.warning(
        "member %d took no turn for %.1f s, held up by a command (the last was op %d), its disk, the service around "
        "it, or its machine",
        *(member, late_ns / SECOND, applied),
    )


class Reminder:
    """Logs what `status` says after the first second of a wait, and once a minute from then on."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._waiting = OnceAMinute(trio.current_time, trio.current_time() + _FIRST_S)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Around each step of the wait: ends it when it is time to say something, and says it."""
        with trio.move_on_at(self._waiting.next) as scope:
            yield
        if scope.cancelled_caught and self._waiting.due():
            status = self._status()
            why = (status.waiting or status.status, *refusals(status))
            _log.info("member %d is not ready: %s", status.member, "; ".join(why))
