"""The rules by which VSR here differs from the paper, each put back once: `corrections` says what for."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

from tests.simulation.changes import Change, after, before, early
from tests.simulation.corrections import (
    Catalogue,
    in_two_writes,
    sends,
    unless,
    whatever_waits_is_silence,
    with_message,
)
from viewstamp.protocol import Configuration
from vsr import ViewstampedReplication, normal, state_transfer, view_change
from vsr.messages import (
    Commit,
    DoViewChange,
    DurableState,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    StartView,
    StartViewChange,
)
from vsr.replica import VsrReplica, VsrStatus

VSR = Catalogue("vsr")
_rule, _known = VSR.rule, VSR.known

# 1: nothing is cut before the new log is in hand.

_known(
    "1",
    "the log is cut to the commit-number before the new one is fetched",
    "test_5_2_ours_the_log_is_not_shortened_before_the_new_state_is_in_hand",
    "vsr/state_transfer_keeps_the_log.scenario",
)
_known(
    "1",
    "the view is taken when its log is asked for",
    "test_5_2_ours_view_and_last_normal_view_change_together_with_the_log",
    "vsr/snapshot_and_a_view_that_has_begun.scenario",
)
_known(
    "1",
    "the last normal view is taken before the log of that view is in hand",
    "test_4_2_step_3_among_logs_of_one_view_the_longest_wins",
)


@_rule(
    "1",
    "what the new log replaces is cut off in a write of its own",
    "test_4_2_step_3_ours_log_and_last_normal_view_change_in_one_write",
    "test_5_2_ours_then_everything_changes_in_one_write",
    needs="a crash between the two, at a member whose acknowledged log differs from the new one",
)
def _() -> list[Change]:
    return in_two_writes()


# 2: proposals do not bind.


@_rule(
    "2",
    "a timer enters the next view",
    "test_4_2_step_1_ours_proposing_a_view_leaves_the_present_one_alone",
    "vsr/backup_isolated.scenario",
)
def _() -> list[Change]:
    def enter(r: VsrReplica, view: int, reason: str) -> None:
        if r.view < view:
            view_change.enter(r, view, "mutant")

    return [after(view_change, "propose", enter)]


@_rule(
    "2",
    "the view of any STARTVIEWCHANGE is entered",
    "test_4_2_step_1_ours_one_deaf_backup_does_not_depose_a_backup_that_hears_its_primary",
    "vsr/backup_isolated.scenario",
)
def _() -> list[Change]:
    def enter(r: VsrReplica, sender: int, message: StartViewChange) -> None:
        if r.status is not VsrStatus.RECOVERING and message.view > r.view:
            view_change.enter(r, message.view, "mutant")

    return [after(view_change, "on_start_view_change", enter)]


@_rule(
    "2",
    "a working primary goes along with a proposal",
    "test_4_2_step_1_ours_one_deaf_backup_does_not_depose_a_primary_that_hears_a_majority",
    "vsr/backup_receives_nothing.scenario",
)
def _() -> list[Change]:
    def go_along(r: VsrReplica, sender: int, message: StartViewChange) -> None:
        if r.leads and message.view > max(r.view, r.proposed):
            view_change.propose(r, message.view, "mutant")

    return [after(view_change, "on_start_view_change", go_along)]


@_rule(
    "2",
    "a backup that hears its primary goes along with a proposal",
    "test_4_2_step_1_ours_one_deaf_backup_does_not_depose_a_backup_that_hears_its_primary",
    "vsr/backup_isolated.scenario",
)
def _() -> list[Change]:
    def go_along(r: VsrReplica, sender: int, message: StartViewChange) -> None:
        if r.status is VsrStatus.NORMAL and not r.leads and message.view > max(r.view, r.proposed):
            view_change.propose(r, message.view, "mutant")

    return [after(view_change, "on_start_view_change", go_along)]


def _only_if_primary_asks(r: VsrReplica, view: int, reason: str) -> bool:
    gives_way = r.status is VsrStatus.NORMAL and reason == f"member {r.primary_of(r.view)} proposes it"
    return reason.endswith("proposes it") and not gives_way


def _unless_primary_asks(r: VsrReplica, view: int, reason: str) -> bool:
    return r.status is VsrStatus.NORMAL and not r.proposed and reason == f"member {r.primary_of(r.view)} proposes it"


@_rule(
    "2",
    "whoever has lost patience too waits for its own timer, and counts up by itself",
    "test_4_2_step_1_ours_who_has_lost_patience_too_goes_along_with_the_highest_proposal",
    "vsr/state_transfer_keeps_the_log.scenario",
    harmless="all propose the view after theirs, a little later",
)
def _() -> list[Change]:
    return [
        unless(view_change, "propose", _only_if_primary_asks),
        (view_change, "next_view", lambda r: max(r.view, r.proposed) + 1),
    ]


@_rule(
    "2",
    "backups do not follow a primary that gives way",
    "test_4_2_step_1_ours_backups_follow_a_primary_that_gives_way",
    "vsr/primary_resigns.scenario",
    harmless="they miss it after a time-out",
)
def _() -> list[Change]:
    return [unless(view_change, "propose", _unless_primary_asks)]


@_rule(
    "2",
    "proposals of long ago count",
    "test_4_2_step_2_ours_proposals_of_long_ago_are_not_added_up",
    needs="members that miss their primary once each, long apart, in one view",
)
def _() -> list[Change]:
    def enter_if_quorum(r: VsrReplica, view: int) -> None:
        wanting = [member for member, p in r.proposals.items() if p.view == view]
        if view > r.view and len(wanting) >= r.quorum:
            view_change.enter(r, view, "mutant")

    return [(view_change, "_enter_if_quorum", enter_if_quorum)]


@_rule(
    "2",
    "a proposal is not withdrawn when the primary is heard again",
    "test_4_2_step_1_ours_a_proposal_is_withdrawn_when_the_primary_is_heard_again",
)
def _() -> list[Change]:
    original = VsrReplica.restart_suspicion

    def restart_suspicion(self: VsrReplica) -> None:
        proposed, mine = self.proposed, self.proposals.get(self.me)
        resend_at = self.resend_at
        original(self)
        if proposed > self.view and mine is not None:
            self.proposed, self.proposals[self.me], self.resend_at = proposed, mine, resend_at

    return [(VsrReplica, "restart_suspicion", restart_suspicion)]


# 3: STARTVIEWCHANGE tells which view its sender has entered.


@_rule(
    "3",
    "nobody joins a view that the sender of STARTVIEWCHANGE has entered",
    "test_4_2_step_2_ours_joins_a_view_that_the_proposer_has_entered",
    needs="four members or more; one hears a quorum of proposals, and all others hear their primary again",
)
def _() -> list[Change]:
    return [with_message(view_change, "on_start_view_change", lambda r, sender, message: replace(message, entered=0))]


@_rule(
    "3",
    "STARTVIEWCHANGE tells of a view that its sender has not durably entered",
    "test_4_2_step_2_ours_startviewchange_tells_only_of_a_view_that_is_durable",
    harmless="a quorum has proposed that view in any case",
)
def _() -> list[Change]:
    return sends(VsrReplica, StartViewChange, lambda r, message: replace(message, entered=r.view))


# 4: logs are fetched in pages, from a log that is frozen.

_on_get_state = state_transfer.on_get_state


@_rule(
    "4",
    "the log travels in one message",
    "test_5_2_newstate_is_sent_in_pages",
    harmless="memory, and what a datagram's fragments cost",
)
def _() -> list[Change]:
    def on_get_state(r: VsrReplica, sender: int, message: GetState) -> None:
        limits = replace(r.configuration.limits, page_entries=1 << 40, page_bytes=1 << 40)
        with patch.object(r, "configuration", replace(r.configuration, limits=limits)):
            _on_get_state(r, sender, message)

    return [(state_transfer, "on_get_state", on_get_state)]


@_rule(
    "4",
    "GETSTATE is answered in whatever view one is",
    "test_5_2_a_question_about_another_view_is_not_answered",
    "vsr/question_about_an_earlier_view.scenario",
    needs="seven members; a view that begins with older entries alone, and from there a member joins the one before",
)
def _() -> list[Change]:
    def on_get_state(r: VsrReplica, sender: int, message: GetState) -> None:
        if message.view != r.view and r.log.base <= message.after <= r.log.op:
            entries = r.log.page(message.after, r.configuration.limits)
            r.send(sender, NewState(message.view, message.nonce, message.after, entries, r.log.op, r.commit))
        else:
            _on_get_state(r, sender, message)

    return [(state_transfer, "on_get_state", on_get_state)]


@_rule(
    "4",
    "a log that is frozen for a view change goes to anyone",
    "test_5_2_ours_a_log_frozen_for_a_view_change_goes_to_that_views_primary_only",
    harmless="it is a prefix of what its view's primary had",
)
def _() -> list[Change]:
    def on_get_state(r: VsrReplica, sender: int, message: GetState) -> None:
        waits = r.status is VsrStatus.VIEW_CHANGE and sender != r.primary_of(r.view)
        with patch.object(r, "primary_of", (lambda view: sender) if waits else r.primary_of):
            _on_get_state(r, sender, message)

    return [(state_transfer, "on_get_state", on_get_state)]


@_rule(
    "4",
    "the best log is waited for, although whoever has it does not answer and the others are a quorum",
    "test_a_best_log_that_does_not_come_is_not_waited_for_where_the_others_are_a_quorum",
    needs="three members; a link that is cut one way for good, and another the other way; the third needs a snapshot",
)
def _() -> list[Change]:
    return [(view_change, "_pass_over_if_silent", lambda r: None)]


# 5: promises wait for the disk.

_known(
    "5",
    "promises leave before their write is durable",
    "test_4_3_step_2_ours_the_new_incarnation_is_durable_before_the_answer",
    "vsr/whole_cluster_restarts.scenario",
    "raft/answers_wait_for_the_disk.scenario",
)
_known(
    "5",
    "a view is entered without being saved",
    "test_4_2_step_2_ours_doviewchange_waits_until_the_view_is_durable",
    "vsr/restart_in_the_middle_of_a_view_change.scenario",
)


@_rule(
    "5",
    "PREPAREOK leaves before the log is durable",
    "test_4_1_step_4_ours_prepareok_waits_for_the_backups_disk",
    "vsr/whole_cluster_restarts.scenario",
)
def _() -> list[Change]:
    return [early(PrepareOk)]


@_rule(
    "5",
    "DOVIEWCHANGE leaves before the view is durable",
    "test_4_2_step_2_ours_doviewchange_waits_until_the_view_is_durable",
)
def _() -> list[Change]:
    return [early(DoViewChange)]


@_rule(
    "5",
    "the primary counts itself as soon as it has ordered",
    "test_4_1_step_5_ours_the_primary_counts_itself_only_when_its_own_write_is_durable",
)
def _() -> list[Change]:
    def count_commit(r: VsrReplica) -> None:
        if r.status is VsrStatus.NORMAL and r.is_primary:
            held = sorted([backup.op for backup in r.acknowledged.values()] + [r.log.op], reverse=True)
            r.advance_commit(held[r.quorum - 1])

    return [(normal, "count_commit", count_commit)]


# 6: who restarts in the middle of something does not resume it.

_known(
    "6",
    "a primary resumes its view after a restart",
    "test_restart_ours_a_primary_never_resumes_its_view",
    "vsr/primary_restarts_with_a_shorter_log.scenario",
)
_known(
    "6",
    "DOVIEWCHANGE begins a view again that was led before a restart",
    "test_restart_ours_late_doviewchange_do_not_start_a_view_a_second_time",
    "vsr/duplicate_doviewchange_after_a_restart.scenario",
    needs="the DOVIEWCHANGE that began a view, once more, after its primary was started again",
)


@_rule(
    "6",
    "who restarts in the middle of a view change goes back to its last normal view",
    "test_restart_ours_a_replica_in_a_view_change_proposes_the_next_view_and_says_again_what_it_promised",
    "vsr/restart_in_the_middle_of_a_view_change.scenario",
)
def _() -> list[Change]:
    original = ViewstampedReplication._restart

    def restart(self: ViewstampedReplication, state: DurableState) -> None:
        original(self, replace(state, view=state.last_normal_view))

    return [(ViewstampedReplication, "_restart", restart)]


@_rule(
    "6",
    "who restarts in the middle of a view change is normal in that view",
    "test_restart_ours_a_replica_in_a_view_change_proposes_the_next_view_and_says_again_what_it_promised",
    "vsr/restart_in_the_middle_of_a_view_change.scenario",
)
def _() -> list[Change]:
    original = ViewstampedReplication._restart

    def restart(self: ViewstampedReplication, state: DurableState) -> None:
        r = self._r
        if r.primary_of(state.view) != r.me:
            state = replace(state, last_normal_view=state.view)
        original(self, state)

    return [(ViewstampedReplication, "_restart", restart)]


@_rule(
    "6",
    "a restarted primary waits until it is missed",
    "test_restart_ours_a_primary_never_resumes_its_view",
    harmless="the others miss it after a time-out",
)
def _() -> list[Change]:
    return [unless(view_change, "propose", lambda r, view, reason: reason == "restarted")]


# 7: a view begins when its log and last normal view are durable.

_known(
    "7",
    "a new primary begins before its log is durable",
    "test_4_2_step_3_ours_startview_waits_until_log_and_last_normal_view_are_durable",
)
_known(
    "7",
    "the first primary orders before its founding is durable",
    "test_the_first_primary_orders_nothing_before_its_founding_is_durable",
)


@_rule(
    "7",
    "STARTVIEW leaves before log and last normal view are durable",
    "test_4_2_step_3_ours_startview_waits_until_log_and_last_normal_view_are_durable",
)
def _() -> list[Change]:
    def begin_at_once(r: VsrReplica) -> None:
        if r.view:
            normal.begin_as_primary(r, "mutant")
            for other in r.others:
                r.promise(other, StartView(r.view, r.log.op, r.commit))

    return [early(StartView), after(view_change, "begin_when_durable", begin_at_once)]


@_rule(
    "7",
    "an earlier write that ends counts for the one that begins the view",
    "test_4_2_step_3_ours_startview_does_not_take_an_earlier_write_for_its_own",
    needs="a new primary that crashes between two writes, the second of which begins its view",
)
def _() -> list[Change]:
    def written(r: VsrReplica) -> None:
        if r.status is VsrStatus.VIEW_CHANGE and r.start_write:
            r.start_write = min(r.start_write, r.write_done)

    return [before(view_change, "written", written)]


# 9: quorums.

_known(
    "9",
    "half of an even number of members is a quorum",
    "test_4_1_step_5_ours_the_quorum_is_a_majority_for_even_sizes_too",
    "test_any_two_quorums_share_a_member",
    "raft/even_sizes.scenario",
)


@_rule(
    "9",
    "a recovering member counts itself among those who answer",
    "test_4_3_step_3_ours_as_many_answers_as_meet_every_quorum_it_was_part_of",
    "vsr/recovery_straddles_a_view_change.scenario",
    needs="a member without its disk alone with a primary that does not know yet that it is deposed",
)
def _() -> list[Change]:
    return [(Configuration, "recovery_quorum", property(lambda self: len(self.members) - self.quorum))]


# 10: reads.

_known("10", "a read is served without asking a majority", "test_one_answer_is_no_majority_of_five")
_known(
    "10",
    "a read is served before what the view began with is committed",
    "test_a_new_primary_serves_no_read_before_all_it_inherited_is_committed",
    "vsr/read_before_inherited_log_is_committed.scenario",
)
_known(
    "10",
    "a round that began before the read confirms it",
    "test_a_read_at_the_primary_waits_for_a_majority_that_answers_after_it_arrived",
)
_known(
    "10",
    "a read takes the commit-number of whoever is asked",
    "test_a_backup_asks_its_primary_for_the_commit_number",
    "vsr/old_commitpoint_after_a_restart.scenario",
)

# 11: a primary doubts itself.

_doubt = normal._doubt


@_rule(
    "11",
    "a primary that nobody answers goes on",
    "test_4_1_ours_a_primary_that_hears_no_majority_stops_acting_and_gives_way",
    "vsr/primary_receives_nothing.scenario",
)
def _() -> list[Change]:
    def doubt(r: VsrReplica, now: int) -> str:
        reason = _doubt(r, now)
        return "" if reason == "no majority answers" else reason

    return [(normal, "_doubt", doubt)]


@_rule(
    "11",
    "a primary whose disk hangs goes on",
    "test_4_1_ours_a_primary_whose_disk_hangs_gives_way",
    "vsr/disk_of_primary_hangs.scenario",
    harmless="the disks of the others are enough, while no more than a minority fails",
)
def _() -> list[Change]:
    def doubt(r: VsrReplica, now: int) -> str:
        reason = _doubt(r, now)
        return "" if reason == "its disk has not finished a write" else reason

    return [(normal, "_doubt", doubt)]


@_rule(
    "11",
    "a write that waits for others is taken for a disk that hangs",
    "test_4_1_ours_a_primary_whose_disk_is_slow_and_goes_on_stays",
    "test_members_on_slow_disks_keep_their_primary",
    harmless="the next primary serves as well, until it gives way",
)
def _() -> list[Change]:
    return whatever_waits_is_silence()


@_rule(
    "11",
    "a primary that gives way goes on with its heartbeats",
    "test_4_1_ours_a_primary_that_hears_no_majority_stops_acting_and_gives_way",
    "vsr/even_size.scenario",
)
def _() -> list[Change]:
    def go_on(r: VsrReplica) -> None:
        if r.quiet and r.quiet != "stopping":
            r.quiet = ""
            r.heartbeat_at = r.now.monotonic

    return [after(normal, "tick", go_on)]


# 12: what a PREPARE and a COMMIT carry, and that each is answered.


@_rule(
    "12",
    "PREPARE carries one request",
    "test_6_2_requests_of_one_turn_share_one_prepare_and_one_write",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    def one_by_one(r: VsrReplica) -> None:
        while r.leads and r.sent_op < r.log.op:
            entries = r.log.page(r.sent_op, r.configuration.limits, r.sent_op + 1)
            r.broadcast(Prepare(r.view, entries, r.commit, r.round + r.round_due))
            r.sent_op = entries[-1].op

    return [before(normal, "close_turn", one_by_one)]


@_rule(
    "12",
    "COMMIT is not answered by who has committed everything",
    "test_4_1_ours_a_backup_that_has_committed_n_still_answers_prepareok_n",
    "vsr/backup_isolated.scenario",
)
def _() -> list[Change]:
    original = normal.on_commit

    def on_commit(r: VsrReplica, sender: int, message: Commit) -> None:
        due, everything = r.acknowledge_due, r.commit == message.commit == message.op == r.log.op
        original(r, sender, message)
        if everything and r.status is VsrStatus.NORMAL:
            r.acknowledge_due = due

    return [(normal, "on_commit", on_commit)]


@_rule(
    "12",
    "COMMIT carries no round",
    "test_a_read_sees_what_was_committed_when_it_arrived",
    "vsr/new_primary_too_far_behind.scenario",
)
def _() -> list[Change]:
    return sends(VsrReplica, Commit, lambda r, message: replace(message, round=0))


@_rule(
    "12",
    "PREPARE carries no round",
    "test_a_round_rides_on_prepare_too",
    needs="load that never pauses for as long as a heartbeat, and a read",
)
def _() -> list[Change]:
    return sends(VsrReplica, Prepare, lambda r, message: replace(message, round=0))
