"""The linearizability checker on made-up histories, good and bad, and against an enumeration of every order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import Counter, KeyValueStore
from statemachine.key_value import CannotAppendError
from tests.simulation.histories import did, unknown, versioned
from viewstamp.simulation import linearizability
from viewstamp.simulation.history import Json, Operation, read_history
from viewstamp.simulation.key_value_model import KeyValueModel
from viewstamp.simulation.linearizability import (
    Linearizable,
    NotLinearizable,
    Undecided,
    Verdict,
    check_history,
)
from viewstamp.simulation.model import ModelError
from viewstamp.simulation.models import COUNTER, KEY_VALUE, CounterModel
from viewstamp.simulation.order_search import Exhausted, Found, OrderSearch

SWAPPED_2: Json = {"swapped": True, "version": 2}

GOOD: dict[str, list[Operation]] = {
    "nothing at all": [],
    "one after the other": [
        did(0, 0, 1, "get"),
        did(0, 2, 3, "put", "a", out=1),
        did(0, 4, 5, "get", out=versioned("a", 1)),
        did(0, 6, 7, "append", "b", out=2),
        did(0, 8, 9, "get", out=versioned("ab", 2)),
        did(0, 10, 11, "delete", out=True),
        did(0, 12, 13, "delete", out=False),
        did(0, 14, 15, "append", [1], out=3),
        did(0, 16, 17, "append", [2, {"b": 1, "a": 2}], out=4),
        did(0, 18, 19, "get", out=versioned([1, 2, {"a": 2, "b": 1}], 4)),
        did(0, 20, 21, "append", "no", out={"error": "CannotAppendError"}),
    ],
    "a read beside a write may see it": [did(0, 0, 9, "put", "a", out=1), did(1, 1, 2, "get", out=versioned("a", 1))],
    "a read beside a write need not see it": [did(0, 0, 9, "put", "a", out=1), did(1, 1, 2, "get")],
    "touching operations are concurrent": [did(0, 0, 5, "put", "a", out=1), did(1, 5, 9, "get")],
    "concurrent writes in the order of their versions": [
        did(0, 0, 9, "put", "a", out=2),
        did(1, 0, 9, "put", "b", out=1),
        did(2, 10, 11, "get", out=versioned("a", 2)),
    ],
    "an open write explains a read": [
        did(0, 0, 1, "put", "a", out=1),
        unknown(1, 2, "put", "b"),
        did(0, 3, 4, "get", out=versioned("a", 1)),
        did(0, 50, 51, "get", out=versioned("b", 2)),
    ],
    "an open write that never happened": [
        did(0, 0, 1, "put", "a", out=1),
        unknown(1, 2, "put", "b"),
        did(0, 3, 4, "put", "c", out=2),
        did(0, 5, 6, "get", out=versioned("c", 2)),
    ],
    "open appends in either order, one unseen": [
        did(0, 0, 1, "put", "a", out=1),
        unknown(1, 2, "append", "x"),
        unknown(2, 2, "append", "y"),
        unknown(3, 2, "append", "z"),
        did(0, 3, 4, "get", out=versioned("azx", 3)),
    ],
    "an open delete, an open cas": [
        did(0, 0, 1, "put", "a", out=1),
        unknown(1, 2, "delete"),
        did(0, 3, 4, "get"),
        unknown(1, 5, "cas", None, "b"),
        did(0, 6, 7, "get", out=versioned("b", 2)),
    ],
    "what failed for certain did nothing": [
        did(0, 0, 1, "put", "a", out=1),
        did(1, 2, 3, "put", "b", ok=False),
        did(0, 4, 5, "get", out=versioned("a", 1)),
    ],
    "cas": [
        did(0, 0, 1, "cas", None, "a", out={"swapped": True, "version": 1}),
        did(0, 2, 9, "cas", "a", "b", out=SWAPPED_2),
        did(1, 2, 9, "cas", "a", "c", out={"swapped": False, "current": versioned("b", 2)}),
        did(0, 10, 11, "delete", out=True),
        did(0, 12, 13, "cas", "b", "d", out={"swapped": False, "current": None}),
    ],
    "two keys with one counter of versions": [
        did(0, 0, 1, "put", "a", out=1, key="x"),
        did(0, 2, 3, "put", "b", out=2, key="y"),
        did(0, 4, 5, "get", out=versioned("a", 1), key="x"),
        did(0, 6, 7, "put", "c", out=3, key="x"),
    ],
    "concurrent increments": [
        did(0, 0, 9, "add", 1, out=2),
        did(1, 0, 9, "add", 1, out=1),
        did(2, 0, 9, "read", out=1),
        did(2, 10, 11, "read", out=2),
    ],
    "open increments, counted": [
        unknown(0, 0, "add", 1),
        unknown(1, 0, "add", 1),
        unknown(2, 0, "add", 1),
        did(3, 5, 6, "add", 1, out=3),
        did(3, 7, 8, "read", out=3),
    ],
    "amounts of both signs": [
        did(0, 0, 9, "add", 5, out=3),
        did(1, 0, 9, "add", -2, out=-2),
        did(2, 10, 11, "add", 0, out=3),
    ],
}

STALE = [
    did(0, 0, 1, "put", "a", out=1),
    did(0, 2, 3, "put", "b", out=2),
    did(1, 4, 5, "get", out=versioned("a", 1)),
]

BAD: dict[str, list[Operation]] = {
    "a stale read": STALE,
    "a stale read of nothing": [did(0, 0, 1, "put", "a", out=1), did(1, 2, 3, "get")],
    "two reads that go back": [
        did(0, 0, 20, "put", "a", out=1),
        did(1, 1, 2, "get", out=versioned("a", 1)),
        did(2, 3, 4, "get"),
    ],
    "a lost update": [
        did(0, 0, 1, "put", "a", out=1),
        did(1, 2, 3, "append", "b", out=2),
        did(0, 4, 5, "get", out=versioned("a", 1)),
    ],
    "a lost increment": [did(0, 0, 5, "add", 1, out=1), did(1, 0, 5, "add", 1, out=1)],
    "an increment executed twice": [did(0, 0, 1, "add", 1, out=1), did(0, 2, 3, "read", out=2)],
    "an append executed twice": [did(0, 0, 1, "append", "a", out=1), did(0, 2, 3, "get", out=versioned("aa", 2))],
    "a put executed twice, told only by the versions": [
        did(0, 0, 1, "put", "a", out=1),
        did(0, 2, 3, "put", "b", out=3),
    ],
    "an open append executed twice": [
        unknown(0, 0, "append", "a"),
        did(0, 2, 3, "get", out=versioned("aa", 2)),
    ],
    "a value never written": [did(0, 0, 1, "put", "a", out=1), did(0, 2, 3, "get", out=versioned("z", 1))],
    "a value of another type": [did(0, 0, 1, "put", 1, out=1), did(0, 2, 3, "get", out=versioned(True, 1))],
    "a read of a write that had not begun": [
        did(0, 0, 1, "get", out=versioned("a", 1)),
        did(1, 2, 3, "put", "a", out=1),
    ],
    "a read of an open write that had not begun": [
        did(0, 0, 1, "get", out=versioned("a", 1)),
        unknown(1, 2, "put", "a"),
    ],
    "an open write that took effect and went away": [
        did(0, 0, 1, "put", "a", out=1),
        unknown(1, 2, "put", "b"),
        did(0, 3, 4, "get", out=versioned("b", 2)),
        did(0, 5, 6, "get", out=versioned("a", 1)),
    ],
    "what failed for certain took effect": [
        did(0, 0, 1, "put", "a", out=1),
        did(1, 2, 3, "put", "b", ok=False),
        did(0, 4, 5, "get", out=versioned("b", 2)),
    ],
    "an increment that failed for certain took effect": [
        did(1, 2, 3, "add", 1, ok=False),
        did(0, 4, 5, "read", out=1),
    ],
    "two swaps of one value": [
        did(0, 0, 1, "put", "a", out=1),
        did(1, 2, 9, "cas", "a", "b", out=SWAPPED_2),
        did(2, 2, 9, "cas", "a", "c", out={"swapped": True, "version": 3}),
    ],
    "a swap refused though the value was as expected": [
        did(0, 0, 1, "put", "a", out=1),
        did(1, 2, 3, "cas", "a", "b", out={"swapped": False, "current": versioned("a", 1)}),
    ],
    "a swap refused by a value never written": [
        did(1, 2, 3, "cas", "a", "b", out={"swapped": False, "current": versioned("c", 1)}),
    ],
    "a deletion of nothing": [did(0, 0, 1, "delete", out=True)],
    "a deletion that found nothing": [did(0, 0, 1, "put", "a", out=1), did(0, 2, 3, "delete", out=False)],
    "a version that goes back": [did(0, 0, 1, "put", "a", out=2), did(0, 2, 3, "put", "b", out=1)],
    "a version given twice": [
        did(0, 0, 9, "put", "a", out=1, key="x"),
        did(1, 0, 9, "put", "b", out=1, key="y"),
    ],
    "versions of two keys against real time": [
        did(0, 0, 1, "put", "a", out=2, key="x"),
        did(1, 2, 3, "put", "b", out=1, key="y"),
    ],
    "an append to what is no text": [did(0, 0, 1, "put", 5, out=1), did(0, 2, 3, "append", "a", out=2)],
    "an append refused for no reason": [did(0, 0, 1, "append", "a", out={"error": "CannotAppendError"})],
    "more open increments than were made": [unknown(0, 0, "add", 1), did(3, 5, 6, "read", out=2)],
    "an open increment seen before its time": [
        did(0, 0, 1, "read", out=1),
        unknown(1, 2, "add", 1),
    ],
    "two increments against real time": [did(0, 0, 1, "add", 1, out=2), did(1, 2, 3, "add", 1, out=1)],
    "results of no known form": [did(0, 0, 1, "put", "a", out="done")],
    "a swap's result with something more": [did(0, 0, 1, "cas", None, 1, out={"swapped": True, "version": 1, "x": 1})],
    "a read's version is no number": [did(0, 0, 1, "put", 1, out=1), did(0, 2, 3, "get", out=versioned(1, True))],
    "a counter that is no integer": [did(0, 0, 1, "read", out=0.0)],
}


def test_a_history_of_both_is_judged_as_the_guide_shows() -> None:
    """By each model in turn, in a loop; mypy looks at this one."""
    operations = [did(0, 0, 1, "add", 1, out=1), did(0, 2, 3, "put", "a", out=1), did(0, 4, 5, "read", out=2)]
    verdicts = {
        model.name: check_history([each for each in operations if each.op in model.operations], model).passed
        for model in (COUNTER, KEY_VALUE)
    }
    assert verdicts == {COUNTER.name: False, KEY_VALUE.name: True}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_linearizable(name: str) -> None:
    verdict = check_history(GOOD[name])
    assert isinstance(verdict, Linearizable), str(verdict)
    assert verdict.passed
    assert str(verdict).startswith("linearizable (")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_not(name: str) -> None:
    verdict = check_history(BAD[name])
    assert isinstance(verdict, NotLinearizable), str(verdict)
    assert not verdict.passed


def test_keys_are_independent_and_the_bad_one_is_named() -> None:
    good = [replace(operation, key="good") for operation in GOOD["concurrent increments"]]
    bad = [replace(operation, key="bad") for operation in BAD["a lost increment"]]
    verdict = check_history(good + bad)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == "bad"
    assert isinstance(check_history(good), Linearizable)


def test_of_two_bad_keys_the_first_to_go_wrong_is_told() -> None:
    late = [did(0, 100, 101, "read", out=7, key="late")]
    early = [did(0, 0, 1, "read", out=7, key="early")]
    verdict = check_history(late + early)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == "early"


def test_the_explanation_names_the_operation_the_state_and_what_came_before() -> None:
    beside = unknown(5, 0, "delete")
    verdict = check_history([*STALE, beside, did(2, 4, 9, "put", "c", out=3)])
    assert isinstance(verdict, NotLinearizable)
    assert verdict.stuck == STALE[2]
    assert verdict.states[0] == '"b" at version 2'
    assert verdict.before == tuple(STALE[:2])
    assert verdict.around == (did(2, 4, 9, "put", "c", out=3),)
    text = str(verdict)
    assert text.startswith("not linearizable at key 'k': no order explains")
    assert 'client 1 get("k") returned {"value": "a", "version": 1} [4..5 ns]' in text


def test_the_explanation_needs_nothing_that_began_later() -> None:
    first, second = BAD["two increments against real time"]
    verdict = check_history([first, second])
    assert isinstance(verdict, NotLinearizable)
    assert (verdict.stuck, verdict.around, verdict.states) == (first, (), ("0",))
    assert check_history([first]) == verdict


def test_a_contradiction_between_keys_names_no_key() -> None:
    verdict = check_history(BAD["versions of two keys against real time"])
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key is None
    assert "began after a later version had been seen" in str(verdict)


def hard(pairs: int) -> list[Operation]:
    """Additions of both signs, all at once, and a sum that they cannot have: every subset must be tried."""
    adds = [unknown(client, 0, "add", 2 * (-1) ** client * 3**client) for client in range(pairs)]
    return [*adds, did(99, 5, 6, "read", out=1)]


def test_deletes_are_kept_for_where_nothing_else_leads_on() -> None:
    """A burst of concurrent calls: put in first place, the deletes are missing later, and which is tried in vain."""
    newest = 20
    history = [did(0, 0, 1, "put", "first", out=1)]
    history += [did(1, 2, 90, "delete", out=True) for _ in range(5)]
    history += [did(2, 2, 90, "put", f"{version}", out=version) for version in range(2, newest)]
    for version in range(newest, newest + 8, 2):
        history.append(did(3, 2, 90, "cas", None, f"{version}", out={"swapped": True, "version": version}))
        history.append(did(3, 2, 90, "append", "more", out=version + 1))
    history += [unknown(4, 2, "cas", None, f"unknown {number}") for number in range(3)]
    history.append(did(0, 91, 92, "get", out=None))
    assert isinstance(check_history(history, budget=200), Linearizable)


@pytest.mark.parametrize(
    ("name", "otherwise"),
    [("unknown-and-deleted", {"by_rank": True}), ("unknown-of-one-client", {"most_unknown": 0})],
)
def test_what_one_search_does_not_come_to_the_end_of_another_finds(name: str, otherwise: dict[str, Any]) -> None:
    """What clients saw of one key: calls of unknown outcome, and deletes that fit in many places (seeds 120 and 84)."""
    history = read_history(Path(__file__).parent.parent / "corpus" / f"{name}.history.jsonl")
    assert isinstance(OrderSearch(KEY_VALUE, history, 20_000).run(), Exhausted)
    assert isinstance(OrderSearch(KEY_VALUE, history, 20_000, **otherwise).run(), Found)


def test_a_search_that_exceeds_its_budget_is_undecided_and_no_success() -> None:
    verdict = check_history(hard(30), budget=1000)
    assert isinstance(verdict, Undecided)
    assert not verdict.passed
    assert str(verdict) == "undecided: 1000 steps did not settle the 31 operations on key 'k'"
    assert isinstance(check_history(hard(6)), NotLinearizable)


def test_what_has_no_unknown_outcome_is_not_searched_again_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[dict[str, Any]] = []

    class Search(OrderSearch[Any]):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            ways.append(named)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(linearizability, "OrderSearch", Search)
    known = [did(client, 0, 9, "put", client, out=1 + client) for client in range(8)]
    assert isinstance(check_history(known, budget=1), Undecided)
    assert ways == [{}, {"by_rank": True}]
    ways.clear()
    two = [unknown(client, 0, "put", f"unknown {client}") for client in (8, 9)]
    assert isinstance(check_history([*known, *two], budget=1), Undecided)
    assert ways == [{}, {"most_unknown": 0}, {"most_unknown": 1}, {"by_rank": True}]


def test_a_key_that_is_wrong_outweighs_one_that_is_undecided() -> None:
    verdict = check_history([*hard(30), did(0, 0, 1, "read", out=3, key="wrong")], budget=1000)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == "wrong"


def test_many_open_writes_that_never_happened_cost_little() -> None:
    history = [unknown(client, 0, "put", f"open {client}") for client in range(40)]
    history += [did(50, 10 * n, 10 * n + 5, "put", n, out=n) for n in range(1, 40)]
    verdict = check_history([*history, did(51, 1000, 1001, "get", out=versioned("open 7", 40))])
    assert isinstance(verdict, Linearizable)
    assert verdict.steps < 500
    verdict = check_history([*history, did(51, 1000, 1001, "get", out=versioned("never written", 40))])
    assert isinstance(verdict, NotLinearizable), "and one that is wrong is found to be wrong"


def test_operations_of_two_models_are_refused() -> None:
    with pytest.raises(ModelError, match="no model has all of get, read"):
        check_history([did(0, 0, 1, "get"), did(0, 0, 1, "read", out=0)])
    with pytest.raises(ModelError, match="the counter model has no get"):
        check_history([did(0, 0, 1, "get")], COUNTER)


# Every order, tried in full, on the real state machines.


def orders(history: Sequence[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Every order that respects time, with each choice of open operations."""
    known = [o for o in history if o.ok]
    maybe = [o for o in history if o.ok is None]
    for count in range(len(maybe) + 1):
        for chosen in combinations(maybe, count):
            for order in permutations([*known, *chosen]):
                ends = [o.ret if o.ok and o.ret is not None else 1 << 60 for o in order]
                if all(min(ends[i:]) >= o.call for i, o in enumerate(order)):
                    yield order


