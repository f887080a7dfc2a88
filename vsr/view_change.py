"""View change (VRR section 4.2), proposed before it is entered.

1. A timer sends STARTVIEWCHANGE(v + 1); its replica stays as it is. One deaf backup deposes nobody.
2. A quorum of proposals for one higher view enters it: view durable, DOVIEWCHANGE to its primary. A DOVIEWCHANGE of a
   higher view takes its receiver along: its sender entered by a quorum.
3. The new primary counts a quorum of DOVIEWCHANGE, none from a superseded incarnation, picks the log with the largest
   (last normal view, op), fetches what it lacks, and makes log and last normal view durable in one batch. Until then it
   says STARTVIEWCHANGE(v) to all: a view whose primary is heard is waited for longer (`VsrReplica.gives_more_time`).
4. Then it is normal and sends STARTVIEW; backups fetch what they lack and acknowledge.

Invariant kept: an op committed in view v is in the log that starts any later view. The quorum that acknowledged
it meets the quorum of DOVIEWCHANGE in a replica that had it durable before it gave up v.
"""

from __future__ import annotations

from vsr import normal, state_transfer
from vsr.messages import DoViewChange, NewSnapshot, StartView, StartViewChange
from vsr.replica import Purpose, ViewProposal, VsrReplica, VsrStatus


def tick(r: VsrReplica) -> None:
    """Silence: propose the next view. Stalled: say again what may have been lost."""
    now = r.now.monotonic
    if r.status is VsrStatus.RECOVERING:
        return
    if now >= r.suspect_at and not r.proposed and not r.gives_more_time():
        propose(r, next_view(r), "primary silent" if r.status is VsrStatus.NORMAL else "view change stalled")
    if now >= r.resend_at:
        _resend(r)
    _pass_over_if_silent(r)


def next_view(r: VsrReplica) -> int:
    """The view to propose: after this one, and after any that is known to have begun or been proposed."""
    awaited = r.fetch.view if r.fetch is not None and r.fetch.purpose is Purpose.JOIN else 0
    heard = max((proposal.view for proposal in r.proposals.values()), default=0)
    return max(max(r.view, awaited) + 1, heard)


def propose(r: VsrReplica, view: int, reason: str) -> None:
    """Tell all that this replica wants `view`, and stay in the present one until a quorum does."""
    r.proposed = view
    r.proposals[r.me] = ViewProposal(view, r.now.monotonic)
    r.explain(f"proposing view {view}: {reason}")
    _send_proposal(r)
    _enter_if_quorum(r, view)


def _send_proposal(r: VsrReplica) -> None:
    r.resend_at = r.now.monotonic + r.timeouts.retry
    r.broadcast(StartViewChange(r.proposed, r.durable_view, r.vector))


def _resend(r: VsrReplica) -> None:
    r.resend_at = r.now.monotonic + r.timeouts.retry
    if r.proposed:
        r.proposals[r.me] = ViewProposal(r.proposed, r.now.monotonic)
        _send_proposal(r)
    if r.status is VsrStatus.VIEW_CHANGE and r.primary_of(r.view) != r.me:
        _send_do_view_change(r)
    elif r.status is VsrStatus.VIEW_CHANGE and not r.proposed and not r.disk_trouble:
        # Whoever is to lead, and still collects, fetches or writes, is heard by all: one that is silent is passed over.
        # One whose disk hangs begins no view, as it would go on with none: nobody is to wait for it.
        r.broadcast(StartViewChange(r.view, r.durable_view, r.vector))


