"""More hand-made bugs for the whole stack, written down before anyone knew which of them would be found.

Each is what somebody might do who wants to slip a bug past the simulation: a rule that matters once in a long while, at
a place where several things must meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import viewstamp.journal.journal as journal_module
from raft import election, replication
from raft.server import Role, Server
from statemachine import KeyValueStore, key_value
from statemachine.executor import Executor
from statemachine.sessions import Sessions
from tests.simulation.changes import Change, after, before, early
from viewstamp.client import ClientSession
from viewstamp.journal import Journal, SnapshotFiles, SnapshotRecord, StorageFailedError
from viewstamp.journal.opening import prepare
from viewstamp.journal.reading import segment_names
from viewstamp.journal.snapshot_files import UNFINISHED_NAME, snapshot_name
from viewstamp.protocol import Reads
from viewstamp.replica.retention import Retention
from vsr import normal, recovery, state_transfer, view_change
from vsr.messages import PrepareOk, RecoveryResponse
from vsr.reads import Rounds
from vsr.replica import Purpose, VsrReplica, VsrStatus

Bugs = tuple[tuple[str, str, tuple[Change, ...]], ...]

_snapshot_of_sessions = Sessions.snapshot

# Viewstamped Replication.

_on_do_view_change = view_change.on_do_view_change
_begin_transfer, _promise_vsr = state_transfer.begin, VsrReplica.promise
_on_recovery_response = recovery.on_recovery_response


def _count_those_of_any_view(r: VsrReplica, sender: int, message: Any) -> None:
    if message.view < r.view and r.status is VsrStatus.VIEW_CHANGE and r.is_primary:
        message = replace(message, view=r.view)
    _on_do_view_change(r, sender, message)


def _trust_the_suffix(r: VsrReplica, purpose: Purpose, view: int, source: int, target: int, follows: int) -> None:
    if purpose is Purpose.JOIN:
        follows = max(follows, min(r.log.op, target))
    _begin_transfer(r, purpose, view, source, target, follows)


def _commit_what_it_begins_with(r: VsrReplica, reason: str) -> None:
    r.advance_commit(r.log.op)


def _acknowledge_across_a_gap(self: Any, to: int, message: Any) -> None:
    if isinstance(message, PrepareOk) and self.early:
        message = replace(message, op=max(entries[-1].op for entries in self.early.values()))
    _promise_vsr(self, to, message)


def _answer_to_any_question(r: VsrReplica, sender: int, message: Any) -> None:
    _on_recovery_response(r, sender, replace(message, nonce=r.recovery_nonce))


_on_prepare_ok, _heard_primary = normal.on_prepare_ok, normal.heard_primary


def _acknowledged_in_any_view(r: VsrReplica, sender: int, message: Any) -> None:
    _on_prepare_ok(r, sender, replace(message, view=max(message.view, r.view)))


def _hear_earlier_views(r: VsrReplica, sender: int, view: int, op: int, number: int) -> bool:
    same = r.primary_of(view) == r.primary_of(r.view)
    return _heard_primary(r, sender, max(view, r.view) if same else view, op, number)


VSR: Bugs = (
    (
        "earlier-prepareoks-counted",
        "What a backup acknowledged to this primary in an earlier view is counted in this one.",
        ((normal, "on_prepare_ok", _acknowledged_in_any_view),),
    ),
    (
        "earlier-views-heard",
        "What the primary said in an earlier view is taken for what it says in this one.",
        ((normal, "heard_primary", _hear_earlier_views),),
    ),
    (
        "earlier-doviewchanges-counted",
        "DOVIEWCHANGE for an earlier view counts for the present one.",
        ((view_change, "on_do_view_change", _count_those_of_any_view),),
    ),
    (
        "transfer-trusts-suffix",
        "A view that has begun is joined by fetching what follows the own log, whatever that ends with.",
        ((state_transfer, "begin", _trust_the_suffix),),
    ),
    (
        "begins-committed",
        "A new primary commits what its view begins with, before a majority holds it.",
        (after(normal, "begin_as_primary", _commit_what_it_begins_with),),
    ),
    (
        "gap-acknowledged",
        "PREPAREOK names the newest entry that has come, though some before it are missing.",
        ((VsrReplica, "promise", _acknowledge_across_a_gap),),
    ),
    (
        "any-recovery-answer",
        "RECOVERYRESPONSE to an earlier question is counted with those to the last one (VRR 4.3, the nonce).",
        ((recovery, "on_recovery_response", _answer_to_any_question),),
    ),
    (
        "recovery-answered-early",
        "RECOVERYRESPONSE leaves before its sender knows the new incarnation durably.",
        (early(RecoveryResponse),),
    ),
)

# Raft.

_become_follower, _on_vote, _on_appended = Server.become_follower, election.on_vote, replication.on_appended
_on_append_entries = replication.on_append_entries


def _adopt_in_memory(self: Any, term: int, leader: int, reason: str) -> None:
    if term > self.view:
        self.view, self.vote = term, 0
    _become_follower(self, term, leader, reason)


def _vote_of_any_term(s: Server, sender: int, message: Any) -> None:
    _on_vote(s, sender, replace(message, term=max(message.term, s.view)))


def _answer_of_any_term(s: Server, sender: int, message: Any) -> None:
    if message.term < s.view and s.role is Role.LEADER:
        message = replace(message, term=s.view, round=s.progress[sender].round)
    _on_appended(s, sender, message)


def _request_of_any_term(s: Server, sender: int, message: Any) -> None:
    if message.term < s.view and s.role is Role.FOLLOWER and message.entries:
        message = replace(message, term=s.view)
    _on_append_entries(s, sender, message)


def _compare_both(s: Server, last_term: int, last_index: int) -> bool:
    return last_term >= s.last_term and last_index >= s.log.op


RAFT: Bugs = (
    (
        "up-to-date-in-both",
        "A log is up to date if neither its last term nor its length is smaller: of some two logs neither is (5.4.1).",
        ((election, "_up_to_date", _compare_both),),
    ),
    (
        "term-not-saved",
        "A later term that is heard of goes to disk with the next vote only (figure 2).",
        ((Server, "become_follower", _adopt_in_memory),),
    ),
    (
        "votes-by-length",
        "A vote is given to a log that is as long, whatever its last term is (5.4.1).",
        ((election, "_up_to_date", lambda s, last_term, last_index: last_index >= s.log.op),),
    ),
    (
        "earlier-votes-counted",
        "A vote given in an earlier term is counted in this one.",
        ((election, "on_vote", _vote_of_any_term),),
    ),
    (
        "earlier-answers-counted",
        "What a follower acknowledged to this leader in an earlier term is counted in this one.",
        ((replication, "on_appended", _answer_of_any_term),),
    ),
    (
        "earlier-requests-taken",
        "What a leader asked to append in an earlier term is taken for a request of this one.",
        ((replication, "on_append_entries", _request_of_any_term),),
    ),
)

# What both share.

_lookup, _snapshot, _execute = Sessions.lookup, Sessions.snapshot, Executor._execute


class _Unsynced:
    """Files whose syncs do nothing."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if name.startswith("sync") else getattr(self._files, name)


