"""Calls that wait together travel together: how many, which, and what becomes of each."""

from __future__ import annotations

from pickle import dumps
from random import Random

import pytest

from statemachine import (
    Counter,
    Listed,
    NotExecuted,
    NotExecutedReason,
    Returned,
    Value,
    decode_list,
    encode_gathered,
    encode_list,
    encode_outcome,
    encode_value,
)
from statemachine.outcome import EXPIRED_REPLY
from viewstamp.client import Backlog, ClientSession
from viewstamp.client.pace import Sent
from viewstamp.cluster import Cluster
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.wire import NotPrimary, Register, Reply, Request

ADD = Counter.add.bind(1)


def opened(at_most: int = 1, *, primary: int = 1) -> ClientSession:
    """A session that is open, of member 1."""
    backlog = Backlog(lasts_ns=5 * MILLISECOND if at_most == 1 else 1 << 62, at_most=at_most)
    session = ClientSession((1, 2, 3), random=Random(1), window=1024, home=1, backlog=backlog)
    handle = session.call(ADD, 0)
    [(_, register)] = session.take_messages()
    assert isinstance(register, Register)
    session.abandon(handle)
    session.receive(1, Reply(0, register.nonce, 0, 77, b""), 1)
    session.receive(1, NotPrimary(primary), 1)
    return session


def requests(session: ClientSession) -> list[Request]:
    return [message for _, message in session.take_messages() if isinstance(message, Request)]


def commands(request: Request) -> list[bytes]:
    return [request.body] if request.body == ADD else decode_list(request.body)


def answer(session: ClientSession, request: Request, now: int, value: Value = 0) -> None:
    """As a counter would, or another machine."""
    outcome = encode_outcome(Returned(value))
    if request.body != ADD:
        outcome = encode_outcome(Listed([Returned(value) for _ in commands(request)]))
    session.receive(session.target, Reply(session.session, request.request, 0, 80, outcome), now)


def sizes_over(session: ClientSession, now: int, rounds: int, calls: int, lasts: int, value: Value = 0) -> list[int]:
    """So many calls at once, each round; all are answered after a while. The largest request of each round."""
    largest = []
    for _ in range(rounds):
        handles = {session.call(ADD, now) for _ in range(calls)}
        asked = requests(session)
        largest.append(max(len(commands(request)) for request in asked))
        now += lasts
        for request in asked:
            answer(session, request, now, value)
        assert {completion.handle for completion in session.take_completions()} == handles
    return largest


def test_what_is_answered_fast_travels_together_twice_as_many_each_time() -> None:
    assert sizes_over(opened(), 0, 8, 200, 5 * MILLISECOND) == [1, 2, 4, 8, 16, 32, 32, 32]


def test_commands_that_take_long_are_not_put_together() -> None:
    """A member does nothing else while it executes a request: not even send the heartbeats."""
    assert sizes_over(opened(), 0, 10, 20, 200 * MILLISECOND) == [1] * 10


def test_an_answer_that_takes_its_time_does_not_stop_what_is_put_together() -> None:
    """Four hundred in a hundred milliseconds are as many as twenty in five, though nothing comes in between."""
    assert sizes_over(opened(), 0, 8, 400, 100 * MILLISECOND)[-1] == 20


def test_a_service_that_is_slow_to_call_again_does_not_pause() -> None:
    """A thousand tasks are told in one turn; it takes 20 ms until all have called again."""
    session, now = opened(), 0
    for _ in range(8):
        for _ in range(1000):
            session.call(ADD, now)
            now += 20_000
        for request in requests(session):
            answer(session, request, now)
        largest = len(session.take_completions())
    for _ in range(1000):
        session.call(ADD, now)
    asked = requests(session)
    assert largest == 1000
    assert max(len(commands(request)) for request in asked) == 32


def test_a_pause_tells_nothing() -> None:
    session = opened()
    sizes_over(session, 0, 8, 200, 5 * MILLISECOND)
    assert sizes_over(session, 60 * SECOND, 1, 200, 5 * MILLISECOND) == [32]


def test_when_commands_become_slow_the_next_are_fewer() -> None:
    session = opened()
    sizes_over(session, 0, 8, 200, 5 * MILLISECOND)
    assert sizes_over(session, 40 * MILLISECOND, 3, 64, 64 * 10 * MILLISECOND) == [32, 1, 1]


