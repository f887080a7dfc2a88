"""State transfer (VRR section 5.2): fetch a log in pages, and replace a suffix only when the new one is in hand.

The paper cuts the log back to the commit-number before asking. A backup's commit-number can be stale: that
takes a committed op from its majority before the new state has arrived, and if the replica then enters a view
change, its shortened log can win. So here the log, the view and the last normal view stay as they are until every
page is staged, and then change together in one durable batch.

What the source's log does not hold any more it offers as a snapshot. That is fetched into a file of its own, and
takes the log's place in the same batch as the pages behind it: a snapshot alone would leave a log that is shorter
than what this replica has acknowledged in its last normal view, and longer than what it held of it.
"""

from __future__ import annotations

from viewstamp.protocol import NEVER, Entry, Snapshot, Viewstamp, check
from vsr.messages import GetState, NewSnapshot, NewState
from vsr.replica import Fetch, Purpose, VsrReplica, VsrStatus


def expect_gap(r: VsrReplica, target: int) -> None:
    """Entries arrived early. Reordering mends itself within moments; ask only when the gap stays."""
    if r.disk_is_behind:
        return  # Nothing is taken now. A later heartbeat shows the gap again.
    if r.fetch is None:
        r.fetch = _fetch(r, Purpose.LAG, r.view, r.primary_of(r.view), target, r.log.op)
        r.fetch.retry_at = r.now.monotonic + r.timeouts.retry // 16
    elif r.fetch.purpose is Purpose.LAG:
        r.fetch.target = max(r.fetch.target, target)


def catch_up(r: VsrReplica, target: int) -> None:
    """A heartbeat shows entries that were missed: fetch them; a PREPARE overtaken by it may still come first."""
    expect_gap(r, target)


def join(r: VsrReplica, view: int, target: int, number: int) -> None:
    """View `view` has begun, and this replica is not normal in it: fetch its log from its primary.

    `number` is the read round that its primary is in.
    """
    fetch = r.fetch
    if fetch is not None and fetch.purpose is Purpose.JOIN and fetch.view >= view:
        if fetch.view == view:
            fetch.round_heard = max(fetch.round_heard, number)
            r.restart_suspicion()
        return
    if r.primary_of(view) == r.me:
        r.ignore("a view of mine that I have not begun")
        return
    r.status = VsrStatus.STATE_TRANSFER
    r.restart_suspicion()
    begin(r, Purpose.JOIN, view, r.primary_of(view), target, r.commit)
    r.explain(f"joining view {view}, which has begun")
    finish_if_complete(r)


def begin(r: VsrReplica, purpose: Purpose, view: int, source: int, target: int, after: int) -> None:
    """Ask for the first page."""
    r.fetch = _fetch(r, purpose, view, source, target, after)
    if after < target:
        _ask(r, r.fetch)


def _fetch(r: VsrReplica, purpose: Purpose, view: int, source: int, target: int, after: int) -> Fetch:
    now = r.now.monotonic
    return Fetch(purpose, view, source, target, after, 0, _nonce(r), [], now + r.timeouts.retry, now)


def _nonce(r: VsrReplica) -> int:
    return r.random.getrandbits(64)


def _ask(r: VsrReplica, fetch: Fetch) -> None:
    fetch.retry_at = r.now.monotonic + r.timeouts.retry
    after = r.log.op if fetch.purpose is Purpose.LAG else fetch.after + len(fetch.staged)
    fresh = not fetch.staged and fetch.snapshot is None
    last = r.log.viewstamp(r.log.op) if after < r.log.op and fresh else Viewstamp(0, 0)
    r.send(fetch.source, GetState(fetch.view, after, fetch.nonce, last.view, last.op, fetch.round_heard))


def tick(r: VsrReplica) -> None:
    """Ask again for the page that did not come."""
    fetch = r.fetch
    if fetch is None or r.now.monotonic < fetch.retry_at:
        return
    if fetch.purpose is Purpose.LAG and (r.log.op >= fetch.target or r.disk_is_behind):
        r.fetch = None
    else:
        _ask(r, fetch)


def on_get_state(r: VsrReplica, sender: int, message: GetState) -> None:
    """Send one page of the log of this view. A log frozen for a view change goes to that view's primary only.

    A question for what is already the end is answered too: the asker learns that it has everything.
    """
    if message.view != r.view or r.status not in (VsrStatus.NORMAL, VsrStatus.VIEW_CHANGE):
        r.ignore("GETSTATE for another view or status")
    elif r.status is VsrStatus.VIEW_CHANGE and sender != r.primary_of(r.view):
        r.ignore("GETSTATE during a view change, not from its primary")
    elif message.after > r.log.op:
        r.ignore("GETSTATE beyond the log")
    else:
        _count_as_answer(r, sender, message.round)
        after, last = message.after, Viewstamp(message.last_view, message.last_op)
        if after < last.op and r.log.holds(last):
            # A restarted replica does not know how far its log was committed; it need not fetch again what it has.
            after = last.op
        if after < r.log.base:
            _offer_snapshot(r, sender, message.nonce)
            return
        entries = r.log.page(after, r.configuration.limits)
        r.send(sender, NewState(r.view, message.nonce, after, entries, r.log.op, r.commit))


