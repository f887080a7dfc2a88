"""The client session: numbers, marks, windows, retries and redirects, without sockets or clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from statemachine import session_number
from viewstamp.client import ClientSession, Failure
from viewstamp.client.session import ClientMessage
from viewstamp.protocol import MILLISECOND, NEVER, SECOND
from viewstamp.wire import Forward, NotPrimary, Query, QueryReply, Register, Reply, Request


def opened(window: int = 8) -> tuple[ClientSession, int]:
    """A session that has registered with member 1; also the time."""
    session = ClientSession((1, 2, 3), random=Random(1), window=window, home=1)
    session.call(b"first", 0)
    (to, register), *rest = session.take_messages()
    assert to == 1
    assert isinstance(register, Register)
    assert not rest
    session.receive(1, Reply(0, register.nonce, 0, 77, b""), 1)
    return session, 1


def requests(messages: list[tuple[int, ClientMessage]]) -> list[tuple[int, int, int]]:
    return [(to, m.request, m.mark) for to, m in messages if isinstance(m, Request | Forward)]


def test_the_session_number_is_made_of_op_and_nonce_of_the_registration() -> None:
    session, _ = opened()
    assert session.session == session_number(77, session._nonce)
    assert requests(session.take_messages()) == [(1, 1, 0)]


def test_a_second_answer_to_the_registration_changes_nothing() -> None:
    session, _ = opened()
    session.take_messages()
    number = session.session
    session.receive(1, Reply(0, session._nonce, 0, 99, b""), 2)
    assert session.session == number


def test_a_reply_completes_its_call_once() -> None:
    session, now = opened()
    session.take_messages()
    handle = session.call(b"second", now)
    session.take_messages()
    reply = Reply(session.session, 2, 3, 80, b"done")
    session.receive(1, reply, now)
    session.receive(1, reply, now)
    assert [(c.handle, c.outcome, c.viewstamp) for c in session.take_completions()] == [(handle, b"done", (3, 80))]


def test_the_mark_rises_over_answered_requests_without_a_gap() -> None:
    session, now = opened()
    for body in (b"second", b"third"):
        session.call(body, now)
    session.take_messages()
    session.receive(1, Reply(session.session, 2, 0, 81, b""), now)
    session.call(b"fourth", now)
    assert requests(session.take_messages()) == [(1, 4, 0)]
    session.receive(1, Reply(session.session, 1, 0, 80, b""), now)
    session.call(b"fifth", now)
    assert requests(session.take_messages()) == [(1, 5, 2)]


def test_calls_beyond_the_window_wait() -> None:
    session, now = opened(window=2)
    handles = [session.call(b"more", now) for _ in range(3)]
    assert [number for _, number, _ in requests(session.take_messages())] == [1, 2]
    session.receive(1, Reply(session.session, 1, 0, 80, b""), now)
    assert [number for _, number, _ in requests(session.take_messages())] == [3]
    assert session.in_flight == 3
    assert handles == [handles[0], handles[0] + 1, handles[0] + 2]


def test_after_silence_a_request_is_sent_again_under_its_number_and_another_member_is_probed() -> None:
    session, now = opened()
    session.call(b"second", now)
    session.take_messages()
    session.tick(200 * MILLISECOND)
    assert requests(session.take_messages()) == [(1, 1, 0), (1, 2, 0), (2, 1, 0)]


def test_while_the_silence_lasts_probes_go_round_and_the_rest_waits() -> None:
    session, _ = opened()
    session.take_messages()
    session.tick(200 * MILLISECOND)
    assert requests(session.take_messages()) == [(1, 1, 0), (2, 1, 0)]
    probed: list[int] = []
    again = 0
    for _ in range(12):
        session.tick(session.deadline)
        sent = requests(session.take_messages())
        again += (1, 1, 0) in sent
        probed += [to for to, _, _ in sent if to != 1]
    assert probed == [3, 2] * 6
    assert 2 <= again <= 5


def test_a_target_that_sends_parts_of_something_large_is_not_silent() -> None:
    """It is asked again, for one of several requests may be lost, and no other is: for as long as there are parts."""
    session, _ = opened()
    session.take_messages()
    now, asked = 1, Counter[int]()
    for _ in range(20):
        now = session.deadline
        session.tick(now, now - MILLISECOND)
        asked.update(to for to, _, _ in requests(session.take_messages()))
    assert set(asked) == {1}
    assert asked[1] >= 10
    for _ in range(3):
        session.tick(session.deadline, now)
    assert {to for to, _, _ in requests(session.take_messages())} >= {1, 2}
    session.tick(session.deadline, session.deadline)  # it only paused
    assert {to for to, _, _ in requests(session.take_messages())} <= {1}


def test_a_probe_that_finds_the_primary_ends_the_doubt() -> None:
    session, _ = opened()
    session.take_messages()
    now = 200 * MILLISECOND
    session.tick(now)
    session.take_messages()
    session.receive(2, NotPrimary(3), now)
    assert requests(session.take_messages()) == [(3, 1, 0)]
    assert session.target == 3


def test_a_probe_that_the_primary_answers_turns_everything_to_it() -> None:
    """Its target is dead, and the probed member leads: it does not redirect the probe, it executes it.

    Were the target kept, each further call would wait for a silence and a probe of its own.
    """
    session, now = opened()
    session.call(b"second", now)
    session.call(b"third", now)
    session.take_messages()
    now = 200 * MILLISECOND
    session.tick(now)
    session.take_messages()
    session.receive(2, Reply(session.session, 1, 1, 90, b"done"), now)
    assert session.target == 2
    assert [(to, number) for to, number, _ in requests(session.take_messages())] == [(2, 2), (2, 3)]
    session.call(b"fourth", now)
    assert [(to, number) for to, number, _ in requests(session.take_messages())] == [(2, 4)]


def test_one_lost_request_is_sent_again_although_others_are_answered() -> None:
    session, now = opened(window=1000)
    session.take_messages()
    for step in range(1, 60):
        now = step * 10 * MILLISECOND
        session.call(b"next", now)
        sent = requests(session.take_messages())
        if step > 1 and any(number == 1 for _, number, _ in sent):
            break
        for _, number, _ in sent:
            session.receive(1, Reply(session.session, number, 0, 80, b""), now)
        if now >= session.deadline:
            session.tick(now)
            sent = requests(session.take_messages())
            if (1, 1, 0) in sent:
                break
    assert now <= 300 * MILLISECOND


def test_what_only_waits_its_turn_is_not_sent_again() -> None:
    """A cluster that needs a second for a thousand commands answers one a millisecond. Asked again every 100 ms for all
    that is left, it would have five times as much to do."""
    session, now = opened(window=1000)
    session.take_messages()
    session.receive(1, Reply(session.session, 1, 0, 80, b""), now)
    for _ in range(1000):
        session.call(b"next", now)
    sent = Counter(number for _, number, _ in requests(session.take_messages()))
    for number in range(2, 1002):
        now += MILLISECOND
        session.receive(1, Reply(session.session, number, 0, 80, b""), now)
        session.tick(now)
        sent.update(number for _, number, _ in requests(session.take_messages()))
    assert set(sent.values()) == {1}
    assert session.in_flight == 0


def test_what_a_younger_one_has_passed_is_sent_again_though_answers_are_slow() -> None:
    """A call every 5 ms; answers take longer and longer, up to 400 ms; request 40, sent at 195 ms, is lost."""
    session, _ = opened(window=1000)
    session.take_messages()
    session.receive(1, Reply(session.session, 1, 0, 80, b""), 1)
    lost, sent_at = 40, dict[int, list[int]]()
    for now_ms in range(5, 900, 5):
        now = now_ms * MILLISECOND
        session.call(b"next", now)
        session.tick(now)
        for _, number, _ in requests(session.take_messages()):
            sent_at.setdefault(number, []).append(now_ms)
        for number, (first_ms, *again) in sent_at.items():
            if first_ms + min(400, 20 * number) == now_ms and (number != lost or again):
                session.receive(1, Reply(session.session, number, 0, 80, b""), now)
    assert [number for number, times in sent_at.items() if len(times) > 1] == [lost]
    first_ms, again_ms = sent_at[lost][:2]
    assert first_ms + 400 < again_ms < first_ms + 600


def test_a_request_lost_after_a_long_outage_is_sent_again_soon() -> None:
    """The call before it took a minute. No younger call is answered, but reads are, so the member is not silent."""
    session, now = opened()
    session.take_messages()
    while now < 60 * SECOND:
        now = session.deadline
        session.tick(now)
        session.take_messages()
    session.receive(session.target, Reply(session.session, 1, 0, 80, b""), now)
    session.call(b"second", now)
    session.take_messages()  # lost
    lost_at = now
    sent: list[tuple[int, int, int]] = []
    while not sent:
        handle = session.query(b"read", now)
        now += 10 * MILLISECOND
        session.tick(now)
        sent = requests(session.take_messages())
        session.receive(session.target, QueryReply(handle, 0, 80, b""), now)
        assert now - lost_at < 300 * MILLISECOND
    assert sent == [(session.target, 2, 1)]


def test_what_a_primary_has_no_room_for_after_an_outage_is_asked_for_again_soon() -> None:
    """Of a hundred calls that have waited for four seconds it takes sixteen at a time; and it answers reads."""
    session, now = opened(window=1000)
    for _ in range(99):
        session.call(b"next", now)
    session.take_messages()
    while now < 4 * SECOND:
        now = session.deadline
        session.tick(now)
        session.take_messages()
    well_at = now
    while session.in_flight:
        handle = session.query(b"read", now)
        now += 5 * MILLISECOND
        session.tick(now)
        for to, number, _ in [sent for sent in requests(session.take_messages()) if sent[0] == session.target][:16]:
            session.receive(to, Reply(session.session, number, 0, 80, b""), now)
        session.receive(session.target, QueryReply(handle, 0, 80, b""), now)
        assert now - well_at < 2 * SECOND


def test_a_redirect_is_followed_once_and_at_once() -> None:
    session, now = opened()
    session.take_messages()
    session.receive(1, NotPrimary(3), now)
    assert requests(session.take_messages()) == [(3, 1, 0)]
    session.receive(1, NotPrimary(3), now)
    assert requests(session.take_messages()) == []


def test_after_a_redirect_that_was_followed_at_once_the_next_one_is_followed_as_soon() -> None:
    """The first that knew nobody was to be followed a moment later; it must not be taken to be coming still."""
    session, now = opened()
    session.take_messages()
    session.receive(1, NotPrimary(0), now)
    now = session.deadline - 1
    session.receive(1, NotPrimary(3 if session.target == 2 else 2), now)
    assert len(requests(session.take_messages())) == 1
    session.receive(session.target, NotPrimary(0), now)
    assert session.deadline <= now + 50 * MILLISECOND
    session.tick(session.deadline)
    assert [to for to, _, _ in requests(session.take_messages())] == [session.target]


def test_a_member_that_names_the_silent_one_changes_nothing() -> None:
    """A backup that has not noticed yet names the dead primary: no ping-pong between the two."""
    session, _ = opened()
    session.take_messages()
    now = 200 * MILLISECOND
    session.tick(now)
    session.take_messages()
    session.receive(2, NotPrimary(1), now)
    assert session.target == 1
    assert requests(session.take_messages()) == []


def test_two_members_that_name_each_other_are_not_asked_as_fast_as_they_answer() -> None:
    session, now = opened()
    session.take_messages()
    asked = 0
    named = {1: 2, 2: 1}
    while now < 1000 * MILLISECOND:
        session.receive(session.target, NotPrimary(named[session.target]), now)
        asked += len(requests(session.take_messages()))
        now += MILLISECOND
        if now >= session.deadline:
            session.tick(now)
            asked += len(requests(session.take_messages()))
    assert 10 < asked < 60


def test_an_abandoned_call_stays_tracked_until_answered() -> None:
    session, now = opened()
    session.take_messages()
    session.abandon(1)
    session.tick(200 * MILLISECOND)
    assert requests(session.take_messages()) == [(1, 1, 0), (2, 1, 0)]
    session.receive(2, Reply(session.session, 1, 0, 80, b""), now)
    session.call(b"next", now)
    assert requests(session.take_messages())[-1][2] == 1


def test_expiry_ends_everything_in_flight_and_no_new_session_is_opened_silently() -> None:
    session, now = opened()
    session.call(b"second", now)
    session.take_messages()
    session.expire()
    assert [c.failure for c in session.take_completions()] == [Failure.EXPIRED] * 2
    session.call(b"third", now)
    assert session.take_messages() == []
    assert [c.failure for c in session.take_completions()] == [Failure.NEVER_SENT]
    session.renew()
    session.call(b"fourth", now)
    assert [type(message) for _, message in session.take_messages()] == [Register]


def test_what_waited_for_room_in_the_window_is_known_to_be_unsent_when_the_session_expires() -> None:
    session, now = opened(window=2)
    handles = [session.call(b"%d" % number, now) for number in range(3)]
    session.take_messages()
    assert [session.waits(handle) for handle in handles] == [False, True, True]
    session.expire()
    failures = {completion.handle: completion.failure for completion in session.take_completions()}
    assert [failures[handle] for handle in handles] == [Failure.EXPIRED, Failure.NEVER_SENT, Failure.NEVER_SENT]


def test_the_answer_to_an_earlier_registration_opens_no_session() -> None:
    """That one has expired: whoever went on with it, its requests numbered from 1 again, would be told so for ever."""
    session, now = opened()
    first = session._nonce
    session.expire()
    session.renew()
    session.call(b"again", now)
    [register] = [message for _, message in session.take_messages() if isinstance(message, Register)]
    assert register.nonce != first
    session.receive(1, Reply(0, first, 0, 77, b""), now)
    assert not session.session
    session.receive(1, Reply(0, register.nonce, 0, 90, b""), now)
    assert session.session == session_number(90, register.nonce)


def test_the_answer_to_a_query_that_was_given_up_is_not_that_of_the_next() -> None:
    """It can be older than what whoever asks next has been told of."""
    session = ClientSession((1, 2, 3), random=Random(1), window=8, home=2)
    given_up = session.query(b"get", 0)
    session.abandon(given_up)
    asked = session.query(b"get", 1)
    session.receive(2, QueryReply(given_up, 1, 5, b"old"), 2)
    session.receive(2, QueryReply(asked, 1, 9, b"new"), 3)
    assert [(c.handle, c.outcome) for c in session.take_completions()] == [(asked, b"new")]


def test_the_answer_to_a_query_of_an_earlier_life_is_not_that_of_one_asked_since() -> None:
    """A member that was killed asks again under the same identity. Both lives' first queries are under way."""
    before, since = (ClientSession((1, 2, 3), random=Random(seed), window=8, home=1) for seed in (1, 2))
    before.query(b"get", 0)
    since.query(b"get", 0)
    [(_, asked)] = before.take_messages()
    assert isinstance(asked, Query)
    since.receive(2, QueryReply(asked.number, 0, 5, b"old"), 1)
    assert since.take_completions() == []
    assert since.in_flight == 1


