"""The messages of Viewstamped Replication, under their names in the paper, and what makes one well-formed.

Sources: Liskov and Cowling, "Viewstamped Replication Revisited" (2012), VRR below. GETCOMMIT and COMMITPOINT are ours;
docs/divergences.md lists every difference. Statements may leave at once, promises after the write they depend on.

`vector` holds the newest incarnation that the sender knows of each member, in the order of the configuration
(crash vectors: Michael et al., "Recovering Shared Objects Without Stable Storage", DISC 2017).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import assert_never

from viewstamp.protocol import LARGEST_INCARNATION, Entry, Promise, Snapshot, State, Statement, misnamed


@dataclass(frozen=True, slots=True)
class Prepare(Statement):
    """Primary to backups (VRR section 4.1): order these entries. Also a heartbeat and a read round.

    It may leave while the primary's own write is under way; the primary counts itself only after that.
    """

    view: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


@dataclass(frozen=True, slots=True)
class PrepareOk(Promise):
    """Backup to primary (VRR 4.1): everything up to `op` is in my log and durable; I am normal in `view`.

    `round` is the newest read round heard in this view; `wall` is the sender's wall clock in nanoseconds, for people
    who read traces: no member looks at it.
    """

    view: int
    op: int
    round: int
    wall: int
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Commit(Statement):
    """Primary to backups (VRR 4.1): the heartbeat. `op` tells a backup what it may have missed."""

    view: int
    op: int
    commit: int
    round: int


@dataclass(frozen=True, slots=True)
class StartViewChange(Statement):
    """Any to all (VRR 4.2): I propose `view`. Not binding; the sender may still be normal in an earlier one.

    `entered` is the view that the sender has durably entered. A member behind it joins that view change. Whoever is to
    lead a view that it has entered says this of that view until it begins: it is there.
    """

    view: int
    entered: int
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DoViewChange(Promise):
    """To the primary of `view` (VRR 4.2): I have entered `view` and take part in no earlier one.

    Carries numbers, not the log; the new primary fetches what it lacks from the sender of the best.
    """

    view: int
    last_normal_view: int
    op: int
    commit: int
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StartView(Promise):
    """New primary to all (VRR 4.2): `view` has begun with a log up to `op`, durable here together with the view."""

    view: int
    op: int
    commit: int


@dataclass(frozen=True, slots=True)
class GetState(Statement):
    """State transfer (VRR 5.2): send me your log of `view` after op `after`, a page at a time.

    (`last_view`, `last_op`) is the viewstamp of the asker's last entry, (0, 0) for none. If the answering log holds
    it, the two are equal up to there, and the answer begins behind it. `round` is the newest read round that the asker
    has heard of in this view: it shows a primary that its messages arrive.
    """

    view: int
    after: int
    nonce: int
    last_view: int = 0
    last_op: int = 0
    round: int = 0


@dataclass(frozen=True, slots=True)
class NewState(Statement):
    """Answer to GETSTATE (VRR 5.2): one page of the log of `view`; `op` is where that log ends now."""

    view: int
    nonce: int
    after: int
    entries: tuple[Entry, ...]
    op: int
    commit: int

    @property
    def label(self) -> Hashable:
        """The same page of the same log, however often it is asked for."""
        return NewState, self.nonce, self.after


@dataclass(frozen=True, slots=True)
class NewSnapshot(Statement):
    """Answer to GETSTATE (VRR 5.1, 5.2) when what was asked for is not in the log any more: fetch this snapshot first.

    The fields from `snapshot_view` to `digest` are the snapshot's name; `op` is where the log ends now.
    """

    view: int
    nonce: int
    snapshot_view: int
    snapshot_op: int
    stamp: int
    size: int
    digest: bytes
    op: int
    commit: int

    @property
    def snapshot(self) -> Snapshot:
        """Which snapshot is offered."""
        return Snapshot(self.snapshot_view, self.snapshot_op, self.stamp, self.size, self.digest)


@dataclass(frozen=True, slots=True)
class Recovery(Statement):
    """A member without its disk asks all others (VRR 4.3). Its new incarnation is in the frame."""

    nonce: int


@dataclass(frozen=True, slots=True)
class RecoveryResponse(Promise):
    """Answer of a normal member (VRR 4.3), after it has made the asker's new incarnation durable.

    With nonce 0, which nobody asks with, it is for a sender whose incarnation is superseded: `vector` tells it so.
    """

    view: int
    nonce: int
    op: int
    commit: int
    vector: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GetCommit(Statement):
    """Backup to primary: a linearizable read arrived here; which commit-number must it wait for?"""

    view: int
    number: int


@dataclass(frozen=True, slots=True)
class CommitPoint(Statement):
    """Answer to GETCOMMIT, after a majority confirmed the primary in a round begun after the question."""

    view: int
    number: int
    op: int


@dataclass(frozen=True, slots=True)
class DurableState(State):
    """What a member keeps beside its log, always written whole: (view, last normal view) and the vector."""

    view: int
    last_normal_view: int
    incarnations: tuple[int, ...]


VsrMessage = (
    Prepare
    | PrepareOk
    | Commit
    | StartViewChange
    | DoViewChange
    | StartView
    | GetState
    | NewState
    | NewSnapshot
    | Recovery
    | RecoveryResponse
    | GetCommit
    | CommitPoint
)


FARTHEST_VIEW = 1 << 40
"""How far ahead another member can be: thousands of years of view changes. A message from beyond is damaged. Were it
believed, the views after it would have no encoding, or be refused by all others."""


def malformed(message: VsrMessage, members: int, view: int) -> str:
    """Why no correct member could have sent this to one in `view`, or an empty string.

    Peers' input never reaches an invariant.
    """
    if not isinstance(message, Recovery) and message.view > view + FARTHEST_VIEW:
        return "a view out of range"
    match message:
        case Prepare(view=view, entries=entries):
            return "no entries" if not entries else _misfit(entries, view)
        case NewState(view=view, entries=entries, after=after, op=op):
            if entries and entries[0].op != after + 1:
                return "a page that does not begin where it says"
            if op < after + len(entries):
                return "a log shorter than its page"
            return _misfit(entries, view)
        case NewSnapshot(view=view):
            if not message.snapshot_op <= message.commit <= message.op:
                return "numbers"
            return misnamed(message.snapshot, view)
        case StartViewChange(entered=entered) if entered > view + FARTHEST_VIEW:
            return "a view out of range"
        case PrepareOk() | RecoveryResponse() | StartViewChange():
            return _misfit_vector(message.vector, members)
        case DoViewChange():
            if message.last_normal_view > message.view or message.commit > message.op:
                return "numbers"
            return _misfit_vector(message.vector, members)
        case StartView() | Commit():
            return "" if message.commit <= message.op else "commit-number beyond op-number"
        case GetState() | Recovery() | GetCommit() | CommitPoint():
            return ""
        case _:
            assert_never(message)


def _misfit_vector(vector: tuple[int, ...], members: int) -> str:
    if len(vector) != members:
        return "a vector of another size"
    return "" if max(vector) <= LARGEST_INCARNATION else "an incarnation out of range"


def _misfit(entries: tuple[Entry, ...], view: int) -> str:
    """Views of entries never fall along a log, and none is above the view that sends them."""
    previous = 0
    for entry in entries:
        if entry.view < previous:
            return "views of entries fall"
        previous = entry.view
    return "" if previous <= view else "an entry from a later view"
