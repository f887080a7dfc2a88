"""Snapshots and compaction: one test per rule of "Viewstamped Replication Revisited" (2012), sections 5.1 and 5.2.

Rules that say "ours" differ from the paper or add to it; docs/divergences.md lists them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.protocol.driven import snapshot
from tests.vsr.driven import WALL, Driven, entries, entry
from tests.vsr.snapshots import VECTOR, compacted, joiner, laggard, offer, page
from viewstamp.protocol import (
    MILLISECOND,
    SECOND,
    Configuration,
    Durable,
    Entry,
    Install,
    InvariantError,
    Limits,
    Snapshot,
    Truncate,
)
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    NewSnapshot,
    NewState,
    Prepare,
    PrepareOk,
    StartView,
    StartViewChange,
)

# Compaction (5.1).


def test_5_1_entries_before_a_snapshot_may_go_and_a_margin_stays() -> None:
    primary = compacted(5, keep_after=3, last=7)
    assert (primary.base, primary.op, primary.commit) == (3, 7, 5)
    assert primary.core.entry(4).op == 4
    assert primary.core.viewstamp_of(3) == (0, 3)
    with pytest.raises(InvariantError, match="outside the log"):
        primary.core.entry(3)


def test_5_1_ours_what_is_not_committed_is_in_no_snapshot() -> None:
    primary = Driven(1)
    primary.propose("a", "b")
    primary.receive(2, PrepareOk(0, 1, 0, WALL, VECTOR))
    with pytest.raises(InvariantError, match="beyond commit"):
        primary.core.compact(snapshot(2), 2, primary.now)


def test_5_1_ours_a_margin_beyond_the_snapshot_drops_nothing_that_it_does_not_hold() -> None:
    """Op 3 is not committed yet: it is needed for the next view."""
    primary = Driven(1)
    primary.propose("a", "b", "c")
    primary.receive(2, PrepareOk(0, 2, 0, WALL, VECTOR))
    primary.core.compact(snapshot(1), 3, primary.now)
    assert primary.base == 1
    assert [primary.core.entry(op).op for op in (2, 3)] == [2, 3]


def test_5_1_an_older_snapshot_changes_nothing() -> None:
    primary = compacted(5, keep_after=2)
    primary.core.compact(snapshot(4), 4, primary.now)
    assert primary.base == 2


def test_5_1_a_primary_goes_on_behind_its_snapshot() -> None:
    primary = compacted(5)
    assert primary.propose("a") == 6
    assert [message.entries[0].op for _, message in primary.sent(Prepare)] == [6, 6]
    primary.receive(3, PrepareOk(0, 6, 0, WALL, VECTOR))
    assert primary.commit == 6


# Answering GETSTATE (5.2).


@pytest.mark.parametrize("after", [0, 2])
def test_5_2_a_question_from_below_the_base_is_answered_by_the_snapshot(after: int) -> None:
    primary = compacted(5, keep_after=3, last=7)
    primary.receive(3, GetState(0, after, 77))
    assert primary.sent(NewState) == []
    [(to, answer)] = primary.sent(NewSnapshot)
    assert to == 3
    assert (answer.view, answer.nonce, answer.op, answer.commit) == (0, 77, 7, 5)
    assert answer.snapshot == snapshot(5)


@pytest.mark.parametrize("after", [3, 4, 7])
def test_5_2_what_the_margin_holds_is_answered_by_a_page(after: int) -> None:
    primary = compacted(5, keep_after=3, last=7)
    primary.receive(3, GetState(0, after, 77))
    assert primary.sent(NewSnapshot) == []
    answer = primary.last(NewState)
    assert answer.after == after
    assert [each.op for each in answer.entries] == list(range(after + 1, 8))


def test_5_2_ours_a_page_is_enough_for_an_asker_whose_last_entry_is_in_the_log() -> None:
    """It was restarted and does not know how far its log was committed; it has all the same."""
    primary = compacted(5, keep_after=3, last=7)
    primary.receive(3, GetState(0, 0, 77, 0, 6))
    assert primary.sent(NewSnapshot) == []
    assert [each.op for each in primary.last(NewState).entries] == [7]


def test_5_2_ours_the_base_itself_is_known_by_its_viewstamp() -> None:
    primary = compacted(5, last=7)
    primary.receive(3, GetState(0, 0, 77, 0, 5))
    assert primary.last(NewState).after == 5
    primary.receive(3, GetState(0, 0, 78, 1, 5))
    assert primary.last(NewSnapshot).snapshot_op == 5


def test_5_2_another_last_entry_is_answered_by_the_snapshot() -> None:
    primary = compacted(5, last=7)
    primary.receive(3, GetState(0, 0, 77, 0, 4))
    assert primary.last(NewSnapshot).snapshot_op == 5


# A backup that lags behind (5.2).


def test_5_2_a_backup_wants_the_snapshot_from_whom_it_asked_and_asks_nothing_meanwhile() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    assert backup.wants == (1, 10)
    assert (backup.status, backup.op, backup.commit) == ("normal", 1, 0)
    for _ in range(20):
        backup.wait(50 * MILLISECOND)
        backup.receive(1, Commit(0, 20, 0, 0))
    assert backup.sent(GetState) == []
    assert backup.wants == (1, 10)
    assert "snapshot" in backup.core.standing.waiting


def test_5_2_a_snapshot_in_hand_takes_the_place_of_the_log_and_pages_follow() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    assert (backup.base, backup.op, backup.commit) == (10, 10, 10)
    assert backup.restored == [snapshot(10)]
    assert backup.wants is None
    following = backup.last(GetState)
    assert following.after == 10
    backup.receive(1, page(following, 11, 20, commit=15))
    assert (backup.op, backup.commit) == (20, 15)
    assert [each.op for each in backup.disk.entries] == list(range(11, 21))


def test_5_2_ours_the_log_is_dropped_and_the_snapshot_installed_in_one_write() -> None:
    backup, question = laggard(3)
    backup.receive(1, Commit(0, 20, 2, 0))
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.eager = False
    backup.fetched(snapshot(10))
    [write] = backup.writes
    assert write.records == (Truncate(2), Install(snapshot(10)))


def test_5_2_ours_prepareok_waits_until_the_installation_is_durable() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.eager = False
    backup.fetched(snapshot(10))
    assert backup.sent(PrepareOk) == []
    backup.receive(1, Commit(0, 20, 0, 0))
    assert backup.sent(PrepareOk) == []
    backup.finish_writes()
    assert {message.op for _, message in backup.sent(PrepareOk)} == {10}


def test_5_2_ours_prepares_that_came_early_are_taken_behind_the_snapshot() -> None:
    backup, question = laggard(target=12)
    backup.receive(1, offer(question, snapshot(10), 12))
    backup.receive(1, Prepare(0, entries(13, 14), 0, 0))
    backup.fetched(snapshot(10))
    backup.receive(1, page(backup.last(GetState), 11, 12))
    assert backup.op == 14


def test_5_2_ours_what_was_acknowledged_while_a_snapshot_came_is_not_dropped_for_it() -> None:
    """PREPAREs that were thought lost arrive after the offer: op 20 is acknowledged, and may be committed by that."""
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, Prepare(0, entries(2, 20), 1, 0))
    assert backup.last(PrepareOk).op == 20
    assert backup.wants is None, "not needed any more"
    backup.fetched(snapshot(10))
    assert backup.op == 20
    assert backup.disk.last_op == 20
    assert backup.restored == []


def test_5_2_ours_nor_what_a_late_page_has_joined_to_prepares_that_came_early() -> None:
    """The page alone ends before the snapshot, the PREPAREs behind it reach beyond: op 14 is acknowledged."""
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, Prepare(0, entries(7, 14), 1, 0))
    backup.receive(1, page(question, 2, 6, op=20))
    assert backup.last(PrepareOk).op == 14
    backup.fetched(snapshot(10))
    assert (backup.op, backup.disk.last_op) == (14, 14)
    assert backup.restored == []


def test_5_2_ours_nor_for_one_of_what_has_been_compacted_meanwhile() -> None:
    """As before, and then op 14 is committed, and in a snapshot of the backup's own."""
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, Prepare(0, entries(7, 14), 1, 0))
    backup.receive(1, page(question, 2, 6, op=20))
    backup.receive(1, Commit(0, 20, 14, 0))
    backup.compact(14)
    backup.fetched(snapshot(10))
    assert (backup.op, backup.base) == (14, 14)
    assert backup.restored == []


