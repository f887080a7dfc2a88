"""Calls of the operating system, as `RealFiles` needs them, and how their errors are told."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from viewstamp.journal.errors import storage_failed

_NO_ROOM = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)


@contextmanager
def reported(operation: str, file: str) -> Iterator[None]:
    """Whatever the system refuses within is told as what was done to this file."""
    try:
        yield
    except OSError as error:
        raise storage_failed(file, operation, error.errno) from error


def exists(path: Path) -> bool:
    """Whether it does. That nobody can tell, as within a directory that may not be searched, is an error as others.

    Not `Path.exists`: from Python 3.14 on it takes every error for a no, and a journal would be begun beside one that
    cannot be seen just now.
    """
    with reported("looking for", str(path)):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def write_zeros(descriptor: int, start: int, end: int) -> None:
    """Make room in a file, from its end `start` on; where there is none, leave it as it was."""
    position = start
    try:
        while position < end and (written := os.pwrite(descriptor, bytes(end - position), position)):
            position += written
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        os.ftruncate(descriptor, start)  # What is to be written next may fit; if not, writing it will tell.


def no_standard_stream(descriptor: int) -> int:
    """The same file under a number above 2. Where a service has closed its standard streams, a file that is opened gets
    the number of one: what is still printed or logged goes to its beginning, and who opens new ones closes it."""
    if descriptor > 2:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        close_quietly(descriptor)


def close_quietly(descriptor: int) -> None:
    """Close it, whatever the system says: what matters has been synced before."""
    with suppress(OSError):
        os.close(descriptor)


def is_at(path: str, known: os.stat_result) -> bool | None:
    """Whether the file or directory that this was told of is found there; None if nobody can tell."""
    try:
        return os.path.samestat(os.stat(path), known)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None  # as where the process gave up its rights to look


def is_removed(descriptor: int | None) -> bool:
    """Whether this open file has no name any more."""
    return descriptor is not None and not os.fstat(descriptor).st_nlink
