from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    CommandError,
    CommandFailedError,
    Counter,
    Failed,
    Listed,
    NotExecuted,
    NotExecutedError,
    NotExecutedReason,
    Outcome,
    OutcomeUnknownError,
    Raised,
    RemoteCommandError,
    Returned,
    SessionExpiredError,
    StateMachine,
    Unknown,
    UnknownReason,
    Value,
    ValueDecodingError,
    decode_outcome,
    encode_outcome,
    encode_value,
    result_of,
    unwrap,
)
from statemachine.counter import OutOfRangeError
from statemachine.outcome import Member
from tests.statemachine.machines import RefusedError, Restless
from tests.statemachine.test_values import values

members: st.SearchStrategy[Member] = (
    st.builds(Returned, values)
    | st.builds(Raised, st.text(), st.dictionaries(st.text(), values, max_size=3))
    | st.builds(Failed, st.text())
    | st.builds(NotExecuted, st.sampled_from(NotExecutedReason))
)
plain = st.builds(Returned, st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary())
outcomes: st.SearchStrategy[Outcome] = (
    members
    | st.builds(Unknown, st.sampled_from(UnknownReason))
    | st.builds(Listed, st.lists(plain) | st.lists(members, max_size=5))
)


@given(outcomes)
def test_an_outcome_arrives_as_it_was(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome)) == outcome


@given(st.binary(max_size=20) | st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 6), st.binary()))
def test_any_bytes_are_an_outcome_or_refused(reply: bytes) -> None:
    try:
        outcome = decode_outcome(reply)
    except ValueDecodingError:
        return
    assert encode_outcome(outcome) == reply


@pytest.mark.parametrize(
    "reply", ["", "00", "0401f6", "03f5", "0300", "04f5", "0480", "0180", "0201", "05f6", "06f6", "05a0"]
)
def test_other_bytes_are_no_outcome(reply: str) -> None:
    with pytest.raises(ValueDecodingError):
        decode_outcome(bytes.fromhex(reply))


@given(members | st.builds(Unknown, st.sampled_from(UnknownReason)))
def test_a_reply_comes_to_what_its_outcome_does(outcome: Outcome) -> None:
    reply = encode_outcome(outcome)

    def told(read: Callable[[], object]) -> object:
        try:
            return read()
        except (CommandError, CommandFailedError, NotExecutedError, OutcomeUnknownError) as error:
            return type(error), str(error)

    assert told(lambda: result_of(reply, Counter)) == told(lambda: unwrap(decode_outcome(reply), Counter))


def test_the_caller_gets_the_error_class_it_knows() -> None:
    with pytest.raises(OutOfRangeError) as caught:
        unwrap(Raised("OutOfRangeError", {"value": 9}), Counter)
    assert caught.value.value == 9
    assert str(caught.value) == "value=9"
    with pytest.raises(RefusedError) as refused:
        # Imported into no module of Counter's, but into that of Restless.
        unwrap(Raised("RefusedError", {"reason": "no", "limits": [1]}), Restless)
    assert (refused.value.reason, refused.value.limits) == ("no", [1])


@pytest.mark.parametrize(
    "error",
    [
        OutOfRangeError(9),
        OutOfRangeError(value=9),  # as the caller gets it
        RemoteCommandError(name="StrangeError", fields={"x": 1}),
        CommandFailedError("KeyError"),
        NotExecutedError(NotExecutedReason.MALFORMED),
        OutcomeUnknownError(UnknownReason.STALE),
        SessionExpiredError(),
        SessionExpiredError(sent=False),
    ],
    ids=repr,
)
def test_what_a_call_raises_can_be_pickled_and_copied(error: Exception) -> None:
    """One that cannot breaks a pool of processes whose worker it was raised in."""
    error.add_note("while something was done")
    for again in (pickle.loads(pickle.dumps(error)), copy(error)):
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_an_error_shows_its_fields_however_it_was_made() -> None:
    assert repr(OutOfRangeError(9)) == repr(OutOfRangeError(value=9)) == "OutOfRangeError(value=9)"


def test_an_error_may_be_listed_or_defined_within_the_machine() -> None:
    class ElsewhereError(CommandError):
        pass

    class Machine(StateMachine):
        errors = (ElsewhereError,)

        class WithinError(CommandError):
            depth: int

    with pytest.raises(ElsewhereError):
        unwrap(Raised("ElsewhereError", {}), Machine)
    with pytest.raises(Machine.WithinError):
        unwrap(Raised("WithinError", {"depth": 1}), Machine)