def test_5_2_ours_a_late_page_makes_a_snapshot_needless() -> None:
    """The answer to the first question was slow; that to the second offered a snapshot."""
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, page(question, 2, 12, op=20))
    assert backup.op == 12
    assert backup.wants is None
    backup.wait(100 * MILLISECOND)
    assert backup.last(GetState).after == 12


def test_5_2_ours_a_fetch_that_failed_is_asked_for_again() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.fetch_failed(snapshot(10))
    assert backup.wants is None
    again = backup.last(GetState)
    backup.receive(1, offer(again, snapshot(15), 20))
    assert backup.wants == (1, 15)


def test_5_2_ours_the_news_of_another_snapshot_changes_nothing() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    other = replace(snapshot(10), digest=bytes(31) + b"1")
    backup.fetch_failed(other)
    backup.fetching(other)
    backup.fetched(other)
    assert backup.wants == (1, 10)
    assert backup.op == 1


def test_5_2_ours_news_that_nobody_waits_for_change_nothing() -> None:
    backup = Driven(2)
    for event in (backup.fetched, backup.fetch_failed, backup.fetching):
        event(snapshot(10))
    assert (backup.op, backup.commit, backup.restored) == (0, 0, [])


def test_5_2_ours_a_snapshot_older_than_the_commit_number_is_not_installed() -> None:
    """It was offered twice: what came of it the first time is behind already."""
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    backup.fetched(snapshot(10))
    assert backup.restored == [snapshot(10)]
    backup.receive(1, offer(question, snapshot(5), 20))
    assert backup.wants is None
    assert backup.core.ignored["NEWSNAPSHOT of what is here"] == 1


