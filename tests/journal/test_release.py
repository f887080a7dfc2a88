"""Snapshots in the log, and the segments that they make needless: what is dropped, and what must never be."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.support import Log, blank_disk, entries, open_journal, snapshot_at, write_snapshot
from viewstamp.journal import (
    Journal,
    JournalCorruptError,
    JournalRecord,
    RealFiles,
    SnapshotFiles,
    SnapshotRecord,
    StateRecord,
    StorageFailedError,
    TruncateRecord,
    inspect_journal,
)
from viewstamp.journal.simulated import Crash, Operation, SimulatedCrashError, SimulatedDisk
from viewstamp.journal.snapshot_files import is_snapshot_name, snapshot_name
from viewstamp.protocol import InvariantError

SEGMENT = "journal-{:010d}".format


def segments_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("journal-*"))


def reopened(journal: Journal, path: Path, log: Log) -> Journal:
    journal.close()
    journal = open_journal(RealFiles(path), segment_bytes=1)
    assert log.is_what(journal)
    return journal


def bodies(op: int, count: int = 1) -> JournalRecord:
    return entries(op, [b"body"] * count)


SNAPSHOT_5 = snapshot_at(5)[0]
MEANINGS: dict[str, tuple[list[JournalRecord], int, int]] = {
    "in the middle of the log": ([bodies(1, 8), SNAPSHOT_5], 1, 8),
    "at its end": ([bodies(1, 5), SNAPSHOT_5], 6, 5),
    "beyond its end": ([bodies(1, 3), SNAPSHOT_5], 6, 5),
    "of a blank log": ([SNAPSHOT_5, bodies(6, 2)], 6, 7),
    "in the place of a conflicting suffix": ([bodies(1, 8), TruncateRecord(2), SNAPSHOT_5, bodies(6)], 6, 6),
    "with what follows it cut away": ([bodies(1, 8), SNAPSHOT_5, TruncateRecord(5)], 1, 5),
    "after another": ([bodies(1, 8), snapshot_at(3)[0], SNAPSHOT_5], 1, 8),
    "once more": ([bodies(1, 8), SNAPSHOT_5, snapshot_at(5, 400)[0]], 1, 8),
}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("meaning", MEANINGS)
def test_what_a_snapshot_does_to_the_log(tmp_path: Path, meaning: str, at_once: bool) -> None:
    records, first_op, last_op = MEANINGS[meaning]
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    for batch in [records] if at_once else [[record] for record in records]:
        journal.commit(batch)
    journal = reopened(journal, tmp_path, Log().after(records))
    recovered = journal.recovered
    assert recovered.snapshot == [record for record in records if isinstance(record, SnapshotRecord)][-1]
    assert (recovered.first_op, recovered.last_op) == (first_op, last_op)
    assert journal.statistics().snapshot_op == 5
    journal.commit([bodies(last_op + 1)])
    journal = reopened(journal, tmp_path, Log().after([*records, bodies(last_op + 1)]))
    journal.close()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (snapshot_at(4)[0], "a snapshot at op 4 cannot follow one at op 5"),
        (SnapshotRecord(1, 6, 100, bytes(31)), "the digest of the snapshot at op 6 has 31 bytes"),
        (TruncateRecord(4), "op 5 cannot be truncated: the snapshot at op 5 holds it"),
        (bodies(10), "cannot follow op 8"),
    ],
)
def test_what_cannot_follow_a_snapshot(tmp_path: Path, record: JournalRecord, reason: str) -> None:
    journal = open_journal(RealFiles(tmp_path))
    journal.commit([bodies(1, 8), SNAPSHOT_5])
    with pytest.raises(InvariantError, match=reason):
        journal.encode_batch([record])
    journal.commit([TruncateRecord(5), bodies(6)])
    journal.close()


def one_entry_each(journal: Journal, first: int, last: int) -> list[JournalRecord]:
    """Batches of one entry; with segments of one byte, each begins a new one."""
    records = [bodies(op) for op in range(first, last + 1)]
    for record in records:
        journal.commit([record])
    return records


def test_release_drops_whole_segments_up_to_an_op(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    records = one_entry_each(journal, 1, 6)
    journal.commit([SNAPSHOT_5])
    log = Log().after([*records, SNAPSHOT_5])
    for op, first in ((0, 1), (3, 4), (3, 4), (2, 4), (5, 6)):
        journal.release(op)
        assert segments_of(tmp_path) == [SEGMENT(number) for number in range(first, 8)]
        statistics = journal.statistics()
        assert statistics.segments == 8 - first
        assert statistics.bytes == sum((tmp_path / name).stat().st_size for name in segments_of(tmp_path))
        journal = reopened(journal, tmp_path, log)
        assert journal.statistics().bytes == statistics.bytes
        assert journal.recovered.first_op == first
    journal.commit([snapshot_at(6)[0]])
    journal.release(6)
    assert segments_of(tmp_path) == [SEGMENT(8)]
    journal = reopened(journal, tmp_path, log.after([snapshot_at(6)[0]]))
    assert (journal.recovered.first_op, journal.recovered.last_op, journal.recovered.entries) == (7, 6, b"")
    journal.close()


def test_release_is_refused_beyond_what_is_durable(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    one_entry_each(journal, 1, 6)
    before = segments_of(tmp_path)
    journal.release(0)
    with pytest.raises(InvariantError, match="up to op 1 were released, with a snapshot at op 0"):
        journal.release(1)
    batch = journal.encode_batch([SNAPSHOT_5])
    with pytest.raises(InvariantError, match="with a snapshot at op 0"):
        journal.release(5)
    journal.write(batch)
    with pytest.raises(InvariantError, match="while a batch was not synced"):
        journal.release(5)
    assert segments_of(tmp_path)[: len(before)] == before
    journal.sync()
    with pytest.raises(InvariantError, match="up to op 6 were released, with a snapshot at op 5"):
        journal.release(6)
    # One that is encoded but not written gives no permission.
    journal.encode_batch([snapshot_at(6)[0]])
    with pytest.raises(InvariantError, match="with a snapshot at op 5"):
        journal.release(6)
    journal.release(5)
    journal.close()


@pytest.mark.parametrize("operation", [Operation.REMOVE, Operation.SYNC_DIRECTORY])
def test_a_release_that_fails_ends_the_journal(operation: Operation) -> None:
    for nth in (1, 3) if operation is Operation.REMOVE else (1,):
        disk = SimulatedDisk(Random(nth))
        journal = open_journal(disk.files(), segment_bytes=1)
        records = one_entry_each(journal, 1, 6)
        journal.commit([SNAPSHOT_5])
        disk.fail(operation, nth=nth, errno=errno.EIO)
        with pytest.raises(StorageFailedError):
            journal.release(5)
        for _ in range(2):
            with pytest.raises(StorageFailedError):
                journal.commit([bodies(7)])
            with pytest.raises(StorageFailedError):
                journal.release(5)
        disk.lose_power()
        assert Log().after([*records, SNAPSHOT_5]).is_what(open_journal(disk.files()))


def test_a_release_that_was_interrupted_ends_the_journal() -> None:
    disk = blank_disk()
    journal = open_journal(disk.files(), segment_bytes=1)
    one_entry_each(journal, 1, 6)
    journal.commit([SNAPSHOT_5])

    def interrupt(_operation: Operation, _file: str) -> None:
        raise KeyboardInterrupt

    disk.on_operation = interrupt
    with pytest.raises(KeyboardInterrupt):
        journal.release(5)
    disk.on_operation = None
    with pytest.raises(StorageFailedError, match=r"releasing .* interrupted"):
        journal.commit([bodies(7)])


def plain_history() -> list[list[JournalRecord]]:
    return [[bodies(op)] for op in range(1, 8)] + [[StateRecord(b"view 1"), SNAPSHOT_5], [bodies(8)]]


def truncated_history() -> list[list[JournalRecord]]:
    """The log was longer once: a segment in the middle says that it follows a higher op than the ones after it."""
    return [
        *([bodies(op)] for op in range(1, 9)),
        [TruncateRecord(3)],
        *([bodies(op)] for op in range(4, 7)),
        [SNAPSHOT_5],
        [bodies(7)],
    ]


def installed_history() -> list[list[JournalRecord]]:
    """A received snapshot takes the place of a conflicting suffix; an older one is known to the first headers left."""
    return [
        *([bodies(op)] for op in range(1, 4)),
        [snapshot_at(2)[0]],
        *([bodies(op)] for op in range(4, 10)),
        [TruncateRecord(3), snapshot_at(20)[0]],
        [bodies(21)],
        [bodies(22)],
    ]


@pytest.mark.parametrize(
    ("history", "released", "least"),
    [(plain_history(), 5, 5), (truncated_history(), 5, 5), (installed_history(), 20, 9)],
)
def test_names_that_come_back_in_any_combination(
    tmp_path: Path, history: Sequence[Sequence[JournalRecord]], released: int, least: int
) -> None:
    """A power loss after the release, before the directory was synced."""
    journal = open_journal(RealFiles(tmp_path / "whole"), segment_bytes=1)
    log = Log()
    for records in history:
        journal.commit(records)
        log = log.after(records)
    shutil.copytree(tmp_path / "whole", tmp_path / "before")
    journal.release(released)
    journal.close()
    kept = segments_of(tmp_path / "whole")
    gone = sorted(set(segments_of(tmp_path / "before")) - set(kept))
    assert len(gone) >= least
    subsets = [names for count in range(len(gone) + 1) for names in combinations(gone, count)]
    for names in Random(1).sample(subsets, min(len(subsets), 48)):
        path = tmp_path / "combination"
        shutil.copytree(tmp_path / "whole", path)
        for name in names:
            shutil.copy(tmp_path / "before" / name, path / name)
        run = list(kept)
        while (previous := SEGMENT(int(run[0][8:]) - 1)) in names:
            run.insert(0, previous)
        assert [segment.name for segment in inspect_journal(path).segments] == run
        journal = open_journal(RealFiles(path), segment_bytes=1)
        assert log.is_what(journal)
        assert segments_of(path) == run
        journal.commit([StateRecord(b"goes on")])
        journal.close()
        shutil.rmtree(path)


def test_release_stops_where_a_later_beginning_would_not_be_good_enough(tmp_path: Path) -> None:
    """Were the segment that follows op 8 dropped, and did its name alone come back, nobody could tell what it lacks."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    for records in truncated_history():
        journal.commit(records)
    journal.release(5)
    first = inspect_journal(tmp_path).segments[0]
    assert first.preceding_op == 5
    journal.commit([bodies(8), snapshot_at(8)[0]])
    journal.release(8)
    assert journal.statistics().segments == 1
    journal.close()


