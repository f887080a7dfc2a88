"""View changes: one test per rule of "Viewstamped Replication Revisited" (2012), section 4.2, and of restarts.

Rules that say "ours" differ from the paper or add to it; docs/divergences.md lists them.
"""

from __future__ import annotations

import pytest

from tests.vsr.driven import WALL, Driven, entries, entry, restarted, superseding
from viewstamp.protocol import MILLISECOND, SECOND, Append, SaveState, Truncate
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    StartView,
    StartViewChange,
)

VECTOR = (1, 1, 1)
FIVE = (1, 1, 1, 1, 1)


def propose_view(replica: Driven, sender: int, view: int, *, entered: int = 0) -> None:
    replica.receive(sender, StartViewChange(view, entered, (1,) * len(replica.configuration.members)))


def silence(replica: Driven) -> None:
    """Longer than any suspicion takes."""
    timeouts = replica.configuration.timeouts
    replica.wait(timeouts.suspect + timeouts.jitter + 1)


def joining_view_1() -> Driven:
    """A backup of view 0 that fetches the log of view 1, which has begun."""
    third = Driven(3)
    third.receive(1, Prepare(0, entries(1, 1), 0, 0))
    third.receive(2, StartView(1, 1, 0))
    assert third.status == "state-transfer"
    third.forget()
    return third


def test_4_2_step_1_a_backup_that_hears_nothing_sends_startviewchange_to_all() -> None:
    backup = Driven(2)
    silence(backup)
    first = [(to, m.view, m.entered) for to, m in backup.sent(StartViewChange)][:2]
    assert first == [(1, 1, 0), (3, 1, 0)]


def test_4_2_step_1_ours_proposing_a_view_leaves_the_present_one_alone() -> None:
    """One replica that hears nothing deposes nobody: it stays normal in its view until a quorum wants another."""
    backup = Driven(2)
    silence(backup)
    assert (backup.view, backup.status) == (0, "normal")
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 1
    assert backup.last(PrepareOk).op == 1


def test_4_2_step_1_prepare_and_commit_put_suspicion_off() -> None:
    backup = Driven(2)
    for _ in range(10):
        backup.wait(200 * MILLISECOND)
        backup.receive(1, Commit(0, 0, 0, 0))
    assert backup.sent(StartViewChange) == []


def test_4_2_step_1_ours_a_proposal_is_withdrawn_when_the_primary_is_heard_again() -> None:
    """Else one slow heartbeat, and then another member's, much later, make a quorum against a working primary."""
    backup = Driven(2)
    silence(backup)
    backup.receive(1, Commit(0, 0, 0, 0))
    backup.forget()
    backup.wait(backup.configuration.timeouts.retry + 1)
    assert backup.sent(StartViewChange) == []
    propose_view(backup, 3, 1)
    assert (backup.view, backup.status) == (0, "normal")


def test_4_2_step_1_ours_suspicion_is_drawn_anew_each_time() -> None:
    deadlines = set()
    backup = Driven(2)
    for _ in range(10):
        backup.receive(1, Commit(0, 0, 0, 0))
        deadlines.add(backup.core.deadline)
    timeouts = backup.configuration.timeouts
    assert len(deadlines) > 5
    assert all(timeouts.suspect <= deadline <= timeouts.suspect + timeouts.jitter for deadline in deadlines)


def test_4_2_step_1_ours_one_deaf_backup_does_not_depose_a_backup_that_hears_its_primary() -> None:
    backup = Driven(2)
    for _ in range(10):
        backup.wait(80 * MILLISECOND)
        backup.receive(1, Commit(0, 0, 0, 0))
        propose_view(backup, 3, 1)
    assert (backup.view, backup.status) == (0, "normal")
    assert backup.sent(StartViewChange) == []


