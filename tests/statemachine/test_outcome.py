from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    CommandError,
    CommandFailedError,
    Counter,
    Failed,
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
    ValueDecodingError,
    decode_outcome,
    encode_outcome,
    unwrap,
)
from statemachine.counter import OutOfRangeError
from tests.statemachine.machines import RefusedError, Restless
from tests.statemachine.test_values import values

outcomes: st.SearchStrategy[Outcome] = (
    st.builds(Returned, values)
    | st.builds(Raised, st.text(), st.dictionaries(st.text(), values, max_size=3))
    | st.builds(Failed, st.text())
    | st.builds(NotExecuted, st.sampled_from(NotExecutedReason))
    | st.builds(Unknown, st.sampled_from(UnknownReason))
)


@given(outcomes)
def test_an_outcome_arrives_as_it_was(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome)) == outcome


@given(st.binary(max_size=20) | st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 5), st.binary()))
def test_any_bytes_are_an_outcome_or_refused(reply: bytes) -> None:
    try:
        outcome = decode_outcome(reply)
    except ValueDecodingError:
        return
    assert encode_outcome(outcome) == reply


@pytest.mark.parametrize("reply", ["", "00", "0401f6", "03f5", "0300", "04f5", "0480", "0180", "0201", "05f6"])
def test_other_bytes_are_no_outcome(reply: str) -> None:
    with pytest.raises(ValueDecodingError):
        decode_outcome(bytes.fromhex(reply))


def test_the_caller_gets_the_error_class_it_knows() -> None:
    with pytest.raises(OutOfRangeError) as caught:
        unwrap(Raised("OutOfRangeError", {"value": 9}), Counter)
    assert caught.value.value == 9
    assert str(caught.value) == "value=9"
    with pytest.raises(RefusedError) as refused:
        # Imported into no module of Counter's, but into that of Restless.
        unwrap(Raised("RefusedError", {"reason": "no", "limits": [1]}), Restless)
    assert (refused.value.reason, refused.value.limits) == ("no", [1])


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
