"""Linearizable reads without a log entry: ReadIndex (Ongaro's dissertation, 6.4)."""

from __future__ import annotations

import pytest

from raft import Appended, AppendEntries, Installing, ReadIndex, ReadIndexReply, Rejected
from tests.raft.driven import Driven, append, heartbeat, leader, log, restarted
from viewstamp.protocol import SECOND, ReadFailed, ReadReady


def newest_round(server: Driven) -> int:
    return server.last(AppendEntries).round


def test_d6_4_a_read_waits_until_the_leader_has_committed_in_its_term() -> None:
    """An earlier leader may have answered for entry 1, of which this one does not know that it is committed."""
    server = leader(2, log(1))
    server.read(5)
    server.acknowledge(2, 1)
    assert server.reads == []
    server.acknowledge(2, 2)
    server.acknowledge(2, 2, number=newest_round(server))
    assert server.reads == [ReadReady(5, 2)]


def test_d6_4_a_read_waits_for_a_majority_that_answers_after_it_arrived() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.forget()
    server.read(5)
    number = newest_round(server)
    server.acknowledge(2, 1, number=number - 1)
    assert server.reads == []
    server.acknowledge(2, 1, number=number)
    assert server.reads == [ReadReady(5, 1)]


def test_d6_4_one_answer_is_no_majority_of_five() -> None:
    server = leader(1, members=5)
    for follower in (2, 3):
        server.acknowledge(follower, 1)
    server.read(5)
    number = newest_round(server)
    for _ in range(3):
        server.acknowledge(2, 1, number=number)
    assert server.reads == []
    server.acknowledge(4, 0, number=number)
    assert server.reads == [ReadReady(5, 1)]


@pytest.mark.parametrize("kind", ["appended", "rejected", "installing"])
def test_d6_4_an_answer_of_an_earlier_term_confirms_nothing(kind: str) -> None:
    """Rounds count from the beginning in each term: a delayed answer of the one before can have the number that is
    waited for, from a follower that meanwhile follows another leader."""
    server = leader(3)
    server.acknowledge(2, 1)
    server.read(5)
    number = newest_round(server)
    for term, served in ((2, []), (3, [ReadReady(5, 1)])):
        answers = {
            "appended": Appended(term, 1, number),
            "rejected": Rejected(term, 1, 1, number),
            "installing": Installing(term, number),
        }
        server.receive(2, answers[kind])
        assert server.reads == served


def test_ours_an_answer_of_a_round_that_has_not_begun_confirms_nothing() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.acknowledge(3, 1, number=99)
    server.read(5)
    assert server.reads == []
    assert server.core.ignored["APPENDENTRIES answer of a round that has not begun"] == 1


def test_d6_4_a_single_member_serves_its_reads_at_once() -> None:
    alone = Driven(1, members=1)
    alone.wait(SECOND)
    alone.read(5)
    assert alone.reads == [ReadReady(5, 1)]


def test_d6_4_a_pending_read_fails_when_the_leader_is_superseded() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.read(5)
    server.receive(3, heartbeat(2))
    assert [type(answer) for answer in server.reads] == [ReadFailed]


def test_d6_2_a_leader_that_hears_nobody_serves_no_read() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.read(5)
    server.wait(SECOND)
    server.read(6)
    assert [type(answer) for answer in server.reads] == [ReadFailed, ReadFailed]


def test_d6_4_a_follower_asks_its_leader() -> None:
    server = restarted(2, 1)
    server.receive(1, append(1, log(1), 0, commit=1))
    server.read(5)
    [(to, question)] = server.sent(ReadIndex)
    assert (to, question.term) == (1, 1)
    server.receive(1, ReadIndexReply(1, question.number, 1))
    assert server.reads == [ReadReady(5, 1)]


def test_d6_4_a_follower_takes_no_answer_that_it_did_not_ask_for() -> None:
    server = restarted(2, 1)
    server.receive(1, heartbeat(1))
    server.read(5)
    number = server.last(ReadIndex).number
    server.receive(1, ReadIndexReply(1, number + 1, 1))
    server.receive(3, ReadIndexReply(1, number, 1))
    server.receive(1, ReadIndexReply(0, number, 1))
    assert server.reads == []


def test_d6_4_a_question_is_asked_again_and_then_given_up() -> None:
    server = restarted(2, 1)
    server.receive(1, heartbeat(1))
    server.read(5)
    server.wait(server.configuration.timeouts.retry)
    first, again = server.sent(ReadIndex)
    assert first == again
    for _ in range(25):  # A leader that is heard, and does not answer.
        server.wait(SECOND // 20)
        server.receive(1, heartbeat(1))
    assert [(type(answer), answer.read) for answer in server.reads] == [(ReadFailed, 5)]


def test_ours_an_answer_from_before_a_restart_answers_no_question_of_after_it() -> None:
    """The old answer's index can lack what was acknowledged since: the read would be stale."""
    server = restarted(2, 1)
    server.receive(1, heartbeat(1))
    server.read(5)
    old = server.last(ReadIndex).number
    again = server.restarted()
    again.receive(1, heartbeat(1))
    again.read(1)
    again.receive(1, ReadIndexReply(1, old, 0))
    assert again.reads == []


def test_d6_4_a_leader_answers_a_follower_after_a_majority_has_confirmed_it() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.forget()
    server.receive(3, ReadIndex(1, 77))
    assert server.sent(ReadIndexReply) == []
    server.acknowledge(2, 1, number=newest_round(server))
    assert server.sent(ReadIndexReply) == [(3, ReadIndexReply(1, 77, 1))]


def test_d6_4_a_question_of_another_term_or_to_a_follower_is_ignored() -> None:
    server = leader(2)
    server.receive(3, ReadIndex(1, 77))
    follower = Driven(2)
    follower.receive(3, ReadIndex(0, 77))
    for asked in (server, follower):
        assert asked.core.ignored["READINDEX for another term or role"] == 1


def test_ours_reads_fail_at_once_while_leadership_is_handed_over() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.read(5)
    assert [type(answer) for answer in server.reads] == [ReadFailed]
