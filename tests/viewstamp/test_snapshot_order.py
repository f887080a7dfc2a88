"""Snapshots around a protocol: what is durable before what, what of the log stays, and how bytes come from a peer."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import cast

import pytest

from statemachine import Counter, Executor
from statemachine.executor import AgreedEntry
from viewstamp.cluster import Cluster, Member
from viewstamp.journal import JournalRecord
from viewstamp.protocol import (
    Core,
    Effects,
    Entry,
    Kind,
    Limits,
    Proposal,
    Snapshot,
    Standing,
    Time,
    Viewstamp,
    Wanted,
    make_entry,
)
from viewstamp.replica.applied import Applied
from viewstamp.replica.chunks import CHUNK_BYTES
from viewstamp.replica.file_tasks import FileTask, ReadBlock, RemoveSnapshot, WriteBlock
from viewstamp.replica.records import record_of
from viewstamp.replica.serving import Serving
from viewstamp.replica.snapshots import Snapshots
from viewstamp.replica.taking import Taking
from viewstamp.replica.turn import Turn
from viewstamp.wire import Chunk, GetChunk, NoSnapshot

ENTRIES, PEER, OTHER = 64, 2, 3


class Told:
    """A protocol that remembers what its body tells it; its log holds every entry there ever was."""

    def __init__(self) -> None:
        self.compacted: list[tuple[int, int]] = []
        self.here: list[Snapshot] = []
        self.failed: list[Snapshot] = []
        self.standing = Standing("normal", "backup", 0, 1, False, 1000, 1000)
        self.leading = -1

    def compact(self, snapshot: Snapshot, keep_after: int, now: Time) -> None:
        self.compacted.append((snapshot.op, keep_after))

    def entry(self, op: int) -> Entry:
        return make_entry(op, 0, 0, Proposal(Kind.NOOP, 0, 0, 0, b"", 0))

    def size(self, op: int) -> int:
        return len(self.entry(op).encoded)

    def fetched(self, snapshot: Snapshot, now: Time) -> None:
        self.here.append(snapshot)

    def fetching(self, snapshot: Snapshot, now: Time) -> None:
        """More has come."""

    def fetch_failed(self, snapshot: Snapshot, now: Time) -> None:
        self.failed.append(snapshot)


class Taker:
    """The snapshots of member 1, and the test around them: its clock, its journal, its files and its network."""

    def __init__(self, me: int = 1) -> None:
        self.protocol = Told()
        self.executor = Executor(Counter(), max_sessions=8, window=8)
        self.applied = Applied(self.executor)
        self.records: list[tuple[JournalRecord, ...]] = []
        self.questions: list[tuple[int, int]] = []
        self.tasks: list[FileTask] = []
        self.now = Time(0, 0)
        self.cluster = Cluster(
            name="test",
            cluster_id=bytes(8),
            protocol="vsr",
            members=tuple(Member(id=number, host="127.0.0.1", port=7000 + number) for number in (1, PEER, OTHER)),
            snapshot_entries=ENTRIES,
            limits=Limits(log_bytes=64 * 1024 * 1024),
        )
        self.snapshots = Snapshots(
            self.cluster, me, self.applied, send=self._send, issue=self._issue, measure=lambda: 0, stored=None
        )
        self.snapshots.start(cast("Core", self.protocol))

    def _issue(self, records: tuple[JournalRecord, ...]) -> int:
        self.records.append(records)
        return len(self.records)

    def _send(self, to: int, message: object) -> None:
        if isinstance(message, GetChunk):
            self.questions.append((to, message.offset))

    def turn(self, wanted: Wanted | None = None) -> None:
        """The turn's end, in which the protocol wants this snapshot."""
        turn = Turn()
        self.snapshots.follow(Effects(wanted=wanted), 0, self.now, turn)
        self.snapshots.close(self.now, turn)
        self.tasks += turn.files

    def wait(self, duration: int) -> None:
        self.now = Time(self.now.monotonic + duration, 0)

    def asked(self) -> list[tuple[int, int]]:
        """Whom it has asked for which offsets since the last look."""
        asked, self.questions = self.questions, []
        return asked

    # Its own.

    def take(self, op: int) -> Snapshot:
        """Come to this op and take a snapshot: its file is written, and its record on its way to the journal."""
        self.come_to(op)
        self.snapshots.demand()
        self.turn()
        finished = self.write_files()
        assert finished is not None
        return finished

    def come_to(self, op: int) -> None:
        """Everything up to this op is applied."""
        first = self.executor.applied + 1
        self.executor.apply([cast("AgreedEntry", self.protocol.entry(each)) for each in range(first, op + 1)])
        self.applied.viewstamp = self.applied.viewstamp._replace(op=op)

    def write_files(self) -> Snapshot | None:
        """Everything that was asked of the files is carried out; the snapshot that is whole by it."""
        finished = None
        for _ in range(1000):
            if not self.tasks:
                break
            task = self.tasks.pop(0)
            finished = task.finished if isinstance(task, WriteBlock) else finished
            self.snapshots.file_done(task, b"" if isinstance(task, ReadBlock) else None, self.now)
            self.turn()
        assert not self.tasks, "what is done asks for more, without an end"
        return finished

    def journal(self) -> None:
        """The journal has all that it was given."""
        self.snapshots.written(len(self.records), self.now)
        self.turn()


