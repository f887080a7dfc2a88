"""Client sessions against a model that forgets nothing and searches everything."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import (
    Executor,
    Outcome,
    Returned,
    Sessions,
    SnapshotError,
    StateMachine,
    Unknown,
    UnknownReason,
    command,
    decode_outcome,
    encode_outcome,
    encode_value,
)
from statemachine.executor import COMMAND, REGISTER
from statemachine.outcome import BEYOND_WINDOW_REPLY, STALE_REPLY
from tests.statemachine.driving import apply

SESSIONS, WINDOW, LARGE_BYTES = 3, 6, 500


class Tally(StateMachine):
    """Remembers each execution; its replies are sometimes large."""

    def __init__(self) -> None:
        self.executed: list[list[int]] = []

    @command
    def act(self, session: int, request: int, size: int) -> bytes:
        self.executed.append([session, request])
        return bytes([len(self.executed) % 256]) * size


class Step(NamedTuple):
    register: bool
    session: int  # an index into all sessions ever registered, from the newest back
    ahead: int  # the request, relative to the mark that the client says
    mark: int
    size: int


steps = st.builds(
    Step,
    register=st.integers(0, 9).map(lambda number: number == 0),
    session=st.integers(0, 4),
    ahead=st.integers(-2, WINDOW + 2),
    mark=st.integers(0, 12),
    size=st.sampled_from([0, 3, 100, 200]),
)


class Model:
    """What should happen, by the history alone."""

    def __init__(self) -> None:
        self.registered: list[int] = []
        self.used: dict[int, int] = {}
        self.marks: dict[int, int] = {}
        self.replies: dict[tuple[int, int], Outcome] = {}
        self.large: list[tuple[int, int, int]] = []
        self.executed: list[list[int]] = []

    def register(self, op: int) -> None:
        self.registered.append(op)
        self.used[op] = op
        self.marks[op] = 0
        while len(self.used) > SESSIONS:
            oldest = min(self.used, key=lambda session: self.used[session])
            del self.used[oldest]
            self.large = [item for item in self.large if item[0] != oldest]

    def apply(self, op: int, session: int, request: int, mark: int, size: int) -> Outcome:
        if session not in self.used:
            return Unknown(UnknownReason.EXPIRED)
        self.used[session] = op
        self.marks[session] = mark = max(mark, self.marks[session])
        self.large = [item for item in self.large if item[0] != session or item[1] > mark]
        if request <= mark:
            return Unknown(UnknownReason.STALE)
        if (session, request) in self.replies:
            return self.replies[session, request]
        if request > mark + WINDOW:
            return Unknown(UnknownReason.BEYOND_WINDOW)
        self.executed.append([session, request])
        outcome = Returned(bytes([len(self.executed) % 256]) * size)
        self.replies[session, request] = outcome
        length = len(encode_outcome(outcome))
        if length > 64:
            self.large.append((session, request, length))
        while sum(item[2] for item in self.large) > LARGE_BYTES:
            dropped = self.large.pop(0)
            self.replies[dropped[:2]] = Unknown(UnknownReason.REPLY_DROPPED)
        return outcome


def fresh() -> Executor:
    return Executor(Tally(), max_sessions=SESSIONS, window=WINDOW, max_reply_bytes=LARGE_BYTES)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=60), st.integers(0, 60))
def test_sessions_do_what_the_model_says_through_a_snapshot_anywhere(history: list[Step], cut: int) -> None:
    model = Model()
    executor, other = fresh(), fresh()
    entries: list[tuple[int, int, int, int, bytes]] = [(REGISTER, 0, 0, 0, b"")]
    model.register(1)
    apply(executor, 1, REGISTER, 0, 0, 0, 0, 0, b"")
    for op, step in enumerate(history, 2):
        if op - 2 == cut:
            successor = fresh()
            successor.restore(executor.snapshot())
            assert successor.state_digest() == executor.state_digest()
            executor = successor
        if step.register:
            model.register(op)
            entries.append((REGISTER, 0, 0, 0, b""))
            assert decode_outcome(apply(executor, op, *entries[-1][:4], 0, 0, b"")) == Returned(op)
            continue
        session = model.registered[max(0, len(model.registered) - 1 - step.session)]
        request = max(0, step.mark + step.ahead)
        body: bytes = Tally.act.bind(session, request, step.size)
        entries.append((COMMAND, session, request, step.mark, body))
        verdict = executor.answer(session, request, step.mark)
        expected = model.apply(op, session, request, step.mark, step.size)
        actual = apply(executor, op, *entries[-1][:4], 0, 0, body)
        assert decode_outcome(actual) == expected
        # What can be said beforehand is what the log would say: but for a mark of its own that would make it stale.
        assert verdict is None or verdict == actual or expected == Unknown(UnknownReason.STALE)
        assert verdict is not None or actual == executor.answer(session, request, step.mark) or step.size > 60
    machine = executor.machine
    assert isinstance(machine, Tally)
    assert machine.executed == model.executed
    assert len({tuple(pair) for pair in machine.executed}) == len(machine.executed)
    assert len(executor.sessions) == len(model.used)
    assert executor.sessions.reply_bytes == sum(item[2] for item in model.large) <= LARGE_BYTES
    for op, (kind, session, request, mark, body) in enumerate(entries, 1):
        apply(other, op, kind, session, request, mark, 0, 0, body)
    assert other.digest == executor.digest
    assert other.state_digest() == executor.state_digest()


def test_requests_of_one_session_are_executed_in_any_order() -> None:
    """Three are under way and arrive in another order: none is a duplicate because a later one was executed."""
    sessions = Sessions()
    sessions.register(1)
    for request in (3, 1, 2):
        assert sessions.lookup(1, request, 0) is None
        assert sessions.admit(1, request, 0) is None
        sessions.record(1, request, b"done")


def test_a_request_that_was_executed_gets_the_same_reply_again() -> None:
    """Each of them above the mark, however many came after it."""
    sessions = Sessions()
    sessions.register(1)
    for request in (1, 2, 3):
        assert sessions.admit(1, request, 0) is None
        sessions.record(1, request, b"%d" % request)
    for request in (1, 2, 3):
        assert sessions.lookup(1, request, 0) == b"%d" % request
        assert sessions.admit(1, request, 0) == b"%d" % request


def test_a_request_beyond_the_window_is_not_executed() -> None:
    """What a session remembers is bounded by its window."""
    sessions = Sessions(window=4)
    sessions.register(1)
    assert sessions.admit(1, 4, 0) is None
    assert sessions.lookup(1, 5, 0) == BEYOND_WINDOW_REPLY
    assert sessions.admit(1, 5, 0) is not None


def test_a_request_given_up_is_not_executed_when_it_arrives_late() -> None:
    sessions = Sessions()
    sessions.register(1)
    assert sessions.admit(1, 2, 1) is None
    late = sessions.admit(1, 1, 0)
    assert late is not None
    assert decode_outcome(late) == Unknown(UnknownReason.STALE)


def test_a_late_duplicate_does_not_lower_the_mark() -> None:
    sessions = Sessions(window=4)
    sessions.register(1)
    assert sessions.admit(1, 11, 10) is None
    sessions.record(1, 11, b"eleven")
    assert sessions.admit(1, 11, 0) == b"eleven"
    assert sessions.lookup(1, 10, 0) == STALE_REPLY


@pytest.mark.parametrize("mark", [1, 2, 3, 4])
def test_all_replies_up_to_the_mark_are_forgotten_and_no_other(mark: int) -> None:
    """One that stayed behind each jump of a mark would be kept for as long as its session."""
    sessions = Sessions()
    sessions.register(1)
    for request in range(1, 5):
        assert sessions.admit(1, request, 0) is None
        sessions.record(1, request, b"x" * 100)
    assert sessions.admit(1, 5, mark) is None
    assert sessions.reply_bytes == (4 - mark) * 100
    assert [sessions.lookup(1, request, 0) == STALE_REPLY for request in range(1, 5)] == [
        request <= mark for request in range(1, 5)
    ]


def test_a_mark_that_jumps_far_costs_no_more_than_what_is_recorded() -> None:
    sessions = Sessions()
    sessions.register(1)
    for request in range(1, 1001):
        assert sessions.admit(1, request, 0) is None
        sessions.record(1, request, b"x" * 100)
    assert sessions.admit(1, 2**63 + 1, 2**63) is None
    assert sessions.reply_bytes == 0


def test_an_expired_session_stays_expired() -> None:
    sessions = Sessions(max_sessions=2)
    for op in (1, 2, 3):
        sessions.register(op)
    assert 1 not in sessions
    for _ in range(2):
        reply = sessions.admit(1, 1, 0)
        assert reply is not None
        assert decode_outcome(reply) == Unknown(UnknownReason.EXPIRED)
    # Use, not age, decides who is next.
    assert sessions.admit(2, 1, 0) is None
    sessions.record(2, 1, b"")
    sessions.register(9)
    assert 2 in sessions
    assert 3 not in sessions


@pytest.mark.parametrize("bounds", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_bounds_must_make_sense(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Sessions(*bounds)


def test_a_large_reply_that_was_dropped_leaves_the_knowledge_that_it_was_executed() -> None:
    executor = fresh()
    apply(executor, 1, REGISTER, 0, 0, 0, 0, 0, b"")
    body = Tally.act.bind(1, 0, 200)
    for op in (2, 3, 4):
        apply(executor, op, COMMAND, 1, op, 0, 0, 0, body)
    assert executor.sessions.reply_bytes <= LARGE_BYTES
    again = apply(executor, 5, COMMAND, 1, 2, 0, 0, 0, body)
    assert decode_outcome(again) == Unknown(UnknownReason.REPLY_DROPPED)
    assert decode_outcome(apply(executor, 6, COMMAND, 1, 3, 0, 0, 0, body)) == Returned(bytes([2]) * 200)
    machine = executor.machine
    assert isinstance(machine, Tally)
    assert len(machine.executed) == 3


def test_the_order_of_use_survives_a_snapshot() -> None:
    sessions = Sessions(max_sessions=2)
    sessions.register(1)
    sessions.register(2)
    assert sessions.admit(1, 1, 0) is None
    sessions.record(1, 1, b"one")
    copy = Sessions(max_sessions=2)
    copy.restore(sessions.snapshot())
    for each in (sessions, copy):
        each.register(3)
        assert 1 in each
        assert 2 not in each
        assert each.lookup(1, 1, 0) == b"one"


def test_more_sessions_than_fit_a_page_survive_a_snapshot() -> None:
    sessions = Sessions(max_sessions=5000)
    for number in range(5000):
        sessions.register(number)
        assert sessions.admit(number, 3, 2) is None
        sessions.record(number, 3, b"reply" * (number % 50))
    copy = Sessions(max_sessions=5000)
    chunks = list(sessions.snapshot())
    assert 3 < len(chunks) < 100
    copy.restore(iter(chunks))
    assert list(copy.snapshot()) == chunks
    assert copy.lookup(4999, 3, 2) == b"reply" * 49


@pytest.mark.parametrize(
    "page",
    [7, [1], [1, 0], [1, 0, 1], [1, 0, 1, 1], [1, 0, 0, 2, 0, 0], [1, 0, 1, b"no number", b"reply"], [b"1", 0, 0], []],
)
def test_a_page_of_sessions_that_is_no_page_is_an_error(page: object) -> None:
    header = encode_value([1, WINDOW, 10, 1, 0])
    with pytest.raises(SnapshotError):
        Sessions(1, WINDOW, 10).restore(iter([header, encode_value(page)]))
