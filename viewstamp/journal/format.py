"""The bytes of a journal, format version 2. All numbers are big-endian.

A segment file, `journal-0000000001` and so on, is a header and then batches to its end.

    header   magic (8), format version (2), checksum (4), length of the whole header (4), cluster (8), replica (4),
             incarnation (8), segment number (8), sequence number of the first batch (8), chain (4), op of the last
             entry before this segment (8), length of the protocol's name (1), that name, the latest founding, state
             and snapshot records
    batch    magic (4), checksum (4), length of the records (4), sequence number (8), chain (4), records
    record   kind (1), length (4), payload; a snapshot's is its view (8), op (8), size (8), digest (32) and
             stamp (8)

A header's checksum covers all of the header but itself. A batch's covers all behind it, and starts from a
number made of cluster, replica and protocol, so that a batch of another journal in a misdirected sector is
never taken for one of this. The chain is the checksum of the batch before; of the very first, a number made of
the first incarnation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, assert_never
from zlib import crc32

from viewstamp.journal.errors import JournalCorruptError, JournalFormatError
from viewstamp.journal.records import (
    Checkpoint,
    EntriesRecord,
    FoundingRecord,
    Identity,
    IncarnationRecord,
    JournalRecord,
    SnapshotRecord,
    StateRecord,
    TruncateRecord,
)

FORMAT_VERSION = 2
SEGMENT_MAGIC = b"vstampj\x00"
BATCH_MAGIC = b"\xb5VSB"
MAXIMUM_BATCH_BYTES = 1 << 30
UNFINISHED_SUFFIX = ".new"

_PREFIX = struct.Struct(">8sHII")  # magic, version, checksum, length
_VERSION = struct.Struct(">8sH")
_HEADER = struct.Struct(">8sIQQQIQB")
_BATCH = struct.Struct(">4sIIQI")
_BATCH_COVERED = struct.Struct(">IQI")
_RECORD = struct.Struct(">BI")
_ENTRIES = struct.Struct(">BIQI")
_ENTRIES_PAYLOAD = struct.Struct(">QI")
_NUMBER_RECORD = struct.Struct(">BIQ")
_NUMBER = struct.Struct(">Q")
_SNAPSHOT_PAYLOAD = struct.Struct(">QQQ32sq")
BATCH_HEADER_BYTES = _BATCH.size

_INCARNATION, _FOUNDING, _STATE, _ENTRIES_KIND, _TRUNCATE, _SNAPSHOT = 1, 2, 3, 4, 5, 6
_SEGMENT_NAME = re.compile(r"journal-(\d{10})")


class SegmentHeader(NamedTuple):
    """What a segment says of itself; `checkpoint` holds as of the end of the segment before."""

    identity: Identity
    number: int
    sequence: int
    chain: int
    checkpoint: Checkpoint


class BatchFrame(NamedTuple):
    """A batch whose checksum is right: its place in the sequence, and where its records lie in the file."""

    sequence: int
    chain: int
    checksum: int
    start: int
    end: int


def segment_name(number: int) -> str:
    """The file name of segment `number`."""
    return f"journal-{number:010d}"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for any other file."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


def identity_seed(identity: Identity) -> int:
    """Where the checksums of this journal's batches start."""
    return crc32(identity.cluster + identity.replica.to_bytes(4, "big") + identity.protocol.encode())


def first_chain(identity: Identity, incarnation: int) -> int:
    """The chain before the first batch of all."""
    return crc32(_NUMBER.pack(incarnation), identity_seed(identity))


