"""Normal operation (VRR section 4.1): order, acknowledge, commit; and the heartbeat that carries the commit-number.

Invariant kept: an op is committed only when a quorum of members, none of them superseded, holds the primary's log
up to it durably in this view. Backups in a view hold prefixes of its primary's log.
"""

from __future__ import annotations

from collections.abc import Sequence

from viewstamp.protocol import NEVER, Entry, Proposal
from vsr import state_transfer
from vsr.messages import Commit, Prepare, PrepareOk
from vsr.replica import Acknowledged, VsrReplica, VsrStatus

_EARLY_MESSAGES = 64  # PREPAREs kept that overtook others; what is dropped is fetched


def propose(r: VsrReplica, proposals: Sequence[Proposal]) -> int:
    """Give proposals their places in the log; PREPARE leaves at the end of the turn."""
    return r.order(proposals) if r.leads and proposals and r.room_for(proposals) else 0


def on_prepare(r: VsrReplica, sender: int, message: Prepare) -> None:
    """A backup appends what continues its log; what leaves a gap waits, and is fetched if the gap stays."""
    if not heard_primary(r, sender, message.view, message.entries[-1].op, message.round):
        return
    if r.disk_is_behind:  # Once it is not, the next message shows the gap, and what was missed is fetched.
        r.ignore("the disk is behind")
    else:
        _append(r, message.entries)
        _heard_round(r, message.round)
    r.advance_commit(message.commit)


def on_commit(r: VsrReplica, sender: int, message: Commit) -> None:
    """The heartbeat: what the primary's log holds and has committed (VRR 4.1, step 7)."""
    if not heard_primary(r, sender, message.view, message.op, message.round):
        return
    if message.op > r.log.op:
        state_transfer.catch_up(r, message.op)
    _heard_round(r, message.round)
    # A heartbeat is always answered, from a backup that has committed everything too: a lost PREPAREOK is made
    # good by it, and it shows the primary that it still reaches a majority.
    r.advance_commit(message.commit)


def heard_primary(r: VsrReplica, sender: int, view: int, op: int, number: int) -> bool:
    """Common to all that a primary says. True when the message belongs to normal operation in this view."""
    if r.status is VsrStatus.RECOVERING:
        r.ignore("recovering")
    elif view < r.view:
        r.ignore("an earlier view")
    elif sender != r.primary_of(view):
        r.ignore("not the primary of its view")
    elif view > r.view or r.status is not VsrStatus.NORMAL:
        # A view has begun without me. Its entries may not follow mine, even when the next op-number fits: never
        # append here, fetch from my commit-number on (the log stays whole until the new one is in hand).
        state_transfer.join(r, view, op, number)
    else:
        r.restart_suspicion()
        return True
    return False


def _append(r: VsrReplica, entries: tuple[Entry, ...]) -> None:
    r.acknowledge_due = True
    first, last = entries[0].op, entries[-1].op
    if first > r.log.op + 1:
        if len(r.early) < _EARLY_MESSAGES:
            r.early[first] = entries
        state_transfer.expect_gap(r, last)
        return
    state_transfer.append_prepared(r, entries)
    state_transfer.append_early(r)


def _heard_round(r: VsrReplica, number: int) -> None:
    r.round_heard = max(r.round_heard, number)
    r.acknowledge_due = True


def on_prepare_ok(r: VsrReplica, sender: int, message: PrepareOk) -> None:
    """Cumulative: a backup holds everything up to an op, durably (VRR 4.1, step 5)."""
    if r.status is not VsrStatus.NORMAL or not r.is_primary or message.view != r.view:
        r.ignore("PREPAREOK for another view or role")
    elif message.op > r.log.op or message.round > r.round:
        r.ignore("PREPAREOK beyond the log or the newest round")
    else:
        backup = r.acknowledged.setdefault(sender, Acknowledged())
        backup.op = max(backup.op, message.op)
        backup.round = max(backup.round, message.round)
        backup.heard = r.now.monotonic
        count_commit(r)


def count_commit(r: VsrReplica) -> None:
    """Commit what a quorum holds durably; the primary counts itself by its own disk, like anyone."""
    if r.status is not VsrStatus.NORMAL or not r.is_primary:
        return
    held = sorted([backup.op for backup in r.acknowledged.values()] + [r.log.durable], reverse=True)
    if len(held) >= r.quorum and held[r.quorum - 1] > r.commit:
        r.advance_commit(held[r.quorum - 1])


def tick(r: VsrReplica) -> None:
    """A primary's heartbeat, and its doubt in itself."""
    if not r.leads:
        return
    now = r.now.monotonic
    r.doubt_at = now + r.timeouts.suspect // 2
    doubt = _doubt(r, now)
    if doubt:
        # A primary that can send but not receive would keep its backups passive for ever while nothing commits; one
        # whose disk hangs likewise. It falls silent, and proposes the next view itself.
        r.quiet = doubt
        r.heartbeat_at = NEVER
        r.suspect_at = now
        r.explain(f"primary gives way: {doubt}")
    elif now >= r.heartbeat_at:
        r.round_due = True


def _doubt(r: VsrReplica, now: int) -> str:
    heard = sorted([backup.heard for backup in r.acknowledged.values()], reverse=True)
    others = r.quorum - 1
    since = heard[others - 1] if others and len(heard) >= others else r.calm_at
    if others and now - max(since, r.calm_at) > r.timeouts.suspect:
        return "no majority answers"
    return r.disk_trouble if others else ""


def close_turn(r: VsrReplica) -> None:
    """One PREPARE or COMMIT to all, and one PREPAREOK, for everything that came up in this turn."""
    if r.leads:
        if r.round_due:
            r.round += 1
        if r.sent_op < r.log.op:
            while r.sent_op < r.log.op:
                entries = r.log.page(r.sent_op, r.configuration.limits)
                r.broadcast(Prepare(r.view, entries, r.commit, r.round))
                r.sent_op = entries[-1].op
            _sent(r)
        elif r.round_due:
            r.broadcast(Commit(r.view, r.log.op, r.commit, r.round))
            _sent(r)
        r.round_due = False
    elif r.acknowledge_due and r.status is VsrStatus.NORMAL and not r.is_primary:
        r.promise(r.primary_of(r.view), PrepareOk(r.view, r.log.op, r.round_heard, max(0, r.now.wall), r.vector))
    r.acknowledge_due = False


def _sent(r: VsrReplica) -> None:
    r.heartbeat_at = r.now.monotonic + r.timeouts.heartbeat


def begin_as_primary(r: VsrReplica, reason: str) -> None:
    """Normal in this view as its primary; log and last normal view are durable here."""
    now = r.now.monotonic
    r.status = VsrStatus.NORMAL
    r.stalled = 0
    r.quiet = ""
    r.start_write = 0
    r.choosing = False
    r.fetch = None
    r.early.clear()
    r.do_view_changes = {}
    r.acknowledged = {other: Acknowledged() for other in r.others}
    r.restart_suspicion()
    r.suspect_at = NEVER
    r.view_began_at = r.log.op
    r.sent_op = r.log.op
    r.round = 0
    r.round_due = False
    r.heartbeat_at = now + r.timeouts.heartbeat
    r.doubt_at = now + r.timeouts.suspect // 2
    r.measure_pipeline()
    r.explain(reason)
    count_commit(r)