def on_start_view_change(r: VsrReplica, sender: int, message: StartViewChange) -> None:
    """Somebody proposes a view. Not binding for anyone until a quorum does."""
    gives_way = r.status is VsrStatus.NORMAL and sender == r.primary_of(r.view)
    if message.entered > r.view and not _awaits(r, message.entered):
        # Its sender has entered that view by a quorum of proposals and is stuck there: it can come back to no
        # earlier one. Without joining it, a cluster could lose members to a view that nobody else ever enters.
        enter(r, message.entered, f"member {sender} has entered it")
    if message.view <= r.view:
        r.ignore("an earlier view")
        return
    r.proposals[sender] = ViewProposal(message.view, r.now.monotonic)
    # A primary doubts itself by its own measure: were it to go along with one deaf backup, the two would be a quorum.
    impatient = not r.leads and r.now.monotonic - r.calm_at >= 2 * r.timeouts.suspect // 3
    if message.view > r.proposed and (r.proposed or impatient or gives_way):
        # Whoever has lost patience too goes along at once, and with the highest proposal: replicas that each
        # count up by themselves would chase one another.
        propose(r, message.view, f"member {sender} proposes it")
    else:
        _enter_if_quorum(r, message.view)


def _awaits(r: VsrReplica, view: int) -> bool:
    return r.fetch is not None and r.fetch.purpose is Purpose.JOIN and r.fetch.view >= view


def _enter_if_quorum(r: VsrReplica, view: int) -> None:
    """Enter `view` when a quorum proposes just that, lately; a duplicate counts once, an old one not at all."""
    fresh = r.now.monotonic - 2 * r.timeouts.suspect
    wanting = [member for member, p in r.proposals.items() if p.view == view and p.at >= fresh]
    if view > r.view and len(wanting) >= r.quorum:
        enter(r, view, f"proposed by members {sorted(wanting)}")


def enter(r: VsrReplica, view: int, reason: str) -> None:
    """Give up every earlier view for good: durable before the DOVIEWCHANGE that says so leaves."""
    if r.status is VsrStatus.VIEW_CHANGE:
        r.stalled += 1
    r.view = view
    r.status = VsrStatus.VIEW_CHANGE
    r.fetch = None
    r.early.clear()
    r.do_view_changes = {}
    r.choosing = False
    r.passed_over = set()
    r.start_write = 0
    r.quiet = ""
    r.pipeline_bytes = 0
    r.acknowledged = {}
    r.acknowledge_due = False
    r.round_heard = 0
    r.restart_suspicion()
    r.resend_at = r.now.monotonic + r.timeouts.retry
    r.proposals = {member: p for member, p in r.proposals.items() if p.view > view}
    r.save()
    r.explain(reason)
    _send_do_view_change(r)


def _send_do_view_change(r: VsrReplica) -> None:
    message = DoViewChange(r.view, r.last_normal_view, r.log.op, r.commit, r.vector)
    primary = r.primary_of(r.view)
    if primary != r.me:
        r.promise(primary, message)
    else:
        r.do_view_changes[r.me] = message
        _choose_if_quorum(r)


def on_do_view_change(r: VsrReplica, sender: int, message: DoViewChange) -> None:
    """A replica has given up its earlier views for one that this replica leads."""
    if r.primary_of(message.view) != r.me or message.view < r.view:
        r.ignore("DOVIEWCHANGE for another primary or an earlier view")
        return
    if message.view > r.view:
        enter(r, message.view, f"member {sender} has entered it")
    if r.status is VsrStatus.NORMAL:
        # The view has begun and the sender has missed it.
        r.promise(sender, StartView(r.view, r.log.op, r.commit))
    elif r.last_normal_view == r.view:
        # It led this view before a restart. Duplicates of the DOVIEWCHANGE that began it say what the logs were before:
        # counted again, they would begin it a second time, without what it has committed since.
        r.ignore("DOVIEWCHANGE for a view led before a restart")
    elif r.status is VsrStatus.VIEW_CHANGE:
        r.do_view_changes[sender] = message
        _choose_if_quorum(r)


