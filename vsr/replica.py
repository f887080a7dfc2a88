"""The state of one VSR replica, and the small steps that every part of the protocol takes on it.

The parts (normal operation, view change, state transfer, recovery, reads) are modules of functions over this
state; `vsr.core` dispatches events to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from viewstamp.protocol import (
    NEVER,
    Append,
    Configuration,
    Effects,
    Entry,
    Log,
    Promise,
    Record,
    SaveState,
    Send,
    SendAfter,
    Statement,
    Time,
    Transition,
    Truncate,
    Write,
    check,
)
from vsr.clock import AgreedClock
from vsr.messages import DoViewChange, DurableState, RecoveryResponse


class Status(StrEnum):
    """VRR section 4, and state transfer as a status of its own."""

    NORMAL = "normal"
    VIEW_CHANGE = "view-change"
    STATE_TRANSFER = "state-transfer"
    RECOVERING = "recovering"


class Purpose(StrEnum):
    """Why pages of a log are being fetched."""

    LAG = "lag"
    """Normal in this view, but entries were missed: pages extend the log as they come."""
    JOIN = "join"
    """The view has begun elsewhere: pages are staged, and replace the suffix at once at the end."""
    BEST_LOG = "best log"
    """New primary, fetching from the sender of the best DOVIEWCHANGE: staged likewise."""
    RECOVER = "recover"
    """The disk was lost: everything, staged likewise."""


@dataclass(slots=True)
class Fetch:
    """Pages of the log of `view` under way from `source`; `target` is the op to reach."""

    purpose: Purpose
    view: int
    source: int
    target: int
    after: int
    commit: int
    nonce: int
    staged: list[Entry]
    retry_at: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A STARTVIEWCHANGE heard: which view, and when (monotonic nanoseconds)."""

    view: int
    at: int


@dataclass(slots=True)
class Acknowledged:
    """What a primary knows of one backup in this view."""

    op: int = 0
    round: int = 0
    heard: int = 0
    wall_skew: int = 0