def large(fill: bytes = b"x") -> tuple[Snapshot, list[bytes]]:
    """A snapshot of a peer, up to op 500, and its three chunks."""
    state = fill * (3 * CHUNK_BYTES - 32)
    digest = blake2b(state, digest_size=32).digest()
    data = state + digest
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    return Snapshot(0, 500, 0, len(data), digest), chunks


def give(taker: Taker, snapshot: Snapshot, place: int, chunk: bytes, source: int = PEER) -> bool:
    return taker.snapshots.receive(source, Chunk(snapshot.op, snapshot.digest, place * CHUNK_BYTES, chunk), taker.now)


def fetch_large(taker: Taker) -> Snapshot:
    """It wants the large snapshot of another, gets all of it, and has it on its disk."""
    snapshot, chunks = large()
    taker.turn(Wanted(OTHER, snapshot))
    for place, chunk in enumerate(chunks):
        give(taker, snapshot, place, chunk, OTHER)
    taker.turn(Wanted(OTHER, snapshot))
    taker.write_files()
    return snapshot


# What is durable before what.


def test_a_snapshot_is_recorded_when_its_file_is_durable() -> None:
    """A record that names a file that is not there is a journal that cannot be read."""
    taker = Taker()
    taker.come_to(1)
    taker.snapshots.demand()
    taker.turn()
    assert taker.tasks
    assert taker.records == []
    finished = taker.write_files()
    assert finished is not None
    assert taker.records == [(record_of(finished),)]


def test_a_snapshot_is_named_by_the_place_and_the_time_of_its_last_entry() -> None:
    """A member may know that entry by this alone: without its time, agreed time would go back there."""
    taking = Taking(Viewstamp(3, 7), 12_345, iter([b"state", bytes(32)]), 1024)
    block = taking.next_block()
    assert block is not None
    assert block.finished == Snapshot(3, 7, 12_345, 37, bytes(32))


def test_a_state_that_was_loaded_stands_where_its_snapshot_ends() -> None:
    """What is answered from it, or taken of it, before the next entry is told to be of there."""
    applied = Taker().applied
    applied.executor.apply([cast("AgreedEntry", Told().entry(1))])
    applied.stand_at(Snapshot(3, 1, 12_345, 37, bytes(32)))
    assert (applied.viewstamp, applied.stamp) == (Viewstamp(3, 1), 12_345)


def test_who_asks_for_another_snapshot_of_the_same_op_is_told_that_it_is_not_here() -> None:
    """Sent chunks of this one, it would pass them over, and wait."""
    told: list[object] = []
    serving = Serving(lambda _, message: told.append(message), 10**12)
    wanted = GetChunk(500, bytes(32), 0)
    serving.ask(PEER, wanted, [large()[0]], 0)
    assert told == [NoSnapshot(wanted.op, wanted.digest)]
    assert serving.take_reads() == []


def test_the_log_goes_when_the_record_of_its_snapshot_is_durable() -> None:
    """A crash before that would leave neither log nor snapshot."""
    taker = Taker()
    taker.take(100)
    assert taker.protocol.compacted == []
    taker.journal()
    assert [op for op, _ in taker.protocol.compacted] == [100]