def encode_header(header: SegmentHeader) -> bytes:
    """The bytes at the beginning of a segment."""
    identity, checkpoint = header.identity, header.checkpoint
    name = identity.protocol.encode()
    records: list[JournalRecord] = []
    if checkpoint.founding is not None:
        records.append(FoundingRecord(checkpoint.founding))
    if checkpoint.state is not None:
        records.append(StateRecord(checkpoint.state))
    if checkpoint.snapshot is not None:
        records.append(checkpoint.snapshot)
    fixed = _HEADER.pack(
        identity.cluster,
        identity.replica,
        checkpoint.incarnation,
        header.number,
        header.sequence,
        header.chain,
        checkpoint.last_op,
        len(name),
    )
    body = b"".join([fixed, name, *record_parts(records)])
    length = _PREFIX.size + len(body)
    checksum = crc32(body, crc32(_PREFIX.pack(SEGMENT_MAGIC, FORMAT_VERSION, 0, length)))
    return _PREFIX.pack(SEGMENT_MAGIC, FORMAT_VERSION, checksum, length) + body


def decode_header(file: str, data: memoryview) -> tuple[SegmentHeader, int]:
    """A segment's header and its length in bytes.

    A segment gets its name only when its header is durable, so there is no such thing as a torn header.

    Raises:
      JournalFormatError: an unknown format version.
      JournalCorruptError: anything else that is wrong.
    """
    if len(data) < _VERSION.size:
        raise JournalCorruptError(file, 0, "the segment header is cut short")
    magic, version = _VERSION.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        raise JournalCorruptError(file, 0, "this does not begin like a journal segment")
    if version != FORMAT_VERSION:
        raise JournalFormatError(f"{file} has format version {version}; this program knows version {FORMAT_VERSION}")
    if len(data) < _PREFIX.size + _HEADER.size:
        raise JournalCorruptError(file, 0, "the segment header is cut short")
    _, _, checksum, length = _PREFIX.unpack_from(data)
    if not _PREFIX.size + _HEADER.size <= length <= len(data):
        raise JournalCorruptError(file, 0, "the segment header has an impossible length")
    body = data[_PREFIX.size : length]
    if checksum != crc32(body, crc32(_PREFIX.pack(SEGMENT_MAGIC, FORMAT_VERSION, 0, length))):
        raise JournalCorruptError(file, 0, "the segment header's checksum is wrong")
    cluster, replica, incarnation, number, sequence, chain, last_op, name_length = _HEADER.unpack_from(body)
    name_end = _HEADER.size + name_length
    try:
        identity = Identity(cluster, replica, bytes(body[_HEADER.size : name_end]).decode())
    except ValueError as error:
        raise JournalCorruptError(file, 0, f"the segment header names nobody: {error}") from error
    founding = state = snapshot = None
    for record in decode_records(file, _PREFIX.size, body, name_end):
        match record:
            case FoundingRecord(content):
                founding = content
            case StateRecord(content):
                state = content
            case SnapshotRecord():
                snapshot = record
            case _:
                raise JournalCorruptError(file, 0, "the segment header holds a record of a wrong kind")
    checkpoint = Checkpoint(incarnation, founding, state, last_op, snapshot)
    return SegmentHeader(identity, number, sequence, chain, checkpoint), length


def record_parts(records: Sequence[JournalRecord]) -> list[bytes]:
    """The bytes of records in pieces, so that large data is copied once, by the caller's one join."""
    parts: list[bytes] = []
    for record in records:
        match record:
            case EntriesRecord(first, count, data):
                parts.append(_ENTRIES.pack(_ENTRIES_KIND, _ENTRIES_PAYLOAD.size + len(data), first, count))
                parts.append(data)
            case StateRecord(data):
                parts.append(_RECORD.pack(_STATE, len(data)))
                parts.append(data)
            case TruncateRecord(after):
                parts.append(_NUMBER_RECORD.pack(_TRUNCATE, 8, after))
            case FoundingRecord(data):
                parts.append(_RECORD.pack(_FOUNDING, len(data)))
                parts.append(data)
            case IncarnationRecord(incarnation):
                parts.append(_NUMBER_RECORD.pack(_INCARNATION, 8, incarnation))
            case SnapshotRecord(view, op, size, digest, stamp):
                parts.append(_RECORD.pack(_SNAPSHOT, _SNAPSHOT_PAYLOAD.size))
                parts.append(_SNAPSHOT_PAYLOAD.pack(view, op, size, digest, stamp))
            case _:
                assert_never(record)
    return parts


