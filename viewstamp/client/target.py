"""Whom a session asks, and what it asks again, from what is answered and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from viewstamp.client.pace import LONGEST_RETRY_NS, Pace
from viewstamp.protocol import MILLISECOND, NEVER

_LONGEST_PROBE_NS = 250 * MILLISECOND
_FORWARDED_NS = 1000 * MILLISECOND
_LONGEST_FORWARDED_NS = 64 * _FORWARDED_NS


class Resend(NamedTuple):
    """A member is asked again for all that was last sent at or before these times."""

    to: int
    calls_before: int
    queries_before: int


class Probe(NamedTuple):
    """A member is asked for one of the calls and queries without an answer, whatever others are asked for; with
    `forward`, to have a call executed by the primary."""

    to: int
    forward: bool = False


Again = Sequence[Resend | Probe]
"""What is to be asked now, in this order, of what has no answer."""


class Target:
    """The `member` that a session asks. Each is tried in turn until one is the primary, or knows it.

    As a rule it is the one that the session takes for the `primary`. Where that is silent for long, and another one
    gets answers from it, the session has this other one forward all it asks for: a client that is cut off from the
    primary alone must not be worse off than the members are. A second later a call tries the primary itself; while that
    stays silent, after 2, 4 and so on up to 64 seconds, since each try may cost the call a wait.

    It knows since when the target is silent, whom else it has had asked meanwhile, and at what pace answers come. It is
    told what happens (`asked`, `calling`, `heard`, `redirected`, `tick`, `rest`), and answers with what to ask again;
    it sends nothing itself. Times are monotonic nanoseconds.

    What has no answer after `retry_ns` (twice that the next time, and so on) is sent again; while others are answered,
    only what seems lost. While the target stays silent, another member is probed with a single message every quarter of
    it, more and more slowly: it is the primary, or names another, or agrees, and then the silence was a lost datagram.
    It is asked to forward only after three times `retry_ns`: of a primary that is slow, since it has much to do, all
    members would ask what its clients have asked for already. Sooner where the primary was silent the last time, too.

    A cluster without a primary, all of whose members live, answers each question at once, and says only that. However
    many calls wait, it is asked for one of them, until somebody answers that; for all of them no more often than a
    cluster that is silent.
    """

    def __init__(self, members: Sequence[int], *, random: Random, home: int | None, retry_ns: int) -> None:
        self._members = tuple(members)
        self._random = random
        self._first_retry = retry_ns
        self._ask_again_after = max(1, retry_ns // 4)
        self.home = home
        """The member that asks, if it is one."""
        self.member = home if home is not None else random.choice(self._members)
        self.primary = self.member
        """Whom the session takes for the primary: while `member` is another one, it is asked to forward."""
        self.deadline = NEVER
        """When `tick` is wanted next."""
        self.calls_pace = Pace()
        self.queries_pace = Pace()

        self._heard_at = 0
        self._retry_ns = retry_ns
        self._resend_at = 0  # when everything may be sent again to whoever has not answered yet
        self._ask_again = False  # a redirection is followed at the deadline
        self._followed_at = -retry_ns
        self._turn = self.member
        self._held = False  # this target was turned to and has not answered yet
        self._held_until = 0  # what was last sent up to then is sent to it when it does
        self._silent = 0  # who was taken for the primary, was silent, and was not heard since; 0 for nobody
        self._silent_since = 0
        self._probed = 0  # the member probed last while the target is silent, 0 while it is not
        self._probed_last = self.member  # the same in any silence
        self._asks_to_forward = False  # whether who is probed is asked to forward
        self._probe_ns = 0
        self._forwarded_until = 0  # when a call tries the primary itself again
        self._forwarded_ns = _FORWARDED_NS

    @property
    def reader(self) -> int:
        """Whom to ask for a read: any member can serve one, so a replica asks itself first."""
        return self.home if self.home is not None else self.member

    # Questions.

    def asked(self, now: int) -> None:
        """Something is asked that is to have an answer."""
        if self.deadline == NEVER:
            self._hopeful(now)
            self.deadline = now + self._retry_ns

    @property
    def forwards(self) -> bool:
        """Whether the member that is asked is not the primary, and is to forward."""
        return self.member != self.primary

    def calling(self, now: int) -> None:
        """A call is made: perhaps the primary is to be heard again."""
        if self.forwards and now >= self._forwarded_until:
            self._take(self.primary, now)
            self._held_until = now - 1  # This call, and those made with it, are sent to the primary itself.

    def rest(self) -> None:
        """Everything has its answer."""
        self.deadline = NEVER

    # Answers.

    def heard(self, sender: int, now: int, *, reads: bool = False) -> Again:
        """A member answered as a primary does, or as who knows one; if it `reads`, any that is not cut off can."""
        if sender == self._silent:
            self._silent = 0
        if sender != self.member:
            if sender != self.primary and (not self._probed or sender not in self._members):
                return ()  # An answer to an earlier attempt.
            if reads or not self._asks_to_forward:
                self.primary = sender  # It is the primary, or at least alive.
            elif sender == self.home and sender != self.primary:
                return ()  # It remembers what was executed, and reaches the primary no better than its own session.
            # Everything else goes there too.
            self.member, self._followed_at, self._held, self._held_until = sender, now, True, now
            if self.forwards:
                self._forwarded_until = now + self._forwarded_ns
                self._forwarded_ns = min(2 * self._forwarded_ns, _LONGEST_FORWARDED_NS)
        if sender == self.primary:
            self._forwarded_ns = _FORWARDED_NS
        if self._probed or self._held:
            self.calls_pace.begin(now)
            self.queries_pace.begin(now)
            self.deadline = min(self.deadline, now + self._first_retry)
        self._hopeful(now)
        if not self._held:
            return ()
        self._held = False
        # What it was sent itself, and has been silent about for long, it may not have been ready for.
        before = max(self._held_until, now - self._first_retry)
        return self._resend(before, before, now)

    def _hopeful(self, now: int) -> None:
        """No silence: all waits are short again."""
        self._heard_at = now
        self._probed = self._resend_at = 0
        self._retry_ns = self._first_retry
        self._ask_again = False

    def redirected(self, sender: int, primary: int, now: int) -> Again:
        """A member is not the primary, and names it, or knows of none."""
        if sender == self._silent:
            self._silent = 0
        if sender != self.member and sender != self.reader and not self._probed:
            return ()  # An answer to an earlier attempt.
        if primary not in self._members:
            if sender != self.member:
                return ()
            # It may be cut off from all others, and say so for as long as one cares to ask: the next one, soon.
            return self._turn_to(self._next_in_turn(sender), now, at_once=False)
        if primary == self.primary:
            return ()
        # Two members that name each other must not be asked in turn as fast as they answer.
        return self._turn_to(primary, now, at_once=now - self._followed_at >= self._ask_again_after)

    def _turn_to(self, member: int, now: int, *, at_once: bool) -> Again:
        """Ask this member from now on, as the primary."""
        self._take(member, now)
        if at_once:
            return self._ask(now)
        if not self._ask_again:
            self._ask_again = True
            self.deadline = min(self.deadline, now + self._ask_again_after + self._jitter(self._ask_again_after))
        return ()

    def _take(self, primary: int, now: int) -> None:
        self.member = self.primary = primary
        self._held = True
        self._probed = 0
        self._heard_at = self._followed_at = self._held_until = now

    def _next_in_turn(self, other_than: int) -> int:
        """Each member in turn, whoever asked: of three that are cut off from the rest, two could name the third, and it
        know of none; asked from there on, only these would ever be asked."""
        self._turn = self._after(self._turn)
        if self._turn == other_than:
            self._turn = self._after(self._turn)
        return self._turn

    def _after(self, member: int) -> int:
        return self._members[(self._members.index(member) + 1) % len(self._members)]

    # Silence.

    def tick(self, now: int, oldest: int, part_at: int) -> Again:
        """The deadline has passed: what has no answer is asked again, and others are probed while the target is silent.

        `oldest` is when the oldest of what has no answer was last sent. `part_at` is when the target last sent a part
        of a large message, or told of one that is sent to it: it is not silent then. Were others asked as well, their
        answers would take turns with its own on a slow line.
        """
        if self._ask_again:
            return self._ask(now)
        if part_at > self._heard_at:
            self._heard_at, self._probed = part_at, 0
        silent_since = max(self._heard_at, oldest)
        silent_until = silent_since + self._first_retry
        if not self._probed and silent_until <= now:
            self._begin_doubt(silent_since)
        if self._probed:
            return self._doubt(now)
        due = now - self._retry_ns
        calls_before, queries_before = self.calls_pace.lost_before(now), self.queries_pace.lost_before(now)
        again = self._resend(min(due, calls_before), min(due, queries_before), now)
        self.deadline = min(self.deadline, silent_until + self._jitter(self._first_retry // 4))
        return again

    def _begin_doubt(self, silent_since: int) -> None:
        """Who is probed first is whoever comes after the last one, in any silence.

        A member that hears no other may name a primary of long ago, and that one the present one, which this client
        does not hear: were it the first each time, nobody would ever be asked to forward.
        """
        self._probed, self._probe_ns = self._probed_last, self._ask_again_after
        if self._silent != self.primary:
            self._silent, self._silent_since = self.primary, silent_since

    def _doubt(self, now: int) -> Again:
        """The target is silent: a datagram was lost, or it is slow, or dead. Ask it again, and probe another."""
        again = [*self._ask(now)] if self._held or now >= self._resend_at else []
        self._probed = self._after(self._probed)
        if self._probed == self.member:
            self._probed = self._after(self._probed)
        self._probed_last = self._probed
        # A member whose own session asks it for too much is not to be asked by the others as well.
        self._asks_to_forward = now - self._silent_since >= 3 * self._first_retry and self.primary != self.home
        if self._probed != self.member:
            again.append(Probe(self._probed, self._asks_to_forward and self._probed not in (self.primary, self.home)))
        self._probe_ns = min(self._probe_ns * 5 // 4, max(self._ask_again_after, _LONGEST_PROBE_NS))
        self.deadline = now + self._probe_ns + self._jitter(self._probe_ns // 2)
        return again

    # What is asked again.

    def _ask(self, now: int) -> Again:
        """Ask the target for all that has no answer; while that was done only lately, for one of it."""
        self._ask_again = False
        again: Again = (Probe(self.member, self.forwards),)
        if now >= self._resend_at:
            again = self._resend(now, now, now)
            self._held_until = now - 1
            self._resend_at = now + self._retry_ns
            self._retry_ns = min(2 * self._retry_ns, LONGEST_RETRY_NS)
        self.deadline = now + self._first_retry + self._jitter(self._first_retry // 4)
        return again

    def _resend(self, calls_before: int, queries_before: int, now: int) -> Again:
        self.deadline = now + self._retry_ns + self._jitter(self._retry_ns // 4)
        return (Resend(self.member, calls_before, queries_before),)

    def _jitter(self, duration: int) -> int:
        return self._random.randint(0, duration)
