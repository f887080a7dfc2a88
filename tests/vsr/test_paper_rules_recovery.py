"""Recovery and state transfer: one test per rule of "Viewstamped Replication Revisited" (2012), sections 4.3 and 5.2.

Rules that say "ours" differ from the paper or add to it; docs/divergences.md lists them.
"""

from __future__ import annotations

import pytest

from tests.vsr.driven import WALL, Driven, entries, entry, lost, restarted, superseding
from viewstamp.protocol import (
    MILLISECOND,
    Append,
    Configuration,
    Limits,
    Lost,
    Message,
    SaveState,
    Timeouts,
    Truncate,
)
from vsr import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
    StartViewChange,
)

VECTOR = (1, 1, 1)


def ask(replica: Driven) -> int:
    """Let a recovering replica ask; returns its nonce."""
    replica.tick()
    return replica.last(Recovery).nonce


def answer(replica: Driven, sender: int, nonce: int, *, view: int = 0, op: int = 0) -> None:
    members = len(replica.configuration.members)
    vector = superseding((1,) * members, replica.me - 1, 2)
    replica.receive(sender, RecoveryResponse(view, nonce, op, op, vector))


def test_4_3_step_1_a_replica_without_its_disk_asks_all_others_with_a_nonce() -> None:
    third = lost(3)
    third.tick()
    sent = third.sent(Recovery)
    assert [to for to, _ in sent] == [1, 2]
    assert len({message.nonce for _, message in sent}) == 1


@pytest.mark.parametrize(
    "message",
    [
        Prepare(0, entries(1, 1), 0, 0),
        Commit(0, 0, 0, 0),
        StartViewChange(1, 1, VECTOR),
        DoViewChange(2, 0, 0, 0, VECTOR),
        StartView(0, 0, 0),
        GetState(0, 0, 1),
        NewState(0, 1, 0, entries(1, 1), 1, 1),
        PrepareOk(0, 0, 0, WALL, VECTOR),
        Recovery(7),
    ],
    ids=lambda message: type(message).__name__,
)
def test_4_3_while_recovering_it_takes_part_in_nothing(message: Message) -> None:
    """What it promised before its loss it does not know: whatever it says now could break that."""
    third = lost(3)
    ask(third)
    third.receive(1, message)
    assert third.status == "recovering"
    assert third.outbox == []
    assert third.writes == []
    assert third.disk.entries == []


def test_4_3_step_2_only_a_normal_replica_answers() -> None:
    backup = Driven(2)
    backup.receive(3, Recovery(7), incarnation=2)
    assert [(to, m.nonce, m.view) for to, m in backup.sent(RecoveryResponse)] == [(3, 7, 0)]
    changing = restarted(2, 1, 0)
    changing.receive(3, Recovery(7), incarnation=2)
    assert changing.sent(RecoveryResponse) == []


def test_4_3_step_2_ours_the_new_incarnation_is_durable_before_the_answer() -> None:
    """Else it crashes, forgets, and counts the asker's old promises together with its own."""
    backup = Driven(2, eager=False)
    backup.finish_writes()
    backup.receive(3, Recovery(7), incarnation=2)
    assert backup.sent(RecoveryResponse) == []
    assert backup.writes[0].records == (SaveState(DurableState(0, 0, (1, 1, 2))),)
    backup.finish_writes()
    assert backup.last(RecoveryResponse).vector == (1, 1, 2)


def test_4_3_step_2_ours_an_incarnation_learned_from_a_vector_is_durable_before_the_answer_too() -> None:
    backup = Driven(2, eager=False)
    backup.finish_writes()
    backup.receive(1, StartViewChange(0, 0, (1, 1, 2)))
    backup.receive(3, Recovery(7), incarnation=2)
    assert backup.sent(RecoveryResponse) == []
    backup.finish_writes()
    assert isinstance(backup.disk.state, DurableState)
    assert backup.disk.state.incarnations == (1, 1, 2)
    assert len(backup.sent(RecoveryResponse)) == 1


def test_4_3_step_3_it_waits_for_enough_answers() -> None:
    third = lost(3)
    nonce = ask(third)
    answer(third, 1, nonce)
    answer(third, 1, nonce)
    assert third.status == "recovering"
    answer(third, 2, nonce)
    assert (third.status, third.view) == ("normal", 0)


