"""The messages of Raft, under their names in the papers, and what makes one well-formed.

Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), and Ongaro's dissertation
(2014), by section. Statements may leave at once, promises after the write they depend on.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import assert_never

from viewstamp.protocol import Entry, Promise, Snapshot, State, Statement, misnamed


@dataclass(frozen=True, slots=True)
class PreVote(Statement):
    """Would you vote for me in `term`? Changes nothing at either end (dissertation 9.6)."""

    term: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVoteReply(Statement):
    """Granted: `term` is the question's. Refused: it is the sender's own, so that one that is behind catches up."""

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class RequestVote(Promise):
    """A candidate asks for votes (5.2). A promise: its term and its vote for itself are durable before it leaves.

    `transfer` says that the leader itself has asked for this election (dissertation 3.10).
    """

    term: int
    last_index: int
    last_term: int
    transfer: bool


@dataclass(frozen=True, slots=True)
class Vote(Promise):
    """Answer to REQUESTVOTE; term and vote are durable, in one record, before it leaves."""

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class AppendEntries(Statement):
    """Leader to follower (5.3): replicate, heartbeat, and read round in one.

    It may leave while the leader's own write is under way (dissertation 10.2.1).
    """

    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int

    @property
    def label(self) -> Hashable:
        """The same entries, in whichever round; a heartbeat has none."""
        return (AppendEntries, self.term, self.prev_index) if self.entries else None


@dataclass(frozen=True, slots=True)
class InstallSnapshot(Statement):
    """Leader to a follower whose next entries are in no log any more (section 7): fetch this snapshot, and install it.

    The fields from `last_term` to `digest` are the snapshot's name. Its bytes are asked for by the follower, piece by
    piece, rather than pushed. Repeated as the heartbeat for as long as it takes; `round` is the read round.
    """

    term: int
    last_term: int
    last_index: int
    stamp: int
    size: int
    digest: bytes
    round: int

    @property
    def snapshot(self) -> Snapshot:
        """Which snapshot is meant."""
        return Snapshot(self.last_term, self.last_index, self.stamp, self.size, self.digest)


@dataclass(frozen=True, slots=True)
class Installing(Statement):
    """Answer to INSTALLSNAPSHOT while it is being fetched: I follow you. APPENDED comes when it is installed."""

    term: int
    round: int


@dataclass(frozen=True, slots=True)
class Appended(Promise):
    """Success: my log equals yours up to `match`, durably. `match` is what that very request proved, never more."""

    term: int
    match: int
    round: int


@dataclass(frozen=True, slots=True)
class Rejected(Promise):
    """My log has no entry of that term at `prev_index`; try from `hint` on (fast back-tracking, 5.3).

    Also the answer to any request of an earlier term: its sender learns `term`.
    """

    term: int
    prev_index: int
    hint: int
    round: int


@dataclass(frozen=True, slots=True)
class TimeoutNow(Statement):
    """Leader to the follower that is to take over (dissertation 3.10): start an election at once."""

    term: int


@dataclass(frozen=True, slots=True)
class ReadIndex(Statement):
    """Follower to leader (dissertation 6.4): a linearizable read arrived here; which index must it wait for?"""

    term: int
    number: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply(Statement):
    """Answer to READINDEX, after a majority confirmed the leader in a round begun after the question."""

    term: int
    number: int
    index: int


@dataclass(frozen=True, slots=True)
class TermAndVote(State):
    """What a member keeps beside its log, in one record: `vote` is the member voted for in `term`, 0 for none.

    Written in two steps, a crash in between could vote twice in one term.
    """

    term: int
    vote: int
    incarnations: tuple[int, ...]


RaftMessage = (
    PreVote
    | PreVoteReply
    | RequestVote
    | Vote
    | AppendEntries
    | InstallSnapshot
    | Installing
    | Appended
    | Rejected
    | TimeoutNow
    | ReadIndex
    | ReadIndexReply
)

FARTHEST_TERM = 1 << 40
"""No honest member is this far ahead; a message that says so is damaged, and must not use up the numbers."""


def malformed(message: RaftMessage, term: int) -> str:
    """Why no correct member could have sent this to one in `term`, or an empty string.

    Peers' input never reaches an invariant.
    """
    if message.term > term + FARTHEST_TERM:
        return "a term out of range"
    match message:
        case AppendEntries(entries=entries, prev_index=index, prev_term=previous):
            if message.term == 0 or any(entry.view == 0 for entry in entries):
                return "no term"  # Terms begin with 1: that of an entry would be taken for that of none.
            if (index == 0) != (previous == 0):
                return "a term without an index"
            if entries and entries[0].op != index + 1:
                return "entries that do not follow their index"
            for entry in entries:
                if entry.view < previous:
                    return "terms of entries fall"
                previous = entry.view
            return "" if previous <= message.term else "an entry from a later term"
        case InstallSnapshot(term=offered):
            return misnamed(message.snapshot, offered) if message.last_term else "no term"
        case PreVote() | RequestVote():
            return "" if message.last_term <= message.term else "a log from a later term"
        case PreVoteReply() | Vote() | Appended() | Rejected() | Installing():
            return ""
        case TimeoutNow() | ReadIndex() | ReadIndexReply():
            return ""
        case _:
            assert_never(message)
