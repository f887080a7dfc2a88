"""Hand-made bugs of snapshots, in both protocols: each is one small change to the real code.

As in `mutants`: `kills` names the properties that may notice it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from raft import replication, snapshots
from raft.messages import Installing, InstallSnapshot
from raft.server import Role, Server
from tests.simulation.changes import Change
from tests.simulation.mutants import HISTORY, LIVENESS, PROMISES, Mutant
from viewstamp.protocol import AgreedClock, Log, Snapshot, Viewstamp
from viewstamp.protocol.member import Member
from vsr import state_transfer, view_change
from vsr.messages import DoViewChange, NewSnapshot, PrepareOk
from vsr.replica import Purpose, VsrReplica, VsrStatus

SNAPSHOT_MUTANTS: list[Mutant] = []
SNAPSHOT = frozenset({"snapshot"})
TIME = frozenset({"agreed time"})
LOADED = HISTORY | SNAPSHOT
ANYTHING = LOADED | LIVENESS | {"monotone"}


def mutant(name: str, protocol: str, kills: frozenset[str]) -> Callable[[Callable[[], list[Change]]], None]:
    """Enter a bug into the catalogue; the function gives what it replaces."""

    def enter(make: Callable[[], list[Change]]) -> None:
        SNAPSHOT_MUTANTS.append(Mutant(name, kills, tuple(make()), protocol=protocol))

    return enter


# In what both protocols share.


def _in_both(name: str, kills: frozenset[str]) -> Callable[[Callable[[], list[Change]]], None]:
    def enter(make: Callable[[], list[Change]]) -> None:
        for protocol in ("vsr", "raft"):
            mutant(name, protocol, kills)(make)

    return enter


@_in_both("the agreed time of what a snapshot holds is lost", TIME)
def _() -> list[Change]:
    installed, resumed = Member.install, Member.resume

    def without_time(original: Callable[..., None]) -> Callable[..., None]:
        def wrapped(self: Member, *arguments: Any) -> None:
            clock, self.clock = self.clock, AgreedClock(0)
            original(self, *arguments)
            self.clock = clock
            if original is resumed and self.log.op > self.log.base:
                self.clock.saw_of_unknown_age(self.log.entry(self.log.op).stamp)

        return wrapped

    return [(Member, "install", without_time(installed)), (Member, "resume", without_time(resumed))]


@_in_both("the view of the last operation in a snapshot is forgotten", ANYTHING)
def _() -> list[Change]:
    restarted = Log.restart

    def restart(self: Log, base: Viewstamp) -> None:
        restarted(self, Viewstamp(0, base.op))

    return [(Log, "restart", restart)]


@_in_both("the log is compacted to the commit-number, and not to the snapshot", ANYTHING)
def _() -> list[Change]:
    def compact(self: Member, snapshot: Snapshot, keep_after: int) -> None:
        if self.snapshot is None or snapshot.op >= self.snapshot.op:
            self.snapshot = snapshot
            self.log.compact(self.commit)

    return [(Member, "compact", compact)]


@_in_both("the log is compacted to its end, committed or not", ANYTHING)
def _() -> list[Change]:
    def compact(self: Member, snapshot: Snapshot, keep_after: int) -> None:
        if self.snapshot is None or snapshot.op >= self.snapshot.op:
            self.snapshot = snapshot
            self.log.compact(self.log.op)

    return [(Member, "compact", compact)]


@_in_both("after a restart nothing is known to be committed, what the snapshot holds neither", ANYTHING)
def _() -> list[Change]:
    original = Member.resume

    def resume(self: Member, *arguments: Any) -> None:
        original(self, *arguments)
        self.commit = 0

    return [(Member, "resume", resume)]


# Viewstamped Replication.


@mutant("a snapshot in the same view drops the acknowledged entries behind it", "vsr", LOADED)
def _() -> list[Change]:
    original = state_transfer.snapshot_in_hand

    def snapshot_in_hand(r: VsrReplica, snapshot: Snapshot) -> None:
        fetch = r.fetch
        wanted = fetch is not None and fetch.snapshot == snapshot and fetch.purpose is Purpose.LAG
        if fetch is not None and wanted and r.status is VsrStatus.NORMAL and r.commit < snapshot.op <= r.log.op:
            r.install(snapshot)
            r.acknowledge_due = True
            fetch.snapshot = None
        else:
            original(r, snapshot)

    # Else it is found needless before it is in hand.
    return [(state_transfer, "snapshot_in_hand", snapshot_in_hand), (state_transfer, "_appended", lambda r: None)]


@mutant("the snapshot is installed alone, before the pages behind it", "vsr", LOADED)
def _() -> list[Change]:
    original = state_transfer.snapshot_in_hand

    def snapshot_in_hand(r: VsrReplica, snapshot: Snapshot) -> None:
        fetch = r.fetch
        wanted = fetch is not None and fetch.snapshot == snapshot and not fetch.in_hand
        if wanted and fetch is not None and fetch.purpose is Purpose.JOIN and snapshot.op > r.commit:
            r.install(snapshot)
            fetch.snapshot = None
            fetch.after = snapshot.op
            state_transfer._ask(r, fetch)
        else:
            original(r, snapshot)

    return [(state_transfer, "snapshot_in_hand", snapshot_in_hand)]


@mutant("the view is taken with the snapshot, before the pages behind it", "vsr", LOADED)
def _() -> list[Change]:
    original = state_transfer.snapshot_in_hand

    def snapshot_in_hand(r: VsrReplica, snapshot: Snapshot) -> None:
        original(r, snapshot)
        fetch = r.fetch
        if fetch is not None and fetch.purpose is Purpose.JOIN and fetch.in_hand and snapshot.op > r.commit:
            state_transfer.install(r, fetch)
            r.become_backup("mutant")

    return [(state_transfer, "snapshot_in_hand", snapshot_in_hand)]


@mutant("a delayed answer installs an older snapshot over what is newer", "vsr", ANYTHING)
def _() -> list[Change]:
    def on_new_snapshot(r: VsrReplica, sender: int, message: NewSnapshot) -> None:
        fetch = r.fetch
        if fetch is not None and fetch.snapshot is None:
            fetch.snapshot = message.snapshot
            fetch.in_hand = False
            fetch.staged = []
            fetch.after = r.commit

    def snapshot_in_hand(r: VsrReplica, snapshot: Snapshot) -> None:
        fetch = r.fetch
        if fetch is not None and fetch.snapshot == snapshot and snapshot.op <= r.commit:
            r.log.restart(snapshot.viewstamp)
            r.commit = snapshot.op
            fetch.snapshot = None
        else:
            original(r, snapshot)

    original = state_transfer.snapshot_in_hand
    return [
        (state_transfer, "on_new_snapshot", on_new_snapshot),
        (state_transfer, "snapshot_in_hand", snapshot_in_hand),
    ]


@mutant("PREPAREOK counts a snapshot that is still being fetched", "vsr", PROMISES)
def _() -> list[Change]:
    original = VsrReplica.promise

    def promise(self: VsrReplica, to: int, message: Any) -> None:
        if isinstance(message, PrepareOk) and self.wanted is not None:
            message = replace(message, op=max(message.op, self.wanted.snapshot.op))
        original(self, to, message)

    return [(VsrReplica, "promise", promise)]


@mutant("DOVIEWCHANGE counts a snapshot that was being fetched", "vsr", PROMISES)
def _() -> list[Change]:
    entered, said = view_change.enter, view_change._send_do_view_change

    def enter(r: VsrReplica, view: int, reason: str) -> None:
        fetching[r] = r.wanted.snapshot.op if r.wanted is not None else 0
        entered(r, view, reason)

    def send_do_view_change(r: VsrReplica) -> None:
        op = fetching.get(r, 0)
        if op > r.log.op and r.primary_of(r.view) != r.me:
            r.promise(r.primary_of(r.view), DoViewChange(r.view, r.last_normal_view, op, r.commit, r.vector))
        else:
            said(r)

    fetching: dict[Any, int] = {}
    return [(view_change, "enter", enter), (view_change, "_send_do_view_change", send_do_view_change)]


@mutant("pages behind a snapshot are taken although it never came", "vsr", ANYTHING)
def _() -> list[Change]:
    original = state_transfer.on_new_snapshot

    def on_new_snapshot(r: VsrReplica, sender: int, message: NewSnapshot) -> None:
        original(r, sender, message)
        fetch = r.fetch
        if fetch is not None and fetch.snapshot == message.snapshot and fetch.purpose is not Purpose.LAG:
            fetch.snapshot = None
            fetch.after = message.snapshot.op
            state_transfer._ask(r, fetch)

    return [(state_transfer, "on_new_snapshot", on_new_snapshot)]


@mutant("a snapshot that cannot be had is waited for", "vsr", LIVENESS)
def _() -> list[Change]:
    return [(state_transfer, "snapshot_failed", lambda r, snapshot: None)]


# Raft.


@mutant("a snapshot drops the acknowledged entries behind it", "raft", ANYTHING)
def _() -> list[Change]:
    def fetched(s: Server, snapshot: Snapshot) -> None:
        wanted = s.installing
        if wanted is not None and wanted.snapshot == snapshot and s.role is Role.FOLLOWER:
            s.installing = None
            if snapshot.op > s.commit:
                s.install(snapshot)

    # Else it is found needless before it has come.
    return [(snapshots, "fetched", fetched), (snapshots, "drop_needless", lambda s: None)]


@mutant("a snapshot replaces a log that holds its last entry", "raft", ANYTHING)
def _() -> list[Change]:
    original = snapshots.on_install_snapshot

    def on_install_snapshot(s: Server, sender: int, message: InstallSnapshot) -> None:
        snapshot = message.snapshot
        if message.term == s.view and s.leader == sender and s.commit < snapshot.op and s.log.holds(snapshot.viewstamp):
            # As if it had been here already: the fetching of it adds nothing to this bug.
            s.truncate(snapshot.op)
        original(s, sender, message)

    return [(snapshots, "on_install_snapshot", on_install_snapshot)]


@mutant("INSTALLING counts for commit", "raft", LOADED)
def _() -> list[Change]:
    original = replication.on_installing

    def on_installing(s: Server, sender: int, term: int, number: int) -> None:
        original(s, sender, term, number)
        if s.role is Role.LEADER and term == s.view:
            held = s.progress[sender].match
            s.progress[sender].match = s.log.op
            replication.count_commit(s)
            s.progress[sender].match = held

    return [(replication, "on_installing", on_installing)]


@mutant("a follower that is fetching a snapshot acknowledges it", "raft", PROMISES)
def _() -> list[Change]:
    from raft.messages import Appended

    def send(self: Server, to: int, message: Any) -> None:
        if isinstance(message, Installing) and self.installing is not None:
            self.promise(to, Appended(self.view, self.installing.snapshot.op, message.round))
        else:
            original(self, to, message)

    original = Server.send
    return [(Server, "send", send)]


@mutant("an empty log behind a snapshot is compared as if it had no term", "raft", HISTORY | LIVENESS)
def _() -> list[Change]:
    def last_term(self: Server) -> int:
        return self.log.viewstamp(self.log.op).view if self.log.op > self.log.base else 0

    return [(Server, "last_term", property(last_term))]


@mutant("an empty log behind a snapshot is compared as if it were empty", "raft", HISTORY | LIVENESS)
def _() -> list[Change]:
    from raft import election

    def up_to_date(s: Server, last_term: int, last_index: int) -> bool:
        if s.log.op == s.log.base:
            return True
        return (last_term, last_index) >= (s.last_term, s.log.op)

    return [(election, "_up_to_date", up_to_date)]


@mutant("a delayed offer installs an older snapshot over what is newer", "raft", ANYTHING)
def _() -> list[Change]:
    def on_install_snapshot(s: Server, sender: int, message: InstallSnapshot) -> None:
        if message.term <= s.view and s.role is Role.FOLLOWER and message.snapshot.op < s.commit:
            s.truncate(s.commit)
            s.log.restart(Viewstamp(message.last_term, message.last_index)) if s.log.base < message.last_index else None
            s.commit = max(s.log.base, message.last_index)
            s.advance_commit(s.log.op)
        else:
            original(s, sender, message)

    original = snapshots.on_install_snapshot
    return [(snapshots, "on_install_snapshot", on_install_snapshot)]


@mutant("a snapshot that cannot be had is waited for", "raft", LIVENESS)
def _() -> list[Change]:
    return [(snapshots, "fetch_failed", lambda s, snapshot: None)]
