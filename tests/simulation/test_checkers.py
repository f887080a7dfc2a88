"""The checkers on made-up histories: a good one passes, and each way in which one can be bad is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from raft import Appended, Rejected, RequestVote, TermAndVote
from raft import Vote as RaftVote
from viewstamp.protocol import (
    Append,
    Configuration,
    Effects,
    Entry,
    Install,
    Kind,
    Promise,
    Proposal,
    ReadReady,
    SaveState,
    Send,
    SendAfter,
    Snapshot,
    Standing,
    Time,
    Truncate,
    Viewstamp,
    Wanted,
    Write,
    make_entry,
)
from viewstamp.simulation.checkers import Checkers, PropertyError
from viewstamp.simulation.member import Disk, SimulatedMember
from viewstamp.simulation.rules import RaftRules, VsrRules
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    PrepareOk,
    RecoveryResponse,
    StartView,
    ViewstampedReplication,
)

CONFIGURATION = Configuration((1, 2, 3))
INCARNATIONS = (11, 12, 13)
NOW = Time(0, 0)


class Posed(ViewstampedReplication):
    """A core that says of itself what a test wants it to say, and does nothing."""

    posed: Standing = Standing("normal", "backup", 0, 1, False, 0, 0)
    posed_log: Sequence[Entry] = ()

    @property
    def standing(self) -> Standing:
        return self.posed

    @property
    def leading(self) -> int:
        return self.posed.view if self.posed.leads else -1

    def entry(self, op: int) -> Entry:
        return self.posed_log[op - 1]


def entry(op: int, view: int = 0, request: int | None = None) -> Entry:
    return make_entry(op, view, 0, Proposal(Kind.COMMAND, 1, op if request is None else request, 0, b"", 0))


class Cluster:
    """Three members that do as they are told, and the checkers that watch them."""

    def __init__(self) -> None:
        self.checkers = Checkers(CONFIGURATION, VsrRules())
        self.members = {
            member: SimulatedMember(Posed, CONFIGURATION, member, INCARNATIONS, Random(1), self.checkers)
            for member in CONFIGURATION.members
        }
        self.checkers.members = self.members
        for member in self.members.values():
            member.start(NOW)

    def turn(self, member: int, *, view: int = 0, leads: bool = False, effects: Effects | None = None) -> None:
        """A turn of this member, after which it says this of itself."""
        node = self.members[member]
        assert isinstance(node.core, Posed)
        node.core.posed = Standing("normal", "primary" if leads else "backup", view, None, leads, 0, 0)
        self.checkers.turned(node, effects if effects is not None else Effects())

    def store(self, entries: Sequence[Entry], *members: int) -> None:
        """These members' disks get these entries."""
        for member in members:
            self.members[member].disk.entries.extend(entries)
            self.checkers.stored(self.members[member], Write(1, (Append(tuple(entries)),)))

    def save(self, member: int, view: int, normal: int, vector: tuple[int, ...] = INCARNATIONS) -> None:
        """This member's disk gets this state."""
        state = DurableState(view, normal, vector)
        self.members[member].disk.state = state
        self.checkers.stored(self.members[member], Write(1, (SaveState(state),)))

    def apply(self, member: int, *entries: Entry) -> None:
        """This member applies these entries."""
        for each in entries:
            self.members[member].applied.append(each)
            self.checkers.applied(self.members[member], each)

    def promise(self, member: int, message: Promise) -> None:
        self.checkers.promised(self.members[member], 3, message)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@contextmanager
def violates(name: str) -> Iterator[None]:
    with pytest.raises(PropertyError) as caught:
        yield
    assert caught.value.name == name


def test_a_good_history_passes(cluster: Cluster) -> None:
    log = [entry(1), entry(2)]
    cluster.store(log, 1, 2)
    cluster.turn(1, leads=True)
    cluster.apply(1, *log)
    cluster.checkers.history.tell(1, 2, 2)
    cluster.checkers.read_asked(2, 1, 7)
    cluster.turn(2, effects=Effects(commit=2, reads=[ReadReady(7, 2)]))
    cluster.store(log, 3)
    cluster.apply(2, *log)
    cluster.apply(3, *log)
    cluster.checkers.finish()