def test_4_2_step_1_ours_one_deaf_backup_does_not_depose_a_primary_that_hears_a_majority() -> None:
    """The primary's own word and the deaf one's would be a quorum of three."""
    primary = Driven(1)
    for _ in range(10):
        primary.wait(80 * MILLISECOND)
        primary.receive(2, PrepareOk(0, 0, 0, WALL, VECTOR))
        propose_view(primary, 3, 1)
    assert primary.leads
    assert (primary.view, primary.status) == (0, "normal")
    assert primary.sent(StartViewChange) == []


def test_4_2_step_1_ours_who_has_lost_patience_too_goes_along_with_the_highest_proposal() -> None:
    backup = Driven(2, members=5)
    silence(backup)
    backup.forget()
    propose_view(backup, 4, 3)
    assert {message.view for _, message in backup.sent(StartViewChange)} == {3}
    assert backup.view == 0


def test_4_2_step_1_ours_who_has_missed_one_heartbeat_does_not_go_along_yet() -> None:
    """Where one datagram in five is lost, one backup in a while misses three in a row, and another the last of them."""
    backup = Driven(2, members=5)
    backup.receive(1, Commit(0, 0, 0, 0))
    suspect = backup.configuration.timeouts.suspect
    backup.wait(suspect * 6 // 10)
    propose_view(backup, 4, 1)
    assert backup.sent(StartViewChange) == []
    backup.wait(suspect // 10)
    propose_view(backup, 4, 1)
    assert {message.view for _, message in backup.sent(StartViewChange)} == {1}


def test_4_2_step_1_ours_backups_follow_a_primary_that_gives_way() -> None:
    backup = Driven(2)
    propose_view(backup, 1, 1)
    assert (backup.view, backup.status) == (1, "view-change")


def test_4_2_step_2_a_quorum_of_startviewchange_enters_the_view_and_sends_doviewchange() -> None:
    backup = Driven(3)
    backup.receive(1, Prepare(0, entries(1, 2), 1, 0))
    silence(backup)
    backup.forget()
    propose_view(backup, 2, 1)
    assert (backup.view, backup.status) == (1, "view-change")
    [(to, message)] = backup.sent(DoViewChange)
    assert to == 2
    assert message == DoViewChange(1, 0, 2, 1, VECTOR)


@pytest.mark.parametrize("members", range(2, 8))
def test_4_2_step_2_half_of_an_even_number_is_no_quorum(members: int) -> None:
    backup = Driven(2, members=members)
    silence(backup)
    for wanting, other in enumerate([other for other in range(1, members + 1) if other != 2], start=2):
        assert (backup.view, backup.status) == (0, "normal")
        propose_view(backup, other, 1)
        if 2 * wanting > members:
            break
    assert backup.view == 1


def test_4_2_step_2_ours_a_proposal_falls_with_its_incarnation() -> None:
    """A quorum holds nobody who has forgotten that it was part of it."""
    backup = Driven(2, members=5)
    silence(backup)
    propose_view(backup, 3, 1)
    backup.receive(3, Recovery(7), incarnation=2)
    propose_view(backup, 4, 1)
    assert (backup.view, backup.status) == (0, "normal")
    propose_view(backup, 5, 1)
    assert (backup.view, backup.status) == (1, "view-change")


def test_4_2_step_2_ours_doviewchange_waits_until_the_view_is_durable() -> None:
    """Else: it promises to take part in no earlier view, crashes, comes back in view 0 and acknowledges there."""
    backup = Driven(3, eager=False)
    backup.finish_writes()
    silence(backup)
    propose_view(backup, 2, 1)
    assert backup.sent(DoViewChange) == []
    [write] = backup.writes
    assert write.records == (SaveState(DurableState(1, 0, VECTOR)),)
    backup.finish_writes()
    assert backup.last(DoViewChange).view == 1


def test_4_2_step_2_the_same_startviewchange_twice_counts_once() -> None:
    backup = Driven(3, members=5)
    for _ in range(5):
        propose_view(backup, 2, 1)
    assert backup.view == 0


def test_4_2_step_2_a_quorum_of_others_is_enough() -> None:
    backup = Driven(3, members=5)
    for sender in (2, 4, 5):
        propose_view(backup, sender, 1)
    assert (backup.view, backup.status) == (1, "view-change")


def test_4_2_step_2_startviewchange_for_different_views_are_not_added_up() -> None:
    backup = Driven(3, members=5)
    propose_view(backup, 2, 1)
    propose_view(backup, 4, 2)
    propose_view(backup, 5, 3)
    assert backup.view == 0


def test_4_2_step_2_ours_proposals_of_long_ago_are_not_added_up() -> None:
    """Each of two backups stumbled once, a minute apart; nobody wants another view now."""
    backup = Driven(3, members=5)
    for sender in (2, 4, 5):
        propose_view(backup, sender, 1)
        for _ in range(10):
            backup.wait(80 * MILLISECOND)
            backup.receive(1, Commit(0, 0, 0, 0))
    assert backup.view == 0


def test_4_2_step_2_an_earlier_view_is_not_proposed_again() -> None:
    backup = restarted(1, 4, 4, members=3)
    propose_view(backup, 2, 3)
    propose_view(backup, 3, 3)
    assert backup.view == 4


def test_4_2_step_2_ours_joins_a_view_that_the_proposer_has_entered() -> None:
    """Its sender can come back to no earlier view; without it the others may be too few."""
    backup = Driven(3)
    propose_view(backup, 2, 2, entered=1)
    assert (backup.view, backup.status) == (1, "view-change")


def test_4_2_step_2_ours_startviewchange_tells_only_of_a_view_that_is_durable() -> None:
    """Else others enter it on this word, and its sender crashes and comes back without: one member changed the view."""
    backup = Driven(3, eager=False)
    backup.finish_writes()
    propose_view(backup, 1, 1)
    assert backup.view == 1
    silence(backup)
    assert backup.last(StartViewChange) == StartViewChange(2, 0, VECTOR)
    backup.finish_writes()
    backup.wait(backup.configuration.timeouts.retry + 1)
    assert backup.last(StartViewChange) == StartViewChange(2, 1, VECTOR)


def test_4_2_step_2_ours_a_view_that_has_begun_is_joined_and_not_entered_anew() -> None:
    """It fetches that view's log. Its sender is behind: by its word, the fetch would be given up for a view change."""
    third = joining_view_1()
    propose_view(third, 1, 2, entered=1)
    assert (third.view, third.status) == (0, "state-transfer")


def test_4_2_step_1_ours_a_view_that_has_begun_is_not_proposed_again() -> None:
    """Its primary has fallen silent: the view after it is wanted. For view 1 nobody else would ask any more."""
    third = joining_view_1()
    silence(third)
    assert {message.view for _, message in third.sent(StartViewChange)} == {2}


def test_4_2_in_a_view_change_nothing_of_the_old_view_is_accepted() -> None:
    backup = Driven(3)
    propose_view(backup, 1, 1)
    assert backup.status == "view-change"
    backup.forget()
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    assert backup.op == 0
    assert backup.sent(PrepareOk) == []


def test_4_2_step_3_a_quorum_of_doviewchange_starts_the_view() -> None:
    second = Driven(2)
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert second.leads
    assert [(to, m.view) for to, m in second.sent(StartView)] == [(1, 1), (3, 1)]


def test_4_2_step_3_less_than_a_quorum_starts_nothing() -> None:
    second = Driven(2, members=5)
    for _ in range(3):
        second.receive(3, DoViewChange(1, 0, 0, 0, FIVE))
    assert (second.view, second.status) == (1, "view-change")
    second.receive(4, DoViewChange(1, 0, 0, 0, FIVE))
    assert second.leads


def test_4_2_step_3_doviewchange_of_an_earlier_view_is_not_counted() -> None:
    second = Driven(2)
    silence(second)
    propose_view(second, 3, 4)
    assert second.view == 4
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    second.receive(1, DoViewChange(1, 0, 0, 0, VECTOR))
    assert (second.view, second.status) == (4, "view-change")
    second.receive(1, DoViewChange(4, 0, 0, 0, VECTOR))
    assert second.leads


def test_4_2_step_3_doviewchange_for_another_primary_is_ignored() -> None:
    third = Driven(3)
    third.receive(1, DoViewChange(1, 0, 0, 0, VECTOR))
    assert (third.view, third.status) == (0, "normal")


def test_4_2_step_3_ours_doviewchange_from_before_a_lost_disk_is_not_counted() -> None:
    """Member 3 entered view 1, lost its disk, recovered in view 0 and acknowledged op 1 there.

    Its old DOVIEWCHANGE says that its log is empty: counted, view 1 would begin without op 1.
    """
    second = Driven(2)
    propose_view(second, 1, 1)
    assert second.status == "view-change"
    second.receive(1, StartViewChange(2, 0, superseding(VECTOR, 2, 2)))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR), incarnation=1)
    assert second.status == "view-change"


