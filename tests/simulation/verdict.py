"""What one simulated run proves: nothing wrong, or which property was violated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import raft.invariants
import vsr.invariants
from statemachine import ApplyOrderError
from tests.simulation.hostile import hostile
from tests.simulation.test_world import chaos
from viewstamp.journal import JournalError
from viewstamp.protocol import InvariantError
from viewstamp.replica import DataLostError, SupersededError
from viewstamp.simulation.inhabitants import AgreementError

SCENARIOS: dict[str, Callable[[int, str], str]] = {"chaos": chaos, "hostile": hostile}

_PROPERTIES = (
    ("an increment returned", "nothing acknowledged is lost"),
    ("two increments returned", "nothing acknowledged is lost"),
    ("a read returned", "reads are linearizable"),
    ("were ever begun", "exactly once"),
    ("not answered", "liveness: all is answered"),
    ("increments, but members hold", "exactly once, and all members equal"),
    ("applied another entry", "agreement on entries"),
    ("holds another state", "agreement on state"),
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A property that did not hold, and what was seen."""

    property: str
    detail: str


def examine(scenario: str, seed: int, protocol: str) -> Violation | None:
    """Run one seed; None if nothing is wrong with it."""
    try:
        SCENARIOS[scenario](seed, protocol)
    except (AssertionError, AgreementError) as wrong:
        detail = str(wrong)
        return Violation(next((name for part, name in _PROPERTIES if part in detail), "a check of the load"), detail)
    except InvariantError as wrong:
        return Violation("invariant inside", str(wrong))
    except (ApplyOrderError, DataLostError, JournalError, SupersededError) as wrong:
        return Violation(f"no member stops ({type(wrong).__name__})", str(wrong))
    return None


def command_for(scenario: str, seed: int, protocol: str) -> str:
    """The one command that replays a seed."""
    return f"python -m tests.simulation.fuzz --scenario {scenario} --protocol {protocol} --seed {seed}"


@contextmanager
def from_outside() -> Iterator[None]:
    """Without the invariants that a protocol watches in itself: what the checkers outside are worth, alone."""
    with ExitStack() as stack:
        for module in (vsr.invariants, raft.invariants):
            stack.enter_context(patch.object(module.Invariants, "watch", lambda self, watched: None))
        yield
