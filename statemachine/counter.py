"""A replicated counter: the smallest machine worth replicating."""

from __future__ import annotations

from statemachine.command import command, query
from statemachine.errors import CommandError
from statemachine.machine import StateMachine
from statemachine.values import Value

MINIMUM = -(1 << 63)
MAXIMUM = (1 << 63) - 1


class NotAnIntegerError(CommandError):
    """The amount is not an integer. Nothing was changed."""

    given: str


class OutOfRangeError(CommandError):
    """The counter would leave the range of signed 64-bit integers. It keeps its value."""

    value: int


class Counter(StateMachine):
    """One integer from -2**63 to 2**63 - 1, at first 0."""

    def __init__(self) -> None:
        self.value = 0

    @command
    def add(self, amount: int) -> int:
        """Add `amount` and return the new value.

        Raises:
          NotAnIntegerError: `amount` is something else; True and 1.0 are.
          OutOfRangeError: the sum does not fit.
        """
        _check_integer(amount)
        total = self.value + amount
        if not MINIMUM <= total <= MAXIMUM:
            raise OutOfRangeError(self.value)
        self.value = total
        return total

    @query
    def get(self) -> int:
        """The value."""
        return self.value


def _check_integer(amount: Value) -> None:
    # Arguments come from afar; the annotation of `add` binds only callers who run a type checker.
    if type(amount) is not int:
        raise NotAnIntegerError(type(amount).__name__)
