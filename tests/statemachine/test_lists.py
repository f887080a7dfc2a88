"""Lists of commands: their encoding, and what an executor makes of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    MAXIMUM_COMMANDS,
    MAXIMUM_REPLY_BYTES,
    CommandTooLargeError,
    Counter,
    Executor,
    Failed,
    KeyValueStore,
    Listed,
    NotExecuted,
    NotExecutedReason,
    Outcome,
    Raised,
    Returned,
    StateMachine,
    Value,
    ValueDecodingError,
    command,
    decode_command,
    decode_list,
    decode_outcome,
    decode_value,
    encode_list,
    encode_outcome,
    encode_value,
)
from statemachine.executor import COMMAND
from statemachine.values import decode_each
from tests.statemachine import driving
from tests.statemachine.driving import agreed, apply, opened
from tests.statemachine.machines import Restless
from tests.statemachine.test_values import values

MALFORMED = NotExecuted(NotExecutedReason.MALFORMED)
UNKNOWN = NotExecuted(NotExecutedReason.UNKNOWN_COMMAND)

plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
plain_encodings = (plain | st.lists(plain)).map(encode_value)
commands = st.builds(Restless.note.bind, st.text()) | values.map(lambda value: encode_value(["note", value]))
bodies = commands | st.lists(commands, min_size=1).map(encode_list) | values.map(encode_value) | st.binary(max_size=4)


class Keeper(StateMachine):
    """Returns much, and takes it back if it is atomic."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    @command
    def large(self, size: int) -> bytes:
        self.kept.append(size)
        return bytes(size)

    @command(atomic=True)
    def large_whole(self, size: int) -> bytes:
        self.kept.append(size)
        return bytes(size)


def execute(executor: Executor, body: bytes) -> Outcome:
    return decode_outcome(driving.execute(executor, body))


def run(machine: StateMachine, *commands: bytes) -> Outcome:
    return execute(opened(machine), encode_list(commands))


@given(st.lists(st.binary(max_size=10), min_size=1))
def test_a_list_arrives_as_it_was(commands: list[bytes]) -> None:
    body = encode_list(commands)
    assert decode_list(body) == commands
    with pytest.raises(ValueDecodingError):
        decode_command(body)


@pytest.mark.parametrize("value", [[], [["add", 1]], [b"", 1], [b"", "add"], [1, b""], b"", {}, ["add", 1]])
def test_other_values_are_no_lists_of_commands(value: Value) -> None:
    with pytest.raises(ValueDecodingError):
        decode_list(encode_value(value))


def test_a_list_is_bounded_in_bytes_and_in_commands() -> None:
    one = Counter.add.bind(1)
    with pytest.raises(CommandTooLargeError, match="a list of 20 commands of 141 bytes together"):
        encode_list([one] * 20, 140)
    assert len(encode_list([one] * 20, 141)) == 141
    with pytest.raises(CommandTooLargeError, match="at most 65536 commands"):
        encode_list([b""] * (MAXIMUM_COMMANDS + 1))
    outcome = execute(opened(Counter()), encode_value([b""] * (MAXIMUM_COMMANDS + 1)))
    assert outcome == MALFORMED


@given(st.lists(plain_encodings | values.map(encode_value) | st.binary(max_size=4), max_size=8))
def test_decoding_many_at_once_finds_what_decoding_each_does(encodings: list[bytes]) -> None:
    together = decode_each(encodings)
    if together is not None:
        assert together == [decode_value(encoding) for encoding in encodings]
        assert [encode_value(value) for value in together] == encodings


@given(st.lists(plain_encodings | values.map(encode_value), max_size=30))
def test_values_are_decoded_at_once(encodings: list[bytes]) -> None:
    assert decode_each(encodings) == [decode_value(encoding) for encoding in encodings]


def test_long_values_are_not_put_together() -> None:
    """What that saves of a long one is nothing, and its bytes would be in memory twice."""
    long = encode_value(bytes(600_000))
    assert decode_each([long]) == [bytes(600_000)]
    assert decode_each([long, long]) is None


@given(st.lists(bodies, max_size=8))
def test_entries_that_are_applied_together_come_to_what_each_does(bodies: list[bytes]) -> None:
    together, one_by_one = opened(Restless()), opened(Restless())
    entries = [agreed(op, COMMAND, 1, op, op - 1, 1000 + op, 77, body) for op, body in enumerate(bodies, 2)]
    assert together.apply(entries) == [reply for entry in entries for reply in one_by_one.apply([entry])]
    assert together.state_digest() == one_by_one.state_digest()


@given(st.lists(plain_encodings, min_size=1, max_size=5), st.data())
def test_borders_in_other_places_are_seen(encodings: list[bytes], data: st.DataObject) -> None:
    """Cut the same bytes elsewhere: whatever pieces that gives, each must be a value by itself."""
    whole = b"".join(encodings)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    together = decode_each(pieces)
    if together is not None:
        assert [encode_value(value) for value in together] == pieces


