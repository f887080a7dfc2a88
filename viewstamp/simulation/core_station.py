"""A member's place in the protocol fuzzer's world, and what is counted there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from viewstamp.protocol import Message
from viewstamp.simulation.member import SimulatedMember


@dataclass(slots=True)
class Station:
    """A member's place in the world: what the world knows of it beside its process and disk.

    Of what it was sent: `latest`, whatever it was; `seldom`, promises of kinds that are seldom made; `rare`, statements
    of such kinds; `reign`, what others said when it last ceased to lead.
    """

    node: SimulatedMember
    wake_at: int = -1
    writing: bool = False
    paused_until: int = 0
    stalled_until: int = 0
    wall_skew: int = 0
    inbox: list[tuple[int, int, Message]] = field(default_factory=list)
    held: list[tuple[int, int, Message]] = field(default_factory=list)
    gathering: bool = False
    life: int = 0
    answered: int = 0
    doomed: bool = False
    leads_view: int = -1
    view: int = -1
    seldom: deque[tuple[int, int, Message]] = field(default_factory=lambda: deque(maxlen=8))
    latest: deque[tuple[int, int, Message]] = field(default_factory=lambda: deque(maxlen=32))
    waiting: dict[tuple[int, int], int] = field(default_factory=dict)
    table: dict[tuple[int, int], int] = field(default_factory=dict)
    status: str = ""
    rare: deque[tuple[int, int, Message]] = field(default_factory=lambda: deque(maxlen=8))
    reign: tuple[tuple[int, int, Message], ...] = ()
    snapshot_due: int = 0
    snapshot_steps: int = 0

    def begin(self, life: int) -> None:
        """A new life of the process: it knows nothing of what was under way."""
        self.life = life
        self.doomed = False
        self.wake_at, self.writing, self.gathering, self.answered = -1, False, False, 0
        self.view = self.leads_view = -1
        self.status = ""
        self.snapshot_due = 0
        self.snapshot_steps = self.node.snapshot_steps
        self.inbox.clear()
        self.held.clear()
        self.waiting.clear()
        self.table.clear()


@dataclass(slots=True)
class Counts:
    """What happened in a run, for reports and for the tests of its reach."""

    events: int = 0
    crashes: int = 0
    restarts: int = 0
    lost_disks: int = 0
    reveal_crashes: int = 0
    lost_messages: int = 0
    replayed_messages: int = 0
    reads: int = 0
    snapshots: int = 0
    snapshot_crashes: int = 0
    transfers: int = 0
    transfers_failed: int = 0
    snapshots_dropped: int = 0
    starts_behind_snapshot: int = 0
    installs: int = 0
