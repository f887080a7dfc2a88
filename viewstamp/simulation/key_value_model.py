"""One key of a key-value store, as a model for histories, and what versions tell across keys."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from json import dumps
from typing import NamedTuple

from viewstamp.simulation.history import Json, Operation
from viewstamp.simulation.model import Contradiction, Hints, Model, Step, Use, always_of_use, never


class Held(NamedTuple):
    """A key's value as canonical JSON, None for no value, and its version.

    The version is this one if `exact`, else some number from this one on: that of a write whose result is unknown.
    Where there is no value, it is a bound for the versions that the key has had.
    """

    value: str | None
    version: int
    exact: bool


class KeyValueModel(Model[Held]):
    """A store as `statemachine.KeyValueStore`, empty at first: get, put, append, cas (compare and swap), delete.

    Versions come from one counter for all keys. A key alone must see them grow; that no two writes have the same, that
    they follow real time between keys, and that none is left out unless a write of unknown outcome can have taken it,
    is looked at for all keys together. Such a history must hold all operations on the store since it was empty.
    """

    name = "key-value"
    operations = frozenset({"get", "put", "append", "cas", "delete"})

    @property
    def initial(self) -> Held:
        return Held(None, 0, exact=False)

    def step(self, operation: Operation) -> Step[Held]:
        match operation.op:
            case "get":
                return _seen(operation.out)
            case "delete":
                return _deleted(operation.out)
            case "cas":
                return _swapped(operation)
            case "append" if operation.out == {"error": "CannotAppendError"}:
                suffix = _canonical(operation.arg)
                return lambda held: held if _joined(held.value, suffix) is None else None
        version = _version(operation.out)
        if version is None:
            return never
        return _written(_write_of(operation), version)

    def effect(self, operation: Operation) -> Callable[[Held], Held] | None:
        match operation.op:
            case "get":
                return None
            case "delete":
                return lambda held: held if held.value is None else Held(None, held.version, exact=False)
        write = _write_of(operation)

        def apply(held: Held) -> Held:
            value = write(held.value)
            return held if value is None else Held(value, held.version + 1, exact=False)

        return apply

    def describe(self, state: Held) -> str:
        if state.value is None:
            return f"no value, and versions up to {state.version} used" if state.version else "no value"
        return f"{state.value} at version {state.version}{'' if state.exact else ' or later'}"

    def hints(self, operations: Sequence[Operation]) -> Hints[Held]:
        """What a key's operations see of its version never goes back; and a value that is never seen is of no use."""
        return KeyHints(operations).hints

    def covers(self, one: Held, other: Held) -> bool:
        if one == other:
            return True
        return one.value == other.value and not one.exact and one.version <= other.version

    def contradiction(self, operations: Sequence[Operation]) -> Contradiction | None:
        seen = sorted(
            ((version, operation) for operation in operations if (version := _version_seen(operation)) is not None),
            key=lambda pair: pair[0],
        )
        return _written_twice(seen) or _against_time(seen) or _left_out(seen, operations)


def _canonical(value: Json) -> str:
    return dumps(value, sort_keys=True, separators=(",", ":"))


def _version(value: Json) -> int | None:
    return value if type(value) is int and value > 0 else None


def _versioned(value: Json) -> tuple[str, int] | None:
    """The value, canonical, and the version in what get returned; None if it has not that form."""
    if isinstance(value, dict) and value.keys() == {"value", "version"} and value["value"] is not None:
        version = _version(value["version"])
        return None if version is None else (_canonical(value["value"]), version)
    return None


def _seen(current: Json) -> Step[Held]:
    """The value and version of the key are these; None: it has no value."""
    if current is None:
        return lambda held: held if held.value is None else None
    versioned = _versioned(current)
    if versioned is None:
        return never
    value, version = versioned
    known = Held(value, version, exact=True)

    def step(held: Held) -> Held | None:
        if held.value != value:
            return None
        if held.exact:
            return held if held.version == version else None
        return known if held.version <= version else None

    return step


def _deleted(out: Json) -> Step[Held]:
    if out is True:
        return lambda held: None if held.value is None else Held(None, held.version, exact=False)
    return _seen(None) if out is False else never


def _swapped(operation: Operation) -> Step[Held]:
    match operation.out:
        case {"swapped": True, "version": version, **rest} if not rest and (number := _version(version)) is not None:
            return _written(_write_of(operation), number)
        case {"swapped": False, "current": current, **rest} if not rest:
            expected = None if operation.arg is None else _canonical(operation.arg)
            versioned = _versioned(current)
            if expected == (None if versioned is None else versioned[0]):
                return never  # It was as expected, so that it must have been replaced.
            return _seen(current)
    return never


def _write_of(operation: Operation) -> Callable[[str | None], str | None]:
    """The value after a write, from the value before; None if nothing is written."""
    if operation.op == "cas":
        expected = None if operation.arg is None else _canonical(operation.arg)
        replacement = _canonical(operation.arg2)
        return lambda value: replacement if value == expected else None
    given = _canonical(operation.arg)
    if operation.op == "append":
        return lambda value: _joined(value, given)
    return lambda value: given


