"""Snapshots on the way into a view: one test per rule of "Viewstamped Replication Revisited" (2012), 4.2, 4.3 and 5.2.

Rules that say "ours" differ from the paper or add to it; docs/divergences.md lists them.
"""

from __future__ import annotations

from dataclasses import replace

from tests.protocol.driven import snapshot
from tests.vsr.driven import Driven, entries, restarted
from tests.vsr.snapshots import VECTOR, compacted, held, joiner, offer, page, recoverer
from viewstamp.protocol import (
    MILLISECOND,
    SECOND,
    Append,
    Install,
    SaveState,
    Truncate,
)
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    NewSnapshot,
    Prepare,
    PrepareOk,
    Recovery,
    StartView,
    StartViewChange,
)

# Joining a view that has begun (5.2), from far behind.


def test_5_2_ours_nothing_changes_until_snapshot_and_pages_are_in_hand() -> None:
    """A snapshot alone would be a log shorter than what this replica has acknowledged in its last normal view."""
    backup, question = joiner(entries(1, 4))
    before = held(backup)
    backup.receive(2, offer(question, snapshot(10), 20))
    assert backup.wants == (2, 10)
    assert held(backup) == before
    backup.fetched(snapshot(10))
    assert held(backup) == before
    assert backup.restored == []
    assert backup.writes == []
    assert backup.disk.snapshot is None
    following = backup.last(GetState)
    assert following.after == 10
    backup.receive(2, page(following, 11, 15, op=20))
    assert held(backup) == before
    backup.receive(2, page(backup.last(GetState), 16, 20, commit=18))
    assert held(backup) == (1, "normal", 20, 18, 1)
    assert backup.restored == [snapshot(10)]