def test_a_query_for_one_member_is_asked_of_that_one_again() -> None:
    session = ClientSession((1, 2, 3), random=Random(1), window=8, home=1)
    session.query(b"get", 0, member=3)
    for _ in range(10):
        session.tick(session.deadline)
    asked = [to for to, message in session.take_messages() if isinstance(message, Query)]
    assert len(asked) > 2
    assert set(asked) == {3}


def test_queries_go_home_and_complete_once() -> None:
    session = ClientSession((1, 2, 3), random=Random(1), window=8, home=2)
    handle = session.query(b"get", 0)
    assert session.take_messages() == [(2, Query(handle, b"get"))]
    session.receive(2, QueryReply(handle, 1, 5, b"v"), 1)
    session.receive(2, QueryReply(handle, 1, 5, b"v"), 1)
    assert len(session.take_completions()) == 1


def test_an_idle_session_wants_no_tick() -> None:
    session, now = opened()
    session.take_messages()
    session.receive(1, Reply(session.session, 1, 0, 80, b""), now)
    session.tick(session.deadline)
    assert session.deadline == NEVER
    assert session.in_flight == 0


def test_a_member_that_knows_no_primary_is_not_asked_for_ever() -> None:
    """It may be cut off from all others, or fetching a log for long, and answer at once each time."""
    session, now = opened()
    assert requests(session.take_messages()) == [(1, 1, 0)]
    session.receive(1, NotPrimary(0), now)
    session.tick(session.deadline)
    assert requests(session.take_messages()) == [(2, 1, 0)]


