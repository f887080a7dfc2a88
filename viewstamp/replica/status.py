"""What a member tells about itself: to `statistics()`, to the `status` command, and to monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from transport.codec import CodecError, decode_strict, encode_strict
from transport.endpoint_statistics import EndpointStatistics
from viewstamp.protocol import Standing


@dataclass(frozen=True, slots=True)
class Status:
    """How a member sees itself. `silence_ns` is, by member, since it was last heard; `primary` 0 is none.

    `waiting` says why there is no primary or why this member does not serve; empty when all is well. `drops` counts
    datagrams and messages that were not taken, by reason, since the process started.
    """

    member: int
    protocol: str
    status: str
    role: str
    view: int
    primary: int
    op: int
    commit: int
    applied: int
    waiting: str
    silence_ns: Mapping[str, int]
    wall_ns: int
    journal_bytes: int
    digest: bytes
    drops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """Counts since the start of the process."""

    transport: EndpointStatistics
    undecodable: int
    misdirected: int
    ignored: Mapping[str, int]
    refused: int
    oversized: int
    writes: int


def founding_standing(waiting: str) -> Standing:
    """How a member stands before there is a protocol."""
    return Standing("founding", "none", 0, None, leads=False, op=0, commit=0, waiting=waiting)


def encode_status(status: Status) -> bytes:
    """A strict CBOR map by field name."""
    return encode_strict(asdict(status))


def decode_status(data: bytes) -> Status:
    """Read what `encode_status` wrote.

    Raises:
      CodecError: it is not such a map.
    """
    plain = decode_strict(data)
    if not isinstance(plain, dict):
        raise CodecError("a status is a map")
    try:
        return Status(**{str(key): value for key, value in plain.items()})
    except TypeError as error:
        raise CodecError(f"not a status: {error}") from error
