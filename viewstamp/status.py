"""How a member tells others how it sees itself: what the `status` command shows, and what crosses the wire for it.

A client reads it, and needs nothing for that of what a member is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from statemachine import ValueDecodingError, decode_value, encode_value
from transport.codec import CodecError


@dataclass(frozen=True, slots=True)
class Transfer:
    """A snapshot on its way: from or to `member`, up to op `op`, with `done` of `size` bytes."""

    member: int
    op: int
    done: int
    size: int


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """The newest snapshot (0: none): its op and size in bytes; the ops of those being taken and loaded.

    `pause_ns` is how long taking the last one held the loop at most; `failure` why the last attempt came to nothing.
    """

    op: int = 0
    size: int = 0
    taking: int = 0
    loading: int = 0
    pause_ns: int = 0
    failure: str = ""
    receiving: Transfer | None = None
    sending: tuple[Transfer, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How a member sees itself. `silence_ns` is, by member, since it was last heard; `primary` 0 is none.

    `waiting` says why there is no primary or why this member does not serve; empty when all is well. `drops` counts
    datagrams and messages that were not taken, by reason, since the process started. The log in memory begins after op
    `base`.
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
    base: int = 0
    snapshot: SnapshotStatus = field(default_factory=SnapshotStatus)


def encode_status(status: Status) -> bytes:
    """A canonical CBOR map by field name."""
    return encode_value(asdict(status))


def decode_status(data: bytes) -> Status:
    """Read what `encode_status` wrote.

    Raises:
      CodecError: it is not such a map.
    """
    try:
        fields: Any = decode_value(data)
        return Status(**{**fields, "snapshot": _snapshot_status(fields.get("snapshot", {}))})
    except (ValueDecodingError, TypeError, AttributeError) as error:
        raise CodecError(f"not a status: {error}") from error


def _snapshot_status(plain: dict[str, Any]) -> SnapshotStatus:
    receiving = plain.get("receiving")
    transfers = {
        "receiving": Transfer(**receiving) if receiving is not None else None,
        "sending": tuple(Transfer(**each) for each in plain.get("sending", ())),
    }
    return SnapshotStatus(**{**plain, **transfers})
