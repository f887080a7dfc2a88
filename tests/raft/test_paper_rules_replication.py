"""Log replication and transfer: one test per rule of the Raft paper (2014) and of Ongaro's dissertation, by section.

`5_3` is a section of the paper, `d3_10` of the dissertation. Rules that say "ours" differ from these, or add to them.
"""

from __future__ import annotations

import pytest

from raft import Appended, AppendEntries, Rejected, TimeoutNow
from tests.protocol.driven import WALL, entry
from tests.raft.driven import Driven, append, exchange, heartbeat, leader, log, restarted
from viewstamp.protocol import MILLISECOND, SECOND, Append, Configuration, Limits, Timeouts, Truncate

HEARTBEAT = Timeouts().heartbeat
PAGE_OF_TWO = Configuration((1, 2, 3), limits=Limits(page_entries=2))
PAGE_OF_ONE = Configuration((1, 2, 3), limits=Limits(page_entries=1))


# The leader (5.3).


def test_5_3_a_leader_begins_its_term_with_a_no_op() -> None:
    server = restarted(1, 1, log(1))
    server.win()
    assert server.terms == [1, 2]
    assert {(to, m.term, m.prev_index, m.prev_term, len(m.entries)) for to, m in server.sent(AppendEntries)} == {
        (2, 2, 1, 1, 1),
        (3, 2, 1, 1, 1),
    }


def test_5_3_only_a_leader_takes_proposals() -> None:
    assert leader(1).propose("a", "b") == 2
    assert Driven(2).propose("a") == 0
    candidate = restarted(1, 1)
    candidate.stand()
    assert candidate.propose("a") == 0


def test_5_3_proposals_of_one_turn_share_one_message_and_one_write() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.acknowledge(3, 1)
    server.eager = False
    server.propose("a", "b", "c")
    assert [len(message.entries) for _, message in server.sent(AppendEntries)] == [3, 3]
    [write] = server.writes
    [record] = write.records
    assert isinstance(record, Append)


def test_d10_2_appendentries_may_leave_before_the_leaders_own_write_is_durable() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.eager = False
    server.propose("a")
    assert server.writes
    assert [to for to, _ in server.sent(AppendEntries)] == [2]


def test_d10_2_the_leader_counts_itself_only_when_its_own_write_is_durable() -> None:
    server = leader(1)
    server.eager = False
    server.propose("a")
    server.acknowledge(2, 2)
    assert server.commit == 1
    server.finish_writes()
    assert server.commit == 2


def test_d10_2_two_followers_commit_without_the_leaders_disk() -> None:
    server = leader(1)
    server.eager = False
    server.propose("a")
    server.acknowledge(2, 2)
    server.acknowledge(3, 2)
    assert server.commit == 2


