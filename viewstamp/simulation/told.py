"""What one client was told of its requests: of each the same, whoever says it, and however often."""

from __future__ import annotations

from statemachine.outcome import BEYOND_WINDOW_REPLY, EXPIRED_REPLY, REPLY_DROPPED_REPLY, STALE_REPLY
from viewstamp.simulation.verdict import require
from viewstamp.wire import Reply

_NOT_TOLD = frozenset({BEYOND_WINDOW_REPLY, EXPIRED_REPLY, REPLY_DROPPED_REPLY, STALE_REPLY})


class Told:
    """Replies that arrived. A duplicate gets the reply that is recorded, an error as well, or hears that it is gone."""

    def __init__(self) -> None:
        self._replies: dict[tuple[int, int], bytes] = {}

    def hear(self, client: int, message: Reply) -> None:
        """A reply arrived. Raises ViolationError."""
        if message.session and message.outcome not in _NOT_TOLD:
            first = self._replies.setdefault((message.session, message.request), message.outcome)
            require(
                first == message.outcome,
                "exactly once",
                "client {} was told {!r} of request {}, and before that {!r}",
                client,
                message.outcome[:60],
                message.request,
                first[:60],
            )
