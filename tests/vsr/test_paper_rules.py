"""Normal operation: one test per rule of "Viewstamped Replication Revisited" (2012), sections 4.1, 4.4 and 6.2.

Rules that say "ours" differ from the paper or add to it; docs/divergences.md lists them.
"""

from __future__ import annotations

import pytest

from tests.vsr.driven import WALL, Driven, entries, entry, restarted, superseding
from viewstamp.protocol import MILLISECOND, SECOND, Append, Configuration, Limits
from vsr import Commit, DoViewChange, GetState, NewState, Prepare, PrepareOk, StartViewChange

VECTOR = (1, 1, 1)


def acknowledge(primary: Driven, backup: int, op: int, *, view: int = 0, incarnation: int = 1) -> None:
    vector = (1,) * len(primary.configuration.members)
    primary.receive(backup, PrepareOk(view, op, 0, WALL, vector), incarnation)


def test_4_the_primary_is_chosen_round_robin_by_view() -> None:
    assert [Driven(me).leads for me in (1, 2, 3)] == [True, False, False]
    second = Driven(2)
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert second.leads
    assert second.view == 1


def test_4_1_step_1_only_the_primary_takes_requests() -> None:
    assert Driven(1).propose("a") == 1
    assert Driven(2).propose("a") == 0


def test_4_1_step_3_the_primary_orders_appends_and_sends_prepare_to_all_others() -> None:
    primary = Driven(1)
    assert primary.propose("a", "b") == 1
    assert primary.op == 2
    sent = primary.sent(Prepare)
    assert [to for to, _ in sent] == [2, 3]
    for _, message in sent:
        assert message.view == 0
        assert [(e.op, e.view, e.body) for e in message.entries] == [(1, 0, b"a"), (2, 0, b"b")]
        assert message.commit == 0
    assert primary.propose("c") == 3


def test_4_1_step_3_prepare_may_leave_before_the_primarys_own_write_is_durable() -> None:
    primary = Driven(1, eager=False)
    primary.finish_writes()
    primary.propose("a")
    assert primary.writes
    assert len(primary.sent(Prepare)) == 2


def test_4_1_step_4_a_backup_appends_in_order_and_answers_prepareok() -> None:
    backup = Driven(2)
    backup.forget()
    backup.receive(1, Prepare(0, entries(1, 2), 0, 0))
    assert backup.op == 2
    assert [(to, m.view, m.op) for to, m in backup.sent(PrepareOk)] == [(1, 0, 2)]


def test_4_1_step_4_ours_prepareok_waits_for_the_backups_disk() -> None:
    backup = Driven(2, eager=False)
    backup.finish_writes()
    backup.forget()
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.sent(PrepareOk) == []
    backup.finish_writes()
    assert backup.last(PrepareOk).op == 1


def test_4_1_step_4_a_backup_does_not_accept_a_prepare_with_a_gap() -> None:
    backup = Driven(2)
    backup.forget()
    backup.receive(1, Prepare(0, entries(2, 2), 0, 0))
    assert backup.op == 0
    assert all(message.op == 0 for _, message in backup.sent(PrepareOk))


def test_4_1_step_4_what_came_early_is_taken_once_the_gap_is_filled() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(2, 3), 0, 0))
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 3
    assert backup.last(PrepareOk).op == 3


def test_4_1_step_4_a_gap_that_stays_is_fetched_from_the_primary() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(3, 3), 0, 0))
    backup.wait(10 * MILLISECOND)
    [(to, question)] = backup.sent(GetState)
    assert (to, question.view, question.after) == (1, 0, 0)
    backup.receive(1, NewState(0, question.nonce, 0, entries(1, 2), 3, 0))
    assert backup.op == 3


def test_4_1_step_4_ours_nothing_is_fetched_before_a_gap_has_stayed() -> None:
    """Messages overtake each other all the time: asking each time, a backup would fetch what is on its way already."""
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(2, 2), 0, 0))
    backup.core.tick(backup.now)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 2
    assert backup.sent(GetState) == []


def test_4_1_step_4_a_duplicate_prepare_is_acknowledged_again_and_changes_nothing() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 2), 0, 0))
    written = backup.done
    backup.forget()
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 2
    assert backup.done == written
    assert backup.last(PrepareOk).op == 2


def test_4_1_step_4_a_prepare_of_an_earlier_view_is_ignored() -> None:
    backup = restarted(3, 1, 1)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 0
    assert backup.core.ignored["an earlier view"] == 1


