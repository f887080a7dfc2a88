"""A client's session, synchronous: it numbers requests, finds the primary, retries, and completes each call once.

Used by clients with a socket of their own, and inside each replica for its local callers. A retry always carries
the same request number, so a command is executed once however often it is sent. There is no timer and no task per
request: one deadline serves all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from viewstamp.protocol import MILLISECOND, NEVER, Viewstamp
from viewstamp.wire import NotPrimary, Query, QueryReply, Register, Reply, Request

_FIRST_RETRY_NS = 100 * MILLISECOND
_LONGEST_RETRY_NS = 1000 * MILLISECOND
_ASK_AGAIN_NS = 25 * MILLISECOND
_DISTRUST_NS = 500 * MILLISECOND


class Failure(StrEnum):
    """Why a call completed without an outcome."""

    EXPIRED = "expired"
    """The session is gone: whether the command was executed is not known."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A call or query is over: its recorded outcome, or a failure."""

    handle: int
    outcome: bytes
    viewstamp: Viewstamp
    failure: Failure | None = None


ClientMessage = Register | Request | Query


@dataclass(slots=True)
class _Sent:
    """What was sent and not answered yet; `at` is when it was last sent, `to` the one member to ask, 0 for any."""

    handle: int
    body: bytes
    at: int
    to: int = 0