def _trust_what_is_read(files: Any, identity: Any, create_incarnation: Callable[[], int]) -> None:
    prepare(_Unsynced(files) if segment_names(files) else files, identity, create_incarnation)  # type: ignore[arg-type]  # stands in


def _snapshot_without_replies(self: Any) -> Iterator[bytes]:
    table, large = self._table, self._large
    try:
        self._table = OrderedDict((number, type(found)(found.mark, {})) for number, found in table.items())
        self._large = OrderedDict()
        return chain(list(_snapshot(self)))
    finally:
        self._table, self._large = table, large


def _snapshot_in_order(self: Any) -> Iterator[bytes]:
    table = self._table
    try:
        self._table = OrderedDict(sorted(table.items()))
        return chain(list(_snapshot(self)))
    finally:
        self._table = table


def _use_by_looking(self: Any, session: int, request: int, mark: int) -> bytes | None:
    if session in self._table:
        self._table.move_to_end(session)
    return _lookup(self, session, request, mark)


def _raise_the_mark(self: Any, sender: int, session: int, request: int, *_: object) -> None:
    if session and session == self.session:
        self._mark = max(self._mark, request)


def _set_in_memory(self: Any, new: int) -> None:
    self._encoded = replace(self._encoded, incarnation=new)


def _write_unsynced(self: Any, offset: int, data: bytes) -> None:
    if offset == 0:
        self._begin()
    handle, size = self._unfinished
    self._files.append(handle, data)
    self._unfinished = (handle, size + len(data))