def _choose_if_quorum(r: VsrReplica) -> None:
    """With a quorum, once: the best log is that of the largest (last normal view, op) (VRR 4.2, step 3).

    By last normal view and not by the views of entries: a longer log of an earlier view can hold what was given up.
    """
    if r.choosing or r.start_write:
        return
    counted = {member: message for member, message in r.do_view_changes.items() if member not in r.passed_over}
    if len(counted) < r.quorum:
        return
    r.choosing = True
    best = max(counted, key=lambda member: (*_rank(counted[member]), member == r.me))
    chosen = counted[best]
    # Two logs with the same last normal view are prefixes of one log; else only what is committed is common.
    same = chosen.last_normal_view == r.last_normal_view
    after = r.log.op if same else r.commit
    state_transfer.begin(r, Purpose.BEST_LOG, r.view, best, chosen.op, after)
    r.explain(f"best log is member {best}'s, up to op {chosen.op}")
    start_if_complete(r)


def _rank(message: DoViewChange) -> tuple[int, int]:
    return message.last_normal_view, message.op


def _pass_over_if_silent(r: VsrReplica) -> None:
    """The sender of the best log does not send it: where the others are a quorum, the best of theirs will do as well.

    It may be heard and not hear. If another of that quorum is too far behind to lead, no view would ever begin. Not for
    less than a quorum, and each of them once in a view: on a slow line the answer can be under way.
    """
    fetch = r.fetch
    if fetch is None or fetch.purpose is not Purpose.BEST_LOG:
        return
    if r.now.monotonic - fetch.heard_at < r.timeouts.suspect // 2:
        return
    if len(r.do_view_changes.keys() - r.passed_over - {fetch.source}) >= r.quorum:
        r.passed_over.add(fetch.source)
        r.fetch = None
        r.choosing = False
        _choose_if_quorum(r)


def start_if_complete(r: VsrReplica) -> None:
    """The best log is here: make it and the last normal view durable together, and only then begin the view."""
    fetch = r.fetch
    if fetch is None or fetch.purpose is not Purpose.BEST_LOG or not state_transfer.is_complete(fetch):
        return
    # Its own is not among them after a restart in this view, and those of superseded incarnations are gone.
    commit = max((message.commit for message in r.do_view_changes.values()), default=0)
    state_transfer.install(r, fetch)
    r.advance_commit(commit)
    begin_when_durable(r)


def on_new_snapshot(r: VsrReplica, sender: int, message: NewSnapshot) -> None:
    """What is to be fetched lies beyond a snapshot. Whoever is to lead gives way to a member that is not so far behind.

    A quorum holds all that is committed, and no log begins after that: some member of any quorum can lead at once,
    while the cluster would wait for a whole snapshot's transfer here.
    """
    fetch = r.fetch
    if fetch is None or fetch.purpose is not Purpose.BEST_LOG or r.log.holds(message.snapshot.viewstamp):
        state_transfer.on_new_snapshot(r, sender, message)
    elif message.nonce != fetch.nonce or message.view != fetch.view or sender != fetch.source:
        r.ignore("NEWSNAPSHOT that was not asked for")
    else:
        r.fetch = None
        propose(r, next_view(r), "too far behind to lead")


def begin_when_durable(r: VsrReplica) -> None:
    """The log that begins this view is recorded; the view begins once that is durable, in `written`."""
    r.status = VsrStatus.VIEW_CHANGE
    r.start_write = r.next_write()


def written(r: VsrReplica) -> None:
    """A new primary whose log is durable begins its view. A crash before this starts nothing twice."""
    if r.status is not VsrStatus.VIEW_CHANGE or not r.start_write or r.write_done < r.start_write:
        return
    if r.view == 0:
        # All others were founded in it too, and wait for no STARTVIEW.
        normal.begin_as_primary(r, "founded")
        r.round_due = True
    else:
        normal.begin_as_primary(r, "view change complete")
        for other in r.others:
            r.promise(other, StartView(r.view, r.log.op, r.commit))


def on_start_view(r: VsrReplica, sender: int, message: StartView) -> None:
    """A view has begun. In that view already: a delayed duplicate, which must not touch the log."""
    if normal.heard_primary(r, sender, message.view, message.op, 0):
        r.acknowledge_due = True
        if message.op > r.log.op:
            state_transfer.catch_up(r, message.op)
        r.advance_commit(message.commit)
