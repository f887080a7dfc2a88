"""The state of one Raft server, and the small steps that every part of the protocol takes on it.

The parts (elections; replication and leadership transfer; snapshots) are modules of functions over this state;
`raft.core` dispatches events to them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from raft.messages import ReadIndex, ReadIndexReply, TermAndVote
from viewstamp.protocol import NEVER, Configuration, Member, ReadHost, Time, Transition, Wanted

_MESSAGES_IN_FLIGHT = 64
_BYTES_IN_FLIGHT = 4 * 1024 * 1024

LONGEST_STALL = 2
"""The election time-out is doubled so many times at most."""


class Role(StrEnum):
    """Section 5.1, and the candidate that only asks (dissertation 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(slots=True)
class Progress:
    """What a leader knows of one follower in its term.

    `match` is proved, `next` is a guess. While `probing`, one request at a time finds where the logs agree; otherwise
    requests are pipelined, and `in_flight` holds the last index and the bytes of each that is not answered
    (`in_flight_bytes` in all). Answers to rounds before `probe_round` are to requests from before it went back last.
    """

    next: int
    match: int = 0
    probing: bool = True
    probe_sent: bool = False
    probe_round: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    round: int = 0
    heard: int = 0

    @property
    def full(self) -> bool:
        """Whether nothing more is to be sent before an answer comes."""
        if self.probing:
            return self.probe_sent
        return len(self.in_flight) >= _MESSAGES_IN_FLIGHT or self.in_flight_bytes >= _BYTES_IN_FLIGHT

    def sent(self, index: int, size: int) -> None:
        """A request with entries up to `index`, of so many bytes, is on its way."""
        self.next = index + 1
        self.in_flight.append((index, size))
        self.in_flight_bytes += size

    def acknowledged(self) -> None:
        """What lies up to `match` is on its way no more."""
        while self.in_flight and self.in_flight[0][0] <= self.match:
            self.in_flight_bytes -= self.in_flight.popleft()[1]

    def probe(self, following: int) -> None:
        """Find anew, from index `following` on, where the logs agree: what was on its way counts no more."""
        self.next = following
        self.probing = True
        self.probe_sent = False
        self.in_flight.clear()
        self.in_flight_bytes = 0


class Server(Member, ReadHost):
    """All that one member knows. `view` is the term. Times are monotonic nanoseconds."""

    def __init__(self, configuration: Configuration, me: int, random: Random, now: Time) -> None:
        super().__init__(configuration, me, random, now)
        self.role = Role.FOLLOWER
        self.vote = 0
        self.leader = 0

        # Followers and candidates.
        self.heard_leader_at = now.monotonic
        self.election_at = NEVER
        self.stalled = 0  # elections of mine, since a leader was heard, that ran out of time
        self.votes: dict[int, bool] = {}
        self.vote_write = 0  # the write that must be durable before my own vote counts
        self.transferred = False
        self.resend_at = NEVER
        self.installing: Wanted | None = None  # the snapshot that this follower is fetching, and its leader
        self.round_heard = 0

        # Leader.
        self.progress: dict[int, Progress] = {}
        self.term_began_at = 0  # the index of this term's no-op
        self.heartbeat_at = NEVER
        self.check_quorum_at = NEVER
        self.leading_since = 0
        self.round = 0
        self.round_due = False
        self.heartbeat_due = False
        self.transfer_to = 0
        self.transfer_ends_at = NEVER

    @property
    def wanted(self) -> Wanted | None:
        return self.installing

    def save(self) -> None:
        """Term and vote go to disk with this turn's write, in one record."""
        self.record_state(TermAndVote(self.view, self.vote, self.vector))

    def explain(self, reason: str) -> None:
        """Tell people what changed and why."""
        self.transitions.append(Transition(self.role.value, self.contract_role, self.view, self.leader or None, reason))

    @property
    def contract_role(self) -> str:
        """The role in the words that all protocols share."""
        return "primary" if self.role is Role.LEADER else "backup"

    @property
    def last_term(self) -> int:
        """The term of the last entry, 0 for an empty log."""
        return self.log.viewstamp(self.log.op).view

    def restart_election_timer(self) -> None:
        """Drawn anew each time: equal draws would split votes for ever (5.2).

        A candidate waits for its own disk (`election.tick`), but a vote waits for its voter's, too: where that needs
        longer than a time-out, each election that ran out of time makes the next one wait longer, or none would be won.
        """
        wait = self.timeouts.suspect + self.random.randint(0, self.timeouts.suspect // 2 + self.timeouts.jitter)
        self.election_at = self.now.monotonic + (wait << min(self.stalled, LONGEST_STALL))

    def become_follower(self, term: int, leader: int, reason: str) -> None:
        """Follow `leader` (0: not known) in `term`. A vote is cleared only when the term grows, never within one.

        A follower that only learns of a term goes on waiting as before: a candidate whom nobody can elect, asking
        again and again, would keep all others from ever standing (5.2: only a leader or a granted vote restart it).
        """
        changed = self.role is not Role.FOLLOWER or self.leader != leader or term > self.view
        if self.role is not Role.FOLLOWER or leader:
            self.restart_election_timer()
        if term > self.view:
            self.view = term
            self.vote = 0
            self.save()
        if changed:
            self.installing = None
            self.round_heard = 0
        self.role = Role.FOLLOWER
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.pipeline_bytes = 0
        self.heartbeat_at = self.check_quorum_at = self.resend_at = self.transfer_ends_at = NEVER
        self.transfer_to = 0
        self.transferred = False
        if changed:
            self.explain(reason)

    def follow(self, term: int, sender: int) -> bool:
        """A leader of this term or a later one has spoken: follow it. False if it cannot be one."""
        if term > self.view or self.role is not Role.FOLLOWER or self.leader != sender:
            if term == self.view and self.role is Role.LEADER:
                self.ignore("a leader's request of my own term from another")
                return False
            self.become_follower(term, sender, f"member {sender} leads")
        self.heard_leader_at = self.now.monotonic
        self.stalled = 0
        self.restart_election_timer()
        return True

    # What reads need (ReadHost).

    @property
    def now_ns(self) -> int:
        return self.now.monotonic

    @property
    def read_view(self) -> int:
        return self.view

    @property
    def leads(self) -> bool:
        return self.role is Role.LEADER and not self.transfer_to

    @property
    def follows(self) -> int:
        return self.leader if self.role is Role.FOLLOWER else 0

    @property
    def read_index(self) -> int | None:
        return self.commit if self.commit >= self.term_began_at else None

    @property
    def newest_round(self) -> int:
        return self.round

    @property
    def confirmed_round(self) -> int:
        return sorted([p.round for p in self.progress.values()] + [self.round], reverse=True)[self.quorum - 1]

    def begin_round(self) -> None:
        self.round_due = True

    def ask(self, primary: int, view: int, number: int) -> None:
        self.send(primary, ReadIndex(view, number))

    def tell(self, member: int, view: int, number: int, op: int) -> None:
        self.send(member, ReadIndexReply(view, number, op))