def test_4_2_step_3_ours_a_doviewchange_already_counted_falls_with_its_incarnation() -> None:
    second = Driven(2, members=5)
    second.receive(3, DoViewChange(1, 0, 0, 0, FIVE))
    second.receive(4, DoViewChange(1, 0, 0, 0, superseding(FIVE, 2, 2)))
    assert second.status == "view-change"


def test_4_2_step_3_the_log_of_the_latest_normal_view_wins_over_a_longer_one() -> None:
    """The longer log is of an earlier view: view 1 can have committed another op 1 in its place."""
    third = restarted(3, 1, 0, entries(1, 3))
    third.forget()
    third.receive(2, DoViewChange(2, 1, 1, 1, VECTOR))
    third.receive(1, DoViewChange(2, 0, 3, 0, VECTOR))
    [(to, question)] = third.sent(GetState)
    assert to == 2
    third.receive(2, NewState(2, question.nonce, question.after, (entry(1, 1),), 1, 1))
    assert third.leads
    assert [third.core.viewstamp_of(op) for op in range(1, third.op + 1)] == [(1, 1)]


def test_4_2_step_3_among_logs_of_one_view_the_longest_wins() -> None:
    """Ours: it is fetched, page by page, from the sender of the best DOVIEWCHANGE."""
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 1), 0, 0))
    second.receive(3, DoViewChange(1, 0, 3, 0, VECTOR))
    assert second.status == "view-change"
    [(to, question)] = second.sent(GetState)
    assert (to, question.view, question.after) == (3, 1, 1)
    second.receive(3, NewState(1, question.nonce, 1, entries(2, 2), 3, 0))
    assert (second.status, second.op) == ("view-change", 1)
    [(_, question)] = second.sent(GetState)
    assert question.after == 2
    second.receive(3, NewState(1, question.nonce, 2, entries(3, 3), 3, 0))
    assert (second.leads, second.op) == (True, 3)