def test_nothing_waits_for_others_to_come() -> None:
    session = opened(at_most=64)
    session.call(ADD, 5)
    assert [request.body for request in requests(session)] == [ADD]
    for _ in range(3):
        session.call(ADD, 5)
    assert [request.body for request in requests(session)] == [encode_gathered([ADD] * 3)]


def test_a_list_and_what_is_large_go_alone() -> None:
    session = opened(at_most=64)
    listed, large = encode_list([ADD, ADD]), bytes(2000)
    for body in (ADD, ADD, listed, ADD, large, large, ADD, ADD, ADD):
        session.call(body, 5, is_list=body is listed)
    assert [request.body for request in requests(session)] == [
        encode_gathered([ADD, ADD]),
        listed,
        ADD,
        large,
        large,
        encode_gathered([ADD] * 3),
    ]


def test_nothing_is_remembered_of_what_has_its_answer_or_was_given_up() -> None:
    """A service that calls lists for years is to take no more memory for it."""
    backlog, sizes = Backlog(), set[int]()
    for handle in range(1 << 20, (1 << 20) + 100):
        for each in (handle, -handle):
            backlog.add(each, encode_list([ADD, ADD]), 0, is_list=True)
        backlog.discard(-handle)
        backlog.begin(0, idle=True, at_home=False)
        handles, body = backlog.take()
        assert [*backlog.answered(Sent(handles, body, 0, 0), EXPIRED_REPLY, 0)] == [(handle, EXPIRED_REPLY)]
        sizes.add(len(dumps(backlog)))
    assert max(sizes) - min(sizes) < 16


@pytest.mark.parametrize("size", [1, 23, 24, 100, 255, 256, 400, 990, 1000])
def test_what_travels_together_fits_into_a_datagram(size: int) -> None:
    session = opened(at_most=64)
    for _ in range(100):
        session.call(bytes(size), 5)
    bodies = [request.body for request in requests(session)]
    assert all(len(body) <= 1000 for body in bodies)
    assert sum(1 if body == bytes(size) else len(decode_list(body)) for body in bodies) == 100


@pytest.mark.parametrize(
    ("datagram_bytes", "body_bytes", "length", "most"),
    [(1200, 1000, 400, 2), (512, 312, 100, 3), (32_768, 1000, 400, 28), (65_000, 1000, 2000, 28)],
)
def test_a_datagram_is_as_large_as_the_cluster_says(
    datagram_bytes: int, body_bytes: int, length: int, most: int
) -> None:
    addresses = [("127.0.0.1", 7401)]
    backlog = Backlog.of(Cluster.make("small", "vsr", addresses, datagram_bytes=datagram_bytes))
    for handle in range(1000):
        backlog.add(handle, bytes(30), 0, is_list=False)
    sizes = []
    for turn in range(1, 10):
        handles, body = backlog.take()
        assert len(body) <= body_bytes
        sizes.append(len(handles))
        for handle in range(1000):
            list(backlog.answered(Sent((handle,), b"", 0, 0), encode_outcome(Returned(bytes(length))), 1))
        backlog.begin(turn * 5 * MILLISECOND, idle=False, at_home=False)
    assert sizes[-1] == most


def test_a_small_cluster_takes_no_more_than_it_says() -> None:
    backlog = Backlog(40, at_most=64)
    for handle in range(10):
        backlog.add(handle, bytes(10), 0, is_list=False)
    while backlog:
        handles, body = backlog.take()
        assert len(handles) == 2
        assert len(body) <= 40


def test_what_had_no_room_is_asked_for_again_under_another_number_and_ends_once() -> None:
    session = opened(at_most=64)
    bodies = [Counter.add.bind(number) for number in range(5)]
    handles = [session.call(body, 5) for body in bodies]
    [first] = requests(session)
    no_room = NotExecuted(NotExecutedReason.NO_ROOM)
    outcome = encode_outcome(Listed([Returned(10), Returned(11), no_room, no_room, no_room]))
    for _ in range(2):  # the second is a duplicate, as after a retry
        session.receive(1, Reply(session.session, first.request, 0, 80, outcome), 6)
    done = session.take_completions()
    assert [(each.handle, each.outcome) for each in done] == [
        (handles[place], encode_outcome(Returned(10 + place))) for place in range(2)
    ]
    assert session.in_flight == 3
    asked = requests(session)
    assert [(request.request - first.request, request.body) for request in asked] == [*enumerate(bodies[2:], 1)]
    for request in asked:
        session.receive(1, Reply(session.session, request.request, 0, 81, encode_outcome(Returned(12))), 7)
    assert [each.handle for each in session.take_completions()] == handles[2:]
    assert session.in_flight == 0