def perform(store: KeyValueStore, operation: Operation) -> Any:
    """What the real store returns."""
    key: str = operation.key
    arg: Any = operation.arg
    arg2: Any = operation.arg2
    match operation.op:
        case "get":
            return store.get(key)
        case "put":
            return store.put(key, arg)
        case "delete":
            return store.delete(key)
        case "cas":
            return store.compare_and_swap(key, arg, arg2)
    try:
        return store.append(key, arg)
    except CannotAppendError:
        return {"error": "CannotAppendError"}


def explains_counter(order: Sequence[Operation]) -> bool:
    counter = Counter()
    for operation in order:
        out = counter.add(operation.arg) if isinstance(operation.arg, int) else counter.get()
        if operation.ok and out != operation.out:
            return False
    return True


def explains_store(order: Sequence[Operation]) -> bool:
    """One key alone: other keys may use versions in between, so the store's own numbers only tell which write it is."""
    store = KeyValueStore()
    told: dict[int, int] = {0: 0}  # from the number of a write to the version that clients were told

    def agrees(ours: int, theirs: Json) -> bool:
        return isinstance(theirs, int) and told.setdefault(ours, theirs) == theirs

    for operation in order:
        ours = perform(store, operation)
        theirs: Any = operation.out
        if operation.ok is None:
            continue
        if type(ours) is int:
            fits = agrees(ours, theirs)
        elif isinstance(ours, dict) and ours.get("swapped") is True:
            fits = (
                isinstance(theirs, dict)
                and theirs.get("swapped") is True
                and agrees(ours["version"], theirs["version"])
            )
        else:
            fits = same_but_for_version(ours, theirs, agrees)
        if not fits:
            return False
    writes = sorted(told.items())
    return all(b[1] - a[1] >= b[0] - a[0] for a, b in pairwise(writes))


