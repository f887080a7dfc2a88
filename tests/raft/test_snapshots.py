"""Snapshots and compaction: one test per rule of the Raft paper (2014), section 7.

Rules that say "ours" differ from it, or add to it: the leader names its snapshot, and the follower fetches the
bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raft import (
    Appended,
    AppendEntries,
    Installing,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    Rejected,
    RequestVote,
    TermAndVote,
    TimeoutNow,
    Vote,
)
from tests.protocol.driven import snapshot
from tests.raft.driven import WALL, Driven, append, heartbeat, leader, log, restarted
from viewstamp.protocol import (
    SECOND,
    Append,
    Durable,
    Entry,
    Install,
    InvariantError,
    Kind,
    Limits,
    Proposal,
    ReadReady,
    SaveState,
    Snapshot,
    Timeouts,
    Truncate,
)

HEARTBEAT = Timeouts().heartbeat


def offer(taken: Snapshot, term: int, number: int = 0) -> InstallSnapshot:
    """A leader of `term` offers this snapshot, in read round `number`."""
    return InstallSnapshot(term, taken.view, taken.op, taken.stamp, taken.size, taken.digest, number)


def compacted(op: int = 5, *, keep_after: int | None = None, last: int = 7, members: int = 3) -> Driven:
    """The leader of term 1 with a log up to `last`, committed, and compacted to `op`. The last member holds nothing."""
    server = leader(1, members=members)
    server.propose(*(f"{number}" for number in range(2, last + 1)))
    for follower in range(2, server.configuration.quorum + 1):
        server.acknowledge(follower, last)
    server.compact(op, keep_after)
    server.forget()
    return server


def restarted_on(taken: Snapshot, held: tuple[Entry, ...] = (), *, me: int = 2, term: int = 1) -> Driven:
    """A server that comes back with this snapshot and these entries on its disk."""
    return Driven(me, origin=Durable(TermAndVote(term, 0, (1, 1, 1)), held, taken))


def behind(*terms: int, taken: Snapshot, term: int = 3, eager: bool = True) -> Driven:
    """Member 2 with a log of these terms, which member 1 has offered a snapshot."""
    server = restarted(2, term, log(*terms), eager=eager)
    server.receive(1, offer(taken, term))
    return server


# Compaction (7).


def test_7_entries_before_a_snapshot_may_go_and_a_margin_stays() -> None:
    server = compacted(5, keep_after=3)
    assert (server.base, server.op, server.commit) == (3, 7, 7)
    assert server.core.viewstamp_of(3) == (1, 3)
    with pytest.raises(InvariantError, match="outside the log"):
        server.core.entry(3)


def test_7_what_is_not_committed_is_in_no_snapshot() -> None:
    server = leader(1)
    server.propose("a")
    with pytest.raises(InvariantError, match="beyond commit"):
        server.core.compact(snapshot(2, 1), 2, server.now)


def test_7_a_leader_goes_on_behind_its_snapshot() -> None:
    server = compacted()
    assert server.propose("a") == 8
    server.acknowledge(2, 8)
    assert server.commit == 8


# The leader (7).


def test_7_a_follower_behind_the_leaders_base_is_offered_its_snapshot() -> None:
    server = compacted()
    server.receive(3, Rejected(1, 0, 1, 0))
    server.wait(HEARTBEAT)
    offers = server.sent(InstallSnapshot)
    assert offers
    assert offers[0] == (3, offer(snapshot(5, 1), 1))
    assert {to for to, _ in server.sent(AppendEntries)} == {2}


def test_7_ours_the_offer_is_repeated_as_the_heartbeat_and_nothing_else_is_sent() -> None:
    server = compacted()
    server.wait(HEARTBEAT)
    for number in range(1, 6):
        server.forget()
        server.propose("more")
        server.acknowledge(2, server.op)
        assert server.sent(InstallSnapshot) == [], "not for each proposal"
        server.wait(HEARTBEAT)
        server.receive(3, Installing(1, 0))
        assert [to for to, _ in server.sent(InstallSnapshot)] == [3], number
        assert 3 not in {to for to, _ in server.sent(AppendEntries)}


def test_7_ours_a_follower_that_fetches_counts_for_check_quorum() -> None:
    server = compacted()
    for _ in range(20):
        server.wait(HEARTBEAT)
        server.receive(3, Installing(1, 0))
    assert server.leads
    server.wait(SECOND)
    assert not server.leads


def test_7_ours_a_follower_that_fetches_counts_for_read_rounds() -> None:
    server = compacted()
    server.wait(HEARTBEAT)
    server.forget()
    server.read(9)
    number = server.last(InstallSnapshot).round
    server.receive(3, Installing(1, number))
    assert server.reads == [ReadReady(9, 7)]


def test_7_ours_installing_acknowledges_no_entry() -> None:
    server = compacted()
    server.propose("a")
    server.receive(3, Installing(1, 0))
    assert server.commit == 7


def test_7_the_leader_resumes_with_appends_behind_the_snapshot() -> None:
    server = compacted()
    server.wait(HEARTBEAT)
    server.forget()
    server.acknowledge(3, 5)
    [(to, message)] = server.sent(AppendEntries)
    assert (to, message.prev_index, message.prev_term) == (3, 5, 1)
    assert [each.op for each in message.entries] == [6, 7]
    server.propose("a")
    assert [message.prev_index for to, message in server.sent(AppendEntries) if to == 3] == [7], "pipelined again"


def test_7_ours_a_snapshot_that_was_compacted_away_meanwhile_is_followed_by_a_newer_one() -> None:
    server = compacted()
    server.wait(HEARTBEAT)
    server.compact(7)
    server.forget()
    server.acknowledge(3, 5)
    assert server.last(InstallSnapshot).snapshot.op == 7
    server.acknowledge(3, 7)
    server.propose("a")
    assert [message.prev_index for to, message in server.sent(AppendEntries) if to == 3] == [7]


def test_7_ours_a_follower_within_the_margin_needs_no_snapshot() -> None:
    server = compacted(5, keep_after=3)
    server.receive(3, Rejected(1, 0, 1, 0))
    server.forget()
    server.acknowledge(3, 3)
    assert server.sent(InstallSnapshot) == []
    assert [each.op for each in server.last(AppendEntries).entries] == [4, 5, 6, 7]


def test_7_ours_a_follower_that_the_log_has_left_behind_while_appends_flowed_is_offered_the_snapshot() -> None:
    """All that was under way to it is lost; before it could say so, the leader has compacted."""
    server = leader(1)
    for follower in (2, 3):
        server.acknowledge(follower, 1)
    for name in "abcd":
        server.propose(name)
    server.acknowledge(2, 5)
    server.compact(5)
    server.forget()
    server.receive(3, Rejected(1, 5, 2, 0))
    assert server.sent(InstallSnapshot) == [(3, offer(snapshot(5, 1), 1, 1))]


def test_7_ours_what_is_in_flight_is_bounded_in_bytes() -> None:
    """Some hundred small messages, but few large ones: a slow follower must not take the leader's memory."""
    size, limits = 200 * 1024, Limits()
    server = leader(1)
    server.acknowledge(2, 1)
    server.forget()
    for number in range(60):
        large = Proposal(Kind.COMMAND, 1, number, 0, bytes(size), 0)
        assert server.core.propose([large], server.now)
        server.wait(0)
    sent = [message for to, message in server.sent(AppendEntries) if to == 2]
    in_flight = sum(len(each.encoded) for message in sent for each in message.entries)
    assert 4 * 1024 * 1024 <= in_flight <= 4 * 1024 * 1024 + limits.page_bytes
    server.acknowledge(2, sent[1].entries[-1].op)
    following = [message for to, message in server.sent(AppendEntries) if to == 2]
    assert sum(len(message.entries) for message in following) == 2, "as much as was acknowledged"


