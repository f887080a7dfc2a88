"""Log replication (section 5.3, 5.4.2; dissertation 10.2): pipelined, bounded, and counted only when durable.

Invariants kept: a follower's log is cut only where it conflicts; a leader commits by counting only entries of its own
term, and counts what a follower's own request proved, and itself by its own disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft import snapshots
from raft.messages import Appended, AppendEntries, Rejected, TimeoutNow
from raft.server import Progress, Role, Server
from viewstamp.protocol import NEVER, Entry, Proposal


def propose(s: Server, proposals: Sequence[Proposal]) -> int:
    """Append to the leader's log; the entries leave at the end of the turn."""
    return s.order(proposals) if s.leads and proposals and s.room_for(proposals) else 0


# Follower.


def on_append_entries(s: Server, sender: int, message: AppendEntries) -> None:
    """Follow the leader of this term, and make its log mine."""
    if message.term < s.view:
        s.promise(sender, Rejected(s.view, message.prev_index, s.log.op + 1, 0))  # Its sender steps down.
        return
    if not s.follow(message.term, sender):
        return
    hint = _mismatch(s, message)
    if hint:
        s.promise(sender, Rejected(s.view, message.prev_index, hint, message.round))
        return
    _take(s, message.entries, fresh=message.commit <= message.prev_index)
    match = message.prev_index + len(message.entries)
    # Beyond `match` this log may still differ: neither commit nor acknowledge more than this request has proved.
    s.advance_commit(min(message.commit, match))
    snapshots.drop_needless(s)
    s.promise(sender, Appended(s.view, match, message.round))


def _mismatch(s: Server, message: AppendEntries) -> int:
    """0 if the log has the entry before; else the index from which the leader had better try."""
    index = message.prev_index
    if index <= s.commit:
        return 0  # What is committed is the same everywhere.
    if index > s.log.op:
        return s.log.op + 1
    conflicting = s.log.entry(index).view
    if conflicting == message.prev_term:
        return 0
    while index > s.commit + 1 and s.log.entry(index - 1).view == conflicting:
        index -= 1
    return index


def _take(s: Server, entries: tuple[Entry, ...], *, fresh: bool) -> None:
    """Append what is new; cut only at the first entry that differs: an old request must not shorten the log.

    Entries that are committed already when they come (not `fresh`) may have been ordered at any time.
    """
    for position, entry in enumerate(entries):
        differs = s.commit < entry.op <= s.log.op and s.log.entry(entry.op).view != entry.view
        if differs:
            s.truncate(entry.op - 1)
        if differs or entry.op > s.log.op:
            if fresh:
                s.adopt(entries[position:])
            else:
                s.adopt_fetched(entries[position:])
            return


# Leader.


def on_appended(s: Server, sender: int, message: Appended) -> None:
    """A follower holds my log up to `match`, durably."""
    progress = _answered(s, sender, message.term, message.round)
    if progress is None:
        return
    if message.match > s.log.op:
        s.ignore("APPENDENTRIES answer beyond the log")
        return
    progress.match = max(progress.match, message.match)
    progress.next = max(progress.next, progress.match + 1)
    if message.round >= progress.probe_round:
        progress.probing = progress.probe_sent = False
    progress.acknowledged()
    count_commit(s)
    _hand_over_if_caught_up(s, sender, progress)


def on_rejected(s: Server, sender: int, message: Rejected) -> None:
    """A follower's log differs at `prev_index`, or lacks it: go back, and find where they agree."""
    progress = _answered(s, sender, message.term, message.round)
    if progress is None:
        return
    if message.prev_index <= progress.match or message.prev_index >= progress.next:
        s.ignore("rejection of an earlier request")
        return
    if message.round < progress.probe_round:
        # A window of requests that arrive in another order is rejected piece by piece. Going back for each, and on
        # again for each that fits, would send the whole window anew every time: once per round trip is enough.
        s.ignore("rejection of a request from before going back")
        return
    if not progress.probing:
        progress.probe_round = s.round + 1
        s.round_due = True
    progress.probe(max(progress.match + 1, min(message.hint, message.prev_index)))


def on_installing(s: Server, sender: int, term: int, number: int) -> None:
    """A follower is fetching a snapshot: it is alive, and follows."""
    _answered(s, sender, term, number)


def _answered(s: Server, sender: int, term: int, number: int) -> Progress | None:
    if term > s.view:
        s.become_follower(term, 0, f"member {sender} is in a later term")
        return None
    if s.role is not Role.LEADER or term < s.view:
        s.ignore("APPENDENTRIES answer of an earlier term or role")
        return None
    if number > s.round:
        s.ignore("APPENDENTRIES answer of a round that has not begun")
        return None
    progress = s.progress[sender]
    progress.heard = s.now.monotonic
    progress.round = max(progress.round, number)
    return progress