def test_members_that_send_a_client_round_among_themselves_do_not_keep_it() -> None:
    """Members 2 and 3 of 5 are cut off from the rest: 3 names 2 as the primary, which has given way."""
    session = ClientSession((1, 2, 3, 4, 5), random=Random(1), window=8, home=2)
    session.call(b"first", 0)
    asked: set[int] = set()
    for _ in range(12):
        asked.add(session.target)
        named = 2 if session.target == 3 else 0
        session.receive(session.target, NotPrimary(named), session.deadline)
        session.tick(session.deadline)
    assert asked == {1, 2, 3, 4, 5}


def far(members: tuple[int, ...] = (1, 2)) -> ClientSession:
    """A session of a client that takes member 1 for the primary."""
    session = ClientSession(members, random=Random(1), window=8)
    session._target.member = session._target.primary = 1
    session.call(b"first", 0)
    return session


def outlast(session: ClientSession) -> list[tuple[int, ClientMessage]]:
    """The primary is silent until others are asked to forward; what the session sends then."""
    for at in (150, 350):
        session.take_messages()
        session.tick(at * MILLISECOND)
    return session.take_messages()


def test_others_are_asked_to_forward_while_the_primary_is_silent_and_the_primary_itself_never() -> None:
    session = far()
    [(_, register)] = session.take_messages()
    assert isinstance(register, Register)
    session.receive(1, Reply(0, register.nonce, 0, 77, b""), 1)
    number = session.session
    first, second = (number, 1, 0, b"first"), (number, 2, 0, b"second")
    session.call(b"second", 1)
    assert outlast(session) == [(1, Request(*first)), (1, Request(*second)), (2, Forward(1, *first))]
    now = 350 * MILLISECOND
    session.receive(2, Reply(number, 1, 1, 90, b"done"), now)
    session.call(b"third", now)
    assert session.take_messages() == [
        (2, Forward(1, number, 2, 1, b"second")),
        (2, Forward(1, number, 3, 1, b"third")),
    ]
    session.call(b"fourth", now + SECOND)  # Once in a while a call tries the primary itself, and nothing but that one.
    assert session.take_messages() == [(1, Request(number, 4, 1, b"fourth"))]