def same_but_for_version(ours: Any, theirs: Any, agrees: Any) -> bool:
    if isinstance(ours, dict) and "current" in ours:
        return (
            isinstance(theirs, dict)
            and theirs.get("swapped") is False
            and same_but_for_version(ours["current"], theirs["current"], agrees)
        )
    if isinstance(ours, dict) and "version" in ours:
        if not isinstance(theirs, dict) or theirs.get("value") != ours["value"]:
            return False
        return bool(agrees(ours["version"], theirs["version"]))
    return type(ours) is type(theirs) and ours == theirs


def some_counter_operation(draw: Random) -> Operation:
    if draw.randrange(3) == 0:
        return did(0, 0, 1, "read")
    return did(0, 0, 1, "add", draw.choice((1, 1, 1, 2, 0, -1)))


def some_store_operation(draw: Random) -> Operation:
    values: tuple[Json, ...] = ("a", "b", "", 1, "cd", [2])
    match draw.randrange(6):
        case 0:
            return did(0, 0, 1, "delete")
        case 1:
            return did(0, 0, 1, "append", draw.choice(values))
        case 2:
            return did(0, 0, 1, "cas", draw.choice((None, *values)), draw.choice(values))
        case 3:
            return did(0, 0, 1, "put", draw.choice(values))
    return did(0, 0, 1, "get")