def _count_as_answer(r: VsrReplica, sender: int, number: int) -> None:
    """A member that joins says nothing else for as long as it fetches: a primary that depends on it would give way.

    But one that asks, and hears nothing of what this primary says, is no part of a majority.
    """
    backup = r.acknowledged.get(sender) if r.leads else None
    if backup is not None and backup.asked_round < number <= r.round:
        backup.asked_round = number
        backup.heard = r.now.monotonic


def _offer_snapshot(r: VsrReplica, sender: int, nonce: int) -> None:
    snapshot = r.snapshot
    check(snapshot is not None, "a log that begins after op {} without a snapshot", r.log.base)
    if snapshot is not None:
        name = snapshot.view, snapshot.op, snapshot.stamp, snapshot.size, snapshot.digest
        r.send(sender, NewSnapshot(r.view, nonce, *name, r.log.op, r.commit))


def on_new_snapshot(r: VsrReplica, sender: int, message: NewSnapshot) -> None:
    """What was asked for is in the source's log no more; it offers what holds it."""
    fetch = r.fetch
    if fetch is None or message.nonce != fetch.nonce or message.view != fetch.view or sender != fetch.source:
        r.ignore("NEWSNAPSHOT that was not asked for")
    elif fetch.snapshot is not None and not fetch.in_hand:
        r.ignore("NEWSNAPSHOT while one is being fetched")
    elif message.snapshot.op <= max(r.commit, fetch.after + len(fetch.staged)):
        r.ignore("NEWSNAPSHOT of what is here")
    elif not fetch.staged and r.log.holds(message.snapshot.viewstamp):
        # What differs lies behind it: no need to fetch what is here.
        fetch.after = message.snapshot.op
        _ask(r, fetch)
    else:
        # Pages that are staged already may have gone from the source's log meanwhile, with all that follows them.
        # What was in hand is given up with them: were this one not to be had either, the log is fetched from the start.
        fetch.snapshot = message.snapshot
        fetch.in_hand = False
        fetch.staged = []
        fetch.after = r.commit
        # In that view already, it answers heartbeats. Else it goes on asking, to show that it is here: a primary whose
        # majority depends on this replica would give way in the middle, and again in each view that follows.
        fetch.retry_at = NEVER if fetch.purpose is Purpose.LAG else r.now.monotonic + r.timeouts.retry
        r.explain(f"needs a snapshot up to op {message.snapshot.op} from member {sender}")


def snapshot_in_hand(r: VsrReplica, snapshot: Snapshot) -> None:
    """The snapshot is on this disk. In this view: it extends the log, like a page. Else it is staged, like pages."""
    fetch = r.fetch
    if fetch is None or fetch.snapshot != snapshot or fetch.in_hand:
        return
    r.fetch_progressed()
    if snapshot.op <= r.commit:
        snapshot_failed(r, snapshot)
    elif fetch.purpose is not Purpose.LAG:
        fetch.in_hand = True
        fetch.after = snapshot.op
        fetch.target = max(fetch.target, snapshot.op)
        if is_complete(fetch):
            finish_if_complete(r)
        else:
            _ask(r, fetch)
    elif r.log.holds(snapshot.viewstamp):
        # Delayed PREPAREs have brought all of it. What follows it here is acknowledged: it must not be dropped.
        fetch.snapshot = None
        r.advance_commit(snapshot.op)
        _ask(r, fetch)
    elif r.status is VsrStatus.NORMAL and fetch.view == r.view:
        r.install(snapshot)
        r.early = {first: entries for first, entries in r.early.items() if first > snapshot.op}
        r.acknowledge_due = True
        fetch.snapshot = None
        fetch.target = max(fetch.target, snapshot.op)
        _ask(r, fetch)


def append_prepared(r: VsrReplica, entries: tuple[Entry, ...]) -> None:
    """Append what is new in a PREPARE that leaves no gap."""
    first, last = entries[0].op, entries[-1].op
    if last > r.log.op:
        r.adopt(entries[r.log.op + 1 - first :])
        _appended(r)


