"""What clients were told: of each request the same, however often, and of every answer where in history it is."""

from __future__ import annotations

from collections.abc import Callable

from statemachine.outcome import BEYOND_WINDOW_REPLY, EXPIRED_REPLY, REPLY_DROPPED_REPLY, STALE_REPLY, is_cut
from viewstamp.client import Completion
from viewstamp.protocol import Viewstamp
from viewstamp.simulation.verdict import require
from viewstamp.wire import Reply

_NOT_TOLD = frozenset({BEYOND_WINDOW_REPLY, EXPIRED_REPLY, REPLY_DROPPED_REPLY, STALE_REPLY})


class Told:
    """Replies that arrived. A duplicate gets the reply that is recorded, an error as well, or hears that it is gone."""

    def __init__(self) -> None:
        self._replies: dict[tuple[int, int], bytes] = {}

    def hear(self, client: int, message: Reply) -> None:
        """A reply arrived. Raises ViolationError."""
        if message.session and message.outcome not in _NOT_TOLD and not is_cut(message.outcome):
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


class Places:
    """The viewstamps that answers carry: each of an entry that is committed, and none goes back.

    Whoever begins a call or a read after another was answered gets an answer that is no older than that one was: the
    order in which things happened, seen without knowing what the state machine does.
    """

    def __init__(self, view_at: Callable[[int], int]) -> None:
        self._view_at = view_at
        self._newest = 0
        self._floors: dict[tuple[int, int], int] = {}
        self._told: list[tuple[int, Viewstamp]] = []

    def begun(self, client: int, handle: int) -> None:
        """A client calls or reads now."""
        self._floors[client, handle] = self._newest

    def answered(self, client: int, completion: Completion) -> None:
        """That is over. Raises ViolationError."""
        floor = self._floors.pop((client, completion.handle))
        if completion.failure is not None or completion.outcome in _NOT_TOLD:
            return
        op = completion.viewstamp.op
        require(
            op >= floor, "viewstamps", "client {} was told of op {}, after somebody was told of {}", client, op, floor
        )
        self._newest = max(self._newest, op)
        self._told.append((client, completion.viewstamp))
        self._verify()

    def _verify(self) -> None:
        """Who told it may have ended in the middle of the turn in which it applied that: nobody knows of it yet."""
        ahead = []
        for client, told in self._told:
            view = self._view_at(told.op)
            if view < 0:
                ahead.append((client, told))
                continue
            about = "client {} was told of op {} in view {}, it is of {}"
            require(view == told.view, "viewstamps", about, client, told.op, told.view, view)
        self._told = ahead
