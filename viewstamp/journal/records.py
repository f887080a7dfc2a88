"""What a journal can hold, as values; `format` gives them their bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IncarnationRecord:
    """The directory's incarnation is this from now on."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class FoundingRecord:
    """How the cluster was founded; the bytes are the body's."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The protocol's durable state, whole; the bytes are the body's."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EntriesRecord:
    """`count` consecutive entries beginning at op `first`; `data` is their encodings one behind the other."""

    first: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TruncateRecord:
    """Every entry beyond op `after` is dropped."""

    after: int


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A snapshot's file is whole and durable, and holds everything up to `op`: entries up to there are needed no more.

    `view` is the view of the entry at `op` and `stamp` its agreed time, `size` the file's size in bytes and `digest`
    its digest, 32 bytes; op and digest make the file's name. It is to be written only after `SnapshotFiles.finish` has
    returned.
    """

    view: int
    op: int
    size: int
    digest: bytes
    stamp: int = 0


JournalRecord = IncarnationRecord | FoundingRecord | StateRecord | EntriesRecord | TruncateRecord | SnapshotRecord


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose journal it is: `cluster` is 8 bytes, `replica` the member's id, `protocol` its name."""

    cluster: bytes
    replica: int
    protocol: str

    def __post_init__(self) -> None:
        if len(self.cluster) != 8:
            raise ValueError(f"cluster must be 8 bytes, not {len(self.cluster)}")
        if not 0 < self.replica < 1 << 32:
            raise ValueError(f"replica must be from 1 to 2**32 - 1, not {self.replica}")
        if not 0 < len(self.protocol.encode()) < 256:
            raise ValueError(f"protocol must be 1 to 255 bytes of text, not {self.protocol!r}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The latest small records, and the op of the last entry, after some batch."""

    incarnation: int
    founding: bytes | None = None
    state: bytes | None = None
    last_op: int = 0
    snapshot: SnapshotRecord | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal held when it was opened, synced again before anyone sees it.

    `entries` are the encodings of ops `first_op` to `last_op`, one behind the other; `first_op` is `last_op` + 1 if
    there are none. It is never beyond the op after `snapshot`, or after 0 without one: what comes before the entries
    is in the snapshot. `cut_bytes` is how much of a batch that a crash left unfinished was dropped from the end.
    """

    founding: bytes | None
    state: bytes | None
    entries: bytes
    last_op: int
    cut_bytes: int
    snapshot: SnapshotRecord | None = None
    first_op: int = 1