def test_a_registration_is_forwarded_as_request_of_its_nonce_in_session_0() -> None:
    session = far()
    nonce = session._nonce
    assert outlast(session) == [(1, Register(nonce)), (2, Forward(1, 0, nonce, 0, b""))]
    session.receive(2, Reply(0, nonce, 0, 77, b""), 350 * MILLISECOND)
    assert session.session == session_number(77, nonce)
    assert session.take_messages() == [(2, Forward(1, session.session, 1, 0, b"first"))]


@pytest.mark.parametrize("primary", [1, 2])
def test_a_member_asks_itself_for_requests_and_nobody_to_forward_to_itself(primary: int) -> None:
    """To forward its own would be to send them the same way; but it may have executed them already. And what is slow
    because it is slow itself would only come back to it."""
    session = ClientSession((1, 2), random=Random(1), window=8, home=2)
    session.receive(2, NotPrimary(primary), 0)
    session.call(b"first", 0)
    sent = session.take_messages() + outlast(session)
    assert {to for to, _ in sent} == {1, 2}
    assert {type(message) for _, message in sent} == {Register}


@pytest.mark.parametrize("member", [0, 3])
def test_reads_elsewhere_that_are_answered_do_not_hide_that_the_target_is_silent(member: int) -> None:
    """The primary, member 1, has resigned and is gone. Who calls at member 3, or reads there, hears that one all the
    time, and what it calls would be sent to the dead one for as long as it reads."""
    session = ClientSession((1, 2, 3), random=Random(1), window=8, home=None if member else 3)
    session._target.member = session._target.primary = 1
    session.call(b"first", 0)
    [(_, register)] = session.take_messages()
    assert isinstance(register, Register)
    session.receive(1, Reply(0, register.nonce, 0, 77, b""), 0)
    assert requests(session.take_messages()) == [(1, 1, 0)]  # lost
    now, asked = 0, Counter[int]()
    while 2 not in asked:
        now += 5 * MILLISECOND
        handle = session.query(b"read", now, member)
        session.receive(3, QueryReply(handle, 0, 80, b""), now)
        session.tick(now)
        asked.update(to for to, _, _ in requests(session.take_messages()))
        assert now < 300 * MILLISECOND


