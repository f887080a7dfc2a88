"""Commands of several callers in one entry: none of them fares worse than alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    MAXIMUM_GATHERED,
    MAXIMUM_REPLY_BYTES,
    Counter,
    Executor,
    Listed,
    NotExecuted,
    NotExecutedReason,
    Outcome,
    Returned,
    ValueDecodingError,
    decode_command,
    decode_list,
    decode_outcome,
    encode_command,
    encode_gathered,
    encode_list,
    encode_outcome,
    encode_value,
)
from statemachine.executor import COMMAND
from statemachine.outcome import (
    EXPIRED_REPLY,
    MALFORMED_REPLY,
    NO_ROOM_REPLY,
    NOTHING_REPLY,
    REPLY_DROPPED_REPLY,
    encode_listed,
    encode_returned,
    is_cut,
    replies_of,
    what_is_left,
)
from statemachine.sessions import SMALL_REPLY_BYTES
from tests.statemachine.driving import agreed, apply, execute, opened
from tests.statemachine.machines import Restless

MALFORMED = NotExecuted(NotExecutedReason.MALFORMED)
NO_ROOM = NotExecuted(NotExecutedReason.NO_ROOM)

_LIST = encode_list([Restless.note.bind("in a list")])

commands = st.one_of(
    st.builds(Restless.note.bind, st.text(max_size=3)),
    st.builds(Restless.refuse.bind, st.text(max_size=3)),
    st.builds(Restless.fail.bind, st.text(max_size=3)),
    st.builds(Restless.fail_whole.bind, st.text(max_size=3)),
    st.builds(Restless.large.bind, st.sampled_from([10, 70_000, MAXIMUM_REPLY_BYTES - 6, MAXIMUM_REPLY_BYTES])),
    st.sampled_from([Restless.return_set.bind(), Restless.read.bind(), encode_command("unknown", []), b"", b"\xff"]),
    st.just(_LIST),
)


def outcomes(executor: Executor, bodies: list[bytes]) -> list[Outcome]:
    outcome = decode_outcome(execute(executor, encode_gathered(bodies)))
    assert isinstance(outcome, Listed)
    return list(outcome.outcomes)


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=MAXIMUM_GATHERED))
def test_gathered_commands_arrive_as_they_were(bodies: list[bytes]) -> None:
    body = encode_gathered(bodies)
    assert decode_list(body) == bodies
    with pytest.raises(ValueDecodingError):
        decode_command(body)


@pytest.mark.parametrize(
    "value",
    [[None], [None, "add"], [None, b"", 1], [None, [b""]], [None, None], [None, *[b""] * (MAXIMUM_GATHERED + 1)]],
)
def test_what_is_nearly_that_is_malformed(value: list[bytes | str | int | list[bytes] | None]) -> None:
    with pytest.raises(ValueDecodingError):
        decode_list(encode_value(value))
    assert decode_outcome(execute(opened(Restless()), encode_value(value))) == MALFORMED


@given(st.lists(commands, min_size=2, max_size=12), st.sampled_from([0, 300, 2000, 1 << 26]))
def test_each_has_the_result_that_it_would_have_alone_or_was_certainly_not_executed(
    bodies: list[bytes], max_reply_bytes: int
) -> None:
    together, alone = Restless(), Restless()
    gathered, singles = opened(together, max_reply_bytes), opened(alone, max_reply_bytes)
    results = outcomes(gathered, bodies)
    assert len(results) == len(bodies)
    executed = [body for body, result in zip(bodies, results, strict=True) if result != NO_ROOM]
    assert executed == bodies[: len(executed)]
    assert executed
    for body, result in zip(executed, results, strict=False):
        # A list among others is none: whoever has one sends it by itself.
        assert result == decode_outcome(execute(singles, b"" if body == _LIST else body))
    assert together.log == alone.log
    assert together.table == alone.table


def test_two_large_replies_do_not_take_each_others_room() -> None:
    """As parts of a list the second of them would be executed, and its result lost."""
    machine = Restless()
    executor = opened(machine)
    large = Restless.large.bind(MAXIMUM_REPLY_BYTES - 6)
    results = outcomes(executor, [large, large, Restless.note.bind("x")])
    assert results == [Returned(bytes(MAXIMUM_REPLY_BYTES - 6)), NO_ROOM, NO_ROOM]
    assert len(machine.log) == 1


def test_many_small_replies_have_room() -> None:
    machine = Counter()
    results = outcomes(opened(machine), [Counter.add.bind(1)] * MAXIMUM_GATHERED)
    assert results == [Returned(number) for number in range(1, MAXIMUM_GATHERED + 1)]


def test_a_duplicate_gets_the_recorded_reply() -> None:
    machine = Counter()
    executor = opened(machine)
    body = encode_gathered([Counter.add.bind(1)] * 3)
    reply = apply(executor, 2, COMMAND, 1, 1, 0, 0, 0, body)
    assert executor.answer(1, 1, 0) == reply
    assert apply(executor, 3, COMMAND, 1, 1, 0, 0, 0, body) == reply
    assert machine.value == 3


def test_tokens_grow_from_command_to_command_whatever_they_travelled_in() -> None:
    executor, place, tokens = opened(Restless()), Restless.place.bind(), list[int]()
    for body in (place, encode_gathered([place] * 3), place, encode_list([place, place]), place):
        outcome = decode_outcome(execute(executor, body))
        for each in outcome.outcomes if isinstance(outcome, Listed) else [outcome]:
            assert isinstance(each, Returned)
            assert isinstance(each.value, list)
            token = each.value[3]
            assert isinstance(token, int)
            tokens.append(token)
    assert len(tokens) == len(set(tokens)) == 8
    assert tokens == sorted(tokens)


def test_what_came_before_an_entry_does_not_change_its_tokens_and_random_numbers() -> None:
    """A member that began from a snapshot, or came back from its disk, has not executed what the others have."""
    place = Restless.place.bind()
    executor, other = opened(Restless()), Executor(Restless())
    for _ in range(3):
        execute(executor, encode_gathered([place] * 3))
    other.restore(executor.snapshot())
    for body in (place, encode_gathered([place] * 2), encode_list([place, place]), place):
        assert execute(executor, body) == execute(other, body)
    assert executor.digest == other.digest


def test_gathered_entries_between_others_in_one_turn() -> None:
    machine = Counter()
    executor = opened(machine)
    one = Counter.add.bind(1)
    bodies = [one, encode_gathered([one, one]), encode_list([one, one]), b"\xff", encode_gathered([one, b"\xff"]), one]
    replies = executor.apply([agreed(2 + n, COMMAND, 1, 1 + n, n, 0, 0, body) for n, body in enumerate(bodies)])
    plain = [decode_outcome(reply) for reply in replies]
    assert plain == [
        Returned(1),
        Listed([Returned(2), Returned(3)]),
        Listed([Returned(4), Returned(5)]),
        MALFORMED,
        Listed([Returned(6), MALFORMED]),
        Returned(7),
    ]


def test_what_befell_all_befell_each() -> None:
    assert replies_of(EXPIRED_REPLY, 3) == [EXPIRED_REPLY] * 3
    assert replies_of(MALFORMED_REPLY, 2) == [MALFORMED_REPLY] * 2


@pytest.mark.parametrize("value", [[b"\0\0"], [b"\0\0"] * 3, [b"\0\0", "text"], "text", None, {"a": b""}])
def test_a_reply_that_does_not_fit_the_request_is_refused(value: list[bytes | str] | str | None) -> None:
    reply = encode_outcome(Listed([]))[:1] + encode_value(value)
    with pytest.raises(ValueDecodingError):
        replies_of(reply, 2)


@given(st.integers(1, MAXIMUM_GATHERED), st.integers(0, MAXIMUM_GATHERED - 1))
def test_what_is_left_of_a_reply_still_says_who_was_not_executed(executed: int, without_room: int) -> None:
    count = executed + without_room
    reply = encode_listed([NOTHING_REPLY] * executed + [NO_ROOM_REPLY] * without_room)
    left = what_is_left(reply)
    assert is_cut(left)
    assert not is_cut(reply)
    assert len(left) <= SMALL_REPLY_BYTES  # it makes no room again
    assert replies_of(left, count) == [REPLY_DROPPED_REPLY] * executed + [NO_ROOM_REPLY] * without_room


@pytest.mark.parametrize(
    "reply", [encode_returned("a" * 100), encode_listed([encode_returned([3, 4])]), encode_returned(4), EXPIRED_REPLY]
)
def test_of_any_other_reply_nothing_is_left(reply: bytes) -> None:
    """The end of the second happens to be that of a command without room."""
    assert what_is_left(reply) == REPLY_DROPPED_REPLY


def test_a_retry_learns_what_was_not_executed_although_the_reply_made_room() -> None:
    machine = Restless()
    executor = opened(machine, max_reply_bytes=300)
    body = encode_gathered([Restless.large.bind(200), Restless.note.bind("x")])
    first = apply(executor, 2, COMMAND, 1, 1, 0, 0, 0, body)
    apply(executor, 3, COMMAND, 1, 2, 0, 0, 0, Restless.large.bind(250))
    for reply in (executor.answer(1, 1, 0), apply(executor, 4, COMMAND, 1, 1, 0, 0, 0, body)):
        assert reply is not None
        assert replies_of(reply, 2) == [REPLY_DROPPED_REPLY, NO_ROOM_REPLY]
    assert replies_of(first, 2) == [encode_returned(bytes(200)), NO_ROOM_REPLY]
    assert machine.log == ["200", "250"]


@pytest.mark.parametrize("number", [-1, 3, 1 << 40])
def test_what_is_left_of_another_request_is_refused(number: int) -> None:
    with pytest.raises(ValueDecodingError):
        replies_of(bytes([6]) + encode_value(number), 2)
