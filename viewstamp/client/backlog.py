"""Calls that wait to be sent. Those of several tasks go as one request: one entry, with one reply, for all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Self

from statemachine import (
    MAXIMUM_COMMAND_BYTES,
    ValueDecodingError,
    decode_list,
    encode_gathered,
)
from statemachine.executor import GATHERED_REPLY_BYTES
from statemachine.outcome import NO_ROOM_REPLY, is_listed, replies_of
from viewstamp.client.pace import Sent
from viewstamp.cluster import Cluster
from viewstamp.protocol import MILLISECOND

LASTS_NS = 5 * MILLISECOND
_PAUSE_NS = 100 * MILLISECOND
_MOST = 32
"""Were each to take ten milliseconds from one moment to the next, they would still be as long as a suspect time-out."""
_MOST_BYTES = 1000
_AROUND_BYTES = 200
"""Around a request or a reply in its datagram, at most."""
_HEAD_BYTES = 5
"""In front of each command among several, and of them all, at most."""


class Backlog:
    """Commands that wait, by handle, in the order of their calls, and how many of them make a request.

    None waits for others to come. Members execute a request in one go, and do nothing else meanwhile: so it holds no
    more commands than had their answers in `lasts_ns` lately, and twice as many as before at most. Were each to take
    long, few would have. Nor more than whose answers, were they as lately, make a reply that fits into a datagram,
    `reply_bytes`: of a longer one the first answer would wait for the last, and all of them for what the line lets
    through. It has `maximum_bytes` at most, to stay within a datagram; what is larger, a list, and what had no room
    goes alone.
    """

    def __init__(
        self,
        maximum_bytes: int = MAXIMUM_COMMAND_BYTES,
        *,
        reply_bytes: int = _MOST_BYTES,
        lasts_ns: int = LASTS_NS,
        at_most: int = 1,
    ) -> None:
        self._maximum_bytes = min(maximum_bytes, _MOST_BYTES)
        self._reply_bytes = min(reply_bytes, GATHERED_REPLY_BYTES)
        self._lasts_ns = lasts_ns
        self._at_most = at_most
        self._waiting: OrderedDict[int, bytes] = OrderedDict()
        self._alone: set[int] = set()
        self._answers = 0
        self._answer_bytes = 0
        self._since = 0
        self._called_at = 0
        """When the first of those that wait was called."""
        self._answered_at = 0

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """One whose requests and replies fit into the datagrams of a cluster."""
        room = cluster.datagram_bytes - _AROUND_BYTES
        return cls(min(cluster.max_command_bytes, room), reply_bytes=room)

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
            self._alone.add(handle)

    def discard(self, handle: int) -> None:
        """This one is not to be sent any more, if it waits at all."""
        self._waiting.pop(handle, None)
        self._alone.discard(handle)

    def clear(self) -> None:
        """None is."""
        self._waiting.clear()
        self._alone.clear()

    def begin(self, now: int, *, idle: bool, at_home: bool) -> None:
        """Requests are put together now; `idle` if none is under way, `at_home` if their answers need not travel."""
        lasted = now - self._since
        if idle and self._called_at - self._answered_at >= _PAUSE_NS:
            self._answers, self._answer_bytes, self._since = 0, 0, now  # Nobody asked for a while: that tells nothing.
        elif self._answers and lasted >= self._lasts_ns:
            lately = self._answers * self._lasts_ns // lasted
            room = GATHERED_REPLY_BYTES if at_home else self._reply_bytes
            fitting = self._answers * room // max(1, self._answer_bytes)
            self._at_most = max(1, min(lately, fitting, 2 * self._at_most, _MOST))
            self._answers, self._answer_bytes, self._since = 0, 0, now

    def take(self) -> tuple[Sequence[int], bytes]:
        """The next request: whose it is, and its body. Something must wait."""
        waiting, alone, room = self._waiting, self._alone, self._maximum_bytes - _HEAD_BYTES
        handles, bodies = list[int](), list[bytes]()
        for handle, body in waiting.items():
            room -= _HEAD_BYTES + len(body)
            if handles and (room < 0 or handle in alone):
                break
            handles.append(handle)
            bodies.append(body)
            if len(handles) >= self._at_most or handle in alone:
                break
        for handle in handles:
            del waiting[handle]
        alone.difference_update(handles)
        return handles, bodies[0] if len(bodies) == 1 else encode_gathered(bodies)

    def answered(self, sent: Sent, outcome: bytes, now: int) -> Iterator[tuple[int, bytes]]:
        """A request has its answer: gives that of each command, but for those that had no room. They are sent again
        before all others, each alone: among others it could have no room again, and again."""
        handles = sent.handles
        self._answers += len(handles)
        self._answered_at = now
        if len(handles) > 1 or not is_listed(outcome):  # How long that of a list is tells nothing of others.
            self._answer_bytes += len(outcome)
        if len(handles) == 1:
            return iter(((handles[0], outcome),))
        try:
            replies = replies_of(outcome, len(handles))
        except ValueDecodingError:
            replies = [b""] * len(handles)  # Whoever looks at it hears that it cannot be read.
        if NO_ROOM_REPLY in replies:
            pairs = list(zip(handles, replies, decode_list(sent.body), strict=True))
            again = [(handle, body) for handle, reply, body in pairs if reply == NO_ROOM_REPLY]
            for handle, body in reversed(again):
                self._waiting[handle] = body
                self._waiting.move_to_end(handle, last=False)
                self._alone.add(handle)
            self._answers -= len(again)
            return iter([(handle, reply) for handle, reply, _ in pairs if reply != NO_ROOM_REPLY])
        return zip(handles, replies, strict=True)
