"""What a view leaves behind at a member, and what it must not leave to the next one."""

from __future__ import annotations

from tests.vsr.driven import Driven, entries, entry, restarted
from vsr import (
    DoViewChange,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    StartView,
    StartViewChange,
)


def propose_view(replica: Driven, sender: int, view: int) -> None:
    replica.receive(sender, StartViewChange(view, 0, replica.vector))


def do_view_change(view: int, last_normal_view: int, op: int, members: int) -> DoViewChange:
    return DoViewChange(view, last_normal_view, op, 0, (1,) * members)


def test_a_prepare_that_came_early_is_not_taken_for_one_of_the_next_view() -> None:
    """Op 4 of view 0 waits for those before it, which never come. View 1 puts others in their places.

    Taken up behind op 3 of view 1, it would be acknowledged to the new primary as its own op 4.
    """
    backup = Driven(3)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    backup.receive(1, Prepare(0, entries(4, 4), 0, 0))
    assert backup.op == 1
    backup.receive(2, StartView(1, 2, 0))
    asked = backup.last(GetState)
    backup.receive(2, NewState(1, asked.nonce, asked.after, (entry(1), entry(2, 1)), 2, 0))
    assert (backup.view, backup.status, backup.op) == (1, "normal", 2)
    assert backup.last(PrepareOk).op == 2
    backup.receive(2, Prepare(1, (entry(3, 1),), 0, 0))
    assert (backup.op, backup.last(PrepareOk).op) == (3, 3)
    backup.receive(2, Prepare(1, (entry(4, 1),), 0, 0))
    assert backup.core.entry(4).view == 1


def test_what_comes_in_the_turn_in_which_a_view_is_joined_is_dropped_from_the_disk_too() -> None:
    """The old primary's last PREPARE, and the STARTVIEW of a view that has begun without it, are taken in one turn.

    Were it written behind the truncation that drops it, the disk would hold it as a part of the new view's log: after a
    restart it is acknowledged, and later committed, in the place of what the new primary puts there.
    """
    backup = Driven(3)
    backup.receive(1, Prepare(0, entries(1, 1), 0, 0))
    backup.receive(1, Prepare(0, entries(2, 2), 2, 0))
    backup.core.receive(1, 1, Prepare(0, entries(3, 4), 2, 0), backup.now)
    backup.receive(2, StartView(1, 2, 2))
    assert (backup.view, backup.status, backup.op) == (1, "normal", 2)
    again = backup.restarted()
    assert (again.view, again.status, again.op) == (1, "normal", 2)


def test_doviewchange_tells_the_last_normal_view_and_not_that_of_the_last_entry() -> None:
    """A view can begin without an entry of its own: its log is newer than each longer one of the view before."""
    backup = restarted(3, view=3, last_normal_view=3, log=entries(1, 2), members=5)
    propose_view(backup, 1, 6)
    propose_view(backup, 2, 6)
    propose_view(backup, 5, 6)
    told = backup.last(DoViewChange)
    assert (told.view, told.last_normal_view, told.op) == (6, 3, 2)


def test_whoever_chose_a_log_for_a_view_that_never_began_chooses_again_for_its_next() -> None:
    second = Driven(2)
    second.receive(3, do_view_change(1, 0, 5, 3))
    assert second.last(GetState).view == 1
    for sender in (1, 3):
        propose_view(second, sender, 4)
    assert (second.view, second.status) == (4, "view-change")
    second.receive(3, do_view_change(4, 0, 5, 3))
    asked = second.last(GetState)
    assert asked.view == 4
    second.receive(3, NewState(4, asked.nonce, 0, entries(1, 5), 5, 0))
    assert second.leads


def test_a_write_that_was_to_begin_a_view_begins_no_other() -> None:
    """It becomes durable after its member has given the view up; whoever leads the next one is another."""
    second = Driven(2, eager=False)
    second.finish_writes()
    second.receive(3, do_view_change(1, 0, 0, 3))
    assert second.status == "view-change"
    for sender in (1, 3):
        propose_view(second, sender, 2)
    second.finish_writes()
    assert (second.view, second.status, second.leads) == (2, "view-change", False)
    assert second.sent(StartView) == []


def test_a_view_led_before_a_restart_is_not_begun_again_where_nothing_of_it_is_on_disk_either() -> None:
    """What it ordered was acknowledged by both backups and answered before its own disk had it, and the process ended.

    The DOVIEWCHANGE of then come once more. Were they counted, it would put another op in that place of that view.
    """
    second = restarted(2, view=1, last_normal_view=1, log=entries(1, 3))
    for sender in (1, 3):
        second.receive(sender, do_view_change(1, 0, 3, 3))
    assert second.sent(GetState) == []
    assert (second.status, second.leads) == ("view-change", False)


