"""Errors of the operating system: each ends the journal, none is tried again, and a restart finds a prefix."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.journal.support import blank_disk, entries, image_of, images, open_journal, scenario
from viewstamp.journal import (
    DirectoryInUseError,
    Files,
    Journal,
    JournalClosedError,
    JournalError,
    RealFiles,
    StateRecord,
    StorageFailedError,
    inspect_journal,
)
from viewstamp.journal.simulated import DeadProcessError, Operation, SimulatedDisk


class Attempt:
    """A life of a journal that is to go through the whole scenario, until something fails."""

    def __init__(self, files: Files) -> None:
        self.durable = 0
        self.journal: Journal | None = None
        self.error: StorageFailedError | None = None
        try:
            self.journal = open_journal(files, segment_bytes=600)
            for records in scenario():
                self.journal.commit(records)
                self.durable += 1
        except StorageFailedError as error:
            self.error = error


def refuses_everything(journal: Journal) -> None:
    assert journal.failure is not None
    for _ in range(2):
        with pytest.raises(StorageFailedError):
            journal.sync()
        with pytest.raises(StorageFailedError):
            journal.commit([StateRecord(b"too late")])
        with pytest.raises(StorageFailedError):
            journal.set_incarnation(1 << 40)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("operation", "least"),
    [
        (Operation.WRITE, 10),
        (Operation.SYNC, 10),
        (Operation.SYNC_DIRECTORY, 4),
        (Operation.CREATE, 3),
        (Operation.RENAME, 3),
        (Operation.RESERVE, 3),
        (Operation.TRUNCATE, 2),
    ],
)
def test_every_failure_of_every_operation_stops_the_journal(operation: Operation, least: int, number: int) -> None:
    """Also those of the first segment's creation and of each rotation."""
    nth = 0
    while True:
        nth += 1
        disk = SimulatedDisk(Random(nth))
        disk.fail(operation, nth=nth, errno=number)
        attempt = Attempt(disk.files())
        if attempt.error is None:
            break
        assert attempt.error.errno == number
        assert str(attempt.error).startswith(operation.value)
        assert os.strerror(number) in str(attempt.error)
        if attempt.journal is not None:
            before = disk.operations
            refuses_everything(attempt.journal)
            assert disk.operations == before, "a failed journal touched its disk again"
            attempt.journal.close()
        disk.lose_power()
        again = open_journal(disk.files(), segment_bytes=600)
        assert image_of(again) in images(scenario())[attempt.durable : attempt.durable + 2]
        again.close()
    assert nth > least


@pytest.mark.parametrize("operation", [Operation.SYNC, Operation.SYNC_DIRECTORY])
def test_every_sync_of_an_opening_counts(operation: Operation) -> None:
    disk = blank_disk()
    journal = open_journal(disk.files())
    journal.commit([StateRecord(b"kept")])
    disk.kill()
    disk.fail(operation)
    with pytest.raises(StorageFailedError):
        open_journal(disk.files())
    assert open_journal(disk.files()).recovered.state == b"kept"


@pytest.mark.parametrize(("operation", "nth"), [(Operation.TRUNCATE, 1), (Operation.SYNC, 2)])
def test_a_cut_that_fails_stops_the_opening(operation: Operation, nth: int) -> None:
    disk = blank_disk()
    journal = open_journal(disk.files())
    journal.commit(scenario()[0])
    disk.fail(Operation.WRITE, errno=errno.ENOSPC)
    with pytest.raises(StorageFailedError, match="No space left"):
        journal.commit([StateRecord(b"does not fit" * 50)])
    journal.close()
    disk.fail(operation, nth=nth)
    with pytest.raises(StorageFailedError):
        open_journal(disk.files())
    again = open_journal(disk.files())
    assert image_of(again) == images(scenario())[1]


def test_a_sync_that_failed_is_not_believed_by_the_next_life() -> None:
    """A process still reads the data from memory and a second sync succeeds: only what is on the disk counts."""
    for seed in range(30):
        disk = SimulatedDisk(Random(seed))
        journal = open_journal(disk.files())
        journal.commit(scenario()[0])
        disk.fail(Operation.SYNC)
        with pytest.raises(StorageFailedError):
            journal.commit(scenario()[1])
        disk.kill()
        shown = image_of(open_journal(disk.files()))
        disk.lose_power()
        assert image_of(open_journal(disk.files())) == shown


def test_a_call_that_was_interrupted_ends_the_journal() -> None:
    disk = blank_disk()
    journal = open_journal(disk.files())

    def interrupt(_operation: Operation, _file: str) -> None:
        raise KeyboardInterrupt

    disk.on_operation = interrupt
    with pytest.raises(KeyboardInterrupt):
        journal.commit([StateRecord(b"1")])
    disk.on_operation = None
    with pytest.raises(StorageFailedError, match="interrupted"):
        journal.commit([StateRecord(b"2")])
    journal.close()


