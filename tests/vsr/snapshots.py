"""What a source of snapshots answers, for tests that drive its asker by hand, and the members that ask."""

from __future__ import annotations

from tests.vsr.driven import WALL, Driven, entries, lost, superseding
from viewstamp.protocol import (
    MILLISECOND,
    Durable,
    Entry,
    Snapshot,
)
from vsr import (
    Commit,
    DurableState,
    GetState,
    NewSnapshot,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
)

VECTOR = (1, 1, 1)


def offer(question: GetState, taken: Snapshot, op: int = 0) -> NewSnapshot:
    """The answer to this question: that snapshot first; the log ends at `op` (with the snapshot unless told)."""
    name = taken.view, taken.op, taken.stamp, taken.size, taken.digest
    return NewSnapshot(question.view, question.nonce, *name, max(op, taken.op), taken.op)


def page(question: GetState, first: int, last: int, *, op: int = 0, view: int = 0, commit: int = 0) -> NewState:
    """The answer to this question: entries of `view` from `first` to `last` of a log that ends at `op`."""
    return NewState(question.view, question.nonce, first - 1, entries(first, last, view), max(op, last), commit)


def compacted(op: int, *, keep_after: int | None = None, last: int = 0) -> Driven:
    """The primary of view 0 with a log up to `last`, committed up to `op` and compacted to there."""
    primary = Driven(1)
    primary.propose(*(f"{number}" for number in range(1, max(op, last) + 1)))
    primary.receive(2, PrepareOk(0, op, 0, WALL, VECTOR))
    primary.compact(op, keep_after)
    primary.forget()
    return primary


def laggard(op: int = 1, *, target: int = 20) -> tuple[Driven, GetState]:
    """A backup of view 0 with a log up to `op` that hears of `target`, and the question that it asks."""
    backup = Driven(2)
    backup.receive(1, Prepare(0, entries(1, op), 0, 0))
    backup.receive(1, Commit(0, target, 0, 0))
    backup.wait(10 * MILLISECOND)
    question = backup.last(GetState)
    backup.forget()
    return backup, question


def joiner(log: tuple[Entry, ...] = (), *, target: int = 20, eager: bool = True) -> tuple[Driven, GetState]:
    """A backup of view 0 with this log that hears of view 1, begun with a log up to `target`; and what it asks."""
    backup = Driven(3, origin=Durable(DurableState(0, 0, VECTOR), log), eager=eager)
    backup.receive(2, StartView(1, target, 0))
    question = backup.last(GetState)
    backup.forget()
    return backup, question


def recoverer(*, op: int = 20, eager: bool = True) -> tuple[Driven, GetState]:
    """A member without its disk that has been told of a log of view 0 up to `op`; and what it asks."""
    third = lost(3)
    third.eager = eager
    third.tick()
    nonce = third.last(Recovery).nonce
    for sender in (1, 2):
        third.receive(sender, RecoveryResponse(0, nonce, op, op, superseding(VECTOR, 2, 2)))
    question = third.last(GetState)
    third.forget()
    return third, question


def held(replica: Driven) -> tuple[int, str, int, int, int]:
    """What may not change before everything is in hand."""
    standing = replica.core.standing
    state = replica.disk.state
    last_normal_view = state.last_normal_view if isinstance(state, DurableState) else 0
    return standing.view, standing.status, standing.op, standing.commit, last_normal_view
