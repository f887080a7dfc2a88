"""What a replica and its shell hand each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statemachine import Executor
from transport.interface import Address
from viewstamp.client import Completion
from viewstamp.cluster import Cluster
from viewstamp.journal import JournalRecord
from viewstamp.protocol import Entry, Snapshot, Transition, split_entries
from viewstamp.replica.file_tasks import FileTask
from viewstamp.replica.retention import kept_after, margin_of


class Turn:
    """What a shell carries out: datagrams now; then the writes, durably, each reported by `Replica.written`.

    `writes` are (number, records): atomic each, in order. `more` asks for another turn at once. `files` are to be done
    one after the other, beside the loop, and reported by `Replica.file_done`. `restore`, if any, is to be loaded and
    given to `Replica.restored`. The journal may drop entries up to op `release`.
    """

    __slots__ = ("completions", "datagrams", "files", "more", "release", "restore", "transitions", "writes")

    def __init__(self) -> None:
        self.datagrams: Sequence[tuple[bytes, Address]] = ()
        self.writes: Sequence[tuple[int, tuple[JournalRecord, ...]]] = ()
        self.completions: Sequence[Completion] = ()
        self.transitions: tuple[Transition, ...] = ()
        self.more = False
        self.files: Sequence[FileTask] = ()
        self.restore: Snapshot | None = None
        self.release = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What a journal gave back at start, and the executor that its snapshot was loaded into."""

    incarnation: int
    founding: bytes | None
    state: bytes | None
    entries: bytes
    snapshot: Snapshot | None = None
    executor: Executor | None = None

    def log(self, cluster: Cluster) -> tuple[Entry, ...]:
        """The entries, but of those before the snapshot only what its margin would have kept.

        The journal drops whole segments, and can hold far more.
        """
        entries = split_entries(self.entries)
        if self.snapshot is None or not entries:
            return entries
        first, op = entries[0].op, self.snapshot.op
        lowest = max(first - 1, op - margin_of(cluster.snapshot_entries))
        kept = kept_after(op, lowest, cluster.snapshot_bytes, lambda each: len(entries[each - first].encoded))
        return tuple(entry for entry in entries if entry.op > kept)
