"""One simulated member: a protocol core over a disk of records, which a crash leaves with a prefix of what was asked.

Knows nothing of any one protocol. The driver decides when a write completes, when the process dies, and how many of the
writes under way then still reach the disk; a `Watcher` sees all that an outsider could see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from viewstamp.protocol import (
    Configuration,
    Core,
    Durable,
    Effects,
    Entry,
    Founded,
    Install,
    Lost,
    Message,
    Origin,
    Promise,
    Proposal,
    ReadFailed,
    ReadReady,
    SaveState,
    SendAfter,
    Snapshot,
    State,
    Time,
    Wanted,
    Write,
    check,
)
from viewstamp.simulation.stored import StoredRecords


class Outgoing(NamedTuple):
    """A message on its way out, with the incarnation of its sender, as its frame would carry it."""

    to: int
    incarnation: int
    message: Message


@dataclass(frozen=True, slots=True)
class Taken:
    """The record that names a member's own snapshot, whose file is on the disk already."""

    snapshot: Snapshot


class Disk(StoredRecords):
    """What would still be there after a crash, and the incarnation of the directory.

    `was_lost`: the disk was replaced, and nothing has been saved on the new one. Until then `ghost` keeps what was on
    the lost one: what was acknowledged from there may be counted until its loss is known.
    """

    def __init__(self, incarnation: int, state: State | None = None, entries: Sequence[Entry] = ()) -> None:
        super().__init__()
        self.incarnation = incarnation
        self.state = state
        self.entries = list(entries)
        self.was_lost = False
        self.ghost: StoredRecords | None = None

    def holds(self, op: int, entry: Entry) -> bool:
        """Whether this entry, or a snapshot that stands for it, is or before an unhealed loss was durable here."""
        records = self if self.ghost is None else self.ghost
        if records.snapshot is not None and op <= records.snapshot.op:
            return True
        place = op - records.base - 1
        return 0 <= place < len(records.entries) and records.entries[place].encoded == entry.encoded

    def lose(self, incarnation: int) -> None:
        """A blank one, whose directory has this incarnation, takes its place."""
        if self.ghost is None:
            self.ghost = StoredRecords()
            self.ghost.entries, self.ghost.snapshot = self.entries, self.snapshot
        self.incarnation, self.state, self.was_lost = incarnation, None, True
        self.entries, self.snapshot = [], None


class Watcher:
    """What an outsider sees of members. Does nothing; derive the checkers from it."""

    def started(self, member: SimulatedMember) -> None:
        """A process started; its core exists, its first effects are not yet out."""

    def turned(self, member: SimulatedMember, effects: Effects) -> None:
        """A turn is over; entries it committed have been reported by `applied`."""

    def stored(self, member: SimulatedMember, write: Write) -> None:
        """A write reached the disk, in time or with a crash."""

    def promised(self, member: SimulatedMember, to: int, message: Promise) -> None:
        """A promise leaves."""

    def applied(self, member: SimulatedMember, entry: Entry) -> None:
        """The member's commit reached this entry."""

    def named(self, member: SimulatedMember, snapshot: Snapshot) -> None:
        """The member's disk names a snapshot of its own."""

    def loaded(self, member: SimulatedMember, snapshot: Snapshot) -> Sequence[Entry]:
        """The member takes what a snapshot holds for its state, at a start or as it installs it: what that is."""
        return ()