@pytest.mark.parametrize(("members", "needed"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_4_3_step_3_ours_as_many_answers_as_meet_every_quorum_it_was_part_of(members: int, needed: int) -> None:
    last = lost(members, members=members)
    nonce = ask(last)
    for sender in range(1, 1 + needed):
        assert last.status == "recovering"
        answer(last, sender, nonce)
    assert last.status == "normal"


def test_4_3_step_3_ours_an_answer_falls_with_its_incarnation() -> None:
    """Its sender has forgotten that it answered, and so that it counts no promise of mine from before."""
    third = lost(3, members=5)
    nonce = ask(third)
    answer(third, 1, nonce)
    answer(third, 2, nonce)
    third.receive(2, StartViewChange(1, 0, (1, 1, 2, 1, 1)), incarnation=2)
    answer(third, 4, nonce)
    assert third.status == "recovering"
    answer(third, 5, nonce)
    assert third.status == "normal"


def test_4_3_step_3_one_of_them_must_be_the_primary_of_the_highest_view() -> None:
    third = lost(3, members=5)
    nonce = ask(third)
    answer(third, 1, nonce, view=0)
    answer(third, 2, nonce, view=0)
    answer(third, 4, nonce, view=4)
    assert third.status == "recovering"
    answer(third, 5, nonce, view=4)
    assert (third.status, third.view) == ("normal", 4)


def test_4_3_step_3_the_answer_of_that_primary_must_be_of_that_view() -> None:
    """Member 2 answered in view 0; what was committed in view 1, which it leads by now, is not in that answer."""
    last = lost(5, members=5)
    nonce = ask(last)
    answer(last, 2, nonce, view=0)
    answer(last, 3, nonce, view=1, op=1)
    answer(last, 4, nonce, view=1, op=1)
    assert last.status == "recovering"
    assert last.sent(GetState) == []


def test_4_3_step_3_answers_that_straddle_a_view_change_wait_for_the_newer_primary() -> None:
    """Member 1's answer is of view 0, which it led; member 2's of view 1, which it leads by now: so from member 2."""
    third = lost(3)
    nonce = ask(third)
    answer(third, 1, nonce, view=0, op=5)
    answer(third, 2, nonce, view=1, op=1)
    question = third.last(GetState)
    assert question.view == 1
    third.receive(2, NewState(1, question.nonce, 0, (entry(1, 1),), 1, 1))
    assert (third.view, third.op, third.commit, third.status) == (1, 1, 1, "normal")


def test_4_3_step_3_answers_to_another_question_are_not_counted() -> None:
    """Of an earlier life, say, which asked before what this one may have promised since."""
    third = lost(3)
    nonce = ask(third)
    answer(third, 1, nonce + 1)
    answer(third, 2, nonce + 1)
    assert third.status == "recovering"
    answer(third, 1, nonce)
    assert third.status == "recovering"


def test_4_3_ours_it_asks_again_until_it_has_recovered_and_answers_to_each_time_count_together() -> None:
    """Each answer waits for a disk, which can be slower than the pause: counted anew each time, it asked for ever."""
    third = lost(3)
    nonces = {ask(third) for _ in range(5)}
    assert len(nonces) == 1
    answer(third, 1, *nonces)
    assert ask(third) in nonces
    answer(third, 2, *nonces)
    assert third.status == "normal"


def test_4_3_ours_of_two_answers_of_a_member_the_newer_counts() -> None:
    """The first ones straddle a view change, and the primary of view 1 is gone: asked again they are all of view 3."""
    last = lost(5, members=5)
    nonce = ask(last)
    answer(last, 1, nonce, view=0, op=1)
    answer(last, 3, nonce, view=1, op=1)
    answer(last, 4, nonce, view=1, op=1)
    assert last.sent(GetState) == []
    ask(last)
    answer(last, 4, nonce, view=3, op=2)
    assert [(to, question.view) for to, question in last.sent(GetState)] == [(4, 3)]


def test_4_3_ours_an_older_answer_that_comes_late_takes_the_place_of_none() -> None:
    """The log would be fetched up to an op that its primary is long past."""
    last = lost(5, members=5)
    nonce = ask(last)
    answer(last, 1, nonce, view=0, op=9)
    answer(last, 2, nonce, view=1, op=2)
    answer(last, 1, nonce, view=0, op=3)
    answer(last, 2, nonce, view=0, op=9)
    answer(last, 3, nonce, view=1, op=2)
    assert [(to, question.view) for to, question in last.sent(GetState)] == [(2, 1)]


def test_4_3_ours_it_asks_anew_when_the_log_was_not_to_be_had() -> None:
    """Its source has died, or moved on: what it answered is no longer where the log is."""
    third = lost(3)
    nonce = ask(third)
    answer(third, 1, nonce, op=2)
    answer(third, 2, nonce, op=2)
    assert len(third.sent(GetState)) == 1
    third.wait(20 * third.configuration.timeouts.retry)
    again = third.last(Recovery).nonce
    assert again != nonce
    answer(third, 1, nonce, op=2)
    answer(third, 2, again, view=1, op=2)
    assert third.status == "recovering"
    answer(third, 1, again, view=0, op=2)
    assert third.last(GetState).view == 1


def test_4_3_ours_a_page_that_takes_many_times_retry_is_waited_for() -> None:
    """A round trip of 120 ms, and a retry of 5: all else works, so whoever lost its disk must come back too."""
    configuration = Configuration((1, 2, 3), Timeouts(retry=5 * MILLISECOND))
    third = Driven(3, origin=Lost(2), configuration=configuration)
    nonce = ask(third)
    answer(third, 1, nonce, op=1)
    answer(third, 2, nonce, op=1)
    asked = third.last(GetState).nonce
    third.wait(120 * MILLISECOND)
    third.receive(1, NewState(0, asked, 0, entries(1, 1), 1, 1))
    assert third.status == "normal"


def test_4_3_step_4_it_is_normal_again_once_the_whole_log_is_in_hand_and_promises_once_that_is_durable() -> None:
    third = lost(3)
    third.eager = False
    nonce = ask(third)
    answer(third, 1, nonce, op=2)
    answer(third, 2, nonce, op=2)
    question = third.last(GetState)
    third.receive(1, NewState(0, question.nonce, 0, entries(1, 1), 2, 2))
    assert third.status == "recovering"
    question = third.last(GetState)
    third.receive(1, NewState(0, question.nonce, 1, entries(2, 2), 2, 2))
    assert (third.status, third.op, third.commit) == ("normal", 2, 2)
    [write] = third.writes
    assert write.records == (Append(entries(1, 2)), SaveState(DurableState(0, 0, (1, 1, 2))))
    assert third.sent(PrepareOk) == []
    third.finish_writes()
    assert third.last(PrepareOk).op == 2


def test_4_3_ours_a_recovered_member_knows_who_else_has_lost_a_disk() -> None:
    """Else what member 5 promised before its loss, and is still under way, would count here."""
    third = lost(3, members=5)
    nonce = ask(third)
    for sender in (1, 2, 4):
        third.receive(sender, RecoveryResponse(0, nonce, 0, 0, (1, 1, 2, 1, 7)))
    assert third.status == "normal"
    third.receive(5, DoViewChange(2, 0, 0, 0, (1, 1, 2, 1, 1)), incarnation=1)
    assert (third.view, third.status) == (0, "normal")


def test_4_3_ours_a_second_loss_with_a_clock_that_went_back_asks_for_a_larger_incarnation() -> None:
    third = lost(3, incarnation=2)
    nonce = ask(third)
    third.receive(1, RecoveryResponse(0, nonce, 0, 0, (1, 1, 5)))
    assert third.supersede == 5


def test_4_3_ours_an_older_incarnation_is_told_so() -> None:
    backup = Driven(2)
    backup.receive(3, Recovery(7), incarnation=5)
    backup.forget()
    backup.receive(3, Recovery(8), incarnation=2)
    assert backup.last(RecoveryResponse).vector == (1, 1, 5)


def test_5_2_a_replica_that_lags_asks_from_its_op_number() -> None:
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, 2), 0, 0))
    backup.receive(1, Commit(0, 4, 2, 0))
    backup.wait(backup.configuration.timeouts.retry)
    to, question = backup.sent(GetState)[0]
    assert (to, question.view, question.after) == (1, 0, 2)
    backup.receive(1, NewState(0, question.nonce, 2, entries(3, 4), 4, 3))
    assert (backup.op, backup.commit) == (4, 3)
    assert backup.last(PrepareOk).op == 4


