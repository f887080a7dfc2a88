"""The rules by which Raft here differs from the papers, each put back once: `corrections` says what for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from raft import Raft, election, replication, snapshots
from raft.messages import Appended, AppendEntries, Installing, InstallSnapshot, PreVote, Rejected, TimeoutNow
from raft.server import Progress, Role, Server
from tests.simulation.changes import Change, after, before, early
from tests.simulation.corrections import Catalogue, in_two_writes, unless, whatever_waits_is_silence
from viewstamp.protocol import Founded, Lost, Wanted

RAFT = Catalogue("raft")
_rule, _known = RAFT.rule, RAFT.known

# R2: a newer offer does not end a transfer.


@_rule(
    "R2",
    "a newer offer ends a transfer under way",
    "test_7_ours_a_newer_offer_does_not_restart_a_transfer_under_way",
    needs="snapshots that are taken faster than one is fetched, for long",
)
def _() -> list[Change]:
    def follow_newest(s: Server, sender: int, message: InstallSnapshot) -> None:
        if s.installing is not None and message.term == s.view and s.leader == sender:
            s.installing = Wanted(sender, message.snapshot)

    return [after(snapshots, "on_install_snapshot", follow_newest)]


# R3: a follower that fetches is alive.


@_rule(
    "R3",
    "INSTALLING is no sign of life",
    "test_7_ours_a_follower_that_fetches_counts_for_check_quorum",
    needs="one of three down, and a snapshot that takes longer than the suspect time-out",
)
def _() -> list[Change]:
    return [(replication, "on_installing", lambda s, sender, term, number: None)]


@_rule(
    "R3",
    "INSTALLING confirms no read",
    "test_7_ours_a_follower_that_fetches_counts_for_read_rounds",
    needs="one of three down, and a read while a snapshot is fetched",
)
def _() -> list[Change]:
    original = replication.on_installing

    def on_installing(s: Server, sender: int, term: int, number: int) -> None:
        original(s, sender, term, 0)

    return [(replication, "on_installing", on_installing)]


@_rule(
    "R3",
    "INSTALLING counts for commit",
    "test_7_ours_installing_acknowledges_no_entry",
    "raft/snapshot_for_a_laggard.scenario",
    needs="one of three down, and commands while a snapshot is fetched",
)
def _() -> list[Change]:
    def count(s: Server, sender: int, term: int, number: int) -> None:
        if s.role is Role.LEADER and term == s.view and s.snapshot is not None:
            progress = s.progress[sender]
            progress.match = max(progress.match, s.log.op)
            progress.next = max(progress.next, progress.match + 1)
            replication.count_commit(s)

    return [after(replication, "on_installing", count)]


@_rule(
    "R3",
    "INSTALLSNAPSHOT is said once",
    "test_7_ours_the_offer_is_repeated_as_the_heartbeat_and_nothing_else_is_sent",
    "raft/snapshot_for_a_laggard.scenario",
    needs="an INSTALLSNAPSHOT that is lost, or a fetch that fails",
)
def _() -> list[Change]:
    original = snapshots.offer
    offered: set[tuple[int, int, int, int]] = set()

    def offer(s: Server, other: int) -> None:
        key = id(s), s.view, other, s.snapshot.op if s.snapshot is not None else 0
        if key not in offered:
            offered.add(key)
            original(s, other)

    return [(snapshots, "offer", offer)]


# R4: log and snapshot are replaced by one record.


@_rule(
    "R4",
    "what a snapshot replaces is cut off in a write of its own",
    "test_7_the_whole_log_is_replaced_in_one_write_and_acknowledged_when_that_is_durable",
    needs="a crash between the two, at a member whose acknowledged log differs behind the snapshot",
)
def _() -> list[Change]:
    return in_two_writes()


# R5: what is on its way is bounded.


@_rule(
    "R5",
    "requests are pipelined without a bound",
    "test_7_ours_what_is_in_flight_is_bounded_in_bytes",
    "raft/full_window_lost.scenario",
    harmless="more is lost, and sent again",
)
def _() -> list[Change]:
    return [(Progress, "full", property(lambda self: self.probing and self.probe_sent))]


# R6: lost and rejected requests.


@_rule(
    "R6",
    "a heartbeat begins with what the follower is known to hold",
    "test_ours_a_lost_window_is_found_out_by_the_next_heartbeat",
)
def _() -> list[Change]:
    original = replication._request

    def request(s: Server, first: int, entries: Any, sent: Any) -> AppendEntries:
        if not entries:
            known = [p.match for p in s.progress.values() if p.next == first]
            first = max(s.log.base, min(known, default=first - 1)) + 1
        return original(s, first, entries, sent)

    return [(replication, "_request", request)]


@_rule(
    "R6",
    "a leader goes back for each rejection",
    "test_5_3_ours_a_window_that_arrives_in_another_order_goes_back_once",
    harmless="the same is sent again; nothing is wrong for it",
)
def _() -> list[Change]:
    def forget(s: Server, sender: int, *_: object) -> None:
        if sender in s.progress:
            s.progress[sender].probe_round = 0

    return [before(replication, "on_rejected", forget), before(replication, "on_appended", forget)]


@_rule(
    "R6",
    "a leader that looks for where logs agree sends without waiting",
    "test_ours_until_logs_are_known_to_agree_one_request_at_a_time_is_under_way",
    harmless="more is sent, and nothing else",
)
def _() -> list[Change]:
    def full(self: Progress) -> bool:
        return len(self.in_flight) >= 64 or self.in_flight_bytes >= 4 * 1024 * 1024

    return [(Progress, "full", property(full))]


@_rule(
    "R6",
    "a rejection of what was acknowledged since goes back behind it",
    "test_5_3_a_refusal_of_what_has_been_acknowledged_since_is_ignored",
    needs="a rejection that a later acknowledgement overtakes, of what the log has compacted",
)
def _() -> list[Change]:
    def on_rejected(s: Server, sender: int, message: Rejected) -> None:
        progress = s.progress.get(sender)
        if progress is not None and s.role is Role.LEADER and message.term == s.view and message.prev_index:
            progress.probe(max(1, min(message.hint, message.prev_index)))
        else:
            original(s, sender, message)

    original = replication.on_rejected
    return [(replication, "on_rejected", on_rejected)]


_known("R6", "a lost request is never sent again", "test_ours_a_lost_window_is_found_out_by_the_next_heartbeat")

# R7: term and vote are durable before a vote is asked for.

_known(
    "R7",
    "a candidate asks for votes before its own is durable",
    "test_5_2_ours_requestvote_waits_for_the_candidates_own_disk",
)
_known(
    "R7",
    "a candidate counts its own vote before it is durable",
    "test_5_2_ours_a_candidates_own_vote_counts_when_it_is_durable",
    needs="a crash between being elected and the own vote on the disk, and another candidate of that term",
)

# R8: pre-vote, stickiness and check-quorum.

_known("R8", "nobody sticks to a leader whom it hears", "test_d4_2_3_who_hears_a_leader_helps_nobody_to_depose_it")
_known("R8", "no pre-vote, and nobody sticks to a leader", "test_d4_2_3_who_hears_a_leader_helps_nobody_to_depose_it")
_known(
    "R8",
    "a leader that nobody answers goes on leading",
    "test_d6_2_a_leader_that_hears_no_majority_steps_down",
    "raft/leader_hears_nobody.scenario",
)


@_rule("R8", "no pre-vote", "test_d9_6_a_cut_off_member_never_raises_its_term")
def _() -> list[Change]:
    return [(election, "start_pre_vote", lambda s, reason: election.stand(s, reason))]


@_rule(
    "R8",
    "a leader whose disk hangs goes on leading",
    "test_d6_2_ours_a_leader_whose_disk_hangs_steps_down",
    harmless="the disks of the others are enough, while no more than a minority fails",
)
def _() -> list[Change]:
    def doubt(s: Server, now: int) -> str:
        reason = original(s, now)
        return "" if reason == "its disk has not finished a write" else reason

    original = replication._doubt
    return [(replication, "_doubt", doubt)]


@_rule(
    "R8",
    "a write that waits for others is taken for a disk that hangs",
    "test_d6_2_ours_a_leader_whose_disk_is_slow_and_goes_on_stays",
    "test_members_on_slow_disks_keep_their_primary",
    harmless="the next leader serves as well, until it steps down",
)
def _() -> list[Change]:
    return whatever_waits_is_silence()


@_rule(
    "raft/election.py",
    "a term that is not durable is told to whoever asks before an election",
    "test_f2_ours_a_refusal_tells_no_term_that_is_not_durable",
    needs="two of five members whose disks hang for long, while no leader is known",
)
def _() -> list[Change]:
    def on_pre_vote(s: Server, sender: int, message: PreVote) -> None:
        with patch.object(s, "durable_view", s.view):
            original(s, sender, message)

    original = election.on_pre_vote
    return [(election, "on_pre_vote", on_pre_vote)]


# R9: a pre-candidate that votes.


@_rule(
    "R9",
    "a pre-candidate that votes still stands when its question is answered",
    "test_5_2_ours_a_pre_candidate_that_votes_for_another_no_longer_stands_itself",
    harmless="one election more, won by a log that is good enough",
)
def _() -> list[Change]:
    def on_request_vote(s: Server, sender: int, message: Any) -> None:
        was, asked = s.role, s.votes
        with patch.object(s, "become_follower", s.become_follower if message.term > s.view else lambda *_: None):
            original(s, sender, message)
        if was is Role.PRE_CANDIDATE and s.role is Role.PRE_CANDIDATE:
            s.votes = asked

    original = election.on_request_vote
    return [(election, "on_request_vote", on_request_vote)]


# R10: where to try next.


@_rule(
    "R10",
    "a follower goes back one index at a time",
    "test_5_3_back_tracking_skips_a_term_at_a_time",
    harmless="slower, by a round trip for each entry",
)
def _() -> list[Change]:
    def mismatch(s: Server, message: AppendEntries) -> int:
        return message.prev_index if original(s, message) else 0

    original = replication._mismatch
    return [(replication, "_mismatch", mismatch)]


@_rule(
    "R10",
    "a follower looks for the first index of a term below its commit index too",
    "test_5_3_ours_back_tracking_ends_at_the_commit_index",
    needs="a conflict just above the base of a compacted log",
)
def _() -> list[Change]:
    def mismatch(s: Server, message: AppendEntries) -> int:
        index = original(s, message)
        if not index or message.prev_index > s.log.op:
            return index
        term = s.log.entry(message.prev_index).view
        while index > 1 and s.log.entry(index - 1).view == term:
            index -= 1
        return index

    original = replication._mismatch
    return [(replication, "_mismatch", mismatch)]


_known(
    "R10",
    "what lies below the commit index counts as a conflict",
    "test_5_3_ours_a_previous_index_in_the_compacted_part_counts_as_matching",
)

# R11: who lost its disk.


@_rule(
    "R11",
    "messages of any incarnation are taken",
    "test_ours_messages_of_another_incarnation_are_ignored",
    harmless="who has lost its disk does not come back at all: the other half of the rule",
)
def _() -> list[Change]:
    def receive(self: Any, sender: int, incarnation: int, message: Any, now: Any) -> None:
        original(self, sender, self._s.incarnations.get(sender, incarnation), message, now)

    original = Raft.receive
    return [(Raft, "receive", receive)]


@_rule(
    "R11",
    "a member that lost its disk begins anew under its old identity",
    "test_ours_a_member_whose_disk_is_lost_does_not_come_back",
    "raft/lost_disk_is_refused.scenario",
)
def _() -> list[Change]:
    original, receive_original = Raft.__init__, Raft.receive

    def init(self: Any, configuration: Any, me: int, origin: Any, random: Any, now: Any) -> None:
        if isinstance(origin, Lost):
            origin = Founded((origin.incarnation,) * len(configuration.members))
        original(self, configuration, me, origin, random, now)

    def receive(self: Any, sender: int, incarnation: int, message: Any, now: Any) -> None:
        receive_original(self, sender, self._s.incarnations.get(sender, incarnation), message, now)

    return [(Raft, "__init__", init), (Raft, "receive", receive), (Raft, "recovers_lost_disk", True)]


# R12: rounds.

_known(
    "R12",
    "answers to heartbeats confirm whatever read is the newest",
    "test_d6_4_a_read_waits_for_a_majority_that_answers_after_it_arrived",
    needs="answers to a deposed leader's last round that come late, and a read there just then",
)
_known(
    "R12",
    "a round that began before the read confirms it",
    "test_d6_4_a_read_waits_for_a_majority_that_answers_after_it_arrived",
)
_known("R12", "a read is served without asking a majority", "test_d6_4_one_answer_is_no_majority_of_five")
_known(
    "R12",
    "a read is served before the first commit of the term",
    "test_d6_4_a_read_waits_until_the_leader_has_committed_in_its_term",
)


@_rule(
    "R12",
    "an answer of a round that has not begun counts",
    "test_ours_an_answer_of_a_round_that_has_not_begun_confirms_nothing",
    harmless="in one term one life leads, and no round is answered before it began",
)
def _() -> list[Change]:
    def answered(s: Server, sender: int, term: int, number: int) -> Any:
        if s.role is Role.LEADER and term == s.view and number > s.round:
            s.round = number
        return original(s, sender, term, number)

    original = replication._answered
    return [(replication, "_answered", answered)]


# R13: elections that run out of time.


@_rule(
    "R13",
    "an election that ran out of time leaves the next as short",
    "test_5_6_ours_each_election_that_ran_out_of_time_makes_the_next_wait_longer",
    needs="disks of a majority that take a time-out, for long",
)
def _() -> list[Change]:
    def impatient(s: Server, *_: object) -> None:
        s.stalled = 0

    return [before(Server, "restart_election_timer", impatient)]


@_rule(
    "R13",
    "a member that was once without luck stays patient",
    "test_5_6_ours_it_is_as_patient_as_at_first_once_there_is_a_leader",
    harmless="the next election takes two seconds at most",
)
def _() -> list[Change]:
    restart = Server.restart_election_timer

    def restart_election_timer(self: Server) -> None:
        self.stalled = remembered[self] = max(self.stalled, remembered.get(self, 0))
        restart(self)

    remembered: WeakKeyDictionary[Server, int] = WeakKeyDictionary()
    return [(Server, "restart_election_timer", restart_election_timer)]


@_rule(
    "R13",
    "who cannot even stand becomes patient",
    "test_5_6_ours_who_cannot_even_stand_waits_no_longer_than_before",
    harmless="the next election takes two seconds at most",
)
def _() -> list[Change]:
    def patient(s: Server, *_: object) -> None:
        if s.role is Role.PRE_CANDIDATE:
            s.stalled += 1

    return [before(election, "start_pre_vote", patient)]


# What comments tell beside.

_known("raft/messages.py", "the vote is not in the durable state", "test_5_2_a_vote_survives_a_restart")
_known(
    "raft/server.py",
    "the vote is cleared when a candidate begins to follow in its own term",
    "test_5_2_a_candidate_steps_down_to_a_leader_of_its_term_and_keeps_its_vote",
)
_known(
    "raft/replication.py",
    "a follower commits up to the end of its log",
    "test_5_3_ours_a_follower_commits_only_what_the_request_proved",
)
_known(
    "raft/replication.py",
    "a follower acknowledges its whole log",
    "test_5_3_ours_a_follower_acknowledges_only_what_the_request_proved",
)
_known(
    "raft/replication.py",
    "every request cuts the log to its own end",
    "test_5_3_an_append_that_is_already_contained_leaves_later_entries_alone",
)
_known(
    "raft/replication.py",
    "the leader counts itself before its write is durable",
    "test_d10_2_the_leader_counts_itself_only_when_its_own_write_is_durable",
)
_known(
    "raft/replication.py",
    "a transfer of leadership has no end",
    "test_d3_10_a_handover_that_does_not_succeed_ends_by_itself",
)
_known(
    "raft/election.py",
    "votes are counted instead of voters",
    "test_5_2_votes_are_counted_once_per_member",
    needs="a vote that comes twice, where it makes a majority",
)
_known(
    "raft/election.py", "a vote is not asked for twice", "test_5_2_a_candidate_asks_again_those_who_have_not_answered"
)
_known(
    "viewstamp/protocol/log.py",
    "a write in flight counts for the entries that replaced those it holds",
    "test_a_write_of_entries_since_replaced_proves_nothing_about_the_new_ones",
    "test_a_truncation_takes_back_what_was_durable",
)


@_rule(
    "raft/election.py",
    "a pre-vote of an earlier term is not answered",
    "test_d9_6_one_that_is_behind_is_refused_and_learns_the_term",
    needs="one of three down, and of the others one has the later term and the shorter log",
)
def _() -> list[Change]:
    return [unless(election, "on_pre_vote", lambda s, sender, message: message.term <= s.view)]


@_rule(
    "raft/election.py",
    "who hears a leader does not let its heir pass",
    "test_d3_10_the_old_leader_votes_for_its_heir_too",
    harmless="the transfer gives up, and the old leader goes on",
)
def _() -> list[Change]:
    original = election.on_request_vote

    def on_request_vote(s: Server, sender: int, message: Any) -> None:
        original(s, sender, replace(message, transfer=False))

    return [(election, "on_request_vote", on_request_vote)]


@_rule(
    "raft/server.py",
    "to learn of a later term restarts the election timer",
    "test_5_2_a_refused_vote_does_not_restart_the_election_timer",
    harmless="without a majority's pre-votes nobody raises its term",
)
def _() -> list[Change]:
    def restart(self: Server, *_: object) -> None:
        self.restart_election_timer()

    return [before(Server, "become_follower", restart)]


@_rule(
    "raft/replication.py",
    "a follower that is sent entries puts off the heartbeats of all",
    "test_ours_load_on_one_follower_does_not_starve_another_of_heartbeats",
    harmless="load that is not acknowledged ends, and heartbeats come again",
)
def _() -> list[Change]:
    def put_off(s: Server) -> None:
        if s.role is Role.LEADER and any(isinstance(each.message, AppendEntries) for each in s._sends):
            s.heartbeat_at = s.now.monotonic + s.timeouts.heartbeat

    return [after(replication, "close_turn", put_off)]


@_rule(
    "raft/replication.py",
    "a leader hands over to whoever has the longest log, dead or alive",
    "test_d3_10_ours_the_heir_is_one_that_answers",
    harmless="the transfer gives up, and the old leader goes on",
)
def _() -> list[Change]:
    def most_caught_up(s: Server) -> int:
        return max(s.progress, key=lambda other: (s.progress[other].match, other), default=0)

    return [(replication, "most_caught_up", most_caught_up)]


@_rule(
    "raft/replication.py",
    "the heir is asked to stand before it has caught up",
    "test_d3_10_the_heir_catches_up_first",
    harmless="it is not elected, and the transfer gives up",
)
def _() -> list[Change]:
    def at_once(s: Server, target: int) -> None:
        if s.role is Role.LEADER and target in s.progress:
            s.send(target, TimeoutNow(s.view))

    return [after(replication, "transfer", at_once)]


@_rule(
    "raft/replication.py",
    "a leader that hands over takes proposals",
    "test_d3_10_a_leader_that_hands_over_takes_no_proposals",
    harmless="the heir has more to catch up with, and the transfer may give up",
)
def _() -> list[Change]:
    return [(Server, "leads", property(lambda self: self.role is Role.LEADER))]


@_rule(
    "raft/replication.py",
    "a follower that falls behind the log's base is asked to follow what is gone",
    "test_7_a_follower_behind_the_leaders_base_is_offered_its_snapshot",
    needs="a follower that is away while its leader compacts",
)
def _() -> list[Change]:
    original = replication.close_turn

    def close_turn(s: Server) -> None:
        with patch.object(snapshots, "offer", lambda s, other: None):
            original(s)

    return [(replication, "close_turn", close_turn)]


@_rule(
    "raft/snapshots.py",
    "a snapshot whose last entry is in the log takes the place of all",
    "test_7_a_matching_suffix_is_kept_and_nothing_is_fetched",
    needs="an offer of what a follower holds already, and the crash of whoever else holds what follows",
)
def _() -> list[Change]:
    def on_install_snapshot(s: Server, sender: int, message: InstallSnapshot) -> None:
        snapshot = message.snapshot
        if message.term >= s.view and snapshot.op > s.commit and s.follow(message.term, sender):
            s.round_heard = max(s.round_heard, message.round)
            if s.installing is None:
                s.installing = Wanted(sender, snapshot)
            s.send(sender, Installing(s.view, message.round))
        else:
            original(s, sender, message)

    def fetched(s: Server, snapshot: Any) -> None:
        with patch.object(s.log, "holds", lambda viewstamp: False):
            original_fetched(s, snapshot)

    original, original_fetched = snapshots.on_install_snapshot, snapshots.fetched
    return [
        (snapshots, "on_install_snapshot", on_install_snapshot),
        (snapshots, "fetched", fetched),
        (snapshots, "drop_needless", lambda s: None),
    ]


@_rule(
    "raft/snapshots.py",
    "an old offer is fetched and installed",
    "test_7_an_old_snapshot_is_acknowledged_and_takes_nothing_back",
    needs="an INSTALLSNAPSHOT that comes again, late",
)
def _() -> list[Change]:
    def want(s: Server, sender: int, message: InstallSnapshot) -> None:
        if message.term == s.view and s.leader == sender and s.installing is None:
            s.installing = Wanted(sender, message.snapshot)

    return [after(snapshots, "on_install_snapshot", want)]


@_rule(
    "raft/snapshots.py",
    "entries that come do not make a snapshot needless",
    "test_7_ours_entries_that_come_after_all_make_the_snapshot_needless",
    harmless="it is passed over when it is here",
)
def _() -> list[Change]:
    return [(snapshots, "drop_needless", lambda s: None)]


@_rule(
    "raft/snapshots.py",
    "a snapshot counts as acknowledged before its installation is durable",
    "test_7_the_whole_log_is_replaced_in_one_write_and_acknowledged_when_that_is_durable",
)
def _() -> list[Change]:
    return [early(Appended)]


@_rule(
    "raft/snapshots.py",
    "a snapshot that cannot be had is waited for",
    "test_7_ours_after_a_failed_fetch_the_next_offer_is_taken",
    needs="a snapshot that goes, or decays, while it is fetched",
)
def _() -> list[Change]:
    return [(snapshots, "fetch_failed", lambda s, snapshot: None)]
