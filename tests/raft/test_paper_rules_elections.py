"""Elections: one test per rule of the Raft paper (2014) and of Ongaro's dissertation, named by section.

`5_2` is a section of the paper, `d4_2_3` of the dissertation. Rules that say "ours" differ from these, or add to them.
"""

from __future__ import annotations

import pytest

from raft import Appended, AppendEntries, PreVote, PreVoteReply, Rejected, RequestVote, TermAndVote, TimeoutNow, Vote
from tests.raft.driven import Driven, append, heartbeat, leader, log, restarted
from viewstamp.protocol import MILLISECOND, SECOND, Founded, Lost, RefusesLostDiskError, SaveState, Timeouts

SUSPECT = Timeouts().suspect


def request(term: int, last: tuple[int, int] = (0, 0), *, transfer: bool = False) -> RequestVote:
    """`last` is the index of the candidate's last entry, and its term."""
    return RequestVote(term, *last, transfer)


# Terms (5.1).


def test_5_1_a_server_starts_as_a_follower_after_a_restart_too() -> None:
    assert Driven(2).status == "follower"
    assert restarted(1, 4, log(1, 4), vote=1).status == "follower"


def test_5_1_a_leader_that_sees_a_later_term_steps_down() -> None:
    server = leader(2)
    server.receive(3, heartbeat(3))
    assert (server.status, server.view, server.core.standing.primary) == ("follower", 3, 3)


def test_5_1_a_candidate_that_sees_a_later_term_becomes_a_follower() -> None:
    server = restarted(1, 1)
    server.stand()
    server.receive(2, Vote(5, granted=False))
    assert (server.status, server.view) == ("follower", 5)


def test_5_1_a_request_of_an_earlier_term_is_refused_with_the_present_one() -> None:
    server = restarted(2, 5)
    server.receive(1, request(4))
    assert server.last(Vote) == Vote(5, granted=False)
    server.receive(1, heartbeat(4))
    assert server.status == "follower"
    assert server.core.standing.primary is None


def test_5_1_an_answer_of_an_earlier_term_counts_for_nothing() -> None:
    server = leader(5)
    server.acknowledge(2, 1, term=4)
    assert server.commit == 0


# Elections (5.2).


def test_5_2_a_follower_that_hears_its_leader_stays_one() -> None:
    server = Driven(2)
    for _ in range(20):
        server.receive(1, heartbeat(1))
        server.wait(SUSPECT - MILLISECOND)
        assert server.status == "follower"
    server.wait(SECOND)
    assert server.status == "pre-candidate"


def test_5_2_a_candidate_votes_for_itself_in_the_next_term_and_asks_all_others() -> None:
    server = restarted(1, 3, log(1, 3))
    server.stand()
    assert (server.status, server.view, server.saved) == ("candidate", 4, (4, 1))
    assert [(to, message) for to, message in server.sent(RequestVote)] == [
        (2, RequestVote(4, 2, 3, transfer=False)),
        (3, RequestVote(4, 2, 3, transfer=False)),
    ]


def test_5_2_ours_requestvote_waits_for_the_candidates_own_disk() -> None:
    """Its term and its vote for itself: after a crash it could vote for another in the term it stood in."""
    server = restarted(1, 1, eager=False)
    server.stand()
    assert server.sent(RequestVote) == []
    server.finish_writes()
    assert len(server.sent(RequestVote)) == 2


def test_5_2_ours_a_candidates_own_vote_counts_when_it_is_durable() -> None:
    server = restarted(1, 1, eager=False)
    server.stand()
    server.receive(2, Vote(2, granted=True))
    assert not server.leads
    server.finish_write()
    assert server.leads


