"""Hand-made bugs of somebody who had not seen the simulation, and that it did not find at first.

They are here with what finds them now. Those that were found at once are like others of the catalogue.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raft import replication
from raft.server import Server
from statemachine.sessions import SMALL_REPLY_BYTES, Sessions
from tests.simulation.changes import Change, after, before
from viewstamp.client import ClientSession
from viewstamp.protocol import Reads, entry
from viewstamp.replica.applied import Applied
from viewstamp.wire import QueryReply
from vsr import recovery, state_transfer
from vsr.replica import Purpose, VsrReplica, VsrStatus

Bugs = tuple[tuple[str, str, tuple[Change, ...]], ...]

# Viewstamped Replication.

_become_backup, _learn_incarnation = VsrReplica.become_backup, VsrReplica.learn_incarnation
_on_new_snapshot, _install = state_transfer.on_new_snapshot, state_transfer.install
_on_recovery_response = recovery.on_recovery_response


def _keep_what_came_early(self: Any, reason: str) -> None:
    early = dict(self.early)
    _become_backup(self, reason)
    self.early = early


def _keep_in_hand(r: VsrReplica, sender: int, message: Any) -> None:
    fetch = r.fetch
    in_hand = fetch is not None and fetch.in_hand
    _on_new_snapshot(r, sender, message)
    if fetch is not None and in_hand:
        fetch.in_hand = True


def _believe_an_older_view(r: VsrReplica, sender: int, message: Any) -> None:
    _on_recovery_response(r, sender, message)
    if r.status is not VsrStatus.RECOVERING or r.fetch is not None or r.superseded_by:
        return
    if len(r.responses) >= r.configuration.recovery_quorum:
        view = max(response.view for response in r.responses.values())
        answer = r.responses.get(r.primary_of(view))
        if answer is not None:
            state_transfer.begin(r, Purpose.RECOVER, view, r.primary_of(view), answer.op, 0)
            r.recovery_at = r.now.monotonic + 20 * r.timeouts.retry


def _keep_do_view_change(self: Any, member: int, incarnation: int) -> None:
    said = self.do_view_changes.get(member)
    _learn_incarnation(self, member, incarnation)
    if said is not None:
        self.do_view_changes[member] = said


def _keep_round_heard(r: VsrReplica, fetch: Any) -> None:
    heard = r.round_heard
    _install(r, fetch)
    r.round_heard = heard


VSR: Bugs = (
    (
        "early-prepares-kept",
        "PREPAREs that overtook others in one view are appended in the next, if that is joined as it has begun.",
        ((VsrReplica, "become_backup", _keep_what_came_early),),
    ),
    (
        "newer-snapshot-in-hand",
        "A newer snapshot that is offered while one is in hand is taken for that one.",
        ((state_transfer, "on_new_snapshot", _keep_in_hand),),
    ),
    (
        "recovers-from-older-view",
        "The highest view's primary is believed when it has answered from an earlier view (VRR 4.3, step 3).",
        ((recovery, "on_recovery_response", _believe_an_older_view),),
    ),
    (
        "superseded-doviewchange",
        "DOVIEWCHANGE counts, though its sender has lost its disk since (Michael et al., DISC 2017).",
        ((VsrReplica, "learn_incarnation", _keep_do_view_change),),
    ),
    (
        "round-kept-across-views",
        "A backup that joins a view which has begun goes on echoing the round of the view before.",
        ((state_transfer, "install", _keep_round_heard),),
    ),
)

# Raft.

_on_append_entries = replication.on_append_entries


def _drop_earlier_terms(s: Server, sender: int, message: Any) -> None:
    if message.term < s.view:
        s.ignore("APPENDENTRIES of an earlier term")
    else:
        _on_append_entries(s, sender, message)


RAFT: Bugs = (
    (
        "earlier-terms-not-answered",
        "A leader of an earlier term is not told so: whoever is in a later one alone never follows again (5.1).",
        ((replication, "on_append_entries", _drop_earlier_terms),),
    ),
)

# What both share.


def _number_from_0(self: Any, *_: Any) -> None:
    self._number = 0


_stand_at = Applied.stand_at


def _keep_viewstamp(self: Any, snapshot: Any) -> None:
    before = self.viewstamp
    _stand_at(self, snapshot)
    self.viewstamp = before


_raise_mark = Sessions._raise_mark


def _keep_the_last(self: Any, session: int, found: Any, mark: int) -> None:
    last = found.replies.get(mark)
    _raise_mark(self, session, found, mark)
    if last is not None and len(last) <= SMALL_REPLY_BYTES:
        found.replies[mark] = last


def _take_heart(self: Any, sender: int, message: object, now: int) -> None:
    if isinstance(message, QueryReply):
        self._target._hopeful(now)


SHARED: Bugs = (
    (
        "reads-hide-silence",
        "Answers to reads at any member count as signs of life of the one that calls are sent to.",
        (before(ClientSession, "receive", _take_heart),),
    ),
    (
        "unknown-kind-raises",
        "An entry of a kind that is not known raises another error than that of malformed ones.",
        ((entry, "_KINDS", SimpleNamespace(get=entry._KINDS.__getitem__)),),
    ),
    (
        "questions-numbered-from-0",
        "A backup numbers its questions from 0 in each life: an answer to an earlier life's meets the same number.",
        (after(Reads, "__init__", _number_from_0),),
    ),
    (
        "viewstamp-before-snapshot",
        "Who has loaded a snapshot goes on answering with the viewstamp of what it had applied before.",
        ((Applied, "stand_at", _keep_viewstamp),),
    ),
    (
        "reply-at-mark-kept",
        "The reply to the newest request that its client has an answer to is kept: one more each time the mark rises.",
        ((Sessions, "_raise_mark", _keep_the_last),),
    ),
)