def append_early(r: VsrReplica) -> None:
    """Append the PREPAREs that came early and that leave no gap any more."""
    while r.early:
        first = min(r.early)
        if first > r.log.op + 1:
            return
        append_prepared(r, r.early.pop(first))


def _appended(r: VsrReplica) -> None:
    """Entries have come in order. If they reach beyond a snapshot that is being fetched, it is needed no more."""
    fetch = r.fetch
    if fetch is None or fetch.purpose is not Purpose.LAG or fetch.snapshot is None:
        return
    if r.log.op >= fetch.snapshot.op:
        fetch.snapshot = None
        fetch.retry_at = r.now.monotonic + r.timeouts.retry // 16


def snapshot_failed(r: VsrReplica, snapshot: Snapshot) -> None:
    """Its source has it no more, or is gone: ask again, and be offered another."""
    fetch = r.fetch
    if fetch is not None and fetch.snapshot == snapshot and not fetch.in_hand:
        fetch.snapshot = None
        _ask(r, fetch)


def on_new_state(r: VsrReplica, sender: int, message: NewState) -> None:
    """One page arrived: extend the log (same view), or stage it until all is here."""
    fetch = r.fetch
    if fetch is None or message.nonce != fetch.nonce or message.view != fetch.view or sender != fetch.source:
        r.ignore("NEWSTATE that was not asked for")
        return
    if fetch.purpose is Purpose.LAG:
        _extend(r, fetch, message)
        return
    if fetch.snapshot is not None and not fetch.in_hand:
        # Delayed, from before the snapshot was offered. It could complete a log that begins with what is not here.
        r.ignore("NEWSTATE before its snapshot")
        return
    if not fetch.staged and fetch.snapshot is None and fetch.after < message.after == r.log.op:
        fetch.after = message.after  # The source holds my last entry: the logs are equal up to it.
    if message.after != fetch.after + len(fetch.staged):
        r.ignore("NEWSTATE for a page already here")
        return
    fetch.staged.extend(message.entries)
    fetch.heard_at = r.now.monotonic
    fetch.commit = max(fetch.commit, message.commit)
    r.fetch_progressed()
    if fetch.after + len(fetch.staged) < fetch.target and message.entries:
        _ask(r, fetch)
    else:
        finish_if_complete(r)


def _extend(r: VsrReplica, fetch: Fetch, message: NewState) -> None:
    """Normal in this view: my log is a prefix of its primary's, so a page continues it."""
    if r.status is not VsrStatus.NORMAL or message.view != r.view:
        r.ignore("NEWSTATE for another view or status")
        return
    if r.disk_is_behind:
        r.ignore("the disk is behind")
        return
    fresh = message.entries[max(0, r.log.op - message.after) :]
    if fresh and fresh[0].op == r.log.op + 1:
        r.adopt_fetched(fresh)
        r.acknowledge_due = True
        _appended(r)
    append_early(r)
    r.advance_commit(message.commit)
    fetch.target = max(fetch.target, message.op)
    if r.log.op >= fetch.target:
        r.fetch = None
    elif fresh:  # Not for a duplicate: each would ask for the same page once more.
        _ask(r, fetch)


def finish_if_complete(r: VsrReplica) -> None:
    """All pages of a view that has begun are here: take its log, its view and its last normal view at once."""
    fetch = r.fetch
    if fetch is None or not is_complete(fetch):
        return
    if fetch.purpose is Purpose.JOIN or fetch.purpose is Purpose.RECOVER:
        install(r, fetch)
        r.become_backup("log of the view is in hand")
        r.advance_commit(fetch.commit)


def is_complete(fetch: Fetch) -> bool:
    return fetch.after + len(fetch.staged) >= fetch.target


def install(r: VsrReplica, fetch: Fetch) -> None:
    """Replace the suffix by the staged one, and become last normal in its view: one batch, all or nothing.

    Entries with the same viewstamp are the same and stay, so that nothing durable is written again.
    """
    if fetch.snapshot is not None:
        r.install(fetch.snapshot)
    check(fetch.after <= r.log.op, "a page after {} does not join a log of {}", fetch.after, r.log.op)
    kept = max(fetch.after, r.commit)
    fresh: list[Entry] = fetch.staged
    for position, entry in enumerate(fetch.staged):
        if entry.op <= r.commit:
            continue  # The same everywhere, and perhaps in this log no more.
        if entry.op > r.log.op or r.log.entry(entry.op).viewstamp != entry.viewstamp:
            fresh = fetch.staged[position:]
            break
        kept = entry.op
    else:
        fresh = []
    r.truncate(kept)
    r.adopt_fetched(fresh)
    r.view = fetch.view
    r.last_normal_view = fetch.view
    r.round_heard = 0
    r.save()
    r.fetch = None
