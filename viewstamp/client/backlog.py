"""Calls that wait to be sent. Those of several tasks go as one request: one entry, with one reply, for all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from statemachine import (
    MAXIMUM_COMMAND_BYTES,
    ValueDecodingError,
    decode_list,
    encode_gathered,
)
from statemachine.outcome import NO_ROOM_REPLY, replies_of
from viewstamp.client.pace import Sent
from viewstamp.protocol import MILLISECOND

LASTS_NS = 5 * MILLISECOND
_PAUSE_NS = 100 * MILLISECOND
_MOST = 32
"""Were each to take ten milliseconds from one moment to the next, they would still be as long as a suspect time-out."""
_MOST_BYTES = 1000
_HEAD_BYTES = 5
"""In front of each command among several, and of them all, at most."""


class Backlog:
    """Commands that wait, by handle, in the order of their calls, and how many of them make a request.

    None waits for others to come. Members execute a request in one go, and do nothing else meanwhile: so it holds no
    more commands than had their answers in `lasts_ns` lately, and twice as many as before at most. Were each to take
    long, few would have. It has `maximum_bytes` at most, to stay within a datagram; what is larger, and a list, goes
    alone.
    """

    def __init__(
        self, maximum_bytes: int = MAXIMUM_COMMAND_BYTES, *, lasts_ns: int = LASTS_NS, at_most: int = 1
    ) -> None:
        self._maximum_bytes = min(maximum_bytes, _MOST_BYTES)
        self._lasts_ns = lasts_ns
        self._at_most = at_most
        self._waiting: OrderedDict[int, bytes] = OrderedDict()
        self._lists: set[int] = set()
        self._answers = 0
        self._since = 0
        self._called_at = 0
        """When the first of those that wait was called."""
        self._answered_at = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, handle: object) -> bool:
        return handle in self._waiting

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def add(self, handle: int, body: bytes, now: int, *, is_list: bool) -> None:
        """A command, or a list of them, is to be sent."""
        if not self._waiting:
            self._called_at = now
        self._waiting[handle] = body
        if is_list:
            self._lists.add(handle)

    def discard(self, handle: int) -> None:
        """This one is not to be sent any more, if it waits at all."""
        self._waiting.pop(handle, None)
        self._lists.discard(handle)

    def clear(self) -> None:
        """None is."""
        self._waiting.clear()
        self._lists.clear()

    def begin(self, now: int, *, idle: bool) -> None:
        """Requests are put together now; `idle` if none is under way."""
        lasted = now - self._since
        if idle and self._called_at - self._answered_at >= _PAUSE_NS:
            self._answers, self._since = 0, now  # Nobody asked for a while, and that tells nothing.
        elif self._answers and lasted >= self._lasts_ns:
            lately = self._answers * self._lasts_ns // lasted
            self._at_most = max(1, min(lately, 2 * self._at_most, _MOST))
            self._answers, self._since = 0, now

    def take(self) -> tuple[Sequence[int], bytes]:
        """The next request: whose it is, and its body. Something must wait."""
        waiting, lists, room = self._waiting, self._lists, self._maximum_bytes - _HEAD_BYTES
        handles, bodies = list[int](), list[bytes]()
        for handle, body in waiting.items():
            room -= _HEAD_BYTES + len(body)
            if handles and (room < 0 or handle in lists):
                break
            handles.append(handle)
            bodies.append(body)
            if len(handles) >= self._at_most or handle in lists:
                break
        for handle in handles:
            del waiting[handle]
        lists.difference_update(handles)
        return handles, bodies[0] if len(bodies) == 1 else encode_gathered(bodies)

    def answered(self, sent: Sent, outcome: bytes, now: int) -> Iterator[tuple[int, bytes]]:
        """A request has its answer: gives that of each command, but for those that had no room, which wait again."""
        handles = sent.handles
        self._answers += len(handles)
        self._answered_at = now
        if len(handles) == 1:
            return iter(((handles[0], outcome),))
        try:
            replies = replies_of(outcome, len(handles))
        except ValueDecodingError:
            replies = [b""] * len(handles)  # Whoever looks at it hears that it cannot be read.
        if NO_ROOM_REPLY in replies:
            pairs = list(zip(handles, replies, decode_list(sent.body), strict=True))
            self._waiting.update([(handle, body) for handle, reply, body in pairs if reply == NO_ROOM_REPLY])
            return iter([(handle, reply) for handle, reply, _ in pairs if reply != NO_ROOM_REPLY])
        return zip(handles, replies, strict=True)