def count_commit(s: Server) -> None:
    """The highest index that a quorum holds durably, if it is of this term (5.4.2, figure 8)."""
    if s.role is not Role.LEADER:
        return
    held = sorted([progress.match for progress in s.progress.values()] + [s.log.durable], reverse=True)
    index = held[s.quorum - 1]
    if index > s.commit and s.log.entry(index).view == s.view:
        s.advance_commit(index)


def tick(s: Server) -> None:
    """A leader's heartbeat, its doubt in itself (check-quorum), and the end of a transfer that did not succeed."""
    if s.role is not Role.LEADER:
        return
    now = s.now.monotonic
    s.check_quorum_at = now + s.timeouts.suspect // 2
    doubt = _doubt(s, now)
    if doubt:
        s.become_follower(s.view, 0, f"leader steps down: {doubt}")
        return
    if now >= s.heartbeat_at:
        s.heartbeat_due = True
    if now >= s.transfer_ends_at:
        s.transfer_to = 0
        s.transfer_ends_at = NEVER
        s.explain("leadership transfer did not succeed in time")


def _doubt(s: Server, now: int) -> str:
    others = s.quorum - 1
    if others:
        heard = sorted([progress.heard for progress in s.progress.values()], reverse=True)[others - 1]
        if now - max(heard, s.leading_since) > s.timeouts.suspect:
            return "no majority answers"
    return s.disk_trouble if others else ""


def close_turn(s: Server) -> None:
    """Send each follower what it lacks, within its window; to all that lack the same, the same object."""
    if s.role is not Role.LEADER:
        return
    if s.round_due:
        s.round += 1
    sent: dict[int, AppendEntries] = {}
    all_spoken_to = True
    for other, progress in s.progress.items():
        if _replicate(s, other, progress, sent):
            continue
        if (s.heartbeat_due or s.round_due) and progress.next <= s.log.base:
            snapshots.offer(s, other)
        elif s.heartbeat_due or s.round_due:
            # A heartbeat says where the leader believes this follower to be; if requests were lost on the way, its
            # answer tells, and the flow resumes from there.
            s.send(other, _request(s, progress.next, (), sent))
        else:
            all_spoken_to = False
    if all_spoken_to:
        # Not for less: while one follower is being caught up, or the others take load, one that is sent nothing (it has
        # all, or its window is full of what was lost) would hear no heartbeat for as long as that lasts.
        s.heartbeat_at = s.now.monotonic + s.timeouts.heartbeat
    s.heartbeat_due = s.round_due = False


def _replicate(s: Server, other: int, progress: Progress, sent: dict[int, AppendEntries]) -> bool:
    spoken = False
    while progress.next <= s.log.op:
        if progress.full:
            return spoken
        if progress.next <= s.log.base:
            snapshots.offer(s, other)
            progress.probe(progress.next)
            progress.probe_sent = True
            return True
        entries = s.log.page(progress.next - 1, s.configuration.limits)
        s.send(other, _request(s, progress.next, entries, sent))
        spoken = True
        if progress.probing:
            progress.probe_sent = True
            return spoken
        progress.sent(entries[-1].op, sum(len(entry.encoded) for entry in entries))
    return spoken


def _request(s: Server, first: int, entries: tuple[Entry, ...], sent: dict[int, AppendEntries]) -> AppendEntries:
    """A request from index `first` on; made once for all followers that are sent the same."""
    request = sent.get(first)
    if request is None or request.entries != entries:
        previous = first - 1
        request = AppendEntries(s.view, previous, s.log.viewstamp(previous).view, entries, s.commit, s.round)
        sent[first] = request
    return request


# Leadership transfer (dissertation 3.10).


def transfer(s: Server, target: int) -> None:
    """Hand over to a follower: take no more proposals, let it catch up, then ask it to stand. Ends by itself."""
    if s.role is Role.LEADER and target in s.progress:
        s.transfer_to = target
        s.transfer_ends_at = s.now.monotonic + s.timeouts.suspect
        s.explain(f"handing over to member {target}")
        _hand_over_if_caught_up(s, target, s.progress[target])


def _hand_over_if_caught_up(s: Server, sender: int, progress: Progress) -> None:
    if sender == s.transfer_to and progress.match == s.log.op:
        s.send(sender, TimeoutNow(s.view))


def most_caught_up(s: Server) -> int:
    """The follower to hand over to, 0 if there is none: one that answers lately, and of these the longest log.

    In an idle cluster a dead one holds as much as the others.
    """
    lately = s.now.monotonic - 2 * s.timeouts.heartbeat
    return max(s.progress, key=lambda o: (s.progress[o].heard >= lately, s.progress[o].match, o), default=0)