@pytest.mark.parametrize("missing", [1, 2, 5, 6])
def test_a_segment_that_no_snapshot_makes_needless_is_a_lost_disk(tmp_path: Path, missing: int) -> None:
    """The snapshot is at op 4; the fifth segment holds op 5."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    records = [*one_entry_each(journal, 1, 6), snapshot_at(4)[0]]
    journal.commit(records[-1:])
    journal.close()
    (tmp_path / SEGMENT(missing)).unlink()
    before = segments_of(tmp_path)
    if missing <= 4:
        journal = open_journal(RealFiles(tmp_path))
        assert Log().after(records).is_what(journal)
        assert segments_of(tmp_path) == [SEGMENT(number) for number in range(missing + 1, 8)]
        journal.close()
        return
    for _ in range(2):
        with pytest.raises(JournalCorruptError, match=f"{SEGMENT(missing)} is missing"):
            open_journal(RealFiles(tmp_path))
        report = inspect_journal(tmp_path)
        assert not report.is_sound
        assert f"{SEGMENT(missing)} is missing" in report.verdict
        assert segments_of(tmp_path) == before


def test_a_snapshot_record_that_is_damaged_does_not_excuse_what_was_released(tmp_path: Path) -> None:
    """The last batch is judged a torn tail when a bit of it flips; then the released entries are lost, and so said."""
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    one_entry_each(journal, 1, 6)
    journal.commit([SNAPSHOT_5])
    journal.release(5)
    journal.close()
    last = tmp_path / segments_of(tmp_path)[-1]
    raw = last.read_bytes()
    last.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(JournalCorruptError, match=f"{SEGMENT(5)} is missing"):
        open_journal(RealFiles(tmp_path))


def test_what_is_left_over_need_not_be_readable(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1)
    records = one_entry_each(journal, 1, 6)
    journal.commit([SNAPSHOT_5])
    journal.release(5)
    (tmp_path / SEGMENT(2)).write_bytes(b"")
    journal = reopened(journal, tmp_path, Log().after([*records, SNAPSHOT_5]))
    assert segments_of(tmp_path) == [SEGMENT(6), SEGMENT(7)]
    journal.close()


def test_what_was_left_over_is_removed_for_good() -> None:
    for seed in range(10):
        disk = SimulatedDisk(Random(seed))
        files = disk.files()
        journal = open_journal(files, segment_bytes=1)
        one_entry_each(journal, 1, 6)
        journal.commit([SNAPSHOT_5])
        files.remove(SEGMENT(3))
        files.sync_directory()
        disk.kill()
        open_journal(disk.files())
        disk.lose_power()
        assert list(disk.contents()) == [SEGMENT(number) for number in range(4, 8)]


class Member:
    """A disk with a journal and snapshots, what may come back from it, and how much of that must."""

    def __init__(self, seed: int, segment_bytes: int) -> None:
        self.disk = SimulatedDisk(Random(seed))
        self.segment_bytes = segment_bytes
        self.possible = [Log()]
        self.start()

    def start(self) -> None:
        files = self.disk.files()
        self.journal = open_journal(files, segment_bytes=self.segment_bytes)
        self.snapshots = SnapshotFiles(files)
        (self.log,) = [log for log in self.possible if log.is_what(self.journal)][-1:]
        self.possible = [self.log]
        snapshot = self.journal.recovered.snapshot
        if snapshot is not None:
            expected = snapshot_at(snapshot.op, snapshot.size, snapshot.view)
            assert (snapshot, b"".join(self.snapshots.pieces(snapshot))) == expected
        self.snapshots.sweep(snapshot)
        kept = [name for name in self.disk.contents() if not name.startswith("journal-")]
        assert kept == ([snapshot_name(snapshot)] if snapshot else [])
        numbers = [int(name[8:]) for name in self.disk.contents() if name.startswith("journal-")]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def restart(self) -> None:
        """Until it holds."""
        while True:
            try:
                self.start()
            except SimulatedCrashError:
                continue
            return

    def commit(self, records: Sequence[JournalRecord]) -> None:
        after = self.log.after(records)
        self.possible.append(after)
        self.journal.commit(records)
        self.log = after
        self.possible = [after]

    def take_snapshot(self, op: int, before: Sequence[JournalRecord] = ()) -> None:
        """Taken here, or received when it is beyond the log's end."""
        old = self.log.snapshot
        if old is not None and op == old.op:
            return
        self.commit([*before, write_snapshot(self.snapshots, op)])
        if old is not None:
            self.snapshots.remove(old)

    def append(self, count: int) -> None:
        self.commit([entries(self.log.last_op + 1, [b"x" * 100] * count)])

    def live(self) -> None:
        """Every kind of step; with small segments, each of the releases drops some."""
        for _ in range(2):
            self.append(3)
            self.append(2)
            self.append(1)
            self.take_snapshot(self.log.last_op - 1)
            self.journal.release(self.log.snapshot_op - 1)
            self.append(4)
            self.append(1)
            self.commit([TruncateRecord(self.log.last_op - 2), entries(self.log.last_op - 1, [b"other"])])
            cut = TruncateRecord(max(self.log.last_op - 3, self.log.snapshot_op))
            self.take_snapshot(self.log.last_op + 5, [StateRecord(b"view"), cut])
            self.journal.release(self.log.snapshot_op)
            self.append(1)


