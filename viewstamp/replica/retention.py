"""What a replica keeps of its snapshots, and of the log before them: for whom, and until when."""

from __future__ import annotations

from collections.abc import Callable, Collection

from viewstamp.cluster import Cluster
from viewstamp.protocol import Core, Snapshot
from viewstamp.replica.serving import Serving


class Retention:
    """The snapshots whose files are here and whole, and how far back the log goes.

    A file may go only when nobody can need it any more:

    - A restart begins with the snapshot that the journal names. So the newest stays, and each before it until the
      record of the next is durable: a crash until then finds it named.
    - A member that is fetching it would have to begin again, with the next.
    - A thread that loads it reads it piece by piece: without the rest the replica would end as if its disk had decayed.
    - What is `under_way` here goes on with it: a snapshot that is being finished or recorded, or waits to be installed.
      That can have the name of one that came to nothing: who gives up fetching a snapshot may take the same itself.

    The log up to a snapshot may go when the record of that is durable: a crash before would leave neither. A margin
    stays for members that are a little behind. So does what follows a snapshot that a member is fetching, or it would
    find, when it is done, that it needs the next; but not once the log comes near its bound.

    It is told what becomes of snapshots, and says what may go. Times are monotonic nanoseconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        stored: Snapshot | None,
        serving: Serving,
        under_way: Callable[[], Collection[Snapshot | None]],
    ) -> None:
        self._serving = serving
        self._under_way = under_way
        self._snapshot_entries = cluster.snapshot_entries
        self._snapshot_bytes = cluster.snapshot_bytes
        self._patient_below = cluster.limits.log_bytes * 3 // 4
        self.newest = stored
        """What a restart begins with as soon as all that is written is durable."""
        self.newest_op = stored.op if stored is not None else 0
        self.decayed = False
        """Whether the file of the newest is missing or damaged: it is offered to nobody, and to be taken again."""
        self.durable_write = 0
        """The last write of this replica that is durable."""
        self._naming_write = 0  # from when it is durable on, the journal names the newest
        self._older: dict[Snapshot, int] = {}  # and the write after which its file may go
        self._loading: tuple[Snapshot, ...] = ()  # those whose files are being read, or are to be read next
        self._pinned_log = False  # the log is longer than its margin, for a member that is fetching

    # What becomes of snapshots.

    def install(self, snapshot: Snapshot, write: int) -> None:
        """It has taken the place of the log and is to be loaded; its record is on its way to the journal."""
        # The log begins anew behind it. What the journal has of the old one stays until another snapshot is taken: to
        # drop it now, before the record of this one is durable, would leave neither.
        self._pinned_log = False
        self._supersede(snapshot, write)
        self._loading = (*self._loading, snapshot)

    def loaded(self, snapshot: Snapshot) -> None:
        """This one was loaded, and none that was installed before it will be."""
        if snapshot in self._loading:
            self._loading = self._loading[self._loading.index(snapshot) + 1 :]

    def recorded(self, snapshot: Snapshot, write: int) -> bool:
        """The record of one that was taken here is durable, with this write. True if that makes it the newest: then the
        log up to it may go."""
        if snapshot == self.newest:
            self.decayed = False  # It was taken again.
            return False
        if self.newest is not None and snapshot.op < self.newest.op:
            # A newer one was installed meanwhile. Until its record is durable, a restart begins from this one.
            self._older[snapshot] = self._naming_write
            return False
        self._supersede(snapshot, write)
        return True

    def _supersede(self, snapshot: Snapshot, write: int) -> None:
        if self.newest is not None:
            self._older[self.newest] = write
        self._older.pop(snapshot, None)
        self.newest, self._naming_write = snapshot, write
        self.newest_op = snapshot.op
        self.decayed = False

    # What there is, and what may go.

    @property
    def offered(self) -> list[Snapshot]:
        """Those that other members may fetch."""
        return [*self._older, self.newest] if self.newest and not self.decayed else [*self._older]

    @property
    def keeps_more(self) -> bool:
        """Whether anything is kept beside the newest and its log, or for a member that fetches: some may go by now."""
        return bool(self._older or self._pinned_log or self._serving.asked_at)

    def let_go(self, now: int) -> list[Snapshot]:
        """Those before the newest whose files may go. They are forgotten here."""
        pinned = self._serving.pinned(now)
        gone = [
            snapshot
            for snapshot, write in self._older.items()
            if write <= self.durable_write and snapshot not in pinned and snapshot not in self._loading
        ]
        for snapshot in gone:
            del self._older[snapshot]
        return [snapshot for snapshot in gone if self.may_go(snapshot)]

    def may_go(self, snapshot: Snapshot) -> bool:
        """Whether nobody needs the file of this one, which came to nothing here or was let go."""
        return snapshot != self.newest and snapshot not in self._older and snapshot not in self._under_way()

    def log_may_go(self, core: Core, now: int) -> bool:
        """Whether the log was kept for members that were fetching, and are no more, or is too long by now."""
        if not self._pinned_log:
            return False
        return not self._serving.pinned(now) or core.standing.log_bytes >= self._patient_below

    def log_after(self, core: Core, snapshot: Snapshot, now: int) -> int:
        """The op after which the log stays when `snapshot`, whose record is durable, stands for what is before."""
        standing = core.standing
        base = standing.base
        lowest = max(base, snapshot.op - margin_of(self._snapshot_entries))
        keep = kept_after(snapshot.op, lowest, self._snapshot_bytes, core.size)
        # Not for ever: the log in memory has a bound. Whoever is then left behind begins again, with the newest;
        # what is kept for the one before would leave no room for that.
        pinned = self._serving.pinned(now) if standing.log_bytes < self._patient_below else []
        kept = min([keep, *[each.op for each in pinned if each.op >= base]])
        self._pinned_log = kept < keep
        return max(base, kept)


def margin_of(snapshot_entries: int) -> int:
    """How many entries before a snapshot are kept for members that are a little behind."""
    return snapshot_entries // 4


def kept_after(op: int, lowest: int, snapshot_bytes: int, size: Callable[[int], int]) -> int:
    """The op after which the log keeps what lies before a snapshot at `op`: `lowest`, or later if that is too much.

    `size` is that of an entry. Too much is what reaches a quarter of `snapshot_bytes` without the first of them: a log
    that its margin alone fills takes no more commands, and so no snapshot would ever shorten it.
    """
    kept, held = op, 0
    while kept > lowest and held < snapshot_bytes // 4:
        held += size(kept)
        kept -= 1
    return kept
