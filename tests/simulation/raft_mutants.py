"""Hand-made bugs of Raft: each is one small change to the real code, and one that some implementation once had.

As in `mutants`: `kills` names the properties that may notice it. Those named "liveness" are of members that wait for
ever, or that depose a leader whom a majority hears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from raft import election, replication
from raft.messages import Appended, AppendEntries, PreVote, PreVoteReply, RequestVote, TermAndVote, Vote
from raft.server import Role, Server
from tests.simulation.changes import Change, early
from tests.simulation.mutants import HISTORY, LIVENESS, PROMISES, READS, Mutant
from viewstamp.protocol import NEVER, Configuration, Log, ReadReady, Reads

RAFT_MUTANTS: list[Mutant] = []
VOTES = HISTORY | {"monotone"}


def mutant(name: str, kills: frozenset[str]) -> Callable[[Callable[[], list[Change]]], None]:
    """Enter a bug into the catalogue; the function gives what it replaces."""

    def enter(make: Callable[[], list[Change]]) -> None:
        RAFT_MUTANTS.append(Mutant(name, kills, tuple(make()), protocol="raft"))

    return enter


# Durability of promises.


@mutant("a vote leaves before it is durable", PROMISES)
def _() -> list[Change]:
    return [early(Vote)]


@mutant("a candidate asks for votes before its own is durable", PROMISES)
def _() -> list[Change]:
    return [early(RequestVote)]


@mutant("a follower acknowledges before its write is durable", PROMISES)
def _() -> list[Change]:
    return [early(Appended)]


@mutant("the vote is not in the durable state", PROMISES)
def _() -> list[Change]:
    def save(self: Server) -> None:
        self.record_state(TermAndVote(self.view, 0, self.vector))

    return [(Server, "save", save)]


@mutant("a candidate counts its own vote before it is durable", HISTORY)
def _() -> list[Change]:
    original = election.stand

    def stand(s: Server, reason: str, *, transferred: bool = False) -> None:
        original(s, reason, transferred=transferred)
        s.votes[s.me] = True
        election._lead_if_elected(s)

    return [(election, "stand", stand)]


@mutant("the leader counts itself before its write is durable", HISTORY)
def _() -> list[Change]:
    def count_commit(s: Server) -> None:
        if s.role is Role.LEADER:
            held = sorted([progress.match for progress in s.progress.values()] + [s.log.op], reverse=True)
            index = held[s.quorum - 1]
            if index > s.commit and s.log.entry(index).view == s.view:
                s.advance_commit(index)

    return [(replication, "count_commit", count_commit)]


@mutant("a write in flight counts for the entries that replaced those it holds", HISTORY)
def _() -> list[Change]:
    def truncate(self: Log, after: int) -> None:
        if after < self.op:
            del self._entries[after - self.base :]

    return [(Log, "truncate", truncate)]


# Elections.


@mutant("the log is up to date that is at least as long", HISTORY)
def _() -> list[Change]:
    return [(election, "_up_to_date", lambda s, last_term, last_index: last_index >= s.log.op)]


@mutant("the log is up to date whose last term is not earlier", HISTORY)
def _() -> list[Change]:
    return [(election, "_up_to_date", lambda s, last_term, last_index: last_term >= s.last_term)]


@mutant("the log is up to date only if it is later in term and in length", LIVENESS)
def _() -> list[Change]:
    def up_to_date(s: Server, last_term: int, last_index: int) -> bool:
        return last_term >= s.last_term and last_index >= s.log.op

    return [(election, "_up_to_date", up_to_date)]


@mutant("to see a later term is to grant a vote", VOTES)
def _() -> list[Change]:
    asked, requested = election.on_pre_vote, election.on_request_vote

    def on_pre_vote(s: Server, sender: int, message: PreVote) -> None:
        asked(s, sender, replace(message, last_term=message.term) if message.term > s.view else message)

    def on_request_vote(s: Server, sender: int, message: RequestVote) -> None:
        requested(s, sender, replace(message, last_term=message.term) if message.term > s.view else message)

    return [(election, "on_pre_vote", on_pre_vote), (election, "on_request_vote", on_request_vote)]


@mutant("the vote is cleared when a candidate begins to follow in its own term", VOTES)
def _() -> list[Change]:
    original = Server.become_follower

    def become_follower(self: Server, term: int, leader: int, reason: str) -> None:
        if term == self.view and self.role is not Role.FOLLOWER:
            self.vote = 0
            self.save()
        original(self, term, leader, reason)

    return [(Server, "become_follower", become_follower)]


@mutant("every candidate of a term gets a vote", VOTES)
def _() -> list[Change]:
    original = election.on_request_vote

    def on_request_vote(s: Server, sender: int, message: RequestVote) -> None:
        if message.term == s.view and s.role is Role.FOLLOWER:
            s.vote = 0
        original(s, sender, message)

    return [(election, "on_request_vote", on_request_vote)]


@mutant("votes of another term count", HISTORY)
def _() -> list[Change]:
    original = election.on_vote

    def on_vote(s: Server, sender: int, message: Vote) -> None:
        if message.term < s.view:
            message = replace(message, term=s.view)
        original(s, sender, message)

    return [(election, "on_vote", on_vote)]


@mutant("the answers to a pre-vote count as votes", HISTORY)
def _() -> list[Change]:
    original = election.stand

    def stand(s: Server, reason: str, *, transferred: bool = False) -> None:
        welcomed = dict(s.votes) if s.role is Role.PRE_CANDIDATE else {}
        original(s, reason, transferred=transferred)
        s.votes = {member: granted for member, granted in welcomed.items() if member != s.me}

    return [(election, "stand", stand)]


@mutant("votes are counted instead of voters", HISTORY)
def _() -> list[Change]:
    asked, voted = election.on_pre_vote_reply, election.on_vote

    def on_pre_vote_reply(s: Server, sender: int, message: PreVoteReply) -> None:
        if message.granted and message.term == s.view + 1 and s.role is Role.PRE_CANDIDATE and sender in s.votes:
            s.votes[-len(s.votes)] = True
        asked(s, sender, message)

    def on_vote(s: Server, sender: int, message: Vote) -> None:
        if message.granted and message.term == s.view and s.role is Role.CANDIDATE and sender in s.votes:
            s.votes[-len(s.votes)] = True
        voted(s, sender, message)

    return [(election, "on_pre_vote_reply", on_pre_vote_reply), (election, "on_vote", on_vote)]


@mutant("a vote is not asked for twice", LIVENESS)
def _() -> list[Change]:
    original = election.tick

    def tick(s: Server) -> None:
        if s.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
            s.resend_at = s.election_at = s.now.monotonic + 1_000_000_000_000
        original(s)

    return [(election, "tick", tick)]


@mutant("half of an even number of members is a quorum", HISTORY)
def _() -> list[Change]:
    return [(Configuration, "quorum", property(lambda self: (len(self.members) + 1) // 2))]


@mutant("no pre-vote, and nobody sticks to a leader", LIVENESS)
def _() -> list[Change]:
    def start_pre_vote(s: Server, reason: str) -> None:
        election.stand(s, reason)

    return [(election, "start_pre_vote", start_pre_vote), (election, "_sticks", lambda s: False)]


@mutant("nobody sticks to a leader whom it hears", LIVENESS)
def _() -> list[Change]:
    return [(election, "_sticks", lambda s: False)]


@mutant("a pre-vote is answered in the term that it asks about", LIVENESS)
def _() -> list[Change]:
    original = election.on_pre_vote

    def on_pre_vote(s: Server, sender: int, message: PreVote) -> None:
        if message.term > s.view:
            s.become_follower(message.term, 0, "mutant")
        original(s, sender, message)

    return [(election, "on_pre_vote", on_pre_vote)]


@mutant("a pre-candidate raises its term when it asks", LIVENESS)
def _() -> list[Change]:
    original = election.start_pre_vote

    def start_pre_vote(s: Server, reason: str) -> None:
        s.view += 1
        s.vote = 0
        s.save()
        original(s, reason)

    return [(election, "start_pre_vote", start_pre_vote)]


@mutant("a leader that nobody answers goes on leading", LIVENESS)
def _() -> list[Change]:
    return [(replication, "_doubt", lambda s, now: "")]


# Replication.


@mutant("entries of earlier terms are committed by counting", HISTORY)
def _() -> list[Change]:
    def count_commit(s: Server) -> None:
        if s.role is Role.LEADER:
            held = sorted([progress.match for progress in s.progress.values()] + [s.log.durable], reverse=True)
            s.advance_commit(held[s.quorum - 1])

    return [(replication, "count_commit", count_commit)]


@mutant("commit with one acknowledgement too few", HISTORY)
def _() -> list[Change]:
    def count_commit(s: Server) -> None:
        if s.role is Role.LEADER:
            held = sorted([progress.match for progress in s.progress.values()] + [s.log.durable], reverse=True)
            index = held[max(0, s.quorum - 2)]
            if index > s.commit and s.log.entry(index).view == s.view:
                s.advance_commit(index)

    return [(replication, "count_commit", count_commit)]


@mutant("every request cuts the log to its own end", HISTORY)
def _() -> list[Change]:
    original = replication._take

    def take(s: Server, entries: Any, *, fresh: bool) -> None:
        if entries:
            s.truncate(max(entries[0].op - 1, s.commit))
            entries = entries[max(0, s.commit - entries[0].op + 1) :]
        original(s, entries, fresh=fresh)

    return [(replication, "_take", take)]


@mutant("entries that conflict stay in the log", HISTORY)
def _() -> list[Change]:
    def take(s: Server, entries: Any, *, fresh: bool) -> None:
        s.adopt([entry for entry in entries if entry.op > s.log.op])

    return [(replication, "_take", take)]


@mutant("a follower commits up to the end of its log", HISTORY)
def _() -> list[Change]:
    original = replication.on_append_entries

    def on_append_entries(s: Server, sender: int, message: AppendEntries) -> None:
        original(s, sender, message)
        if message.term == s.view and s.leader == sender and not replication._mismatch(s, message):
            s.advance_commit(message.commit)

    return [(replication, "on_append_entries", on_append_entries)]


@mutant("a follower acknowledges its whole log", HISTORY)
def _() -> list[Change]:
    original = Server.promise

    def promise(self: Server, to: int, message: Any) -> None:
        if isinstance(message, Appended):
            message = replace(message, match=self.log.op)
        original(self, to, message)

    return [(Server, "promise", promise)]


@mutant("the entry before is not compared", HISTORY)
def _() -> list[Change]:
    def mismatch(s: Server, message: AppendEntries) -> int:
        return s.log.op + 1 if message.prev_index > s.log.op else 0

    return [(replication, "_mismatch", mismatch)]


@mutant("what lies below the commit index counts as a conflict", HISTORY | LIVENESS)
def _() -> list[Change]:
    original = replication._mismatch

    def mismatch(s: Server, message: AppendEntries) -> int:
        if 0 < message.prev_index < s.commit:
            return message.prev_index
        return original(s, message)

    return [(replication, "_mismatch", mismatch)]


@mutant("acknowledgements of an earlier term raise what a follower holds", HISTORY)
def _() -> list[Change]:
    original = replication.on_appended

    def on_appended(s: Server, sender: int, message: Appended) -> None:
        if message.term < s.view:
            message = replace(message, term=s.view, round=0)
        original(s, sender, message)

    return [(replication, "on_appended", on_appended)]


@mutant("what a leader knew of its followers in an earlier term is kept", HISTORY | LIVENESS)
def _() -> list[Change]:
    follow, lead_anew = Server.become_follower, election._lead

    def become_follower(self: Server, term: int, leader: int, reason: str) -> None:
        progress = self.progress
        follow(self, term, leader, reason)
        self.progress = progress

    def lead(s: Server) -> None:
        before = s.progress
        lead_anew(s)
        for member, progress in s.progress.items():
            if member in before:
                # With the first entry of the new term: below that nothing is counted, whatever is believed of it.
                progress.match = min(before[member].match, s.log.op)

    return [(Server, "become_follower", become_follower), (election, "_lead", lead)]


@mutant("a deposed leader still handles acknowledgements", HISTORY)
def _() -> list[Change]:
    original, followed = replication.on_appended, Server.become_follower

    def become_follower(self: Server, term: int, leader: int, reason: str) -> None:
        progress = self.progress
        followed(self, term, leader, reason)
        self.progress = progress

    def on_appended(s: Server, sender: int, message: Appended) -> None:
        if s.role is Role.FOLLOWER and message.term <= s.view and sender in s.progress:
            s.progress[sender].match = max(s.progress[sender].match, message.match)
            held = sorted([progress.match for progress in s.progress.values()] + [s.log.durable], reverse=True)
            s.advance_commit(held[s.quorum - 1])
        else:
            original(s, sender, message)

    return [(Server, "become_follower", become_follower), (replication, "on_appended", on_appended)]


@mutant("a lost request is never sent again", LIVENESS)
def _() -> list[Change]:
    original = replication.on_rejected

    def on_rejected(s: Server, sender: int, message: Any) -> None:
        progress = s.progress.get(sender)
        known = progress.next if progress is not None else 0
        original(s, sender, message)
        if progress is not None and s.role is Role.LEADER and message.term == s.view:
            progress.next = max(progress.next, known)

    return [(replication, "on_rejected", on_rejected)]


@mutant("requests of an earlier term are taken", HISTORY | {"monotone"})
def _() -> list[Change]:
    original = replication.on_append_entries

    def on_append_entries(s: Server, sender: int, message: AppendEntries) -> None:
        if message.term < s.view and s.role is Role.FOLLOWER and message.entries:
            message = replace(message, term=s.view)
        original(s, sender, message)

    return [(replication, "on_append_entries", on_append_entries)]


@mutant("a leader begins its term without an entry of its own", LIVENESS | READS)
def _() -> list[Change]:
    original = Server.order

    def order(self: Server, proposals: Any) -> int:
        return original(self, [each for each in proposals if each.session]) if proposals else 0

    return [(Server, "order", order)]


# Transfer of leadership.


@mutant("a transfer of leadership has no end", LIVENESS)
def _() -> list[Change]:
    original = replication.transfer

    def transfer(s: Server, target: int) -> None:
        original(s, target)
        s.transfer_ends_at = NEVER

    return [(replication, "transfer", transfer)]


@mutant("TIMEOUTNOW of anyone makes its receiver lead at once", HISTORY)
def _() -> list[Change]:
    def on_timeout_now(s: Server, sender: int, message: Any) -> None:
        if s.role is Role.FOLLOWER:
            election.stand(s, "mutant", transferred=True)
            election._lead(s)

    return [(election, "on_timeout_now", on_timeout_now)]


# Reads.


@mutant("a read is served before the first commit of the term", READS)
def _() -> list[Change]:
    return [(Server, "read_index", property(lambda self: self.commit))]


@mutant("a read is served without asking a majority", READS)
def _() -> list[Change]:
    return [(Server, "confirmed_round", property(lambda self: self.round))]


@mutant("a round that began before the read confirms it", READS)
def _() -> list[Change]:
    original = Server.confirmed_round.fget  # type: ignore[attr-defined]  # a property's function

    return [(Server, "confirmed_round", property(lambda self: original(self) + 1))]


@mutant("answers to heartbeats confirm whatever read is the newest", READS)
def _() -> list[Change]:
    original = replication._answered

    def answered(s: Server, sender: int, term: int, number: int) -> Any:
        return original(s, sender, term, s.round if s.role is Role.LEADER else number)

    return [(replication, "_answered", answered)]


@mutant("a read takes the commit index of whoever is asked", READS)
def _() -> list[Change]:
    def read(self: Any, number: int) -> None:
        self._done.append(ReadReady(number, self._host.commit))

    return [(Reads, "read", read)]