@pytest.mark.parametrize(("members", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_5_3_an_entry_is_committed_when_a_majority_holds_it(members: int, needed: int) -> None:
    server = leader(1, members=members)
    for follower in range(2, 2 + needed):
        assert server.commit == 0
        server.acknowledge(follower, 1)
    assert server.commit == 1


def test_5_3_acknowledgements_count_once_per_member_and_never_go_back() -> None:
    server = leader(1, members=5)
    for _ in range(4):
        server.acknowledge(2, 1)
    assert server.commit == 0
    server.acknowledge(2, 0)
    server.acknowledge(3, 1)
    assert server.commit == 1


def test_5_3_an_acknowledgement_beyond_the_log_is_not_counted() -> None:
    server = leader(1)
    server.acknowledge(2, 9)
    assert server.commit == 0
    assert server.core.ignored["APPENDENTRIES answer beyond the log"] == 1


def test_5_3_followers_learn_the_commit_index_with_the_next_message() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.forget()
    server.wait(HEARTBEAT)
    assert {message.commit for _, message in server.sent(AppendEntries)} == {1}


def test_5_3_a_deposed_leader_counts_no_more_acknowledgements() -> None:
    server = leader(1)
    server.receive(3, heartbeat(2))
    server.acknowledge(2, 1, term=1)
    server.acknowledge(2, 1, term=2)
    assert server.commit == 0


# The follower (5.3).


def test_5_3_a_follower_appends_and_answers_when_its_disk_has_it() -> None:
    server = Driven(2, eager=False)
    server.finish_writes()
    server.receive(1, append(1, log(1, 1), 0))
    assert server.op == 2
    assert server.sent(Appended) == []
    server.finish_writes()
    assert server.last(Appended) == Appended(1, 2, 0)


def test_5_3_ours_a_heartbeat_acknowledges_nothing_that_is_not_durable() -> None:
    """The entries came before and are still on their way to the disk: an answer now would promise them."""
    server = Driven(2, eager=False)
    server.finish_writes()
    server.receive(1, append(1, log(1, 1), 0))
    server.receive(1, heartbeat(1, (2, 1)))
    assert server.sent(Appended) == []
    server.finish_writes()
    assert [message.match for _, message in server.sent(Appended)] == [2, 2]


def test_5_3_ours_a_later_term_is_durable_with_or_before_its_entries() -> None:
    server = Driven(2, eager=False)
    server.finish_writes()
    server.receive(1, append(3, log(3), 0))
    [write] = server.writes
    assert [type(record).__name__ for record in write.records] == ["SaveState", "Append"]


def test_5_3_a_follower_refuses_what_does_not_follow_its_log() -> None:
    server = restarted(2, 1, log(1))
    server.receive(1, append(1, log(1, 1, 1), 2))
    assert server.op == 1
    assert server.last(Rejected) == Rejected(1, 2, 2, 0)


def test_5_3_a_follower_refuses_what_follows_another_entry() -> None:
    server = restarted(2, 3, log(1, 2))
    server.receive(1, append(3, log(1, 3, 3), 2))
    assert server.terms == [1, 2]
    assert server.last(Rejected) == Rejected(3, 2, 2, 0)


def test_5_3_a_conflicting_entry_and_all_that_follow_it_are_replaced_in_one_write() -> None:
    server = restarted(2, 3, log(1, 2, 2, 2), eager=False)
    server.receive(1, append(3, log(1, 3), 1))
    assert server.terms == [1, 3]
    [write] = server.writes
    assert [type(record) for record in write.records] == [Truncate, Append]
    server.finish_writes()
    assert [entry.view for entry in server.disk.entries] == [1, 3]


def test_5_3_what_came_in_the_same_turn_is_replaced_too_and_in_that_order_on_disk() -> None:
    """An old leader's last request and the new one's first are taken in one turn, and go to disk in one write."""
    server = restarted(3, 1, log(1))
    server.core.receive(1, 1, append(1, log(1, 1, 1), 1), server.now)
    server.receive(2, append(2, log(1, 2), 1))
    assert server.terms == [1, 2]
    assert server.restarted().terms == [1, 2]


def test_5_3_an_append_that_is_already_contained_leaves_later_entries_alone() -> None:
    """Delayed or sent twice. Cut behind it, entries that this follower has acknowledged would be gone."""
    server = restarted(2, 1, log(1, 1, 1))
    server.receive(1, append(1, log(1, 1), 0))
    assert server.op == 3
    assert server.done == 0
    assert server.last(Appended).match == 2


def test_5_3_a_contained_append_with_more_behind_it_is_appended_from_there() -> None:
    server = restarted(2, 1, log(1, 1))
    server.receive(1, append(1, log(1, 1, 1, 1), 0))
    assert server.op == 4
    [record] = [entry.op for entry in server.disk.entries][2:3]
    assert record == 3


def test_5_3_ours_a_follower_acknowledges_only_what_the_request_proved() -> None:
    """Its entries 2 and 3 are of a leader that is gone; the present one may have others there."""
    server = restarted(2, 2, log(1, 1, 1))
    server.receive(1, heartbeat(2, (1, 1)))
    assert server.last(Appended) == Appended(2, 1, 0)


def test_5_3_ours_a_follower_commits_only_what_the_request_proved() -> None:
    """The leader has committed up to 3; here entries 2 and 3 are others, to be replaced."""
    server = restarted(2, 3, log(1, 2, 2))
    server.receive(1, heartbeat(3, (1, 1), commit=3))
    assert server.commit == 1
    server.receive(1, append(3, log(1, 3, 3), 1, commit=3))
    assert server.commit == 3
    assert server.terms == [1, 3, 3]


def test_5_3_commit_knowledge_beyond_the_logs_end_is_clamped() -> None:
    server = Driven(2)
    server.receive(1, append(1, log(1), 0, commit=9))
    assert server.commit == 1


def test_5_3_a_smaller_commit_index_takes_nothing_back() -> None:
    server = Driven(2)
    server.receive(1, append(1, log(1, 1), 0, commit=2))
    server.receive(1, heartbeat(1, (2, 1), commit=1))
    assert server.commit == 2


def test_5_3_what_is_committed_is_never_cut_whatever_arrives() -> None:
    server = Driven(2)
    server.receive(1, append(1, log(1, 1), 0, commit=2))
    server.receive(3, append(2, log(2, 2), 0))
    assert server.terms == [1, 1]


def test_5_3_an_old_append_of_an_earlier_leadership_is_refused() -> None:
    """Member 1 led term 1, was replaced, and leads term 3: what it sent in term 1 comes late."""
    server = restarted(2, 1)
    server.receive(3, append(2, log(2), 0))
    server.receive(1, append(3, log(2, 3), 1))
    server.receive(1, append(1, log(1, 1), 0))
    assert server.terms == [2, 3]
    assert server.last(Rejected).term == 3


# Finding where the logs agree (5.3).


@pytest.mark.parametrize(
    "terms",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),  # (a): one entry is missing
        (1, 1, 1, 4),  # (b): many are
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),  # (c): one too many
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),  # (d): two, of a later term
        (1, 1, 1, 4, 4, 4, 4),  # (e): missing and too many
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),  # (f): two terms that nobody else has
    ],
    ids="abcdef",
)
def test_5_3_figure_7_six_logs_converge(terms: tuple[int, ...]) -> None:
    ahead = leader(8, log(1, 1, 1, 4, 4, 5, 5, 6, 6, 6))
    behind = restarted(2, 7, log(*terms))
    exchange(ahead, behind)
    for _ in range(2):
        ahead.wait(HEARTBEAT)
        exchange(ahead, behind)
    assert behind.terms == ahead.terms == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]
    assert [entry.encoded for entry in behind.disk.entries] == [entry.encoded for entry in ahead.disk.entries]
    assert behind.commit == ahead.commit == 11


