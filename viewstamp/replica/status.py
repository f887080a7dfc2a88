"""What a member tells about itself: to `statistics()`, to the `status` command, and to monitoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transport.endpoint_statistics import EndpointStatistics
from viewstamp.journal import JournalStatistics
from viewstamp.protocol import Standing
from viewstamp.status import SnapshotStatus, Status


@dataclass(frozen=True, slots=True)
class ReplicaStatistics:
    """Counts since the start of the process. `journal` has how long syncs took; None where no shell keeps one.

    `forwarded` are requests sent on to the primary for clients that do not hear it, each time that they asked.
    """

    transport: EndpointStatistics
    undecodable: int
    misdirected: int
    ignored: Mapping[str, int]
    refused: int
    oversized: int
    forwarded: int
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
