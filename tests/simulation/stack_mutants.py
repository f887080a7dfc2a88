"""Hand-made bugs for the whole stack: each a small change to the real code that the simulation must find.

A bug that no run finds is a defect of the simulation: raise the odds of the state it needs (`stories.py`), not only
the number of seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import raft.invariants
import viewstamp.journal.journal as journal_module
import vsr.invariants
from raft import election, replication
from raft.messages import Appended, Vote
from raft.server import Role, Server
from statemachine.outcome import BEYOND_WINDOW_REPLY, EXPIRED_REPLY, STALE_REPLY
from statemachine.sessions import Sessions
from tests.simulation import stack_mutants_exam, stack_mutants_forwarded, stack_mutants_more, stack_mutants_replies
from tests.simulation.changes import Change, after, applied, before, early
from viewstamp.journal import Journal
from viewstamp.protocol import Configuration
from viewstamp.replica.requests import Requests
from vsr import normal, recovery, state_transfer, view_change
from vsr.core import ViewstampedReplication
from vsr.messages import DoViewChange, PrepareOk, StartView
from vsr.reads import Rounds
from vsr.replica import Purpose, VsrReplica, VsrStatus


@contextmanager
def from_outside() -> Iterator[None]:
    """Without the invariants that a protocol watches in itself: what the checkers outside are worth, alone."""
    with ExitStack() as stack:
        for module in (vsr.invariants, raft.invariants):
            stack.enter_context(patch.object(module.Invariants, "watch", lambda self, watched: None))
        yield


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug, what it breaks, and where it is looked for: at the seed `first`, which found it once, to save time.

    After it come those from 0 on, `seeds` of them at most. Of the catalogue here none is `rare`: all are found.
    """

    name: str
    breaks: str
    protocol: str
    changes: tuple[Change, ...]
    first: int = 0
    seeds: int = 150
    rare: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The code with this bug; without it again afterwards."""
        with applied(self.changes):
            yield


# Viewstamped Replication.


def _truncate_before_fetching(r: VsrReplica, purpose: Purpose, *_: object) -> None:
    if purpose is Purpose.JOIN:
        r.truncate(r.commit)


def _join_before_fetching(r: VsrReplica, view: int, target: int, number: int) -> None:
    if r.status is VsrStatus.STATE_TRANSFER and r.view < view:
        r.view = r.last_normal_view = view
        r.save()


def _take_part_at_once(r: VsrReplica, sender: int, view: int, op: int, number: int) -> None:
    if view > r.view and r.status is not VsrStatus.RECOVERING and sender == r.primary_of(view):
        r.view = r.last_normal_view = view
        r.save()
        r.become_backup("a message of a later view arrived")


def _resume_as_primary(core: Any, *_: object) -> None:
    r = core._r
    if r.is_primary and r.view == r.last_normal_view:
        r.restart_suspicion()
        r._sends = []
        normal.begin_as_primary(r, "restarted")


def _begin_at_once(r: VsrReplica) -> None:
    if r.view:
        normal.begin_as_primary(r, "view change complete")
        message: Any = StartView(r.view, r.log.op, r.commit)  # The type forbids it: it is a promise.
        r.broadcast(message)


def _apply_start_view_again(r: VsrReplica, sender: int, message: StartView) -> None:
    if r.status is VsrStatus.NORMAL and message.view == r.view and sender == r.primary_of(r.view):
        r.truncate(max(message.op, r.commit))


_receive = ViewstampedReplication.receive


def _count_the_superseded(self: Any, sender: int, incarnation: int, message: Any, now: Any) -> None:
    _receive(self, sender, max(incarnation, self._r.incarnations.get(sender, 0)), message, now)


def _recover_from_any(r: VsrReplica, sender: int, message: Any) -> None:
    asked = r.status is VsrStatus.RECOVERING and message.nonce == r.recovery_nonce and r.fetch is None
    if asked and r.primary_of(message.view) != r.me:
        state_transfer.begin(r, Purpose.RECOVER, message.view, sender, message.op, 0)
        state_transfer.finish_if_complete(r)


def _primary_counts_its_memory(r: VsrReplica) -> None:
    if r.status is VsrStatus.NORMAL and r.is_primary:
        held = sorted([backup.op for backup in r.acknowledged.values()] + [r.log.op], reverse=True)
        r.advance_commit(held[r.quorum - 1])


def _acknowledge_hearsay(r: VsrReplica, sender: int, message: Any) -> None:
    if r.status is VsrStatus.NORMAL and message.view == r.view and r.acknowledge_due:
        r.acknowledge_due = False
        r.promise(sender, PrepareOk(r.view, message.op, r.round_heard, r.now.wall, r.vector))


_VSR: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    (
        "prepareok-early",
        "PREPAREOK leaves before the entries it acknowledges are durable (VRR 4.1, with a disk).",
        (early(PrepareOk),),
    ),
    (
        "doviewchange-early",
        "DOVIEWCHANGE leaves before its view is durable: a restart comes back to the view that was given up.",
        (early(DoViewChange),),
    ),
    (
        "startview-early",
        "A primary begins its view before log and last normal view are durable: one view can begin twice.",
        (after(view_change, "begin_when_durable", _begin_at_once),),
    ),
    (
        "truncates-before-fetching",
        "State transfer cuts the log back to the commit-number before the new one is in hand (VRR 5.2, as printed).",
        (before(state_transfer, "begin", _truncate_before_fetching),),
    ),
    (
        "joins-before-fetching",
        "View and last normal view are adopted when a view is joined, before its log is in hand.",
        (after(state_transfer, "join", _join_before_fetching),),
    ),
    (
        "appends-across-views",
        "A backup that missed a view change appends what seems to follow its log (VRR 4.2, step 5).",
        (before(normal, "heard_primary", _take_part_at_once),),
    ),
    (
        "longest-log-wins",
        "The best log is chosen by its length, not by (last normal view, op) (VRR 4.2, step 3).",
        ((view_change, "_rank", lambda message: (message.op, message.last_normal_view)),),
    ),
    (
        "restarted-primary-resumes",
        "A restarted primary goes on in its view, though others hold what its own disk lacks.",
        (after(ViewstampedReplication, "_restart", _resume_as_primary),),
    ),
    (
        "startview-applied-again",
        "A delayed duplicate STARTVIEW cuts the log of a view that has gone on since.",
        (before(view_change, "on_start_view", _apply_start_view_again),),
    ),
    (
        "superseded-counted",
        "What a member said before it lost its disk counts after it (Michael et al., DISC 2017).",
        ((ViewstampedReplication, "receive", _count_the_superseded), (VsrReplica, "learn", lambda self, vector: None)),
    ),
    (
        "recovers-from-any",
        "A member that lost its disk takes the log of the first to answer (VRR 4.3).",
        ((recovery, "on_recovery_response", _recover_from_any),),
    ),
    (
        "primary-counts-memory",
        "A primary counts itself before its own write is durable.",
        ((normal, "count_commit", _primary_counts_its_memory),),
    ),
    (
        "acknowledges-hearsay",
        "A backup acknowledges what a heartbeat told of, not what its log holds (VRR 4.1, step 4).",
        (after(normal, "on_commit", _acknowledge_hearsay),),
    ),
    (
        "read-without-round",
        "A read is served without asking a majority whether a later view has begun.",
        ((Rounds, "confirmed_round", property(lambda self: self._r.round + 1)),),
    ),
    (
        "read-before-inherited",
        "A new primary serves a read before it has committed what its view began with.",
        ((Rounds, "read_index", property(lambda self: self._r.commit)),),
    ),
)

# Raft.


def _forget_vote(s: Server, term: int, *_: object) -> None:
    if term == s.view and s.vote:
        s.vote = 0
        s.save()


def _vote_again(s: Server, sender: int, message: Any) -> None:
    if message.term == s.view and s.role is Role.FOLLOWER and s.vote != s.me:
        s.vote = 0


def _count_any_term(s: Server) -> None:
    if s.role is Role.LEADER:
        held = sorted([progress.match for progress in s.progress.values()] + [s.log.durable], reverse=True)
        s.advance_commit(held[s.quorum - 1])


def _leader_counts_its_memory(s: Server) -> None:
    if s.role is Role.LEADER:
        held = sorted([progress.match for progress in s.progress.values()] + [s.log.op], reverse=True)
        index = held[s.quorum - 1]
        if index > s.commit and s.log.entry(index).view == s.view:
            s.advance_commit(index)


def _truncate_always(s: Server, entries: Any) -> None:
    if entries:
        s.truncate(max(entries[0].op - 1, s.commit))


def _keep_conflicts(s: Server, entries: Any, **_: object) -> None:
    s.adopt([entry for entry in entries if entry.op > s.log.op])


def _commit_unproved(s: Server, sender: int, message: Any) -> None:
    if message.term == s.view and s.leader == sender and s.role is Role.FOLLOWER:
        s.advance_commit(message.commit)


_promise = Server.promise


def _acknowledge_the_whole_log(self: Any, to: int, message: Any) -> None:
    if isinstance(message, Appended):
        message = Appended(message.term, self.log.op, message.round)
    _promise(self, to, message)


_RAFT: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    (
        "vote-early",
        "A vote leaves before it is durable: after a restart its member votes again (figure 2).",
        (early(Vote),),
    ),
    (
        "vote-forgotten",
        "A member that begins to follow within a term forgets its vote (figure 2: one vote per term).",
        (after(Server, "become_follower", _forget_vote),),
    ),
    (
        "votes-twice",
        "A member votes for every candidate of a term whose log is good enough (5.2).",
        (before(election, "on_request_vote", _vote_again),),
    ),
    (
        "votes-for-any-log",
        "A vote is given whatever the candidate's log holds (5.4.1).",
        ((election, "_up_to_date", lambda s, last_term, last_index: True),),
    ),
    (
        "commits-earlier-terms",
        "A leader commits entries of earlier terms by counting (5.4.2, figure 8).",
        ((replication, "count_commit", _count_any_term),),
    ),
    (
        "leader-counts-memory",
        "A leader counts itself before its own write is durable (dissertation 10.2.1).",
        ((replication, "count_commit", _leader_counts_its_memory),),
    ),
    (
        "appended-early",
        "A follower acknowledges entries before they are durable (dissertation 3.8).",
        (early(Appended),),
    ),
    (
        "truncates-on-every-append",
        "Every request cuts the log to its own end: an old one drops what was acknowledged since (5.3).",
        (before(replication, "_take", _truncate_always),),
    ),
    (
        "keeps-conflicts",
        "Entries that conflict with the leader's stay in the log (5.3).",
        ((replication, "_take", _keep_conflicts),),
    ),
    (
        "commits-unproved",
        "A follower commits beyond what the request has proved of its log (figure 2, last step).",
        (after(replication, "on_append_entries", _commit_unproved),),
    ),
    (
        "acknowledges-all",
        "A follower acknowledges its whole log, not what the request has proved of it.",
        ((Server, "promise", _acknowledge_the_whole_log),),
    ),
    (
        "read-without-round",
        "A leader serves a read without a round of heartbeats (dissertation 6.4).",
        ((Server, "confirmed_round", property(lambda self: self.round + 1)),),
    ),
    (
        "read-before-no-op",
        "A leader serves a read before the no-op of its term is committed (dissertation 6.4, step 1).",
        ((Server, "read_index", property(lambda self: self.commit)),),
    ),
)

# What both share: quorums, sessions, the body, the journal.

_admit, _lookup, _serve_reads = Sessions.admit, Sessions.lookup, Requests.serve_reads
_follow_standing = Requests.follow_standing


def _execute_again(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
    reply = _admit(self, session, request, mark)
    return None if session in self and request > self._table[session].mark else reply


def _look_up_no_reply(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
    found = _lookup(self, session, request, mark)
    return found if found in (EXPIRED_REPLY, STALE_REPLY, BEYOND_WINDOW_REPLY) else None


def _look_up_no_mark(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
    found = _lookup(self, session, request, mark)
    return None if found == STALE_REPLY else found


def _execute_passed(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
    found = self.lookup(session, request, mark)
    reply = _admit(self, session, request, mark)
    return None if found is None else reply


def _keep_pipeline(self: Any) -> None:
    kept = dict(self._in_flight)
    _follow_standing(self)
    self._in_flight = kept | self._in_flight


def _serve_at_once(self: Any) -> None:
    applied = self._applied.executor.applied
    self._served = [(min(op, applied), read) for op, read in self._served]
    _serve_reads(self)


def _skip_sync(self: Any) -> None:
    self._phase = journal_module._Phase.READY


_SHARED: tuple[tuple[str, str, tuple[Change, ...]], ...] = (
    (
        "quorum-too-small",
        "Half of the members are a quorum: two of them need not meet.",
        ((Configuration, "quorum", property(lambda self: max(1, len(self.members) // 2))),),
    ),
    (
        "duplicate-executed",
        "A request that comes again is executed again, though its reply is recorded (VRR 4.1, step 2).",
        ((Sessions, "lookup", _look_up_no_reply), (Sessions, "admit", _execute_again)),
    ),
    (
        "passed-request-executed",
        "A late duplicate of a request below its client's mark is executed, for its reply is forgotten.",
        ((Sessions, "lookup", _look_up_no_mark), (Sessions, "admit", _execute_passed)),
    ),
    (
        "pipeline-kept",
        "Requests that a change of primary dropped still count as in flight: their retries are swallowed.",
        ((Requests, "follow_standing", _keep_pipeline),),
    ),
    (
        "read-before-applied",
        "A confirmed read is served before the state machine has reached its op.",
        ((Requests, "serve_reads", _serve_at_once),),
    ),
    (
        "sync-skipped",
        "The journal reports batches as durable that were only written.",
        ((Journal, "sync", _skip_sync),),
    ),
    (
        "torn-tail-kept",
        "An unfinished batch at the journal's end stays, and the next is written behind it.",
        ((journal_module, "clean", lambda files, reader: None),),
    ),
)

_FIRST = {
    "raft/forwarded-mark": 6,
    "raft/viewstamp-before-snapshot": 7,
    "raft/dropped-replies-are-nothing": 7,
    "raft/dropped-replies-forgotten": 7,
    "raft/snapshot-of-live-store": 10,
    "raft/large-replies-restored-in-order": 10,
    "raft/reads-hide-silence": 13,
    "raft/unknown-kind-raises": 17,
    "raft/gathered-replies-forgotten": 17,
    "raft/gathered-called-again": 17,
    "raft/read-without-round": 19,
    "raft/read-counts-round-before": 19,
    "raft/read-joins-round": 19,
    "raft/reply-bytes-not-restored": 20,
    "raft/sync-retried": 25,
    "raft/incarnation-in-memory": 25,
    "raft/nothing-forwarded": 27,
    "raft/earlier-terms-not-answered": 29,
    "raft/questions-numbered-from-0": 34,
    "raft/replies-not-in-snapshot": 39,
    "raft/use-not-in-snapshot": 45,
    "raft/forwarded-registrations-unanswered": 47,
    "raft/up-to-date-in-both": 71,
    "raft/earlier-answers-counted": 85,
    "raft/commits-earlier-terms": 94,
    "vsr/round-kept-across-views": 6,
    "vsr/longest-log-wins": 7,
    "vsr/replies-not-in-snapshot": 7,
    "vsr/recovers-from-any": 10,
    "vsr/snapshot-of-live-store": 10,
    "vsr/early-prepares-kept": 11,
    "vsr/unknown-kind-raises": 17,
    "vsr/earlier-views-heard": 19,
    "vsr/read-joins-round": 25,
    "vsr/read-counts-round-before": 25,
    "vsr/any-recovery-answer": 26,
    "vsr/reads-hide-silence": 27,
    "vsr/read-before-inherited": 29,
    "vsr/questions-numbered-from-0": 29,
    "vsr/recovers-from-older-view": 34,
    "vsr/reply-bytes-not-restored": 38,
    "vsr/sync-retried": 42,
    "vsr/use-not-in-snapshot": 45,
    "vsr/nothing-forwarded": 62,
    "vsr/superseded-counted": 62,
    "vsr/forwarded-registrations-unanswered": 62,
    "vsr/older-file-removed-early": 101,
    "vsr/earlier-prepareoks-counted": 104,
    "vsr/superseded-doviewchange": 106,
    "vsr/newer-snapshot-in-hand": 222,
}


def _mutants(protocol: str, bugs: tuple[tuple[str, str, tuple[Change, ...]], ...]) -> tuple[Mutant, ...]:
    names = [f"{protocol}/{name}" for name, _, _ in bugs]
    return tuple(
        Mutant(name, breaks, protocol, changes, first=_FIRST.get(key, 0))
        for key, (name, breaks, changes) in zip(names, bugs, strict=True)
    )


_EVERYWHERE = (
    _SHARED
    + stack_mutants_more.SHARED
    + stack_mutants_exam.SHARED
    + stack_mutants_replies.SHARED
    + stack_mutants_forwarded.SHARED
)

CATALOGUE = (
    *_mutants("vsr", _VSR + stack_mutants_more.VSR + stack_mutants_exam.VSR),
    *_mutants("vsr", _EVERYWHERE),
    *_mutants("raft", _RAFT + stack_mutants_more.RAFT + stack_mutants_exam.RAFT),
    *_mutants("raft", _EVERYWHERE),
)