@pytest.mark.parametrize(("name", "fields"), [("StrangeError", {"x": 1}), ("OutOfRangeError", {"other": 1})])
def test_an_error_the_caller_does_not_know_is_remote(name: str, fields: dict[str, int]) -> None:
    with pytest.raises(RemoteCommandError) as caught:
        unwrap(Raised(name, dict(fields)), Counter)
    assert (caught.value.name, caught.value.fields) == (name, fields)


def test_an_error_that_refuses_its_fields_at_the_caller_is_remote() -> None:
    """A tuple arrives as a list. What its check raises is not what the command did, nor why it was not executed."""

    class Machine(StateMachine):
        class PairError(CommandError):
            pair: tuple[int, int]

            def __post_init__(self) -> None:
                if not isinstance(self.pair, tuple):
                    raise ValueError("that is no pair")  # noqa: TRY004 - a TypeError would be one about its parameters

    with pytest.raises(RemoteCommandError) as caught:
        unwrap(Raised("PairError", {"pair": [1, 2]}), Machine)
    assert (caught.value.name, caught.value.fields) == ("PairError", {"pair": [1, 2]})
    results = unwrap(Listed([Returned(1), Raised("PairError", {"pair": [1, 2]})]), Machine)
    assert isinstance(results, list)
    assert isinstance(results[1], RemoteCommandError)


def test_a_remote_error_says_why_it_is_one() -> None:
    class Machine(StateMachine):
        class OddError(CommandError):
            number: int

            def __post_init__(self) -> None:
                if not self.number % 2:
                    raise ValueError("that is even")

    known = unwrap(Listed([Raised("OddError", {"number": 2}), Raised("OddError", {"other": 2})]), Machine)
    assert isinstance(known, list)
    refused, unfit = known
    assert isinstance(refused, RemoteCommandError)
    assert isinstance(unfit, RemoteCommandError)
    assert repr(refused.__cause__) == "ValueError('that is even')"
    assert "unexpected keyword argument 'other'" in str(unfit.__cause__)
    with pytest.raises(RemoteCommandError) as unknown:
        unwrap(Raised("StrangeError", {}), Machine)
    assert unknown.value.__cause__ is None
    assert "no CommandError named StrangeError" in unknown.value.__notes__[0]


def test_the_other_outcomes_raise_what_they_mean() -> None:
    assert unwrap(Returned([1]), Counter) == [1]
    with pytest.raises(CommandFailedError, match="KeyError"):
        unwrap(Failed("KeyError"), Counter)
    with pytest.raises(NotExecutedError, match="unknown command"):
        unwrap(NotExecuted(NotExecutedReason.UNKNOWN_COMMAND), Counter)
    with pytest.raises(SessionExpiredError):
        unwrap(Unknown(UnknownReason.EXPIRED), Counter)
    with pytest.raises(OutcomeUnknownError, match="outcome unknown: reply dropped"):
        unwrap(Unknown(UnknownReason.REPLY_DROPPED), Counter)


@pytest.mark.parametrize(
    "replies",
    [
        [encode_outcome(Listed([Returned(1)]))],
        [encode_outcome(Returned(1)), encode_outcome(Unknown(UnknownReason.EXPIRED))],
        [b""],
        [b"\x00"],
        [b"\x00\x01", "text"],
        [b"\x00\x18", b"\x00\x05\x06"],
        [b"\x00\x18\x01", b"\x00\x01"],
        [b"\x02\x01"],
    ],
)
def test_the_reply_to_a_list_holds_the_replies_of_commands_alone(replies: list[Value]) -> None:
    with pytest.raises(ValueDecodingError):
        decode_outcome(b"\x05" + encode_value(replies))


def test_a_list_comes_to_values_and_exceptions_in_order() -> None:
    unknown = NotExecuted(NotExecutedReason.UNKNOWN_COMMAND)
    results = unwrap(
        Listed([Returned([1]), Raised("OutOfRangeError", {"value": 9}), Failed("KeyError"), unknown]), Counter
    )
    assert isinstance(results, list)
    value, raised, failed, not_executed = results
    assert value == [1]
    assert isinstance(raised, OutOfRangeError)
    assert raised.value == 9
    assert isinstance(failed, CommandFailedError)
    assert isinstance(not_executed, NotExecutedError)
    assert unwrap(Listed([]), Counter) == []
