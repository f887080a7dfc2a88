"""Values: what the arguments and results of commands are made of, and their one encoding.

None, bool, int from -2**63 to 2**64 - 1, finite float, str, bytes, list, and dict with str keys, at most 16 deep.
A tuple is taken and arrives as a list. A dict arrives in the canonical order of its keys (shorter first).
Types are exact: an enum member or another subclass is refused, as it would arrive as something else. Sets are
refused because their order depends on PYTHONHASHSEED, which differs between replicas.

The encoding is canonical CBOR (RFC 8949, section 4.2): equal values are equal bytes on every replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, NoReturn, TypeAlias

import cbor2

from statemachine.errors import ValueDecodingError, ValueEncodingError

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"

MAXIMUM_DEPTH = 16
MINIMUM_INTEGER = -(1 << 63)
MAXIMUM_INTEGER = (1 << 64) - 1
_TOGETHER_BYTES = 1 << 20


def encode_value(value: object, *, depth: int = MAXIMUM_DEPTH) -> bytes:
    """Encode a value canonically. `depth` is how many containers may be nested.

    Raises:
      ValueEncodingError: some part of the value cannot travel; the message names it and says why.
    """
    fault = find_fault(value, depth)
    if fault is not None:
        raise ValueEncodingError("value" + fault)
    return dump(value)


def dump(value: object) -> bytes:
    """Encode what `find_fault` found good."""
    if type(value) is int and value >= 0:
        return dump_head(UNSIGNED, value)
    if type(value) is bytes:
        return dump_head(_BYTE_STRING, len(value)) + value
    try:
        if type(value) is str:
            text = value.encode()
            return dump_head(_TEXT, len(text)) + text
        return cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError as error:
        # Half of a surrogate pair is a str in Python, but no text.
        raise ValueEncodingError(f"a str in the value is no text: {error.reason}") from error


def dump_head(kind: int, number: int) -> bytes:
    """Encode an unsigned integer, or how many bytes or parts follow: the number of an item of that kind.

    As cbor2 would (RFC 8949, section 3), in a fraction of the time that it takes to begin. Most arguments and replies
    are a name, a key, a counter or a version.
    """
    if number < 24:
        return _BYTES[kind + number]
    if number < 1 << 8:
        return _BYTES[kind + 24] + _BYTES[number]
    if number < 1 << 16:
        return _BYTES[kind + 25] + number.to_bytes(2, "big")
    if number < 1 << 32:
        return _BYTES[kind + 26] + number.to_bytes(4, "big")
    return _BYTES[kind + 27] + number.to_bytes(8, "big")


UNSIGNED, _BYTE_STRING, _TEXT, ARRAY = 0x00, 0x40, 0x60, 0x80
_LONGEST_UNSIGNED, _LAST_UNSIGNED_HEAD = 9, 27
_BYTES = [bytes([number]) for number in range(1 << 8)]


def decode_value(data: bytes, *, depth: int = MAXIMUM_DEPTH) -> Value:
    """Decode what `encode_value` wrote, and nothing else.

    Raises:
      ValueDecodingError: the bytes are no value, or not in canonical form, or something follows them. Nothing else
        is raised, whatever the bytes.
    """
    number = _load_unsigned(data)
    if number is not None:
        return number
    try:
        value: Value = _load(data, depth)
    except _REFUSALS as error:
        raise ValueDecodingError(f"not the encoding of a value: {error}") from error
    # Nearly all commands and replies are plain, and to count takes a fifth of looking closely and encoding again.
    if _plain_size(value) != len(data):
        fault = _fault_of_other(value, data, depth)
        if fault is not None:
            raise ValueDecodingError(fault)
    return value


def _load_unsigned(data: bytes) -> int | None:
    """The integer that these bytes are all of the encoding of, if it is not negative; else None.

    For a counter or a version, as most results are, the decoder takes longer to begin than this to end.
    """
    if not 0 < len(data) <= _LONGEST_UNSIGNED or data[0] > _LAST_UNSIGNED_HEAD:
        return None
    number = int.from_bytes(data[1:] or data, "big")
    return number if dump_head(UNSIGNED, number) == data else None


def decode_each(encodings: Sequence[bytes], *, depth: int = MAXIMUM_DEPTH) -> list[Value] | None:
    """Decode many encodings in one go, in half the time; None if that cannot be done.

    It can if each is the encoding of a value, and they are not very long, when it would save nothing but take their
    memory twice. If not, decode them one by one: only `decode_value` finds out which of them is none.
    """
    if sum(map(len, encodings)) > _TOGETHER_BYTES:
        return None
    try:
        values: list[Value] = _load(dump_head(ARRAY, len(encodings)) + b"".join(encodings), depth + 1)
    except _REFUSALS:
        return None
    # The decoder saw no borders: one encoding that is cut short, with its rest in the next, would pass. But no part is
    # shorter than the canonical encoding of its value. So if that is as long as the encoding which was to be decoded,
    # for all of them, each part ended where its own one ends.
    others = [
        (value, encoding)
        for value, encoding, size in zip(values, encodings, map(_plain_size, values), strict=True)
        if size != len(encoding)
    ]
    return None if any(_fault_of_other(value, encoding, depth) for value, encoding in others) else values


def _fault_of_other(value: Value, data: bytes, depth: int) -> str | None:
    """Why these bytes are not the encoding of a value that is not plain, or not of that size; None if they are."""
    fault = find_fault(value, depth)
    if fault is not None:
        return "value" + fault
    # This refuses longer forms of the same number, and trailing bytes, which the decoder ignores.
    if cbor2.dumps(value, canonical=True) != data:
        return "the encoding of a value is not canonical, or bytes follow it"
    return None


def _plain_size(value: Value) -> int:
    """The length in bytes of the canonical encoding of None, a bool, int, str or bytes, or of a list of these; else -1.

    Without indefinite lengths, an encoding of the same value that is not the canonical one is longer: each part has
    one shortest form, and there is no order to choose. Of floats and dicts that is not true.
    """
    if type(value) is list:
        parts, size = value, _head_size(len(value))
    else:
        parts, size = [value], 0
    for part in parts:
        if type(part) is str:
            length = len(part) if part.isascii() else len(part.encode())
            size += length + (1 if length < 24 else _HEAD_SIZES[length.bit_length()])
        elif type(part) is int:
            if part < MINIMUM_INTEGER:
                return -1
            number = part if part >= 0 else ~part
            size += 1 if number < 24 else _HEAD_SIZES[number.bit_length()]
        elif type(part) is bytes:
            size += len(part) + _head_size(len(part))
        elif part is None or type(part) is bool:
            size += 1
        else:
            return -1
    return size


# How many bytes say a type and a number (a length, a count): those below 24 take one, others by their bits.
_HEAD_SIZES = (*[2] * 9, *[3] * 8, *[5] * 16, *[9] * 32)


def _head_size(number: int) -> int:
    return 1 if number < 24 else _HEAD_SIZES[number.bit_length()]


def find_fault(value: object, depth: int) -> str | None:
    """None for a value that can travel; otherwise where in it the fault is, and what: "[2]['name']: a set ..."."""
    # Each argument and result passes here, so exact types are compared in a chain, the frequent ones first.
    kind = type(value)
    if kind is str or kind is bytes or kind is bool or value is None:
        return None
    if isinstance(value, int) and kind is int:
        if MINIMUM_INTEGER <= value <= MAXIMUM_INTEGER:
            return None
        return f": {value:#x} is outside -2**63 to 2**64 - 1"
    if isinstance(value, float) and kind is float:
        return None if isfinite(value) else f": {value} is not a finite number"
    if isinstance(value, (list, tuple)) and kind in _SEQUENCES:
        if depth == 0:
            return ": too many containers within each other"
        for index, part in enumerate(value):
            fault = find_fault(part, depth - 1)
            if fault is not None:
                return f"[{index}]{fault}"
        return None
    if isinstance(value, dict) and kind is dict:
        if depth == 0:
            return ": too many containers within each other"
        for key, part in value.items():
            if type(key) is not str:
                return f": a dict key is a {type(key).__name__}; only str keys can travel"
            fault = find_fault(part, depth - 1)
            if fault is not None:
                return f"[{key!r}]{fault}"
        return None
    if isinstance(value, (set, frozenset)):
        return f": a {kind.__name__} has no agreed order (it follows PYTHONHASHSEED); use a sorted list instead"
    return (
        f": a {kind.__name__} cannot travel; use None, bool, int, float, str, bytes, list or dict, "
        "of exactly these types"
    )


_SEQUENCES = (list, tuple)


def _refuse_tag(*_: object, **__: object) -> NoReturn:
    # Tags would build cyclic lists, regular expressions, numbers of any size: work and types that no value has.
    raise ValueDecodingError("a value holds no CBOR tags")


_REFUSED_TAGS = dict.fromkeys((*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag)

_REFUSALS = (cbor2.CBORError, ValueError, TypeError, ArithmeticError)


def _load(data: bytes, depth: int) -> Any:
    # Written out: a `partial` would copy these arguments for each value, which takes as long as to decode a small one.
    return cbor2.loads(
        data,
        max_depth=depth,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        tag_hook=_refuse_tag,
        semantic_decoders=_REFUSED_TAGS,
    )


# A cbor2 that does not know these arguments is to fail here: above, their TypeError is taken for that of bad bytes.
_load(b"\x00", 1)