def small_history(draw: Random, model: CounterModel | KeyValueModel, most: int, keys: str = "k") -> list[Operation]:
    """Operations with the results of some execution, in which some are then unknown."""
    counters, store = {key: Counter() for key in keys}, KeyValueStore()
    history = []
    for place in range(draw.randrange(1, most + 1)):
        at = 10 * place
        operation = (some_counter_operation if model is COUNTER else some_store_operation)(draw)
        operation = replace(
            operation,
            client=place,
            key=draw.choice(keys),
            call=max(0, at - draw.randrange(40)),
            ret=at + draw.randrange(40),
        )
        executed = draw.randrange(5) > 0
        if executed and operation.op == "add" and isinstance(operation.arg, int):
            out: Any = counters[operation.key].add(operation.arg)
        elif executed:
            out = counters[operation.key].get() if operation.op == "read" else perform(store, operation)
        if not executed or draw.randrange(4) == 0:
            history.append(replace(operation, ret=draw.choice((None, operation.ret)), ok=None))
        else:
            history.append(replace(operation, out=out))
    draw.shuffle(history)
    return history


def spoilt(draw: Random, history: list[Operation]) -> list[Operation]:
    """The same with one result exchanged for that of another, or one interval moved."""
    place = draw.randrange(len(history))
    victim = history[place]
    outs = [other.out for other in history if other.ok and other.op == victim.op]
    match draw.randrange(3):
        case 0 if victim.ok and isinstance(victim.out, int) and not isinstance(victim.out, bool):
            victim = replace(victim, out=victim.out + draw.choice((-1, 1)))
        case 1 if victim.ok:
            victim = replace(victim, out=draw.choice(outs))
        case _:
            shift = draw.randrange(60)
            victim = replace(victim, call=victim.call + shift, ret=None if victim.ret is None else victim.ret + shift)
    return [*history[:place], victim, *history[place + 1 :]]


