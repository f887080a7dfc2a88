"""The default snapshot: the attributes of a plain machine, in a form that gives back exactly what was there.

It differs from the encoding of values. What a restored replica does next must equal what the others do, so nothing
may change its type or order on the way: a dict keeps its insertion order (a command may iterate over it), and a
tuple is refused (it would come back as a list, and `state + (1,)` would raise on the restored replica only).
"""

from __future__ import annotations

import cbor2

from statemachine.errors import SnapshotError

MAXIMUM_DEPTH = 64
_SIMPLE = frozenset({type(None), bool, int, float, str, bytes})
_KEYS = frozenset({str, int, bytes})


def encode_state(owner: str, attributes: dict[str, object]) -> bytes:
    """Encode attributes of None, bool, int of any size, float, str, bytes, list, and dict with str, int or bytes keys.

    Raises:
      SnapshotError: an attribute holds something else; the message names it. Also for a list or dict that is
        reachable twice, as it would come back as two.
    """
    seen: set[int] = set()
    for name, value in attributes.items():
        fault = _find_fault(value, MAXIMUM_DEPTH, seen)
        if fault is not None:
            raise SnapshotError(
                f"{owner}.{name}{fault}; keep the state in simpler types, or override snapshot() and restore()"
            )
    try:
        return cbor2.dumps(attributes)
    except UnicodeEncodeError as error:
        raise SnapshotError(f"a str in the state of {owner} is no text: {error.reason}") from error


def decode_state(owner: str, data: bytes) -> dict[str, object]:
    """Read back what `encode_state` wrote.

    Raises:
      SnapshotError: it is something else.
    """
    try:
        attributes = cbor2.loads(data, max_depth=MAXIMUM_DEPTH + 1, allow_indefinite=False, allow_duplicate_keys=False)
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError) as error:
        raise SnapshotError(f"not the state of a {owner}: {error}") from error
    if type(attributes) is not dict or not all(type(name) is str for name in attributes):
        raise SnapshotError(f"not the state of a {owner}")
    if encode_state(owner, attributes) != data:
        raise SnapshotError(f"not the state of a {owner}: bytes follow it")
    return attributes


def _find_fault(value: object, depth: int, seen: set[int]) -> str | None:
    kind = type(value)
    if kind in _SIMPLE:
        return None
    if not isinstance(value, (list, dict)) or kind not in (list, dict):
        return _refusal(value)
    if depth == 0:
        return ": too many containers within each other"
    if id(value) in seen:
        return f": this {kind.__name__} is also reachable another way, and would come back as two"
    seen.add(id(value))
    if isinstance(value, dict):
        for key, part in value.items():
            if type(key) not in _KEYS:
                return f": a dict key is a {type(key).__name__}, and must be a str, int or bytes"
            fault = _find_fault(part, depth - 1, seen)
            if fault is not None:
                return f"[{key!r}]{fault}"
        return None
    for index, part in enumerate(value):
        fault = _find_fault(part, depth - 1, seen)
        if fault is not None:
            return f"[{index}]{fault}"
    return None


def _refusal(value: object) -> str:
    name = type(value).__name__
    if isinstance(value, tuple):
        return f": a {name} would come back as a list"
    if isinstance(value, (set, frozenset)):
        return f": a {name} has no agreed order (it follows PYTHONHASHSEED); use a dict with None as values"
    return f": a {name} cannot be encoded"