def test_5_3_back_tracking_skips_a_term_at_a_time() -> None:
    ahead = leader(3, log(*[1] * 10))
    behind = restarted(2, 2, log(*[1] * 2, *[2] * 200))
    ahead.wait(HEARTBEAT)
    refusals = 0
    while behind.terms != ahead.terms:
        for _, request in [sent for sent in ahead.sent(AppendEntries) if sent[0] == 2]:
            behind.receive(1, request)
        for _, refusal in behind.sent(Rejected):
            refusals += 1
            assert refusals <= 2
            ahead.receive(2, refusal)


def test_5_3_a_refusal_of_what_has_been_acknowledged_since_is_ignored() -> None:
    server = leader(1)
    server.propose("a", "b")
    server.acknowledge(2, 3)
    server.forget()
    server.receive(2, Rejected(1, 2, 1, 0))
    server.propose("c")
    server.propose("d")
    assert [message.prev_index for to, message in server.sent(AppendEntries) if to == 2] == [3, 4], "pipelined still"


def test_5_3_ours_back_tracking_never_goes_below_what_is_known_to_agree() -> None:
    """A term that a follower has at the index it refuses can begin before what it has acknowledged."""
    server = leader(3, log(1, 2, 2))
    server.propose("a", "b")
    server.acknowledge(2, 3)
    server.forget()
    behind = restarted(2, 3, log(1, 2, 2, 2, 2))
    behind.receive(1, heartbeat(3, (5, 3)))
    refusal = behind.last(Rejected)
    assert refusal.hint == 2
    server.receive(2, refusal)
    assert [message.prev_index for to, message in server.sent(AppendEntries) if to == 2] == [3]


# When to commit (5.4.2).