def without_primary(calls: int, duration: int, named: Callable[[int], int]) -> tuple[ClientSession, int, Counter[int]]:
    """A session whose members all live and answer each request at once, `named(member)` as whom they take for the
    primary; the time after that, and how often each request was sent."""
    session, now = opened(window=calls + 1)
    for _ in range(calls - 1):
        session.call(b"next", now)
    session.take_messages()
    sent = Counter[int]()
    session.receive(session.target, NotPrimary(named(session.target)), now)
    while now < duration:
        asked = requests(session.take_messages())
        sent.update(number for _, number, _ in asked)
        for to in {to for to, _, _ in asked}:
            session.receive(to, NotPrimary(named(to)), now)
        now += MILLISECOND
        session.tick(now)
    return session, now, sent


@pytest.mark.parametrize(
    "named", [lambda member: 0, lambda member: member % 3 + 1, lambda member: (0, 2, 1, 0)[member]]
)
def test_members_that_know_of_no_primary_are_asked_for_one_call_of_many(named: Callable[[int], int]) -> None:
    """They answer at once. A hundred calls asked again each time were four thousand requests a second."""
    _, _, sent = without_primary(100, 10 * SECOND, named)
    assert 100 < sent[1] < 600
    assert all(10 <= sent[number] <= 14 for number in range(2, 101))


