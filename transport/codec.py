"""Messages and strict CBOR: one value has one encoding, and whatever else arrives is refused by one error.

Messages have layouts that leave nothing to choose (`transport.layout`). Plain values, for people and tools, are CBOR,
where a lenient decoder is a hole: cbor2's defaults ignore trailing bytes, accept duplicate keys and several encodings
of one number, and build what tags ask for (cyclic lists, compiled regular expressions, integers of any size). Here
there are no tags and no indefinite lengths, types are exact (True is no integer) and the bytes must be those that
our own encoder would have written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

import cbor2

from transport.layout import Converter, make_layout

MAXIMUM_UNSIGNED: Final = (1 << 64) - 1
MINIMUM_SIGNED: Final = -(1 << 63)
DEFAULT_DEPTH: Final = 16
_INFINITY: Final = float("inf")
_SCALARS: Final = frozenset((bool, bytes, str, type(None)))


class CodecError(ValueError):
    """These bytes are not a well-formed value, or this value has no strict encoding."""


def _refuse_tag(*_: object) -> NoReturn:
    raise CodecError("CBOR tags are not accepted")


class _EveryTag(dict[int, Any]):
    """Answers `_refuse_tag` for every tag, also for those that a later cbor2 learns to decode."""

    def __contains__(self, tag: object) -> bool:
        return True

    def __getitem__(self, tag: int) -> Any:
        return _refuse_tag

    def get(self, tag: int, default: object = None) -> Any:
        return _refuse_tag


_NO_TAGS: Final = _EveryTag()
# cbor2 documents CBORError; the others are what its callees are known to let through on hostile input.
_DECODE_ERRORS: Final = (cbor2.CBORError, ValueError, TypeError, ArithmeticError)
_ENCODE_ERRORS: Final = (*_DECODE_ERRORS, AttributeError, struct.error)


def _load(data: bytes, max_depth: int, string_keys: bool) -> object:
    try:
        return cbor2.loads(
            data,
            tag_hook=_refuse_tag,
            semantic_decoders=_NO_TAGS,
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=string_keys,
        )
    except CodecError:
        raise
    except _DECODE_ERRORS as error:
        raise CodecError(f"not strict CBOR: {error}") from error


def decode_strict(data: bytes, max_depth: int = DEFAULT_DEPTH) -> object:
    """Decode one value: None, bool, int (-2**63 to 2**64 - 1), finite float, bytes, str, list, or dict with
    str, bytes or int keys, nested at most `max_depth` deep.

    Raises:
      CodecError: anything else, among it trailing bytes, tags, indefinite lengths, duplicate or unsorted keys and
        numbers not in their shortest form. No other exception is raised, whatever the bytes.
    """
    try:
        value = _load(data, max_depth, string_keys=True)
    except CodecError:
        # Perhaps only because of integer keys, which cbor2 refuses along with all other keys that hash without a
        # secret. Arrays as keys would let a sender choose hashes that collide, which costs quadratic time, so
        # the keys are looked at before anything is hashed.
        _refuse_odd_keys(data)
        value = _load(data, max_depth, string_keys=False)
    _inspect(value, max_depth)
    if _dump(value) != data:
        raise CodecError("not in canonical form, or followed by more bytes")
    return value


def encode_strict(value: object, max_depth: int = DEFAULT_DEPTH) -> bytes:
    """Encode a value of the types and limits that `decode_strict` gives back.

    Raises:
      CodecError: some part of `value` is of another type (named in the message; a tuple or an IntEnum is one),
        out of range, or nested too deep.
    """
    _inspect(value, max_depth)
    return _dump(value)


def _dump(value: object) -> bytes:
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError) as error:  # such as a str with a lone surrogate
        raise CodecError(f"cannot be encoded: {error}") from error


def _inspect(value: object, depth: int) -> None:
    """Check exact types and ranges; `depth` is how many more containers may be nested."""
    kind = type(value)
    if kind in _SCALARS:
        return
    match value:
        case int() if kind is int:
            if not MINIMUM_SIGNED <= value <= MAXIMUM_UNSIGNED:
                raise CodecError("an integer must lie within -2**63 to 2**64 - 1")
        case float() if kind is float:
            if not -_INFINITY < value < _INFINITY:  # false for NaN, too
                raise CodecError(f"a float must be finite, not {value}")
        case list() if kind is list:
            _descend(depth)
            for item in value:
                _inspect(item, depth - 1)
        case dict() if kind is dict:
            _descend(depth)
            for key, item in value.items():
                if type(key) not in (str, int, bytes):
                    raise CodecError(f"a key must be a str, int or bytes, not {type(key).__name__}")
                _inspect(key, 0)
                _inspect(item, depth - 1)
        case _:
            raise CodecError(f"type {kind.__name__} is not accepted")


def _descend(depth: int) -> None:
    if depth < 1:
        raise CodecError("nested too deep")


def _refuse_odd_keys(data: bytes) -> None:
    """Walk over the items without building them, and refuse map keys other than integers and strings.

    Structure is otherwise judged by the decoder proper: where this walk cannot go on, that fails too.
    """
    position, end = 0, len(data)
    pending: list[list[int]] = []  # of each open container: items left, and whether it is a map
    while position < end:
        major, width = data[position] >> 5, data[position] & 31
        if pending and pending[-1][1] and pending[-1][0] % 2 == 0 and major > 3:
            raise CodecError("a key must be a str, int or bytes")
        position += 1
        if width >= 24:
            if width > 27:
                raise CodecError("indefinite lengths are not accepted")
            size = 1 << (width - 24)
            width = int.from_bytes(data[position : position + size], "big")
            position += size
        if pending:
            pending[-1][0] -= 1
        match major:
            case 2 | 3:
                position += width
            case 4 | 5:
                pending.append([width * (major - 3), major - 4])
            case 6:
                _refuse_tag()
            case _:
                pass
        while pending and not pending[-1][0]:
            pending.pop()


def _pack_unsigned(values: tuple[int, ...]) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)  # the module caches formats, Struct() would not


def _unpack_unsigned(data: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(data), 8)
    if rest:
        raise CodecError(f"a tuple of integers takes a multiple of 8 bytes, not {len(data)}")
    return struct.unpack(f">{count}Q", data)


_NO_CONVERTERS: Final[Mapping[Any, Converter]] = MappingProxyType({})
_CONVERTERS: Final[Mapping[Any, Converter]] = MappingProxyType(
    {tuple[int, ...]: (_pack_unsigned, _unpack_unsigned), str: (str.encode, bytes.decode)}
)


class MessageCodec:
    """Encodes and decodes messages of a closed set of classes, each by a layout of its own (see `transport.layout`).

    Classes are dataclasses with flat fields: int (0 to 2**64 - 1), bool, bytes, str, tuple[int, ...] (packed
    into one byte string, 8 bytes each, big-endian), and every annotation that `converters` maps to a pair of
    functions, to bytes and from bytes. Their tags are a byte.

    Raises:
      TypeError: a class is no dataclass, or has a field of another type.
    """

    def __init__(self, classes: Mapping[int, type], converters: Mapping[Any, Converter] = _NO_CONVERTERS) -> None:
        known = {**_CONVERTERS, **converters}
        layouts = {tag: make_layout(tag, kind, known) for tag, kind in classes.items()}
        self._readers = {tag: layout.read for tag, layout in layouts.items()}
        self._writers = {kind: layouts[tag].write for tag, kind in classes.items()}
        self._field_writers = {kind: layouts[tag].write_fields for tag, kind in classes.items()}

    def encode(self, message: object) -> bytes:
        """The bytes of a message.

        Raises:
          CodecError: a class that this codec was not built with, or a field whose value is not of its type.
        """
        write = self._writers.get(type(message))
        if write is None:
            raise CodecError(f"{type(message).__name__} is not a message of this codec")
        try:
            return write(message)
        except _ENCODE_ERRORS as error:  # what wrongly typed fields make converters raise, too
            raise CodecError(f"{type(message).__name__} cannot be encoded: {error!r}: {message!r:.200}") from error

    def encoder(self, kind: type) -> Callable[..., bytes]:
        """What gives the bytes of a message of this class from its fields, in their order, without making it.

        For who sends many of them from fields that are sure to be of their types: of others it raises what it meets.
        """
        return self._field_writers[kind]

    def decode(self, data: bytes) -> Any:
        """The message in these bytes.

        Raises:
          CodecError: they are not exactly one message as `encode` writes it. Nothing else, whatever the bytes.
        """
        read = self._readers.get(data[0]) if data else None
        if read is None:
            raise CodecError(f"unknown message tag in {data[:1]!r}")
        try:
            return read(data)
        except (ValueError, struct.error) as error:
            raise CodecError(f"a message of tag {data[0]} that is none: {error}") from error
