"""A replicated key-value store with per-key versions, whose snapshot goes on beside commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypedDict
from zlib import crc32

from statemachine.command import command, query
from statemachine.errors import CommandError, SnapshotError, ValueDecodingError
from statemachine.machine import StateMachine
from statemachine.values import Value, decode_value, encode_value

MAXIMUM_KEY_BYTES = 4096
MAXIMUM_VALUE_BYTES = 1024 * 1024
SNAPSHOT_CHUNK_BYTES = 64 * 1024
BUCKETS = 4096


class BadKeyError(CommandError):
    """A key must be a str of at most MAXIMUM_KEY_BYTES in UTF-8."""

    reason: str


class BadValueError(CommandError):
    """A value cannot be stored: None means absent, and MAXIMUM_VALUE_BYTES bounds its encoding."""

    reason: str


class CannotAppendError(CommandError):
    """Only str goes behind str, bytes behind bytes and list behind list."""

    present: str
    suffix: str


class Versioned(TypedDict):
    """A value and its version: greater than all versions that this or any other key has had before."""

    value: Value
    version: int


class Swapped(TypedDict):
    """The value was as expected and has been replaced."""

    swapped: Literal[True]
    version: int


class NotSwapped(TypedDict):
    """The value was not as expected, and stays; `current` is None where there is none."""

    swapped: Literal[False]
    current: Versioned | None


# A tuple and not an object of our own: the cyclic garbage collector soon leaves it alone, a million of them too.
_Item = tuple[bytes, int]


class KeyValueStore(StateMachine):
    """Keys to values (anything that travels, but None), each with a version.

    Versions come from one counter of changes, so that a key that is deleted and written again never repeats one
    without a trace of deleted keys being kept.

    Values are held encoded: compared by bytes (1, 1.0 and True are three values), and copied into a snapshot as they
    are. Keys are spread over buckets by a checksum, not by hash(), which differs between processes. A snapshot takes
    references to all buckets and marks them shared; a command copies a shared bucket before it changes it. So a
    snapshot starts in microseconds, costs each command at most one small copy, and any number may be under way.
    Its order (bucket, then key) depends on the content alone and not on the history.
    """

    def __init__(self) -> None:
        self._revision = 0
        self._size = 0
        self._buckets: list[dict[str, _Item]] = [{} for _ in range(BUCKETS)]
        self._shared = bytearray(BUCKETS)

    @query
    def get(self, key: str) -> Versioned | None:
        """The value and version of `key`, None if it has none."""
        return _versioned(self._buckets[_place(key)].get(key))

    @query
    def size(self) -> int:
        """How many keys have a value."""
        return self._size

    @command
    def put(self, key: str, value: Value) -> int:
        """Set the value of `key` and return its new version."""
        return self._write(_place(key), key, _encode(value))

    @command
    def append(self, key: str, suffix: Value) -> int:
        """Put `suffix` behind the value of `key`, or set it where there is none; returns the new version."""
        place = _place(key)
        item = self._buckets[place].get(key)
        if item is None:
            if not isinstance(suffix, (str, bytes, list)):
                raise CannotAppendError("nothing", type(suffix).__name__)
            return self._write(place, key, _encode(suffix))
        return self._write(place, key, _encode(_joined(decode_value(item[0]), suffix)))

    @command
    def delete(self, key: str) -> bool:
        """Remove `key`; whether it had a value."""
        place = _place(key)
        if key not in self._buckets[place]:
            return False
        del self._own_bucket(place)[key]
        self._size -= 1
        return True

    @command
    def compare_and_swap(self, key: str, expected: Value, value: Value) -> Swapped | NotSwapped:
        """Set the value of `key` if it is `expected` (None: if it has none), of the same type too."""
        place = _place(key)
        item = self._buckets[place].get(key)
        encoded = _encode(value)
        if (None if item is None else item[0]) != (None if expected is None else encode_value(expected)):
            return {"swapped": False, "current": _versioned(item)}
        return {"swapped": True, "version": self._write(place, key, encoded)}

    @command
    def swap_if_version(self, key: str, version: int, value: Value) -> Swapped | NotSwapped:
        """Set the value of `key` if its version is `version` (0: if it has none)."""
        place = _place(key)
        item = self._buckets[place].get(key)
        encoded = _encode(value)
        if (0 if item is None else item[1]) != version:
            return {"swapped": False, "current": _versioned(item)}
        return {"swapped": True, "version": self._write(place, key, encoded)}

    def snapshot(self) -> Iterator[bytes]:
        """The store as of this call, about SNAPSHOT_CHUNK_BYTES at a time."""
        buckets = list(self._buckets)
        self._shared = bytearray(b"\x01") * BUCKETS
        return _chunks(self._revision, self._size, buckets)

    def restore(self, chunks: Iterator[bytes]) -> None:
        """Replace the store by that of a snapshot."""
        match _read(next(chunks, b"")):
            case [int(revision), int(size)]:
                pass
            case _:
                raise SnapshotError("not a snapshot of a key-value store")
        buckets: list[dict[str, _Item]] = [{} for _ in range(BUCKETS)]
        for chunk in chunks:
            numbers = iter(_read(chunk))
            for key, version, encoded in zip(numbers, numbers, numbers, strict=True):
                if not isinstance(key, str) or not isinstance(version, int) or not isinstance(encoded, bytes):
                    raise SnapshotError("an item of the key-value store's snapshot cannot be read")
                buckets[_place(key)][key] = (encoded, version)
        if sum(map(len, buckets)) != size:
            raise SnapshotError(f"the key-value store's snapshot does not hold the {size} items it promises")
        self._revision, self._size, self._buckets, self._shared = revision, size, buckets, bytearray(BUCKETS)

    def _own_bucket(self, place: int) -> dict[str, _Item]:
        if self._shared[place]:
            self._buckets[place] = self._buckets[place].copy()
            self._shared[place] = 0
        return self._buckets[place]

    def _write(self, place: int, key: str, encoded: bytes) -> int:
        bucket = self._own_bucket(place)
        if key not in bucket:
            self._size += 1
        self._revision += 1
        bucket[key] = (encoded, self._revision)
        return self._revision


def _place(key: Value) -> int:
    """The number of the bucket that this key is in, or would be."""
    if not isinstance(key, str):
        raise BadKeyError(f"a {type(key).__name__} is no key")
    data = key.encode()
    if len(data) > MAXIMUM_KEY_BYTES:
        raise BadKeyError(f"longer than {MAXIMUM_KEY_BYTES} bytes")
    return crc32(data) % BUCKETS


def _versioned(item: _Item | None) -> Versioned | None:
    return None if item is None else {"value": decode_value(item[0]), "version": item[1]}


def _encode(value: Value) -> bytes:
    if value is None:
        raise BadValueError("None means that a key has no value; delete it instead")
    encoded = encode_value(value)
    if len(encoded) > MAXIMUM_VALUE_BYTES:
        raise BadValueError(f"longer than {MAXIMUM_VALUE_BYTES} bytes")
    return encoded


def _joined(present: Value, suffix: Value) -> Value:
    if isinstance(present, str) and isinstance(suffix, str):
        return present + suffix
    if isinstance(present, bytes) and isinstance(suffix, bytes):
        return present + suffix
    if isinstance(present, list) and isinstance(suffix, list):
        return present + suffix
    raise CannotAppendError(type(present).__name__, type(suffix).__name__)


def _chunks(revision: int, size: int, buckets: list[dict[str, _Item]]) -> Iterator[bytes]:
    yield encode_value([revision, size])
    parts: list[Value] = []
    pending = 0
    for bucket in buckets:
        for key in sorted(bucket):
            encoded, version = bucket[key]
            parts += (key, version, encoded)
            pending += len(key) + len(encoded) + 16
            if pending >= SNAPSHOT_CHUNK_BYTES:
                yield encode_value(parts)
                parts, pending = [], 0
    if parts:
        yield encode_value(parts)


def _read(chunk: bytes) -> list[Value]:
    try:
        value = decode_value(chunk)
    except ValueDecodingError as error:
        raise SnapshotError(f"the key-value store's snapshot cannot be read: {error}") from error
    if not isinstance(value, list):
        raise SnapshotError("the key-value store's snapshot cannot be read: a list was expected")
    return value
