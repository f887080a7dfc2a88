"""Viewstamped Replication Revisited behind the contract: events are dispatched to the parts of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, assert_never, cast

from viewstamp.protocol import (
    NEVER,
    Configuration,
    Durable,
    Effects,
    Founded,
    Lost,
    MemberCore,
    Message,
    Origin,
    Proposal,
    Reads,
    Snapshot,
    Standing,
    State,
    Time,
    check,
)
from vsr import normal, recovery, state_transfer, view_change
from vsr.invariants import Invariants
from vsr.messages import (
    Commit,
    CommitPoint,
    DoViewChange,
    DurableState,
    GetCommit,
    GetState,
    NewSnapshot,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
    StartViewChange,
    VsrMessage,
    malformed,
)
from vsr.reads import Rounds
from vsr.replica import VsrReplica, VsrStatus

_WITH_VECTOR = (PrepareOk, StartViewChange, DoViewChange, RecoveryResponse)


class ViewstampedReplication(MemberCore):
    """One member of a cluster that runs Viewstamped Replication (Liskov and Cowling 2012)."""

    name: ClassVar[str] = "vsr"
    messages: ClassVar[Mapping[int, type[Message]]] = {
        64: Prepare,
        65: PrepareOk,
        66: Commit,
        67: StartViewChange,
        68: DoViewChange,
        69: StartView,
        70: GetState,
        71: NewState,
        72: Recovery,
        73: RecoveryResponse,
        74: GetCommit,
        75: CommitPoint,
        76: NewSnapshot,
    }
    states: ClassVar[Mapping[int, type[State]]] = {128: DurableState}
    recovers_lost_disk: ClassVar[bool] = True

    def __init__(self, configuration: Configuration, me: int, origin: Origin, random: Random, now: Time) -> None:
        check(me in configuration.members, "member {} is not in the configuration", me)
        self._r = r = VsrReplica(configuration, me, random, now)
        match origin:
            case Founded(incarnations):
                r.incarnations = dict(zip(r.members, incarnations, strict=True))
                self._found()
            case Durable(state, entries, snapshot):
                r.resume(entries, snapshot)
                self._restart(cast("DurableState", state))
            case Lost(incarnation):
                r.incarnations[me] = incarnation
                r.recovery_at = now.monotonic
            case _:
                assert_never(origin)
        self._reads = Reads(Rounds(r), random, r.timeouts)
        self._invariants = Invariants(r)

    def _found(self) -> None:
        """View 0 begins with an empty log at every member; no view change precedes it.

        Its primary begins when that is durable: were it to order before, its backups could acknowledge an op, and it
        crash, find nothing on its disk, be founded once more and put another op in that place.
        """
        r = self._r
        r.save()
        if r.is_primary:
            view_change.begin_when_durable(r)
        else:
            r.become_backup("founded")

    def _restart(self, state: DurableState) -> None:
        """Come back with what the disk holds.

        A primary never resumes its view: its peers can hold, and it can have answered for, an op that its own disk
        lacks, and it would put another op in that place. It, and a replica whose view is above its last
        normal view, restart in view-change status and propose the next view. A backup resumes.
        """
        r = self._r
        r.view, r.last_normal_view, r.durable_view = state.view, state.last_normal_view, state.view
        r.incarnations = dict(zip(r.members, state.incarnations, strict=True))
        r.saved_incarnations = dict(r.incarnations)
        if r.is_primary or r.view > r.last_normal_view:
            r.status = VsrStatus.VIEW_CHANGE
            r.restart_suspicion()
            view_change.propose(r, r.view + 1, "restarted")
        else:
            r.status = VsrStatus.NORMAL
            r.restart_suspicion()
            r.explain("restarted")

    def receive(self, sender: int, incarnation: int, message: Message, now: Time) -> None:
        r = self._r
        r.now = now
        peer = cast("VsrMessage", message)
        if sender not in r.incarnations or sender == r.me:
            r.ignore("unknown sender")
            return
        wrong = malformed(peer, len(r.members), r.view)
        if wrong:
            r.ignore(f"malformed: {wrong}")
            return
        if isinstance(peer, Recovery):
            # Not dropped as superseded: a blank member whose clock was behind when its disk was replaced has too old an
            # incarnation, and the answer's vector is what tells it so. Nor is its sender heard: it takes no part yet.
            recovery.on_recovery(r, sender, incarnation, peer)
            return
        if incarnation < r.incarnations[sender]:
            # Sent before that member lost its disk: what it promised then, it no longer holds.
            r.ignore("a superseded incarnation")
            if isinstance(peer, PrepareOk | GetState):
                recovery.tell_superseded(r, sender)
            return
        if incarnation > r.incarnations[sender]:
            r.learn_incarnation(sender, incarnation)
        r.heard[sender] = now.monotonic
        self._dispatch(sender, peer)

    def _dispatch(self, sender: int, message: VsrMessage) -> None:
        r = self._r
        if r.status is VsrStatus.RECOVERING and isinstance(message, StartViewChange | DoViewChange):
            # It does not know what it has promised: joining a view now, it could help to lose what it had acknowledged.
            r.ignore("recovering")
            return
        if isinstance(message, _WITH_VECTOR):
            # Before the handlers' own guards: whatever becomes of the message, nothing that a superseded incarnation
            # has promised may be counted from here on.
            r.learn(message.vector)
        match message:
            case Prepare():
                normal.on_prepare(r, sender, message)
            case PrepareOk():
                normal.on_prepare_ok(r, sender, message)
            case Commit():
                normal.on_commit(r, sender, message)
            case StartViewChange():
                view_change.on_start_view_change(r, sender, message)
            case DoViewChange():
                view_change.on_do_view_change(r, sender, message)
            case StartView():
                view_change.on_start_view(r, sender, message)
            case GetState():
                state_transfer.on_get_state(r, sender, message)
            case NewState():
                state_transfer.on_new_state(r, sender, message)
                view_change.start_if_complete(r)
            case NewSnapshot():
                view_change.on_new_snapshot(r, sender, message)
            case RecoveryResponse():
                recovery.on_recovery_response(r, sender, message)
            case GetCommit():
                self._on_get_commit(sender, message)
            case CommitPoint():
                self._on_commit_point(sender, message)
            case Recovery():
                check(False, "RECOVERY is handled before")
            case _:
                assert_never(message)

    def _on_get_commit(self, sender: int, message: GetCommit) -> None:
        if self._r.leads and message.view == self._r.view:
            self._reads.asked(sender, message.number)
        else:
            self._r.ignore("GETCOMMIT for another view or role")

    def _on_commit_point(self, sender: int, message: CommitPoint) -> None:
        r = self._r
        expected = message.view == r.view and sender == r.primary_of(r.view)
        if not expected or not self._reads.told(message.number, message.op):
            r.ignore("COMMITPOINT that was not asked for")

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        self._r.now = now
        return normal.propose(self._r, proposals)

    def read(self, read: int, now: Time) -> None:
        self._r.now = now
        self._reads.read(read)

    def written(self, write: int, now: Time) -> None:
        r = self._r
        r.now = now
        r.finish_writes(write)
        view_change.written(r)  # The role first, then what counts in it; alike in Raft.
        normal.count_commit(r)

    def fetched(self, snapshot: Snapshot, now: Time) -> None:
        self._r.now = now
        state_transfer.snapshot_in_hand(self._r, snapshot)

    def fetching(self, snapshot: Snapshot, now: Time) -> None:
        r = self._r
        r.now = now
        if r.wanted is not None and r.wanted.snapshot == snapshot:
            r.fetch_progressed()

    def fetch_failed(self, snapshot: Snapshot, now: Time) -> None:
        self._r.now = now
        state_transfer.snapshot_failed(self._r, snapshot)

    def tick(self, now: Time) -> None:
        r = self._r
        r.now = now
        normal.tick(r)
        view_change.tick(r)
        state_transfer.tick(r)
        recovery.tick(r)
        self._reads.tick()

    def resign(self, now: Time) -> None:
        self.give_way("this member is about to stop", now)

    def give_way(self, reason: str, now: Time) -> None:
        r = self._r
        r.now = now
        if r.leads and r.others:
            r.quiet = reason
            view_change.propose(r, view_change.next_view(r), reason)

    def drain(self) -> Effects:
        r = self._r
        # 1. Reads ask before the turn is closed: the round that they need begins with this turn's PREPARE or COMMIT,
        #    and not with that of the next heartbeat.
        self._reads.before_close()
        # 2. One message of each kind for all that came up, however many events that were.
        normal.close_turn(r)
        # 3. Reads are answered once the round has begun: a member that is alone is its own majority, at once. And
        #    before the effects are taken: a backup's question is answered with a message.
        reads = self._reads.after_close()
        # 4. Only now is the turn's write numbered: a PREPAREOK waits for the entries that came in the same turn.
        effects = r.take_effects()
        effects.reads = reads
        # 5. What holds between turns need not hold within one.
        self._invariants.watch(r)
        return effects

    @property
    def pending(self) -> bool:
        r = self._r
        if r.pending or r.round_due or r.acknowledge_due or r.superseded_by or self._reads.pending:
            return True
        return r.leads and r.sent_op < r.log.op

    @property
    def deadline(self) -> int:
        r = self._r
        if r.status is VsrStatus.RECOVERING:
            deadline = r.recovery_at
        else:
            deadline = r.resend_at if r.proposed else min(r.resend_at, r.suspect_at)
        if r.leads:
            deadline = min(deadline, r.heartbeat_at, r.doubt_at)
        if r.fetch is not None:
            deadline = min(deadline, r.fetch.retry_at)
        return min(deadline, self._reads.deadline, NEVER)

    @property
    def leading(self) -> int:
        r = self._r
        return r.view if r.leads else -1

    @property
    def standing(self) -> Standing:
        r = self._r
        normal_now = r.status is VsrStatus.NORMAL
        primary = r.primary_of(r.view) if normal_now and not r.quiet else None
        role = "primary" if normal_now and r.is_primary else "backup"
        return Standing(
            r.status.value, role, r.view, primary, r.leads, r.log.op, r.commit, self._waiting(), r.log.base, r.log.bytes
        )

    def _waiting(self) -> str:
        r = self._r
        match r.status:
            case VsrStatus.NORMAL:
                if trouble := r.quiet or r.disk_trouble:
                    return trouble
                if r.wanted is not None:
                    return f"fetching a snapshot from member {r.wanted.source}"
                return r.full or (f"proposing view {r.proposed}: the primary is silent" if r.proposed else "")
            case VsrStatus.VIEW_CHANGE:
                if r.start_write:
                    return f"view {r.view} begins when its log is durable here"
                if r.is_primary:
                    return f"view change to {r.view}: has {len(r.do_view_changes)} of {r.quorum} DOVIEWCHANGE"
                return f"view change to {r.view}: waiting for its primary, member {r.primary_of(r.view)}"
            case VsrStatus.STATE_TRANSFER:
                return f"fetching the log of view {r.fetch.view if r.fetch else '?'}"
            case VsrStatus.RECOVERING:
                return f"lost its disk: has {len(r.responses)} of {r.configuration.recovery_quorum} answers"
            case _:
                assert_never(r.status)

    @property
    def _member(self) -> VsrReplica:
        return self._r