def test_4_1_step_4_only_the_primary_of_the_view_may_prepare() -> None:
    backup = Driven(2)
    backup.receive(3, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 0
    assert backup.core.ignored["not the primary of its view"] == 1


def test_4_1_step_4_ours_a_prepare_of_a_later_view_is_never_appended() -> None:
    """Its op-number fits, its history may not: op 1 here can be another one than the op 1 that view 1 began with."""
    backup = Driven(3)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    backup.receive(2, Prepare(1, entries(2, 2, view=1), 0, 0))
    assert backup.op == 1
    assert backup.status == "state-transfer"
    assert [(to, m.view, m.after) for to, m in backup.sent(GetState)] == [(2, 1, 0)]


def test_4_1_step_5_an_op_is_committed_by_f_prepareok_and_the_primary() -> None:
    primary = Driven(1)
    primary.propose("a")
    assert primary.commit == 0
    acknowledge(primary, 2, 1)
    assert primary.commit == 1


def test_4_1_step_5_prepareok_commits_all_earlier_ops_too() -> None:
    primary = Driven(1)
    primary.propose("a")
    primary.propose("b")
    acknowledge(primary, 3, 2)
    assert primary.commit == 2


def test_4_1_step_5_ours_the_primary_counts_itself_only_when_its_own_write_is_durable() -> None:
    primary = Driven(1, eager=False)
    primary.finish_writes()
    primary.propose("a")
    acknowledge(primary, 2, 1)
    assert primary.commit == 0
    primary.finish_writes()
    assert primary.commit == 1


def test_4_1_step_5_two_backups_commit_without_the_primarys_disk() -> None:
    primary = Driven(1, eager=False)
    primary.finish_writes()
    primary.propose("a")
    acknowledge(primary, 2, 1)
    acknowledge(primary, 3, 1)
    assert primary.commit == 1


@pytest.mark.parametrize(("members", "needed"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_4_1_step_5_ours_the_quorum_is_a_majority_for_even_sizes_too(members: int, needed: int) -> None:
    """With f + 1 of n = 4 two disjoint pairs could commit two different ops."""
    primary = Driven(1, members=members)
    primary.propose("a")
    for backup in range(2, 2 + needed):
        assert primary.commit == 0
        acknowledge(primary, backup, 1)
    assert primary.commit == 1


def test_4_1_step_5_a_duplicate_prepareok_counts_once() -> None:
    primary = Driven(1, members=5)
    primary.propose("a")
    for _ in range(4):
        acknowledge(primary, 2, 1)
    assert primary.commit == 0


def test_4_1_step_5_a_late_smaller_prepareok_takes_nothing_back() -> None:
    primary = Driven(1, members=5)
    primary.propose("a", "b")
    acknowledge(primary, 2, 2)
    acknowledge(primary, 2, 1)
    acknowledge(primary, 3, 2)
    assert primary.commit == 2


def test_4_1_step_5_prepareok_of_another_view_is_not_counted() -> None:
    primary = Driven(1)
    primary.propose("a")
    acknowledge(primary, 2, 1, view=3)
    assert primary.commit == 0


def test_4_1_step_5_prepareok_beyond_the_log_is_not_counted() -> None:
    primary = Driven(1)
    primary.propose("a")
    acknowledge(primary, 2, 2)
    assert primary.commit == 0


def test_4_1_step_5_ours_prepareok_from_before_a_lost_disk_is_not_counted() -> None:
    """Member 2 acknowledged op 1 and then lost its disk: nobody but the primary holds op 1."""
    primary = Driven(1)
    primary.propose("a")
    primary.receive(3, PrepareOk(0, 0, 0, WALL, superseding(VECTOR, 1, 2)))
    acknowledge(primary, 2, 1, incarnation=1)
    assert primary.commit == 0
    assert primary.core.ignored["a superseded incarnation"] == 1


def test_4_1_step_5_ours_a_prepareok_already_counted_falls_with_its_incarnation() -> None:
    primary = Driven(1, members=5)
    primary.propose("a")
    acknowledge(primary, 2, 1)
    primary.receive(3, PrepareOk(0, 1, 0, WALL, (1, 2, 1, 1, 1)))
    assert primary.commit == 0
    acknowledge(primary, 2, 1, incarnation=2)
    assert primary.commit == 1


def test_4_1_step_6_the_next_prepare_tells_the_commit_number() -> None:
    primary = Driven(1)
    primary.propose("a")
    acknowledge(primary, 2, 1)
    primary.forget()
    primary.propose("b")
    assert [message.commit for _, message in primary.sent(Prepare)] == [1, 1]


def test_4_1_step_6_an_idle_primary_tells_it_by_commit() -> None:
    primary = Driven(1)
    primary.propose("a")
    acknowledge(primary, 2, 1)
    primary.forget()
    primary.wait(primary.configuration.timeouts.heartbeat)
    assert [(to, m.op, m.commit) for to, m in primary.sent(Commit)] == [(2, 1, 1), (3, 1, 1)]


def test_4_1_step_7_a_backup_commits_what_it_holds_up_to_the_commit_number() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 2), 0, 0))
    assert backup.commit == 0
    backup.receive(1, Commit(0, 2, 1, 0))
    assert backup.commit == 1
    backup.receive(1, Prepare(0, entries(3, 3), 2, 0))
    assert backup.commit == 2


