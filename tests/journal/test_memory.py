"""Files in memory: a journal works on them, keeps nothing but its size, and snapshots are kept while it is open."""

from __future__ import annotations

import errno

import pytest

from tests.journal.support import BLANK, INCARNATION, entries, image_of, open_journal, scenario, write_snapshot
from viewstamp.journal import (
    DirectoryInUseError,
    MemoryFiles,
    RealFiles,
    SnapshotFiles,
    SnapshotRecord,
    StateRecord,
    StorageFailedError,
)
from viewstamp.journal.simulated import SimulatedFiles


def kept_bytes(files: MemoryFiles) -> int:
    return sum(len(files.read(name)) for name in files.names())


def test_only_files_in_memory_are_volatile() -> None:
    assert MemoryFiles.is_volatile
    assert not RealFiles.is_volatile
    assert not SimulatedFiles.is_volatile
    journal = open_journal(MemoryFiles())
    assert journal.is_volatile
    assert journal.in_memory
    journal.close()


def test_every_start_is_blank_with_an_incarnation_of_its_own() -> None:
    files = MemoryFiles()
    first = open_journal(files)
    for records in scenario():
        first.commit(records)
    first.close()
    assert files.names() == []
    second = open_journal(files, incarnation=INCARNATION + 1)
    assert (second.incarnation, image_of(second)) == (INCARNATION + 1, BLANK)
    second.set_incarnation(INCARNATION + 9)
    assert second.incarnation == INCARNATION + 9
    second.close()


@pytest.mark.parametrize("segment_bytes", [1, 600, 1 << 20])
def test_a_journal_keeps_sizes_only(segment_bytes: int) -> None:
    files = MemoryFiles()
    journal = open_journal(files, segment_bytes=segment_bytes)
    for records in scenario():
        journal.commit(records)
    statistics = journal.statistics()
    assert (statistics.batches, statistics.syncs) == (7, 7)
    assert statistics.segments > 1 or segment_bytes == 1 << 20
    assert statistics.bytes == sum(files.size(name) for name in files.names())
    assert kept_bytes(files) <= statistics.segments * 150
    journal.close()


def test_what_is_released_is_gone() -> None:
    files = MemoryFiles()
    journal = open_journal(files, segment_bytes=600)
    snapshots = SnapshotFiles(files)
    last: SnapshotRecord | None = None
    for op in range(1, 1001):
        journal.commit([entries(op, [b"x" * 100])])
        if op % 100 == 0:
            record = write_snapshot(snapshots, op)
            journal.commit([record])
            journal.release(op)
            if last is not None:
                snapshots.remove(last)
            last = record
    assert len(files.names()) <= 4
    assert kept_bytes(files) < 5000
    journal.close()


def test_snapshots_are_kept_and_read() -> None:
    files = MemoryFiles()
    journal = open_journal(files)
    snapshots = SnapshotFiles(files)
    first, second = write_snapshot(snapshots, 5, size=150_000), write_snapshot(snapshots, 9)
    content = b"".join(snapshots.pieces(first))
    assert len(content) == 150_000
    assert content.endswith(first.digest)
    assert snapshots.read(first, 149_990, 100) == content[-10:]
    write_snapshot(snapshots, 5, size=150_000)  # once more: it takes the place of the one before
    snapshots.write(0, b"unfinished")
    snapshots.sweep(second)
    assert snapshots.read(first, 0, 10) is None
    assert [name for name in files.names() if name.startswith("snapshot")] == [
        f"snapshot-{9:020d}-{second.digest[:8].hex()}"
    ]
    journal.close()
    assert files.names() == []


def test_a_second_opener_is_refused() -> None:
    files = MemoryFiles()
    journal = open_journal(files)
    with pytest.raises(DirectoryInUseError, match="in use by this process"):
        open_journal(files)
    journal.commit([StateRecord(b"unharmed")])
    journal.close()


def test_what_is_not_there_is_refused_as_by_a_disk() -> None:
    files = MemoryFiles("nowhere")
    for attempt in (files.size, files.read, files.open, files.remove):
        with pytest.raises(StorageFailedError, match="nowhere/absent") as refused:
            attempt("absent")
        assert refused.value.errno == errno.ENOENT
    with pytest.raises(StorageFailedError, match="nowhere/absent"):
        files.rename("absent", "present")
    handle = files.create("present")
    with pytest.raises(StorageFailedError, match="File exists"):
        files.create("present")
    files.append(handle, b"something")
    files.truncate(handle, 4)
    assert (files.read("present"), files.size("present")) == (b"some", 4)
    files.close(handle)
    with pytest.raises(StorageFailedError, match="closed file"):
        files.append(handle, b"late")
    with pytest.raises(StorageFailedError, match="closed file"):
        files.sync(handle)