def test_5_2_newstate_is_sent_in_pages() -> None:
    primary = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(page_entries=2)))
    primary.propose("a", "b", "c")
    primary.receive(2, GetState(0, 0, 7))
    [(to, page)] = primary.sent(NewState)
    assert (to, page.nonce, page.after, len(page.entries), page.op) == (2, 7, 0, 2, 3)
    primary.receive(2, GetState(0, 2, 7))
    assert [e.op for e in primary.last(NewState).entries] == [3]


def test_5_2_ours_a_question_for_what_is_already_the_end_is_answered() -> None:
    primary = Driven(1)
    primary.propose("a")
    primary.receive(2, GetState(0, 1, 7))
    assert primary.last(NewState).entries == ()


def test_5_2_a_question_about_another_view_is_not_answered() -> None:
    """Nor is one about an earlier view that this member led: its log is of the later one, if no entry shows it."""
    primary = Driven(1)
    primary.receive(2, GetState(3, 0, 7))
    assert primary.sent(NewState) == []
    second = restarted(2, 3, 3, entries(1, 2))
    second.receive(3, GetState(1, 0, 7))
    assert second.sent(NewState) == []


def test_5_2_ours_a_log_frozen_for_a_view_change_goes_to_that_views_primary_only() -> None:
    third = restarted(3, 1, 0, entries(1, 1))
    third.receive(1, GetState(1, 0, 7))
    assert third.sent(NewState) == []
    third.receive(2, GetState(1, 0, 7))
    assert len(third.sent(NewState)) == 1


