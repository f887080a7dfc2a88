"""The few operations on files that the journal is written over, and their real form.

The same journal code runs on `RealFiles` and on the simulated disk. All calls block.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from viewstamp.journal.errors import DirectoryInUseError, StorageFailedError, storage_failed

LOCK_NAME = "lock"


class Files(ABC):
    """The files of one directory. A handle is a number that `create` or `open` gave.

    A call that fails raises `StorageFailedError`; what it leaves behind is unknown, and the caller must not go on
    writing. Nothing is durable before `sync` (contents) or `sync_directory` (names) has returned.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Where this is, for messages to people."""

    @abstractmethod
    def lock(self) -> None:
        """Take the directory for this process alone, making it first if it is missing.

        Raises:
          DirectoryInUseError: someone else has it.
        """

    @abstractmethod
    def unlock(self) -> None:
        """Give the directory up and forget all handles. Never raises; harmless without a lock."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all files, sorted; none if there is no directory."""

    @abstractmethod
    def size(self, name: str) -> int:
        """The size of a file, in bytes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole contents of a file, as the disk has them rather than as a cache remembers them."""

    @abstractmethod
    def create(self, name: str) -> int:
        """Make a new, empty file, which must not exist, and open it for append."""

    @abstractmethod
    def open(self, name: str) -> int:
        """Open an existing file for append."""

    @abstractmethod
    def close(self, handle: int) -> None:
        """Close a handle. Never raises: what matters has been synced before."""

    @abstractmethod
    def append(self, handle: int, blob: bytes) -> None:
        """Write all of `blob` at the end."""

    @abstractmethod
    def sync(self, handle: int) -> None:
        """Make the contents of a file durable, and its size."""

    @abstractmethod
    def truncate(self, handle: int, size: int) -> None:
        """Cut a file to `size` bytes; durable with its next `sync`."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Give a file another name; durable with the next `sync_directory`."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; durable with the next `sync_directory`."""

    @abstractmethod
    def sync_directory(self) -> None:
        """Make the names durable."""


class RealFiles(Files):
    """A directory of the file system. Nothing is touched before `lock`, `names` or `read` is called."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock: int | None = None
        self._directory: int | None = None
        self._open: dict[int, str] = {}
        self._truncated: set[int] = set()

    @property
    def location(self) -> str:
        return str(self._path)

    def lock(self) -> None:
        if self._lock is not None:
            raise DirectoryInUseError(f"{self._path} is in use by this process already")
        self._make_directory()
        target = str(self._path / LOCK_NAME)
        with _reported("opening", target):
            descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _reported("locking", target):
                self._flock(descriptor)
            with _reported("opening", str(self._path)):
                self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (StorageFailedError, DirectoryInUseError):
            os.close(descriptor)
            raise
        self._lock = descriptor

    def _flock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUseError(f"{self._path} is in use by another process") from None

    def _make_directory(self) -> None:
        """Make the directory durably: a member whose whole directory vanished in a power loss would look blank."""
        missing = [path for path in (self._path, *self._path.parents) if not path.exists()]
        for path in reversed(missing):
            with _reported("making", str(path)):
                path.mkdir(mode=0o700, exist_ok=True)
            with _reported("syncing", str(path.parent)):
                parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(parent)
                finally:
                    os.close(parent)

    def unlock(self) -> None:
        for handle in list(self._open):
            self.close(handle)
        for descriptor in (self._directory, self._lock):
            if descriptor is not None:
                _close(descriptor)
        self._directory = self._lock = None

    def names(self) -> list[str]:
        if not self._path.exists():
            return []
        with _reported("listing", str(self._path)):
            return sorted(entry.name for entry in os.scandir(self._path) if entry.is_file(follow_symlinks=False))

    def size(self, name: str) -> int:
        with _reported("examining", self._full(name)):
            return os.stat(self._path / name).st_size

    def read(self, name: str) -> bytes:
        with _reported("reading", self._full(name)), open(self._path / name, "rb", buffering=0) as file:
            # After a failed sync, in an earlier life, the cache can show data as clean that never reached the disk.
            # Dropping clean pages makes this read see what a power loss would leave.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.readall()

    def create(self, name: str) -> int:
        return self._opened(name, "creating", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> int:
        return self._opened(name, "opening", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _opened(self, name: str, operation: str, flags: int) -> int:
        with _reported(operation, self._full(name)):
            handle = os.open(self._path / name, flags, 0o600)
        self._open[handle] = self._full(name)
        return handle

    def close(self, handle: int) -> None:
        del self._open[handle]
        self._truncated.discard(handle)
        _close(handle)

    def append(self, handle: int, blob: bytes) -> None:
        total = len(blob)
        try:
            written = os.write(handle, blob)
            # A write may be short, near a full disk or a size limit, without an error.
            while written < total:
                more = os.write(handle, memoryview(blob)[written:])
                if not more:
                    break
                written += more
        except OSError as error:
            raise storage_failed(self._open[handle], "writing to", error.errno) from error
        if written < total:
            raise storage_failed(self._open[handle], "writing to", errno.EIO)

    def sync(self, handle: int) -> None:
        try:
            if handle in self._truncated:
                os.fsync(handle)  # a smaller size is metadata that fdatasync may leave out
                self._truncated.discard(handle)
            else:
                os.fdatasync(handle)
        except OSError as error:
            raise storage_failed(self._open[handle], "syncing", error.errno) from error

    def truncate(self, handle: int, size: int) -> None:
        with _reported("cutting", self._open[handle]):
            os.ftruncate(handle, size)
        self._truncated.add(handle)

    def rename(self, source: str, target: str) -> None:
        with _reported("renaming", self._full(source)):
            os.rename(self._path / source, self._path / target)

    def remove(self, name: str) -> None:
        with _reported("removing", self._full(name)):
            os.unlink(self._path / name)

    def sync_directory(self) -> None:
        if self._directory is None:
            raise storage_failed(str(self._path), "syncing", errno.EBADF)
        with _reported("syncing", str(self._path)):
            os.fsync(self._directory)

    def _full(self, name: str) -> str:
        return str(self._path / name)


@contextmanager
def _reported(operation: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_failed(file, operation, error.errno) from error


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
