from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    MAXIMUM_COMMAND_BYTES,
    Command,
    CommandTooLargeError,
    Counter,
    DefinitionError,
    KeyValueStore,
    NoContextError,
    Query,
    StateMachine,
    Value,
    ValueDecodingError,
    ValueEncodingError,
    Versioned,
    command,
    commands_of,
    decode_command,
    encode_value,
    queries_of,
    query,
)
from statemachine.counter import OutOfRangeError
from tests.statemachine.machines import Restless

P = ParamSpec("P")
R = TypeVar("R")


def call(command: Command[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
    """How a replica's `call` is typed; only looked at by mypy, which checks the tests too."""
    command.bind(*args, **kwargs)

    def result() -> R:
        raise NotImplementedError

    return result


def test_types_carry_parameters_and_result() -> None:
    assert_type(call(Counter.add, 5), Callable[[], int])
    assert_type(call(Counter.add, amount=5), Callable[[], int])
    assert_type(Counter().add(5), int)
    assert_type(KeyValueStore().get("key"), Versioned | None)
    assert_type(call(Restless.fail_whole, "text"), Callable[[], None])
    assert isinstance(Counter.add, Command)
    assert isinstance(Counter.get, Query)
    # With warn_unused_ignores these two fail if they should ever type-check.
    with pytest.raises(TypeError, match="add: too many positional arguments"):
        call(Counter.add, 5, 6)  # type: ignore[call-arg]  # the point of the test
    call(Counter.add, "five")  # type: ignore[arg-type]  # the point of the test


def test_empty_brackets_change_nothing() -> None:
    class Till(StateMachine):
        @command()
        def pay(self, amount: int) -> int:
            return -amount

    assert_type(call(Till.pay, 5), Callable[[], int])
    assert Till().pay(5) == -5
    assert not Till.pay.atomic


def test_an_instance_has_the_plain_method() -> None:
    counter = Counter()
    assert counter.add(2) == 2
    assert counter.get() == 2
    assert Counter.add.name == "add"
    assert "add" in repr(Counter.add)


def test_keywords_become_positions_at_the_caller() -> None:
    assert decode_command(Restless.note.bind("a")) == ("note", ["a"])
    assert decode_command(Restless.note.bind("a", 2)) == ("note", ["a", 2])
    assert decode_command(Restless.note.bind(times=2, text="a")) == ("note", ["a", 2])
    assert decode_command(Restless.note.bind(text="a")) == ("note", ["a", 1])
    assert decode_command(Restless.many.bind("a", "b")) == ("many", ["a", "b"])
    with pytest.raises(TypeError, match="note: missing a required argument: 'text'"):
        Restless.note.bind()  # type: ignore[call-arg]  # the point of the test


def test_an_argument_that_cannot_travel_is_named() -> None:
    with pytest.raises(ValueEncodingError, match=r"put: argument 2\[0\]: a set"):
        KeyValueStore.put.bind("key", [{1}])  # type: ignore[list-item]  # the point of the test


def test_a_command_too_large_is_refused_at_the_caller() -> None:
    KeyValueStore.put.bind("key", bytes(MAXIMUM_COMMAND_BYTES - 100))
    with pytest.raises(CommandTooLargeError, match="put with its arguments is"):
        KeyValueStore.put.bind("key", bytes(MAXIMUM_COMMAND_BYTES))


@given(st.binary(max_size=30))
def test_any_bytes_are_a_command_or_refused(body: bytes) -> None:
    try:
        name, arguments = decode_command(body)
    except ValueDecodingError:
        return
    assert encode_value([name, *arguments]) == body


@pytest.mark.parametrize("value", [[], [1], "add", [["add", 1], ["add", 2]], {}, [None]])
def test_other_values_are_no_commands(value: Value) -> None:
    with pytest.raises(ValueDecodingError):
        decode_command(encode_value(value))


def test_commands_are_found_by_name_inherited_ones_too() -> None:
    class More(Counter):
        @command
        def add(self, amount: int) -> int:
            return amount

        @command
        def reset(self) -> None:
            self.value = 0

    assert set(commands_of(More)) == {"add", "reset"}
    assert commands_of(More)["add"] is More.add
    assert set(queries_of(More)) == {"get"}


def test_names_that_are_taken_private_or_hidden_are_refused_at_the_definition() -> None:
    with pytest.raises(DefinitionError, match="act is defined twice, and the first is a command"):

        class Twice(StateMachine):
            @command
            def act(self) -> None: ...
            @query  # type: ignore[no-redef]  # the point of the test
            def act(self) -> None: ...  # noqa: F811  # the point of the test

    with pytest.raises(DefinitionError, match=r"Private\._act: a command .* cannot be private"):

        class Private(StateMachine):
            @command
            def _act(self) -> None: ...

    with pytest.raises(DefinitionError, match="this name means something else"):

        class Reserved(StateMachine):
            @query
            def snapshot(self) -> bytes:
                return b""

    with pytest.raises(DefinitionError, match="is command act under a second name"):

        class Alias(StateMachine):
            @command
            def act(self) -> None: ...

            again = act

    with pytest.raises(DefinitionError, match=r"Hiding\.get: hides the inherited query"):

        class Hiding(Counter):
            get = 1  # type: ignore[assignment]  # the point of the test


@pytest.mark.parametrize("listed", [OutOfRangeError, (OutOfRangeError, ValueError), (OutOfRangeError(1),), None, 7])
def test_errors_that_are_no_tuple_of_command_errors_are_refused_at_the_definition(listed: object) -> None:
    """Else the caller of a command that raised one gets a TypeError, as if it had not been executed."""
    with pytest.raises(DefinitionError, match=r"Machine\.errors: a tuple of CommandError classes is wanted, not "):

        class Machine(StateMachine):
            errors = listed  # type: ignore[assignment]  # the point of the test


def test_methods_that_cannot_be_called_from_afar_are_refused() -> None:
    async def waits(self: object) -> None: ...
    def keyword(self: object, *, word: int) -> None: ...
    def keywords(self: object, **words: int) -> None: ...
    def selfless() -> None: ...

    for function, words in [
        (waits, "must be a plain function"),
        (keyword, "arguments travel by position"),
        (keywords, "arguments travel by position"),
        (selfless, "first parameter must be self"),
    ]:
        with pytest.raises(DefinitionError, match=words):
            command(function)  # type: ignore[call-overload]  # functions of several shapes


def test_the_context_answers_only_while_a_command_runs() -> None:
    machine = Restless()
    with pytest.raises(NoContextError):
        machine.place()
    machine.context.begin(op=7, session=3, time_ns=1_700_000_000_123_456_789, seed=9)
    assert machine.place()[:5] == [7, 3, 1_700_000_000_123_456_789, 7 << 16, 9]
    assert machine.context.time.isoformat() == "2023-11-14T22:13:20.123456+00:00"
    assert machine.context.random is machine.context.random
    machine.context.go_on()
    assert machine.context.op == 7
    assert machine.context.token == (7 << 16) + 1
    assert machine.context.seed != 9
    machine.context.end()
    with pytest.raises(NoContextError):
        machine.context.time  # noqa: B018  # it raises