def test_5_4_2_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """S1 leads term 4 and has spread its entry of term 2 to a majority: S5, with term 3, could still replace it."""
    server = leader(4, log(1, 2), members=5)
    for follower in (2, 3):
        server.acknowledge(follower, 2)
    assert server.commit == 0
    for follower in (2, 3):
        server.acknowledge(follower, 3)
    assert server.commit == 3


# Flow (d10.2), and its bounds (ours).


def test_d10_2_a_leader_does_not_wait_for_an_answer_before_it_sends_the_next() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    for name in "abc":
        server.propose(name)
    assert [m.prev_index for to, m in server.sent(AppendEntries) if to == 2] == [1, 2, 3]


def test_ours_until_logs_are_known_to_agree_one_request_at_a_time_is_under_way() -> None:
    server = leader(1)
    for name in "abc":
        server.propose(name)
    assert server.sent(AppendEntries) == []
    server.wait(HEARTBEAT)
    assert [len(m.entries) for to, m in server.sent(AppendEntries) if to == 2] == [0], "a heartbeat, not the entries"
    server.acknowledge(2, 0)
    assert [len(m.entries) for to, m in server.sent(AppendEntries) if to == 2] == [4]


def test_ours_no_message_carries_more_than_a_page() -> None:
    server = leader(1, configuration=PAGE_OF_TWO)
    server.acknowledge(2, 1)
    server.propose("a", "b", "c", "d", "e")
    assert [len(m.entries) for to, m in server.sent(AppendEntries) if to == 2] == [2, 2, 1]


def test_ours_a_full_pipeline_refuses_proposals() -> None:
    server = leader(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_entries=2)))
    server.acknowledge(2, 1)
    assert server.propose("a", "b", "c") == 0
    assert server.propose("a", "b") == 2
    assert server.propose("c") == 0
    server.acknowledge(2, 2)
    assert server.propose("c") == 4