def test_4_2_step_3_the_commit_number_is_the_largest_heard() -> None:
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 3), 1, 0))
    second.receive(3, DoViewChange(1, 0, 2, 2, VECTOR))
    assert (second.leads, second.op, second.commit) == (True, 3, 2)


def test_4_2_step_3_ours_log_and_last_normal_view_change_in_one_write() -> None:
    """A new log under the old last normal view, or the other way round, makes two logs of one rank."""
    third = restarted(3, 1, 0, entries(1, 2))
    third.eager = False
    third.receive(2, DoViewChange(2, 1, 1, 1, VECTOR))
    third.receive(1, DoViewChange(2, 0, 0, 0, VECTOR))
    third.finish_writes()
    question = third.last(GetState)
    third.receive(2, NewState(2, question.nonce, question.after, (entry(1, 1),), 1, 1))
    [write] = third.writes
    assert write.records == (Truncate(0), Append((entry(1, 1),)), SaveState(DurableState(2, 2, VECTOR)))


def test_4_2_step_3_ours_startview_waits_until_log_and_last_normal_view_are_durable() -> None:
    """A crash before that starts one view twice, with two logs."""
    second = Driven(2, eager=False)
    second.finish_writes()
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert (second.leads, second.sent(StartView)) == (False, [])
    second.finish_writes()
    assert second.leads
    assert len(second.sent(StartView)) == 2


