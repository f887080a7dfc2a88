"""The rules of VSR's state transfer, and of comments in its code, each put back once: `corrections` says what for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.simulation.changes import Change, after, before
from tests.simulation.corrections import (
    Catalogue,
    sends,
    unless,
    with_message,
)
from viewstamp.protocol import NEVER
from vsr import ViewstampedReplication, normal, state_transfer, view_change
from vsr.messages import (
    GetState,
    NewState,
    StartViewChange,
)
from vsr.replica import Acknowledged, Purpose, ViewProposal, VsrReplica, VsrStatus

TRANSFER = Catalogue("vsr")
_rule, _known = TRANSFER.rule, TRANSFER.known

# 17: GETSTATE tells what its sender has.


@_rule(
    "17",
    "GETSTATE asks from the commit-number alone",
    "test_5_2_ours_a_restarted_replica_joins_from_its_snapshot_on",
    harmless="the same is fetched again; nothing is wrong for it",
)
def _() -> list[Change]:
    return sends(VsrReplica, GetState, lambda r, message: replace(message, last_view=0, last_op=0))


@_rule(
    "17",
    "the last op-number of GETSTATE counts without its view",
    "vsr/uncommitted_requests_are_replaced.scenario",
    "vsr/primary_isolated.scenario",
)
def _() -> list[Change]:
    def changed(r: VsrReplica, sender: int, message: GetState) -> GetState:
        if message.last_op and r.log.base < message.last_op <= r.log.op:
            return replace(message, last_view=r.log.viewstamp(message.last_op).view)
        return message

    return [with_message(state_transfer, "on_get_state", changed)]


# 18: views that do not begin are waited for longer.


@_rule(
    "18",
    "each view is waited for as long as the first",
    "test_views_that_do_not_begin_are_waited_for_longer_and_longer",
    needs="disks that take longer for two writes than the suspect time-out, for long",
)
def _() -> list[Change]:
    def forget(r: VsrReplica) -> None:
        r.stalled = 0

    return [before(VsrReplica, "restart_suspicion", forget)]


@_rule(
    "18",
    "whoever is to lead asks for more time although its disk hangs",
    "test_whoever_is_to_lead_and_has_a_disk_that_hangs_lets_others_pass_it_over",
    harmless="each of them is passed over after 8 suspect time-outs",
)
def _() -> list[Change]:
    def resend(r: VsrReplica) -> None:
        original(r)
        if r.status is VsrStatus.VIEW_CHANGE and r.is_primary and not r.proposed and r.disk_trouble:
            r.broadcast(StartViewChange(r.view, r.durable_view, r.vector))

    original = view_change._resend
    return [(view_change, "_resend", resend)]


# 20: a snapshot is staged with what follows it.


@_rule(
    "20",
    "who joins a view installs its snapshot when it comes, and then asks for the log",
    "test_5_2_ours_nothing_changes_until_snapshot_and_pages_are_in_hand",
    "test_4_3_ours_recovery_takes_snapshot_and_pages_at_once",
    needs="a crash after that, with more acknowledged before than the snapshot holds, and a view change",
)
def _() -> list[Change]:
    def snapshot_in_hand(r: VsrReplica, snapshot: Any) -> None:
        fetch = r.fetch
        wanted = fetch is not None and fetch.snapshot == snapshot and not fetch.in_hand
        if fetch is not None and wanted and fetch.purpose is not Purpose.LAG and snapshot.op > r.commit:
            r.fetch_progressed()
            r.install(snapshot)
            fetch.snapshot = None
            fetch.after = snapshot.op
            fetch.target = max(fetch.target, snapshot.op)
            state_transfer._ask(r, fetch)
            state_transfer.finish_if_complete(r)
        else:
            original(r, snapshot)

    original = state_transfer.snapshot_in_hand
    return [(state_transfer, "snapshot_in_hand", snapshot_in_hand)]


# 21: who would need a snapshot does not lead.


@_rule(
    "21",
    "a new primary fetches the snapshot that it needs",
    "test_4_2_ours_a_new_primary_that_is_too_far_behind_gives_way",
    needs="a state so large that its transfer takes longer than clients wait",
)
def _() -> list[Change]:
    return [
        (view_change, "on_new_snapshot", state_transfer.on_new_snapshot),
        after(state_transfer, "snapshot_in_hand", lambda r, snapshot: view_change.start_if_complete(r)),
    ]


# 22: entries that come while a snapshot does.


@_rule(
    "22",
    "a snapshot is installed though the log has come to reach beyond it",
    "test_5_2_ours_what_was_acknowledged_while_a_snapshot_came_is_not_dropped_for_it",
    needs="PREPAREs that come while a snapshot does, are counted, and then their primary is gone",
)
def _() -> list[Change]:
    def in_hand(r: VsrReplica, snapshot: Any) -> None:
        fetch = r.fetch
        lags = fetch is not None and fetch.purpose is Purpose.LAG and fetch.snapshot == snapshot
        if lags and snapshot.op > r.commit and r.log.holds(snapshot.viewstamp):
            with patch.object(r.log, "holds", lambda viewstamp: False):
                original(r, snapshot)
        else:
            original(r, snapshot)

    original = state_transfer.snapshot_in_hand
    return [(state_transfer, "_appended", lambda r: None), (state_transfer, "snapshot_in_hand", in_hand)]


# 23: who joins by a snapshot shows that it is there.


@_rule(
    "23",
    "who joins by a snapshot asks nothing while that comes",
    "test_5_2_ours_who_joins_by_a_snapshot_goes_on_asking_to_show_that_it_is_there",
    "vsr/snapshot_and_a_higher_view.scenario",
    needs="one of three down, and a snapshot that takes longer than the suspect time-out",
)
def _() -> list[Change]:
    def wait(r: VsrReplica, sender: int, message: Any) -> None:
        if r.fetch is not None and r.fetch.snapshot is not None and not r.fetch.in_hand:
            r.fetch.retry_at = NEVER

    return [after(state_transfer, "on_new_snapshot", wait)]


@_rule(
    "23",
    "a primary does not take GETSTATE for an answer",
    "test_5_2_ours_a_primary_that_is_asked_for_its_log_is_heard",
    "vsr/snapshot_and_a_higher_view.scenario",
    needs="one of three down, and a snapshot that takes longer than the suspect time-out",
)
def _() -> list[Change]:
    return [(state_transfer, "_count_as_answer", lambda r, sender, number: None)]


@_rule(
    "23",
    "the first question of a member that joins is no sign of life, for STARTVIEW tells of no round",
    "test_5_2_ours_the_first_question_in_a_view_shows_that_its_start_was_heard",
    "test_members_far_apart_on_slow_disks_get_over_the_loss_of_their_primary",
    needs="four links and a disk that take longer than the suspect time-out, and one of three down",
)
def _() -> list[Change]:
    def begin(r: VsrReplica, reason: str) -> None:
        for backup in r.acknowledged.values():
            backup.asked_round = 0

    return [after(normal, "begin_as_primary", begin)]


@_rule(
    "23",
    "a primary takes any GETSTATE for an answer",
    "test_5_2_ours_a_member_that_asks_and_does_not_hear_the_primary_is_no_answer",
    needs="a primary that hears only members that fetch and do not hear it",
)
def _() -> list[Change]:
    def count(r: VsrReplica, sender: int, number: int) -> None:
        backup = r.acknowledged.setdefault(sender, Acknowledged()) if r.leads else None
        if backup is not None:
            backup.heard = r.now.monotonic

    return [(state_transfer, "_count_as_answer", count)]


# What comments tell beside.

_known(
    "vsr/normal.py",
    "the next op of a later view is appended to the log of an earlier one",
    "test_4_1_step_4_ours_a_prepare_of_a_later_view_is_never_appended",
    "vsr/state_transfer_keeps_the_log.scenario",
    needs="a backup that misses a view change, with a log as long as what the new view begins with",
)
_known(
    "vsr/view_change.py",
    "the best log is the longest",
    "test_4_2_step_3_the_log_of_the_latest_normal_view_wins_over_a_longer_one",
)
_known(
    "vsr/view_change.py",
    "a duplicated STARTVIEW is applied again",
    "test_4_2_step_5_a_delayed_duplicate_startview_changes_nothing",
    "vsr/delayed_duplicate_startview.scenario",
)
_known(
    "vsr/state_transfer.py",
    "a page is taken without its nonce",
    "test_5_2_ours_newstate_with_another_nonce_is_ignored",
    needs="two fetches from one source, and the page of the first comes to the second",
)
_known(
    "viewstamp/protocol/log.py",
    "a write in flight counts for the entries that replaced those it holds",
    "test_a_write_of_entries_since_replaced_proves_nothing_about_the_new_ones",
    "test_a_truncation_takes_back_what_was_durable",
)
_known(
    "viewstamp/protocol/member.py",
    "a commit-number beyond the log is taken",
    "test_4_1_step_7_a_commit_that_overtakes_its_prepare_commits_nothing_missing",
    "vsr/commit_overtakes_its_prepare.scenario",
)


@_rule(
    "vsr/view_change.py",
    "the best log is fetched from one's own end on, whichever view that is of",
    "test_4_2_step_3_the_log_of_the_latest_normal_view_wins_over_a_longer_one",
)
def _() -> list[Change]:
    original = state_transfer.begin

    def begin(r: VsrReplica, purpose: Purpose, view: int, source: int, target: int, after: int) -> None:
        original(r, purpose, view, source, target, r.log.op if purpose is Purpose.BEST_LOG else after)

    return [(state_transfer, "begin", begin)]


@_rule(
    "vsr/view_change.py",
    "STARTVIEW is said once",
    "test_4_2_ours_a_lost_startview_is_made_good_when_doviewchange_is_sent_again",
    harmless="a heartbeat brings in whoever has missed it",
)
def _() -> list[Change]:
    return [
        unless(
            view_change,
            "on_do_view_change",
            lambda r, sender, message: message.view == r.view and r.status is VsrStatus.NORMAL,
        )
    ]


@_rule(
    "vsr/view_change.py",
    "DOVIEWCHANGE is said once",
    "test_4_2_ours_doviewchange_is_sent_again_while_the_view_does_not_start",
    harmless="the next view is proposed after a time-out",
)
def _() -> list[Change]:
    def resend(r: VsrReplica) -> None:
        r.resend_at = r.now.monotonic + r.timeouts.retry
        if r.proposed:
            r.proposals[r.me] = ViewProposal(r.proposed, r.now.monotonic)
            view_change._send_proposal(r)

    return [(view_change, "_resend", resend)]


@_rule(
    "vsr/view_change.py",
    "who joins a view that has begun enters its view change instead",
    "test_4_2_step_2_ours_a_view_that_has_begun_is_joined_and_not_entered_anew",
    harmless="a heartbeat brings it in again",
)
def _() -> list[Change]:
    return [(view_change, "_awaits", lambda r, view: False)]


@_rule(
    "vsr/view_change.py",
    "a view that is known to have begun is proposed again",
    "test_4_2_step_1_ours_a_view_that_has_begun_is_not_proposed_again",
    harmless="others propose the next one, and it goes along",
)
def _() -> list[Change]:
    return [(view_change, "next_view", lambda r: r.view + 1)]


@_rule(
    "vsr/view_change.py",
    "DOVIEWCHANGE that are gone with their incarnations are missed",
    "test_restart_ours_a_page_that_comes_when_no_doviewchange_counts_any_more_is_taken",
    harmless="more disks would have to be lost at once than can be",
)
def _() -> list[Change]:
    def start_if_complete(r: VsrReplica) -> None:
        fetch = r.fetch
        if fetch is not None and fetch.purpose is Purpose.BEST_LOG and state_transfer.is_complete(fetch):
            max(message.commit for message in r.do_view_changes.values())
        original(r)

    original = view_change.start_if_complete
    return [(view_change, "start_if_complete", start_if_complete)]


@_rule(
    "vsr/normal.py",
    "a heartbeat does not show what was missed",
    "test_4_1_ours_an_idle_heartbeat_shows_a_backup_what_it_missed",
    "vsr/backup_isolated.scenario",
)
def _() -> list[Change]:
    return [(state_transfer, "catch_up", lambda r, target: None)]


@_rule(
    "vsr/replica.py",
    "a backup acknowledges nothing until the next request",
    "test_4_2_step_5_ours_a_backup_acknowledges_what_startview_brought",
    "vsr/committed_backup_still_answers.scenario",
    harmless="a heartbeat makes it acknowledge",
)
def _() -> list[Change]:
    def wait(r: VsrReplica, reason: str) -> None:
        r.acknowledge_due = False

    return [after(VsrReplica, "become_backup", wait)]


@_rule(
    "vsr/replica.py",
    "pages that come are no sign of life",
    "test_5_2_ours_pieces_of_a_snapshot_show_that_its_source_is_alive",
    "test_4_3_ours_recovery_is_patient_while_a_snapshot_comes",
    needs="a log or snapshot that takes longer to come than 20 retries",
)
def _() -> list[Change]:
    return [(VsrReplica, "fetch_progressed", lambda self: None)]


@_rule(
    "vsr/core.py",
    "a primary that stops waits until it is missed",
    "test_4_1_ours_resigning_hands_the_view_on_at_once",
    "vsr/primary_resigns.scenario",
    harmless="the others miss it after a time-out",
)
def _() -> list[Change]:
    return [(ViewstampedReplication, "resign", lambda self, now: None)]


@_rule(
    "vsr/state_transfer.py",
    "a gap is asked about at once",
    "test_4_1_step_4_ours_nothing_is_fetched_before_a_gap_has_stayed",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    def at_once(r: VsrReplica, target: int) -> None:
        if r.fetch is not None and r.fetch.purpose is Purpose.LAG and r.fetch.snapshot is None:
            r.fetch.retry_at = r.now.monotonic

    return [after(state_transfer, "expect_gap", at_once)]


@_rule(
    "vsr/state_transfer.py",
    "a question for what is already the end is not answered",
    "test_5_2_ours_a_question_for_what_is_already_the_end_is_answered",
    harmless="nobody asks for what it has, but in duplicates",
)
def _() -> list[Change]:
    return [unless(state_transfer, "on_get_state", lambda r, sender, message: message.after == r.log.op)]


@_rule(
    "vsr/state_transfer.py",
    "a page that was asked for before its snapshot completes the log",
    "vsr/snapshot_and_a_page_from_before_it.scenario",
    needs="a page that its source's compaction overtakes, as the last one that is wanted",
)
def _() -> list[Change]:
    original = state_transfer.on_new_state

    def on_new_state(r: VsrReplica, sender: int, message: NewState) -> None:
        fetch = r.fetch
        if fetch is not None and fetch.snapshot is not None and not fetch.in_hand:
            fetch.in_hand = True
            original(r, sender, message)
            fetch.in_hand = False
        else:
            original(r, sender, message)

    return [(state_transfer, "on_new_state", on_new_state)]


def _offered(r: VsrReplica, message: Any) -> bool:
    fetch = r.fetch
    return fetch is not None and message.nonce == fetch.nonce and fetch.purpose is not Purpose.LAG


@_rule(
    "vsr/state_transfer.py",
    "a snapshot is passed over once pages are staged",
    "test_a_log_that_is_compacted_in_the_middle_of_a_transfer_is_fetched_by_its_snapshot",
    needs="a log of several pages that its source compacts while they are fetched to join a view",
)
def _() -> list[Change]:
    return [
        unless(
            state_transfer,
            "on_new_snapshot",
            lambda r, sender, message: _offered(r, message) and bool(r.fetch and r.fetch.staged),
        )
    ]


@_rule(
    "vsr/state_transfer.py",
    "a snapshot that was in hand and is given up for a newer one leaves its place",
    "test_a_snapshot_in_hand_that_is_given_up_for_a_newer_one_leaves_no_gap",
    needs="a source that compacts twice while one joins, and whose second snapshot is not to be had",
)
def _() -> list[Change]:
    def on_new_snapshot(r: VsrReplica, sender: int, message: Any) -> None:
        before = r.fetch.after if r.fetch is not None else 0
        original(r, sender, message)
        if r.fetch is not None and r.fetch.snapshot is not None and not r.fetch.in_hand:
            r.fetch.after = max(before, r.fetch.after)

    original = state_transfer.on_new_snapshot
    return [(state_transfer, "on_new_snapshot", on_new_snapshot)]


@_rule(
    "vsr/state_transfer.py",
    "a page that comes twice is asked for again",
    "test_a_page_that_comes_twice_is_answered_with_one_question",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    def ask_again(r: VsrReplica, fetch: Any, message: NewState) -> None:
        under_way = r.fetch is fetch and r.status is VsrStatus.NORMAL and message.view == r.view
        if under_way and r.fetch is not None:
            state_transfer._ask(r, r.fetch)

    return [after(state_transfer, "_extend", ask_again)]


@_rule(
    "vsr/state_transfer.py",
    "entries that are the same are written again",
    "test_5_2_ours_view_and_last_normal_view_change_together_with_the_log",
    harmless="more is written, and nothing else",
)
def _() -> list[Change]:
    original = state_transfer.install

    def install(r: VsrReplica, fetch: Any) -> None:
        if fetch.snapshot is None:
            r.truncate(max(fetch.after, r.commit))
        original(r, fetch)

    return [(state_transfer, "install", install)]


@_rule(
    "vsr/state_transfer.py",
    "a source whose snapshot is gone is not asked for another",
    "test_5_2_ours_a_fetch_that_failed_is_asked_for_again",
    needs="a snapshot that goes, or decays, while a member of the same view fetches it",
)
def _() -> list[Change]:
    return [(state_transfer, "snapshot_failed", lambda r, snapshot: None)]


@_rule(
    "vsr/state_transfer.py",
    "PREPAREs that came early are forgotten when a snapshot is installed",
    "test_5_2_ours_prepares_that_came_early_are_taken_behind_the_snapshot",
    harmless="fetched",
)
def _() -> list[Change]:
    return [after(VsrReplica, "install", lambda r, snapshot: r.early.clear())]


@_rule(
    "vsr/state_transfer.py",
    "a snapshot is fetched though its last operation is in the log",
    "test_5_2_ours_a_snapshot_whose_last_operation_is_in_the_log_is_not_fetched",
    harmless="more is fetched, and nothing else",
)
def _() -> list[Change]:
    def on_new_snapshot(r: VsrReplica, sender: int, message: Any) -> None:
        with patch.object(r.log, "holds", lambda viewstamp: False):
            original(r, sender, message)

    original = state_transfer.on_new_snapshot
    return [(state_transfer, "on_new_snapshot", on_new_snapshot)]
