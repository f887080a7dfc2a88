"""What clients asked and were told, and what must hold of it whatever happened in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from statemachine import Value

SEPARATOR = ";"
"""Ends each token of a key that is only ever appended to."""


@dataclass(slots=True)
class Operation:
    """One call of one client, which calls one at a time. Times are monotonic nanoseconds.

    `op` is get, put, append, cas (`arg` is what is expected, `arg2` replaces it), delete, add or read. `ok` is True
    once `out` is known, False if it was certainly not executed, None while its outcome is unknown. `version` is where
    the store placed the change among all changes, if it told.
    """

    client: int
    op: str
    key: str
    arg: Value = None
    arg2: Value = None
    call: int = 0
    ret: int | None = None
    out: Value = None
    ok: bool | None = None
    version: int | None = None

    def line(self) -> str:
        """As a line of a history file."""
        names = ("client", "op", "key", "arg", "arg2", "call", "ret", "out", "ok")
        return json.dumps({name: getattr(self, name) for name in names})


def write_history(operations: Iterable[Operation], path: Path) -> None:
    """Write a history file: a JSON object a line, in the order in which the operations were called."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{operation.line()}\n" for operation in operations)


def check_order(operations: Iterable[Operation]) -> str:
    """Whether changes took place in the order that their versions tell; what is wrong, in a sentence, or nothing.

    No two have the same version, and none has a lower version than another that ended before it began.
    """
    placed = sorted(
        (operation for operation in operations if operation.version is not None and operation.ret is not None),
        key=lambda operation: operation.version or 0,
    )
    latest: Operation | None = None
    version = 0
    for operation in placed:
        if operation.version == version:
            return f"two acknowledged changes have version {version}, one of them {operation.line()}"
        version = operation.version or 0
        if latest is not None and operation.ret is not None and operation.ret < latest.call:
            return (
                f"version {version} ended before a change with a lower version began: {operation.line()}, "
                f"then {latest.line()}"
            )
        if latest is None or operation.call > latest.call:
            latest = operation
    return ""


def check_counters(operations: Iterable[Operation], final: Mapping[str, Value]) -> str:
    """Whether each counter's final value holds every acknowledged increment by one, once; a sentence, or nothing."""
    answers: dict[str, list[Value]] = {}
    unknown: Counter[str] = Counter()
    for operation in operations:
        if operation.op == "add":
            if operation.ok:
                answers.setdefault(operation.key, []).append(operation.out)
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


def check_logs(operations: Iterable[Operation], final: Mapping[str, Value]) -> str:
    """Whether each appended token is in its key's final value: once if acknowledged, else at most once."""
    tokens: dict[str, dict[str, bool | None]] = {}
    for operation in operations:
        if operation.op == "append":
            tokens.setdefault(operation.key, {})[f"{operation.arg!s}"] = operation.ok
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