def test_what_had_no_room_is_asked_for_before_what_was_called_later() -> None:
    """And never has none again: among sixty-four with long answers it could wait for sixty rounds."""
    session = opened(at_most=64)
    for number in range(3):
        session.call(Counter.add.bind(number), 5)
    [first] = requests(session)
    later = [session.call(ADD, 6) for _ in range(3)]
    session.abandon(later.pop())
    no_room = NotExecuted(NotExecutedReason.NO_ROOM)
    outcome = encode_outcome(Listed([Returned(10), no_room, no_room]))
    session.receive(1, Reply(session.session, first.request, 0, 80, outcome), 7)
    asked = [Counter.add.bind(1), Counter.add.bind(2), encode_gathered([ADD, ADD])]
    assert [request.body for request in requests(session)] == asked


@pytest.mark.parametrize(("length", "most"), [(10, 32), (30, 28), (100, 9), (400, 2), (2000, 1), (50_000, 1)])
def test_as_many_travel_together_as_have_answers_that_fit_into_a_datagram(length: int, most: int) -> None:
    """Alone each would fit into one, and all would arrive at once."""
    assert sizes_over(opened(primary=2), 0, 10, 1000, 5 * MILLISECOND, bytes(length))[-1] == most


def test_how_long_the_answer_to_a_list_is_tells_nothing_of_others() -> None:
    backlog = Backlog(at_most=64)
    for number in range(100):
        outcome = encode_outcome(Listed([Returned(0)] * 900))
        assert len(list(backlog.answered(Sent((number,), b"", 0, 0), outcome, 1))) == 1
    backlog.begin(5 * MILLISECOND, idle=False, at_home=False)
    for handle in range(100):
        backlog.add(handle, ADD, 0, is_list=False)
    assert len(backlog.take()[0]) == 32


@pytest.mark.parametrize(("length", "most"), [(400, 32), (2000, 32), (5000, 13), (50_000, 1)])
def test_answers_at_home_do_not_travel_and_only_need_room(length: int, most: int) -> None:
    assert sizes_over(opened(), 0, 10, 1000, 5 * MILLISECOND, bytes(length))[-1] == most


def test_what_befalls_a_request_befalls_each_of_its_calls() -> None:
    session = opened(at_most=64)
    handles = [session.call(ADD, 5) for _ in range(3)]
    [request] = requests(session)
    session.receive(1, Reply(session.session, request.request, 0, 80, EXPIRED_REPLY), 6)
    assert [(each.handle, each.outcome) for each in session.take_completions()] == [
        (handle, EXPIRED_REPLY) for handle in handles
    ]


def test_expiry_ends_each_call_of_what_was_sent_together() -> None:
    session = opened(at_most=64)
    handles = [session.call(ADD, 5) for _ in range(3)]
    session.take_messages()
    handles.append(session.call(ADD, 5))
    session.expire()
    assert [each.handle for each in session.take_completions()] == handles
    assert session.in_flight == 0


def test_a_reply_that_does_not_fit_ends_the_calls_and_nothing_else() -> None:
    """From a member of another version, say. Whoever decodes it hears that it cannot be read."""
    outcome = encode_outcome(Listed([]))[:1] + encode_value([b"\0\0"])
    backlog = Backlog()
    sent = Sent((4, 5), encode_gathered([ADD, ADD]), 0, 0)
    assert list(backlog.answered(sent, outcome, 1)) == [(4, b""), (5, b"")]


def test_a_call_given_up_before_it_was_sent_is_not_sent() -> None:
    session = opened(at_most=64)
    handles = [session.call(ADD, 5) for _ in range(3)]
    session.abandon(handles[1])
    [request] = requests(session)
    assert len(decode_list(request.body)) == 2
