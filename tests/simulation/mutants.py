"""Hand-made protocol bugs: each is one small change to the real code, and one that some implementation once had.

The fuzzer must notice every one of them through its checkers. `kills` names the properties that may notice it: a mutant
that shows as something else is a mutant, or a checker, that is not understood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from raft.invariants import Invariants as RaftInvariants
from tests.simulation.changes import Change, applied, before, early
from viewstamp.protocol import Configuration, Log, Message, Time
from vsr import ViewstampedReplication, normal, recovery, state_transfer, view_change
from vsr.invariants import Invariants
from vsr.messages import DoViewChange, Prepare, PrepareOk, RecoveryResponse, StartView, StartViewChange
from vsr.reads import Rounds
from vsr.replica import Acknowledged, Fetch, Purpose, VsrReplica, VsrStatus

HISTORY = frozenset(
    {
        "agreement",
        "complete log",
        "durability",
        "exactly once",
        "invariant",
        "majority",
        "one primary",
        "promises",
    }
)
READS = frozenset({"reads"})
LIVENESS = frozenset({"liveness"})
PROMISES = frozenset({"promises"})


@dataclass(frozen=True)
class Mutant:
    """One bug: what it is, which properties notice it, and the code that it replaces."""

    name: str
    kills: frozenset[str]
    patches: tuple[Change, ...]
    with_invariants: bool = False
    protocol: str = "vsr"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The bug is in the code while this context lasts; the protocol's own invariants are out of it.

        They would hide whether the checkers see the bug. A bug whose effect is all but out of reach is left to them.
        """
        invariants: list[Change] = []
        if not self.with_invariants:
            invariants.append((Invariants, "watch", lambda self, replica: None))
            invariants.append((RaftInvariants, "watch", lambda self, server: None))
        with applied([*self.patches, *invariants]):
            yield


MUTANTS: list[Mutant] = []


def mutant(
    name: str, kills: frozenset[str], *, with_invariants: bool = False
) -> Callable[[Callable[[], list[Change]]], None]:
    """Enter a bug into the catalogue; the function gives what it replaces."""

    def enter(make: Callable[[], list[Change]]) -> None:
        MUTANTS.append(Mutant(name, kills, tuple(make()), with_invariants))

    return enter


# Durability of promises.


@mutant("promises leave before their write is durable", PROMISES)
def _() -> list[Change]:
    return [early(object)]


@mutant("the primary counts itself before its write is durable", HISTORY)
def _() -> list[Change]:
    def count_commit(r: VsrReplica) -> None:
        if r.status is VsrStatus.NORMAL and r.is_primary:
            held = sorted([backup.op for backup in r.acknowledged.values()] + [r.log.op], reverse=True)
            r.advance_commit(held[r.quorum - 1])

    return [(normal, "count_commit", count_commit)]


@mutant("a write in flight counts for the entries that replaced those it holds", HISTORY, with_invariants=True)
def _() -> list[Change]:
    def truncate(self: Log, after: int) -> None:
        if after < self.op:
            del self._entries[after - self.base :]

    return [(Log, "truncate", truncate)]


@mutant("a view is entered without being saved", PROMISES)
def _() -> list[Change]:
    original = view_change.enter

    def enter(r: VsrReplica, view: int, reason: str) -> None:
        with patch.object(r, "save", lambda: None):
            original(r, view, reason)

    return [(view_change, "enter", enter)]


@mutant("a new primary begins before its log is durable", HISTORY)
def _() -> list[Change]:
    def begin_when_durable(r: VsrReplica) -> None:
        r.start_write = r.next_write()
        normal.begin_as_primary(r, "mutant")
        for other in r.others:
            r.promise(other, StartView(r.view, r.log.op, r.commit))

    return [(view_change, "begin_when_durable", begin_when_durable)]


@mutant("the first primary orders before its founding is durable", HISTORY)
def _() -> list[Change]:
    original = view_change.begin_when_durable

    def begin_when_durable(r: VsrReplica) -> None:
        if r.view:
            original(r)
        else:
            normal.begin_as_primary(r, "mutant")

    return [(view_change, "begin_when_durable", begin_when_durable)]


# Quorums.


@mutant("commit with one acknowledgement too few", HISTORY)
def _() -> list[Change]:
    def count_commit(r: VsrReplica) -> None:
        if r.status is VsrStatus.NORMAL and r.is_primary:
            held = sorted([backup.op for backup in r.acknowledged.values()] + [r.log.durable], reverse=True)
            r.advance_commit(held[max(0, r.quorum - 2)])

    return [(normal, "count_commit", count_commit)]


