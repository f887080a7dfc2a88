"""What a member knows of requests under way, with a protocol that is told when it leads and what is in its log.

And what waits for a disk: `Writes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, cast

from statemachine import Counter, Executor
from statemachine.executor import AgreedEntry
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster, Member
from viewstamp.protocol import (
    MILLISECOND,
    SECOND,
    Core,
    Entry,
    Kind,
    Limits,
    Proposal,
    ReadFailed,
    ReadReady,
    SendAfter,
    Standing,
    Time,
    make_entry,
)
from viewstamp.replica.answers import Answers
from viewstamp.replica.applied import Applied
from viewstamp.replica.local import LocalSession
from viewstamp.replica.requests import Requests
from viewstamp.replica.writes import Writes
from viewstamp.wire import NotPrimary, Query, QueryReply, Reply
from vsr import PrepareOk

NOW = Time(0, 0)
NONCE = 77
CLIENT = 1 << 20
LIMITS = Limits(page_bytes=1024, pipeline_bytes=4096)
CLUSTER = Cluster("requests", bytes(8), "vsr", (Member(1, "127.0.0.1", 7001),), max_command_bytes=1024, limits=LIMITS)


ClientAnswer = Reply | QueryReply | NotPrimary


class Ordering:
    """A protocol that leads `leading`, holds `log`, and orders all or none of what it is asked to, into its `room`."""

    def __init__(self) -> None:
        self.leading = -1
        self.base = 0
        self.log: list[Entry] = []
        self.ordered: list[int] = []
        self.room = 1 << 20
        self.read_numbers: list[int] = []

    @property
    def standing(self) -> Standing:
        leads, op = self.leading >= 0, self.base + len(self.log)
        return Standing("normal", "primary", self.leading, 1, leads, op, self.base, base=self.base)

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        if len(proposals) > self.room:
            return 0
        self.room -= len(proposals)
        self.ordered += [proposal.request for proposal in proposals]
        return 1

    def entry(self, op: int) -> Entry:
        [entry] = [entry for entry in self.log if entry.op == op]
        return entry

    def read(self, read: int, now: Time) -> None:
        """Somebody wants to read."""
        self.read_numbers.append(read)


class Kept(list[ClientAnswer]):
    """Keeps the answers, whoever asked."""

    def not_primary(self, source: int, primary: int) -> None:
        self.append(NotPrimary(primary))

    def reply(self, source: int, *fields: Any) -> None:
        self.append(Reply(*fields))

    def query_reply(self, source: int, *fields: Any) -> None:
        self.append(QueryReply(*fields))


def member() -> tuple[Ordering, Requests, list[ClientAnswer]]:
    ordering, answers = Ordering(), Kept()
    executor = Executor(Counter(), max_sessions=8, window=8)
    requests = Requests(cast("Core", ordering), Applied(executor), cast("Answers", answers), Random(1), CLUSTER)
    return ordering, requests, answers


def lead(ordering: Ordering, requests: Requests, view: int) -> None:
    ordering.leading = view
    requests.follow_standing()


def ask(requests: Requests) -> None:
    """A client asks for a session, or asks again."""
    requests._order(CLIENT, (0, NONCE), Kind.REGISTER, 0, b"")
    requests.propose(NOW)


def test_a_request_is_ordered_once_however_often_it_comes() -> None:
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ask(requests)
    ask(requests)
    assert ordering.ordered == [NONCE]


def ask_all(requests: Requests, numbers: Iterable[int], body: bytes = b"") -> None:
    """These requests of a client come in one turn."""
    for number in numbers:
        requests._order(CLIENT, (7, number), Kind.COMMAND, 0, body)
    requests.propose(NOW)


def test_of_what_comes_in_one_turn_as_much_is_ordered_as_there_is_room_for() -> None:
    """Tried whole each time, none of it would ever get in."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ordering.room = 5
    ask_all(requests, range(1, 9))
    assert ordering.ordered == [1, 2, 3, 4, 5]
    assert (requests.in_flight, requests.refused) == (8, 0)


