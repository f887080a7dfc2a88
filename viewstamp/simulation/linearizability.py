"""Whether a history is linearizable: each operation takes effect at one instant between its call and its return.

The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's improvements ("Testing for
linearizability", 2017): calls and returns in a doubly linked list, from which an operation is lifted out when it is
given its place, and a memory of what has been tried. Keys are searched one by one, since a store is linearizable if
each of its keys is (Herlihy and Wing 1990); what is left between keys, the model looks at.

Operations that were certainly not executed are left out. One of unknown outcome has no return: it may be given a place
anywhere after its call, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from viewstamp.simulation.history import Operation
from viewstamp.simulation.model import Model, ModelError
from viewstamp.simulation.models import model_for
from viewstamp.simulation.order_search import Exhausted, Found, OrderSearch, Stuck

_FEW_UNKNOWN = (0, 1, 2, 4)
BUDGET = 250_000
"""Steps of each search for an order of one key's operations, of which there are up to six, unless the caller says
otherwise."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Linearizable:
    """There is an order that explains every result; `steps` of the search found it."""

    operations: int
    steps: int
    passed: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"linearizable ({self.operations} operations, {self.steps} steps)"


@dataclass(frozen=True, slots=True)
class NotLinearizable:
    """No order explains every result.

    `stuck` is the operation at which every order fails, at last: all else that ended before it can be explained, up to
    one of `states`. `before` are the last operations of such an order, `around` those that are under way beside
    `stuck`. `key` is None, and `before` and `states` are empty, where operations on several keys contradict each other.
    """

    reason: str
    key: str | None
    stuck: Operation
    states: tuple[str, ...]
    before: tuple[Operation, ...]
    around: tuple[Operation, ...]
    passed: ClassVar[bool] = False

    def __str__(self) -> str:
        place = "" if self.key is None else f" at key {self.key!r}"
        lines = [f"not linearizable{place}: {self.reason}", f"  {self.stuck}"]
        for title, items in (
            ("after, as one order has it", self.before),
            ("possible states there", self.states),
            ("beside", self.around),
        ):
            if items:
                lines += [f" {title}:", *(f"  {item}" for item in items)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Undecided:
    """Each search for a key was given up after so many steps. That is a failure: nothing has been shown."""

    key: str
    operations: int
    steps: int
    passed: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"undecided: {self.steps} steps did not settle the {self.operations} operations on key {self.key!r}"


Verdict = Linearizable | NotLinearizable | Undecided


def check_history(
    operations: Iterable[Operation],
    model: Model[Any] | None = None,
    *,
    budget: int = BUDGET,
) -> Verdict:
    """Check a history against a model, by default the one that has its operations.

    The history must hold every operation on its keys since they were new. `budget` bounds the steps of each search
    for a key. Of several keys that are wrong, the verdict tells of the one that goes wrong first.

    Raises:
      ModelError: an operation is none of the model's.
    """
    relevant = [operation for operation in operations if operation.ok is not False]
    chosen: Model[Any] = model_for(relevant) if model is None else model
    return _check(relevant, chosen, budget)


def _check(operations: Sequence[Operation], model: Model[S], budget: int) -> Verdict:
    by_key: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.op not in model.operations:
            raise ModelError(f"the {model.name} model has no {operation.op}")
        by_key.setdefault(operation.key, []).append(operation)
    wrong: list[NotLinearizable] = []
    undecided: list[Undecided] = []
    steps = 0
    for key, parts in by_key.items():
        search = OrderSearch(model, parts, budget)
        result = search.run()
        steps += search.steps
        if isinstance(result, Exhausted):
            result, more = _look_again(model, parts, budget)
            steps += more
        match result:
            case Found():
                pass
            case Exhausted():
                undecided.append(Undecided(key, len(parts), search.steps))
            case Stuck():
                wrong.append(_not_linearizable(key, result, model))
    if wrong:
        return min(wrong, key=lambda verdict: (verdict.stuck.ret or 0, verdict.stuck.call))
    contradiction = model.contradiction(operations)
    if contradiction is not None:
        *others, last = contradiction.operations
        return NotLinearizable(contradiction.reason, None, last, (), (), tuple(others))
    return undecided[0] if undecided else Linearizable(len(operations), steps)


def _look_again(
    model: Model[S], operations: Sequence[Operation], budget: int
) -> tuple[Found | Stuck[S] | Exhausted, int]:
    """Other ways to look, of which one may be short where the plain one is not; the result, and the steps taken."""
    steps = 0
    unknown = sum(operation.ok is None for operation in operations)
    for most_unknown in [few for few in _FEW_UNKNOWN if few < unknown]:  # With all of them it is the plain search.
        search = OrderSearch(model, operations, budget, most_unknown=most_unknown)
        result = search.run()
        steps += search.steps
        if isinstance(result, Found):
            return result, steps
    search = OrderSearch(model, operations, budget, by_rank=True)
    return search.run(), steps + search.steps


def _not_linearizable(key: str, stuck: Stuck[S], model: Model[S]) -> NotLinearizable:
    states = tuple(model.describe(state) for state in stuck.states)
    reason = "no order explains this result together with all that was over before it"
    return NotLinearizable(reason, key, stuck.operation, states, stuck.before, stuck.around)
