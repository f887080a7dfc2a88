"""Who lives in a simulated world: members with their disks, clients with their sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from transport.endpoint import Endpoint
from viewstamp.client import ClientSession
from viewstamp.journal import Journal, JournalRecord, SnapshotFiles, StorageFailedError
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.replica import DataLostError, Replica


@dataclass(frozen=True, slots=True)
class DiskLatency:
    """How long a batch takes from asked to synced, in nanoseconds: `base` and up to `spread` more, rarely `stall`."""

    base: int = 100_000
    spread: int = 400_000
    stall: int = 0
    stall_percent: int = 0

    def draw(self, random: Random) -> int:
        """One batch's latency."""
        if self.stall_percent and random.randrange(100) < self.stall_percent:
            return self.stall
        return self.base + random.randrange(self.spread + 1)


@dataclass(slots=True)
class Node:
    """One member: its disk, and the life of its process, if it has one. `hang` is added to each write's latency.

    `failures` are the errors that ended lives of its process.
    """

    member: int
    disk: SimulatedDisk
    replica: Replica | None = None
    journal: Journal | None = None
    files: SnapshotFiles | None = None
    files_free_at: int = 0
    release: int = 0
    life: int = 0
    waiting: list[tuple[int, tuple[JournalRecord, ...]]] = field(default_factory=list)
    writing: bool = False
    wake_at: int = -1
    observed: int = 0
    hang: int = 0
    failures: list[StorageFailedError | DataLostError] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where its datagrams go."""
        return f"member-{self.member}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A call or read of a simulated client that is over; times in nanoseconds of simulated time."""

    client: int
    handle: int
    called_at: int
    returned_at: int
    value: object


@dataclass(slots=True)
class SimulatedClient:
    """A client with a session and an endpoint of its own."""

    number: int
    session: ClientSession
    endpoint: Endpoint
    started: dict[int, int] = field(default_factory=dict)
    wake_at: int = -1

    @property
    def address(self) -> str:
        """Where its datagrams go."""
        return f"client-{self.number}"


class AgreementError(Exception):
    """Two members applied different entries at one op, or hold different states there: seen from outside."""