class ClientSession:
    """One session. Times are monotonic nanoseconds; `members` are tried in turn until one is, or knows, the primary.

    `handle`s number calls and queries alike. Events: `call`, `query`, `abandon`, `receive`, `tick`. Effects:
    `take_messages`, `take_completions`, `deadline`.
    """

    def __init__(self, members: Sequence[int], *, random: Random, window: int, home: int | None = None) -> None:
        self._members = tuple(members)
        self._random = random
        self._window = window
        self._home = home
        self._target = home if home is not None else random.choice(self._members)
        self._distrusted_until: dict[int, int] = {}
        # Not from 0: a member that was killed asks again under the same identity, and an answer to a read of its
        # earlier life, delayed, would meet one of the same number, asked after it.
        self._handles = random.getrandbits(62)

        self.session = 0
        self._nonce = 0
        self.expired = False
        self._mark = 0
        self._next_request = 1
        self._backlog: deque[tuple[int, bytes]] = deque()
        self._outstanding: dict[int, _Sent] = {}  # by request number
        self._answered: set[int] = set()  # above the mark
        self._queries: dict[int, _Sent] = {}  # by handle

        self._messages: list[tuple[int, ClientMessage]] = []
        self._completions: list[Completion] = []
        self._retry_ns = _FIRST_RETRY_NS
        self._heard_at = 0
        self._ask_again = False
        self.deadline = NEVER

    @property
    def target(self) -> int:
        """The member that is asked now."""
        return self._target

    @property
    def in_flight(self) -> int:
        """Calls and queries without an answer, those that wait for room in the window included."""
        return len(self._outstanding) + len(self._backlog) + len(self._queries)

    def call(self, body: bytes, now: int) -> int:
        """Execute this command once; returns its handle. Waits its turn while the window is full."""
        self._handles += 1
        handle = self._handles
        if self.expired:
            self._completions.append(Completion(handle, b"", Viewstamp(0, 0), Failure.EXPIRED))
            return handle
        if self.session and self._next_request <= self._mark + self._window:
            self._issue(handle, body, now)
        else:
            self._backlog.append((handle, body))
            if not self.session and not self._nonce:
                self._nonce = self._random.getrandbits(63) + 1
                self._messages.append((self._target, Register(self._nonce)))
        self._arm(now)
        return handle

    def query(self, body: bytes, now: int, member: int = 0) -> int:
        """Read, from that member and no other unless it is 0; returns its handle."""
        self._handles += 1
        self._queries[self._handles] = _Sent(self._handles, body, now, member)
        self._messages.append((member or self._reader, Query(self._handles, body)))
        self._arm(now)
        return self._handles

    def abandon(self, handle: int) -> None:
        """The caller went away. A command that was sent stays tracked until it is answered: it may be executed."""
        self._queries.pop(handle, None)
        for waiting in self._backlog:
            if waiting[0] == handle:
                self._backlog.remove(waiting)
                break

    def renew(self) -> None:
        """Open a new session for calls made from now on; those of the expired one stay unknown."""
        if self.expired:
            self.expired = False
            self.session = self._nonce = self._mark = 0
            self._next_request = 1
            self._answered.clear()

    @property
    def _reader(self) -> int:
        """Whom to ask for a read: any member can serve one, so a replica asks itself first."""
        return self._home if self._home is not None else self._target

    def _issue(self, handle: int, body: bytes, now: int) -> None:
        request = self._next_request
        self._next_request += 1
        self._outstanding[request] = _Sent(handle, body, now)
        self._messages.append((self._target, Request(self.session, request, self._mark, body)))

    def _arm(self, now: int) -> None:
        if self.deadline == NEVER:
            self._heard_at = now
            self.deadline = now + self._retry_ns

    def receive(self, sender: int, message: Reply | QueryReply | NotPrimary, now: int) -> None:
        """A member answered. What was not asked for, or was answered before, changes nothing."""
        if isinstance(message, Reply):
            self._heard(sender, now)
            if message.session == 0:
                self._registered(message, now)
            else:
                self._replied(message, now)
        elif isinstance(message, QueryReply):
            self._heard(sender, now)
            if self._queries.pop(message.number, None) is not None:
                viewstamp = Viewstamp(message.view, message.op)
                self._completions.append(Completion(message.number, message.outcome, viewstamp))
        else:
            self._redirected(sender, message.primary, now)

    def _heard(self, sender: int, now: int) -> None:
        self._heard_at = now
        self._retry_ns = _FIRST_RETRY_NS
        if self._distrusted_until:
            self._distrusted_until.pop(sender, None)

    def _registered(self, message: Reply, now: int) -> None:
        if self.session or message.request != self._nonce or self.expired:
            return
        self.session = message.op  # A session's number is the op of its registration.
        self._fill(now)
        self._arm(now)

    def _fill(self, now: int) -> None:
        while self._backlog and self._next_request <= self._mark + self._window:
            self._issue(*self._backlog.popleft(), now)

    def _replied(self, message: Reply, now: int) -> None:
        if message.session != self.session or message.request not in self._outstanding:
            return
        handle = self._outstanding.pop(message.request).handle
        self._answered.add(message.request)
        while self._mark + 1 in self._answered:
            self._mark += 1
            self._answered.remove(self._mark)
        self._completions.append(Completion(handle, message.outcome, Viewstamp(message.view, message.op)))
        if self._backlog:
            self._fill(now)

    def expire(self) -> None:
        """The cluster no longer knows this session: what is in flight stays unknown, and nothing new is sent."""
        self.expired = True
        gone = [sent.handle for sent in self._outstanding.values()] + [handle for handle, _ in self._backlog]
        self._outstanding.clear()
        self._backlog.clear()
        self._completions.extend([Completion(h, b"", Viewstamp(0, 0), Failure.EXPIRED) for h in gone])

    def _redirected(self, sender: int, primary: int, now: int) -> None:
        if sender != self._target and sender != self._reader:
            return  # An answer to an earlier attempt.
        if primary in self._members and now >= self._distrusted_until.get(primary, 0):
            if primary != self._target:
                self._target = primary
                self._resend(now, now)
        elif not self._ask_again:
            # One that has just been silent: its successor is not chosen yet, so ask here again, soon. Or none is known:
            # then ask the next, since this one may be cut off from all others, for as long as one cares to ask.
            self._target = sender if primary else self._after(sender)
            self._ask_again = True
            self._heard_at = now
            self.deadline = min(self.deadline, now + _ASK_AGAIN_NS + self._random.randint(0, _ASK_AGAIN_NS))

    def tick(self, now: int) -> None:
        """Send again what has no answer, to the next member if this one has been silent."""
        if now < self.deadline:
            return
        if not self.in_flight and (self.session or not self._nonce):
            self.deadline = NEVER
            return
        if self._ask_again:
            self._ask_again = False
            self._resend(now, now)
            return
        before = now - self._retry_ns
        if self._heard_at <= before and self._waiting_since(before):
            self._distrusted_until[self._target] = now + _DISTRUST_NS
            self._target = self._after(self._target)
            self._retry_ns = min(2 * self._retry_ns, _LONGEST_RETRY_NS)
            self._heard_at = before = now
        self._resend(before, now)

    def _after(self, member: int) -> int:
        return self._members[(self._members.index(member) + 1) % len(self._members)]

    def _waiting_since(self, before: int) -> bool:
        """Whether anything sent by then has no answer; requests are sent in order, so the oldest tells."""
        if not self.session and self._nonce:
            return True
        oldest = [next(iter(sent.values())).at for sent in (self._outstanding, self._queries) if sent]
        return min(oldest, default=NEVER) <= before

    def _resend(self, before: int, now: int) -> None:
        """Send again what was last sent at or before `before`."""
        if not self.session and self._nonce and not self.expired:
            self._messages.append((self._target, Register(self._nonce)))
        for request, sent in self._outstanding.items():
            if sent.at <= before:
                sent.at = now
                self._messages.append((self._target, Request(self.session, request, self._mark, sent.body)))
        for number, sent in self._queries.items():
            if sent.at <= before:
                sent.at = now
                self._messages.append((sent.to or self._target, Query(number, sent.body)))
        self.deadline = now + self._retry_ns + self._random.randint(0, self._retry_ns // 4)

    def take_messages(self) -> list[tuple[int, ClientMessage]]:
        """What to send now: (member, message)."""
        messages, self._messages = self._messages, []
        return messages

    def take_completions(self) -> list[Completion]:
        """What is over since the last call."""
        completions, self._completions = self._completions, []
        return completions
