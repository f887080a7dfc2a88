"""What every protocol's member has: its place in the cluster, its log, and the effects of its turn.

A protocol derives its state from this and adds what is its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from viewstamp.protocol.checks import check
from viewstamp.protocol.clock import AgreedClock
from viewstamp.protocol.configuration import Configuration, Time
from viewstamp.protocol.core import (
    Append,
    Core,
    Effects,
    Install,
    Promise,
    Record,
    SaveState,
    Send,
    SendAfter,
    State,
    Statement,
    Transition,
    Truncate,
    Wanted,
    Write,
)
from viewstamp.protocol.entry import Entry, Proposal, Viewstamp, make_entry
from viewstamp.protocol.log import Log
from viewstamp.protocol.snapshot import Snapshot


class Member(ABC):
    """One member: who it is, what it holds, and what this turn has brought about so far.

    `view` is VSR's view or Raft's term; `durable_view` the one that this member's disk holds. Times are monotonic
    nanoseconds.
    """

    def __init__(self, configuration: Configuration, me: int, random: Random, now: Time) -> None:
        self.configuration = configuration
        self.members = configuration.members
        self.others = configuration.others(me)
        self.quorum = configuration.quorum
        self.timeouts = configuration.timeouts
        self.me = me
        self.random = random
        self.now = now

        self.view = 0
        self.durable_view = 0
        self.log = Log()
        self.snapshot: Snapshot | None = None  # this member's own newest, durable or installed
        self.commit = 0
        self.pipeline_bytes = 0
        self.clock = AgreedClock(0)
        self.incarnations: dict[int, int] = dict.fromkeys(self.members, 0)
        self.ignored: Counter[str] = Counter()
        self.transitions: list[Transition] = []

        self.write = 0
        self.write_done = 0
        self._write_done_at = now.monotonic
        self._issued: dict[int, tuple[int, int, int]] = {}  # write -> (when, view it saved, bytes of its entries)
        self._unissued_bytes = 0
        self._unwritten_bytes = 0
        self._sends: list[Send] = []
        self._promises: list[tuple[int, Promise]] = []
        self._records: list[Record] = []
        self._appended: list[Entry] = []
        self._restore: Snapshot | None = None
        self._wanted: Wanted | None = None  # what the last turn told of
        self._committed = 0

    def resume(self, entries: Sequence[Entry], snapshot: Snapshot | None) -> None:
        """Come back with what the disk holds. What a snapshot holds is committed; of the rest nothing is known."""
        self.log = Log(entries, snapshot)
        self.snapshot = snapshot
        if snapshot is not None:
            self.commit = snapshot.op
            self.clock.saw_of_unknown_age(snapshot.stamp)
        if entries:
            self.clock.saw_of_unknown_age(entries[-1].stamp)

    @property
    @abstractmethod
    def wanted(self) -> Wanted | None:
        """The snapshot that this member needs now."""

    @property
    def vector(self) -> tuple[int, ...]:
        """The newest incarnation known of each member, in the order of the configuration."""
        return tuple(self.incarnations.values())

    def ignore(self, reason: str) -> None:
        """Count a message that changes nothing here."""
        self.ignored[reason] += 1

    # Messages.

    def send(self, to: int, message: Statement) -> None:
        """Send now."""
        self._sends.append(Send(to, message))

    def broadcast(self, message: Statement) -> None:
        """Send to all others now: one object, so that a body can encode it once."""
        for other in self.others:
            self._sends.append(Send(other, message))

    def promise(self, to: int, message: Promise) -> None:
        """Send once everything recorded up to now is durable."""
        self._promises.append((to, message))

    # The log and the disk.

    def room_for(self, proposals: Sequence[Proposal]) -> bool:
        """Whether these fit into the pipeline of what is ordered and not yet committed."""
        limits = self.configuration.limits
        if self.full:
            return False  # Snapshots do not keep up with the load: better to refuse than to run out of memory.
        waiting = self.log.op - self.commit
        return waiting + len(proposals) <= limits.pipeline_entries and self.pipeline_bytes <= limits.pipeline_bytes

    @property
    def full(self) -> str:
        """Why no proposals are taken although this member leads, for people; empty if they are."""
        full = self.log.bytes > self.configuration.limits.log_bytes
        return "takes no commands: its log has grown to log_bytes, and no snapshot shortens it" if full else ""

    def order(self, proposals: Sequence[Proposal]) -> int:
        """Give proposals their places at the log's end, in this view; returns the op of the first."""
        first, bytes_before = self.log.op + 1, self.log.bytes
        view, stamp = self.view, self.clock.stamp(self.now)
        self.append([make_entry(op, view, stamp, proposal) for op, proposal in enumerate(proposals, first)])
        self.pipeline_bytes += self.log.bytes - bytes_before
        return first

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Append entries that another member has just ordered."""
        if entries:
            self.append(entries)
            self.clock.saw(entries[-1].stamp, self.now)

    def adopt_fetched(self, entries: Sequence[Entry]) -> None:
        """Append entries that another member ordered at some time."""
        if entries:
            self.append(entries)
            self.clock.saw_of_unknown_age(entries[-1].stamp)

    def append(self, entries: Sequence[Entry]) -> None:
        """Extend the log in memory, and on disk with this turn's write."""
        bytes_before = self.log.bytes
        self.log.append(entries)
        self._appended.extend(entries)
        self._unissued_bytes += self.log.bytes - bytes_before

    def truncate(self, after: int) -> None:
        """Drop the log's end in memory, and on disk with this turn's write."""
        if after < self.log.op:
            check(after >= self.commit, "truncating after {} would drop committed op {}", after, self.commit)
            self._flush_appended()
            self.log.truncate(after)
            self._records.append(Truncate(after))

    def install(self, snapshot: Snapshot) -> None:
        """Put a snapshot, on this disk already, in the place of the whole log: with this turn's write, all at once.

        It holds only what is committed, and more than this member knew to be.
        """
        check(snapshot.op > self.commit, "a snapshot up to {} is older than commit {}", snapshot.op, self.commit)
        self.truncate(min(self.commit, self.log.op))
        self._flush_appended()
        self.log.restart(snapshot.viewstamp)
        self._records.append(Install(snapshot))
        self.clock.saw_of_unknown_age(snapshot.stamp)
        self.commit = snapshot.op
        self.pipeline_bytes = 0
        self.snapshot = self._restore = snapshot

    def compact(self, snapshot: Snapshot, keep_after: int) -> None:
        """This member's own snapshot is durable: drop what it stands for from memory."""
        if self.snapshot is None or snapshot.op >= self.snapshot.op:
            check(snapshot.op <= self.commit, "a snapshot up to {} beyond commit {}", snapshot.op, self.commit)
            self.snapshot = snapshot
            self.log.compact(min(keep_after, snapshot.op))

    def record_state(self, state: State) -> None:
        """Replace the durable state with this turn's write."""
        self._flush_appended()
        self._records.append(SaveState(state))

    def advance_commit(self, commit: int) -> None:
        """Commit up to here, but never beyond this log's end: the news of a commit can overtake its entries."""
        commit = min(commit, self.log.op)
        if commit > self.commit:
            if self.pipeline_bytes:
                committed = sum([len(entry.encoded) for entry in self.log.entries(self.commit + 1, commit)])
                self.pipeline_bytes = max(0, self.pipeline_bytes - committed)
            self.commit = commit

    def measure_pipeline(self) -> None:
        """This member begins to lead: what it holds uncommitted is its pipeline."""
        self.pipeline_bytes = sum(map(self.log.size, range(self.commit + 1, self.log.op + 1)))

    def finish_writes(self, write: int) -> None:
        """Write number `write` and all before it are durable, and so is the view they saved."""
        check(write <= self.write, "write {} was never issued", write)
        self.write_done = max(self.write_done, write)
        self._write_done_at = self.now.monotonic
        self.log.written(write)
        issued = self._issued
        while issued and (number := next(iter(issued))) <= write:  # They were issued in order.
            _, self.durable_view, size = issued.pop(number)
            self._unwritten_bytes -= size

    def next_write(self) -> int:
        """The number of the write that will hold everything recorded up to now."""
        return self.write + 1 if self._records or self._appended else self.write

    @property
    def disk_silent_since(self) -> int | None:
        """Since when writes are under way and none has finished; None if none is.

        A disk that is slow but goes on is not silent, however long the last of those that wait for it will take.
        """
        return max(next(iter(self._issued.values()))[0], self._write_done_at) if self._issued else None

    @property
    def disk_trouble(self) -> str:
        """What is wrong with this member's disk, for people; empty if nothing is."""
        silent_since = self.disk_silent_since
        hangs = silent_since is not None and self.now.monotonic - silent_since > self.timeouts.suspect
        return "its disk has not finished a write" if hangs else ""

    @property
    def disk_is_behind(self) -> bool:
        """Whether more waits for this member's disk than a primary may have in its pipeline.

        Who follows is to take no more then: a disk that hangs, or is slower than the load, would fill the memory.
        """
        return self._unwritten_bytes > self.configuration.limits.pipeline_bytes

    def _flush_appended(self) -> None:
        if self._appended:
            self._records.append(Append(tuple(self._appended)))
            self._appended.clear()

    @property
    def pending(self) -> bool:
        """Whether this turn has brought about anything so far."""
        return bool(
            self._sends
            or self._promises
            or self._records
            or self._appended
            or self.transitions
            or self.commit != self._committed
            or self._restore is not None
            or self.wanted != self._wanted
        )

    def take_effects(self) -> Effects:
        """Close the turn: number its write, and bind its promises to that or to the latest before it."""
        self._flush_appended()
        effects = Effects(sends=self._sends, commit=self.commit, transitions=self.transitions)
        effects.restore, self._restore = self._restore, None
        effects.wanted = self._wanted = self.wanted
        self._committed = self.commit
        if self._records:
            self.write += 1
            effects.write = Write(self.write, tuple(self._records))
            self.log.issued(self.write)
            self._issued[self.write] = (self.now.monotonic, self.view, self._unissued_bytes)
            self._unwritten_bytes += self._unissued_bytes
            self._unissued_bytes = 0
            self._records = []
        if self._promises:
            effects.promises = [SendAfter(self.write, to, message) for to, message in self._promises]
            self._promises = []
        self._sends, self.transitions = [], []
        return effects


class MemberCore(Core):
    """A protocol whose state is a `Member`: what its body may look at."""

    @property
    @abstractmethod
    def _member(self) -> Member: ...

    def compact(self, snapshot: Snapshot, keep_after: int, now: Time) -> None:
        self._member.now = now
        self._member.compact(snapshot, keep_after)

    @property
    def incarnations(self) -> Mapping[int, int]:
        return self._member.incarnations

    def entry(self, op: int) -> Entry:
        return self._member.log.entry(op)

    def size(self, op: int) -> int:
        return self._member.log.size(op)

    def executed(self, op: int) -> None:
        self._member.log.pack(op)

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        return self._member.log.entries(first, last)

    @property
    def ignored(self) -> Mapping[str, int]:
        return self._member.ignored

    def viewstamp_of(self, op: int) -> Viewstamp:
        return self._member.log.viewstamp(op)