def test_what_found_no_room_is_ordered_in_the_order_in_which_it_came() -> None:
    """Were it for its clients to ask again, luck would decide which of them are served, again and again."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ordering.room = 1
    ask_all(requests, [1, 2, 3])
    ask_all(requests, [4, 3])  # One of them is asked for again.
    ordering.room = 2
    ask_all(requests, [5])
    assert ordering.ordered == [1, 2, 3]
    ordering.room = 9
    requests.propose(NOW)
    assert ordering.ordered == [1, 2, 3, 4, 5]
    assert (requests.in_flight, requests.refused) == (5, 0)


def test_what_waits_for_room_has_a_bound_and_beyond_it_comes_again() -> None:
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ordering.room = 0
    half = bytes(LIMITS.pipeline_bytes // 2)
    ask_all(requests, [1, 2, 3], half)
    assert (requests.in_flight, requests.refused) == (2, 1)
    ordering.room = 1
    ask_all(requests, [3], half)
    assert (ordering.ordered, requests.in_flight, requests.refused) == ([1], 3, 1)
    ordering.room = 3
    ask_all(requests, range(4, 20_000))
    assert ordering.ordered == [1, 2, 3, 4]
    assert requests.in_flight == 4 + 16 * 1024


def test_what_waits_for_room_waits_at_a_primary_only() -> None:
    """The next one orders it, or this one anew: what it said meanwhile it may have been asked by nobody."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ordering.room = 0
    ask_all(requests, [1, 2])
    lead(ordering, requests, -1)
    lead(ordering, requests, 3)
    ordering.room = 9
    requests.propose(NOW)
    assert (ordering.ordered, requests.in_flight) == ([], 0)
    ask_all(requests, [2])
    assert ordering.ordered == [2]


def test_a_request_that_was_applied_is_under_way_no_more() -> None:
    ordering, requests, answers = member()
    lead(ordering, requests, 0)
    ask(requests)
    register = make_entry(1, 0, 0, Proposal(Kind.REGISTER, 0, NONCE, 0, b"", 0))
    requests.executed([register], requests._applied.executor.apply([cast("AgreedEntry", register)]))
    assert [type(answer) for answer in answers] == [Reply]
    assert requests.in_flight == 0


def test_a_read_that_could_not_be_confirmed_is_asked_for_when_it_comes_again() -> None:
    ordering, requests, answers = member()
    query = Query(5, Counter.get.bind())
    requests.query(CLIENT, query, NOW)
    requests.query(CLIENT, query, NOW)
    [first] = ordering.read_numbers
    requests.reads([ReadFailed(first, "no majority answers")])
    assert [type(answer) for answer in answers] == [NotPrimary]
    requests.query(CLIENT, query, NOW)
    assert len(ordering.read_numbers) == 2


