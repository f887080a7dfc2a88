"""What a replica does around its protocol, snapshots above all: each rule put back once. `corrections` says what for.

The fuzzers play these with VSR unless `protocol` says otherwise.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from unittest.mock import patch

from tests.simulation.changes import Change, after, before
from tests.simulation.corrections import Catalogue
from viewstamp.protocol import Time
from viewstamp.replica.fetching import DamagedSnapshotError, Fetching
from viewstamp.replica.founding import Foundation
from viewstamp.replica.local import LocalSession
from viewstamp.replica.requests import Requests
from viewstamp.replica.retention import Retention
from viewstamp.replica.serving import Serving
from viewstamp.replica.snapshots import Snapshots
from viewstamp.replica.standstill import Standstill
from viewstamp.replica.taking import Taking
from viewstamp.wire import Chunk

BODY = Catalogue("vsr", fuzzed_alone=False)
_rule = BODY.rule

# 19, R1, R2: a snapshot's bytes are asked for by offset, under its name.


@_rule(
    "19",
    "a chunk counts whatever snapshot it is of",
    "test_a_chunk_of_another_snapshot_is_not_taken",
    needs="a chunk of the snapshot before, late, to a member that fetches the next from the same source",
)
def _() -> list[Change]:
    def receive(self: Snapshots, sender: int, message: Any, now: Time) -> bool:
        fetching = self._fetching
        if isinstance(message, Chunk) and fetching is not None:
            message = Chunk(fetching.snapshot.op, fetching.snapshot.digest, message.offset, message.data)
        return original(self, sender, message, now)

    original = Snapshots.receive
    return [(Snapshots, "receive", receive)]


@_rule(
    "19",
    "the bytes that have come are not compared with their name",
    "test_bytes_that_are_not_those_of_the_name_are_given_up",
    needs="a chunk that is damaged and passes its datagram's checksum",
)
def _() -> list[Change]:
    original = Fetching.take

    def take(self: Fetching, chunk: Chunk, now: int) -> bool:
        with suppress(DamagedSnapshotError):
            return original(self, chunk, now)
        return True

    return [(Fetching, "take", take)]


@_rule(
    "19",
    "what has come is dropped when another member has to be asked for the rest",
    "test_what_has_come_stays_good_when_another_member_becomes_the_source",
    harmless="the same is fetched again",
)
def _() -> list[Change]:
    def begin_anew(self: Fetching, source: int, now: int) -> None:
        if source != self.source and not self._writing and self._offset == 0:
            self.__init__(self.snapshot, source, self._retry, now)  # type: ignore[misc]  # as a new one

    return [before(Fetching, "follow", begin_anew)]


@_rule(
    "R1",
    "a chunk is asked for once",
    "test_a_chunk_that_does_not_come_is_asked_for_again",
    needs="loss while a snapshot is fetched",
)
def _() -> list[Change]:
    original = Fetching.questions

    def first(self: Fetching, now: int) -> Any:
        if self._waits_for_disk:
            return []
        known = set(self._asked) | set(self._early)
        return [each for each in original(self, now) if each.offset not in known]

    return [(Fetching, "questions", first)]


# R4: the file is durable before the protocol is told, and before any record names it.


@_rule(
    "R4",
    "a snapshot counts as here when its last byte has come",
    "test_a_fetched_snapshot_is_here_when_its_file_is_durable",
    needs="a crash in the moment between",
)
def _() -> list[Change]:
    def tell_at_once(self: Snapshots, sender: int, message: Any, now: Time) -> None:
        fetching = self._fetching
        if fetching is not None and fetching.complete and self._core is not None and self._fetched is None:
            self._fetched = fetching.snapshot
            self._core.fetched(fetching.snapshot, now)

    return [after(Snapshots, "receive", tell_at_once)]


# 24: when the log may go.


@_rule(
    "24",
    "the log goes before the record of its snapshot is durable",
    "test_the_log_goes_when_the_record_of_its_snapshot_is_durable",
)
def _() -> list[Change]:
    def go_at_once(self: Snapshots, owner: Any, snapshot: Any, now: Time) -> None:
        if self._recording is not None and self._core is not None and self._recording[1] == snapshot:
            self._compact(self._core, snapshot, now)

    return [after(Snapshots, "_file_finished", go_at_once)]


@_rule(
    "24",
    "the record of a snapshot is written before its file is durable",
    "test_a_snapshot_is_recorded_when_its_file_is_durable",
    needs="a crash in the moment between",
)
def _() -> list[Change]:
    from viewstamp.replica.records import record_of

    def record_at_once(self: Snapshots, turn: Any) -> Any:
        block = original(self, turn)
        if block is not None and block.finished is not None:
            self._recording = self._issue((record_of(block.finished),)), block.finished
        return block

    def file_finished(self: Snapshots, owner: Any, snapshot: Any, now: Time) -> None:
        if isinstance(owner, Taking):
            self._taking = None
        else:
            finished(self, owner, snapshot, now)

    original, finished = Snapshots._collect, Snapshots._file_finished
    return [(Snapshots, "_collect", record_at_once), (Snapshots, "_file_finished", file_finished)]


@_rule(
    "24",
    "nothing of the log is kept before a snapshot",
    "test_a_margin_of_the_log_stays_before_its_snapshot",
    harmless="a member a little behind needs the whole state",
)
def _() -> list[Change]:
    import viewstamp.replica.retention as retention_module

    return [(retention_module, "margin_of", lambda snapshot_entries: 0)]


@_rule(
    "24",
    "the log does not wait for a member that fetches its snapshot",
    "test_the_log_behind_a_snapshot_that_is_being_fetched_stays_until_that_is_over",
    harmless="it fetches the next one",
)
def _() -> list[Change]:
    return [(Serving, "pinned", lambda self, now: [])]


@_rule(
    "24",
    "the file of the snapshot before goes while the journal still names it",
    "test_the_file_of_the_snapshot_before_goes_when_the_journal_names_the_next",
    needs="a crash in the moment between",
)
def _() -> list[Change]:
    def let_go(self: Snapshots, owner: Any, snapshot: Any, now: Time) -> None:
        if self._recording is not None and self._recording[1] == snapshot and self._kept.newest is not None:
            gone, self._kept.newest = self._kept.newest, None
            self._remove(gone)

    return [after(Snapshots, "_file_finished", let_go)]


# What comments tell beside.


@_rule(
    "viewstamp/replica/requests.py",
    "a turn's requests are proposed all together or not at all",
    "test_more_requests_in_one_turn_than_the_pipeline_has_room_for",
    needs="a small pipeline, and more than it takes in one turn, for good",
)
def _() -> list[Change]:
    def propose(self: Requests, now: Time) -> None:
        proposals, self._proposals = self._proposals, []
        if proposals and not self._core.propose(proposals, now):
            for proposal in proposals:
                self.refused += 1
                del self._in_flight[proposal.session, proposal.request]

    return [(Requests, "propose", propose)]


@_rule(
    "viewstamp/replica/requests.py",
    "a new primary does not know what is in its pipeline",
    "test_a_new_primary_knows_the_requests_of_the_log_that_it_takes_over",
    harmless="the sessions execute it once",
)
def _() -> list[Change]:
    def forget(self: Requests) -> None:
        if any(source == 0 for source in self._in_flight.values()) and self._core.leading == self._leading:
            self._in_flight = {key: source for key, source in self._in_flight.items() if source}

    return [after(Requests, "follow_standing", forget)]


@_rule(
    "viewstamp/replica/requests.py",
    "a confirmed read is served from whatever is applied",
    "test_a_confirmed_read_waits_for_the_state_machine",
)
def _() -> list[Change]:
    def serve(self: Requests) -> None:
        applied = self._applied.executor.applied
        self._served = [(min(op, applied), read) for op, read in self._served]

    return [before(Requests, "serve_reads", serve)]


@_rule(
    "viewstamp/replica/body.py",
    "a local caller's next request waits for another turn",
    "test_a_member_knows_when_its_own_callers_ask_it",
    harmless="it waits for a timer at most",
)
def _() -> list[Change]:
    original = LocalSession.exchange

    def exchange(self: LocalSession, now: Time) -> bool:
        original(self, now)
        return False

    return [(LocalSession, "exchange", exchange)]


@_rule(
    "viewstamp/replica/founding.py",
    "a blank member whose incarnation is too old takes it all the same",
    "test_a_replaced_member_with_a_clock_in_the_past_takes_a_newer_incarnation",
    needs="a disk that is replaced by a machine whose clock is behind",
)
def _() -> list[Change]:
    return [(Foundation, "supersede", lambda self, known: None)]


@_rule(
    "viewstamp/replica/snapshots.py",
    "all members take their snapshots at the same op",
    "test_members_take_their_snapshots_at_different_ops",
    harmless="all pause at once",
)
def _() -> list[Change]:
    def together(self: Snapshots, *_: object, **__: object) -> None:
        self._stagger = 0
        self._least_entries = self._entries_limit

    return [after(Snapshots, "__init__", together)]


@_rule(
    "viewstamp/replica/snapshots.py",
    "another snapshot goes on coming when one that is here is wanted again",
    "test_one_that_is_wanted_again_stays_when_the_file_of_another_wanted_meanwhile_is_finished",
    needs="two snapshots that are wanted in turns, and the file of one is finished while the other is to be installed",
)
def _() -> list[Change]:
    original = Snapshots._want

    def want(self: Snapshots, snapshot: Any, *rest: Any) -> None:
        fetching = self._fetching
        original(self, snapshot, *rest)
        if snapshot == self._fetched:
            self._fetching = fetching

    return [(Snapshots, "_want", want)]


@_rule(
    "viewstamp/replica/retention.py",
    "the log waits for a member that fetches its snapshot, for however long that takes",
    "test_the_log_waits_for_nobody_once_it_comes_near_its_bound",
    harmless="nobody fetches for so long",
)
def _() -> list[Change]:
    def unbounded(self: Retention, *_: object, **__: object) -> None:
        self._patient_below = 1 << 62

    return [after(Retention, "__init__", unbounded)]


@_rule(
    "viewstamp/replica/snapshots.py",
    "a large state is written so seldom that the log comes to its bound",
    "test_a_large_state_is_written_less_often_but_before_the_log_comes_to_its_bound",
    harmless="no simulated state is so large",
)
def _() -> list[Change]:
    original = Snapshots._due

    def due(self: Snapshots, since: int) -> bool:
        with patch.object(self, "_log_limit", 1 << 62):
            return original(self, since)

    return [(Snapshots, "_due", due)]


@_rule(
    "viewstamp/replica/requests.py",
    "a new primary that still loads its snapshot looks for all that it has not applied",
    "test_a_new_primary_that_still_loads_its_snapshot_looks_at_its_log_alone",
    needs="a member that leads while it loads a snapshot",
)
def _() -> list[Change]:
    def look(self: Requests) -> None:
        leading = self._core.leading
        if leading >= 0 and leading != self._leading:
            for op in range(self._applied.executor.applied + 1, self._core.standing.op + 1):
                self._core.entry(op)

    return [before(Requests, "follow_standing", look)]


@_rule(
    "viewstamp/replica/standstill.py",
    "a primary whose snapshot files do not answer goes on leading",
    "test_a_primary_that_cannot_give_its_snapshot_lets_another_lead",
    needs="files that hang at a primary whose journal works, and a majority that needs its snapshot",
)
def _() -> list[Change]:
    return [(Standstill, "gives_way", lambda *_: False)]
