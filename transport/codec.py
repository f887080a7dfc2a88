"""Messages: one has one encoding, and whatever else arrives is refused by one error.

Their layouts leave nothing to choose: see `transport.layout`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from transport.layout import Converter, make_layout

# What fields of other types than theirs make converters raise.
_ENCODE_ERRORS: Final = (ValueError, TypeError, ArithmeticError, AttributeError, struct.error)


class CodecError(ValueError):
    """These bytes are not a well-formed message, or this message cannot be encoded."""


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
        except _ENCODE_ERRORS as error:
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