class SimulatedMember:
    """A member: its disk, and the life of its process while it has one.

    Each event is a turn of its own unless `finish` is left to the caller: `core` may be given several events, then
    `finish` drains it. What leaves is in `outbox`, which the driver empties.

    `wanted` is the snapshot that it needs, `fetched` one whose file has come and that is not installed, `files` what it
    can give others, `pins` what others are fetching. `margin`: of the entries before a snapshot so many stay.
    `snapshot_steps` counts what was asked of the disk, and what became durable there, of snapshots.
    """

    def __init__(
        self,
        protocol: type[Core],
        configuration: Configuration,
        member: int,
        founding: tuple[int, ...],
        random: Random,
        watcher: Watcher,
    ) -> None:
        self.member = member
        self.core: Core | None = None
        self.life = 0
        self.disk = Disk(founding[configuration.members.index(member)])
        self.queue: deque[Write | Taken] = deque()
        self.outbox: list[Outgoing] = []
        self.reads: list[ReadReady | ReadFailed] = []
        self.applied: list[Entry] = []
        self.superseded = 0
        self.wanted: Wanted | None = None
        self.fetched: Snapshot | None = None
        self.taking: Snapshot | None = None
        self.files: set[Snapshot] = set()
        self.pins: dict[int, Snapshot] = {}
        self.margin = 0
        self.snapshot_steps = 0
        self._held: deque[SendAfter] = deque()
        self._done = 0
        self._protocol = protocol
        self._configuration = configuration
        self._founding = founding
        self._random = random
        self._watcher = watcher

    # Lives.

    def start(self, now: Time) -> None:
        """Start on what the disk holds: a restart, the first start, or the first after the disk was lost."""
        check(self.core is None, "member {} runs already", self.member)
        disk = self.disk
        origin: Origin
        if disk.state is not None:
            if disk.snapshot is not None:
                disk.compact(disk.snapshot, disk.snapshot.op - self.margin)
            origin = Durable(disk.state, tuple(disk.entries), disk.snapshot)
        elif disk.was_lost:
            origin = Lost(disk.incarnation)
        else:
            origin = Founded(self._founding)
        self.life += 1
        self._done = 0
        self.applied = []
        self.files = set()
        if disk.snapshot is not None:
            self.applied = list(self._watcher.loaded(self, disk.snapshot))
            self.files.add(disk.snapshot)
        random = Random(self._random.getrandbits(64))
        self.core = self._protocol(self._configuration, self.member, origin, random, now)
        self._watcher.started(self)
        self.finish(now)

    def crash(self, surviving: int = 0) -> None:
        """The process dies; the first `surviving` of the writes under way still reach the disk. No-op when down."""
        self.core = None
        for _ in range(min(surviving, len(self.queue))):
            self._store(self.queue.popleft())
        self.queue.clear()
        self._held.clear()
        self.reads.clear()
        self.pins.clear()
        self.wanted = self.fetched = self.taking = None

    def lose_disk(self, incarnation: int) -> None:
        """The process dies and its disk is replaced by a blank one, whose directory has this incarnation."""
        self.crash()
        self.disk.lose(incarnation)

    # Turns.

    def receive(self, sender: int, incarnation: int, message: Message, now: Time) -> None:
        """A message arrives; nothing happens when the process is down."""
        if self.core is not None:
            self.core.receive(sender, incarnation, message, now)
            self.finish(now)

    def propose(self, proposals: Sequence[Proposal], now: Time) -> int:
        """The op of the first, or 0 where they were refused or the process is down."""
        if self.core is None:
            return 0
        first = self.core.propose(proposals, now)
        self.finish(now)
        return first

    def read(self, read: int, now: Time) -> None:
        """Ask for a read; its answer comes in `reads`."""
        if self.core is not None:
            self.core.read(read, now)
            self.finish(now)

    def tick(self, now: Time) -> None:
        """Time has come to this."""
        if self.core is not None:
            self.core.tick(now)
            self.finish(now)

    def complete_write(self, now: Time) -> None:
        """The oldest write under way is durable: promises that waited for it leave, and the core is told."""
        core = self.core
        if core is None or not self.queue:
            return
        write = self.queue.popleft()
        self._store(write)
        if isinstance(write, Taken):
            self._compact(core, write.snapshot, now)
            return
        self._done = write.number
        while self._held and self._held[0].write <= self._done:
            self._emit(self._held.popleft())
        core.written(write.number, now)
        self.finish(now)

    def finish(self, now: Time) -> None:
        """Close the turn: carry out all effects in their order."""
        core = self.core
        if core is None:
            return
        effects = core.drain()
        if effects.supersede:
            self.superseded += 1
            self.crash()
            if self.disk.state is not None:
                # A message of an incarnation that never recovered, newer by its number, came late: peers do not listen
                # to this one any more. Its operator can only give it a blank directory.
                self.lose_disk(effects.supersede + 1)
            self.disk.incarnation = effects.supersede + 1
            self.start(now)
            return
        incarnation = self.disk.incarnation
        for send in effects.sends:
            self.outbox.append(Outgoing(send.to, incarnation, send.message))
        if effects.write is not None:
            self.queue.append(effects.write)
        for promise in effects.promises:
            if promise.write <= self._done:
                self._emit(promise)
            else:
                self._held.append(promise)
        if effects.restore is not None:
            self.applied = list(self._watcher.loaded(self, effects.restore))
            self.taking = self.fetched = None
            self.snapshot_steps += 1
            self._supersede(effects.restore)
        self.wanted = effects.wanted
        for op in range(len(self.applied) + 1, effects.commit + 1):
            entry = core.entry(op)
            self.applied.append(entry)
            self._watcher.applied(self, entry)
        self.reads.extend(effects.reads)
        self._watcher.turned(self, effects)

    def _emit(self, promise: SendAfter) -> None:
        self._watcher.promised(self, promise.to, promise.message)
        self.outbox.append(Outgoing(promise.to, self.disk.incarnation, promise.message))

    def _store(self, write: Write | Taken) -> None:
        disk = self.disk
        if isinstance(write, Taken):
            disk.compact(write.snapshot, disk.base)
            self.snapshot_steps += 1
            self._watcher.named(self, write.snapshot)
            return
        disk.store(write.records)
        for record in write.records:
            if isinstance(record, SaveState):
                disk.was_lost = False
                disk.ghost = None
            elif isinstance(record, Install):
                self.snapshot_steps += 1
        self._watcher.stored(self, write)

    # Snapshots.

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """The file of a snapshot of what is applied is whole: its name goes to the disk, behind all that is under way.

        Once that is durable, what it stands for goes, but for the margin and what whoever fetches one needs behind it.
        """
        self.taking = None
        self.snapshot_steps += 1
        self.queue.append(Taken(snapshot))

    def _compact(self, core: Core, snapshot: Snapshot, now: Time) -> None:
        if any(file.op > snapshot.op for file in self.files):
            return  # A newer one was installed meanwhile.
        self._supersede(snapshot)
        disk = self.disk
        needed = min([snapshot.op - self.margin, *[pinned.op for pinned in self.pins.values()]])
        keep_after = max(core.standing.base, disk.base, needed)
        disk.compact(snapshot, keep_after)
        core.compact(snapshot, keep_after, now)
        self.finish(now)

    def _supersede(self, snapshot: Snapshot) -> None:
        self.files = {file for file in self.files if file in self.pins.values()} | {snapshot}

    def tell(self, event: Callable[[Core], None], now: Time) -> None:
        """News of the snapshot that is wanted: one of the contract's events."""
        if self.core is not None:
            event(self.core)
            self.finish(now)
