"""The models there are: a counter here, and the key-value store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from viewstamp.simulation.history import Operation
from viewstamp.simulation.key_value_model import KeyValueModel
from viewstamp.simulation.model import Hints, Model, ModelError, Step, always_of_use, never


class CounterModel(Model[int]):
    """Integers by key, at first 0: add returns the sum, read the value."""

    name = "counter"
    operations = frozenset({"add", "read"})

    @property
    def initial(self) -> int:
        return 0

    def step(self, operation: Operation) -> Step[int]:
        out = operation.out
        if type(out) is not int:
            return never
        before = out - _amount(operation)
        return lambda value: out if value == before else None

    def effect(self, operation: Operation) -> Callable[[int], int] | None:
        amount = _amount(operation)
        return (lambda value: value + amount) if amount else None

    def describe(self, state: int) -> str:
        return str(state)

    def hints(self, operations: Sequence[Operation]) -> Hints[int] | None:
        """The order of results, where all amounts have one sign: then the value never goes back (or never forth)."""
        amounts = [_amount(operation) for operation in operations]
        if min(amounts, default=0) >= 0:
            return Hints(_integer_out, lambda value, rank: value > rank, always_of_use)
        if max(amounts) <= 0:
            return Hints(lambda add: -_integer_out(add), lambda value, rank: -value > rank, always_of_use)
        return None


def _amount(operation: Operation) -> int:
    return operation.arg if isinstance(operation.arg, int) else 0


def _integer_out(operation: Operation) -> int:
    return operation.out if isinstance(operation.out, int) else 0


COUNTER = CounterModel()
KEY_VALUE = KeyValueModel()


def model_for(operations: Sequence[Operation]) -> CounterModel | KeyValueModel:
    """The model that has all these operations; the key-value model for none.

    Raises:
      ModelError: no one model has them all.
    """
    names = {operation.op for operation in operations}
    if names <= KEY_VALUE.operations:
        return KEY_VALUE
    if names <= COUNTER.operations:
        return COUNTER
    raise ModelError(f"no model has all of {', '.join(sorted(names))}")