@pytest.mark.parametrize("crash", list(Crash))
@pytest.mark.parametrize("segment_bytes", [1, 400, 1 << 20])
def test_crash_inside_every_operation_of_a_life_with_snapshots(crash: Crash, segment_bytes: int) -> None:
    """Writing blocks, finishing, recording, removing, releasing; then the next life does it all again."""
    nth = 0
    finished = False
    while not finished:
        nth += 1
        member = Member(nth, segment_bytes)
        member.disk.plan_crash(nth, crash)
        try:
            member.live()
            finished = True
        except SimulatedCrashError:
            member.disk.plan_crash(1 + nth % 12, crash)
        else:
            member.journal.close()
        member.restart()
        while True:
            try:
                member.live()
                break
            except SimulatedCrashError:  # the second one, not reached by the restart
                member.restart()
        member.disk.lose_power()
        member.restart()
    assert nth > 60


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 6)),
        st.tuples(st.just("take"), st.integers(0, 4)),
        st.tuples(st.just("install"), st.integers(1, 9)),
        st.tuples(st.just("release"), st.integers(0, 6)),
        st.tuples(st.just("crash in"), st.integers(1, 12)),
        st.tuples(st.just("power"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=30,
)


def carry_out(member: Member, step: str, number: int) -> None:
    log = member.log
    match step:
        case "append":
            member.append(number)
        case "truncate":
            member.commit([TruncateRecord(max(log.last_op - number, log.snapshot_op)), StateRecord(b"view")])
        case "take" if log.last_op > 0:
            member.take_snapshot(max(log.last_op - number, log.snapshot_op, 1))
        case "install":
            before = [TruncateRecord(max(log.last_op - number, log.snapshot_op))]
            member.take_snapshot(log.last_op + number, before)
        case "release":
            member.journal.release(max(log.snapshot_op - number, 0))
        case "crash in":
            member.disk.plan_crash(number, Crash.POWER_LOST if number % 2 else Crash.KILLED)
        case "power":
            member.disk.lose_power()
            member.restart()
        case _:
            member.journal.close()
            member.start()


def test_without_a_snapshot_nothing_is_released_even_if_it_holds_no_entry() -> None:
    """The first segment is all that tells a whole journal from one that has lost its beginning."""
    member = Member(1, 1)
    member.commit([StateRecord(b"view")])
    member.append(1)
    member.journal.release(0)
    member.disk.kill()
    member.restart()
    assert member.journal.recovered.last_op == 1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 400, 1 << 20]), steps)