def test_5_3_ours_what_was_on_its_way_before_going_back_counts_no_more() -> None:
    """Counted for ever, it would fill the window of a follower that goes back now and then: none would be left."""
    server = leader(1)
    server.acknowledge(2, 1)
    for number in range(25):
        assert server.core.propose([Proposal(Kind.COMMAND, 1, number, 0, bytes(200 * 1024), 0)], server.now)
        server.wait(0)
    lost = [message for to, message in server.sent(AppendEntries) if to == 2]
    server.receive(2, Rejected(server.view, lost[1].prev_index, 2, lost[1].round))
    [again] = [message for to, message in server.sent(AppendEntries) if to == 2]
    assert again.entries[0].op == 2, "one request, to find where the logs agree"
    server.acknowledge(2, again.entries[-1].op, number=again.round)
    following = [message for to, message in server.sent(AppendEntries) if to == 2]
    assert sum(len(message.entries) for message in following) >= len(lost) - 2, "and then a window of them"


# The follower (7).


def test_7_a_follower_fetches_what_it_is_offered_and_says_that_it_follows() -> None:
    server = behind(1, taken=snapshot(5, 2))
    assert server.wants == (1, 5)
    assert server.sent(Installing) == [(1, Installing(3, 0))]
    assert server.sent(Appended) == []
    assert server.core.standing.primary == 1
    assert "snapshot" in server.core.standing.waiting