def test_the_hook_sees_each_operation_in_order() -> None:
    disk = blank_disk()
    journal = open_journal(disk.files())
    seen: list[Operation] = []
    disk.on_operation = lambda operation, _file: seen.append(operation)
    journal.commit([StateRecord(b"1")])
    journal.commit([StateRecord(b"2")])
    assert seen == [Operation.RESERVE, Operation.WRITE, Operation.SYNC, Operation.WRITE, Operation.SYNC]


def test_a_dead_process_has_no_files() -> None:
    disk = blank_disk()
    files = disk.files()
    journal = open_journal(files)
    disk.kill()
    with pytest.raises(DeadProcessError):
        journal.commit([StateRecord(b"from the grave")])
    successor = open_journal(disk.files())
    journal.close()
    with pytest.raises(DirectoryInUseError):
        open_journal(disk.files())
    successor.close()


def test_a_wiped_disk_is_blank() -> None:
    disk = blank_disk()
    open_journal(disk.files()).commit([StateRecord(b"1")])
    disk.wipe()
    journal = open_journal(disk.files(), incarnation=1234)
    assert (journal.incarnation, journal.recovered.state) == (1234, None)


def test_a_bit_that_flips_on_the_simulated_disk_is_noticed() -> None:
    disk = blank_disk()
    journal = open_journal(disk.files())
    for records in scenario():
        journal.commit(records)
    journal.close()
    size = len(disk.contents()["journal-0000000001"])
    disk.flip_bit("journal-0000000001", size // 2 * 8)
    with pytest.raises(JournalError, match="damaged at byte"):
        open_journal(disk.files())


class FailingSystem:
    """Lets the nth call of one function of `os` fail, and counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, nth: int) -> None:
        self.calls = 0
        self._original = getattr(os, name)
        self._nth = nth
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: object, **keywords: object) -> object:
        self.calls += 1
        if self.calls == self._nth:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._original(*args, **keywords)


@pytest.mark.parametrize(
    ("name", "least"), [("pwrite", 10), ("fsync", 10), ("fdatasync", 7), ("ftruncate", 2), ("rename", 3), ("open", 6)]
)
def test_real_errors_stop_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, least: int) -> None:
    nth = 0
    while True:
        nth += 1
        files = RealFiles(tmp_path / str(nth))
        with monkeypatch.context() as patched:
            system = FailingSystem(patched, name, nth)
            attempt = Attempt(files)
            if attempt.error is None:
                break
            assert attempt.error.errno == errno.EIO
            assert "Input/output error" in str(attempt.error)
            if attempt.journal is not None:
                calls = system.calls
                refuses_everything(attempt.journal)
                assert system.calls == calls
                attempt.journal.close()
        again = open_journal(RealFiles(tmp_path / str(nth)))
        assert image_of(again) in images(scenario())[attempt.durable : attempt.durable + 2]
        again.close()
    files.unlock()
    assert nth > least


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: original(handle, bytes(data)[:7], offset))
    journal = open_journal(RealFiles(tmp_path))
    for records in scenario():
        journal.commit(records)
    journal.close()
    journal = open_journal(RealFiles(tmp_path))
    assert image_of(journal) == images(scenario())[-1]
    journal.close()


def limit_files(patched: pytest.MonkeyPatch, limit: int) -> None:
    """No file gets larger than that, as under a quota, or on a disk that is nearly full."""
    original = os.pwrite

    def limited(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return original(descriptor, bytes(data)[: limit - offset], offset)

    patched.setattr(os, "pwrite", limited)


def test_a_journal_does_without_room_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches still fit."""
    with monkeypatch.context() as patched:
        limit_files(patched, 50_000)
        journal = open_journal(RealFiles(tmp_path), segment_bytes=1 << 20, room_bytes=1 << 17)
        for records in scenario():
            journal.commit(records)
        journal.close()
    assert (tmp_path / "journal-0000000001").stat().st_size == inspect_journal(tmp_path).segments[0].bytes < 50_000
    journal = open_journal(RealFiles(tmp_path))
    assert image_of(journal) == images(scenario())[-1]
    journal.close()


def test_where_room_finds_no_place_batches_fill_the_file_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=1 << 20, room_bytes=1 << 17)
    limit_files(monkeypatch, 50_000)
    for number in range(50):
        journal.commit([StateRecord(bytes([number]) * 900)])
    with pytest.raises(StorageFailedError, match="File too large"):
        journal.commit([StateRecord(bytes(50_000))])
    journal.close()
    monkeypatch.undo()
    journal = open_journal(RealFiles(tmp_path))
    assert journal.recovered.state == bytes([49]) * 900
    journal.close()