def test_the_file_of_the_snapshot_before_goes_when_the_journal_names_the_next() -> None:
    """Until then it is what a restart begins with."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.take(200)
    assert RemoveSnapshot(first) not in taker.tasks
    taker.journal()
    assert RemoveSnapshot(first) in taker.tasks


def test_a_margin_of_the_log_stays_before_its_snapshot() -> None:
    """Without it a member that is one entry behind would need the whole state."""
    taker = Taker()
    taker.take(100)
    taker.journal()
    assert taker.protocol.compacted == [(100, 100 - ENTRIES // 4)]


def test_the_log_behind_a_snapshot_that_is_being_fetched_stays_until_that_is_over() -> None:
    """Else who fetches it finds, when it is done, that it needs the next."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(first.op, first.digest, 0), taker.now)
    taker.take(200)
    taker.journal()
    assert taker.protocol.compacted[-1] == (200, 100)
    assert RemoveSnapshot(first) not in taker.tasks
    taker.wait(10 * taker.cluster.timeouts.suspect)
    taker.turn()
    assert taker.protocol.compacted[-1] == (200, 200 - ENTRIES // 4)
    assert RemoveSnapshot(first) in taker.tasks


def test_a_log_that_was_kept_for_another_does_not_go_with_an_installed_snapshot_that_is_not_durable() -> None:
    """A crash before its record is durable would leave neither log nor snapshot."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(first.op, first.digest, 0), taker.now)
    taker.take(200)
    taker.journal()
    compacted = list(taker.protocol.compacted)
    snapshot = fetch_large(taker)
    turn = Turn()
    taker.snapshots.follow(Effects(restore=snapshot), len(taker.records) + 1, taker.now, turn)
    assert turn.restore == snapshot
    taker.wait(10 * taker.cluster.timeouts.suspect)
    taker.turn()
    assert taker.protocol.compacted == compacted


def test_the_file_that_the_journal_names_stays_until_the_record_of_one_that_was_installed_meanwhile_is_durable() -> (
    None
):
    """Its record was under way when a newer one was installed. A crash between the two finds the older one named."""
    taker = Taker()
    taken = taker.take(100)
    snapshot = fetch_large(taker)
    install = taker._issue((record_of(snapshot),))
    taker.snapshots.follow(Effects(restore=snapshot), install, taker.now, Turn())
    taker.snapshots.written(install - 1, taker.now)
    taker.turn()
    assert RemoveSnapshot(taken) not in taker.tasks
    taker.journal()
    assert RemoveSnapshot(taken) in taker.tasks


def test_a_file_that_is_being_loaded_stays_when_a_newer_one_is_installed() -> None:
    """A thread reads it piece by piece: without the rest the replica would end, as if its disk had decayed."""
    taker = Taker()
    first, second = Snapshot(0, 100, 0, 100, bytes(32)), Snapshot(0, 200, 0, 100, bytes(32))
    for snapshot in (first, second):
        taker.snapshots._fetched = snapshot
        install = taker._issue((record_of(snapshot),))
        taker.snapshots.follow(Effects(restore=snapshot), install, taker.now, Turn())
    taker.journal()
    assert taker.tasks == []
    assert not taker.snapshots.restored(first)
    taker.turn()
    assert taker.tasks == [RemoveSnapshot(first)]
    assert taker.snapshots.restored(second)


def test_one_that_is_wanted_again_stays_when_the_file_of_another_wanted_meanwhile_is_finished() -> None:
    """Its protocol was told that it is here, and installs it when it has the log behind it: it must still be here."""
    taker = Taker()
    first = fetch_large(taker)
    second, chunks = large(b"y")
    taker.turn(Wanted(PEER, second))
    for place, chunk in enumerate(chunks):
        give(taker, second, place, chunk)
    taker.turn(Wanted(PEER, second))
    taker.turn(Wanted(OTHER, first))
    assert taker.protocol.here == [first, first]
    taker.write_files()
    turn = Turn()
    taker.snapshots.follow(Effects(restore=first), taker._issue((record_of(first),)), taker.now, turn)
    assert turn.restore == first
    assert taker.protocol.here == [first, first]


def test_nothing_is_taken_of_what_an_installed_snapshot_is_about_to_replace() -> None:
    """It would be older than what the journal names: a record that can follow no newer one ends the replica."""
    taker = Taker()
    taker.come_to(10)
    snapshot = fetch_large(taker)
    install = taker._issue((record_of(snapshot),))
    taker.snapshots.follow(Effects(restore=snapshot), install, taker.now, Turn())
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(snapshot.op, snapshot.digest, 0), taker.now)
    taker.turn()
    [read] = taker.tasks
    taker.tasks.clear()
    taker.snapshots.file_done(read, None, taker.now)  # The disk has decayed below it.
    taker.snapshots.demand()
    taker.turn()
    assert taker.tasks == []
    assert taker.snapshots.restored(snapshot)
    taker.come_to(500)
    taker.turn()
    assert [task.finished.op for task in taker.tasks if isinstance(task, WriteBlock) and task.finished] == [500]


def test_the_log_waits_for_nobody_once_it_comes_near_its_bound() -> None:
    """A primary whose log is at its bound takes no commands: who is slow begins again, with the newest snapshot."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(first.op, first.digest, 0), taker.now)
    taker.protocol.standing = replace(taker.protocol.standing, log_bytes=taker.cluster.limits.log_bytes)
    taker.take(200)
    taker.journal()
    assert taker.protocol.compacted[-1] == (200, 200 - ENTRIES // 4)


def test_a_log_that_is_kept_for_others_is_cut_before_it_comes_to_its_bound() -> None:
    """Not only with the next snapshot. And not before: who is cut off has to fetch the whole state anew."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(first.op, first.digest, 0), taker.now)
    taker.protocol.standing = replace(taker.protocol.standing, log_bytes=taker.cluster.limits.log_bytes * 5 // 8)
    taker.take(200)
    taker.journal()
    assert taker.protocol.compacted[-1] == (200, 100)
    taker.protocol.standing = replace(taker.protocol.standing, log_bytes=taker.cluster.limits.log_bytes * 3 // 4)
    taker.turn()
    assert taker.protocol.compacted[-1] == (200, 200 - ENTRIES // 4)


def test_nothing_is_kept_for_a_snapshot_whose_log_was_cut() -> None:
    """It is fetched in vain. A log that is kept from there on, all the same, is cut the sooner for the next one."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(first.op, first.digest, 0), taker.now)
    taker.protocol.standing = replace(taker.protocol.standing, base=150)
    taker.take(200)
    taker.journal()
    assert taker.protocol.compacted[-1] == (200, 200 - ENTRIES // 4)


def test_nothing_is_kept_for_whoever_fetches_a_newer_snapshot() -> None:
    """But for another that is still at the older one."""
    taker = Taker()
    first = taker.take(100)
    taker.journal()
    for member in (PEER, OTHER):
        taker.snapshots.receive(member, GetChunk(first.op, first.digest, 0), taker.now)
    second = taker.take(200)
    taker.journal()
    taker.snapshots.receive(PEER, GetChunk(second.op, second.digest, 0), taker.now)
    third = taker.take(300)
    taker.journal()
    assert taker.protocol.compacted[-1] == (300, 100)
    taker.snapshots.receive(OTHER, GetChunk(third.op, third.digest, 0), taker.now)
    taker.turn()
    assert RemoveSnapshot(first) in taker.tasks
    taker.take(400)
    taker.journal()
    assert taker.protocol.compacted[-1] == (400, 200)


def test_a_large_state_is_written_less_often_but_before_the_log_comes_to_its_bound() -> None:
    """At the bound nothing would be taken any more, and so no snapshot either."""
    taker = Taker()
    taker.take(1)
    taker.journal()
    kept = taker.snapshots._kept
    assert kept.newest is not None
    kept.newest = replace(kept.newest, size=100 * taker.cluster.snapshot_bytes)
    taker.come_to(2 + ENTRIES)
    taker.turn()
    assert taker.tasks == []
    for _ in range(4):
        taker.snapshots.applied(taker.cluster.limits.log_bytes // 16)
    taker.turn()
    assert taker.tasks


def test_members_take_their_snapshots_at_different_ops() -> None:
    """A state machine that is written down at once holds its member up: never a majority at the same time."""
    begun = []
    for me in (1, PEER, OTHER):
        taker = Taker(me)
        while not taker.tasks:
            taker.come_to(taker.executor.applied + 1)
            taker.turn()
        begun.append(taker.executor.applied)
    assert begun == [ENTRIES, ENTRIES + ENTRIES // 6, ENTRIES + ENTRIES // 3]


# How a snapshot comes from a peer.


def test_a_chunk_that_does_not_come_is_asked_for_again() -> None:
    taker = Taker()
    snapshot, chunks = large()
    taker.turn(Wanted(PEER, snapshot))
    assert taker.asked() == [(PEER, place * CHUNK_BYTES) for place in range(3)]
    give(taker, snapshot, 2, chunks[2])
    taker.wait(taker.cluster.timeouts.retry)
    taker.turn(Wanted(PEER, snapshot))
    assert taker.asked() == [(PEER, 0), (PEER, CHUNK_BYTES)]


def test_a_fetched_snapshot_is_here_when_its_file_is_durable() -> None:
    """Installed before, its record could name a file that a crash has cut short."""
    taker = Taker()
    snapshot, chunks = large()
    taker.turn(Wanted(PEER, snapshot))
    for place, chunk in enumerate(chunks):
        assert give(taker, snapshot, place, chunk)
    taker.turn(Wanted(PEER, snapshot))
    assert taker.protocol.here == []
    assert taker.write_files() == snapshot
    assert taker.protocol.here == [snapshot]


def test_a_snapshot_that_is_taken_keeps_its_file_when_the_same_one_was_fetched_and_given_up() -> None:
    """The log has come meanwhile, and the member takes a snapshot of the same op, while the last block of the fetched
    one is still being written. Both files get one name: removed with the first, the second would be named by the
    journal, and not be there.
    """
    donor, taker = Taker(), Taker()
    donor.come_to(5)
    donor.snapshots.demand()
    donor.turn()
    [block] = donor.tasks
    assert isinstance(block, WriteBlock)
    assert block.finished is not None
    taker.turn(Wanted(PEER, block.finished))
    give(taker, block.finished, 0, block.data)
    taker.turn(Wanted(PEER, block.finished))
    taker.come_to(5)
    taker.snapshots.demand()
    taker.turn()
    assert taker.tasks == [block, block]
    files: set[Snapshot] = set()
    while taker.tasks:
        task = taker.tasks.pop(0)
        if isinstance(task, WriteBlock) and task.finished is not None:
            files.add(task.finished)
        elif isinstance(task, RemoveSnapshot):
            files.remove(task.snapshot)
        taker.snapshots.file_done(task, None, taker.now)
        taker.turn()
    assert taker.records == [(record_of(block.finished),)]
    assert files == {block.finished}


def test_a_chunk_of_another_snapshot_is_not_taken() -> None:
    """Both are up to the same op: bytes of two would be mixed."""
    taker = Taker()
    snapshot, _ = large()
    other, chunks = large(b"y")
    taker.turn(Wanted(PEER, snapshot))
    assert not give(taker, other, 0, chunks[0])
    assert taker.snapshots.status.receiving is not None
    assert taker.snapshots.status.receiving.done == 0


@pytest.mark.parametrize("damaged", range(3))
def test_bytes_that_are_not_those_of_the_name_are_given_up(damaged: int) -> None:
    taker = Taker()
    snapshot, chunks = large()
    taker.turn(Wanted(PEER, snapshot))
    for place, chunk in enumerate(chunks):
        flipped = bytes([chunk[0] ^ 1]) + chunk[1:]
        give(taker, snapshot, place, flipped if place == damaged else chunk)
    taker.turn()
    taker.write_files()
    assert taker.protocol.failed == [snapshot]
    assert taker.protocol.here == []


def test_what_has_come_stays_good_when_another_member_becomes_the_source() -> None:
    taker = Taker()
    snapshot, chunks = large()
    taker.turn(Wanted(PEER, snapshot))
    give(taker, snapshot, 0, chunks[0])
    taker.asked()
    taker.turn(Wanted(OTHER, snapshot))
    assert taker.asked() == [(OTHER, CHUNK_BYTES), (OTHER, 2 * CHUNK_BYTES)]
    for place in (1, 2):
        give(taker, snapshot, place, chunks[place], OTHER)
    taker.turn(Wanted(OTHER, snapshot))
    taker.write_files()
    assert taker.protocol.here == [snapshot]