def joining() -> tuple[Driven, GetState]:
    """Member 3 with op 1 to 3 of view 0, commit-number 1, which hears that view 1 has begun with one more entry."""
    third = Driven(3)
    third.receive(1, Prepare(0, entries(1, 3), 1, 0))
    third.receive(2, Prepare(1, (entry(3, 1),), 1, 0))
    return third, third.last(GetState)


def test_5_2_a_replica_that_hears_of_a_later_view_asks_from_its_commit_number() -> None:
    _, question = joining()
    assert (question.view, question.after) == (1, 1)


def test_5_2_ours_the_log_is_not_shortened_before_the_new_state_is_in_hand() -> None:
    """The paper cuts it back to the commit-number first, which takes a committed op from its majority."""
    third, question = joining()
    assert (third.op, third.view) == (3, 0)
    assert len(third.disk.entries) == 3
    third.receive(1, StartViewChange(2, 2, VECTOR))
    third.receive(2, StartViewChange(2, 2, VECTOR))
    assert (third.view, third.op) == (2, 3)
    assert question.view == 1


def test_5_2_ours_view_and_last_normal_view_change_together_with_the_log() -> None:
    third, question = joining()
    assert third.disk.state == DurableState(0, 0, VECTOR)
    third.eager = False
    third.receive(2, NewState(1, question.nonce, 1, (entry(2, 0), entry(3, 1)), 3, 2))
    assert (third.status, third.view, third.commit) == ("normal", 1, 2)
    assert third.core.viewstamp_of(3) == (1, 3)
    [write] = third.writes
    assert write.records == (Truncate(2), Append((entry(3, 1),)), SaveState(DurableState(1, 1, VECTOR)))


def test_5_2_ours_newstate_with_another_nonce_is_ignored() -> None:
    third, question = joining()
    third.receive(2, NewState(1, question.nonce ^ 1, 1, (entry(2, 0), entry(3, 1)), 3, 2))
    assert (third.status, third.op, third.view) == ("state-transfer", 3, 0)


def test_5_2_ours_newstate_from_another_member_is_ignored() -> None:
    third, question = joining()
    third.receive(1, NewState(1, question.nonce, 1, (entry(2, 0), entry(3, 1)), 3, 2))
    assert third.status == "state-transfer"


def test_5_2_ours_a_later_view_change_cancels_state_transfer() -> None:
    third, question = joining()
    third.receive(1, StartViewChange(2, 2, VECTOR))
    assert (third.status, third.view) == ("view-change", 2)
    third.receive(2, NewState(1, question.nonce, 1, (entry(2, 0), entry(3, 1)), 3, 2))
    assert (third.status, third.view, third.core.viewstamp_of(3)) == ("view-change", 2, (0, 3))


def test_5_2_ours_the_question_is_asked_again_until_it_is_answered() -> None:
    third, question = joining()
    third.wait(third.configuration.timeouts.retry)
    again = third.last(GetState)
    assert (again.view, again.after) == (question.view, question.after)


def test_5_2_ours_a_backup_that_waits_for_state_acknowledges_nothing() -> None:
    third, _ = joining()
    third.forget()
    third.receive(2, Prepare(1, (entry(4, 1),), 1, 0))
    assert third.sent(PrepareOk) == []
