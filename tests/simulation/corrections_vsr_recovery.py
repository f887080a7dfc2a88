"""What VSR here does about lost disks, beyond the paper, each put back once: `corrections` says what for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.changes import Change
from tests.simulation.corrections import Catalogue, unless, with_message
from vsr import ViewstampedReplication, recovery
from vsr.messages import RecoveryResponse, VsrMessage
from vsr.replica import VsrReplica

RECOVERY = Catalogue("vsr")
_rule, _known = RECOVERY.rule, RECOVERY.known

# 8: incarnations.

_known(
    "8",
    "messages of a superseded incarnation count",
    "test_4_1_step_5_ours_prepareok_from_before_a_lost_disk_is_not_counted",
    "vsr/old_prepareok_after_a_lost_disk.scenario",
    needs="a promise from before a lost disk that is still on its way",
)
_known(
    "8",
    "RECOVERY is answered before the new incarnation is durable",
    "test_4_3_step_2_ours_the_new_incarnation_is_durable_before_the_answer",
)


@_rule(
    "8",
    "what a superseded incarnation sent is counted",
    "test_4_1_step_5_ours_prepareok_from_before_a_lost_disk_is_not_counted",
    "vsr/old_doviewchange_after_a_lost_disk.scenario",
    needs="a promise from before a lost disk that is still on its way",
)
def _() -> list[Change]:
    original = ViewstampedReplication.receive

    def receive(self: Any, sender: int, incarnation: int, message: Any, now: Any) -> None:
        original(self, sender, max(incarnation, self._r.incarnations.get(sender, 0)), message, now)

    return [(ViewstampedReplication, "receive", receive)]


@_rule(
    "8",
    "nobody learns of incarnations from others",
    "test_4_1_step_5_ours_a_prepareok_already_counted_falls_with_its_incarnation",
)
def _() -> list[Change]:
    return [(VsrReplica, "learn", lambda self, vector: None)]


@_rule(
    "8",
    "what was counted already stays when its sender has lost its disk",
    "test_4_2_step_3_ours_a_doviewchange_already_counted_falls_with_its_incarnation",
    "test_4_1_step_5_ours_a_prepareok_already_counted_falls_with_its_incarnation",
    needs="five members; a DOVIEWCHANGE is counted, then its disk lost, and more committed in the view before",
)
def _() -> list[Change]:
    original = VsrReplica.learn_incarnation

    def learn_incarnation(self: VsrReplica, member: int, incarnation: int) -> None:
        if member == self.me:
            original(self, member, incarnation)
        else:
            self.incarnations[member] = incarnation

    return [(VsrReplica, "learn_incarnation", learn_incarnation)]


@_rule(
    "8",
    "who recovers does not learn which others have lost their disks",
    "test_4_3_ours_a_recovered_member_knows_who_else_has_lost_a_disk",
    needs="two disks lost one after the other, and a promise from before the first that is still on its way",
)
def _() -> list[Change]:
    def changed(core: Any, sender: int, message: VsrMessage) -> VsrMessage:
        if not isinstance(message, RecoveryResponse):
            return message
        vector, place = core._r.vector, core._r.position(core._r.me)
        return replace(message, vector=(*vector[:place], message.vector[place], *vector[place + 1 :]))

    return [with_message(ViewstampedReplication, "_dispatch", changed)]


@_rule("8", "a superseded incarnation comes back", "test_a_superseded_incarnation_does_not_come_back")
def _() -> list[Change]:
    return [unless(VsrReplica, "learn_incarnation", lambda r, member, incarnation: member == r.me)]


@_rule(
    "8",
    "RECOVERY of an incarnation that is older than a known one is not answered",
    "test_4_3_ours_an_older_incarnation_is_told_so",
)
def _() -> list[Change]:
    return [
        unless(
            recovery,
            "on_recovery",
            lambda r, sender, incarnation, message: incarnation < r.incarnations[sender],
        )
    ]


@_rule(
    "8",
    "each RECOVERY asks anew, and what was answered before is forgotten",
    "test_4_3_ours_it_asks_again_until_it_has_recovered_and_answers_to_each_time_count_together",
    "vsr/recovery_beside_a_slow_disk.scenario",
    needs="a disk that takes longer than four retries, at one of those that must answer",
)
def _() -> list[Change]:
    original = recovery.tick

    def tick(r: VsrReplica) -> None:
        if r.now.monotonic >= r.recovery_at:
            r.recovery_nonce = 0
        original(r)

    return [(recovery, "tick", tick)]


@_rule(
    "8",
    "the first answer of a member to a RECOVERY stays",
    "test_4_3_ours_of_two_answers_of_a_member_the_newer_counts",
    needs="answers that straddle a view change, of members that all live on",
)
def _() -> list[Change]:
    return [unless(recovery, "on_recovery_response", lambda r, sender, message: sender in r.responses)]


@_rule(
    "8",
    "the last answer of a member to a RECOVERY stays, an older one that was delayed too",
    "test_4_3_ours_an_older_answer_that_comes_late_takes_the_place_of_none",
    harmless="what was committed before it was sent is in the log of the primary that answers, whenever that was",
)
def _() -> list[Change]:
    original = recovery.on_recovery_response

    def on_recovery_response(r: VsrReplica, sender: int, message: RecoveryResponse) -> None:
        if message.nonce == r.recovery_nonce and r.fetch is None:
            r.responses.pop(sender, None)
        original(r, sender, message)

    return [(recovery, "on_recovery_response", on_recovery_response)]
