"""What both protocols share, and clients: promises, sessions, the first start, agreed time, reads; each put back once.

`corrections` says what for. The fuzzers play these with VSR unless `protocol` says otherwise.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import raft.messages
import vsr.messages
from statemachine.outcome import BEYOND_WINDOW_REPLY, STALE_REPLY
from statemachine.sessions import Sessions
from tests.simulation.changes import Change, after, before
from tests.simulation.corrections import Catalogue
from viewstamp.client import ClientSession
from viewstamp.client.pace import Pace
from viewstamp.client.target import Again, Resend, Target
from viewstamp.protocol import AgreedClock, Founded, Reads, SendAfter, Time
from viewstamp.protocol.member import Member
from viewstamp.replica.founding import Founding, FoundingState
from viewstamp.replica.requests import Requests
from viewstamp.replica.writes import Writes

SHARED = Catalogue("vsr", fuzzed_alone=False)
_rule, _known = SHARED.rule, SHARED.known

# 5: promises wait for the disk, in the body too.


@_rule(
    "5",
    "the body lets promises leave before their write is durable",
    "test_promises_leave_when_what_they_promise_is_durable",
)
def _() -> list[Change]:
    original = Writes.promise

    def promise(self: Writes, promises: Any) -> None:
        original(self, [SendAfter(0, each.to, each.message) for each in promises])

    return [(Writes, "promise", promise)]


# 13: the table of clients changes at commit.

_known(
    "13",
    "pipeline-kept",
    "test_a_request_that_a_view_change_has_dropped_is_ordered_when_it_comes_again",
    needs="a primary that leads again soon, and requests dropped between",
)


@_rule(
    "13",
    "a request that is under way is ordered again",
    "test_a_request_is_ordered_once_however_often_it_comes",
    harmless="the sessions execute it once",
)
def _() -> list[Change]:
    def forget(self: Requests, source: int, key: tuple[int, int], *_: object) -> None:
        if self._leading >= 0 and all((each.session, each.request) != key for each in self._proposals):
            self._in_flight.pop(key, None)

    return [before(Requests, "_order", forget)]


# 14: a window of requests, unordered, above a mark.

_known("14", "duplicate-executed", "test_a_request_that_was_executed_gets_the_same_reply_again")
_known("14", "passed-request-executed", "test_a_request_given_up_is_not_executed_when_it_arrives_late")


@_rule(
    "14",
    "a request with a lower number than one that was executed counts as a duplicate",
    "test_requests_of_one_session_are_executed_in_any_order",
)
def _() -> list[Change]:
    def is_lower(self: Sessions, session: int, request: int) -> bool:
        found = self._table.get(session)
        return found is not None and request not in found.replies and request < max(found.replies, default=0)

    def lookup(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
        return STALE_REPLY if is_lower(self, session, request) else looked_up(self, session, request, mark)

    def admit(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
        reply = admitted(self, session, request, mark)
        return STALE_REPLY if reply is None and is_lower(self, session, request) else reply

    looked_up, admitted = Sessions.lookup, Sessions.admit
    return [(Sessions, "lookup", lookup), (Sessions, "admit", admit)]


@_rule("14", "a late duplicate lowers the mark", "test_a_late_duplicate_does_not_lower_the_mark")
def _() -> list[Change]:
    def lower(self: Sessions, session: int, request: int, mark: int) -> None:
        found = self._table.get(session)
        if found is not None:
            found.mark = min(found.mark, mark)

    return [before(Sessions, "lookup", lower), before(Sessions, "admit", lower)]


@_rule(
    "14",
    "recorded replies are dropped by guess: all but the last",
    "test_a_request_that_was_executed_gets_the_same_reply_again",
)
def _() -> list[Change]:
    def drop(self: Sessions, session: int, request: int, reply: bytes) -> None:
        replies = self._table[session].replies
        for other in [other for other in replies if other != request]:
            if (session, other) not in self._large:
                del replies[other]

    return [after(Sessions, "record", drop)]


@_rule(
    "14",
    "a session's window has no end",
    "test_a_request_beyond_the_window_is_not_executed",
    harmless="memory grows; a client of ours keeps to its window",
)
def _() -> list[Change]:
    def lookup(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
        found = looked_up(self, session, request, mark)
        return None if found == BEYOND_WINDOW_REPLY else found

    def admit(self: Sessions, session: int, request: int, mark: int) -> bytes | None:
        known = looked_up(self, session, request, mark)
        reply = admitted(self, session, request, mark)
        return None if known == BEYOND_WINDOW_REPLY else reply

    looked_up, admitted = Sessions.lookup, Sessions.admit
    return [(Sessions, "lookup", lookup), (Sessions, "admit", admit)]


# 15: the first start.

_known("15", "a blank disk founds the cluster again", "test_4_3_while_recovering_it_takes_part_in_nothing")


@_rule(
    "15",
    "a majority of blank members founds the cluster",
    "test_a_majority_of_blank_members_never_founds",
    needs="a member that loses its disk while another has not been seen yet",
)
def _() -> list[Change]:
    def found(self: Founding) -> None:
        vector, quorum = self.vector, len(self._members) // 2 + 1
        seen = tuple(number or 1 for number in vector)
        agree = 1 + sum(told == vector for told in self._told.values())
        if (
            self.origin is None
            and self._durable == vector
            and agree >= quorum
            and len(vector) - vector.count(0) >= quorum
        ):
            self.record = FoundingState(complete=True, vector=seen)
            self.origin = Founded(seen)

    return [(Founding, "_found_if_unanimous", found)]


@_rule(
    "15",
    "a blank member beside a founded cluster takes this for its first start",
    "test_a_blank_member_that_is_not_named_has_lost_its_disk",
)
def _() -> list[Change]:
    def founded_elsewhere(self: Founding, mine: int, vector: tuple[int, ...]) -> None:
        position = self._members.index(self._me)
        vector = (*vector[:position], self._vector[self._me], *vector[position + 1 :])
        self.record = FoundingState(complete=True, vector=vector)
        self.origin = Founded(vector)

    return [(Founding, "_founded_elsewhere", founded_elsewhere)]


@_rule(
    "15",
    "a blank member tells whom it has seen before that is durable",
    "test_nothing_is_told_before_it_is_durable",
    "test_what_was_learned_since_is_not_told_before_it_is_durable_either",
    needs="a crash in the moment between, and a disk that is replaced while all found",
)
def _() -> list[Change]:
    def tell_at_once(self: Founding, now: int) -> None:
        self._durable = self.vector

    return [before(Founding, "hello", tell_at_once)]


@_rule(
    "15",
    "a blank member founds with what others told of an earlier vector",
    "test_a_member_that_was_replaced_meanwhile_is_not_founded_with_its_old_incarnation",
    needs="a disk that is replaced while all found",
)
def _() -> list[Change]:
    def found(self: Founding) -> None:
        vector = self.vector
        if self.origin is None and 0 not in vector and self._durable == vector and len(self._told) == len(vector) - 1:
            self.record = FoundingState(complete=True, vector=vector)
            self.origin = Founded(vector)

    return [(Founding, "_found_if_unanimous", found)]


@_rule(
    "15",
    "a blank member that is started again has forgotten whom it told of",
    "test_a_restarted_blank_member_remembers_whom_it_has_told_of",
    needs="two disks replaced while all found, and a crash between",
)
def _() -> list[Change]:
    original = Founding.__init__

    def init(self: Founding, members: Any, me: int, incarnation: int, before: Any) -> None:
        original(self, members, me, incarnation, None)

    return [(Founding, "__init__", init)]


# 16: the agreed time.


@_rule("16", "an entry has the time of its primary's clock", "test_4_4_ours_agreed_time_never_goes_back_at_a_failover")
def _() -> list[Change]:
    return [(AgreedClock, "stamp", lambda self, now: max(0, min(now.wall, (1 << 63) - 1)))]


@_rule(
    "16",
    "the agreed time follows one wrong clock ahead",
    "test_4_4_ours_one_wrong_clock_cannot_run_away_with_agreed_time",
    needs="nothing compares the agreed time with the true one",
)
def _() -> list[Change]:
    def stamp(self: AgreedClock, now: Time) -> int:
        self._last = min((1 << 63) - 1, max(self._last, now.wall))
        return self._last

    return [(AgreedClock, "stamp", stamp)]


@_rule(
    "16",
    "the agreed time is measured from any entry that comes, however old",
    "test_an_entry_that_was_long_on_its_way_is_no_measure_of_time",
    needs="nothing compares the agreed time with the true one",
)
def _() -> list[Change]:
    def saw(self: AgreedClock, stamp: int, now: Time) -> None:
        if stamp >= self._last:
            self._last = stamp
            self._anchor = (stamp, now.monotonic)

    return [(AgreedClock, "saw", saw)]


@_rule(
    "16",
    "entries that were fetched count as made just now",
    "test_ours_agreed_time_is_right_after_catching_up_with_old_entries",
    needs="nothing compares the agreed time with the true one",
)
def _() -> list[Change]:
    def adopt_fetched(self: Member, entries: Any) -> None:
        if entries:
            self.append(entries)
            self.clock._last = max(self.clock._last, entries[-1].stamp)
            self.clock._anchor = (entries[-1].stamp, self.now.monotonic)

    return [(Member, "adopt_fetched", adopt_fetched)]


@_rule(
    "16",
    "a clock may be wrong by centuries",
    "test_a_clock_that_is_wrong_by_centuries",
    harmless="no simulated clock is",
)
def _() -> list[Change]:
    import viewstamp.protocol.clock as clock_module

    return [(clock_module, "LATEST_STAMP", 1 << 90)]


# 25: a snapshot's name holds the agreed time.


@_rule(
    "25",
    "the agreed time of a snapshot is forgotten",
    "test_4_4_ours_agreed_time_does_not_go_back_behind_a_snapshot",
    "test_4_4_ours_nor_after_an_installation",
    needs="a primary with a slow clock whose whole log is a snapshot",
)
def _() -> list[Change]:
    def resume(self: Member, entries: Any, snapshot: Any) -> None:
        with patch.object(AgreedClock, "saw_of_unknown_age", lambda self, stamp: None):
            resumed(self, entries, snapshot)
        if entries:
            self.clock.saw_of_unknown_age(entries[-1].stamp)

    def install(self: Member, snapshot: Any) -> None:
        with patch.object(AgreedClock, "saw_of_unknown_age", lambda self, stamp: None):
            installed(self, snapshot)

    resumed, installed = Member.resume, Member.install
    return [(Member, "resume", resume), (Member, "install", install)]


# B1: numbers that no member sends.


@_rule(
    "B1",
    "any view is believed",
    "test_4_1_ours_no_view_is_believed_that_is_thousands_of_years_ahead",
    harmless="only a damaged message that passes its checksum says such a view",
)
def _() -> list[Change]:
    return [(vsr.messages, "FARTHEST_VIEW", 1 << 80)]


@_rule(
    "B1",
    "any term is believed",
    "test_ours_malformed_messages_are_counted_and_change_nothing",
    protocol="raft",
    harmless="only a damaged message that passes its checksum says such a term",
)
def _() -> list[Change]:
    return [(raft.messages, "FARTHEST_TERM", 1 << 80)]


# B2: clients.


@_rule(
    "B2",
    "after a time-out a client sends all it has to all members",
    "test_while_the_silence_lasts_probes_go_round_and_the_rest_waits",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    def to_all(self: Target, now: int) -> Again:
        self.deadline = now + self._retry_ns
        return [Resend(member, now, now) for member in self._members]

    return [(Target, "_doubt", to_all)]


@_rule(
    "B2",
    "a client keeps to a member that knows no primary",
    "test_a_member_that_knows_no_primary_is_not_asked_for_ever",
    needs="a client whose member is cut off from all others, for long",
)
def _() -> list[Change]:
    original = Target.redirected

    def redirected(self: Target, sender: int, primary: int, now: int) -> Again:
        if primary in self._members:
            return original(self, sender, primary, now)
        if sender == self.member:
            self._heard_at = now  # It has answered.
        return ()

    return [(Target, "redirected", redirected)]


@_rule(
    "B2",
    "a client asks the one after whoever knows no primary",
    "test_members_that_send_a_client_round_among_themselves_do_not_keep_it",
    needs="three that are cut off from the rest, of which two name the third",
)
def _() -> list[Change]:
    return [(Target, "_next_in_turn", lambda self, other_than: self._after(other_than))]


@_rule(
    "B2",
    "a redirection is followed at once, each time",
    "test_two_members_that_name_each_other_are_not_asked_as_fast_as_they_answer",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    original = Target._turn_to

    def turn_to(self: Target, member: int, now: int, *, at_once: bool) -> Again:
        return original(self, member, now, at_once=True)

    return [(Target, "_turn_to", turn_to)]


@_rule(
    "B2",
    "the answer of a member that was probed does not turn its client to it",
    "test_a_probe_that_the_primary_answers_turns_everything_to_it",
    harmless="each call waits for a probe of its own, and is answered",
)
def _() -> list[Change]:
    original = Target.heard

    def heard(self: Target, sender: int, now: int) -> Again:
        return original(self, self.member, now)

    return [(Target, "heard", heard)]


@_rule(
    "B2",
    "whoever is asked next is asked for everything",
    "test_members_that_know_of_no_primary_are_asked_for_one_call_of_many",
    harmless="more messages, and nothing else",
)
def _() -> list[Change]:
    def at_any_time(self: Target, now: int) -> None:
        self._resend_at = 0

    return [before(Target, "_ask", at_any_time)]


# What comments tell beside.


_known(
    "viewstamp/client/session.py",
    "reads-hide-silence",
    "test_reads_elsewhere_that_are_answered_do_not_hide_that_the_target_is_silent",
)


@_rule(
    "viewstamp/client/pace.py",
    "how long there was nobody to answer counts for how long answers take",
    "test_what_a_primary_has_no_room_for_after_an_outage_is_asked_for_again_soon",
    needs="many calls that wait for a primary with room for few, from a client that reads all the time",
)
def _() -> list[Change]:
    return [(Pace, "begin", lambda self, now: None)]


@_rule(
    "viewstamp/client/session.py",
    "a session numbers its calls and reads from 1",
    "test_an_answer_from_an_earlier_life_of_a_member_is_not_taken_for_a_new_read",
    needs="a member that is killed, and the answer to a read of its earlier life meets one of the next",
)
def _() -> list[Change]:
    def from_one(self: ClientSession, *_: object, **__: object) -> None:
        self._handles = 0

    return [after(ClientSession, "__init__", from_one)]


def _numbered_from_one(protocol: str) -> None:
    @_rule(
        "viewstamp/protocol/reads.py",
        "a member numbers its questions for reads from 1",
        "test_an_answer_from_before_a_restart_answers_no_question_of_after_it",
        "vsr/old_commitpoint_after_a_restart.scenario",
        "test_ours_an_answer_from_before_a_restart_answers_no_question_of_after_it",
        protocol=protocol,
        needs="an answer to a question for a read that comes after its asker was started again",
    )
    def _() -> list[Change]:
        def from_one(self: Reads, *_: object, **__: object) -> None:
            self._number = 0

        return [after(Reads, "__init__", from_one)]


def _asked_again(protocol: str) -> None:
    @_rule(
        "viewstamp/protocol/reads.py",
        "a question for a read that was lost is not asked again",
        "test_a_question_is_asked_again_and_then_given_up",
        "test_d6_4_a_question_is_asked_again_and_then_given_up",
        protocol=protocol,
        harmless="the client asks again, elsewhere",
    )
    def _() -> list[Change]:
        def patient(self: Reads, *_: object, **__: object) -> None:
            self._retry = 1 << 62

        return [after(Reads, "__init__", patient)]


for _protocol in ("vsr", "raft"):
    _numbered_from_one(_protocol)
    _asked_again(_protocol)


@_rule(
    "viewstamp/protocol/reads.py",
    "reads under way stay when the view changes",
    "test_d6_4_a_pending_read_fails_when_the_leader_is_superseded",
    protocol="raft",
    needs="a leader that is deposed and leads again within a suspect time-out, with a read under way",
)
def _() -> list[Change]:
    def stay(self: Reads) -> None:
        self._view = self._host.read_view

    return [before(Reads, "before_close", stay)]


@_rule(
    "viewstamp/protocol/clock.py",
    "the agreed time goes on from the last entry on the disk, however long ago that was",
    "test_an_entry_from_a_disk_is_no_measure_of_time_either",
    needs="nothing compares the agreed time with the true one",
)
def _() -> list[Change]:
    def stamp(self: AgreedClock, now: Time) -> None:
        if self._anchor is None and self._last:
            self._anchor = (self._last, now.monotonic)

    return [before(AgreedClock, "stamp", stamp)]