class UnhintedCounter(CounterModel):
    def hints(self, operations: Sequence[Operation]) -> None:
        return None


class UnhintedStore(KeyValueModel):
    def hints(self, operations: Sequence[Operation]) -> Any:
        return None

    def covers(self, one: Any, other: Any) -> bool:
        return False


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 1 << 64), st.booleans(), st.integers(0, 3))
def test_the_search_agrees_with_trying_every_order(seed: int, counter: bool, damage: int) -> None:
    draw = Random(seed)
    model: Any = COUNTER if counter else KEY_VALUE
    history = small_history(draw, model, 6)
    for _ in range(damage):
        history = spoilt(draw, history)
    explains = explains_counter if counter else explains_store
    expected = any(map(explains, orders(history)))
    assert expected or damage
    unhinted: Any = UnhintedCounter() if counter else UnhintedStore()
    for each in (model, unhinted):
        for by_rank in (False, True):
            found = OrderSearch(each, history, 1_000_000, by_rank=by_rank).run()
            assert isinstance(found, Found) == expected, f"{type(each).__name__}, {by_rank=}: {found}"
    few = OrderSearch(model, history, 1_000_000, most_unknown=draw.randrange(3)).run()
    assert expected or not isinstance(few, Found)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 64), st.booleans())
def test_an_execution_over_several_keys_is_linearizable_with_and_without_hints(seed: int, counter: bool) -> None:
    model: Any = COUNTER if counter else KEY_VALUE
    history = small_history(Random(seed), model, 60, keys="xyz")
    verdict = check_history(history)
    assert isinstance(verdict, Linearizable), str(verdict)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 64), st.booleans(), st.integers(0, 3))
