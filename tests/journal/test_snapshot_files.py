"""Snapshot files: written block by block, named when whole, read in pieces, swept; on real and simulated files."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.journal.support import blank_disk, entries, open_journal, snapshot_at, write_snapshot
from viewstamp.journal import (
    Files,
    JournalCorruptError,
    RealFiles,
    SnapshotFiles,
    SnapshotRecord,
    StorageFailedError,
    inspect_journal,
)
from viewstamp.journal.simulated import Crash, Operation, SimulatedCrashError, SimulatedDisk
from viewstamp.journal.snapshot_files import snapshot_name
from viewstamp.protocol import InvariantError


@pytest.fixture(params=["real", "simulated"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    made: Files = RealFiles(tmp_path) if request.param == "real" else blank_disk().files()
    made.lock()
    yield made
    made.unlock()


def snapshot_names(files: Files) -> list[str]:
    return [name for name in files.names() if name.startswith("snapshot")]


def test_a_snapshot_is_written_in_blocks_and_read_in_pieces(files: Files) -> None:
    snapshots = SnapshotFiles(files)
    record, content = snapshot_at(7)
    assert snapshots.read(record, 0, 10) is None
    snapshots.write(0, content[:1500])
    assert snapshots.read(record, 0, 10) is None
    snapshots.write(1500, content[1500:])
    snapshots.finish(record)
    assert snapshot_names(files) == [f"snapshot-{7:020d}-{record.digest.hex()[:16]}"]
    for piece_bytes in (1, 7, 2999, 3000, 1 << 16):
        pieces = list(snapshots.pieces(record, piece_bytes))
        assert b"".join(pieces) == content
        assert {len(piece) for piece in pieces[:-1]} <= {piece_bytes}
    assert b"".join(snapshots.pieces(record)) == content
    assert snapshots.read(record, 100, 50) == content[100:150]
    assert snapshots.read(record, 2990, 50) == content[2990:]
    assert snapshots.read(record, 3000, 50) == b""
    assert snapshots.read(record, 9000, 50) == b""


def test_offset_zero_begins_anew_and_others_must_continue(files: Files) -> None:
    snapshots = SnapshotFiles(files)
    record, content = snapshot_at(7)
    for offset in (1, 1000):
        with pytest.raises(InvariantError, match="where it has None bytes"):
            snapshots.write(offset, content)
    with pytest.raises(InvariantError):
        snapshots.finish(record)
    snapshots.write(0, b"the beginning of something else")
    snapshots.write(0, content[:1000])
    for offset in (999, 1001, 3000):
        with pytest.raises(InvariantError, match=f"for byte {offset} was written where it has 1000 bytes"):
            snapshots.write(offset, b"x")
    with pytest.raises(InvariantError, match="of 3000 bytes was finished with 1000"):
        snapshots.finish(record)
    snapshots.write(1000, content[1000:])
    snapshots.finish(record)
    assert b"".join(snapshots.pieces(record)) == content
    with pytest.raises(InvariantError):
        snapshots.write(3000, b"beyond the end")
    assert snapshots.failure is None


def test_the_same_snapshot_can_come_twice(files: Files) -> None:
    """Taken and then received, or received after a restart forgot it."""
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7)
    assert write_snapshot(snapshots, 7) == record
    assert len(snapshot_names(files)) == 1
    assert b"".join(snapshots.pieces(record)) == snapshot_at(7)[1]


def test_what_is_not_kept_is_removed(files: Files) -> None:
    snapshots = SnapshotFiles(files)
    first, second, third = (write_snapshot(snapshots, op) for op in (3, 7, 9))
    files.append(files.create("another file"), b"")
    snapshots.remove(first)
    snapshots.remove(first)
    assert snapshots.read(first, 0, 1) is None
    snapshots.write(0, b"unfinished")
    snapshots.sweep(second)
    assert snapshot_names(files) == [snapshot_name(second)]
    with pytest.raises(InvariantError):
        snapshots.write(10, b"more of what was swept away")
    assert snapshots.read(third, 0, 1) is None
    assert b"".join(snapshots.pieces(second)) == snapshot_at(7)[1]
    snapshots.sweep(None)
    assert snapshot_names(files) == []
    assert "another file" in files.names()
    write_snapshot(snapshots, 11)


def test_an_unfinished_snapshot_of_an_earlier_life_is_no_obstacle(files: Files) -> None:
    files.append(files.create("snapshot.new"), b"rubbish")
    record = write_snapshot(SnapshotFiles(files), 7)
    assert b"".join(SnapshotFiles(files).pieces(record)) == snapshot_at(7)[1]


def test_a_directory_with_a_snapshot_and_no_journal_is_not_blank(tmp_path: Path) -> None:
    """To begin anew there would remove the snapshot; and members that all lack their journals would found a cluster."""
    files = RealFiles(tmp_path)
    journal = open_journal(files)
    journal.commit([entries(1, [b"one"] * 7)])
    journal.commit([record := write_snapshot(SnapshotFiles(files), 7)])
    journal.close()
    for segment in tmp_path.glob("journal-*"):
        segment.unlink()
    for _ in range(2):
        with pytest.raises(JournalCorruptError, match="the journal that names it is gone") as raised:
            open_journal(RealFiles(tmp_path))
        assert (raised.value.file, raised.value.directory) == (snapshot_name(record), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", snapshot_name(record)]
    (tmp_path / snapshot_name(record)).unlink()
    assert open_journal(RealFiles(tmp_path)).recovered.state is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: None, "is missing"),
        (lambda raw: raw[:-1], "ends before its 3000 bytes"),
        (lambda raw: raw[:1000], "ends before its 3000 bytes"),
        (lambda raw: b"", "ends before its 3000 bytes"),
        (lambda raw: raw + b"\0", "more follows the end"),
    ],
)
def test_a_file_of_another_size_is_a_lost_disk(
    tmp_path: Path, change: Callable[[bytes], bytes | None], reason: str
) -> None:
    files = RealFiles(tmp_path)
    journal = open_journal(files)
    journal.commit([entries(1, [b"one"] * 7)])
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7)
    journal.commit([record])
    path = tmp_path / snapshot_name(record)
    changed = change(path.read_bytes())
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    with pytest.raises(JournalCorruptError, match=reason):
        list(snapshots.pieces(record, 1000))
    report = inspect_journal(tmp_path)
    assert (report.is_sound, report.snapshot_sound, report.snapshot) == (False, False, record)
    assert path.name in report.verdict
    assert ("is missing" if changed is None else f"has {len(changed)} bytes, not 3000") in report.verdict
    journal.close()


def test_inspect_finds_every_flipped_byte_of_a_snapshot(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    journal = open_journal(files)
    record = write_snapshot(SnapshotFiles(files), 7, 200)
    journal.commit([record])
    report = inspect_journal(tmp_path)
    assert (report.verdict, report.snapshot_sound, report.first_op, report.last_op) == ("sound", True, 8, 7)
    path = tmp_path / snapshot_name(record)
    raw = path.read_bytes()
    for offset in range(len(raw)):
        path.write_bytes(raw[:offset] + bytes([raw[offset] ^ 4]) + raw[offset + 1 :])
        report = inspect_journal(tmp_path)
        assert (report.is_sound, report.snapshot_sound) == (False, False)
        assert report.verdict == f"{path.name} is damaged: its digest is wrong"
    # A whole snapshot, but not the one that the journal names.
    other = snapshot_at(8, 200)[1]
    path.write_bytes(other)
    assert not inspect_journal(tmp_path).is_sound
    journal.close()


def test_inspect_of_a_snapshot_larger_than_a_piece_or_smaller_than_a_digest(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    journal = open_journal(files)
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7, 200_000)
    journal.commit([record])
    assert inspect_journal(tmp_path).snapshot_sound
    tiny = SnapshotRecord(1, 8, 5, bytes(32))
    snapshots.write(0, b"12345")
    snapshots.finish(tiny)
    journal.commit([tiny])
    assert inspect_journal(tmp_path).snapshot_sound is False
    journal.close()


def inspect_while(files: RealFiles, happening: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a report is sound when, before the first file is read, something happens."""
    original = RealFiles.read
    todo = [happening]

    def read(self: RealFiles, name: str) -> bytes:
        raw = original(self, name)
        if todo:
            todo.pop()()
        return raw

    with monkeypatch.context() as patched:
        patched.setattr(RealFiles, "read", read)
        report = inspect_journal(files)
    assert not todo
    return report.is_sound and report.snapshot_sound is True


