"""The checks of a soak's whole history, once all is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from statemachine import Value
from viewstamp.cli.soak.findings import SAFETY, Finding
from viewstamp.simulation.history import Operation
from viewstamp.simulation.linearizability import Linearizable, check_history
from viewstamp.simulation.models import COUNTER, KEY_VALUE

SEPARATOR = ";"
"""Ends each token of a key that is only ever appended to."""


def check_all(operations: Sequence[Operation], scans: Mapping[int, Mapping[str, Value]]) -> None:
    """Check what clients were told against each other and against what each member holds in the end.

    `scans` is, by member, the value of each key that was counted in or appended to.

    Raises:
      Finding: what is wrong first.
    """
    (first, final), *others = scans.items()
    for member, held in others:
        for key, value in held.items():
            if value != final[key]:
                raise Finding(SAFETY, f"{key} is {final[key]!r} at member {first} and {value!r} at member {member}")
    for problem in (check_counters(operations, final), check_tokens(operations, final)):
        if problem:
            raise Finding(SAFETY, problem)
    check_linearizable(operations)


def check_linearizable(operations: Sequence[Operation]) -> None:
    """Check the counters and the store, each against its model.

    Raises:
      Finding: one is not linearizable, or that could not be settled.
    """
    counts = [operation for operation in operations if operation.op in COUNTER.operations]
    values = [operation for operation in operations if operation.op in KEY_VALUE.operations]
    for verdict in (check_history(counts, COUNTER), check_history(values, KEY_VALUE)):
        if not isinstance(verdict, Linearizable):
            raise Finding(SAFETY, str(verdict))


def check_counters(operations: Iterable[Operation], final: Mapping[str, Value]) -> str:
    """Whether each counter's final value holds every acknowledged increment by one, once; a sentence, or nothing."""
    answers: dict[str, list[object]] = {}
    unknown: Counter[str] = Counter()
    for operation in operations:
        if operation.op == "add":
            outs = answers.setdefault(operation.key, [])
            if operation.ok:
                outs.append(operation.out)
            elif operation.ok is None:
                unknown[operation.key] += 1
    for key, outs in answers.items():
        value = final.get(key)
        # Each answer is the counter just after one's own increment, so all differ.
        twice = [out for out, times in Counter(outs).items() if times > 1]
        if twice:
            return f"counter {key}: two increments were both answered {twice[0]!r}: one of them was lost"
        if not isinstance(value, int) or not len(outs) <= value <= len(outs) + unknown[key]:
            return (
                f"counter {key} is {value!r} in the end, after {len(outs)} acknowledged increments "
                f"and {unknown[key]} of unknown outcome"
            )
    return ""


def check_tokens(operations: Iterable[Operation], final: Mapping[str, Value]) -> str:
    """Whether each appended token is in its key's final value: once if acknowledged, else at most once."""
    tokens: dict[str, dict[str, bool | None]] = {}
    for operation in operations:
        if operation.op == "append":
            tokens.setdefault(operation.key, {})[str(operation.arg)] = operation.ok
    for key, expected in tokens.items():
        value = final.get(key)
        text = value if isinstance(value, str) else ""
        found = Counter(part + SEPARATOR for part in text.split(SEPARATOR)[:-1])
        for token, ok in expected.items():
            times = found.pop(token, 0)
            if times > 1 or (ok is True and times != 1) or (ok is False and times):
                told = "acknowledged" if ok else "of unknown outcome" if ok is None else "refused"
                return f"{key}: {token!r}, {told}, is there {times} times in the end"
        if found:
            return f"{key}: {next(iter(found))!r} is there in the end, and nobody appended it"
    return ""