def test_any_history_with_snapshots_and_releases(seed: int, segment_bytes: int, history: list[tuple[str, int]]) -> None:
    member = Member(seed, segment_bytes)
    for step, number in history:
        try:
            carry_out(member, step, number)
        except SimulatedCrashError:
            member.restart()
    member.disk.lose_power()
    member.restart()
    member.disk.lose_power()
    member.restart()


def test_the_disk_stays_bounded_however_long_it_goes_on() -> None:
    """200 entries between snapshots, 50 kept for slow members, segments of 4 KiB."""
    member = Member(1, 4096)
    most = 0
    for op in range(1, 6001):
        member.append(1)
        if op % 200 == 0:
            member.take_snapshot(op - 1)
            member.journal.release(op - 50)
            member.log = Log(member.log.snapshot, member.log.last_op, member.log.entries[-250:])
        most = max(most, member.journal.statistics().bytes)
    contents = member.disk.contents()
    statistics = member.journal.statistics()
    journal_bytes = sum(len(raw) for name, raw in contents.items() if name.startswith("journal-"))
    assert statistics.bytes == journal_bytes
    assert sum(is_snapshot_name(name) for name in contents) == 1
    entry_bytes = 250
    assert most < 250 * entry_bytes + 2 * 4096
    assert statistics.segments < 20
    member.disk.kill()
    journal = open_journal(member.disk.files(), segment_bytes=4096)
    assert (journal.recovered.last_op, journal.statistics()) == (6000, journal.statistics())
    assert journal.recovered.first_op <= 5951 < journal.recovered.first_op + 50
    assert journal.statistics().bytes == journal_bytes