def test_5_2_ours_then_everything_changes_in_one_write() -> None:
    backup, question = joiner(entries(1, 4), eager=False)
    backup.receive(2, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    backup.receive(2, page(backup.last(GetState), 11, 20, commit=18))
    [write] = backup.writes
    assert write.records == (
        Truncate(0),
        Install(snapshot(10)),
        Append(entries(11, 20)),
        SaveState(DurableState(1, 1, VECTOR)),
    )
    assert backup.sent(PrepareOk) == []
    backup.finish_writes()
    assert backup.last(PrepareOk).op == 20


def test_5_2_ours_a_restart_in_the_middle_stays_in_the_old_view_with_the_old_log() -> None:
    backup, question = joiner(entries(1, 4))
    backup.receive(2, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    backup.receive(2, page(backup.last(GetState), 11, 15, op=20))
    again = backup.restarted()
    assert (again.view, again.status, again.op, again.commit, again.base) == (0, "normal", 4, 0, 0)


def test_5_2_ours_a_snapshot_may_reach_beyond_what_was_looked_for() -> None:
    """The view began with op 8; its primary has ordered and compacted more since."""
    backup, question = joiner(target=8)
    backup.receive(2, offer(question, snapshot(10), 10))
    assert backup.status == "state-transfer"
    backup.fetched(snapshot(10))
    assert held(backup) == (1, "normal", 10, 10, 1)


def test_5_2_ours_a_snapshot_whose_last_operation_is_in_the_log_is_not_fetched() -> None:
    """The logs part behind it: op 11 and 12 here were given up."""
    backup, question = joiner(entries(1, 12))
    backup.receive(2, offer(question, snapshot(10), 20))
    assert backup.wants is None
    following = backup.last(GetState)
    assert following.after == 10
    backup.receive(2, page(following, 11, 20, view=1, commit=10))
    assert (backup.view, backup.op, backup.base, backup.restored) == (1, 20, 0, [])
    assert [backup.core.entry(op).view for op in (10, 11, 12)] == [0, 1, 1]


def test_5_2_ours_a_higher_view_drops_the_snapshot() -> None:
    backup, question = joiner(entries(1, 4))
    backup.receive(2, offer(question, snapshot(10), 20))
    backup.receive(2, StartViewChange(2, 2, VECTOR))
    assert (backup.view, backup.status, backup.wants) == (2, "view-change", None)
    backup.fetched(snapshot(10))
    assert (backup.op, backup.restored) == (4, [])


def test_5_2_ours_a_later_view_that_has_begun_is_joined_instead() -> None:
    backup = restarted(5, 0, 0, entries(1, 4), members=5)
    backup.receive(2, StartView(1, 20, 0))
    backup.receive(2, offer(backup.last(GetState), snapshot(10), 20))
    assert backup.wants == (2, 10)
    backup.receive(3, StartView(2, 20, 0))
    assert backup.wanted is None
    [(to, question)] = backup.sent(GetState)
    assert (to, question.view) == (3, 2)
    backup.receive(3, offer(question, snapshot(10), 20))
    assert backup.wants == (3, 10), "the same bytes: what has come stays good"


def test_5_2_ours_a_page_from_before_the_offer_does_not_complete_the_log() -> None:
    """It would install a snapshot that is on no disk."""
    backup, question = joiner(entries(1, 10), target=15)
    backup.receive(2, offer(question, snapshot(12), 15))
    backup.receive(2, page(question, 11, 15))
    assert (backup.status, backup.op, backup.restored) == ("state-transfer", 10, [])
    assert backup.wants == (2, 12)
    backup.fetched(snapshot(12))
    backup.receive(2, page(backup.last(GetState), 13, 15))
    assert (backup.status, backup.op, backup.base) == ("normal", 15, 12)


def test_5_2_ours_a_source_that_has_compacted_further_meanwhile_is_fetched_from_anew() -> None:
    """The transfer took long, and the page behind the snapshot is gone too: a newer one takes the place of both."""
    backup, question = joiner()
    backup.receive(2, offer(question, snapshot(10), 20))
    backup.fetched(snapshot(10))
    backup.receive(2, page(backup.last(GetState), 11, 15, op=20))
    following = backup.last(GetState)
    backup.receive(2, offer(following, snapshot(10), 20))
    assert backup.wanted is None, "a duplicate of the first offer"
    backup.receive(2, offer(following, snapshot(30), 33))
    assert backup.wants == (2, 30)
    backup.fetched(snapshot(30))
    assert held(backup) == (1, "normal", 30, 30, 1)
    assert backup.restored == [snapshot(30)]
    assert backup.disk.entries == []


def test_5_2_ours_who_joins_by_a_snapshot_goes_on_asking_to_show_that_it_is_there() -> None:
    """It is not in the view yet and answers no heartbeat; the primary may depend on it for its majority."""
    backup, question = joiner()
    backup.receive(2, offer(question, snapshot(10), 20))
    for _ in range(5):
        backup.wait(100 * MILLISECOND)
        assert backup.sent(GetState)
        backup.receive(2, offer(question, snapshot(10), 20))
        backup.receive(2, Commit(1, 20, 10, 0))
    assert backup.wants == (2, 10)


def test_5_2_ours_a_primary_that_is_asked_for_its_log_is_heard() -> None:
    """Nobody else is left: giving way each time, it would never get that member back."""
    primary = compacted(5)
    for number in range(20):
        primary.wait(100 * MILLISECOND)
        primary.receive(3, GetState(0, 0, number, round=primary.last(Commit).round))
    assert primary.leads
    primary.wait(SECOND)
    assert not primary.leads


def test_5_2_ours_the_first_question_in_a_view_shows_that_its_start_was_heard() -> None:
    """STARTVIEW tells of no round. A primary that waited for the PREPAREOK would wait for four links and a disk."""
    primary = compacted(5)
    primary.wait(primary.configuration.timeouts.suspect)
    primary.receive(3, GetState(0, 0, 1, round=0))
    primary.wait(primary.configuration.timeouts.suspect)
    assert primary.leads
    primary.receive(3, GetState(0, 0, 1, round=0))
    primary.wait(primary.configuration.timeouts.suspect)
    assert not primary.leads, "and the same once more shows nothing"


def test_5_2_ours_a_member_that_asks_and_does_not_hear_the_primary_is_no_answer() -> None:
    """It is deaf: the primary would lead on with it for ever, and commit nothing."""
    primary = compacted(5)
    for number in range(20):
        primary.wait(100 * MILLISECOND)
        primary.receive(3, GetState(0, 0, number, round=1))
    assert not primary.leads


def test_5_2_ours_pieces_of_a_snapshot_show_that_its_source_is_alive() -> None:
    backup, question = joiner()
    backup.receive(2, offer(question, snapshot(10), 20))
    for _ in range(20):
        backup.wait(200 * MILLISECOND)
        backup.fetching(snapshot(10))
    assert backup.sent(StartViewChange) == []
    backup.wait(SECOND)
    assert backup.sent(StartViewChange), "and silence, that it is not"


# Recovery of a lost disk (4.3), from a log that begins with a snapshot.


def test_4_3_ours_recovery_takes_snapshot_and_pages_at_once() -> None:
    third, question = recoverer(eager=False)
    assert question.after == 0
    third.receive(1, offer(question, snapshot(10), 20))
    assert third.wants == (1, 10)
    third.fetched(snapshot(10))
    assert (third.status, third.op, third.commit, third.restored, third.writes) == ("recovering", 0, 0, [], [])
    third.receive(1, page(third.last(GetState), 11, 20, commit=20))
    assert (third.status, third.view, third.op, third.commit) == ("normal", 0, 20, 20)
    [write] = third.writes
    assert write.records == (
        Install(snapshot(10)),
        Append(entries(11, 20)),
        SaveState(DurableState(0, 0, (1, 1, 2))),
    )
    assert third.sent(PrepareOk) == []
    third.finish_writes()
    assert third.last(PrepareOk).op == 20


def test_4_3_ours_a_log_that_is_a_snapshot_and_nothing_more_is_recovered_too() -> None:
    third, question = recoverer(op=10)
    third.receive(1, offer(question, snapshot(10), 10))
    third.fetched(snapshot(10))
    assert (third.status, third.op, third.commit, third.base) == ("normal", 10, 10, 10)


def test_4_3_ours_recovery_is_patient_while_a_snapshot_comes() -> None:
    third, question = recoverer()
    third.receive(1, offer(question, snapshot(10), 20))
    for _ in range(20):
        third.wait(SECOND)
        third.fetching(snapshot(10))
    assert third.sent(Recovery) == []
    assert third.wants == (1, 10)
    third.wait(2 * SECOND)
    assert third.sent(Recovery), "its source is gone: ask all again"
    assert third.wants is None


# A new primary (4.2).


def test_4_2_ours_a_new_primary_that_is_too_far_behind_gives_way() -> None:
    """The cluster would wait for a whole snapshot's transfer; whoever holds the best log can lead at once."""
    second = Driven(2)
    second.receive(3, DoViewChange(1, 0, 20, 15, VECTOR))
    question = second.last(GetState)
    second.receive(3, offer(question, snapshot(10), 20))
    assert second.wants is None
    assert not second.leads
    assert {message.view for _, message in second.sent(StartViewChange)} == {2}
    second.receive(3, page(question, 1, 20))
    assert not second.leads, "what was asked for comes after all, too late"


def test_4_2_ours_only_the_holder_of_the_best_log_can_make_it_give_way() -> None:
    second = Driven(2)
    second.receive(3, DoViewChange(1, 0, 20, 15, VECTOR))
    question = second.last(GetState)
    second.receive(1, offer(question, snapshot(10), 20))
    second.receive(3, replace(offer(question, snapshot(10), 20), nonce=question.nonce ^ 1))
    assert second.sent(StartViewChange) == []
    second.receive(3, page(question, 1, 20))
    assert second.leads


def test_4_2_ours_a_new_primary_that_holds_the_snapshots_last_operation_does_not_give_way() -> None:
    """Restarted, it does not know what was committed; only what follows the snapshot differs."""
    second = restarted(2, 3, 0, entries(1, 12))
    second.receive(3, DoViewChange(4, 2, 20, 15, VECTOR))
    second.receive(3, offer(second.last(GetState), snapshot(10), 20))
    following = second.last(GetState)
    assert following.after == 10
    second.receive(3, page(following, 11, 20, view=2))
    assert second.leads
    assert second.core.entry(11).view == 2


def test_4_2_a_compacted_log_starts_a_view() -> None:
    """Its DOVIEWCHANGE carries numbers only; the backups fetch from behind the snapshot, or the snapshot itself."""
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 5), 5, 0))
    second.compact(5)
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert second.leads
    assert (second.last(StartView).op, second.base) == (5, 5)
    second.receive(3, GetState(1, 0, 7))
    assert second.last(NewSnapshot).snapshot == snapshot(5)
