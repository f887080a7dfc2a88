"""What a member tells about itself: to `statistics()`, to the `status` command, and to monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from statemachine import ValueDecodingError, decode_value, encode_value
from transport.codec import CodecError
from transport.endpoint_statistics import EndpointStatistics
from viewstamp.journal import JournalStatistics
from viewstamp.protocol import Standing


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


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """Counts since the start of the process. `journal` has how long syncs took; None where no shell keeps one."""

    transport: EndpointStatistics
    undecodable: int
    misdirected: int
    ignored: Mapping[str, int]
    refused: int
    oversized: int
    writes: int
    journal: JournalStatistics | None = None


def founding_standing(waiting: str) -> Standing:
    """How a member stands before there is a protocol."""
    return Standing("founding", "none", 0, None, leads=False, op=0, commit=0, waiting=waiting)


def make_status(
    member: int,
    protocol: str,
    standing: Standing,
    *,
    applied: int,
    silence_ns: Mapping[str, int],
    wall_ns: int,
    journal_bytes: int,
    digest: bytes,
    drops: Mapping[str, int],
    snapshot: SnapshotStatus,
) -> Status:
    """How a member sees itself: what its protocol tells of its standing, and what its body adds."""
    return Status(
        member=member,
        protocol=protocol,
        status=standing.status,
        role=standing.role,
        view=standing.view,
        primary=standing.primary or 0,
        op=standing.op,
        commit=standing.commit,
        applied=applied,
        waiting=standing.waiting,
        silence_ns=silence_ns,
        wall_ns=wall_ns,
        journal_bytes=journal_bytes,
        digest=digest,
        drops=drops,
        base=standing.base,
        snapshot=snapshot,
    )


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