@mutant("a duplicated PREPAREOK counts twice", HISTORY)
def _() -> list[Change]:
    original = normal.on_prepare_ok

    def on_prepare_ok(r: VsrReplica, sender: int, message: PrepareOk) -> None:
        before = r.acknowledged.get(sender, Acknowledged()).op
        if r.status is VsrStatus.NORMAL and r.is_primary and message.view == r.view and message.op <= before:
            r.acknowledged[-sender] = Acknowledged(message.op)
        original(r, sender, message)

    return [(normal, "on_prepare_ok", on_prepare_ok)]


@mutant("a duplicated DOVIEWCHANGE counts twice", HISTORY)
def _() -> list[Change]:
    original = view_change.on_do_view_change

    def on_do_view_change(r: VsrReplica, sender: int, message: DoViewChange) -> None:
        again = sender in r.do_view_changes and r.view == message.view
        if again and r.status is VsrStatus.VIEW_CHANGE:
            r.do_view_changes[-sender] = message
        original(r, sender, message)

    begin = state_transfer.begin

    def ask_a_member(r: VsrReplica, purpose: Purpose, view: int, source: int, target: int, after: int) -> None:
        begin(r, purpose, view, abs(source), target, after)

    return [(view_change, "on_do_view_change", on_do_view_change), (state_transfer, "begin", ask_a_member)]


@mutant("PREPAREOK of an earlier view counts in a later one of the same primary", HISTORY)
def _() -> list[Change]:
    original = normal.on_prepare_ok

    def on_prepare_ok(r: VsrReplica, sender: int, message: PrepareOk) -> None:
        original(r, sender, replace(message, view=max(message.view, r.view)))

    return [(normal, "on_prepare_ok", on_prepare_ok)]