@pytest.mark.parametrize(("members", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_5_2_a_majority_elects(members: int, needed: int) -> None:
    server = restarted(1, 1, members=members)
    server.stand()
    for voter in range(2, 2 + needed):
        assert not server.leads
        server.receive(voter, Vote(2, granted=True))
    assert server.leads


def test_5_2_a_single_member_elects_itself_and_commits() -> None:
    server = Driven(1, members=1)
    server.wait(SECOND)
    assert server.leads
    server.propose("a")
    assert server.commit == server.op == 2


def test_5_2_votes_are_counted_once_per_member() -> None:
    server = restarted(1, 1, members=5)
    server.stand()
    for _ in range(4):
        server.receive(2, Vote(2, granted=True))
    assert not server.leads
    server.receive(3, Vote(2, granted=True))
    assert server.leads


def test_5_2_votes_of_another_term_are_not_counted() -> None:
    server = restarted(1, 1)
    server.stand()
    server.receive(2, Vote(1, granted=True))
    assert server.status == "candidate"


def test_5_2_a_vote_that_arrives_after_the_election_was_given_up_is_not_counted() -> None:
    server = restarted(1, 1)
    server.stand()
    server.wait(SECOND)
    assert server.status == "pre-candidate"
    server.receive(2, Vote(server.view, granted=True))
    assert server.status == "pre-candidate"


def test_5_2_a_server_votes_once_per_term_first_come_first_served() -> None:
    server = Driven(3)
    server.receive(1, request(1))
    server.receive(2, request(1))
    assert server.sent(Vote) == [(1, Vote(1, granted=True)), (2, Vote(1, granted=False))]


def test_5_2_the_same_candidate_asking_again_is_granted_again() -> None:
    """Its first answer was lost: refused now, it could not be elected by those who voted for it."""
    server = Driven(3)
    server.receive(1, request(1))
    server.receive(1, request(1))
    assert server.sent(Vote) == [(1, Vote(1, granted=True))] * 2


def test_5_2_term_and_vote_are_durable_in_one_record_before_the_answer() -> None:
    server = Driven(3, eager=False)
    server.finish_writes()
    server.receive(1, request(1))
    assert server.sent(Vote) == []
    [write] = server.writes
    assert [record for record in write.records if isinstance(record, SaveState)][-1].state == TermAndVote(
        1, 1, (1, 1, 1)
    )
    server.finish_writes()
    assert server.last(Vote).granted


def test_5_2_a_vote_survives_a_restart() -> None:
    server = Driven(3)
    server.receive(1, request(1))
    again = server.restarted()
    again.receive(2, request(1))
    assert again.last(Vote) == Vote(1, granted=False)
    again.receive(1, request(1))
    assert again.last(Vote) == Vote(1, granted=True)


def test_5_2_a_vote_that_was_not_durable_was_never_given() -> None:
    server = Driven(3, eager=False)
    server.finish_writes()
    server.receive(1, request(1))
    again = server.restarted()
    assert server.sent(Vote) == []
    again.receive(2, request(1))
    assert again.last(Vote).granted


def test_5_2_seeing_a_later_term_is_not_granting_a_vote() -> None:
    """The candidate's log is behind: the term is taken over, and the vote stays free for another."""
    server = restarted(3, 1, log(1, 1))
    server.receive(1, request(2, (1, 1)))
    assert server.last(Vote) == Vote(2, granted=False)
    assert server.saved == (2, 0)
    server.receive(2, request(2, (2, 1)))
    assert server.last(Vote) == Vote(2, granted=True)


def test_5_2_a_candidate_steps_down_to_a_leader_of_its_term_and_keeps_its_vote() -> None:
    server = restarted(1, 1)
    server.stand()
    server.receive(3, heartbeat(2))
    assert (server.status, server.core.standing.primary, server.saved) == ("follower", 3, (2, 1))
    server.receive(2, request(2))
    assert server.last(Vote) == Vote(2, granted=False)


def test_5_2_a_leader_beats_at_once_and_then_regularly() -> None:
    server = restarted(1, 1)
    server.win()
    assert {to for to, _ in server.sent(AppendEntries)} == {2, 3}
    server.wait(server.configuration.timeouts.heartbeat)
    assert {to for to, _ in server.sent(AppendEntries)} == {2, 3}


def test_5_2_a_granted_vote_restarts_the_election_timer() -> None:
    server = Driven(3)
    server.wait(SUSPECT - MILLISECOND)
    server.receive(1, request(1))
    server.wait(SUSPECT - MILLISECOND)
    assert server.status == "follower"


def test_5_2_a_refused_vote_does_not_restart_the_election_timer() -> None:
    """A candidate that nobody can elect, asking again and again, would keep all others from ever standing."""
    server = restarted(3, 1, log(1, 1))
    for term in range(2, 20):
        server.wait(SUSPECT // 6)
        if server.status != "follower":
            return
        server.receive(1, request(term, (1, 1)))
    raise AssertionError(f"it still waits after {server.now.monotonic} ns")


def test_5_2_requests_of_an_earlier_term_do_not_put_an_election_off() -> None:
    """Who leads no more and does not know it would keep all who hear it from finding another."""
    server = restarted(3, 2, log(1, 1))
    for _ in range(20):
        server.wait(SUSPECT // 6)
        if server.status != "follower":
            return
        server.receive(1, append(1, log(1, 1), 0))
    raise AssertionError(f"it still waits after {server.now.monotonic} ns")


def test_5_2_ours_a_pre_candidate_that_votes_for_another_no_longer_stands_itself() -> None:
    server = restarted(3, 1, members=5)
    server.ask_around()
    server.receive(2, PreVote(2, 0, 0))
    server.receive(1, Vote(2, granted=False))
    server.ask_around()
    server.receive(1, request(2))
    assert server.last(Vote).granted
    server.receive(4, PreVoteReply(3, granted=True))
    server.receive(5, PreVoteReply(3, granted=True))
    assert (server.status, server.view) == ("follower", 2)


def test_5_2_time_outs_are_drawn_anew_and_differ() -> None:
    """Equal draws would split votes for ever."""
    firsts = {Driven(2, seed=seed).core.deadline for seed in range(10)}
    assert len(firsts) > 5
    server = Driven(2)
    waits = set()
    for _ in range(10):
        server.receive(1, heartbeat(1))
        waits.add(server.core.deadline - server.now.monotonic)
    assert len(waits) > 5
    assert min(waits) >= SUSPECT


def test_5_2_a_candidate_asks_again_those_who_have_not_answered() -> None:
    server = restarted(1, 1, members=5)
    server.stand()
    server.receive(2, Vote(2, granted=True))
    server.forget()
    server.wait(server.configuration.timeouts.retry)
    assert [to for to, _ in server.sent(RequestVote)] == [3, 4, 5]


# The voter's table (5.4.1).


@pytest.mark.parametrize(
    ("mine", "last", "granted"),
    [
        ((), (0, 0), True),
        ((1,), (0, 0), False),
        ((1,), (1, 1), True),
        ((1, 1), (1, 1), False),
        ((1, 1), (3, 1), True),
        ((1, 1, 1), (1, 2), True),  # a later last term wins, however short the log
        ((1, 2), (5, 1), False),  # and an earlier one loses, however long
        ((1, 2), (2, 2), True),
        ((1, 3, 3), (2, 3), False),
    ],
)
def test_5_4_1_the_voters_table(mine: tuple[int, ...], last: tuple[int, int], granted: bool) -> None:
    server = restarted(3, 4, log(*mine))
    server.receive(1, request(5, last))
    assert server.last(Vote) == Vote(5, granted)
    again = restarted(3, 4, log(*mine))
    again.receive(1, PreVote(5, *last))
    assert again.last(PreVoteReply).granted is granted


def test_5_4_1_ours_what_is_still_on_its_way_to_the_disk_counts_for_the_voter() -> None:
    """Its acknowledgement leaves with that write, as the vote would: the leader could commit what the elected lacks."""
    server = Driven(3, eager=False)
    server.finish_writes()
    server.receive(1, append(1, log(1, 1), 0))
    server.receive(2, request(2, (1, 1), transfer=True))
    server.finish_writes()
    assert server.last(Appended) == Appended(1, 2, 0)
    assert server.last(Vote) == Vote(2, granted=False)


# Pre-vote (d9.6), leader stickiness and check-quorum (d4.2.3, d6.2).


def test_d9_6_asking_changes_neither_term_nor_vote_at_either_end() -> None:
    asker, asked = restarted(1, 3), restarted(2, 3)
    asker.ask_around()
    assert (asker.view, asker.saved) == (3, (3, 0))
    [question, _] = asker.sent(PreVote)
    before = asked.core.deadline
    asked.receive(1, question[1])
    assert asked.last(PreVoteReply) == PreVoteReply(4, granted=True)
    assert (asked.view, asked.saved, asked.core.deadline, asked.done) == (3, (3, 0), before, 0)


def test_d9_6_a_member_may_say_yes_to_several() -> None:
    server = restarted(3, 1)
    server.receive(1, PreVote(2, 0, 0))
    server.receive(2, PreVote(2, 0, 0))
    assert server.sent(PreVoteReply) == [(1, PreVoteReply(2, granted=True)), (2, PreVoteReply(2, granted=True))]


def test_d9_6_answers_are_counted_once_per_member_and_only_to_the_present_question() -> None:
    server = restarted(1, 3, members=5)
    server.ask_around()
    server.receive(3, PreVoteReply(3, granted=True))
    for _ in range(3):
        server.receive(2, PreVoteReply(4, granted=True))
    assert server.status == "pre-candidate"
    server.receive(3, PreVoteReply(4, granted=True))
    assert server.status == "candidate"


def test_d9_6_no_pre_vote_is_taken_for_a_vote() -> None:
    server = restarted(1, 3)
    server.stand()
    server.receive(2, PreVoteReply(4, granted=True))
    server.receive(3, PreVoteReply(5, granted=True))
    assert server.status == "candidate"


def test_d9_6_one_that_is_behind_is_refused_and_learns_the_term() -> None:
    ahead, behind = restarted(2, 7), restarted(1, 3)
    behind.ask_around()
    ahead.receive(1, PreVote(4, 0, 0))
    refusal = ahead.last(PreVoteReply)
    assert refusal == PreVoteReply(7, granted=False)
    behind.receive(2, refusal)
    assert (behind.status, behind.view) == ("follower", 7)


def test_ours_a_leader_that_gives_way_leaves_the_next_election_to_others() -> None:
    """Its snapshot files hang. As quick as others to stand again, it would win as it did before."""
    server = leader(1)
    server.core.give_way("its files hang", server.now)
    assert (server.status, server.view, server.core.standing.primary) == ("follower", 1, None)
    assert server.core.deadline - server.now.monotonic >= 4 * SUSPECT
    backup = Driven(2)
    backup.receive(1, heartbeat(1))
    before = backup.core.deadline
    backup.core.give_way("its files hang", backup.now)
    assert (backup.core.standing.primary, backup.core.deadline) == (1, before)


def test_f2_ours_a_refusal_tells_no_term_that_is_not_durable() -> None:
    """The disk of a candidate hangs: it asks for no vote, and can never win.

    Were its term told, it would end what those whose disks work have begun: with two such members of five, which then
    stood in one term after the other, the other three had no leader for 19 suspect time-outs.
    """
    hangs, asker = restarted(1, 3, eager=False), restarted(2, 3, members=5)
    hangs.stand()
    assert (hangs.status, hangs.view) == ("candidate", 4)
    asker.ask_around()
    asker.receive(3, PreVoteReply(4, granted=True))
    question = asker.last(PreVote)
    hangs.receive(2, question)
    refusal = hangs.last(PreVoteReply)
    assert refusal == PreVoteReply(3, granted=False)
    asker.receive(1, refusal)
    asker.receive(4, PreVoteReply(4, granted=True))
    assert (asker.status, asker.view) == ("candidate", 4)
    hangs.finish_writes()
    hangs.receive(2, question)
    assert hangs.last(PreVoteReply) == PreVoteReply(4, granted=False)


def test_5_2_ours_a_candidate_waits_for_its_own_disk_before_it_stands_again() -> None:
    """Each attempt, and each question said again, would wait for the disk too: megabytes in minutes, and then all at
    once. When the disk answers there is as much time for the others' votes as ever."""
    server = restarted(1, 3, eager=False)
    server.stand()
    server.wait(100 * SUSPECT)
    assert (server.status, server.view) == ("candidate", 4)
    server.finish_writes()
    assert sorted(to for to, _ in server.sent(RequestVote)) == [2, 3]
    server.wait(SUSPECT // 2)
    assert (server.status, server.view) == ("candidate", 4)
    server.receive(2, Vote(4, granted=True))
    assert server.leads
    asked_again = restarted(1, 3, eager=False)
    asked_again.stand()
    asked_again.finish_writes()
    asked_again.forget()
    asked_again.wait(SUSPECT // 2)
    assert len(asked_again.sent(RequestVote)) >= 2


def test_d9_6_a_cut_off_member_never_raises_its_term() -> None:
    server = restarted(1, 3)
    server.wait(10 * SECOND)
    assert (server.status, server.view) == ("pre-candidate", 3)


def test_d4_2_3_who_hears_a_leader_helps_nobody_to_depose_it() -> None:
    server = Driven(2)
    server.receive(1, heartbeat(1))
    server.receive(3, PreVote(2, 9, 1))
    assert server.last(PreVoteReply) == PreVoteReply(1, granted=False)
    server.receive(3, request(2, (9, 1)))
    assert server.sent(Vote) == []
    assert server.view == 1


def test_d4_2_3_once_the_leader_is_silent_for_a_time_out_it_does() -> None:
    server = Driven(2)
    server.receive(1, heartbeat(1))
    server.wait(SUSPECT)
    server.receive(3, PreVote(2, 0, 0))
    assert server.last(PreVoteReply).granted


def test_d4_2_3_a_leader_that_works_helps_nobody_either() -> None:
    server = leader(1)
    server.receive(3, PreVote(2, 9, 1))
    assert not server.last(PreVoteReply).granted
    server.receive(3, request(2, (9, 1)))
    assert server.leads


def test_d6_2_a_leader_that_hears_no_majority_steps_down() -> None:
    server = leader(1)
    server.wait(SECOND // 2)
    assert not server.leads
    assert server.core.standing.primary is None
    assert server.propose("a") == 0
    assert any("no majority" in transition.reason for transition in server.transitions)


@pytest.mark.parametrize(("members", "answering"), [(3, 1), (4, 2), (5, 2)])
def test_d6_2_a_leader_that_a_majority_answers_stays(members: int, answering: int) -> None:
    for heard, stays in ((answering, True), (answering - 1, False)):
        server = leader(1, members=members)
        for _ in range(20):
            server.wait(80 * MILLISECOND)
            for follower in range(2, 2 + heard):
                server.acknowledge(follower, 0)
        assert server.leads is stays


def test_d6_2_ours_commands_do_not_put_its_doubt_off() -> None:
    server = leader(1)
    for follower in (2, 3):
        server.acknowledge(follower, 1)
    server.wait_busy(SECOND // 2, 20 * MILLISECOND)
    assert not server.leads


def test_d6_2_ours_a_leader_whose_disk_hangs_steps_down() -> None:
    server = leader(1)
    server.eager = False
    server.propose("a")
    for _ in range(10):
        server.wait(50 * MILLISECOND)
        server.acknowledge(2, 0)
    assert not server.leads
    assert any("disk" in transition.reason for transition in server.transitions)


def test_d6_2_ours_a_follower_whose_disk_hangs_says_so() -> None:
    follower = restarted(2, 1)
    follower.eager = False
    follower.receive(1, append(1, log(1), 0))
    assert follower.core.standing.waiting == ""
    for _ in range(10):
        follower.wait(50 * MILLISECOND)
        follower.receive(1, heartbeat(1))
    assert follower.core.standing.waiting == "its disk has not finished a write"
    follower.finish_writes()
    assert follower.core.standing.waiting == ""


def test_d6_2_ours_a_leader_whose_disk_is_slow_and_goes_on_stays() -> None:
    """The last write waits for two others. Were that a disk that hangs, all members would give way to each other."""
    server = leader(1)
    server.eager = False
    for name in "abcdefghij":
        server.propose(name)
        server.propose(name)
        for _ in range(4):
            server.wait(50 * MILLISECOND)
            server.acknowledge(2, 0)
        server.finish_write()
    assert len(server.writes) == 10
    assert server.leads


def time_until(server: Driven, status: str) -> int:
    """How long it waits, alone, until it has this status."""
    began = server.now.monotonic
    while server.status != status:
        server.tick()
    return server.now.monotonic - began


def test_5_6_ours_each_election_that_ran_out_of_time_makes_the_next_wait_longer() -> None:
    """A vote waits for its voter's disk: where that takes longer than a time-out, no election would ever be won."""
    server = restarted(1, 1)
    suspect, jitter = server.configuration.timeouts.suspect, server.configuration.timeouts.jitter
    for times in (1, 2, 4, 4):
        server.stand()
        waited = time_until(server, "pre-candidate")
        assert times * suspect <= waited <= times * (suspect + suspect // 2 + jitter)


def test_5_6_ours_who_cannot_even_stand_waits_no_longer_than_before() -> None:
    """Cut off for long and healed, it stands as soon as it is welcome, and is as quick as any to try again."""
    server = restarted(1, 1)
    server.ask_around()
    server.wait(100 * SECOND)
    assert server.status == "pre-candidate"
    server.stand()
    suspect, jitter = server.configuration.timeouts.suspect, server.configuration.timeouts.jitter
    assert time_until(server, "pre-candidate") <= suspect + suspect // 2 + jitter


@pytest.mark.parametrize("by", ["hearing a leader", "being elected"])
def test_5_6_ours_it_is_as_patient_as_at_first_once_there_is_a_leader(by: str) -> None:
    server = restarted(1, 1)
    server.stand()
    time_until(server, "pre-candidate")
    if by == "being elected":
        server.win()
    server.receive(2, heartbeat(server.view + 1))
    suspect, jitter = server.configuration.timeouts.suspect, server.configuration.timeouts.jitter
    time_until(server, "pre-candidate")
    server.stand()
    assert time_until(server, "pre-candidate") <= suspect + suspect // 2 + jitter


def test_d4_2_3_a_member_in_a_later_term_is_not_stuck_there() -> None:
    """It ignores the leader of the earlier term, and that one its requests; so it answers, and the leader gives way."""
    ahead, server = restarted(3, 5), leader(2)
    ahead.receive(1, heartbeat(2))
    server.receive(3, ahead.last(Rejected))
    assert (server.status, server.view) == ("follower", 5)


# Leadership transfer (d3.10).


def test_d3_10_timeout_now_starts_an_election_at_once_and_past_stickiness() -> None:
    target, other = Driven(2), Driven(3)
    for server in (target, other):
        server.receive(1, heartbeat(1))
    target.receive(1, TimeoutNow(1))
    assert (target.status, target.view) == ("candidate", 2)
    [_, (_, question)] = target.sent(RequestVote)
    assert question == RequestVote(2, 0, 0, transfer=True)
    other.receive(2, question)
    assert other.last(Vote) == Vote(2, granted=True)


def test_d3_10_the_old_leader_votes_for_its_heir_too() -> None:
    server = leader(1)
    server.receive(2, request(2, (1, 1), transfer=True))
    assert server.last(Vote) == Vote(2, granted=True)
    assert server.status == "follower"


def test_d3_10_an_heir_gets_no_vote_that_another_has() -> None:
    """Its leader's word was long under way, and another stands in the same term: the two could both be elected."""
    server = Driven(3)
    server.receive(1, request(1))
    server.receive(2, request(1, transfer=True))
    assert server.sent(Vote) == [(1, Vote(1, granted=True)), (2, Vote(1, granted=False))]


def test_d3_10_timeout_now_of_another_term_or_from_no_leader_is_ignored() -> None:
    server = restarted(2, 3)
    server.receive(1, heartbeat(3))
    server.receive(1, TimeoutNow(2))
    server.receive(3, TimeoutNow(3))
    assert (server.status, server.view) == ("follower", 3)
    assert server.core.ignored["TIMEOUTNOW from no present leader"] == 2


# Identity (ours): a disk that is lost took its vote with it.


def test_ours_a_member_whose_disk_is_lost_does_not_come_back() -> None:
    with pytest.raises(RefusesLostDiskError, match="without its data"):
        Driven(1, origin=Lost(2))


def test_ours_messages_of_another_incarnation_are_ignored() -> None:
    server = Driven(3, origin=Founded((1, 1, 1)))
    server.receive(1, request(1), incarnation=2)
    assert server.sent(Vote) == []
    server.receive(1, append(1, log(1), 0), incarnation=2)
    assert server.op == 0
    assert server.core.ignored["another incarnation"] == 2


def test_ours_malformed_messages_are_counted_and_change_nothing() -> None:
    server = restarted(3, 0)
    messages = (
        AppendEntries(0, 0, 0, (), 0, 0),
        AppendEntries(1, 0, 1, (), 0, 0),
        AppendEntries(1, 1, 0, (), 0, 0),
        AppendEntries(1, 0, 0, log(0), 0, 0),
        AppendEntries(1, 0, 0, log(2), 0, 0),
        AppendEntries(2, 0, 0, log(2, 1), 0, 0),
        AppendEntries(2, 1, 1, log(1), 0, 0),
        RequestVote(1, 1, 2, transfer=False),
        PreVote(1, 1, 2),
        Vote((1 << 63) + 1, granted=True),
    )
    for message in messages:
        server.receive(1, message)
    assert (server.view, server.op, server.saved) == (0, 0, (0, 0))
    assert sum(server.core.ignored.values()) == len(messages)


def test_ours_strangers_are_ignored() -> None:
    server = Driven(3)
    server.receive(9, heartbeat(1))
    server.receive(3, heartbeat(1))
    assert server.view == 0
    assert server.core.ignored["unknown sender"] == 2
