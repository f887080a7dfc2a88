"""What a simulated run can violate: safety, liveness, or that nothing crashes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What sort of promise was broken."""

    SAFETY = "safety"
    """Something wrong was done, told or stored."""
    LIVENESS = "liveness"
    """Something promised was not done in time."""
    CRASH = "crash"
    """The code stopped by itself: an invariant inside, or an exception nobody expected."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A property that did not hold, and in a sentence what was seen."""

    kind: Kind
    property: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind} of '{self.property}': {self.sentence}"


class ViolationError(Exception):
    """Raised where a checker sees it; nothing after it would mean anything."""

    def __init__(self, property_name: str, sentence: str, kind: Kind = Kind.SAFETY) -> None:
        super().__init__(f"{property_name}: {sentence}")
        self.violation = Violation(kind, property_name, sentence)


def require(holds: bool, property_name: str, sentence: str, *values: object) -> None:
    """Raise ViolationError unless it holds; `sentence` is formatted with `values` only then."""
    if not holds:
        raise ViolationError(property_name, sentence.format(*values))