def test_the_first_answer_of_a_primary_brings_it_all_the_others() -> None:
    session, now, _ = without_primary(100, 950 * MILLISECOND, lambda member: 0)
    sent: list[tuple[int, int, int]] = []
    while not sent:
        now += MILLISECOND
        session.tick(now)
        sent = requests(session.take_messages())
    assert [number for _, number, _ in sent] == [1]
    session.receive(session.target, Reply(session.session, 1, 1, 80, b""), now)
    assert [number for _, number, _ in requests(session.take_messages())] == list(range(2, 101))
    session.tick(now + 60 * MILLISECOND)
    assert requests(session.take_messages()) == []


def test_the_one_question_that_a_new_primary_is_asked_can_be_lost() -> None:
    """Everything was sent lately: the next time for that is half a second away."""
    session, now, _ = without_primary(100, 950 * MILLISECOND, lambda member: 0)
    session.take_messages()
    session.receive(session.target, NotPrimary(session.target % 3 + 1), now)
    primary, lost_at = session.target, now
    assert [(to, number) for to, number, _ in requests(session.take_messages())] == [(primary, 1)]
    again: list[int] = []
    while not again:
        now += MILLISECOND
        session.tick(now)
        again = [to for to, _, _ in requests(session.take_messages()) if to == primary]
    assert now - lost_at < 150 * MILLISECOND


def test_a_new_primary_that_was_not_ready_for_what_it_was_sent_is_asked_again_soon() -> None:
    """Everything is sent to it once, shortly before it takes requests; the pause after that is the second which an
    outage has made of it. Whatever became of that, an answer to one question has it all sent again."""
    for length in range(3000, 5000, 50):
        session, now, _ = without_primary(20, length * MILLISECOND, lambda member: 0)
        session.take_messages()
        session.receive(session.target, NotPrimary(session.target % 3 + 1), now)
        primary, ready_at = session.target, now + 400 * MILLISECOND
        sent = Counter[int]()
        while session.in_flight:
            for to, number, _ in requests(session.take_messages()):
                sent[number] += 1
                if to == primary and now >= ready_at:
                    session.receive(primary, Reply(session.session, number, 1, 80, b""), now)
                elif to != primary:
                    session.receive(to, NotPrimary(primary), now)
            now += MILLISECOND
            session.tick(now)
            assert now < ready_at + 300 * MILLISECOND
        assert all(sent[number] <= 3 for number in range(2, 21))