def test_a_request_that_a_view_change_has_dropped_is_ordered_when_it_comes_again() -> None:
    """Counted as under way for good, its client would be answered never."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ask(requests)
    lead(ordering, requests, -1)
    lead(ordering, requests, 3)
    ask(requests)
    assert ordering.ordered == [NONCE, NONCE]


def test_a_new_primary_knows_the_requests_of_the_log_that_it_takes_over() -> None:
    ordering, requests, _ = member()
    ordering.log = [make_entry(1, 0, 0, Proposal(Kind.REGISTER, 0, NONCE, 0, b"", 0))]
    lead(ordering, requests, 3)
    ask(requests)
    assert ordering.ordered == []


def test_a_new_primary_that_still_loads_its_snapshot_looks_at_its_log_alone() -> None:
    """Nothing is applied yet, and what the snapshot holds is in no log: duplicates of that the sessions find, later."""
    ordering, requests, _ = member()
    ordering.base = 5
    ordering.log = [make_entry(6, 0, 0, Proposal(Kind.REGISTER, 0, NONCE, 0, b"", 0))]
    lead(ordering, requests, 3)
    ask(requests)
    assert ordering.ordered == []


def test_a_confirmed_read_waits_for_the_state_machine() -> None:
    """It may not miss what was acknowledged before it was asked, which this member has not applied yet."""
    _, requests, answers = member()
    requests.query(CLIENT, Query(5, Counter.get.bind()), NOW)
    requests.reads([ReadReady(1, 1)])
    requests.serve_reads()
    assert answers == []
    noop = make_entry(1, 0, 0, Proposal(Kind.NOOP, 0, 0, 0, b"", 0))
    requests._applied.executor.apply([cast("AgreedEntry", noop)])
    requests.serve_reads()
    assert [answer.number for answer in answers if isinstance(answer, QueryReply)] == [5]


def test_reads_that_take_long_are_served_in_several_turns() -> None:
    """In their order; and one that waits for the state machine, between them, does not stop those behind it."""
    _, requests, answers = member()
    for number in range(1, 301):
        requests.query(CLIENT, Query(number, Counter.get.bind()), NOW)
    requests.reads([ReadReady(number, 1 if number == 3 else 0) for number in range(1, 301)])
    requests._applied.measure = lambda: len(answers) * MILLISECOND // 10
    served = []
    for _ in range(3):
        requests.serve_reads()
        served.append((len(answers), requests.more_reads))
    assert served == [(100, True), (200, True), (299, False)]
    assert [answer.number for answer in answers if isinstance(answer, QueryReply)] == [1, 2, *range(4, 301)]
    assert requests.pending
    requests._applied.measure = lambda: len(answers) * SECOND
    for number in (301, 302):
        requests.query(CLIENT, Query(number, Counter.get.bind()), NOW)
    requests.reads([ReadReady(301, 0), ReadReady(302, 0)])
    requests.serve_reads()
    assert len(answers) == 300  # of whatever takes longer than a turn may, one


def test_promises_leave_when_what_they_promise_is_durable() -> None:
    """The protocol's second write is the third here: founding and snapshots write between them."""
    writes = Writes()
    for core_write in (1, 0, 2):
        writes.issue((), core_write)
    promise = PrepareOk(0, 1, 0, 0, (1, 1, 1))
    writes.promise([SendAfter(2, 1, promise)])
    sent: list[tuple[int, object]] = []
    for number in (1, 2):
        writes.written(number)
        assert not writes.send_kept(lambda to, message: sent.append((to, message)))
    writes.written(3)
    assert writes.send_kept(lambda to, message: sent.append((to, message)))
    assert sent == [(1, promise)]
    assert not writes.promised


def test_what_is_durable_stays_so_when_something_else_is_written() -> None:
    """A backup that writes nothing more answers heartbeats: each waits for a write that was done long ago."""
    writes = Writes()
    for core_write in (1, 0):
        writes.issue((), core_write)
        writes.written(writes.last)
    promise = PrepareOk(0, 1, 0, 0, (1, 1, 1))
    writes.promise([SendAfter(1, 1, promise)])
    sent: list[tuple[int, object]] = []
    assert writes.send_kept(lambda to, message: sent.append((to, message)))
    assert sent == [(1, promise)]


def test_a_disk_that_hangs_keeps_the_newest_promises_only() -> None:
    """Heartbeats go on for as long as it hangs, and each is answered."""
    writes = Writes()
    writes.issue((), 1)
    for number in range(100_000):
        writes.promise([SendAfter(1, 1, PrepareOk(0, 1, number, 0, (1, 1, 1)))])
    assert len(writes.promised) < 5000
    writes.written(1)
    sent: list[object] = []
    assert writes.send_kept(lambda to, message: sent.append(message))
    assert sent[-1] == PrepareOk(0, 1, 99_999, 0, (1, 1, 1))


