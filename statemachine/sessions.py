"""Client sessions: the replicated memory that makes each request execute once, however often it arrives.

A session is opened by an entry of its own, and numbered by that entry's op and nonce. The client numbers its requests
from 1 and sends with each its low-water mark: it has an answer to, or has given up, every request up to it. Replies
above the mark are recorded, so a duplicate is answered without being executed again, and several requests may be in
flight and arrive in any order. (VRR section 4.1 keeps one request per client; Ongaro's dissertation, section 6.3,
several.)

All of it changes only as entries are applied, and expiry is by count, never by a clock: replicas would disagree.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from statemachine.errors import SnapshotError
from statemachine.outcome import BEYOND_WINDOW_REPLY, EXPIRED_REPLY, STALE_REPLY, what_is_left
from statemachine.values import decode_value, dump, encode_value

MAXIMUM_SESSIONS = 1024
WINDOW = 1024
MAXIMUM_REPLIES_BYTES = 64 * 1024 * 1024
SMALL_REPLY_BYTES = 64
_ITEMS_PER_CHUNK = 4096
_BYTES_PER_CHUNK = 32 * 1024
_OP_BITS = 44
_OP_MASK = (1 << _OP_BITS) - 1
_NONCE_MASK = (1 << 64 - _OP_BITS) - 1


def session_number(op: int, nonce: int) -> int:
    """The number of the session that the entry at `op` opens for the client that asked with this nonce.

    The op alone would do within one history. But a cluster whose data is all lost begins another one under its old
    name: a client of the first would go on, and find under its number the requests and replies of somebody else.
    """
    return (nonce & _NONCE_MASK) << _OP_BITS | op


def opened_at(session: int) -> int:
    """The op of the entry that opened this session."""
    return session & _OP_MASK


class _Session:
    __slots__ = ("mark", "replies")

    def __init__(self, mark: int, replies: dict[int, bytes]) -> None:
        self.mark = mark
        self.replies = replies


class Sessions:
    """All sessions, bounded in number, in replies per session (`window`) and in bytes of replies.

    With one too many, the session used least recently in log order expires. With more than `maximum_bytes` in
    replies longer than SMALL_REPLY_BYTES, the oldest of those are dropped; that their requests were executed is not
    forgotten, nor which of several gathered commands were not. All replicas must have the same bounds.
    """

    def __init__(
        self,
        max_sessions: int = MAXIMUM_SESSIONS,
        window: int = WINDOW,
        max_reply_bytes: int = MAXIMUM_REPLIES_BYTES,
    ) -> None:
        if max_sessions < 1 or window < 1 or max_reply_bytes < 0:
            raise ValueError("max_sessions and window must be at least 1, and max_reply_bytes at least 0")
        self.max_sessions = max_sessions
        self.window = window
        self.max_reply_bytes = max_reply_bytes
        self.reply_bytes = 0
        """Bytes of the recorded large replies."""
        self._table: OrderedDict[int, _Session] = OrderedDict()
        # (session, request) of each large reply, oldest first: what to drop next, without a search.
        self._large: OrderedDict[tuple[int, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, session: object) -> bool:
        return session in self._table

    def register(self, number: int) -> None:
        """A session of this number was opened."""
        self._table[number] = _Session(0, {})
        while len(self._table) > self.max_sessions:
            oldest, expired = self._table.popitem(last=False)
            for request, reply in expired.replies.items():
                if len(reply) > SMALL_REPLY_BYTES:
                    self._forget_large(oldest, request, reply)

    def lookup(self, session: int, request: int, mark: int) -> bytes | None:
        """The reply that a request has already; None if it is new. Changes nothing."""
        found = self._table.get(session)
        if found is None:
            return EXPIRED_REPLY
        reply = found.replies.get(request)
        if reply is not None:
            return reply
        if mark < found.mark:
            mark = found.mark
        if request <= mark:
            return STALE_REPLY
        return BEYOND_WINDOW_REPLY if request > mark + self.window else None

    def admit(self, session: int, request: int, mark: int) -> bytes | None:
        """An entry with this request is being applied: None if it must be executed now, else the reply it has.

        The session counts as used, and its mark rises (it never falls: a late duplicate carries an old one).
        """
        found = self._table.get(session)
        if found is None:
            return EXPIRED_REPLY
        self._table.move_to_end(session)
        if mark > found.mark:
            self._raise_mark(session, found, mark)
        reply = found.replies.get(request)
        if reply is not None:
            return reply
        if request <= found.mark:
            # It may never have been executed, but the client has given it up, and we no longer remember.
            return STALE_REPLY
        if request > found.mark + self.window:
            return BEYOND_WINDOW_REPLY
        return None

    def record(self, session: int, request: int, reply: bytes) -> None:
        """Remember the reply of an admitted request, until the mark reaches it."""
        self._table[session].replies[request] = reply
        if len(reply) > SMALL_REPLY_BYTES:
            self._large[session, request] = None
            self.reply_bytes += len(reply)
            while self.reply_bytes > self.max_reply_bytes:
                (oldest_session, oldest_request), _ = self._large.popitem(last=False)
                replies = self._table[oldest_session].replies
                self.reply_bytes -= len(replies[oldest_request])
                replies[oldest_request] = what_is_left(replies[oldest_request])

    def _raise_mark(self, session: int, found: _Session, mark: int) -> None:
        old, found.mark = found.mark, mark
        replies = found.replies
        passed: Iterable[int]
        if mark == old + 1:  # as for a client that waits for each answer
            passed = (mark,)
        elif mark - old <= len(replies):  # whichever is shorter: a mark may jump by any number
            passed = range(old + 1, mark + 1)
        else:
            passed = [number for number in replies if number <= mark]
        for request in passed:
            reply = replies.pop(request, None)
            if reply is not None and len(reply) > SMALL_REPLY_BYTES:
                self._forget_large(session, request, reply)

    def _forget_large(self, session: int, request: int, reply: bytes) -> None:
        del self._large[session, request]
        self.reply_bytes -= len(reply)

    def snapshot(self) -> Iterator[bytes]:
        """Chunks that say everything, as of this call: what the sessions do from here on follows from them."""
        captured = [(number, found.mark, found.replies.copy()) for number, found in self._table.items()]
        large = list(self._large)
        header = encode_value([self.max_sessions, self.window, self.max_reply_bytes, len(captured), len(large)])
        return chain([header], _encode_sessions(captured), _encode_large(large))

    def restore(self, chunks: Iterator[bytes]) -> None:
        """Replace everything by what `snapshot` gave.

        Raises:
          SnapshotError: it is something else, or from a replica with other bounds.
        """
        try:
            self._restore(chunks)
        except SnapshotError:
            raise
        except (StopIteration, ValueError, KeyError) as error:
            raise SnapshotError(f"the client sessions of a snapshot cannot be read: {error!r}") from error

    def _restore(self, chunks: Iterator[bytes]) -> None:
        *bounds, sessions, large = _numbers(next(chunks))
        if bounds != [self.max_sessions, self.window, self.max_reply_bytes]:
            raise SnapshotError(
                f"it was taken with sessions, window and reply bytes of {bounds}, here they are "
                f"{[self.max_sessions, self.window, self.max_reply_bytes]}; they must be the same on all members, and "
                "stay as they are"
            )
        self._table = OrderedDict()
        self._large = OrderedDict()
        while len(self._table) < sessions:
            self._table.update(_decode_sessions(next(chunks)))
        if len(self._table) > sessions:
            raise SnapshotError("a snapshot holds more sessions than it says")
        while len(self._large) < large:
            numbers = iter(_numbers(next(chunks)))
            self._large.update(((number, request), None) for number, request in zip(numbers, numbers, strict=True))
        self.reply_bytes = sum(len(self._table[number].replies[request]) for number, request in self._large)


def _encode_sessions(captured: list[tuple[int, int, dict[int, bytes]]]) -> Iterator[bytes]:
    """Many in one flat list: ten thousand that were encoded one by one would hold the loop for forty milliseconds."""
    page: list[int | bytes] = []
    page_bytes = 0
    for number, mark, replies in captured:
        page += (number, mark, len(replies))
        for request, reply in replies.items():
            page += (request, reply)
            page_bytes += len(reply)
        if len(page) >= _ITEMS_PER_CHUNK or page_bytes >= _BYTES_PER_CHUNK:
            yield dump(page)
            page, page_bytes = [], 0
    if page:
        yield dump(page)


def _encode_large(large: list[tuple[int, int]]) -> Iterator[bytes]:
    remaining = iter(large)
    while page := list(islice(remaining, _ITEMS_PER_CHUNK)):
        yield encode_value(list(chain.from_iterable(page)))


def _decode_sessions(data: bytes) -> Iterator[tuple[int, _Session]]:
    page = decode_value(data)
    if not isinstance(page, list):
        raise SnapshotError("a page of sessions in a snapshot cannot be read")
    items = iter(page)
    for number in items:
        mark, replies = next(items, None), next(items, None)
        if not (isinstance(number, int) and isinstance(mark, int) and isinstance(replies, int)):
            raise SnapshotError("a session of a snapshot cannot be read")
        recorded: dict[int, bytes] = {}
        for _ in range(replies):
            request, reply = next(items, None), next(items, None)
            if not isinstance(request, int) or not isinstance(reply, bytes):
                raise SnapshotError("a recorded reply of a snapshot is not a number with bytes")
            recorded[request] = reply
        yield number, _Session(mark, recorded)


def _numbers(data: bytes) -> list[int]:
    value = decode_value(data)
    if not isinstance(value, list):
        raise SnapshotError("a list of numbers was expected in a snapshot")
    numbers = [number for number in value if isinstance(number, int)]
    if len(numbers) != len(value):
        raise SnapshotError("a list of numbers was expected in a snapshot")
    return numbers