def test_5_2_ours_a_newer_snapshot_is_offered_once_its_source_has_compacted_further() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    backup.receive(1, offer(backup.last(GetState), snapshot(30), 40))
    assert backup.wants == (1, 30)
    backup.fetched(snapshot(30))
    assert (backup.base, backup.commit) == (30, 30)


def test_5_2_ours_a_backup_that_restarts_in_the_middle_begins_with_its_old_log() -> None:
    backup, question = laggard(3)
    backup.receive(1, offer(question, snapshot(10), 20))
    again = backup.restarted()
    assert (again.op, again.base, again.status, again.wants) == (3, 0, "normal", None)


# Offers that are not taken.


def test_5_2_ours_only_the_asked_for_snapshot_is_wanted() -> None:
    backup, question = laggard()
    good = offer(question, snapshot(10), 20)
    backup.receive(3, good)
    backup.receive(1, replace(good, nonce=question.nonce ^ 1))
    backup.receive(1, replace(good, view=1))
    assert backup.wants is None
    assert backup.core.ignored["NEWSNAPSHOT that was not asked for"] == 3


def test_5_2_ours_a_second_offer_does_not_restart_a_transfer_under_way() -> None:
    backup, question = laggard()
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, offer(question, snapshot(10), 20))
    backup.receive(1, offer(question, snapshot(12), 20))
    assert backup.wants == (1, 10)
    assert backup.core.ignored["NEWSNAPSHOT while one is being fetched"] == 2


@pytest.mark.parametrize(
    "damage",
    [
        {"snapshot_op": 0},
        {"size": 0},
        {"size": 1 << 50},
        {"digest": bytes(31)},
        {"digest": b""},
        {"snapshot_view": 1},
        {"commit": 9},
        {"op": 9},
        {"stamp": 1 << 63},
    ],
    ids=str,
)
def test_5_2_ours_a_malformed_offer_is_ignored(damage: dict[str, Any]) -> None:
    """No operation, no bytes, too many, no digest, of a later view, not committed, beyond its log, of no time."""
    backup, question = laggard()
    backup.receive(1, replace(offer(question, snapshot(10), 20), **damage))
    assert backup.wants is None
    assert [reason for reason in backup.core.ignored if reason.startswith("malformed")]


