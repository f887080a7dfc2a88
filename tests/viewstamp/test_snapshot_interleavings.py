"""Snapshots taken, fetched, given up and installed in any order, with files and journal each at a pace of its own."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from tests.viewstamp.test_snapshot_order import OTHER, PEER, Taker, give
from viewstamp.journal import SnapshotRecord
from viewstamp.protocol import Effects, Snapshot, Wanted
from viewstamp.replica.file_tasks import ReadBlock, RemoveSnapshot, WriteBlock
from viewstamp.replica.records import record_of
from viewstamp.replica.turn import Turn
from viewstamp.wire import GetChunk, NoSnapshot

STEP, STEPS = 5, 120


@cache
def held_by_a_peer(op: int) -> tuple[Snapshot, bytes]:
    """What any member's snapshot up to this op is."""
    peer = Taker()
    peer.come_to(op)
    peer.snapshots.demand()
    peer.turn()
    [block] = peer.tasks
    assert isinstance(block, WriteBlock)
    assert block.finished is not None
    return block.finished, block.data


class Interleaving:
    """One member, of whom every step looks whether a crash just then would find what its journal names."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.taker = Taker()
        self.files: set[Snapshot] = set()
        self.written = 0
        self.wanted: Wanted | None = None
        self.loading: Snapshot | None = None
        self.to_load: Snapshot | None = None

    def play(self) -> None:
        acts = (
            self.apply, self.demand, self.want, self.receive, self.receive, self.carry_out, self.carry_out, self.write,
            self.install, self.load, self.wait, self.lose_interest, self.refuse, self.ask,
        )  # fmt: skip
        for _ in range(STEPS):
            self.draw.choice(acts)()
            self.taker.turn(self.wanted)
            self.verify()

    def verify(self) -> None:
        """Any prefix of the journal may be what a crash leaves, as long as it has all that was reported durable."""
        held = {record_of(snapshot) for snapshot in self.files}
        newest: SnapshotRecord | None = None
        for number, records in enumerate(self.taker.records, 1):
            newest = next((each for each in reversed(records) if isinstance(each, SnapshotRecord)), newest)
            if number == self.written:
                durable = newest.op if newest is not None else 0
                assert all(op <= durable for op, _ in self.taker.protocol.compacted), "the log goes before its snapshot"
            if number >= self.written:
                assert newest is None or newest in held, f"up to {newest.op} is named by write {number}, and not there"
        assert self.loading is None or self.loading in self.files, "the file goes that is being loaded"

    # What happens.

    def apply(self) -> None:
        if self.loading is None:
            self.taker.come_to(self.taker.executor.applied + STEP * self.draw.randrange(3))

    def demand(self) -> None:
        self.taker.snapshots.demand()

    def want(self) -> None:
        newest = self.to_load or self.loading
        base = newest.op if newest is not None else self.taker.executor.applied
        snapshot, _ = held_by_a_peer(base + STEP * self.draw.randrange(1, 4))
        self.wanted = Wanted(PEER, snapshot)

    def receive(self) -> None:
        if self.wanted is not None:
            snapshot, data = held_by_a_peer(self.wanted.snapshot.op)
            give(self.taker, snapshot, 0, data)

    def carry_out(self) -> None:
        """The first of the file tasks, which come one after the other."""
        if not self.taker.tasks:
            return
        task = self.taker.tasks.pop(0)
        if isinstance(task, WriteBlock) and task.finished is not None:
            self.files.add(task.finished)
        elif isinstance(task, RemoveSnapshot):
            self.files.discard(task.snapshot)
            self.verify()
        self.taker.snapshots.file_done(task, b"read" if isinstance(task, ReadBlock) else None, self.taker.now)

    def write(self) -> None:
        """Some of the writes under way become durable."""
        if self.written < len(self.taker.records):
            self.written = self.draw.randint(self.written + 1, len(self.taker.records))
            self.taker.snapshots.written(self.written, self.taker.now)

    def install(self) -> None:
        """What was fetched takes the place of a log that is behind it; the record goes to the journal in this turn."""
        taker = self.taker
        snapshot = next(reversed(taker.protocol.here), None)
        newest = self.to_load or self.loading
        if snapshot is None or snapshot.op <= (taker.executor.applied if newest is None else newest.op):
            return
        self.wanted = None
        if self.loading is None:
            self.loading = snapshot
        else:
            self.to_load = snapshot  # Whatever else waited is not loaded at all.
        turn = Turn()
        taker.snapshots.follow(Effects(restore=snapshot), taker._issue((record_of(snapshot),)), taker.now, turn)
        taker.snapshots.close(taker.now, turn)
        taker.tasks += turn.files

    def load(self) -> None:
        """What was installed is loaded; it is there to apply on, unless a newer one was installed meanwhile."""
        if self.loading is not None:
            loaded, self.loading, self.to_load = self.loading, self.to_load, None
            if self.taker.snapshots.restored(loaded):
                self.taker.come_to(loaded.op)

    def wait(self) -> None:
        self.taker.wait(self.draw.choice((1, 11)) * self.taker.cluster.timeouts.suspect)

    def lose_interest(self) -> None:
        self.wanted = None

    def refuse(self) -> None:
        if self.wanted is not None:
            snapshot = self.wanted.snapshot
            self.taker.snapshots.receive(PEER, NoSnapshot(snapshot.op, snapshot.digest), self.taker.now)

    def ask(self) -> None:
        """Another member begins to fetch what this one restarts from."""
        op, here = self.taker.snapshots.status.op, [each for each in self.files if each.op]
        for snapshot in here:
            if snapshot.op == op:
                self.taker.snapshots.receive(OTHER, GetChunk(op, snapshot.digest, 0), self.taker.now)

    def come_to_rest(self) -> None:
        """Nothing new happens, and all that is under way is done."""
        self.wanted = None
        self.load()
        self.load()
        for _ in range(30):
            self.taker.wait(20 * self.taker.cluster.timeouts.suspect)
            self.taker.turn()
            while self.taker.tasks:
                self.carry_out()
                self.taker.turn()
            self.write()
            self.verify()


@pytest.mark.parametrize("first", range(0, 1000, 250))
def test_what_the_journal_names_is_there_and_nothing_else_stays(first: int) -> None:
    for seed in range(first, first + 250):
        interleaving = Interleaving(seed)
        interleaving.play()
        interleaving.come_to_rest()
        taker = interleaving.taker
        fetched = taker.protocol.here[-1:]
        left = {snapshot.op for snapshot in interleaving.files} - {taker.snapshots.status.op}
        assert left <= {snapshot.op for snapshot in fetched}, f"seed {seed}: files of {left} are left"
