"""What can go wrong with a journal; `str()` of each error is one line fit for a terminal."""

from __future__ import annotations

import os


class JournalError(Exception):
    """The journal cannot be used, or not any longer."""


class WrongJournalError(JournalError):
    """The directory belongs to another cluster, replica or protocol."""


class JournalFormatError(JournalError):
    """The directory was written in a format version that this program does not know."""


class DirectoryInUseError(JournalError):
    """Another process, or another journal of this one, has the directory open."""


class JournalClosedError(JournalError):
    """The journal was closed before this call."""


class JournalCorruptError(JournalError):
    """What the disk holds is not what was written: the member has lost its disk.

    `file`, in `directory` if that is known, and `offset` (in bytes) tell where reading stopped, `reason` why.
    """

    def __init__(self, file: str, offset: int, reason: str, directory: str = "") -> None:
        where = f"{directory}/{file}" if directory else file
        super().__init__(f"{where} is damaged at byte {offset}: {reason}")
        self.file = file
        self.directory = directory
        self.offset = offset
        self.reason = reason


class StorageFailedError(JournalError):
    """The operating system reported an error, and nothing more may be written in this life of the process.

    Linux marks the pages of a failed sync as clean, so that a second sync succeeds and the data is lost
    (Rebello et al., ATC 2020). So nothing is ever tried again: the replica stops, and its next life reads what is
    there.
    """

    def __init__(self, file: str, operation: str, errno: int, reason: str) -> None:
        super().__init__(f"{operation} {file} failed: {reason}")
        self.file = file
        self.operation = operation
        self.errno = errno
        self.reason = reason


def storage_failed(file: str, operation: str, errno: int | None) -> StorageFailedError:
    """A `StorageFailedError` with the system's own words for `errno`."""
    number = errno or 0
    return StorageFailedError(file, operation, number, os.strerror(number) if number else "unknown error")