def test_4_2_step_3_ours_startview_does_not_take_an_earlier_write_for_its_own() -> None:
    second = Driven(2, eager=False)
    second.finish_writes()
    propose_view(second, 1, 1)
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert len(second.writes) == 2
    second.finish_write()
    assert (second.leads, second.sent(StartView)) == (False, [])
    second.finish_write()
    assert second.leads


def test_4_2_step_4_a_new_primary_commits_what_it_inherited_only_by_a_quorum_of_this_view() -> None:
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 1), 0, 0))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert (second.leads, second.commit) == (True, 0)
    second.receive(3, PrepareOk(0, 1, 0, WALL, VECTOR))
    assert second.commit == 0
    second.receive(3, PrepareOk(1, 1, 0, WALL, VECTOR))
    assert second.commit == 1


def test_4_2_step_5_startview_makes_a_backup_normal_with_the_new_log() -> None:
    third = Driven(3)
    third.receive(1, Prepare(0, entries(1, 2), 0, 0))
    third.receive(2, StartView(1, 1, 0))
    question = third.last(GetState)
    assert question.view == 1
    third.receive(2, NewState(1, question.nonce, question.after, (entry(1, 1),), 1, 0))
    assert (third.view, third.status, third.op) == (1, "normal", 1)
    assert third.core.viewstamp_of(1) == (1, 1)
    assert third.disk.state == DurableState(1, 1, VECTOR)


def test_4_2_step_5_ours_a_backup_acknowledges_what_startview_brought() -> None:
    """Else the uncommitted end of the log waits for the next request."""
    third = Driven(3)
    third.receive(1, Prepare(0, entries(1, 1), 0, 0))
    third.forget()
    third.receive(2, StartView(1, 1, 0))
    question = third.last(GetState)
    third.receive(2, NewState(1, question.nonce, question.after, entries(1, 1), 1, 0))
    assert [(to, m.view, m.op) for to, m in third.sent(PrepareOk)] == [(2, 1, 1)]


def test_4_2_step_5_startview_of_an_earlier_view_is_ignored() -> None:
    third = restarted(3, 3, 3)
    third.receive(2, StartView(1, 4, 4))
    assert (third.view, third.op, third.status) == (3, 0, "normal")


def test_4_2_step_5_startview_from_another_than_the_primary_of_its_view_is_ignored() -> None:
    third = Driven(3)
    third.receive(1, StartView(1, 4, 4))
    assert (third.view, third.status) == (0, "normal")


def test_4_2_step_5_a_delayed_duplicate_startview_changes_nothing() -> None:
    """Applied again, it would cut off what this backup has acknowledged since."""
    third = Driven(3)
    third.receive(2, StartView(1, 0, 0))
    third.receive(2, Prepare(1, entries(1, 2, view=1), 1, 0))
    written = third.done
    third.receive(2, StartView(1, 0, 0))
    assert (third.op, third.commit, third.done, third.status) == (2, 1, written, "normal")


def test_4_2_ours_a_lost_startview_is_made_good_when_doviewchange_is_sent_again() -> None:
    second = Driven(2)
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    second.forget()
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    assert [(to, m.view) for to, m in second.sent(StartView)] == [(3, 1)]


def test_4_2_ours_a_lost_startview_is_made_good_by_a_heartbeat() -> None:
    third = Driven(3)
    propose_view(third, 1, 1)
    third.receive(2, Commit(1, 0, 0, 0))
    assert (third.view, third.status) == (1, "normal")