# Restarts.


def restarted_on(taken: Snapshot, log: tuple[Entry, ...] = (), *, me: int = 3, view: int = 0) -> Driven:
    return Driven(me, origin=Durable(DurableState(view, view, VECTOR), log, taken))


def test_5_1_what_a_snapshot_holds_is_committed_after_a_restart() -> None:
    backup = restarted_on(snapshot(10), entries(11, 13))
    assert (backup.commit, backup.op, backup.base) == (10, 13, 10)


def test_5_1_the_last_viewstamp_is_known_even_if_the_log_is_empty() -> None:
    backup = restarted_on(snapshot(10, view=3), view=3)
    assert (backup.op, backup.core.viewstamp_of(10)) == (10, (3, 10))
    for sender in (1, 2):
        backup.receive(sender, StartViewChange(4, 3, VECTOR))
    message = backup.last(DoViewChange)
    assert (message.last_normal_view, message.op, message.commit) == (3, 10, 10)


def test_5_1_ours_a_log_that_begins_before_its_snapshot_keeps_its_margin() -> None:
    """The view of the op before the first entry is not known: that entry becomes the base."""
    backup = restarted_on(snapshot(10), entries(7, 13))
    assert (backup.base, backup.op, backup.commit) == (7, 13, 10)
    primary = restarted_on(snapshot(10), entries(7, 13), me=2)
    primary.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert primary.leads
    primary.receive(3, GetState(1, 7, 1))
    assert [each.op for each in primary.last(NewState).entries] == list(range(8, 14))
    primary.receive(3, GetState(1, 6, 2))
    assert primary.last(NewSnapshot).snapshot_op == 10


def test_5_1_a_member_restarts_on_what_it_installed() -> None:
    backup, question = joiner(entries(1, 4))
    backup.receive(2, offer(question, snapshot(10), 12))
    backup.fetched(snapshot(10))
    backup.receive(2, page(backup.last(GetState), 11, 20, commit=18))
    again = backup.restarted()
    assert (again.view, again.status, again.base, again.op, again.commit) == (1, "normal", 10, 20, 10)


def test_5_2_ours_a_restarted_replica_joins_from_its_snapshot_on() -> None:
    backup = restarted_on(snapshot(10), entries(11, 12))
    backup.receive(2, StartView(1, 20, 10))
    question = backup.last(GetState)
    assert (question.after, question.last_view, question.last_op) == (10, 0, 12)
    backup.receive(2, page(question, 11, 20, view=1))
    assert [backup.core.entry(op).view for op in (11, 12)] == [1, 1]


# The agreed time (4.4).


@pytest.mark.parametrize("ahead", [SECOND // 2, 3600 * SECOND])
def test_4_4_ours_agreed_time_does_not_go_back_behind_a_snapshot(ahead: int) -> None:
    """Its last entry's time is known only by the snapshot's name; the clock here is behind that."""
    taken = snapshot(10, stamp=WALL + ahead)
    second = restarted_on(taken, me=2)
    second.receive(3, DoViewChange(1, 0, 10, 10, VECTOR))
    assert second.leads
    second.propose("a")
    assert second.core.entry(11).stamp >= taken.stamp


def test_4_4_ours_nor_after_an_installation() -> None:
    taken = snapshot(10, stamp=WALL + SECOND // 2)
    backup, question = laggard()
    backup.receive(1, offer(question, taken))
    backup.fetched(taken)
    backup.receive(3, DoViewChange(1, 0, 10, 10, VECTOR))
    assert backup.leads
    backup.propose("a")
    assert backup.core.entry(11).stamp >= taken.stamp


# The bound of the log in memory (ours).


def test_ours_a_primary_refuses_proposals_while_snapshots_do_not_keep_up() -> None:
    size = len(entry(1, name="1").encoded)
    primary = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(log_bytes=2 * size)))
    for op in (1, 2, 3):
        assert primary.propose(str(op)) == op
        primary.receive(2, PrepareOk(0, op, 0, WALL, VECTOR))
    assert primary.propose("4") == 0
    primary.compact(2)
    assert primary.propose("4") == 4