def test_commands_run_in_order_within_one_entry_whatever_becomes_of_others() -> None:
    machine = Restless()
    executor = opened(machine)
    commands = [
        Restless.note.bind("a"),
        Restless.refuse.bind("b"),
        b"",
        encode_value(["unheard of"]),
        encode_list([Restless.note.bind("x")]),
        encode_value(["note"]),
        encode_value(["read"]),
        Restless.fail.bind("c"),
        Restless.fail_whole.bind("d"),
        Restless.note.bind("e", 2),
    ]
    outcome = execute(executor, encode_list(commands))
    assert outcome == Listed(
        [
            Returned(1),
            Raised("RefusedError", {"reason": "b", "limits": [1, 2]}),
            MALFORMED,
            UNKNOWN,
            MALFORMED,
            NotExecuted(NotExecutedReason.WRONG_ARGUMENTS),
            UNKNOWN,
            Failed("KeyError"),
            Failed("KeyError"),
            Returned(5),
        ]
    )
    assert machine.log == ["a", "b", "c", "e", "e"]
    assert machine.table == {}
    assert executor.applied == 2


def test_commands_of_a_list_share_the_place_of_their_entry_and_have_token_and_randomness_of_their_own() -> None:
    place = Restless.place.bind()
    outcome = run(Restless(), place, place, place)
    assert isinstance(outcome, Listed)
    places = [member.value for member in outcome.outcomes if isinstance(member, Returned)]
    entry, tokens, seeds, numbers = [], [], [], []
    for each in places:
        assert isinstance(each, list)
        *shared, token, seed, number = each
        entry.append(shared)
        tokens.append(token)
        seeds.append(seed)
        numbers.append(number)
    assert entry == [[2, 1, 1002]] * 3
    assert tokens == [(2 << 16) + position for position in range(3)]
    assert seeds[0] == 77
    assert len(set(seeds)) == len(set(numbers)) == 3
    assert all(isinstance(seed, int) and 0 <= seed < 1 << 64 for seed in seeds)
    assert run(Restless(), place, place, place) == outcome
    assert run(Restless(), place) == Listed([Returned(places[0])])


def test_a_duplicate_of_a_list_gets_the_recorded_reply() -> None:
    machine = Counter()
    executor = opened(machine)
    body = encode_list([Counter.add.bind(1)] * 100)
    reply = apply(executor, 2, COMMAND, 1, 1, 0, 0, 0, body)
    assert executor.answer(1, 1, 0) == reply
    assert apply(executor, 3, COMMAND, 1, 1, 0, 0, 0, body) == reply
    assert decode_outcome(reply) == Listed([Returned(number) for number in range(1, 101)])
    assert machine.value == 100


def test_a_query_is_no_list() -> None:
    executor = opened(Restless())
    assert decode_outcome(executor.query(encode_list([Restless.read.bind()]))) == MALFORMED


def test_replies_together_are_as_long_as_one_may_be_and_an_atomic_command_without_room_is_undone() -> None:
    machine = Keeper()
    size = MAXIMUM_REPLY_BYTES // 2
    bodies = [Keeper.large.bind(size), Keeper.large.bind(size), Keeper.large_whole.bind(size), Keeper.large.bind(100)]
    outcome = run(machine, *bodies)
    large = Failed("ReplyTooLargeError")
    assert outcome == Listed([Returned(bytes(size)), large, large, Returned(bytes(100))])
    assert machine.kept == [size, size, 100]


def test_many_replies_have_together_the_room_of_one() -> None:
    """What is kept back for each is its own: what it takes beyond that, and no more, it takes from the others."""
    reply_bytes = 1 + 3 + 1000
    count = MAXIMUM_REPLY_BYTES // (reply_bytes + 5)
    outcome = run(Restless(), *[Restless.large.bind(1000)] * count)
    assert outcome == Listed([Returned(bytes(1000))] * count)


@pytest.mark.parametrize("body", [Restless.note.bind("x"), Restless.refuse.bind("r" * 9), Restless.return_set.bind()])
def test_the_longest_list_has_a_reply_within_the_bound(body: bytes) -> None:
    executor = opened(Restless())
    begin = encode_list([Restless.large.bind(MAXIMUM_REPLY_BYTES - 100), *[body] * (MAXIMUM_COMMANDS - 1)], 1 << 24)
    outcome = execute(executor, begin)
    assert isinstance(outcome, Listed)
    assert len(outcome.outcomes) == MAXIMUM_COMMANDS
    assert outcome.outcomes[0] == Failed("ReplyTooLargeError")
    assert len(encode_outcome(outcome)) <= MAXIMUM_REPLY_BYTES


@given(
    st.lists(st.sampled_from(["add", "put"]), min_size=1, max_size=6), st.dictionaries(st.text(), values, max_size=2)
)
def test_values_that_are_not_plain_travel_in_lists(kinds: list[str], value: dict[str, Value]) -> None:
    commands = [KeyValueStore.put.bind("key", value) if kind == "put" else Counter.add.bind(1) for kind in kinds]
    outcome = run(KeyValueStore(), *commands)
    assert isinstance(outcome, Listed)
    for kind, member in zip(kinds, outcome.outcomes, strict=True):
        assert isinstance(member, Returned) if kind == "put" else member == UNKNOWN


def test_a_list_costs_less_than_its_commands_one_by_one() -> None:
    count = 1000
    one = Counter.add.bind(1)
    singles, listed = opened(Counter()), opened(Counter())

    def cost_ns(executor: Executor, bodies: list[bytes]) -> int:
        best = 1 << 62
        for _ in range(5):
            began = time.thread_time_ns()
            for body in bodies:
                execute(executor, body)
            best = min(best, time.thread_time_ns() - began)
        return best

    assert cost_ns(listed, [encode_list([one] * count)]) < cost_ns(singles, [one] * count)