def test_7_ours_offers_keep_it_from_standing_for_election() -> None:
    server = behind(1, taken=snapshot(5, 2))
    for number in range(1, 30):
        server.wait(HEARTBEAT)
        server.receive(1, offer(snapshot(5, 2), 3, number))
    assert server.status == "follower"
    assert server.last(Installing).round == 29
    server.wait(SECOND)
    assert server.status == "pre-candidate"
    assert server.wants is None


def test_7_the_whole_log_is_replaced_in_one_write_and_acknowledged_when_that_is_durable() -> None:
    server = behind(1, 1, taken=snapshot(5, 2))
    server.receive(1, offer(snapshot(5, 2), 3, 4))
    server.eager = False
    server.fetched(snapshot(5, 2))
    assert (server.base, server.op, server.commit) == (5, 5, 5)
    assert server.restored == [snapshot(5, 2)]
    assert server.wants is None
    [write] = server.writes
    assert write.records == (Truncate(0), Install(snapshot(5, 2)))
    assert server.sent(Appended) == []
    server.finish_writes()
    assert server.sent(Appended) == [(1, Appended(3, 5, 4))]


def test_7_a_conflicting_suffix_is_dropped_at_the_installation() -> None:
    """Entries 5 and 6 here are of term 1, and entry 5 of the snapshot is of term 2: all behind it may be others."""
    server = behind(1, 1, 1, 1, 1, 1, taken=snapshot(5, 2))
    assert server.wants == (1, 5)
    assert server.op == 6, "only then"
    server.fetched(snapshot(5, 2))
    assert (server.base, server.op) == (5, 5)
    assert server.disk.entries == []


def test_7_a_matching_suffix_is_kept_and_nothing_is_fetched() -> None:
    server = behind(1, 1, 1, 1, 2, 2, taken=snapshot(5, 2))
    assert server.wants is None
    assert server.last(Appended) == Appended(3, 5, 0)
    assert (server.op, server.commit, server.base, server.restored) == (6, 5, 0, [])


def test_7_an_old_snapshot_is_acknowledged_and_takes_nothing_back() -> None:
    server = restarted(2, 3)
    server.receive(1, append(3, log(1, 1, 2, 2, 2, 2), 0, commit=6))
    server.compact(6)
    server.forget()
    server.receive(1, offer(snapshot(4, 2), 3))
    assert server.wants is None
    assert server.sent(Appended) == [(1, Appended(3, 4, 0))]
    assert (server.op, server.commit, server.base) == (6, 6, 6)


def test_7_ours_a_repeated_offer_of_what_is_installed_is_acknowledged_again() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.fetched(snapshot(5, 2))
    server.forget()
    server.receive(1, offer(snapshot(5, 2), 3, 8))
    assert server.sent(Appended) == [(1, Appended(3, 5, 8))]
    assert server.restored == [snapshot(5, 2)]


def test_7_ours_acknowledging_an_offer_promises_only_what_is_durable() -> None:
    """The log holds the snapshot's last entry, on its way to the disk."""
    server = restarted(2, 3, eager=False)
    server.receive(1, append(3, log(1, 1, 2, 2, 2, 2), 0))
    server.receive(1, offer(snapshot(5, 2), 3))
    assert server.sent(Appended) == []
    server.finish_writes()
    assert [message.match for _, message in server.sent(Appended)] == [6, 5]


def test_7_ours_a_newer_offer_does_not_restart_a_transfer_under_way() -> None:
    """Changing each time, a slow member would never have any of them whole."""
    server = behind(1, taken=snapshot(5, 2))
    server.receive(1, offer(snapshot(9, 2), 3))
    assert server.wants == (1, 5)
    server.fetched(snapshot(5, 2))
    assert server.last(Appended).match == 5


def test_7_ours_a_late_duplicate_of_an_older_offer_does_not_end_it_either() -> None:
    server = behind(1, 1, 1, taken=snapshot(5, 2))
    server.receive(1, offer(snapshot(2, 1), 3))
    assert server.last(Appended).match == 2
    assert server.wants == (1, 5)


def test_7_ours_after_a_failed_fetch_the_next_offer_is_taken() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.fetch_failed(snapshot(5, 2))
    assert server.wants is None
    server.receive(1, offer(snapshot(9, 2), 3))
    assert server.wants == (1, 9)


def test_7_ours_the_news_of_another_snapshot_changes_nothing() -> None:
    server = behind(1, taken=snapshot(5, 2))
    other = replace(snapshot(5, 2), digest=bytes(31) + b"1")
    server.fetch_failed(other)
    server.fetching(other)
    server.fetched(other)
    assert (server.wants, server.op, server.restored) == ((1, 5), 1, [])


