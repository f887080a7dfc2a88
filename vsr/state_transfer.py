"""State transfer (VRR section 5.2): fetch a log in pages, and replace a suffix only when the new one is in hand.

The paper cuts the log back to the commit-number before asking. A backup's commit-number can be stale: that
takes a committed op from its majority before the new state has arrived, and if the replica then enters a view
change, its shortened log can win. So here the log, the view and the last normal view stay as they are until every
page is staged, and then change together in one durable batch.
"""

from __future__ import annotations

from viewstamp.protocol import Entry, Viewstamp, check
from vsr.messages import GetState, NewState
from vsr.replica import Fetch, Purpose, Replica, Status


def expect_gap(r: Replica, target: int) -> None:
    """Entries arrived early. Reordering mends itself within moments; ask only when the gap stays."""
    if r.fetch is None:
        r.fetch = _fetch(r, Purpose.LAG, r.view, r.primary_of(r.view), target, r.log.op)
        r.fetch.retry_at = r.now.monotonic + r.timeouts.retry // 16
    elif r.fetch.purpose is Purpose.LAG:
        r.fetch.target = max(r.fetch.target, target)


def catch_up(r: Replica, target: int) -> None:
    """A heartbeat shows entries that were missed: fetch them; a PREPARE overtaken by it may still come first."""
    expect_gap(r, target)


def join(r: Replica, view: int, target: int) -> None:
    """View `view` has begun, and this replica is not normal in it: fetch its log from its primary."""
    fetch = r.fetch
    if fetch is not None and fetch.purpose is Purpose.JOIN and fetch.view >= view:
        if fetch.view == view:
            r.restart_suspicion()
        return
    if r.primary_of(view) == r.me:
        r.ignore("a view of mine that I have not begun")
        return
    r.status = Status.STATE_TRANSFER
    r.restart_suspicion()
    begin(r, Purpose.JOIN, view, r.primary_of(view), target, r.commit)
    r.explain(f"joining view {view}, which has begun")
    finish_if_complete(r)


def begin(r: Replica, purpose: Purpose, view: int, source: int, target: int, after: int) -> None:
    """Ask for the first page."""
    r.fetch = _fetch(r, purpose, view, source, target, after)
    if after < target:
        _ask(r, r.fetch)


def _fetch(r: Replica, purpose: Purpose, view: int, source: int, target: int, after: int) -> Fetch:
    retry_at = r.now.monotonic + r.timeouts.retry
    return Fetch(purpose, view, source, target, after, 0, _nonce(r), [], retry_at)


def _nonce(r: Replica) -> int:
    return r.random.getrandbits(64)


def _ask(r: Replica, fetch: Fetch) -> None:
    fetch.retry_at = r.now.monotonic + r.timeouts.retry
    after = r.log.op if fetch.purpose is Purpose.LAG else fetch.after + len(fetch.staged)
    last = r.log.viewstamp(r.log.op) if after < r.log.op and not fetch.staged else Viewstamp(0, 0)
    r.send(fetch.source, GetState(fetch.view, after, fetch.nonce, last.view, last.op))


def tick(r: Replica) -> None:
    """Ask again for the page that did not come."""
    fetch = r.fetch
    if fetch is None or r.now.monotonic < fetch.retry_at:
        return
    if fetch.purpose is Purpose.LAG and r.log.op >= fetch.target:
        r.fetch = None
    else:
        _ask(r, fetch)


def on_get_state(r: Replica, sender: int, message: GetState) -> None:
    """Send one page of the log of this view. A log frozen for a view change goes to that view's primary only.

    A question for what is already the end is answered too: the asker learns that it has everything.
    """
    if message.view != r.view or r.status not in (Status.NORMAL, Status.VIEW_CHANGE):
        r.ignore("GETSTATE for another view or status")
    elif r.status is Status.VIEW_CHANGE and sender != r.primary_of(r.view):
        r.ignore("GETSTATE during a view change, not from its primary")
    elif message.after > r.log.op:
        r.ignore("GETSTATE beyond the log")
    else:
        after, last = message.after, Viewstamp(message.last_view, message.last_op)
        if after < last.op <= r.log.op and r.log.viewstamp(last.op) == last:
            # A restarted replica does not know how far its log was committed; it need not fetch again what it has.
            after = last.op
        entries = r.log.page(after, r.configuration.limits)
        r.send(sender, NewState(r.view, message.nonce, after, entries, r.log.op, r.commit))


def on_new_state(r: Replica, sender: int, message: NewState) -> None:
    """One page arrived: extend the log (same view), or stage it until all is here."""
    fetch = r.fetch
    if fetch is None or message.nonce != fetch.nonce or message.view != fetch.view or sender != fetch.source:
        r.ignore("NEWSTATE that was not asked for")
        return
    if fetch.purpose is Purpose.LAG:
        _extend(r, fetch, message)
        return
    if not fetch.staged and fetch.after < message.after == r.log.op:
        fetch.after = message.after  # The source holds my last entry: the logs are equal up to it.
    if message.after != fetch.after + len(fetch.staged):
        r.ignore("NEWSTATE for a page already here")
        return
    fetch.staged.extend(message.entries)
    fetch.commit = max(fetch.commit, message.commit)
    r.fetch_progressed()
    if fetch.after + len(fetch.staged) < fetch.target and message.entries:
        _ask(r, fetch)
    else:
        finish_if_complete(r)


def _extend(r: Replica, fetch: Fetch, message: NewState) -> None:
    """Normal in this view: my log is a prefix of its primary's, so a page continues it."""
    if r.status is not Status.NORMAL or message.view != r.view:
        r.ignore("NEWSTATE for another view or status")
        return
    fresh = message.entries[max(0, r.log.op - message.after) :]
    if fresh and fresh[0].op == r.log.op + 1:
        r.adopt_fetched(fresh)
        r.acknowledge_due = True
    for first in sorted(r.early):
        entries = r.early[first]
        if first > r.log.op + 1:
            break
        del r.early[first]
        if entries[-1].op > r.log.op:
            r.adopt(entries[r.log.op + 1 - first :])
    r.advance_commit(message.commit)
    fetch.target = max(fetch.target, message.op)
    if r.log.op >= fetch.target:
        r.fetch = None
    elif message.entries:
        _ask(r, fetch)


def finish_if_complete(r: Replica) -> None:
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


def install(r: Replica, fetch: Fetch) -> None:
    """Replace the suffix by the staged one, and become last normal in its view: one batch, all or nothing.

    Entries with the same viewstamp are the same and stay, so that nothing durable is written again.
    """
    check(fetch.after <= r.log.op, "a page after {} does not join a log of {}", fetch.after, r.log.op)
    kept = fetch.after
    fresh: list[Entry] = fetch.staged
    for position, entry in enumerate(fetch.staged):
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