def encode_batch(seed: int, sequence: int, chain: int, parts: list[bytes]) -> tuple[bytes, int]:
    """One batch as one blob, and its checksum, which is the chain of the next."""
    length = sum(map(len, parts))
    if length > MAXIMUM_BATCH_BYTES:
        raise ValueError(f"a batch of {length} bytes is larger than {MAXIMUM_BATCH_BYTES}")
    checksum = crc32(_BATCH_COVERED.pack(length, sequence, chain), seed)
    for part in parts:
        checksum = crc32(part, checksum)
    return b"".join([_BATCH.pack(BATCH_MAGIC, checksum, length, sequence, chain), *parts]), checksum


def find_batch(seed: int, data: memoryview, offset: int) -> BatchFrame | None:
    """The batch at `offset`; None unless it is whole and its checksum right."""
    start = offset + BATCH_HEADER_BYTES
    if start > len(data):
        return None
    magic, checksum, length, sequence, chain = _BATCH.unpack_from(data, offset)
    end = start + length
    if magic != BATCH_MAGIC or length > MAXIMUM_BATCH_BYTES or end > len(data):
        return None
    if checksum != crc32(data[offset + 8 : end], seed):
        return None
    return BatchFrame(sequence, chain, checksum, start, end)


def later_batch(seed: int, raw: bytes, offset: int, sequence: int) -> int | None:
    """Where, beyond `offset`, a whole batch with a number above `sequence` lies; None if nowhere.

    There being one tells damage from a torn tail: batch n + 1 is never written before batch n is durable.
    """
    view = memoryview(raw)
    position = raw.find(BATCH_MAGIC, offset + 1)
    while position >= 0:
        if position + BATCH_HEADER_BYTES <= len(raw) and _BATCH.unpack_from(raw, position)[3] > sequence:
            frame = find_batch(seed, view, position)
            if frame is not None:
                return position
        position = raw.find(BATCH_MAGIC, position + 1)
    return None


def decode_records(file: str, offset: int, data: memoryview, start: int) -> Iterator[JournalRecord]:
    """The records from `start` to the end of `data`, which lies at `offset` of the file.

    Raises:
      JournalCorruptError: not a run of whole records of known kinds.
    """
    total = len(data)
    while start < total:
        if start + _RECORD.size > total:
            raise JournalCorruptError(file, offset + start, "a record's header is cut short")
        kind, length = _RECORD.unpack_from(data, start)
        payload = data[start + _RECORD.size : start + _RECORD.size + length]
        if len(payload) != length:
            raise JournalCorruptError(file, offset + start, "a record runs beyond its batch")
        yield _decode_record(file, offset + start, kind, payload)
        start += _RECORD.size + length


def _decode_record(file: str, offset: int, kind: int, payload: memoryview) -> JournalRecord:
    if kind == _ENTRIES_KIND and len(payload) >= _ENTRIES_PAYLOAD.size:
        first, count = _ENTRIES_PAYLOAD.unpack_from(payload)
        return EntriesRecord(first, count, bytes(payload[_ENTRIES_PAYLOAD.size :]))
    if kind == _STATE:
        return StateRecord(bytes(payload))
    if kind == _FOUNDING:
        return FoundingRecord(bytes(payload))
    if kind in (_TRUNCATE, _INCARNATION) and len(payload) == _NUMBER.size:
        (number,) = _NUMBER.unpack(payload)
        return TruncateRecord(number) if kind == _TRUNCATE else IncarnationRecord(number)
    if kind == _SNAPSHOT and len(payload) == _SNAPSHOT_PAYLOAD.size:
        return SnapshotRecord(*_SNAPSHOT_PAYLOAD.unpack(payload))
    raise JournalCorruptError(file, offset, f"a record of kind {kind} and {len(payload)} bytes is not known")
