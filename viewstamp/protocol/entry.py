"""Log entries: encoded once, and from then on those bytes are sent, stored and sent again.

An entry's header is all that a protocol may read. Its body belongs to the client and the state machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

# kind, format version, view, op, session, request, mark, stamp (signed), seed, length of the body
_HEADER = struct.Struct(">BBQQQQQqQI")
HEADER_BYTES = _HEADER.size
FORMAT_VERSION = 1
MAXIMUM_UNSIGNED = (1 << 64) - 1


class Kind(IntEnum):
    """What an entry is for. A protocol may act on its own kinds and passes the others through.

    Of the last two there are none yet: new members, and new versions of what the log holds, have their numbers, so that
    they will not be taken for something else.
    """

    COMMAND = 1
    REGISTER = 2
    NOOP = 3
    CONFIGURATION = 4
    UPGRADE = 5


_KINDS = {int(kind): kind for kind in Kind}


class Viewstamp(NamedTuple):
    """The place of an operation in the one agreed history: (view, op-number) in VSR, (term, index) in Raft.

    Viewstamps order lexicographically, as the paper's do (Liskov and Cowling 2012, section 4).
    """

    view: int
    op: int


class MalformedEntryError(ValueError):
    """The bytes are not a run of whole, well-formed entries."""


class Entry(NamedTuple):
    """One operation of the log; `encoded` is its wire and disk form, header and body together.

    `view` is the view (or term) in which the entry was made, which it keeps for ever: equal (view, op) of two
    entries means that the logs up to them are equal. `stamp` is the agreed time in nanoseconds since the Unix
    epoch and `seed` the agreed 64 random bits, both fixed by the primary (VRR section 4.4). `session`,
    `request` and `mark` (the client's low-water mark) identify a client's request; they are 0 where there is none.
    """

    op: int
    view: int
    kind: Kind
    session: int
    request: int
    mark: int
    stamp: int
    seed: int
    version: int
    body: bytes
    encoded: bytes

    @property
    def viewstamp(self) -> Viewstamp:
        return Viewstamp(self.view, self.op)


_entry = tuple.__new__  # what Entry(...) comes to, without passing eleven arguments twice


class Proposal(NamedTuple):
    """What a body asks its protocol to order: an entry before it has its place, view, stamp and seed."""

    kind: Kind
    session: int
    request: int
    mark: int
    body: bytes
    seed: int


def make_entry(op: int, view: int, stamp: int, proposal: Proposal) -> Entry:
    """Give a proposal its place and encode it, once."""
    kind, session, request, mark, body, seed = proposal
    header = _HEADER.pack(kind, FORMAT_VERSION, view, op, session, request, mark, stamp, seed, len(body))
    return _entry(Entry, (op, view, kind, session, request, mark, stamp, seed, FORMAT_VERSION, body, header + body))


def join_entries(entries: Iterable[Entry]) -> bytes:
    """The bytes of consecutive entries, one behind the other; entries delimit themselves."""
    return b"".join([entry.encoded for entry in entries])


def split_entries(data: bytes) -> tuple[Entry, ...]:
    """Read back what `join_entries` wrote.

    Raises:
      MalformedEntryError: a header is cut short, a kind or version is unknown, a body runs beyond the end,
        or the op-numbers are not consecutive from 1 up. Nothing else is raised, whatever the bytes.
    """
    entries: list[Entry] = []
    start, total = 0, len(data)
    expected = 0
    while start < total:
        body_start = start + HEADER_BYTES
        if body_start > total:
            raise MalformedEntryError(f"an entry's header is cut short at byte {start} of {total}")
        kind, version, view, op, session, request, mark, stamp, seed, length = _HEADER.unpack_from(data, start)
        known = _KINDS.get(kind)
        if known is None or version != FORMAT_VERSION:
            raise MalformedEntryError(f"an entry at byte {start} has kind {kind}, format version {version}")
        end = body_start + length
        if end > total:
            raise MalformedEntryError(f"the entry at byte {start} runs {end - total} bytes beyond the end")
        if op == 0 or (expected and op != expected):
            raise MalformedEntryError(
                f"the entry at byte {start} has op-number {op}, expected {expected or 'at least 1'}"
            )
        expected = op + 1
        fields = (op, view, known, session, request, mark, stamp, seed, version, data[body_start:end], data[start:end])
        entries.append(_entry(Entry, fields))
        start = end
    return tuple(entries)
