"""What a history is checked against: how one key of a counter or of a store behaves alone.

A model says what an operation with a known result demands of the state before it and makes of it, and what one with an
unknown outcome does to it. Beside that it gives the search hints (`Hints`, `covers`): they change how long the search
takes, never what it finds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from viewstamp.simulation.history import Operation

S = TypeVar("S")

Step = Callable[[S], S | None]
"""From the state before an operation to that after it; None where it cannot have its result."""


class ModelError(ValueError):
    """The history holds an operation that the model does not have, or mixes those of two models."""


Use = Callable[[S, S, Sequence[Operation]], bool]
"""Of an operation of unknown outcome, the states before and after it, and the known operations that can come next:
False where whatever is explained with it is explained without it."""


@dataclass(frozen=True, slots=True)
class Hints(Generic[S]):
    """What is known of a key's operations before any order is tried.

    `rank` is an operation's rank, None if it has none; ranks never go back along an order that explains the history.
    `rules_out` tells of a state whether it contradicts what any operation was told, or no operation of this rank can
    follow in it. `use` is for operations of unknown outcome.
    """

    rank: Callable[[Operation], int | None]
    rules_out: Callable[[S, int], bool]
    use: Callable[[Operation], Use[S]]


def always_of_use(operation: Operation) -> Use[S]:
    return lambda before, after, candidates: True


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Operations on several keys that no one store can have answered so, and why."""

    reason: str
    operations: tuple[Operation, ...]


class Model(ABC, Generic[S]):
    """One key's behaviour; states are hashable."""

    name: ClassVar[str]
    operations: ClassVar[frozenset[str]]

    @property
    @abstractmethod
    def initial(self) -> S:
        """The state of a key before any operation."""

    @abstractmethod
    def step(self, operation: Operation) -> Step[S]:
        """What an operation with a known result does."""

    @abstractmethod
    def effect(self, operation: Operation) -> Callable[[S], S] | None:
        """What an operation does whose result is unknown; None if it can never change anything."""

    @abstractmethod
    def describe(self, state: S) -> str:
        """The state in words."""

    def hints(self, operations: Sequence[Operation]) -> Hints[S] | None:
        """What these operations, all of one key, give away; None for nothing."""
        return None

    def covers(self, one: S, other: S) -> bool:
        """Whether from `one` everything is possible that is from `other`."""
        return one == other

    def contradiction(self, operations: Sequence[Operation]) -> Contradiction | None:
        """What is wrong between keys, that no key shows alone; None if nothing is found."""
        return None


def never(state: object) -> None:
    """No operation of a model has a result of this form."""