def test_a_view_that_has_begun_ends_the_patience_of_its_backups_too() -> None:
    """Views that did not begin are waited for longer and longer; the next one, after one that did, is not."""
    backup = Driven(3, members=5)
    suspect = backup.configuration.timeouts.suspect
    for view in (1, 2, 3):
        for sender in (1, 2, 4, 5):
            propose_view(backup, sender, view)
    backup.receive(4, StartView(3, 0, 0))
    backup.receive(4, NewState(3, 0, 0, (), 0, 0))
    assert (backup.view, backup.status) == (3, "normal")
    for sender in (1, 2, 5):
        propose_view(backup, sender, 5)
    assert backup.status == "view-change"
    entered = backup.now.monotonic
    backup.forget()
    while not any(message.view > 5 for _, message in backup.sent(StartViewChange)):
        backup.tick()
        backup.receive(1, StartViewChange(5, 5, backup.vector))
    assert backup.now.monotonic - entered < 2 * suspect


def test_a_single_member_that_restarts_reads_without_being_written_to() -> None:
    """Its log may be committed or not; it alone is the majority that says so, and no answer will come to remind it."""
    single = restarted(1, view=0, last_normal_view=0, log=entries(1, 3), members=1)
    assert single.leads
    assert single.commit == 3
    single.read(7)
    assert [read.read for read in single.reads] == [7]


def choosing(log: int) -> tuple[Driven, GetState]:
    """Member 2 is to lead view 1 with op 1 and asks member 1 for the best log, up to op 3; member 3 has up to `log`."""
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 1), 0, 0))
    second.receive(1, DoViewChange(1, 0, 3, 0, second.vector))
    second.receive(3, DoViewChange(1, 0, log, 0, second.vector))
    [(to, question)] = second.sent(GetState)
    assert to == 1
    second.forget()
    return second, question


def test_a_best_log_that_does_not_come_is_not_waited_for_where_the_others_are_a_quorum() -> None:
    """Member 1 is heard, and does not hear member 2, nor is it heard by member 3, which would need a snapshot to lead.

    The view of member 2 waited for a log that could not come, that of member 3 was given up at once, and in its own
    member 1 heard no majority: no view ever began, though members 2 and 3 hear each other.
    """
    second, _ = choosing(log=0)
    second.wait(second.configuration.timeouts.suspect // 2 + second.configuration.timeouts.retry)
    assert (second.leads, second.op) == (True, 1)


def test_whoever_did_not_send_the_best_log_is_not_asked_again_in_that_view() -> None:
    second, _ = choosing(log=2)
    suspect = second.configuration.timeouts.suspect
    second.wait(suspect // 2 + second.configuration.timeouts.retry)
    questions = second.sent(GetState)
    assert {to for to, _ in questions} == {1, 3}
    to, question = questions[-1]
    assert to == 3
    second.receive(1, DoViewChange(1, 0, 3, 0, second.vector))
    second.receive(3, NewState(1, question.nonce, 1, entries(2, 2), 2, 0))
    assert (second.leads, second.op) == (True, 2)


def test_whoever_did_not_send_the_best_log_counts_again_in_the_next_view() -> None:
    """It may be heard again by then, while the third is away: with it they are a quorum, and without it none."""
    second, _ = choosing(log=2)
    second.wait(second.configuration.timeouts.suspect // 2 + second.configuration.timeouts.retry)
    for sender in (1, 3):
        propose_view(second, sender, 4)
    second.forget()
    second.receive(1, DoViewChange(4, 0, 3, 0, second.vector))
    [(to, question)] = second.sent(GetState)
    assert to == 1
    second.receive(1, NewState(4, question.nonce, 1, entries(2, 3), 3, 0))
    assert (second.leads, second.view, second.op) == (True, 4, 3)


def test_a_best_log_that_comes_slowly_is_waited_for() -> None:
    """A page in each third of a suspect time-out: all that it brings would be fetched once more, from another."""
    second, question = choosing(log=2)
    for op in (2, 3):
        second.wait(second.configuration.timeouts.suspect // 3)
        assert {to for to, _ in second.sent(GetState)} <= {1}
        second.receive(1, NewState(1, question.nonce, op - 1, entries(op, op), 3, 0))
    assert (second.leads, second.op) == (True, 3)


def test_a_best_log_is_waited_for_while_the_others_are_no_quorum() -> None:
    second = Driven(2)
    second.receive(1, DoViewChange(1, 0, 3, 0, second.vector))
    question = second.last(GetState)
    second.wait(second.configuration.timeouts.suspect * 5 // 6)
    assert second.view == 1
    second.receive(1, NewState(1, question.nonce, 0, entries(1, 3), 3, 0))
    assert (second.leads, second.op) == (True, 3)
