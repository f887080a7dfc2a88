"""Snapshots in the place of entries that no log holds any more (section 7).

The leader names its snapshot and the follower fetches the bytes, at its own pace, in pieces that can be asked for
again; only when all of it is durable does it take the place of the follower's log, in one batch.

Invariants kept: an installed snapshot never takes a committed index back, and a log that holds the snapshot's last
entry, of the same term, keeps what follows it.
"""

from __future__ import annotations

from raft.messages import Appended, Installing, InstallSnapshot, Rejected
from raft.server import Role, Server
from viewstamp.protocol import Snapshot, Wanted, check

# Leader.


def offer(s: Server, other: int) -> None:
    """What this follower needs next is not in the log: name the snapshot that holds it."""
    snapshot = s.snapshot
    check(snapshot is not None, "a log that begins after index {} without a snapshot", s.log.base)
    if snapshot is not None:
        name = snapshot.view, snapshot.op, snapshot.stamp, snapshot.size, snapshot.digest
        s.send(other, InstallSnapshot(s.view, *name, s.round))


# Follower.


def on_install_snapshot(s: Server, sender: int, message: InstallSnapshot) -> None:
    """Fetch it, unless this log has all of it: an old or repeated offer must not take anything back."""
    if message.term < s.view:
        s.promise(sender, Rejected(s.view, message.last_index, s.log.op + 1, 0))  # Its sender steps down.
        return
    if not s.follow(message.term, sender):
        return
    snapshot = message.snapshot
    s.round_heard = max(s.round_heard, message.round)
    if snapshot.op <= s.commit or s.log.holds(snapshot.viewstamp):
        # All up to there is the same; what follows stays. The next request finds where the logs part, if they do.
        s.advance_commit(snapshot.op)
        drop_needless(s)
        s.promise(sender, Appended(s.view, snapshot.op, message.round))
        return
    # One that is under way goes on when its leader has a newer one by now: changing each time, a slow member would
    # never have any of them whole.
    if s.installing is None:
        s.installing = Wanted(sender, snapshot)
        s.explain(f"needs a snapshot up to index {snapshot.op} from member {sender}")
    s.send(sender, Installing(s.view, message.round))


def drop_needless(s: Server) -> None:
    """Entries or commits have come. A snapshot whose history this log has by now is not fetched any more."""
    wanted = s.installing
    if wanted is not None and (wanted.snapshot.op <= s.commit or s.log.holds(wanted.snapshot.viewstamp)):
        s.installing = None


def fetched(s: Server, snapshot: Snapshot) -> None:
    """It is on this disk: let it take the log's place, and tell the leader when that is durable."""
    wanted = s.installing
    if wanted is None or wanted.snapshot != snapshot or s.role is not Role.FOLLOWER:
        return
    s.installing = None
    if s.log.holds(snapshot.viewstamp):
        s.advance_commit(snapshot.op)
    elif snapshot.op > s.commit:
        s.install(snapshot)
    s.promise(wanted.source, Appended(s.view, snapshot.op, s.round_heard))


def fetch_failed(s: Server, snapshot: Snapshot) -> None:
    """The leader names its newest with the next heartbeat."""
    if s.installing is not None and s.installing.snapshot == snapshot:
        s.installing = None