def test_hints_change_no_verdict_of_longer_histories(seed: int, counter: bool, damage: int) -> None:
    draw = Random(seed)
    model: Any = COUNTER if counter else KEY_VALUE
    history = small_history(draw, model, 14)
    for _ in range(damage):
        history = spoilt(draw, history)
    unhinted: Any = UnhintedCounter() if counter else UnhintedStore()
    hinted, plain = (OrderSearch(each, history, 20_000).run() for each in (model, unhinted))
    assert isinstance(hinted, Found) == isinstance(plain, Found), f"{hinted} but {plain}"


def executed(seed: int, operations: int, clients: int, keys: int, one_in_unknown: int) -> list[Operation]:
    """A long history of the real store: each client one operation at a time, executed somewhere within it."""
    draw = Random(seed)
    store = KeyValueStore()
    free = [0] * clients
    planned = []
    for number in range(operations):
        client = min(range(clients), key=free.__getitem__)
        call = free[client] + draw.randrange(1, 10)
        ret = call + draw.randrange(1, 100)
        free[client] = ret
        operation = replace(
            some_store_operation(draw), client=client, key=f"k{draw.randrange(keys)}", call=call, ret=ret
        )
        if operation.op in ("put", "append"):
            operation = replace(operation, arg=f"({number})")
        elif operation.op == "cas":
            operation = replace(operation, arg=None, arg2=f"({number})")
        planned.append((draw.randrange(call, ret + 1), number, operation))
    history: list[Operation] = []
    for _, _, operation in sorted(planned):
        out = perform(store, operation)
        if one_in_unknown and draw.randrange(one_in_unknown) == 0:
            history.append(replace(operation, ok=None, ret=None))
        else:
            history.append(replace(operation, out=out))
    return history


