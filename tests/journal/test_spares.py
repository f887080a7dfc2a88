"""A process that has no file descriptor left: the journal has what it needs already."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.journal.support import image_of, images, open_journal, scenario
from viewstamp.journal import RealFiles, StorageFailedError


@contextmanager
def nothing_left(room: int = 0) -> Iterator[None]:
    """As in a service whose connections have taken all descriptors that the process may have, but for `room`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(taken) + 30, before[0]), before[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        for _ in range(room):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_journal_goes_on_without_a_free_descriptor_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(RealFiles(tmp_path), segment_bytes=600)
    with nothing_left():
        for records in scenario():
            journal.commit(records)
    assert journal.statistics().segments > 1
    journal.close()
    again = open_journal(RealFiles(tmp_path))
    assert image_of(again) == images(scenario())[-1]
    again.close()
    (told,) = caplog.messages
    assert told.startswith("Too many open files: the journal goes on")


def test_all_that_a_member_opens_at_a_time_finds_a_descriptor(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    files.lock()
    with nothing_left():
        for _ in range(3):  # Each is taken back when it is free again.
            handles = [files.create(name) for name in ("segment", "snapshot.new", "another")]
            for handle in handles:
                files.append(handle, b"text")
            assert files.read_at("segment", 1, 2) == b"ex"
            assert files.names() == ["another", "lock", "segment", "snapshot.new"]
            for handle in handles:
                files.close(handle)
            for name in ("segment", "snapshot.new", "another"):
                files.remove(name)
    files.unlock()


def test_too_many_at_a_time_are_an_error_and_what_was_given_up_is_taken_back(tmp_path: Path) -> None:
    files = RealFiles(tmp_path)
    files.lock()
    with nothing_left():
        handles = [files.create(f"file {number}") for number in range(4)]
        with pytest.raises(StorageFailedError, match="Too many open files") as refused:
            files.create("one more")
        assert refused.value.errno == errno.EMFILE
        files.close(handles.pop())
        files.close(files.create("one more"))
    files.unlock()


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    files = RealFiles(tmp_path)
    for _ in range(3):
        files.lock()
        with nothing_left():
            files.close(files.create("file"))
        files.remove("file")
        files.unlock()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_is_opened_with_hardly_any_descriptor_left(tmp_path: Path) -> None:
    """Less to spare is no reason to refuse."""
    files = RealFiles(tmp_path)
    with nothing_left(room=4):
        files.lock()
        files.append(files.create("file"), b"text")
        assert files.names() == ["file", "lock"]
        assert files.read("file") == b"text"
    files.unlock()
