"""Who lives in a simulated world: members with their disks and clocks, clients with their sessions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from statemachine import SnapshotError
from transport.endpoint import Endpoint
from viewstamp.client import ClientSession
from viewstamp.journal import Batch, Journal, JournalError, JournalRecord, SnapshotFiles
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.protocol import NEVER
from viewstamp.replica import DataLostError, Replica
from viewstamp.simulation.told import Told

_MILLION = 1_000_000

Failure = JournalError | SnapshotError | DataLostError
"""What can end a life of a member's process for good."""


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
class Clock:
    """One machine's clocks: `rate` of its microseconds pass in a real second, and its wall clock is `ahead`."""

    rate: int = _MILLION
    ahead: int = 0
    _since: int = 0
    _shown: int = 0

    def set_rate(self, rate: int, now: int) -> None:
        """Run faster or slower from now on; what it shows does not jump."""
        self._shown, self._since, self.rate = self.monotonic(now), now, rate

    def monotonic(self, now: int) -> int:
        """What it shows at a real time."""
        return self._shown + (now - self._since) * self.rate // _MILLION

    def when(self, monotonic: int) -> int:
        """The real time at which it shows this."""
        return min(NEVER, self._since - (self._shown - monotonic) * _MILLION // self.rate)


@dataclass(slots=True)
class Node:
    """One member: its disk, and the life of its process, if it has one.

    `hang` is added to each write's latency, and `under_way` is the batch being written. `failures` are the errors that
    ended lives of its process; `sizes` were its journal's before each of the last writes. Until `paused_until` it
    stands still, and `backlog` holds what has arrived meanwhile, as (source, datagram, its number). Unless `dies_after`
    is 0, it ends when so many more datagrams have left, in the middle of a turn. `decayed` are files that hold
    something else than was written: whoever reads one of them must notice.
    """

    member: int
    disk: SimulatedDisk
    random: Random
    replica: Replica | None = None
    journal: Journal | None = None
    files: SnapshotFiles | None = None
    files_free_at: int = 0
    release: int = 0
    life: int = 0
    waiting: list[tuple[int, tuple[JournalRecord, ...]]] = field(default_factory=list)
    writing: bool = False
    under_way: tuple[Batch, Sequence[JournalRecord]] | None = None
    wake_at: int = -1
    hang: int = 0
    clock: Clock = field(default_factory=Clock)
    paused_until: int = 0
    backlog: list[tuple[str, bytes, int]] = field(default_factory=list)
    dies_after: int = 0
    failures: list[Failure] = field(default_factory=list)
    sizes: deque[int] = field(default_factory=lambda: deque(maxlen=3))
    decayed: set[str] = field(default_factory=set)
    address: str = ""

    def __post_init__(self) -> None:
        self.address = f"member-{self.member}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A call or read of a simulated client that is over; times in nanoseconds of simulated time.

    `value` is what it returned, or the error that says what became of it.
    """

    client: int
    handle: int
    called_at: int
    returned_at: int
    value: object


@dataclass(slots=True)
class SimulatedClient:
    """A client with a session and an endpoint of its own; gone once `alive` is false."""

    number: int
    session: ClientSession
    endpoint: Endpoint
    random: Random
    started: dict[int, int] = field(default_factory=dict)
    wake_at: int = -1
    alive: bool = True
    address: str = ""
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.address = f"client-{self.number}"
