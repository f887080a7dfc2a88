"""A client's session, synchronous: it numbers requests, finds the primary, retries, and completes each call once.

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
from viewstamp.client.pace import LONGEST_RETRY_NS, Pace, Sent
from viewstamp.cluster import Cluster
from viewstamp.protocol import MILLISECOND, NEVER
from viewstamp.wire import NotPrimary, Query, QueryReply, Register, Reply, Request

FIRST_RETRY_NS = 100 * MILLISECOND
_LONGEST_PROBE_NS = 250 * MILLISECOND


ClientMessage = Register | Request | Query
RequestFields = tuple[int, int, int, bytes]
"""What a `Request` is made of."""


class ClientSession:
    """One session. Times are monotonic nanoseconds; `members` are tried in turn until one is, or knows, the primary.

    What has no answer after `retry_ns` (twice that the next time, and so on) is sent again; while others are answered,
    only what seems lost. While the member that is asked stays silent, another one is probed with a single message every
    quarter of it, more and more slowly: it is the primary, or names another, or agrees, and then the silence was a lost
    datagram.

    A cluster without a primary, all of whose members live, answers each question at once, and says only that. However
    many calls wait, it is asked for one of them, until somebody answers that; for all of them no more often than a
    cluster that is silent.

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
        self._members = tuple(members)
        self._first_retry = retry_ns
        self._ask_again_after = max(1, retry_ns // 4)
        self._random = random
        self._window = window
        self._backlog = backlog if backlog is not None else Backlog()
        self._home = home
        self._target = home if home is not None else random.choice(self._members)
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

        self._messages: deque[tuple[int, Register | Query | RequestFields]] = deque()
        self._completions: list[Completion] = []
        self._retry_ns = retry_ns
        self._heard_at = 0
        self._calls_pace = Pace()
        self._queries_pace = Pace()
        self._ask_again = False
        self._followed_at = -retry_ns
        self._turn = self._target
        self._held = False  # this target was turned to and has not answered yet
        self._held_until = 0  # what was last sent up to then is sent to it when it does
        self._probed = 0  # the member probed last while the target is silent, 0 while it is not
        self._probe_ns = 0
        self._resend_at = 0  # when everything may be sent again to whoever has not answered yet
        self.deadline = NEVER

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
        return self._target

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
        if not self._nonce:
            self._nonce = self._random.getrandbits(63) + 1
            self._messages.append((self._target, Register(self._nonce)))
        self._told_at = now
        self._arm(now)
        return handle

    def query(self, body: bytes, now: int, member: int = 0) -> int:
        """Read, from that member and no other unless it is 0; returns its handle."""
        self._handles += 1
        self._queries[self._handles] = Sent((), body, now, now, member)
        self._messages.append((member or self._reader, Query(self._handles, body)))
        self._arm(now)
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

    @property
    def _reader(self) -> int:
        """Whom to ask for a read: any member can serve one, so a replica asks itself first."""
        return self._home if self._home is not None else self._target

    def _arm(self, now: int) -> None:
        if self.deadline == NEVER:
            self._hopeful(now)
            self.deadline = now + self._retry_ns

    def _hopeful(self, now: int) -> None:
        """No silence: all waits are short again."""
        self._heard_at = now
        self._probed = self._resend_at = 0
        self._retry_ns = self._first_retry
        self._ask_again = False

    def receive(self, sender: int, message: Reply | QueryReply | NotPrimary, now: int) -> None:
        """A member answered. What was not asked for, or was answered before, changes nothing."""
        if isinstance(message, Reply):
            self.reply(sender, message.session, message.request, message.view, message.op, message.outcome, now)
        elif isinstance(message, QueryReply):
            query = self._queries.pop(message.number, None)
            if query is not None:
                self._queries_pace.answered(query, now)
                self._completions.append(Completion(message.number, message.outcome, message.view, message.op))
                if sender == (query.to or self._reader) != self._target:
                    return  # It tells nothing of the target, which may be dead, and calls sent to it wait.
            self._heard(sender, now)
        else:
            self._redirected(sender, message.primary, now)

    def reply(self, sender: int, session: int, request: int, view: int, op: int, outcome: bytes, now: int) -> None:
        """A `Reply`, by its fields: as a member answers itself, for each command."""
        if session == 0:
            self._registered(request, op, now)
        elif session == self.session and request in self._outstanding:
            sent = self._outstanding.pop(request)
            self._calls_pace.answered(sent, now)
            self._answered.add(request)
            while self._mark + 1 in self._answered:
                self._mark += 1
                self._answered.remove(self._mark)
            for handle, each in self._backlog.answered(sent, outcome, now):
                self._completions.append(Completion(handle, each, view, op))
            self._told_at = now
        self._heard(sender, now)

    def _heard(self, sender: int, now: int) -> None:
        """A member answered as a primary does, or as who knows one."""
        if sender != self._target:
            if not self._probed or sender not in self._members:
                return  # An answer to an earlier attempt.
            # The member that was probed is the primary itself, or at least alive: everything else goes there too.
            self._target, self._followed_at, self._held, self._held_until = sender, now, True, now
        if self._probed or self._held:
            self._calls_pace.begin(now)
            self._queries_pace.begin(now)
            self.deadline = min(self.deadline, now + self._first_retry)
        self._hopeful(now)
        if self._held:
            self._held = False
            # What it was sent itself, and has been silent about for long, it may not have been ready for.
            before = max(self._held_until, now - self._first_retry)
            self._resend(before, before, now)

    def _registered(self, nonce: int, op: int, now: int) -> None:
        if self.session or nonce != self._nonce or self.expired:
            return
        self.session = session_number(op, nonce)
        self._told_at = now
        self._arm(now)

    def _issue(self, now: int) -> None:
        """Send what waits, as far as the window has room."""
        self._backlog.begin(now, idle=not self._outstanding, at_home=self._target == self._home)
        while self._backlog and self._next_request <= self._mark + self._window:
            handles, body = self._backlog.take()
            request = self._next_request
            self._next_request += 1
            self._outstanding[request] = Sent(handles, body, now, now)
            self._messages.append((self._target, (self.session, request, self._mark, body)))

    def expire(self) -> None:
        """The cluster no longer knows this session: what is in flight stays unknown, and nothing new is sent."""
        self.expired = True
        for sent in self._outstanding.values():
            self._completions += [Completion(handle, failure=Failure.EXPIRED) for handle in sent.handles]
        self._completions += [Completion(handle, failure=Failure.NEVER_SENT) for handle in self._backlog]
        self._outstanding.clear()
        self._backlog.clear()

    def _redirected(self, sender: int, primary: int, now: int) -> None:
        """A member is not the primary, and names it, or knows of none."""
        if sender != self._target and sender != self._reader and not self._probed:
            return  # An answer to an earlier attempt.
        if primary not in self._members:
            if sender == self._target:
                # It may be cut off from all others, and say so for as long as one cares to ask: the next one, soon.
                self._turn_to(self._next_in_turn(sender), now, at_once=False)
        elif primary != self._target:
            # Two members that name each other must not be asked in turn as fast as they answer.
            self._turn_to(primary, now, at_once=now - self._followed_at >= self._ask_again_after)

    def _turn_to(self, member: int, now: int, *, at_once: bool) -> None:
        """Ask this member from now on."""
        self._target = member
        self._held = True
        self._probed = 0
        self._heard_at = self._followed_at = self._held_until = now
        if at_once:
            self._ask(now)
        elif not self._ask_again:
            self._ask_again = True
            self.deadline = min(self.deadline, now + self._ask_again_after + self._jitter(self._ask_again_after))

    def _ask(self, now: int) -> None:
        """Ask the target for all that has no answer; while that was done only lately, for one of it."""
        self._ask_again = False
        if now >= self._resend_at:
            self._resend(now, now, now)
            self._held_until = now - 1
            self._resend_at = now + self._retry_ns
            self._retry_ns = min(2 * self._retry_ns, LONGEST_RETRY_NS)
        else:
            self._probe(self._target)
        self.deadline = now + self._first_retry + self._jitter(self._first_retry // 4)

    def _jitter(self, duration: int) -> int:
        return self._random.randint(0, duration)

    def tick(self, now: int, part_at: int = 0) -> None:
        """Send again what has no answer, and probe others while the target is silent.

        `part_at` is when the target last sent a part of a large message, or told of one that is sent to it. It is not
        silent then. Were others asked as well, their answers would take turns with its own on a slow line.
        """
        if now < self.deadline:
            return
        if not self.in_flight and (self.session or not self._nonce):
            self.deadline = NEVER
            return
        if self._ask_again:
            self._ask(now)
            return
        if part_at > self._heard_at:
            self._heard_at, self._probed = part_at, 0
        silent_until = max(self._heard_at, self._oldest) + self._first_retry
        if self._probed or silent_until <= now:
            self._doubt(now)
        else:
            due = now - self._retry_ns
            calls_before, queries_before = self._calls_pace.lost_before(now), self._queries_pace.lost_before(now)
            self._resend(min(due, calls_before), min(due, queries_before), now)
            self.deadline = min(self.deadline, silent_until + self._jitter(self._first_retry // 4))

    def _doubt(self, now: int) -> None:
        """The target is silent: a datagram was lost, or it is slow, or dead. Ask it again, and probe another."""
        if not self._probed:
            self._probed = self._target
            self._probe_ns = self._ask_again_after
        if self._held or now >= self._resend_at:
            self._ask(now)
        self._probed = self._after(self._probed)
        if self._probed == self._target:
            self._probed = self._after(self._probed)
        if self._probed != self._target:
            self._probe(self._probed)
        self._probe_ns = min(self._probe_ns * 5 // 4, max(self._ask_again_after, _LONGEST_PROBE_NS))
        self.deadline = now + self._probe_ns + self._jitter(self._probe_ns // 2)

    def _probe(self, member: int) -> None:
        """One message that is to be answered or redirected; what it asks for is executed once wherever it is asked."""
        if not self.session and self._nonce:
            self._messages.append((member, Register(self._nonce)))
            return
        for request, sent in self._outstanding.items():
            self._messages.append((member, (self.session, request, self._mark, sent.body)))
            return
        for number, sent in self._queries.items():
            if not sent.to:
                self._messages.append((member, Query(number, sent.body)))
                return

    def _next_in_turn(self, other_than: int) -> int:
        """Each member in turn, whoever asked: of three that are cut off from the rest, two could name the third, and it
        know of none; asked from there on, only these would ever be asked."""
        self._turn = self._after(self._turn)
        if self._turn == other_than:
            self._turn = self._after(self._turn)
        return self._turn

    def _after(self, member: int) -> int:
        return self._members[(self._members.index(member) + 1) % len(self._members)]

    @property
    def _oldest(self) -> int:
        """When the oldest of what has no answer was last sent; requests are sent in order."""
        if not self.session and self._nonce:
            return self._heard_at
        return min([next(iter(sent.values())).at for sent in (self._outstanding, self._queries) if sent], default=NEVER)

    def _resend(self, calls_before: int, queries_before: int, now: int) -> None:
        """Send again the calls and queries that were last sent at or before these times."""
        if not self.session and self._nonce and not self.expired:
            self._messages.append((self._target, Register(self._nonce)))
        for request, sent in self._outstanding.items():
            if sent.at <= calls_before:
                sent.at = now
                self._messages.append((self._target, (self.session, request, self._mark, sent.body)))
        for number, sent in self._queries.items():
            if sent.at <= queries_before:
                sent.at = now
                self._messages.append((sent.to or self._target, Query(number, sent.body)))
        self.deadline = now + self._retry_ns + self._jitter(self._retry_ns // 4)

    def take_messages(self) -> list[tuple[int, ClientMessage]]:
        """What to send now: (member, message)."""
        return [(to, Request(*asked) if isinstance(asked, tuple) else asked) for to, asked in self.take_asked()]

    def take_asked(self) -> deque[tuple[int, Register | Query | RequestFields]]:
        """The same, with requests by their fields: for a member that asks itself no message need be made of them."""
        if self._backlog and self.session:
            self._issue(self._told_at)
        messages, self._messages = self._messages, deque()
        return messages

    def take_completions(self) -> list[Completion]:
        """What is over since the last call."""
        completions, self._completions = self._completions, []
        return completions