def test_inspect_beside_a_replica_that_takes_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that it was about to read vanish: it looks again, instead of calling that damage or an error."""
    files = RealFiles(tmp_path)
    journal = open_journal(files, segment_bytes=1)
    snapshots = SnapshotFiles(files)
    for op in range(1, 8):
        journal.commit([entries(op, [b"body"])])
    first = write_snapshot(snapshots, 2)
    journal.commit([first])

    def take_another() -> None:
        journal.commit([write_snapshot(snapshots, 6)])
        snapshots.remove(first)
        journal.release(6)

    assert inspect_while(RealFiles(tmp_path), take_another, monkeypatch)
    journal.close()


def life_of(snapshots: SnapshotFiles) -> StorageFailedError | None:
    try:
        first = write_snapshot(snapshots, 3)
        second = write_snapshot(snapshots, 5)
        snapshots.remove(first)
        snapshots.write(0, b"unfinished")
        snapshots.sweep(second)
    except StorageFailedError as error:
        return error
    return None


def refuses_everything(snapshots: SnapshotFiles) -> None:
    record = snapshot_at(3)[0]
    calls: list[Callable[[], object]] = [
        lambda: snapshots.write(0, b""),
        lambda: snapshots.finish(record),
        lambda: snapshots.read(record, 0, 1),
        lambda: list(snapshots.pieces(record)),
        lambda: snapshots.remove(record),
        lambda: snapshots.sweep(None),
    ]
    for call in calls:
        with pytest.raises(StorageFailedError):
            call()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("operation", "least"),
    [
        (Operation.WRITE, 6),
        (Operation.SYNC, 6),
        (Operation.SYNC_DIRECTORY, 3),
        (Operation.CREATE, 2),
        (Operation.RENAME, 2),
        (Operation.REMOVE, 2),
    ],
)
def test_every_failure_is_final(operation: Operation, least: int, number: int) -> None:
    nth = 0
    while True:
        nth += 1
        disk = SimulatedDisk(Random(nth))
        files = disk.files()
        files.lock()
        snapshots = SnapshotFiles(files)
        disk.fail(operation, nth=nth, errno=number)
        error = life_of(snapshots)
        if error is None:
            break
        assert error.errno == number
        assert snapshots.failure is error
        before = disk.operations
        refuses_everything(snapshots)
        assert disk.operations == before
    assert nth > least


def test_an_interrupted_write_cannot_be_gone_on_from() -> None:
    disk = blank_disk()
    files = disk.files()
    files.lock()
    snapshots = SnapshotFiles(files)
    snapshots.write(0, b"0123456789")

    def interrupt(_operation: Operation, _file: str) -> None:
        raise KeyboardInterrupt

    disk.on_operation = interrupt
    with pytest.raises(KeyboardInterrupt):
        snapshots.write(10, b"more")
    disk.on_operation = None
    for offset in (10, 14):
        with pytest.raises(InvariantError):
            snapshots.write(offset, b"more")
    write_snapshot(snapshots, 7)


def test_after_the_journal_is_closed_nothing_is_written(tmp_path: Path) -> None:
    for files in (RealFiles(tmp_path), blank_disk().files()):
        journal = open_journal(files)
        snapshots = SnapshotFiles(files)
        snapshots.write(0, b"12345")
        journal.close()
        with pytest.raises(StorageFailedError):
            snapshots.write(5, b"67890")
        assert snapshots.failure is not None


@pytest.mark.parametrize("crash", list(Crash))
def test_a_finished_snapshot_is_there_after_any_crash_and_another_is_whole_or_absent(crash: Crash) -> None:
    for nth in range(1, 40):
        disk = SimulatedDisk(Random(nth))
        files = disk.files()
        files.lock()
        snapshots = SnapshotFiles(files)
        first, content = snapshot_at(3)
        assert write_snapshot(snapshots, 3) == first
        second, other = snapshot_at(5)
        disk.plan_crash(nth, crash)
        try:
            write_snapshot(snapshots, 5)
            disk.lose_power()
            is_finished = True
        except SimulatedCrashError:
            is_finished = False
        files = disk.files()
        files.lock()
        snapshots = SnapshotFiles(files)
        assert b"".join(snapshots.pieces(first)) == content
        assert snapshots.read(second, 0, 3000) in ([other] if is_finished else [None, other])
        try:
            snapshots.sweep(first)
        except SimulatedCrashError:  # one that was planned and not reached before
            restarted = disk.files()
            restarted.lock()
            SnapshotFiles(restarted).sweep(first)
        disk.lose_power()
        assert list(disk.contents()) == [snapshot_name(first)]
    assert is_finished


def test_the_next_read_at_sees_what_a_power_loss_left() -> None:
    disk = SimulatedDisk(Random(3))
    files = disk.files()
    handle = files.create("file")
    files.append(handle, b"abc" * 1000)
    files.sync(handle)
    files.append(handle, b"unsynced")
    assert files.read_at("file", 2998, 100) == b"bcunsynced"
    assert files.read_at("file", 0, 3) == b"abc"
    files.sync_directory()
    disk.lose_power()
    files = disk.files()
    raw = files.read("file")
    assert raw[:3000] == b"abc" * 1000
    assert [files.read_at("file", offset, 7) for offset in range(3010)] == [
        raw[offset : offset + 7] for offset in range(3010)
    ]
    with pytest.raises(StorageFailedError):
        files.read_at("nothing", 0, 1)


def test_short_reads_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RealFiles(tmp_path)
    files.lock()
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7)
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, offset: original(handle, min(size, 11), offset))
    assert b"".join(snapshots.pieces(record, 500)) == snapshot_at(7)[1]
    files.unlock()


def test_a_read_error_is_no_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RealFiles(tmp_path)
    files.lock()
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7)

    def fail(*_arguments: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StorageFailedError, match=r"reading .*Input/output error"):
        snapshots.read(record, 0, 10)
    assert snapshots.failure is not None
    files.unlock()


def test_a_directory_sync_that_failed_fails_for_the_other_thread_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux reports the error to one of the two callers only; the other's names may be as lost."""
    files = RealFiles(tmp_path)
    journal = open_journal(files, segment_bytes=1)
    journal.commit([entries(1, [b"one"])])
    snapshots = SnapshotFiles(files)
    original = os.fsync

    def fail(_descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", original)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageFailedError):
        write_snapshot(snapshots, 1)
    with pytest.raises(StorageFailedError, match="syncing"):
        journal.commit([entries(2, [b"two"])])  # begins a new segment
    journal.close()
    journal = open_journal(files, segment_bytes=1)
    assert journal.recovered.last_op == 1
    journal.commit([entries(2, [b"two"])])
    journal.close()


def test_two_threads_one_for_the_journal_and_one_for_snapshots(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    journal = open_journal(files, segment_bytes=2000)
    snapshots = SnapshotFiles(files)
    errors: list[StorageFailedError | InvariantError] = []

    def write_snapshots() -> None:
        try:
            for op in range(1, 40):
                write_snapshot(snapshots, op, 5000)
        except (StorageFailedError, InvariantError) as error:
            errors.append(error)

    thread = threading.Thread(target=write_snapshots)
    thread.start()
    for op in range(1, 200):
        journal.commit([entries(op, [b"body" * 50])])
    thread.join()
    assert errors == []
    for op in range(1, 40):
        assert b"".join(snapshots.pieces(snapshot_at(op, 5000)[0])) == snapshot_at(op, 5000)[1]
    journal.close()
    journal = open_journal(RealFiles(tmp_path))
    assert journal.recovered.last_op == 199
    journal.close()


def _read_in_order(snapshots: SnapshotFiles, record: SnapshotRecord, block: int) -> list[bytes | None]:
    return [snapshots.read_proved(record, offset, block) for offset in range(0, record.size, block)]


@pytest.mark.parametrize("block", [1000, 2980, 3000, 4096])
def test_a_sound_snapshot_is_given_whole_again_and_again(files: Files, block: int) -> None:
    snapshots = SnapshotFiles(files)
    record = write_snapshot(snapshots, 7)
    for _ in range(3):
        blocks = _read_in_order(snapshots, record, block)
        assert b"".join(part for part in blocks if part is not None) == snapshot_at(7)[1]
        assert None not in blocks
    assert snapshots.read_proved(snapshot_at(8)[0], 0, block) is None
    assert snapshots.read_proved(record, 3000, block) == b""


@pytest.mark.parametrize("block", [1000, 2980, 3000, 4096])
def test_of_a_damaged_snapshot_the_end_is_withheld(block: int) -> None:
    disk = blank_disk()
    snapshots = SnapshotFiles(disk.files())
    record = write_snapshot(snapshots, 7)
    for byte in (0, 999, 1000, 2967, 2968, 2979, 2980, 2999):
        disk.flip_bit(snapshot_name(record), 8 * byte + byte % 8)
        for _ in range(2):
            blocks = _read_in_order(snapshots, record, block)
            assert blocks[-1] is None, byte
            assert None not in blocks[:-1]
        disk.flip_bit(snapshot_name(record), 8 * byte + byte % 8)
    assert None not in _read_in_order(snapshots, record, block)


def test_two_that_read_at_different_places_do_not_hide_damage() -> None:
    disk = blank_disk()
    snapshots = SnapshotFiles(disk.files())
    record = write_snapshot(snapshots, 7)
    disk.flip_bit(snapshot_name(record), 12_345)
    assert snapshots.read_proved(record, 2000, 1000) is not None, "one that began elsewhere goes on in the middle"
    assert snapshots.read_proved(record, 0, 1000) is not None
    assert snapshots.read_proved(record, 2000, 1000) is not None
    assert snapshots.read_proved(record, 0, 1000) is not None
    assert snapshots.read_proved(record, 1000, 1000) is not None
    assert snapshots.read_proved(record, 2000, 1000) is None


def test_of_a_snapshot_that_has_lost_its_end_what_is_short_is_withheld() -> None:
    disk = blank_disk()
    snapshots = SnapshotFiles(disk.files())
    record = write_snapshot(snapshots, 7)
    disk.cut(snapshot_name(record), 1500)
    assert snapshots.read_proved(record, 0, 1000) is not None
    assert snapshots.read_proved(record, 1000, 1000) is None
    assert snapshots.read_proved(record, 2000, 1000) is None
    with pytest.raises(JournalCorruptError, match="it ends before its 3000 bytes"):
        list(snapshots.pieces(record))