def test_7_ours_entries_that_come_after_all_make_the_snapshot_needless() -> None:
    """AppendEntries that were thought lost arrive. What follows the snapshot's last entry is acknowledged: it stays."""
    server = behind(1, taken=snapshot(5, 1), term=1)
    server.receive(1, append(1, log(1, 1, 1, 1, 1, 1, 1), 1))
    assert server.wants is None
    assert server.last(Appended).match == 7
    server.fetched(snapshot(5, 1))
    assert (server.op, server.restored) == (7, [])


def test_7_ours_a_new_leader_drops_the_transfer_until_it_offers_one_itself() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.receive(3, heartbeat(4, (7, 2)))
    assert server.wants is None
    assert server.last(Rejected).hint == 2
    server.fetched(snapshot(5, 2))
    assert (server.op, server.restored) == (1, [])
    server.receive(3, offer(snapshot(5, 2), 4))
    assert server.wants == (3, 5), "the same bytes: what has come stays good"


def test_7_ours_standing_for_election_drops_the_transfer() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.ask_around()
    assert (server.status, server.wants) == ("pre-candidate", None)
    server.fetched(snapshot(5, 2))
    assert (server.op, server.restored) == (1, [])
    server.receive(1, offer(snapshot(5, 2), 3))
    assert (server.status, server.wants) == ("follower", (1, 5))
    server.receive(1, TimeoutNow(3))
    assert (server.status, server.wants) == ("candidate", None)


def test_7_ours_a_leader_wants_no_snapshot() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.win()
    assert server.wants is None
    server.receive(1, offer(snapshot(5, 2), 3))
    assert server.leads
    assert server.last(Rejected).term == 4


def test_7_an_offer_of_an_earlier_term_is_refused_with_the_later_one() -> None:
    server = restarted(2, 3, log(1))
    server.receive(1, offer(snapshot(5, 1), 2))
    assert server.wants is None
    assert server.sent(Rejected) == [(1, Rejected(3, 5, 2, 0))]


def test_7_an_offer_of_a_later_term_is_followed() -> None:
    server = restarted(2, 1, log(1))
    server.receive(3, offer(snapshot(5, 2), 4))
    assert (server.view, server.core.standing.primary, server.wants) == (4, 3, (3, 5))
    assert server.saved == (4, 0)


@pytest.mark.parametrize(
    "damage",
    [
        {"last_index": 0},
        {"last_term": 0},
        {"last_term": 4},
        {"size": 0},
        {"size": 1 << 50},
        {"digest": bytes(33)},
        {"digest": b""},
        {"stamp": 1 << 63},
    ],
    ids=str,
)
def test_7_ours_a_malformed_offer_is_ignored(damage: dict[str, Any]) -> None:
    """Of nothing, of no term, of a later one, of no bytes, of too many, without a digest, of no possible time."""
    server = restarted(2, 3, log(1))
    server.receive(1, replace(offer(snapshot(5, 2), 3), **damage))
    assert server.wants is None
    assert server.core.standing.primary is None
    assert [reason for reason in server.core.ignored if reason.startswith("malformed")]


# Appends to a log that begins with a snapshot (5.3, 7).


def test_5_3_ours_a_previous_index_in_the_compacted_part_counts_as_matching() -> None:
    """Taken for a conflict, it would cut what is committed."""
    server = restarted_on(snapshot(5, 1), term=2)
    server.receive(1, AppendEntries(2, 3, 1, log(1, 1, 1, 1, 1, 2, 2)[3:], 5, 0))
    assert (server.base, server.op) == (5, 7)
    assert server.last(Appended).match == 7
    server.receive(1, heartbeat(2, (2, 1)))
    assert server.last(Appended).match == 2
    assert server.op == 7


def test_5_3_the_entry_behind_the_snapshot_must_follow_its_last_term() -> None:
    server = restarted_on(snapshot(5, 2), term=3)
    server.receive(1, append(3, log(1, 1, 2, 2, 2, 3), 5))
    assert server.op == 6
    server = restarted_on(snapshot(5, 2), term=3)
    server.receive(1, heartbeat(3, (6, 3)))
    assert server.last(Rejected).hint == 6


def test_5_3_ours_back_tracking_ends_at_the_commit_index() -> None:
    server = restarted_on(snapshot(5, 1), log(1, 1, 1, 1, 1, 2, 2, 2)[5:], term=3)
    server.receive(1, heartbeat(3, (8, 3)))
    assert server.last(Rejected).hint == 6