def test_a_write_that_writes_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(RealFiles(tmp_path))
    monkeypatch.setattr(os, "pwrite", lambda _handle, _data, _offset: 0)
    with pytest.raises(StorageFailedError):
        journal.commit([StateRecord(b"1")])
    journal.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    journal = open_journal(RealFiles(tmp_path))
    program = (
        "import sys\n"
        "from viewstamp.journal import DirectoryInUseError, RealFiles\n"
        "try:\n"
        "    RealFiles(sys.argv[1]).lock()\n"
        "except DirectoryInUseError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[2]
    refused = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert refused.stdout.strip() == f"{tmp_path} is in use by another process"
    journal.close()
    granted = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert granted.stdout == ""


def test_a_worker_process_that_was_forked_does_not_hold_the_directory(tmp_path: Path) -> None:
    """A service that forks a pool of workers, closes its replica, or is killed, and opens it again: they live on."""
    program = (
        "import os, signal, sys\n"
        "from viewstamp.journal import DirectoryInUseError, RealFiles\n"
        "files = RealFiles(sys.argv[1])\n"
        "files.lock()\n"
        "here, there = os.pipe()\n"
        "worker = os.fork()\n"
        "if not worker:\n"
        "    files.unlock()\n"  # As where an error in the worker leaves the blocks that were open around it.
        "    os.write(there, b'!')\n"
        "    signal.pause()\n"
        "os.read(here, 1)\n"
        "try:\n"
        "    RealFiles(sys.argv[1]).lock()\n"
        "    print('taken from the one who has it')\n"
        "except DirectoryInUseError:\n"
        "    files.unlock()\n"
        "    RealFiles(sys.argv[1]).lock()\n"
        "    print('opened again')\n"
        "finally:\n"
        "    os.kill(worker, signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=30)
    assert (ended.stdout, ended.stderr) == ("opened again\n", "")


def test_what_is_logged_after_the_standard_streams_were_closed_does_not_go_to_the_journal(tmp_path: Path) -> None:
    """A service that becomes a daemon, and something in it that still writes to standard error."""
    program = (
        "import os, sys\n"
        "from tests.journal.support import open_journal\n"
        "from viewstamp.journal import RealFiles, StateRecord\n"
        "os.closerange(0, 3)\n"
        "journal = open_journal(RealFiles(sys.argv[1]), segment_bytes=1)\n"
        "for state in (b'1', b'2'):\n"
        "    journal.commit([StateRecord(state)])\n"
        "    for stream in range(3):\n"
        "        try:\n"
        "            os.write(stream, b'something that was worth a line')\n"
        "        except OSError:\n"
        "            continue\n"
        "os._exit(0)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=root, timeout=30)
    assert open_journal(RealFiles(tmp_path)).recovered.state == b"2"


def test_files_refuse_a_second_lock_of_their_own(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    files.lock()
    with pytest.raises(DirectoryInUseError, match="by this process already"):
        files.lock()
    files.unlock()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailedError, match="making"):
        open_journal(RealFiles(tmp_path / "file" / "data"))


def test_a_directory_that_cannot_even_be_looked_for(tmp_path: Path) -> None:
    files = RealFiles(tmp_path / ("x" * 300))
    for look in (files.lock, files.names):
        with pytest.raises(StorageFailedError, match=r"looking for .* failed: File name too long"):
            look()


def test_a_process_that_goes_elsewhere_keeps_its_files_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next segment, with what was acknowledged, lay in another directory of that name, and a restart missed it."""
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    files = RealFiles("data")
    journal = open_journal(files, segment_bytes=1)
    journal.commit([StateRecord(b"here")])
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.commit([StateRecord(b"and still here")])
    assert len(files.names()) == 3
    journal.close()
    assert open_journal(RealFiles(tmp_path / "data")).recovered.state == b"and still here"
    assert list((tmp_path / "elsewhere" / "data").iterdir()) == []


def test_a_relative_directory_from_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StorageFailedError, match="finding data failed: No such file or directory"):
        RealFiles("data")


def test_sync_times_come_from_the_clock_that_was_given(tmp_path: Path) -> None:
    ticks = iter([100, 130, 200, 210])
    journal = Journal.open(
        RealFiles(tmp_path),
        cluster=b"cluster1",
        replica=1,
        protocol="vsr",
        create_incarnation=lambda: 1,
        clock=lambda: next(ticks),
    )
    journal.commit([entries(1, [b"one"])])
    journal.commit([entries(2, [b"two"])])
    statistics = journal.statistics()
    assert (statistics.last_sync_ns, statistics.maximum_sync_ns) == (10, 30)
    journal.close()
    with pytest.raises(JournalClosedError):
        journal.sync()