def test_two_entries_at_one_op(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.apply(1, entry(1))
    with violates("agreement"):
        cluster.apply(2, entry(1, view=1))


def test_an_op_left_out(cluster: Cluster) -> None:
    with violates("agreement"):
        cluster.apply(1, entry(2))


def test_two_entries_with_one_viewstamp(cluster: Cluster) -> None:
    cluster.store([entry(1, request=1)], 1)
    with violates("agreement"):
        cluster.store([entry(1, request=2)], 2)


def test_committed_on_a_minority_of_disks(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1)
    with violates("majority"):
        cluster.apply(1, entry(1))


def test_a_disk_that_holds_another_entry_there_does_not_count(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1)
    cluster.store([entry(1, view=1)], 2)
    with violates("majority"):
        cluster.apply(1, entry(1))


def test_a_lost_disk_counts_until_its_member_is_back(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    node = cluster.members[2]
    node.lose_disk(99)
    assert node.disk.holds(1, entry(1))
    cluster.apply(1, entry(1))


def test_a_recovered_member_counts_by_its_new_disk_alone(cluster: Cluster) -> None:
    node = cluster.members[2]
    cluster.store([entry(1)], 1, 2)
    node.lose_disk(99)
    node.queue.append(Write(1, (SaveState(DurableState(0, 0, (11, 99, 13))),)))
    node.crash(surviving=1)
    with violates("majority"):
        cluster.apply(1, entry(1))


def test_told_and_lost(cluster: Cluster) -> None:
    with violates("durability"):
        cluster.checkers.history.tell(1, 1, 1)


def test_told_twice(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.apply(1, entry(1))
    cluster.checkers.history.tell(1, 1, 1)
    with violates("exactly once"):
        cluster.checkers.history.tell(1, 1, 1)


def test_told_of_the_duplicate_instead_of_the_effect(cluster: Cluster) -> None:
    log = [entry(1, request=5), entry(2, request=5)]
    cluster.store(log, 1, 2)
    cluster.apply(1, *log)
    with violates("exactly once"):
        cluster.checkers.history.tell(1, 5, 2)


def test_a_member_that_stays_behind_for_good(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.apply(1, entry(1))
    with violates("durability"):
        cluster.checkers.finish()


def test_one_view_led_by_two_members(cluster: Cluster) -> None:
    cluster.turn(1, view=3, leads=True)
    cluster.turn(1, view=3, leads=True)
    cluster.turn(2, view=4, leads=True)
    with violates("one primary"):
        cluster.turn(3, view=4, leads=True)


def test_one_view_led_by_one_member_in_two_lives(cluster: Cluster) -> None:
    cluster.turn(1, leads=True)
    cluster.members[1].crash()
    cluster.members[1].start(NOW)
    with violates("one primary"):
        cluster.turn(1, leads=True)


def test_a_view_that_goes_back(cluster: Cluster) -> None:
    cluster.turn(1, view=2)
    with violates("monotone"):
        cluster.turn(1, view=1)


def test_a_view_that_goes_back_with_a_restart(cluster: Cluster) -> None:
    cluster.save(1, 3, 2)
    cluster.members[1].crash()
    cluster.checkers.started(cluster.members[1])
    cluster.members[1].core = Posed.__new__(Posed)
    with violates("monotone"):
        cluster.turn(1, view=2)


def test_a_view_that_goes_back_on_disk(cluster: Cluster) -> None:
    cluster.save(1, 3, 2)
    with violates("monotone"):
        cluster.save(1, 2, 2)


def test_a_last_normal_view_that_goes_back_on_disk(cluster: Cluster) -> None:
    cluster.save(1, 3, 3)
    with violates("monotone"):
        cluster.save(1, 4, 2)


def test_an_incarnation_that_is_forgotten_on_disk(cluster: Cluster) -> None:
    cluster.save(1, 3, 3)
    with violates("monotone"):
        cluster.save(1, 3, 3, (11, 11, 13))


def test_a_primary_without_what_an_earlier_one_committed(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.turn(1, leads=True)
    cluster.apply(1, entry(1))
    with violates("complete log"):
        cluster.turn(3, view=1, leads=True)


def test_a_primary_need_not_have_what_its_own_view_commits(cluster: Cluster) -> None:
    cluster.store([entry(1, view=1)], 1, 2)
    cluster.turn(1, view=1)
    cluster.apply(1, entry(1, view=1))
    cluster.turn(3, view=1, leads=True)


def test_a_commit_number_that_goes_back(cluster: Cluster) -> None:
    cluster.turn(1, effects=Effects(commit=4))
    with violates("monotone"):
        cluster.turn(1, effects=Effects(commit=3))


def test_a_read_older_than_what_was_told(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.apply(1, entry(1))
    cluster.checkers.history.tell(1, 1, 1)
    cluster.checkers.read_asked(2, 1, 7)
    with violates("reads"):
        cluster.turn(2, effects=Effects(reads=[ReadReady(7, 0)]))


def test_a_read_may_miss_what_is_told_after_it_asked(cluster: Cluster) -> None:
    cluster.store([entry(1)], 1, 2)
    cluster.checkers.read_asked(2, 1, 7)
    cluster.apply(1, entry(1))
    cluster.checkers.history.tell(1, 1, 1)
    cluster.turn(2, effects=Effects(reads=[ReadReady(7, 0)]))


def test_a_read_that_nobody_asked_for(cluster: Cluster) -> None:
    with violates("reads"):
        cluster.turn(2, effects=Effects(reads=[ReadReady(7, 0)]))


def test_a_promise_in_place_of_a_statement(cluster: Cluster) -> None:
    cluster.turn(1, effects=Effects(sends=[Send(2, Commit(0, 0, 0, 0))]))
    boast = Send(2, PrepareOk(0, 0, 0, 0, INCARNATIONS))  # type: ignore[arg-type]  # what the types forbid
    with violates("promises"):
        cluster.turn(1, effects=Effects(sends=[boast]))


def test_a_promise_that_waits_for_a_write_never_asked_for(cluster: Cluster) -> None:
    promise = SendAfter(9, 2, PrepareOk(0, 0, 0, 0, INCARNATIONS))
    with violates("promises"):
        cluster.turn(1, effects=Effects(promises=[promise]))


KEPT = [
    PrepareOk(4, 2, 0, 0, INCARNATIONS),
    PrepareOk(4, 1, 0, 0, INCARNATIONS),
    DoViewChange(4, 4, 2, 1, INCARNATIONS),
    DoViewChange(3, 1, 9, 1, INCARNATIONS),
    StartView(4, 2, 1),
    RecoveryResponse(4, 1, 2, 1, INCARNATIONS),
]
BROKEN = [
    PrepareOk(4, 3, 0, 0, INCARNATIONS),
    PrepareOk(3, 2, 0, 0, INCARNATIONS),
    PrepareOk(5, 2, 0, 0, INCARNATIONS),
    DoViewChange(5, 4, 2, 1, INCARNATIONS),
    DoViewChange(4, 4, 3, 1, INCARNATIONS),
    DoViewChange(4, 4, 1, 1, INCARNATIONS),
    StartView(5, 2, 1),
    StartView(4, 3, 1),
    RecoveryResponse(4, 1, 3, 1, INCARNATIONS),
    RecoveryResponse(5, 1, 2, 1, INCARNATIONS),
    RecoveryResponse(4, 1, 2, 1, (11, 12, 14)),
]


@pytest.mark.parametrize("message", KEPT, ids=repr)
def test_a_promise_that_the_disk_holds(cluster: Cluster, message: Promise) -> None:
    cluster.store([entry(1), entry(2)], 1)
    cluster.save(1, 4, 4)
    cluster.promise(1, message)


@pytest.mark.parametrize("message", BROKEN, ids=repr)
def test_a_promise_that_the_disk_does_not_hold(cluster: Cluster, message: Promise) -> None:
    cluster.store([entry(1), entry(2)], 1)
    cluster.save(1, 4, 4)
    with violates("promises"):
        cluster.promise(1, message)


def test_a_promise_before_anything_was_saved(cluster: Cluster) -> None:
    assert cluster.members[1].disk.state is None
    with violates("promises"):
        cluster.promise(1, PrepareOk(0, 0, 0, 0, INCARNATIONS))


# Snapshots.


def agreed(cluster: Cluster, count: int) -> list[Entry]:
    """So many entries, committed at members 1 and 2."""
    log = [entry(op) for op in range(1, count + 1)]
    cluster.store(log, 1, 2)
    for member in (1, 2):
        cluster.save(member, 0, 0)
    cluster.apply(1, *log)
    return log


def install(cluster: Cluster, member: int, snapshot: Snapshot, view: int = 0) -> None:
    """A snapshot that has come takes the place of this member's log, durably, in this view."""
    node = cluster.members[member]
    node.queue.clear()
    state = SaveState(DurableState(view, view, INCARNATIONS))
    node.queue.append(Write(9, (Truncate(0), Install(snapshot), state)))
    node.crash(surviving=1)


def test_a_snapshot_stands_for_every_entry_up_to_its_op(cluster: Cluster) -> None:
    agreed(cluster, 3)
    history = cluster.checkers.history
    assert history.snapshot(2) != history.snapshot(3)
    assert history.snapshot(2).viewstamp == (0, 2)
    other = Cluster()
    other.store([entry(1, request=9), entry(2), entry(3)], 1, 2)
    other.apply(1, entry(1, request=9), entry(2), entry(3))
    assert other.checkers.history.snapshot(3).digest != history.snapshot(3).digest


def test_a_snapshot_counts_for_what_it_holds(cluster: Cluster) -> None:
    agreed(cluster, 2)
    assert not cluster.members[3].disk.holds(1, entry(1))
    install(cluster, 3, cluster.checkers.history.snapshot(2))
    assert cluster.members[3].disk.holds(1, entry(1))
    assert (cluster.members[3].disk.base, cluster.members[3].disk.last_op) == (2, 2)


def test_a_member_starts_from_its_snapshot_and_a_margin(cluster: Cluster) -> None:
    agreed(cluster, 3)
    node = cluster.members[2]
    node.applied = [entry(op) for op in range(1, 4)]
    node.margin = 1
    node.take_snapshot(cluster.checkers.history.snapshot(3))
    node.crash(surviving=len(node.queue))
    node.start(NOW)
    assert [each.op for each in node.disk.entries] == [3]
    assert len(node.applied) == 3


def test_a_snapshot_of_what_is_not_committed(cluster: Cluster) -> None:
    agreed(cluster, 2)
    snapshot = replace(cluster.checkers.history.snapshot(2), op=3)
    with violates("snapshot"):
        cluster.checkers.named(cluster.members[1], snapshot)


@pytest.mark.parametrize("changed", [{"view": 1}, {"stamp": 5}, {"digest": bytes(32)}], ids=str)
def test_a_snapshot_of_another_history(cluster: Cluster, changed: dict[str, Any]) -> None:
    agreed(cluster, 2)
    snapshot = replace(cluster.checkers.history.snapshot(2), **changed)
    with violates("snapshot"):
        cluster.checkers.named(cluster.members[1], snapshot)
    with violates("snapshot"):
        cluster.turn(3, effects=Effects(wanted=Wanted(1, snapshot)))
    with violates("snapshot"):
        install(cluster, 3, snapshot)


def test_a_snapshot_that_is_not_on_this_disk(cluster: Cluster) -> None:
    agreed(cluster, 2)
    with violates("snapshot"):
        cluster.checkers.loaded(cluster.members[3], cluster.checkers.history.snapshot(2))


def test_a_snapshot_that_takes_something_back(cluster: Cluster) -> None:
    agreed(cluster, 3)
    node = cluster.members[1]
    node.fetched = cluster.checkers.history.snapshot(2)
    with violates("snapshot"):
        cluster.checkers.loaded(node, node.fetched)


def test_a_log_that_begins_after_what_is_committed(cluster: Cluster) -> None:
    node = cluster.members[1]
    assert isinstance(node.core, Posed)
    node.core.posed = Standing("normal", "backup", 0, None, False, 4, 3, base=4)
    with violates("snapshot"):
        cluster.checkers.turned(node, Effects(commit=3))


def test_an_install_that_drops_what_was_acknowledged(cluster: Cluster) -> None:
    agreed(cluster, 3)
    cluster.promise(2, PrepareOk(0, 3, 0, 0, INCARNATIONS))
    with violates("promises"):
        install(cluster, 2, cluster.checkers.history.snapshot(2))


def test_what_was_acknowledged_in_an_earlier_view_may_go(cluster: Cluster) -> None:
    agreed(cluster, 3)
    cluster.promise(2, PrepareOk(0, 3, 0, 0, INCARNATIONS))
    install(cluster, 2, cluster.checkers.history.snapshot(2), view=1)


@pytest.mark.parametrize("view", [0, 1])
def test_an_acknowledgement_of_another_log_than_the_primarys(cluster: Cluster, view: int) -> None:
    cluster.store([entry(1), entry(2)], 2)
    cluster.save(2, 1, 1)
    node = cluster.members[3]
    assert isinstance(node.core, Posed)
    node.core.posed_log = [entry(1), entry(2, 1)]
    node.core.posed = Standing("normal", "primary", view, 3, True, 2, 0)
    cluster.promise(2, PrepareOk(1, 1, 0, 0, INCARNATIONS))
    with violates("promises") if view == 1 else nullcontext():
        cluster.promise(2, PrepareOk(1, 2, 0, 0, INCARNATIONS))


def test_a_round_is_heard_of_that_was_begun_in_its_view(cluster: Cluster) -> None:
    agreed(cluster, 3)
    cluster.turn(1, leads=True, effects=Effects(sends=[Send(2, Commit(0, 3, 3, 4))]))
    cluster.promise(2, PrepareOk(0, 3, 4, 0, INCARNATIONS))


@pytest.mark.parametrize("begun", [Commit(0, 3, 3, 3), Commit(1, 3, 3, 4)])
def test_a_round_that_nobody_has_begun_in_its_view(cluster: Cluster, begun: Commit) -> None:
    agreed(cluster, 3)
    cluster.turn(1, leads=True, effects=Effects(sends=[Send(2, begun)]))
    with violates("promises"):
        cluster.promise(2, PrepareOk(0, 3, 4, 0, INCARNATIONS))


def test_a_question_that_names_a_round_which_nobody_has_begun(cluster: Cluster) -> None:
    with violates("promises"):
        cluster.turn(2, effects=Effects(sends=[Send(1, GetState(0, 0, 1, 0, 0, 1))]))


def test_a_primary_whose_log_begins_behind_another_history(cluster: Cluster) -> None:
    agreed(cluster, 3)
    node = cluster.members[3]
    assert isinstance(node.core, Posed)
    node.core.posed = Standing("normal", "primary", 1, None, True, 2, 2, base=2)
    node.core._r.log.restart(Viewstamp(1, 2))
    with violates("complete log"):
        cluster.checkers.turned(node, Effects(commit=2))


def test_agreed_time_that_goes_back(cluster: Cluster) -> None:
    late = make_entry(1, 0, 7, Proposal(Kind.COMMAND, 1, 1, 0, b"", 0))
    early = make_entry(2, 0, 6, Proposal(Kind.COMMAND, 1, 2, 0, b"", 0))
    cluster.store([late, early], 1, 2)
    with violates("agreed time"):
        cluster.apply(1, late, early)


def test_a_crash_keeps_a_prefix_of_the_writes() -> None:
    node = Cluster().members[1]
    node.queue.clear()
    node.queue.extend(
        [
            Write(1, (Append((entry(1), entry(2))), SaveState(DurableState(0, 0, INCARNATIONS)))),
            Write(2, (Truncate(1), Append((entry(2, view=1),)), SaveState(DurableState(1, 1, INCARNATIONS)))),
            Write(3, (Append((entry(3, view=1),)),)),
        ]
    )
    node.crash(surviving=2)
    assert [each.viewstamp for each in node.disk.entries] == [(0, 1), (1, 2)]
    assert node.disk.state == DurableState(1, 1, INCARNATIONS)
    assert not node.queue


def test_an_empty_disk_holds_nothing() -> None:
    assert not Disk(1).holds(1, entry(1))


RAFT_DISK = Disk(11, TermAndVote(4, 2, INCARNATIONS), [entry(1), entry(2)])


@pytest.mark.parametrize(
    "message",
    [
        RaftVote(4, True),
        RaftVote(4, False),
        RaftVote(3, True),
        Appended(4, 2, 0),
        Appended(3, 9, 0),
        Rejected(4, 2, 3, 0),
        RequestVote(3, 2, 1, False),
    ],
    ids=repr,
)
def test_a_promise_of_raft_that_the_disk_holds(message: Promise) -> None:
    assert not RaftRules().broken_promise(1, 2, message, RAFT_DISK)


@pytest.mark.parametrize(
    "message",
    [RaftVote(5, True), RaftVote(5, False), Appended(5, 2, 0), Appended(4, 3, 0), Rejected(5, 2, 3, 0)],
    ids=repr,
)
def test_a_promise_of_raft_that_the_disk_does_not_hold(message: Promise) -> None:
    assert RaftRules().broken_promise(1, 2, message, RAFT_DISK)
    assert RaftRules().broken_promise(1, 2, message, Disk(11))


def test_a_vote_for_one_when_the_disk_says_another() -> None:
    assert RaftRules().broken_promise(1, 3, RaftVote(4, True), RAFT_DISK)
    assert RaftRules().broken_promise(1, 3, RequestVote(4, 2, 1, False), RAFT_DISK)


def test_a_vote_of_a_term_is_not_taken_back() -> None:
    rules, given = RaftRules(), TermAndVote(4, 2, INCARNATIONS)
    assert rules.taken_back(given, TermAndVote(4, 3, INCARNATIONS))
    assert rules.taken_back(given, TermAndVote(4, 0, INCARNATIONS))
    assert not rules.taken_back(given, TermAndVote(5, 3, INCARNATIONS))
    assert not rules.taken_back(TermAndVote(4, 0, INCARNATIONS), given)
    assert rules.view_of(given) == 4