class Replica:
    """All that one member knows. Times are monotonic nanoseconds."""

    def __init__(self, configuration: Configuration, me: int, random: Random, now: Time) -> None:
        self.configuration = configuration
        self.members = configuration.members
        self.others = configuration.others(me)
        self.quorum = configuration.quorum
        self.timeouts = configuration.timeouts
        self.me = me
        self.random = random
        self.now = now

        self.status = Status.RECOVERING
        self.view = 0
        self.last_normal_view = 0
        self.log = Log()
        self.commit = 0
        self.incarnations: dict[int, int] = dict.fromkeys(self.members, 0)
        self.saved_incarnations: dict[int, int] = {}
        self.clock = AgreedClock(0)

        # Primary.
        self.acknowledged: dict[int, Acknowledged] = {}
        self.view_began_at = 0  # the op the view began with: reads wait until that much is committed
        self.start_write = 0  # the write that must be durable before this view starts; 0 when none is awaited
        self.sent_op = 0
        self.round = 0
        self.round_due = False
        self.heartbeat_at = NEVER
        self.doubt_at = NEVER
        self.quiet = ""  # why a primary has stopped acting; empty while it acts
        self.pipeline_bytes = 0

        # Backup.
        self.acknowledge_due = False
        self.round_heard = 0
        self.early: dict[int, tuple[Entry, ...]] = {}

        # View change.
        self.calm_at = now.monotonic  # when a working primary was last heard, or a view entered
        self.suspect_at = NEVER
        self.resend_at = NEVER
        self.proposed = 0
        self.proposals: dict[int, Proposal] = {}
        self.do_view_changes: dict[int, DoViewChange] = {}
        self.choosing = False

        # State transfer and recovery.
        self.fetch: Fetch | None = None
        self.recovery_nonce = 0
        self.responses: dict[int, RecoveryResponse] = {}
        self.recovery_at = NEVER

        # Writes.
        self.write = 0
        self.write_done = 0
        self.write_issued_at: dict[int, tuple[int, int]] = {}  # write -> (when, view it saved)
        self.durable_view = 0

        # Effects of this turn.
        self._sends: list[Send] = []
        self._promises: list[tuple[int, Promise]] = []
        self._records: list[Record] = []
        self._appended: list[Entry] = []
        self.transitions: list[Transition] = []
        self.superseded_by = 0
        self.ignored: Counter[str] = Counter()

    # Who is who.

    def primary_of(self, view: int) -> int:
        """Round robin over the members in order (VRR section 4)."""
        return self.members[view % len(self.members)]

    @property
    def is_primary(self) -> bool:
        return self.primary_of(self.view) == self.me

    @property
    def leads(self) -> bool:
        return self.status is Status.NORMAL and self.is_primary and not self.quiet

    @property
    def vector(self) -> tuple[int, ...]:
        return tuple(self.incarnations.values())

    def position(self, member: int) -> int:
        """Where a member's incarnation stands in a vector."""
        return self.members.index(member)

    # Effects.

    def send(self, to: int, message: Statement) -> None:
        self._sends.append(Send(to, message))

    def broadcast(self, message: Statement) -> None:
        for other in self.others:
            self._sends.append(Send(other, message))

    def promise(self, to: int, message: Promise) -> None:
        """Send once everything recorded up to now is durable."""
        self._promises.append((to, message))

    def append(self, entries: Sequence[Entry]) -> None:
        """Extend the log in memory, and on disk with this turn's write."""
        self.log.append(entries)
        self._appended.extend(entries)

    def truncate(self, after: int) -> None:
        """Drop the log's end in memory, and on disk with this turn's write."""
        if after < self.log.op:
            check(after >= self.commit, "truncating after {} would drop committed op {}", after, self.commit)
            self._flush_appended()
            self.log.truncate(after)
            self._records.append(Truncate(after))

    def save(self) -> None:
        """View, last normal view and incarnations go to disk with this turn's write."""
        self._flush_appended()
        self.saved_incarnations = dict(self.incarnations)
        self._records.append(SaveState(DurableState(self.view, self.last_normal_view, self.vector)))

    def finish_writes(self, write: int) -> None:
        """Write number `write` and all before it are durable, and so is the view they saved."""
        self.write_done = max(self.write_done, write)
        self.log.written(write)
        for number in [number for number in self.write_issued_at if number <= write]:
            self.durable_view = self.write_issued_at.pop(number)[1]

    def next_write(self) -> int:
        """The number of the write that will hold everything recorded up to now."""
        return self.write + 1 if self._records or self._appended else self.write

    def _flush_appended(self) -> None:
        if self._appended:
            self._records.append(Append(tuple(self._appended)))
            self._appended.clear()

    def take_effects(self) -> Effects:
        """Close the turn: number its write, and bind its promises to that or to the latest before it."""
        self._flush_appended()
        effects = Effects(sends=self._sends, commit=self.commit, transitions=self.transitions)
        if self._records:
            self.write += 1
            effects.write = Write(self.write, tuple(self._records))
            self.log.issued(self.write)
            self.write_issued_at[self.write] = (self.now.monotonic, self.view)
            self._records = []
        effects.promises = [SendAfter(self.write, to, message) for to, message in self._promises]
        effects.supersede = self.superseded_by
        self._sends, self._promises, self.transitions, self.superseded_by = [], [], [], 0
        return effects

    # Small steps shared by several parts.

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing here."""
        self.ignored[reason] += 1

    def explain(self, reason: str) -> None:
        """Tell people what changed and why."""
        primary = self.primary_of(self.view) if self.status is Status.NORMAL else None
        role = "primary" if self.is_primary else "backup"
        self.transitions.append(Transition(self.status.value, role, self.view, primary, reason))

    def restart_suspicion(self) -> None:
        """A working primary was heard, or a view entered: patience begins anew, and my own proposal is withdrawn."""
        self.calm_at = self.now.monotonic
        self.suspect_at = self.calm_at + self.timeouts.suspect + self.random.randint(0, self.timeouts.jitter)
        self.proposed = 0
        self.proposals.pop(self.me, None)
        if self.status is Status.NORMAL or self.status is Status.STATE_TRANSFER:
            self.resend_at = NEVER

    def learn(self, vector: Iterable[int]) -> None:
        """Merge a peer's knowledge of incarnations; what a superseded one promised counts no longer (DISC 2017)."""
        for member, incarnation in zip(self.members, vector, strict=True):
            if incarnation > self.incarnations[member]:
                self.learn_incarnation(member, incarnation)

    def learn_incarnation(self, member: int, incarnation: int) -> None:
        """This member has a newer incarnation: forget all that counted for the older one."""
        if member == self.me:
            # A peer knows an incarnation of mine that is newer than I am: a clock went back between two lost disks.
            self.superseded_by = max(self.superseded_by, incarnation)
            return
        self.incarnations[member] = incarnation
        self.proposals.pop(member, None)
        self.do_view_changes.pop(member, None)
        self.responses.pop(member, None)
        if member in self.acknowledged:
            self.acknowledged[member] = Acknowledged()

    def advance_commit(self, commit: int) -> None:
        """The commit-number follows the primary's, never beyond this log's end: a COMMIT overtakes its PREPARE."""
        commit = min(commit, self.log.op)
        if commit > self.commit:
            if self.is_primary:
                self.pipeline_bytes -= sum(len(self.log.entry(op).encoded) for op in range(self.commit + 1, commit + 1))
            self.commit = commit

    def fetch_progressed(self) -> None:
        """A page came: whoever sends it is alive, so patience begins anew."""
        if self.status is Status.RECOVERING:
            self.recovery_at = self.now.monotonic + 20 * self.timeouts.retry
        else:
            self.restart_suspicion()

    def become_backup(self, reason: str) -> None:
        """Normal in `view` as a backup; log and last normal view were recorded together in this turn."""
        self.status = Status.NORMAL
        self.fetch = None
        self.early.clear()
        self.heartbeat_at = NEVER
        self.quiet = ""
        self.acknowledged = {}
        self.do_view_changes = {}
        self.choosing = False
        self.start_write = 0
        self.restart_suspicion()
        self.acknowledge_due = True
        self.explain(reason)