def test_4_1_step_7_a_commit_that_overtakes_its_prepare_commits_nothing_missing() -> None:
    backup = Driven(2)
    backup.receive(1, Commit(0, 2, 2, 0))
    assert (backup.op, backup.commit) == (0, 0)
    backup.receive(1, Prepare(0, entries(1, 2), 0, 0))
    backup.receive(1, Commit(0, 2, 2, 0))
    assert backup.commit == 2


def test_4_1_step_7_a_late_smaller_commit_number_takes_nothing_back() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 2), 2, 0))
    backup.receive(1, Commit(0, 2, 1, 0))
    assert backup.commit == 2


def test_4_1_ours_a_backup_that_has_committed_n_still_answers_prepareok_n() -> None:
    """Its PREPAREOK n was lost, and the primary lost its own count: without another one it would wait for ever."""
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 1), 1, 0))
    backup.forget()
    backup.receive(1, Commit(0, 1, 1, 0))
    assert backup.last(PrepareOk).op == 1


def test_4_1_ours_an_idle_heartbeat_shows_a_backup_what_it_missed() -> None:
    backup = Driven(2)
    backup.receive(1, Commit(0, 2, 0, 0))
    backup.wait(10 * MILLISECOND)
    assert [m.after for _, m in backup.sent(GetState)] == [0]