def test_5_3_ours_a_new_leader_that_restarted_behind_its_snapshot_offers_it() -> None:
    server = restarted_on(snapshot(5, 1), log(1, 1, 1, 1, 1, 1)[5:], me=1)
    server.win()
    server.forget()
    server.receive(3, Rejected(2, 6, 1, 0))
    assert server.sent(InstallSnapshot) == [(3, offer(snapshot(5, 1), 2))]


# Elections with a log that begins with a snapshot (5.4.1).


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 5, True), (2, 6, True), (3, 1, True), (2, 4, False), (1, 9, False)],
)
def test_5_4_1_the_voters_table_is_that_of_the_snapshot_if_the_log_is_empty(
    last_term: int, last_index: int, granted: bool
) -> None:
    server = restarted_on(snapshot(5, 2), term=3)
    server.receive(3, RequestVote(4, last_index, last_term, False))
    assert server.last(Vote) == Vote(4, granted)


def test_5_4_1_a_candidate_with_an_empty_log_names_its_snapshots_last_entry() -> None:
    server = restarted_on(snapshot(5, 2), term=3)
    server.ask_around()
    assert server.last(PreVote) == PreVote(4, 5, 2)
    server.receive(1, PreVoteReply(4, granted=True))
    assert server.last(RequestVote) == RequestVote(4, 5, 2, False)


def test_5_4_1_ours_a_vote_is_given_by_what_was_installed() -> None:
    server = behind(1, 1, 1, 1, 1, 1, taken=snapshot(5, 2))
    server.fetched(snapshot(5, 2))
    server.wait(SECOND)
    server.receive(3, RequestVote(9, 6, 1, False))
    assert server.last(Vote) == Vote(9, granted=False)


# Restarts.


def test_7_what_a_snapshot_holds_is_committed_after_a_restart() -> None:
    server = restarted_on(snapshot(5, 1), log(1, 1, 1, 1, 1, 1, 1)[5:])
    assert (server.base, server.op, server.commit) == (5, 7, 5)


def test_7_ours_a_log_that_begins_before_its_snapshot_keeps_its_margin() -> None:
    server = restarted_on(snapshot(5, 1), log(1, 1, 1, 1, 1, 1, 1)[2:], me=1)
    assert (server.base, server.op, server.commit) == (3, 7, 5)
    server.win()
    server.forget()
    server.receive(3, Rejected(2, 7, 4, 0))
    assert [each.op for each in server.last(AppendEntries).entries] == [4, 5, 6, 7, 8]


def test_7_a_restart_in_the_middle_of_a_transfer_begins_with_the_old_log() -> None:
    server = behind(1, 1, taken=snapshot(5, 2))
    again = server.restarted()
    assert (again.op, again.base, again.wants, again.view) == (2, 0, None, 3)


def test_7_a_member_restarts_on_what_it_installed() -> None:
    server = behind(1, 1, taken=snapshot(5, 2))
    server.fetched(snapshot(5, 2))
    server.receive(1, append(3, log(1, 1, 2, 2, 2, 3), 5))
    again = server.restarted()
    assert (again.base, again.op, again.commit) == (5, 6, 5)
    assert [record.view for record in again.disk.entries] == [3]


def test_7_ours_term_and_snapshot_may_share_a_write_and_a_later_append() -> None:
    server = behind(1, taken=snapshot(5, 2))
    server.eager = False
    server.core.fetched(snapshot(5, 2), server.now)
    server.core.receive(1, 1, append(3, log(1, 1, 2, 2, 2, 3), 5), server.now)
    server.wait(0)
    [write] = server.writes
    assert [type(record) for record in write.records] == [Truncate, Install, Append]
    server.finish_writes()
    assert [message.match for _, message in server.sent(Appended)] == [5, 6]
    server.receive(3, heartbeat(4, (6, 3)))
    assert isinstance(server.writes[0].records[0], SaveState)


# The agreed time (VRR 4.4 has the rule).


@pytest.mark.parametrize("ahead", [SECOND // 2, 3600 * SECOND])
def test_ours_agreed_time_does_not_go_back_behind_a_snapshot(ahead: int) -> None:
    taken = snapshot(5, 1, stamp=WALL + ahead)
    server = restarted_on(taken, me=1)
    server.win()
    assert server.core.entry(6).stamp >= taken.stamp


def test_ours_nor_after_an_installation() -> None:
    taken = snapshot(5, 1, stamp=WALL + SECOND // 2)
    server = behind(1, taken=taken)
    server.fetched(taken)
    server.win()
    assert server.core.entry(6).stamp >= taken.stamp