def test_a_long_history_takes_few_steps() -> None:
    history = executed(1, 3000, 16, 4, 100)
    verdict = check_history(history)
    assert isinstance(verdict, Linearizable), str(verdict)
    assert verdict.steps < 2 * len(history)


def test_a_long_history_with_one_stale_read_is_found_out() -> None:
    history = executed(2, 3000, 16, 4, 100)
    reads = [o for o in history if o.op == "get" and o.key == "k1" and o.ok and o.out is not None]
    early, late = reads[10], reads[-10]
    history[history.index(late)] = stale = replace(late, out=early.out)
    verdict: Verdict = check_history(history)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.key == "k1"
    assert verdict.stuck == stale


def test_a_counter_with_many_clients_and_open_additions_takes_few_steps() -> None:
    draw = Random(3)
    value, history = 0, []
    for number in range(4000):
        at = 10 * number
        operation = did(
            number % 64, max(0, at - draw.randrange(600)), at + draw.randrange(600), "add", 1, out=value + 1
        )
        if draw.randrange(20) == 0:
            operation = replace(operation, ret=None, out=None, ok=None)
            value -= draw.randrange(2)
        value += 1
        history.append(operation)
    verdict = check_history(history)
    assert isinstance(verdict, Linearizable), str(verdict)
    assert verdict.steps < 2 * len(history)


def test_what_goes_back_is_found_even_where_the_search_is_too_long() -> None:
    history = [did(0, 0, 1, "add", 1, out=1), did(0, 2, 3, "read", out=0)]
    many = [unknown(client, 0, "add", 2 * 3**client) for client in range(40)]
    far = did(1, 4, 5, "read", out=3**38 * 2)
    verdict = check_history([*history, *many, far], budget=200)
    assert isinstance(verdict, NotLinearizable)
    assert verdict.stuck == history[1]