def test_a_new_primary_that_is_only_slow_is_sent_everything_once_more_at_most() -> None:
    session, now, _ = without_primary(20, 3 * SECOND, lambda member: 0)
    session.take_messages()
    session.receive(session.target, NotPrimary(session.target % 3 + 1), now)
    ready_at = now + 400 * MILLISECOND
    sent, taken = Counter[int](), set[int]()
    while session.in_flight:
        for to, number, _ in requests(session.take_messages()):
            sent[number] += 1
            if to == session.target:
                taken.add(number)
        now += MILLISECOND
        session.tick(now)
        if now >= ready_at and taken:
            session.receive(session.target, Reply(session.session, taken.pop(), 1, 80, b""), now)
    assert max(sent[number] for number in range(2, 21)) <= 2


def test_ten_thousand_callers_that_go_away_at_once_do_not_hold_the_loop() -> None:
    """A nursery with as many calls is cancelled: each was looked for from the beginning, for seconds in all, while
    the member whose session it was sent no heartbeat."""
    session, now = opened(window=8)
    session.take_messages()
    handles = [session.call(b"body", now) for _ in range(20_000)]
    session.take_messages()
    Random(2).shuffle(handles)
    for handle in handles:
        session.abandon(handle)
    assert session.in_flight == 8


def _answer_all(
    session: ClientSession, asked: list[ClientMessage], check: Callable[[], None], now: int, op: int
) -> None:
    """From here on nothing is lost: all of it comes to an end."""
    for _ in range(400):
        now += 300 * MILLISECOND
        session.tick(now)
        before = len(asked)
        check()
        for message in asked[before:]:
            op += 1
            if isinstance(message, Register):
                session.receive(session.target, Reply(0, message.nonce, 0, op, b""), now)
            elif isinstance(message, Request):
                session.receive(session.target, Reply(message.session, message.request, 0, op, message.body), now)
        check()


@pytest.mark.parametrize("seed", range(40))
def test_each_call_is_over_once_in_whatever_order(seed: int) -> None:
    """Calls, callers that go away, lost, doubled and late answers, expiry and renewal, in any order: a call that was
    not abandoned is over exactly once, requests of one session go out in the order of their calls, each with one
    body, and within the window that the cluster has."""
    random = Random(seed)
    window = random.choice((1, 2, 5))
    session = ClientSession((1, 2, 3), random=random, window=window, home=random.choice((None, 1)))
    asked: list[ClientMessage] = []
    over: Counter[int] = Counter()
    abandoned: set[int] = set()
    bodies: dict[int, bytes] = {}
    sent: dict[tuple[int, int], bytes] = {}
    waiting: list[int] = []
    now = op = 0

    def check() -> None:
        for _, message in session.take_messages():
            asked.append(message)
            if isinstance(message, Request):
                key = message.session, message.request
                assert sent.setdefault(key, message.body) == message.body
                assert message.mark < message.request <= message.mark + window
        for completion in session.take_completions():
            over[completion.handle] += 1
            if completion.failure is None:
                assert completion.outcome == bodies[completion.handle]

    for _ in range(600):
        now += random.randrange(60 * MILLISECOND)
        match random.choice(("call", "call", "abandon", "answer", "answer", "answer", "tick", "redirect", "expire")):
            case "call":
                body = b"%d" % len(bodies)
                handle = session.call(body, now)
                bodies[handle] = body
                waiting.append(handle)
            case "abandon" if waiting:
                handle = random.choice(waiting)
                session.abandon(handle)
                abandoned.add(handle)
            case "answer" if asked:
                match random.choice(asked[-12:]):  # Kept: it may be answered again, much later.
                    case Register(nonce):
                        op += 1
                        session.receive(random.randint(1, 3), Reply(0, nonce, 0, op, b""), now)
                    case Request(number, request, _, body):
                        session.receive(random.randint(1, 3), Reply(number, request, 0, op, body), now)
            case "tick":
                session.tick(now)
            case "redirect":
                session.receive(random.randint(1, 3), NotPrimary(random.randint(0, 3)), now)
            case "expire" if session.session and random.random() < 0.2:
                session.expire()
                session.renew()
        check()
    _answer_all(session, asked, check, now, op)
    assert not session.in_flight
    assert all(over[handle] == 1 for handle in bodies if handle not in abandoned)
    assert all(over[handle] <= 1 for handle in bodies)
    for number in {number for number, _ in sent}:
        order = [int(body) for (of, _), body in sorted(sent.items()) if of == number]
        assert order == sorted(order)