@mutant("half of an even number of members is a quorum", HISTORY)
def _() -> list[Change]:
    return [(Configuration, "quorum", property(lambda self: (len(self.members) + 1) // 2))]


@mutant("DOVIEWCHANGE of an earlier view counts in a later one", HISTORY)
def _() -> list[Change]:
    original = view_change.enter

    def enter(r: VsrReplica, view: int, reason: str) -> None:
        before = r.do_view_changes
        with patch.object(view_change, "_send_do_view_change", lambda r: None):
            original(r, view, reason)
        r.do_view_changes = before
        view_change._send_do_view_change(r)

    def on_do_view_change(r: VsrReplica, sender: int, message: DoViewChange) -> None:
        if message.view < r.view and r.status is VsrStatus.VIEW_CHANGE and r.last_normal_view < r.view:
            r.do_view_changes[sender] = message
            if r.is_primary:
                view_change._choose_if_quorum(r)
        else:
            received(r, sender, message)

    received = view_change.on_do_view_change
    return [(view_change, "enter", enter), (view_change, "on_do_view_change", on_do_view_change)]


# View changes.


@mutant("the best log is the longest", HISTORY)
def _() -> list[Change]:
    return [(view_change, "_rank", lambda message: (0, message.op))]


@mutant("the last normal view is taken before the log of that view is in hand", HISTORY)
def _() -> list[Change]:
    original = view_change._choose_if_quorum

    def choose(r: VsrReplica) -> None:
        if not r.choosing and not r.start_write and len(r.do_view_changes) >= r.quorum:
            r.last_normal_view = r.view
            r.save()
        original(r)

    return [(view_change, "_choose_if_quorum", choose)]


@mutant("a primary resumes its view after a restart", HISTORY)
def _() -> list[Change]:
    original = ViewstampedReplication._restart

    def restart(self: ViewstampedReplication, *durable: Any) -> None:
        original(self, *durable)
        r = self._r
        if r.is_primary and r.view == r.last_normal_view and r.status is VsrStatus.VIEW_CHANGE:
            normal.begin_as_primary(r, "mutant")

    return [(ViewstampedReplication, "_restart", restart)]


@mutant("DOVIEWCHANGE begins a view again that was led before a restart", HISTORY)
def _() -> list[Change]:
    original = view_change.on_do_view_change

    def on_do_view_change(r: VsrReplica, sender: int, message: DoViewChange) -> None:
        led_before = r.status is VsrStatus.VIEW_CHANGE and r.last_normal_view == r.view and not r.start_write
        if led_before and message.view == r.view and r.is_primary and r.view:
            r.do_view_changes[sender] = message
            view_change._choose_if_quorum(r)
        else:
            original(r, sender, message)

    return [(view_change, "on_do_view_change", on_do_view_change)]


@mutant("a duplicated STARTVIEW is applied again", HISTORY)
def _() -> list[Change]:
    original = view_change.on_start_view

    def on_start_view(r: VsrReplica, sender: int, message: StartView) -> None:
        if message.view == r.view and r.status is VsrStatus.NORMAL and sender == r.primary_of(r.view):
            r.truncate(message.op)
        original(r, sender, message)

    return [(view_change, "on_start_view", on_start_view)]


@mutant("what the primary said in an earlier view is taken for what it says in this one", HISTORY)
def _() -> list[Change]:
    original = normal.heard_primary

    def heard_primary(r: VsrReplica, sender: int, view: int, op: int, number: int) -> bool:
        same = r.primary_of(view) == r.primary_of(r.view)
        return original(r, sender, max(view, r.view) if same else view, op, number)

    return [(normal, "heard_primary", heard_primary)]


@mutant("STARTVIEW of an earlier view of the same primary is taken", HISTORY)
def _() -> list[Change]:
    original = view_change.on_start_view

    def on_start_view(r: VsrReplica, sender: int, message: StartView) -> None:
        if r.primary_of(message.view) == r.primary_of(r.view):
            message = replace(message, view=max(message.view, r.view))
        original(r, sender, message)

    return [(view_change, "on_start_view", on_start_view)]


@mutant("no timer runs during a view change", LIVENESS)
def _() -> list[Change]:
    original = view_change.tick

    def tick(r: VsrReplica) -> None:
        if r.status is VsrStatus.VIEW_CHANGE:
            r.suspect_at = r.resend_at = r.now.monotonic + 1_000_000_000_000
        original(r)

    return [(view_change, "tick", tick)]


# State transfer.


@mutant("the log is cut to the commit-number before the new one is fetched", HISTORY)
def _() -> list[Change]:
    original = state_transfer.join

    def join(r: VsrReplica, view: int, target: int, number: int) -> None:
        if r.primary_of(view) != r.me and (r.fetch is None or r.fetch.view < view):
            r.truncate(r.commit)
        original(r, view, target, number)

    return [(state_transfer, "join", join)]


@mutant("the view is taken when its log is asked for", HISTORY)
def _() -> list[Change]:
    original = state_transfer.join

    def join(r: VsrReplica, view: int, target: int, number: int) -> None:
        original(r, view, target, number)
        if r.status is VsrStatus.STATE_TRANSFER and r.last_normal_view < view:
            r.view = r.last_normal_view = view
            r.save()

    return [(state_transfer, "join", join)]


@mutant("the next op of a later view is appended to the log of an earlier one", HISTORY)
def _() -> list[Change]:
    original = normal.on_prepare

    def on_prepare(r: VsrReplica, sender: int, message: Prepare) -> None:
        follows = message.entries[0].op == r.log.op + 1 and sender == r.primary_of(message.view)
        if r.status is VsrStatus.NORMAL and message.view > r.view and follows:
            r.view = r.last_normal_view = message.view
            r.save()
            r.become_backup("mutant")
        original(r, sender, message)

    return [(normal, "on_prepare", on_prepare)]


@mutant("PREPAREOK counts what lies behind a gap", frozenset({"promises", "majority", "agreement", "durability"}))
def _() -> list[Change]:
    original = VsrReplica.promise

    def promise(self: VsrReplica, to: int, message: Any) -> None:
        if isinstance(message, PrepareOk) and self.early:
            message = replace(message, op=max(entries[-1].op for entries in self.early.values()))
        original(self, to, message)

    return [(VsrReplica, "promise", promise)]


@mutant("a commit-number beyond the log is taken", frozenset({"invariant"}))
def _() -> list[Change]:
    def advance_commit(self: VsrReplica, commit: int) -> None:
        self.commit = max(self.commit, commit)

    return [(VsrReplica, "advance_commit", advance_commit)]


@mutant("a gap is never fetched", LIVENESS)
def _() -> list[Change]:
    return [(state_transfer, "expect_gap", lambda r, target: None)]


@mutant("a page is taken without its nonce", HISTORY | LIVENESS)
def _() -> list[Change]:
    original = state_transfer.on_new_state

    def on_new_state(r: VsrReplica, sender: int, message: Any) -> None:
        if r.fetch is not None:
            message = replace(message, nonce=r.fetch.nonce, view=r.fetch.view)
            sender = r.fetch.source
        original(r, sender, message)

    return [(state_transfer, "on_new_state", on_new_state)]


# Lost disks.


@mutant("messages of a superseded incarnation count", HISTORY | READS)
def _() -> list[Change]:
    original = ViewstampedReplication.receive

    def receive(self: ViewstampedReplication, sender: int, incarnation: int, message: Message, now: Time) -> None:
        known = self._r.incarnations.get(sender, 0)
        original(self, sender, max(incarnation, known), message, now)

    return [(ViewstampedReplication, "receive", receive), (VsrReplica, "learn", lambda self, vector: None)]


@mutant("a recovering member is content with one answer, of anyone", HISTORY)
def _() -> list[Change]:
    def on_recovery_response(r: VsrReplica, sender: int, message: RecoveryResponse) -> None:
        asked = r.status is VsrStatus.RECOVERING and message.nonce == r.recovery_nonce and r.fetch is None
        if asked and r.primary_of(message.view) != r.me:
            state_transfer.begin(r, Purpose.RECOVER, message.view, sender, message.op, 0)
            state_transfer.finish_if_complete(r)

    return [(recovery, "on_recovery_response", on_recovery_response)]


@mutant("a recovering member takes part in view changes", HISTORY)
def _() -> list[Change]:
    def take_part(self: Any, sender: int, message: Message) -> None:
        r = self._r
        if r.status is VsrStatus.RECOVERING and isinstance(message, StartViewChange | DoViewChange):
            r.status, r.fetch = VsrStatus.VIEW_CHANGE, None

    return [before(ViewstampedReplication, "_dispatch", take_part)]


@mutant("a round heard in an earlier view counts in the view that is joined", PROMISES)
def _() -> list[Change]:
    original = state_transfer.install

    def install(r: VsrReplica, fetch: Fetch) -> None:
        heard = r.round_heard
        original(r, fetch)
        r.round_heard = heard

    return [(state_transfer, "install", install)]


@mutant("RECOVERY is answered before the new incarnation is durable", PROMISES)
def _() -> list[Change]:
    original = recovery.on_recovery

    def on_recovery(r: VsrReplica, sender: int, incarnation: int, message: Any) -> None:
        with patch.object(r, "save", lambda: None):
            original(r, sender, incarnation, message)

    return [(recovery, "on_recovery", on_recovery)]


@mutant("recovery is asked for once", LIVENESS)
def _() -> list[Change]:
    original = recovery.tick

    def tick(r: VsrReplica) -> None:
        if not r.recovery_nonce:
            original(r)
        elif r.status is VsrStatus.RECOVERING:
            r.recovery_at = r.now.monotonic + 1_000_000_000_000

    return [(recovery, "tick", tick)]


@mutant("a blank disk founds the cluster again", HISTORY)
def _() -> list[Change]:
    original = ViewstampedReplication.__init__

    def init(self: Any, configuration: Any, me: int, origin: Any, random: Any, now: Time) -> None:
        original(self, configuration, me, origin, random, now)
        r = self._r
        if r.status is VsrStatus.RECOVERING:
            self._found()

    return [(ViewstampedReplication, "__init__", init)]


# Reads.


@mutant("a read is served without asking a majority", READS)
def _() -> list[Change]:
    return [(Rounds, "confirmed_round", property(lambda self: self.newest_round))]


@mutant("a read is served before what the view began with is committed", READS)
def _() -> list[Change]:
    return [(Rounds, "read_index", property(lambda self: self._r.commit))]


@mutant("a round that began before the read confirms it", READS)
def _() -> list[Change]:
    original = Rounds.confirmed_round.fget  # type: ignore[attr-defined]  # a property's function

    return [(Rounds, "confirmed_round", property(lambda self: original(self) + 1))]


@mutant("a read takes the commit-number of whoever is asked", READS)
def _() -> list[Change]:
    from viewstamp.protocol import ReadReady, Reads

    def read(self: Any, number: int) -> None:
        self._done.append(ReadReady(number, self._host._r.commit))

    return [(Reads, "read", read)]
