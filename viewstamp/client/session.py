"""A client's session, synchronous: it numbers requests, sends each until it is answered, and completes each call once.

Used by clients with a socket of their own, and inside each replica for its local callers. A retry always carries
the same request number, so a command is executed once however often it is sent. There is no timer and no task per
request: one deadline serves all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Self

from statemachine import session_number
from viewstamp.client.backlog import Backlog
from viewstamp.client.completion import Completion, Failure
from viewstamp.client.pace import Sent
from viewstamp.client.target import Again, Probe, Resend, Target
from viewstamp.cluster import Cluster
from viewstamp.protocol import MILLISECOND, NEVER
from viewstamp.wire import Forward, NotPrimary, Query, QueryReply, Register, Reply, Request

FIRST_RETRY_NS = 100 * MILLISECOND

ClientMessage = Register | Request | Forward | Query
RequestFields = tuple[int, int, int, bytes]
"""What a `Request` is made of."""
Asked = Register | Forward | Query | RequestFields
"""A message, but of a request only its fields."""


class ClientSession:
    """One session. Times are monotonic nanoseconds. Whom of `members` it asks, and what it asks again, `Target` says.

    Calls that wait together, made in one turn or while the window was full, may go as one request (see `Backlog`).

    `handle`s number calls and queries alike. Events: `call`, `query`, `abandon`, `receive`, `tick`. Effects:
    `take_messages`, `take_completions`, `deadline`.
    """

    def __init__(
        self,
        members: Sequence[int],
        *,
        random: Random,
        window: int,
        home: int | None = None,
        retry_ns: int = FIRST_RETRY_NS,
        backlog: Backlog | None = None,
    ) -> None:
        self._random = random
        self._window = window
        self._backlog = backlog if backlog is not None else Backlog()
        self._target = Target(members, random=random, home=home, retry_ns=retry_ns)
        # Not from 0: a member that was killed asks again under the same identity, and an answer to a read of its
        # earlier life, delayed, would meet one of the same number, asked after it.
        self._handles = random.getrandbits(62)

        self.session = 0
        self._nonce = 0
        self.expired = False
        self._mark = 0
        self._next_request = 1
        self._told_at = 0  # when there was a call or a reply last
        self._outstanding: dict[int, Sent] = {}  # by request number
        self._answered: set[int] = set()  # above the mark
        self._queries: dict[int, Sent] = {}  # by handle

        self._messages: deque[tuple[int, Asked]] = deque()
        self._completions: list[Completion] = []

    @classmethod
    def of(cls, cluster: Cluster, *, random: Random, home: int | None = None, backlog: Backlog | None = None) -> Self:
        """A session with the members of a cluster, as patient as its time-outs say."""
        members, retry_ns = cluster.configuration.members, max(1, cluster.timeouts.suspect // 3)
        if backlog is None:
            backlog = Backlog.of(cluster)
        return cls(members, random=random, window=cluster.window, home=home, retry_ns=retry_ns, backlog=backlog)

    @property
    def target(self) -> int:
        """The member that is asked now."""
        return self._target.member

    @property
    def deadline(self) -> int:
        """When `tick` is wanted next."""
        return self._target.deadline

    @property
    def in_flight(self) -> int:
        """Calls and queries without an answer, those that wait for room in the window included."""
        under_way = sum([len(sent.handles) for sent in self._outstanding.values()])
        return under_way + len(self._backlog) + len(self._queries)

    def call(self, body: bytes, now: int, *, is_list: bool = False) -> int:
        """Execute this command, or list of them, once; returns its handle. Waits its turn while the window is full."""
        handle = self._handles = self._handles + 1
        if self.expired:
            self._completions.append(Completion(handle, failure=Failure.NEVER_SENT))
            return handle
        self._backlog.add(handle, body, now, is_list=is_list)
        self._target.calling(now)
        if not self._nonce:
            self._nonce = self._random.getrandbits(63) + 1
            self._request(self._target.member, (0, self._nonce, 0, b""), forward=self._target.forwards)
        self._told_at = now
        self._target.asked(now)
        return handle

    def query(self, body: bytes, now: int, member: int = 0) -> int:
        """Read, from that member and no other unless it is 0; returns its handle."""
        self._handles += 1
        self._queries[self._handles] = Sent((), body, now, now, member)
        self._messages.append((member or self._target.reader, Query(self._handles, body)))
        self._target.asked(now)
        return self._handles

    def abandon(self, handle: int) -> None:
        """The caller went away. A command that was sent stays tracked until it is answered: it may be executed."""
        self._queries.pop(handle, None)
        self._backlog.discard(handle)

    def waits(self, handle: int) -> bool:
        """Whether this call waits to be sent, for the first time or because it found no room: it was not executed."""
        return handle in self._backlog

    def renew(self) -> None:
        """Open a new session for calls made from now on; those of the expired one stay unknown."""
        if self.expired:
            self.expired = False
            self.session = self._nonce = self._mark = 0
            self._next_request = 1
            self._answered.clear()

    def receive(self, sender: int, message: Reply | QueryReply | NotPrimary, now: int) -> None:
        """A member answered. What was not asked for, or was answered before, changes nothing."""
        if isinstance(message, Reply):
            self.reply(sender, message.session, message.request, message.view, message.op, message.outcome, now)
        elif isinstance(message, QueryReply):
            query = self._queries.pop(message.number, None)
            if query is not None:
                self._target.queries_pace.answered(query, now)
                self._completions.append(Completion(message.number, message.outcome, message.view, message.op))
                if sender == (query.to or self._target.reader) != self._target.member:
                    return  # It tells nothing of the target, which may be dead, and calls sent to it wait.
            again = self._target.heard(sender, now, reads=True)
            if again:
                self._ask(again, now)
        else:
            self._ask(self._target.redirected(sender, message.primary, now), now)

    def reply(self, sender: int, session: int, request: int, view: int, op: int, outcome: bytes, now: int) -> None:
        """A `Reply`, by its fields: as a member answers itself, for each command."""
        if session == 0:
            self._registered(request, op, now)
        elif session == self.session and request in self._outstanding:
            sent = self._outstanding.pop(request)
            self._target.calls_pace.answered(sent, now)
            self._answered.add(request)
            while self._mark + 1 in self._answered:
                self._mark += 1
                self._answered.remove(self._mark)
            for handle, each in self._backlog.answered(sent, outcome, now):
                self._completions.append(Completion(handle, each, view, op))
            self._told_at = now
        again = self._target.heard(sender, now)
        if again:
            self._ask(again, now)

    def _registered(self, nonce: int, op: int, now: int) -> None:
        if self.session or nonce != self._nonce or self.expired:
            return
        self.session = session_number(op, nonce)
        self._told_at = now
        self._target.asked(now)

    def _issue(self, now: int) -> None:
        """Send what waits, as far as the window has room."""
        target, primary, forward = self._target.member, self._target.primary, self._target.forwards
        self._backlog.begin(now, idle=not self._outstanding, at_home=target == self._target.home)
        while self._backlog and self._next_request <= self._mark + self._window:
            handles, body = self._backlog.take()
            request = self._next_request
            self._next_request += 1
            self._outstanding[request] = Sent(handles, body, now, now)
            fields = (self.session, request, self._mark, body)
            self._messages.append((target, Forward(primary, *fields) if forward else fields))

    def _request(self, to: int, fields: RequestFields, *, forward: bool) -> None:
        """Ask a member for a command, or for the session itself: that is request `nonce` of session 0."""
        asked: Asked = fields
        if forward:
            asked = Forward(self._target.primary, *fields)
        elif not fields[0]:
            asked = Register(fields[1])
        self._messages.append((to, asked))

    def expire(self) -> None:
        """The cluster no longer knows this session: what is in flight stays unknown, and nothing new is sent."""
        self.expired = True
        for sent in self._outstanding.values():
            self._completions += [Completion(handle, failure=Failure.EXPIRED) for handle in sent.handles]
        self._completions += [Completion(handle, failure=Failure.NEVER_SENT) for handle in self._backlog]
        self._outstanding.clear()
        self._backlog.clear()

    def tick(self, now: int, part_at: int = 0) -> None:
        """Send again what has no answer, and probe others while the target is silent.

        `part_at` is when the target last sent a part of a large message, or told of one that is sent to it.
        """
        if now < self._target.deadline:
            return
        if not self.in_flight and (self.session or not self._nonce):
            self._target.rest()
            return
        self._ask(self._target.tick(now, self._oldest, part_at), now)

    @property
    def _oldest(self) -> int:
        """When the oldest of what has no answer was last sent; requests are sent in order."""
        if not self.session and self._nonce:
            return 0  # It is open since the target was last heard.
        return min([next(iter(sent.values())).at for sent in (self._outstanding, self._queries) if sent], default=NEVER)

    def _ask(self, again: Again, now: int) -> None:
        """Carry out what the target says."""
        for each in again:
            match each:
                case Resend():
                    self._resend(each, now)
                case Probe(to, forward):
                    self._probe(to, forward)

    def _resend(self, resend: Resend, now: int) -> None:
        to, calls_before, queries_before = resend
        forward = self._target.forwards
        if not self.session and self._nonce and not self.expired:
            self._request(to, (0, self._nonce, 0, b""), forward=forward)
        for request, sent in self._outstanding.items():
            if sent.at <= calls_before:
                sent.at = now
                self._request(to, (self.session, request, self._mark, sent.body), forward=forward)
        for number, sent in self._queries.items():
            if sent.at <= queries_before:
                sent.at = now
                self._messages.append((sent.to or to, Query(number, sent.body)))

    def _probe(self, member: int, forward: bool) -> None:
        """One message that is to be answered or redirected; what it asks for is executed once wherever it is asked."""
        if not self.session and self._nonce:
            self._request(member, (0, self._nonce, 0, b""), forward=forward)
            return
        for request, sent in self._outstanding.items():
            self._request(member, (self.session, request, self._mark, sent.body), forward=forward)
            return
        for number, sent in self._queries.items():
            if not sent.to:
                self._messages.append((member, Query(number, sent.body)))
                return

    def take_messages(self) -> list[tuple[int, ClientMessage]]:
        """What to send now: (member, message)."""
        return [(to, Request(*asked) if isinstance(asked, tuple) else asked) for to, asked in self.take_asked()]

    def take_asked(self) -> deque[tuple[int, Asked]]:
        """The same, with requests by their fields: for a member that asks itself no message need be made of them."""
        if self._backlog and self.session:
            self._issue(self._told_at)
        messages, self._messages = self._messages, deque()
        return messages

    def take_completions(self) -> list[Completion]:
        """What is over since the last call."""
        completions, self._completions = self._completions, []
        return completions