def test_a_member_knows_when_its_own_callers_ask_it() -> None:
    """Else what they ask would sit there until something else happens."""
    asked: list[object] = []
    session = ClientSession((1, 2, 3), random=Random(1), window=8, home=1)
    local = LocalSession(
        1, session, lambda *request: asked.append(request), lambda *question: asked.append(question), lambda *sent: None
    )
    session.call(b"x", 0)
    assert local.exchange(NOW)
    assert len(asked) == 1
    assert not local.exchange(NOW)


def test_who_does_not_lead_says_so() -> None:
    ordering, requests, answers = member()
    ask(requests)
    assert ordering.ordered == []
    assert [type(answer).__name__ for answer in answers] == ["NotPrimary"]


class Told(list[int]):
    """Keeps whom a reply went to."""

    def reply(self, source: int, *fields: Any) -> None:
        self.append(source)


def answered(sources: Sequence[int], number: int = 5) -> list[int]:
    """To whom the reply goes when a request came from these, one after another, before it was executed."""
    ordering, told, executor = Ordering(), Told(), Executor(Counter(), max_sessions=8, window=8)
    requests = Requests(cast("Core", ordering), Applied(executor), cast("Answers", told), Random(1), CLUSTER)
    lead(ordering, requests, 0)
    for source in sources:
        requests._order(source, (7, number), Kind.COMMAND, 0, b"")
    requests.propose(NOW)
    assert ordering.ordered == [number]
    proposal = Proposal(Kind.COMMAND, 7, number, 0, b"", 0)
    requests.executed([make_entry(1, 0, 0, proposal)], [b"done"])
    requests.executed([make_entry(1, 0, 0, proposal)], [b"done"])
    return told


def test_a_client_that_is_only_slowly_answered_hears_it_from_the_primary_itself_too() -> None:
    """It had others forward what it waits for. Were these alone answered, it would take the primary for cut off."""
    assert answered([CLIENT, 2, 3]) == [3, CLIENT, 2]


def test_whoever_asks_again_is_answered_once() -> None:
    assert answered([CLIENT, CLIENT, 2, CLIENT, 2, 3, CLIENT]) == [CLIENT, 2, 3]


def test_a_request_that_comes_from_more_and_more_sources_is_answered_to_some_of_them() -> None:
    assert len(answered(range(1, 1000))) == 9


def test_nobody_else_is_answered_for_what_an_earlier_primary_had_in_order() -> None:
    ordering, told, executor = Ordering(), Told(), Executor(Counter(), max_sessions=8, window=8)
    requests = Requests(cast("Core", ordering), Applied(executor), cast("Answers", told), Random(1), CLUSTER)
    ordering.log = [make_entry(1, 0, 0, Proposal(Kind.COMMAND, 7, 1, 0, b"", 0))]
    lead(ordering, requests, 2)
    requests._order(CLIENT, (7, 1), Kind.COMMAND, 0, b"")
    requests.executed(ordering.log, [b"done"])
    assert told == [CLIENT]


def test_who_waits_too_is_forgotten_with_the_view() -> None:
    ordering, requests, answers = member()
    lead(ordering, requests, 0)
    for source in (CLIENT, 2):
        requests._order(source, (7, 1), Kind.COMMAND, 0, b"")
    lead(ordering, requests, 2)
    requests._order(3, (7, 1), Kind.COMMAND, 0, b"")
    requests.executed([make_entry(1, 2, 0, Proposal(Kind.COMMAND, 7, 1, 0, b"", 0))], [b"done"])
    assert len(answers) == 1


def test_who_waits_too_for_what_found_no_room_is_forgotten_with_it() -> None:
    """Or the table would grow with each request that is refused."""
    ordering, requests, _ = member()
    lead(ordering, requests, 0)
    ordering.room = 0
    body = bytes(LIMITS.pipeline_bytes // 2 + 1)
    for number in range(1, 4):
        for source in (CLIENT, 2):
            requests._order(source, (7, number), Kind.COMMAND, 0, body)
    requests.propose(NOW)
    assert (requests.refused, list(requests._waiting_too)) == (2, [(7, 1)])
