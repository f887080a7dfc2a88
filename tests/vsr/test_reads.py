"""Linearizable reads without a log entry (ours; VRR 6.3 has leases instead)."""

from __future__ import annotations

from tests.vsr.driven import WALL, Driven, entries, restarted
from viewstamp.protocol import MILLISECOND, SECOND, ReadFailed, ReadReady, Time
from vsr import Commit, CommitPoint, DoViewChange, GetCommit, Prepare, PrepareOk, StartViewChange

VECTOR = (1, 1, 1)


def confirm(primary: Driven, backup: int, op: int, number: int, *, view: int = 0) -> None:
    vector = (1,) * len(primary.configuration.members)
    primary.receive(backup, PrepareOk(view, op, number, WALL, vector))


def test_a_read_at_the_primary_waits_for_a_majority_that_answers_after_it_arrived() -> None:
    primary = Driven(1)
    primary.wait(primary.configuration.timeouts.heartbeat)
    old = primary.last(Commit).round
    primary.read(5)
    new = primary.last(Commit).round
    assert new > old
    confirm(primary, 2, 0, old)
    assert primary.reads == []
    confirm(primary, 2, 0, new)
    assert primary.reads == [ReadReady(5, 0)]


def test_one_answer_is_no_majority_of_five() -> None:
    primary = Driven(1, members=5)
    primary.read(5)
    number = primary.last(Commit).round
    confirm(primary, 2, 0, number)
    confirm(primary, 2, 0, number)
    assert primary.reads == []
    confirm(primary, 3, 0, number)
    assert primary.reads == [ReadReady(5, 0)]


def test_a_round_rides_on_prepare_too() -> None:
    """Under load there is no idle heartbeat: a read that waited for one would wait for as long as the load lasts."""
    primary = Driven(1)
    primary.forget()
    primary.core.read(5, primary.now)
    primary.propose("a")
    assert primary.sent(Commit) == []
    confirm(primary, 2, 1, primary.last(Prepare).round)
    assert primary.reads == [ReadReady(5, 0)]


def test_a_single_member_serves_its_reads_at_once() -> None:
    alone = Driven(1, members=1)
    alone.propose("a")
    alone.read(5)
    assert alone.reads == [ReadReady(5, 1)]


def test_a_read_sees_what_was_committed_when_it_arrived() -> None:
    primary = Driven(1)
    primary.propose("a")
    confirm(primary, 2, 1, 0)
    primary.read(5)
    confirm(primary, 2, 1, primary.last(Commit).round)
    assert primary.reads == [ReadReady(5, 1)]


def test_a_new_primary_serves_no_read_before_all_it_inherited_is_committed() -> None:
    """The old primary may have answered for op 1, of which this one does not yet know that it is committed."""
    second = Driven(2)
    second.receive(1, Prepare(0, entries(1, 1), 0, 0))
    second.receive(3, DoViewChange(1, 0, 0, 0, VECTOR))
    second.read(5)
    for number in range(4):
        confirm(second, 3, 0, number, view=1)
    assert second.reads == []
    confirm(second, 3, 1, 0, view=1)
    number = second.last(Commit).round
    confirm(second, 3, 1, number, view=1)
    assert second.reads == [ReadReady(5, 1)]


def test_a_view_change_fails_the_reads_that_wait() -> None:
    primary = Driven(1)
    primary.read(5)
    primary.receive(2, StartViewChange(2, 1, VECTOR))
    assert primary.view == 1
    [failed] = primary.reads
    assert isinstance(failed, ReadFailed)
    assert failed.read == 5


def test_a_primary_that_hears_no_majority_gives_its_reads_up() -> None:
    primary = Driven(1)
    primary.read(5)
    primary.wait(SECOND)
    assert [(type(read), read.read) for read in primary.reads] == [(ReadFailed, 5)]


def test_a_backup_asks_its_primary_for_the_commit_number() -> None:
    backup = Driven(2)
    backup.read(5)
    [(to, question)] = backup.sent(GetCommit)
    assert (to, question.view) == (1, 0)
    backup.receive(1, CommitPoint(0, question.number, 3))
    assert backup.reads == [ReadReady(5, 3)]


def test_the_primary_answers_a_backups_question_after_a_round_of_its_own() -> None:
    primary = Driven(1)
    primary.propose("a")
    confirm(primary, 2, 1, 0)
    primary.receive(3, GetCommit(0, 9))
    assert primary.sent(CommitPoint) == []
    confirm(primary, 2, 1, primary.last(Commit).round)
    assert [(to, m.number, m.op) for to, m in primary.sent(CommitPoint)] == [(3, 9, 1)]


def test_a_question_is_asked_again_and_then_given_up() -> None:
    backup = Driven(2)
    backup.read(5)
    backup.wait(backup.configuration.timeouts.retry)
    first, again = backup.sent(GetCommit)
    assert first == again
    backup.wait(SECOND // 2)
    assert [(type(read), read.read) for read in backup.reads] == [(ReadFailed, 5)]


def test_an_answer_from_before_a_restart_answers_no_question_of_after_it() -> None:
    """The old answer's op can lack what was acknowledged since: the read would be stale."""
    backup = Driven(2)
    backup.read(5)
    old = backup.last(GetCommit).number
    again = backup.restarted()
    again.read(1)
    again.receive(1, CommitPoint(0, old, 0))
    assert again.reads == []


def test_an_answer_of_another_view_is_ignored() -> None:
    backup = Driven(3)
    backup.read(5)
    number = backup.last(GetCommit).number
    backup.receive(1, CommitPoint(4, number, 3))
    assert backup.reads == []


def test_where_no_primary_is_known_a_read_fails_at_once() -> None:
    changing = restarted(3, 1, 0)
    changing.read(5)
    assert [type(read) for read in changing.reads] == [ReadFailed]


def test_a_question_is_not_asked_again_in_the_turn_that_ends_its_view() -> None:
    """A late tick finds both due: suspicion, which enters view 1 with member 3's proposal, and the question's retry."""
    backup = Driven(2)
    backup.receive(3, StartViewChange(1, 0, VECTOR))
    backup.wait(250 * MILLISECOND)
    backup.read(5)
    backup.forget()
    backup.now = Time(500 * MILLISECOND, WALL)
    backup.core.tick(backup.now)
    backup.wait(0)
    assert backup.status == "view-change"
    assert [type(read) for read in backup.reads] == [ReadFailed]
    assert all(to in (1, 3) for to, _ in backup.outbox)