def _written(write: Callable[[str | None], str | None], version: int) -> Step[Held]:
    def step(held: Held) -> Held | None:
        if held.version >= version:
            return None
        value = write(held.value)
        return None if value is None else Held(value, version, exact=True)

    return step


def _joined(value: str | None, suffix: str) -> str | None:
    """Canonical JSON of a text behind a text, or a list behind a list; None where append refuses."""
    if suffix[0] not in '"[':
        return None
    if value is None:
        return suffix
    if value[0] != suffix[0]:
        return None
    if suffix[0] == '"' or len(value) == 2 or len(suffix) == 2:
        return value[:-1] + suffix[1:]
    return f"{value[:-1]},{suffix[1:]}"


def _version_seen(operation: Operation) -> int | None:
    """The version that an operation made or saw; None if it saw none."""
    match operation.out:
        case {"value": _, "version": version} | {"swapped": True, "version": version}:
            return _version(version)
        case {"swapped": False, "current": {"version": version}}:
            return _version(version)
        case version if operation.op in ("put", "append"):
            return _version(version)
    return None


def _wrote(operation: Operation) -> bool:
    match operation.out:
        case {"swapped": swapped}:
            return swapped is True
    return operation.op in ("put", "append")


def _written_twice(seen: list[tuple[int, Operation]]) -> Contradiction | None:
    writes = [(version, operation) for version, operation in seen if _wrote(operation)]
    for (version, one), (following, other) in pairwise(writes):
        if version == following:
            return Contradiction(f"two writes were given version {version}", (one, other))
    return None


def _against_time(seen: list[tuple[int, Operation]]) -> Contradiction | None:
    """A write that began when a larger version than its own had been seen already."""
    earliest: Operation | None = None
    higher: list[Operation] = []  # of the version looked at, and so not larger yet
    last = 0
    for version, operation in reversed(seen):
        if version != last:
            for candidate in higher:
                if earliest is None or _end(candidate) < _end(earliest):
                    earliest = candidate
            higher, last = [], version
        higher.append(operation)
        if earliest is not None and _wrote(operation) and _end(earliest) < operation.call:
            reason = f"version {version} was given to a write that began after a later version had been seen"
            return Contradiction(reason, (earliest, operation))
    return None


def _left_out(seen: list[tuple[int, Operation]], operations: Sequence[Operation]) -> Contradiction | None:
    """A version that was seen while too few writes had begun to use all the versions below it."""
    began = sorted(operation.call for operation in operations if operation.ok is None and operation.op in _WRITES)
    known = {version for version, operation in seen if _wrote(operation)}
    below = sorted(known)
    for version, operation in seen:
        missing = version - bisect_right(below, version)
        possible = bisect_right(began, _end(operation))
        if missing > possible:
            reason = (
                f"version {version} was seen, but {missing} of the versions up to it belong to no write that is known"
                f" to have happened, and only {possible} of unknown outcome had begun: something was executed twice"
                " or not recorded"
            )
            return Contradiction(reason, (operation,))
    return None


_WRITES = frozenset({"put", "append", "cas"})


def _end(operation: Operation) -> int:
    return operation.call if operation.ret is None else operation.ret


class KeyHints:
    """What one key's operations tell of its values before any order is tried."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._told: dict[int, str] = {}  # value by version
        self._seen: list[tuple[int, str]] = []  # the same, and what a swap that succeeded or is unknown expected
        for operation in operations:
            self._learn(operation)
        self._seen += self._told.items()
        self._seen.sort(reverse=True)
        # Where an append was refused, values matter by their type alone.
        self._types_matter = any(isinstance(o.out, dict) and "error" in o.out for o in operations)
        self.hints: Hints[Held] = Hints(_version_seen, self._rules_out, self._use)

    def _learn(self, operation: Operation) -> None:
        out = operation.out
        versioned = _versioned(out["current"] if isinstance(out, dict) and "current" in out else out)
        if versioned is not None:
            self._told[versioned[1]] = versioned[0]
        elif operation.op == "cas" and operation.arg is not None:
            version = _version_seen(operation)
            self._seen.append((_ANY_VERSION if version is None else version, _canonical(operation.arg)))

    def _rules_out(self, held: Held, rank: int) -> bool:
        if held.value is None:
            return held.version >= rank
        return held.version > rank or (held.exact and self._told.get(held.version, held.value) != held.value)

    def _use(self, operation: Operation) -> Use[Held]:
        """A write is of use if its value is in one that is seen at a later version, or by its being there at all.

        A value that is put stays in what it becomes by appends, as a part. If no part of what is seen later, nothing
        depends on it but a delete that must find something; and appends, where it is of another type.
        """
        if operation.op == "delete" or self._types_matter:
            return always_of_use(operation)
        text = _canonical(operation.arg2 if operation.op == "cas" else operation.arg)
        part = text[1:-1] if text[0] in '"[' else text
        last = next((version for version, value in self._seen if part in value), 0)

        def use(before: Held, after: Held, candidates: Sequence[Operation]) -> bool:
            if before.version < last:
                return True
            if before.value is None:
                return any(candidate.op == "delete" and candidate.out is True for candidate in candidates)
            return after.value is not None and after.value[0] != before.value[0]

        return use


_ANY_VERSION = 1 << 200