def test_ours_what_is_committed_makes_room_in_the_pipeline() -> None:
    """In bytes too: a leader that only ever added to them would take no more commands after a while."""
    server = leader(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    server.acknowledge(2, 1)
    for index in range(2, 30):
        assert server.propose("a") == index
        server.acknowledge(2, index)


def test_ours_what_was_in_the_pipeline_of_an_earlier_term_takes_no_room_in_this_one() -> None:
    """Nothing of it is ever committed. Counted on, it could keep a leader from taking any command."""
    server = leader(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    while server.propose("a"):
        pass
    server.receive(2, append(2, log(2), 0))
    assert server.op == 1
    server.win()
    assert server.propose("a") == 3


def test_ours_what_a_new_leader_takes_over_is_in_its_pipeline() -> None:
    """Else each term that commits nothing would let the log grow by as much again."""
    server = Driven(1, configuration=Configuration((1, 2, 3), limits=Limits(pipeline_bytes=400)))
    server.receive(2, append(1, log(*[1] * 10), 0))
    server.win()
    assert server.propose("a") == 0
    server.acknowledge(2, 11)
    assert server.propose("a") == 12


def test_ours_a_lost_window_is_found_out_by_the_next_heartbeat() -> None:
    ahead, behind = leader(1, configuration=PAGE_OF_ONE), restarted(2, 0)
    ahead.wait(HEARTBEAT)
    exchange(ahead, behind)
    ahead.propose(*map(str, range(200)))
    assert len([to for to, _ in ahead.sent(AppendEntries) if to == 2]) == 64
    ahead.wait(HEARTBEAT)
    exchange(ahead, behind)
    assert behind.op == ahead.op == 201


def test_ours_load_on_one_follower_does_not_starve_another_of_heartbeats() -> None:
    """Member 2 takes one entry after another. Member 3, whose whole window was lost, must be asked all the same."""
    ahead, silent = leader(1, configuration=PAGE_OF_ONE), restarted(3, 0)
    ahead.wait(HEARTBEAT)
    exchange(ahead, silent)
    ahead.acknowledge(2, 1)
    ahead.propose(*map(str, range(64)))
    ahead.acknowledge(2, ahead.op)
    ahead.forget()
    for _ in range(20):
        ahead.wait(HEARTBEAT // 10)
        ahead.propose("more")
        ahead.acknowledge(2, ahead.op)
    assert [to for to, _ in ahead.sent(AppendEntries) if to == 3], "two heartbeats have passed"


def test_ours_a_single_leader_does_not_want_to_be_woken_without_end() -> None:
    server = Driven(1, members=1)
    server.wait(SECOND)
    server.tick()
    assert server.core.deadline > server.now.monotonic


# Leadership transfer (d3.10).


def test_d3_10_a_leader_that_hands_over_takes_no_proposals() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.wait(0)
    assert server.propose("a") == 0
    assert server.last(TimeoutNow) == TimeoutNow(1)


def test_d3_10_the_heir_catches_up_first() -> None:
    server = leader(1)
    server.propose("a")
    server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.wait(0)
    assert server.sent(TimeoutNow) == []
    server.acknowledge(2, 2)
    assert server.sent(TimeoutNow) == [(2, TimeoutNow(1))]


def test_d3_10_a_handover_that_does_not_succeed_ends_by_itself() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.core.resign(server.now)
    for _ in range(6):
        server.wait(60 * MILLISECOND)
        server.acknowledge(3, 1)
    assert server.leads
    assert server.propose("a") == 2


def test_d3_10_a_lost_timeout_now_is_said_again() -> None:
    server = leader(1)
    server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.wait(0)
    server.forget()
    server.wait(HEARTBEAT)
    server.acknowledge(2, 1)
    assert server.sent(TimeoutNow) == [(2, TimeoutNow(1))]


def test_d3_10_ours_the_heir_is_one_that_answers() -> None:
    """Member 3 holds as much, and died since: handing over to it would only cost the time."""
    server = leader(1)
    server.acknowledge(3, 1)
    for _ in range(4):
        server.wait(HEARTBEAT)
        server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.wait(0)
    assert [to for to, _ in server.sent(TimeoutNow)] == [2]


def test_d3_10_ours_nor_is_it_one_that_held_more_and_answers_no_more() -> None:
    server = leader(1)
    server.propose("a")
    server.acknowledge(3, 2)
    for _ in range(4):
        server.wait(HEARTBEAT)
        server.acknowledge(2, 1)
    server.core.resign(server.now)
    server.wait(0)
    server.acknowledge(2, 2)
    assert [to for to, _ in server.sent(TimeoutNow)] == [2]


# The agreed time (ours; VRR 4.4 has the same rule).


def test_ours_agreed_time_is_right_after_catching_up_with_old_entries() -> None:
    """They were ordered an hour ago, by their stamps. Measured from them, the time would be an hour behind."""
    server = restarted(1, 1)
    server.now = server.now._replace(wall=server.now.wall + 3600 * SECOND)
    server.receive(2, append(1, log(1, 1), 0, commit=2))
    server.win()
    assert server.core.entry(3).stamp == server.now.wall


def test_ours_agreed_time_does_not_go_back_behind_what_was_committed_before_it_came() -> None:
    ahead = WALL + SECOND // 2
    server = Driven(1)
    server.receive(2, AppendEntries(1, 0, 0, (entry(1, 1, stamp=ahead),), 1, 0))
    server.win()
    assert server.core.entry(2).stamp >= ahead


def test_5_3_ours_a_window_that_arrives_in_another_order_goes_back_once() -> None:
    """Each request that overtakes another is rejected, each that fits is not: the window must not go out again for
    every such pair, while the old one is still arriving."""
    server = leader(1, configuration=Configuration((1, 2, 3), limits=Limits(page_entries=1)))
    server.acknowledge(3, 1)
    for name in "abcdefgh":
        server.propose(name)
    server.forget()
    server.receive(3, Rejected(1, 5, 2, 0))
    probe = server.last(AppendEntries)
    assert (probe.prev_index, probe.round) == (1, 1)
    for index in range(2, 8):
        server.acknowledge(3, index)
        server.receive(3, Rejected(1, index + 1, index + 1, 0))
    sent = [message for to, message in server.sent(AppendEntries) if to == 3]
    assert len(sent) <= 1

    server.acknowledge(3, 7, number=1)
    assert [message.prev_index for to, message in server.sent(AppendEntries) if to == 3] == [7, 8]
    server.receive(3, Rejected(1, 8, 8, 0))
    assert server.sent(AppendEntries) == [], "the last of the old window's rejections"