def test_4_1_ours_a_primary_that_hears_no_majority_stops_acting_and_gives_way() -> None:
    """It can send and receives nothing: its heartbeats would keep the backups passive while nothing commits."""
    primary = Driven(1)
    primary.wait(SECOND // 2)
    assert not primary.leads
    assert primary.propose("a") == 0
    assert {message.view for _, message in primary.sent(StartViewChange)} == {1}
    primary.forget()
    primary.wait(SECOND)
    assert primary.sent(Commit) == []


def test_4_1_ours_commands_do_not_put_its_doubt_off() -> None:
    """Each PREPARE makes the next heartbeat needless, and so it must not be the heartbeat alone that wakes it."""
    primary = Driven(1)
    primary.wait_busy(SECOND // 2, 20 * MILLISECOND)
    assert not primary.leads


def test_4_1_ours_a_primary_whose_disk_hangs_gives_way() -> None:
    primary = Driven(1, eager=False)
    primary.finish_writes()
    primary.propose("a")
    for _ in range(10):
        primary.wait(50 * MILLISECOND)
        for backup in (2, 3):
            acknowledge(primary, backup, 0)
    assert not primary.leads
    assert "disk" in primary.core.standing.waiting


def test_4_1_ours_a_primary_whose_disk_is_slow_and_goes_on_stays() -> None:
    """The last write waits for two others. Were that a disk that hangs, all members would give way to each other."""
    primary = Driven(1, eager=False)
    primary.finish_writes()
    for name in "abcdefghij":
        primary.propose(name)
        primary.propose(name)
        for _ in range(4):
            primary.wait(50 * MILLISECOND)
            for backup in (2, 3):
                acknowledge(primary, backup, 0)
        primary.finish_write()
    assert len(primary.writes) == 10
    assert primary.leads


def test_4_1_ours_a_working_primary_does_not_doubt_itself() -> None:
    primary = Driven(1)
    for _ in range(20):
        primary.wait(80 * MILLISECOND)
        acknowledge(primary, 3, 0)
    assert primary.leads


def test_4_1_ours_a_full_pipeline_refuses_proposals() -> None:
    configuration = Configuration((1, 2, 3), limits=Limits(pipeline_entries=2))
    primary = Driven(1, configuration=configuration)
    assert primary.propose("a", "b", "c") == 0
    assert primary.propose("a", "b") == 1
    assert primary.propose("c") == 0
    acknowledge(primary, 2, 1)
    assert primary.propose("c") == 3


def test_4_1_ours_what_is_committed_makes_room_in_the_pipeline() -> None:
    primary = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    for op in range(1, 30):
        assert primary.propose("a") == op
        acknowledge(primary, 2, op)


def test_4_1_ours_what_was_in_the_pipeline_of_an_earlier_view_takes_no_room_in_this_one() -> None:
    """Nothing of it is ever committed. Counted on, it could keep a primary from taking any request."""
    primary = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    while primary.propose("a"):
        pass
    primary.receive(2, DoViewChange(3, 2, 0, 0, primary.vector))
    assert (primary.view, primary.leads, primary.op) == (3, True, 0)
    assert primary.propose("a") == 1


def test_4_1_ours_what_a_new_primary_takes_over_is_in_its_pipeline() -> None:
    """Else each view that commits nothing would let the log grow by as much again."""
    second = Driven(2, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    second.receive(1, Prepare(0, entries(1, 10), 0, 0))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert second.leads
    assert second.propose("a") == 0
    acknowledge(second, 3, 10, view=1)
    assert second.propose("a") == 11


def test_4_1_ours_no_message_carries_more_than_a_page() -> None:
    primary = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(page_entries=2)))
    primary.propose("a", "b", "c", "d", "e")
    assert [len(message.entries) for to, message in primary.sent(Prepare) if to == 2] == [2, 2, 1]


def test_4_1_ours_resigning_hands_the_view_on_at_once() -> None:
    primary = Driven(1)
    primary.core.resign(primary.now)
    primary.wait(0)
    assert not primary.leads
    assert {message.view for _, message in primary.sent(StartViewChange)} == {1}
    primary.receive(2, StartViewChange(1, 0, VECTOR))
    assert (primary.view, primary.status) == (1, "view-change")


def test_4_1_malformed_messages_are_counted_and_change_nothing() -> None:
    backup = Driven(3)
    for message in (
        Prepare(0, (), 0, 0),
        Prepare(0, (entry(1, 1),), 0, 0),
        Prepare(2, (entry(1, 2), entry(2, 1)), 0, 0),
        Commit(0, 1, 2, 0),
        PrepareOk(0, 0, 0, 0, (1, 1)),
        DoViewChange(2, 3, 0, 0, VECTOR),
    ):
        backup.receive(1, message)
    assert (backup.view, backup.op, backup.status) == (0, 0, "normal")
    assert sum(backup.core.ignored.values()) == 6


def test_4_1_ours_no_view_is_believed_that_is_thousands_of_years_ahead() -> None:
    """One damaged message would use the numbers up: no view after it has an encoding, or is believed by others."""
    backup = Driven(3)
    far = (1 << 63) + 1  # one that member 2 leads
    for message in (
        Commit(far, 1, 0, 0),
        StartViewChange(far, 0, VECTOR),
        StartViewChange(1, far, VECTOR),
        DoViewChange(far + 1, 0, 0, 0, VECTOR),
    ):
        backup.receive(2, message)
    assert (backup.view, backup.status, backup.core.standing.waiting) == (0, "normal", "")
    assert backup.core.ignored["malformed: a view out of range"] == 4


def test_4_1_messages_of_strangers_are_ignored() -> None:
    backup = Driven(3)
    backup.receive(9, Prepare(0, entries(1, 1), 0, 0))
    backup.receive(3, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 0
    assert backup.core.ignored["unknown sender"] == 2


def test_4_4_the_primary_fixes_the_time_in_the_entry() -> None:
    primary = Driven(1)
    primary.propose("a")
    assert primary.core.entry(1).stamp == WALL


def test_4_4_ours_agreed_time_never_goes_back_at_a_failover() -> None:
    ahead = WALL + SECOND // 2
    second = restarted(2, 0, 0, (entry(1, 0, stamp=ahead),))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert second.leads
    second.propose("b")
    assert second.core.entry(2).stamp >= ahead


def test_4_4_ours_nor_behind_what_was_fetched() -> None:
    """Whoever caught up by pages has heard of no later entry when it is to lead."""
    ahead = WALL + SECOND // 2
    third = Driven(3)
    third.receive(2, Commit(1, 1, 1, 0))
    asked = third.last(GetState)
    third.receive(2, NewState(1, asked.nonce, 0, (entry(1, 1, stamp=ahead),), 1, 1))
    third.receive(1, DoViewChange(2, 1, 1, 0, VECTOR))
    assert third.leads
    third.propose("b")
    assert third.core.entry(2).stamp >= ahead


def test_4_4_ours_one_wrong_clock_cannot_run_away_with_agreed_time() -> None:
    primary = Driven(1)
    primary.propose("a")
    primary.now = primary.now._replace(wall=WALL + 3600 * SECOND)
    primary.propose("b")
    assert primary.core.entry(2).stamp <= WALL + 2 * SECOND


def test_4_4_ours_nor_can_that_of_a_new_primary_which_has_followed_another() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    backup.now = backup.now._replace(wall=WALL + 3600 * SECOND)
    backup.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert backup.leads
    backup.propose("b")
    assert backup.core.entry(2).stamp <= WALL + 2 * SECOND


def test_6_2_requests_of_one_turn_share_one_prepare_and_one_write() -> None:
    primary = Driven(1, eager=False)
    primary.finish_writes()
    primary.propose("a", "b", "c")
    assert len(primary.sent(Prepare)) == 2
    [write] = primary.writes
    [record] = write.records
    assert isinstance(record, Append)
    assert len(record.entries) == 3
