"""Strict CBOR: one value has one encoding, and whatever else arrives is refused by one error.

A lenient decoder is a hole: cbor2's defaults ignore trailing bytes, accept duplicate keys and several encodings of
one number, and build what tags ask for (cyclic lists, compiled regular expressions, integers of any size). Here
there are no tags and no indefinite lengths, types are exact (True is no integer) and the bytes must be those that
our own encoder would have written.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, Final, NoReturn, get_type_hints

import cbor2

MAXIMUM_UNSIGNED: Final = (1 << 64) - 1
MINIMUM_SIGNED: Final = -(1 << 63)
DEFAULT_DEPTH: Final = 16
_INFINITY: Final = float("inf")
_SCALARS: Final = frozenset((bool, bytes, str, type(None)))

Converter = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]
"""How one field type travels: (to bytes, from bytes). The second may raise ValueError for bytes it cannot read."""


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


_PLAIN: Final = (int, bool, bytes, str)
_NO_CONVERTERS: Final[Mapping[Any, Converter]] = MappingProxyType({})


class _Layout:
    """How one message class travels: its fields in order, and what must hold of their values."""

    __slots__ = ("converted", "fields_of", "kind", "tag", "types", "unsigned")

    def __init__(self, tag: int, kind: type, converters: Mapping[Any, Converter]) -> None:
        if not dataclasses.is_dataclass(kind):
            raise TypeError(f"{kind.__name__} is not a dataclass")
        hints = get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        types: list[type] = [int]
        self.converted: list[tuple[int, Callable[[Any], bytes], Callable[[bytes], Any]]] = []
        for position, name in enumerate(names, 1):
            hint = hints[name]
            if hint in _PLAIN:
                types.append(hint)
                continue
            for annotation, (to_bytes, from_bytes) in converters.items():
                if annotation == hint:
                    self.converted.append((position, to_bytes, from_bytes))
                    break
            else:
                raise TypeError(f"{kind.__name__}.{name} has type {hint}, which no converter carries")
            types.append(bytes)
        self.tag = tag
        self.kind: type = kind
        self.types = tuple(types)
        self.unsigned = _positions([position for position, plain in enumerate(types) if plain is int])
        self.fields_of = _attributes(names)


def _positions(wanted: list[int]) -> Callable[[list[Any]], Iterable[int]]:
    """A quick getter of several items; itemgetter gives no tuple for one, and the first is always the tag."""
    return itemgetter(*wanted) if len(wanted) > 1 else itemgetter(slice(0, 1))


def _attributes(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A quick getter of all fields as a tuple; attrgetter gives none for fewer than two names."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        only = attrgetter(names[0])
        return lambda message: (only(message),)
    return lambda message: ()


class MessageCodec:
    """Encodes and decodes messages of a closed set of classes as the CBOR array [tag, field, field...].

    Classes are dataclasses with flat fields: int (0 to 2**64 - 1), bool, bytes, str, tuple[int, ...] (packed
    into one byte string, 8 bytes each, big-endian), and every annotation that `converters` maps to a pair of
    functions, to bytes and from bytes. A flat array is what keeps this fast.

    Raises:
      TypeError: a class is no dataclass, or has a field of another type.
    """

    def __init__(self, classes: Mapping[int, type], converters: Mapping[Any, Converter] = _NO_CONVERTERS) -> None:
        known: dict[Any, Converter] = {tuple[int, ...]: (_pack_unsigned, _unpack_unsigned), **converters}
        layouts = [_Layout(tag, kind, known) for tag, kind in classes.items()]
        self._by_tag = {layout.tag: layout for layout in layouts}
        self._by_class = {layout.kind: layout for layout in layouts}

    def encode(self, message: object) -> bytes:
        """The bytes of a message.

        Raises:
          CodecError: a class that this codec was not built with, or a field whose value is not of its type.
        """
        layout = self._by_class.get(type(message))
        if layout is None:
            raise CodecError(f"{type(message).__name__} is not a message of this codec")
        values = [layout.tag, *layout.fields_of(message)]
        try:
            for position, to_bytes, _ in layout.converted:
                values[position] = to_bytes(values[position])
            if tuple(map(type, values)) == layout.types:
                unsigned = layout.unsigned(values)
                if min(unsigned) >= 0 and max(unsigned) <= MAXIMUM_UNSIGNED:
                    return cbor2.dumps(values)
        except _ENCODE_ERRORS as error:  # what wrongly typed fields make converters raise, too
            raise CodecError(f"{type(message).__name__} cannot be encoded: {error!r}") from error
        raise CodecError(f"{type(message).__name__} has a field of a wrong type or range: {message!r:.200}")

    def decode(self, data: bytes) -> Any:
        """The message in these bytes.

        Raises:
          CodecError: they are not exactly one message as `encode` writes it. Nothing else, whatever the bytes.
        """
        values = _load(data, 1, string_keys=True)
        if type(values) is not list or not values or type(values[0]) is not int:
            raise CodecError("a message is an array that begins with its tag")
        layout = self._by_tag.get(values[0])
        if layout is None:
            raise CodecError(f"unknown message tag {values[0]}")
        if tuple(map(type, values)) != layout.types or min(layout.unsigned(values)) < 0:
            raise CodecError(f"{layout.kind.__name__} with fields missing, too many, or of a wrong type or range")
        if cbor2.dumps(values) != data:
            raise CodecError(f"{layout.kind.__name__} not in canonical form, or followed by more bytes")
        try:
            for position, _, from_bytes in layout.converted:
                values[position] = from_bytes(values[position])
            del values[0]
            return layout.kind(*values)
        except ValueError as error:
            raise CodecError(f"{layout.kind.__name__}: {error}") from error