def test_4_2_ours_doviewchange_is_sent_again_while_the_view_does_not_start() -> None:
    third = Driven(3)
    propose_view(third, 1, 1)
    third.forget()
    third.wait(third.configuration.timeouts.retry + 1)
    assert [(to, m.view) for to, m in third.sent(DoViewChange)] == [(2, 1)]


def test_4_2_ours_a_stalled_view_change_proposes_the_next_view() -> None:
    third = Driven(3)
    propose_view(third, 1, 1)
    silence(third)
    assert third.last(StartViewChange) == StartViewChange(2, 1, VECTOR)
    propose_view(third, 1, 2, entered=1)
    assert third.view == 2


def test_4_2_what_was_counted_for_one_view_is_not_counted_for_the_next() -> None:
    second = Driven(2, members=5)
    second.receive(3, DoViewChange(1, 0, 0, 0, FIVE))
    second.receive(4, DoViewChange(6, 0, 0, 0, FIVE))
    assert (second.view, second.status) == (6, "view-change")
    second.receive(5, DoViewChange(6, 0, 0, 0, FIVE))
    assert second.leads


def test_restart_ours_a_backup_whose_view_is_its_last_normal_view_resumes() -> None:
    backup = restarted(3, 1, 1, entries(1, 2, view=1))
    assert (backup.view, backup.status, backup.op, backup.commit) == (1, "normal", 2, 0)
    assert backup.sent(StartViewChange) == []


def test_restart_ours_a_primary_never_resumes_its_view() -> None:
    """Its peers can hold, and it can have answered for, an op that its own disk lacks."""
    primary = restarted(1, 0, 0)
    assert (primary.leads, primary.status) == (False, "view-change")
    assert primary.propose("a") == 0
    assert {message.view for _, message in primary.sent(StartViewChange)} == {1}


def test_restart_ours_a_replica_in_a_view_change_proposes_the_next_view_and_says_again_what_it_promised() -> None:
    backup = restarted(3, 1, 0)
    assert (backup.view, backup.status) == (1, "view-change")
    assert {message.view for _, message in backup.sent(StartViewChange)} == {2}
    backup.wait(backup.configuration.timeouts.retry + 1)
    assert [(to, m.view, m.last_normal_view) for to, m in backup.sent(DoViewChange)] == [(2, 1, 0)]


def test_restart_ours_late_doviewchange_do_not_start_a_view_a_second_time() -> None:
    """The duplicates say what the logs were before view 1 began: counted again, they would cut off op 1."""
    second = restarted(2, 1, 1, entries(1, 1, view=1))
    second.receive(1, DoViewChange(1, 0, 0, 0, VECTOR))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    second.wait(SECOND // 10)
    assert (second.leads, second.op) == (False, 1)


def test_restart_ours_a_page_that_comes_when_no_doviewchange_counts_any_more_is_taken() -> None:
    """Its own is not among them after a restart, and all others have lost their disks since. Input never raises."""
    second = restarted(2, 1, 0)
    second.receive(1, DoViewChange(1, 0, 1, 1, VECTOR))
    second.receive(3, DoViewChange(1, 0, 1, 1, VECTOR))
    [(to, question)] = second.sent(GetState)
    second.receive(to, StartViewChange(1, 0, (7, 1, 7)), incarnation=7)
    second.receive(to, NewState(1, question.nonce, 0, entries(1, 1), 1, 0), incarnation=7)
    assert second.op == 1


def test_restart_what_was_durable_is_there_and_what_was_not_may_be_gone() -> None:
    backup = Driven(3, eager=False)
    backup.finish_writes()
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    backup.finish_writes()
    backup.receive(1, Prepare(0, entries(2, 2), 0, 0))
    again = backup.restarted()
    assert (again.op, again.view) == (1, 0)