def _retry_sync(self: Any) -> None:
    if self._phase is journal_module._Phase.WRITTEN:
        try:
            self._files.sync(self._handle)
        except StorageFailedError:
            self._files.sync(self._handle)
        self._phase = journal_module._Phase.READY


def _join_the_round_before(self: Any) -> None:
    for read in self._waiting:
        read.round = min(read.round, self._host.newest_round)


def _snapshot_the_live_store(self: Any) -> Iterator[bytes]:
    return key_value._chunks(self._revision, self._size, self._buckets)


def _name_unsynced(self: Any, snapshot: SnapshotRecord) -> None:
    handle, _ = self._unfinished
    self._unfinished = None
    self._files.close(handle)
    self._files.rename(UNFINISHED_NAME, snapshot_name(snapshot))


def _execute_equal_ones_once(self: Any, parts: list[Any] | None) -> bytes:
    shown = repr(parts)
    if self.__dict__.get("last", ("",))[0] != shown:
        self.last = shown, _execute(self, parts)
    return bytes(self.last[1])


def _snapshot_lazily(self: Sessions) -> Iterator[bytes]:
    yield from _snapshot_of_sessions(self)


def _let_all_go(self: Retention, *_: object) -> None:
    self._older = dict.fromkeys(self._older, 0)


SHARED: Bugs = (
    (
        "sessions-captured-late",
        "The sessions in a snapshot are those of when it comes to them, turns after it was begun.",
        ((Sessions, "snapshot", _snapshot_lazily),),
    ),
    (
        "older-file-removed-early",
        "The file of the snapshot before goes when another is installed, and not when the journal names that.",
        (before(Retention, "let_go", _let_all_go),),
    ),
    (
        "reread-not-synced",
        "What an earlier life wrote and did not sync is read back and believed, without a sync of its own.",
        ((journal_module, "prepare", _trust_what_is_read),),
    ),
    (
        "replies-not-in-snapshot",
        "A snapshot holds the sessions without their recorded replies.",
        ((Sessions, "snapshot", _snapshot_without_replies),),
    ),
    (
        "use-not-in-snapshot",
        "A snapshot holds the sessions in the order of their numbers, not in that of their use.",
        ((Sessions, "snapshot", _snapshot_in_order),),
    ),
    (
        "lookup-uses-session",
        "A duplicate that one member answers from its table counts as a use of the session there, and nowhere else.",
        ((Sessions, "lookup", _use_by_looking),),
    ),
    (
        "mark-raised-early",
        "A client's low-water mark rises to the newest answer, past requests that have none.",
        (after(ClientSession, "reply", _raise_the_mark),),
    ),
    (
        "read-joins-round",
        "A read counts answers to the round before it as answers to its own.",
        (
            (Rounds, "newest_round", property(lambda self: self._r.round - 1)),
            (Server, "newest_round", property(lambda self: self.round - 1)),
        ),
    ),
    (
        "read-counts-round-before",
        "Reads that come while a round is under way take it for their own, though it began before them.",
        (after(Reads, "before_close", _join_the_round_before),),
    ),
    (
        "snapshot-of-live-store",
        "A snapshot of the key-value store, collected over several turns, holds what was written between them.",
        ((KeyValueStore, "snapshot", _snapshot_the_live_store),),
    ),
    (
        "sync-retried",
        "A sync that failed is tried again, and believed when it succeeds: the disk has dropped what it was to write.",
        ((Journal, "sync", _retry_sync),),
    ),
    (
        "snapshot-name-not-synced",
        "A snapshot's file gets its name, and the directory is not synced.",
        ((SnapshotFiles, "finish", _name_unsynced),),
    ),
    (
        "snapshot-not-synced",
        "A snapshot's file is named in the journal without having been synced.",
        ((SnapshotFiles, "write", _write_unsynced),),
    ),
    (
        "equal-commands-are-one",
        "A command that equals the one before is taken for its duplicate, whoever calls it.",
        ((Executor, "_execute", _execute_equal_ones_once),),
    ),
    (
        "incarnation-in-memory",
        "A blank member that learns that its incarnation is too old takes a newer one, and does not keep it.",
        ((Journal, "set_incarnation", _set_in_memory),),
    ),
)
