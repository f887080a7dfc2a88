"""The state of one VSR replica, and the small steps that every part of the protocol takes on it.

The parts (normal operation, view change, state transfer, recovery, reads) are modules of functions over this
state; `vsr.core` dispatches events to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from viewstamp.protocol import (
    NEVER,
    Configuration,
    Effects,
    Entry,
    Member,
    Snapshot,
    Time,
    Transition,
    Wanted,
)
from vsr.messages import DoViewChange, DurableState, RecoveryResponse

_LONGEST_STALL = 3
"""The wait for a view to begin is doubled so many times at most."""


class VsrStatus(StrEnum):
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
    """Pages of the log of `view` under way from `source`; `target` is the op to reach.

    `heard_at` is when the last of them came, or the first was asked for.

    With a `snapshot` the log that is fetched begins there: it is wanted first, and pages follow once it is `in_hand`.
    """

    purpose: Purpose
    view: int
    source: int
    target: int
    after: int
    commit: int
    nonce: int
    staged: list[Entry]
    retry_at: int
    heard_at: int
    snapshot: Snapshot | None = None
    in_hand: bool = False
    round_heard: int = 0


@dataclass(frozen=True, slots=True)
class ViewProposal:
    """A STARTVIEWCHANGE heard: which view, and when (monotonic nanoseconds)."""

    view: int
    at: int


@dataclass(slots=True)
class Acknowledged:
    """What a primary knows of one backup in this view."""

    op: int = 0
    round: int = 0
    asked_round: int = -1  # none: its first question shows that it has heard of this view
    heard: int = 0


class VsrReplica(Member):
    """All that one member knows. Times are monotonic nanoseconds."""

    def __init__(self, configuration: Configuration, me: int, random: Random, now: Time) -> None:
        super().__init__(configuration, me, random, now)
        self._size = len(self.members)
        self._place = self.members.index(me)
        self.status = VsrStatus.RECOVERING
        self.last_normal_view = 0
        self.saved_incarnations: dict[int, int] = {}

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

        # Backup.
        self.acknowledge_due = False
        self.round_heard = 0
        self.early: dict[int, tuple[Entry, ...]] = {}

        # View change.
        self.calm_at = now.monotonic  # when a working primary was last heard, or a view entered
        self.suspect_at = NEVER
        self.stalled = 0  # views entered one after the other that did not begin
        self.heard: dict[int, int] = {}  # when each other member last took part, as far as it was heard here
        self.resend_at = NEVER
        self.proposed = 0
        self.proposals: dict[int, ViewProposal] = {}
        self.do_view_changes: dict[int, DoViewChange] = {}
        self.choosing = False
        self.passed_over: set[int] = set()  # senders of a best log that did not send it, in this view

        # State transfer and recovery.
        self.fetch: Fetch | None = None
        self.recovery_nonce = 0
        self.responses: dict[int, RecoveryResponse] = {}
        self.recovery_at = NEVER

        self.superseded_by = 0

    # Who is who.

    def primary_of(self, view: int) -> int:
        """Round robin over the members in order (VRR section 4)."""
        return self.members[view % self._size]

    @property
    def is_primary(self) -> bool:
        return self.view % self._size == self._place

    @property
    def wanted(self) -> Wanted | None:
        fetch = self.fetch
        if fetch is None or fetch.snapshot is None or fetch.in_hand:
            return None
        return Wanted(fetch.source, fetch.snapshot)

    @property
    def leads(self) -> bool:
        return self.view % self._size == self._place and self.status is VsrStatus.NORMAL and not self.quiet

    def position(self, member: int) -> int:
        """Where a member's incarnation stands in a vector."""
        return self.members.index(member)

    def save(self) -> None:
        """View, last normal view and incarnations go to disk with this turn's write."""
        self.saved_incarnations = dict(self.incarnations)
        self.record_state(DurableState(self.view, self.last_normal_view, self.vector))

    # Small steps shared by several parts.

    def explain(self, reason: str) -> None:
        """Tell people what changed and why."""
        primary = self.primary_of(self.view) if self.status is VsrStatus.NORMAL else None
        role = "primary" if self.is_primary and self.status is VsrStatus.NORMAL else "backup"
        self.transitions.append(Transition(self.status.value, role, self.view, primary, reason))

    def restart_suspicion(self) -> None:
        """A working primary was heard, or a view entered: patience begins anew, and my own proposal is withdrawn."""
        self.calm_at = self.now.monotonic
        self.suspect_at = self.calm_at + self.timeouts.suspect + int(self.random.random() * self.timeouts.jitter)
        self.proposed = 0
        self.proposals.pop(self.me, None)
        if self.status is VsrStatus.NORMAL or self.status is VsrStatus.STATE_TRANSFER:
            self.resend_at = NEVER

    def gives_more_time(self) -> bool:
        """Suspicion is due, and put off by one suspect time-out: the view that does not begin may be on its way.

        Members on slow disks or busy processors need longer than one for a view change. Each view that did not begin
        doubles the wait for the next, or they would propose views faster than any can begin. But not where its primary
        is not even heard: it is away, and who leads the view after may be here.
        """
        suspect = self.timeouts.suspect
        enough = self.calm_at + (suspect << min(self.stalled, _LONGEST_STALL))
        if self.status is VsrStatus.NORMAL or self.suspect_at >= enough:
            return False
        if self.status is VsrStatus.VIEW_CHANGE and not self.is_primary:
            heard = self.heard.get(self.primary_of(self.view))
            if heard is None or self.now.monotonic - heard >= 2 * suspect:
                return False
        self.suspect_at += suspect
        return True

    def learn(self, vector: Iterable[int]) -> None:
        """Merge a peer's knowledge of incarnations; what a superseded one promised counts no longer (DISC 2017)."""
        for member, incarnation in zip(self.members, vector, strict=True):
            if incarnation > self.incarnations[member]:
                self.learn_incarnation(member, incarnation)

    def learn_incarnation(self, member: int, incarnation: int) -> None:
        """This member has a newer incarnation: forget all that counted for the older one."""
        if member == self.me:
            # Newer than I am: a clock went back between two lost disks, or this directory is an old copy, put back.
            self.superseded_by = max(self.superseded_by, incarnation)
            return
        self.incarnations[member] = incarnation
        self.proposals.pop(member, None)
        self.do_view_changes.pop(member, None)
        self.responses.pop(member, None)
        if member in self.acknowledged:
            self.acknowledged[member] = Acknowledged()

    def take_effects(self) -> Effects:
        """Close the turn."""
        effects = super().take_effects()
        effects.supersede, self.superseded_by = self.superseded_by, 0
        return effects

    def fetch_progressed(self) -> None:
        """A fetch has begun, or a page came: whoever sends it is alive, so patience begins anew."""
        if self.status is VsrStatus.RECOVERING:
            # Not by `retry` alone: where that is short beside a round trip, every page came too late, for ever.
            patience = max(20 * self.timeouts.retry, 4 * self.timeouts.suspect)
            self.recovery_at = self.now.monotonic + patience
        else:
            self.restart_suspicion()

    def become_backup(self, reason: str) -> None:
        """Normal in `view` as a backup; log and last normal view were recorded together in this turn."""
        self.status = VsrStatus.NORMAL
        self.stalled = 0
        self.fetch = None
        self.early.clear()
        self.heartbeat_at = NEVER
        self.quiet = ""
        self.acknowledged = {}
        self.do_view_changes = {}
        self.choosing = False
        self.start_write = 0
        self.pipeline_bytes = 0
        self.restart_suspicion()
        self.acknowledge_due = True
        self.explain(reason)
