"""The few operations on files that the journal is written over, and their real form.

The same journal code runs on `RealFiles` and on the simulated disk. All calls block.

Two threads may be at work at a time, the journal's writer and one that reads and writes snapshots, each with its own
handles and names. What they share in `RealFiles` is the table of handles and the directory's one descriptor, so that
each of these has a lock. `lock` and `unlock` are for when nothing else is under way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

from viewstamp.journal.errors import DirectoryInUseError, StorageFailedError, storage_failed
from viewstamp.journal.spares import Spares

LOCK_NAME = "lock"
_NO_ROOM = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)


class Files(ABC):
    """The files of one directory. A handle is a number that `create` or `open` gave.

    A call that fails raises `StorageFailedError`; what it leaves behind is unknown, and the caller must not go on
    writing. Nothing is durable before `sync` (contents) or `sync_directory` (names) has returned.
    """

    in_memory: ClassVar[bool] = False
    """Whether no call takes any time, so that none needs a thread."""

    is_volatile: ClassVar[bool] = False
    """Whether nothing outlives the process, so that a journal need not be written: nobody will ever read it."""

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
    def read_at(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset` on; fewer, or none, where the file ends.

        A cache may answer: this is for files that were synced by whoever wrote them, before anyone was told of them.
        """

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
    def reserve(self, handle: int, size: int) -> None:
        """Make room: up to `size` the file may read as zeros beyond what was appended, and appends go there.

        A file that does not grow needs no new size on disk with every `sync`, which makes it quicker. The room is
        left when the file is closed, and a file that is opened again is appended to behind it: `truncate` it first.
        """

    @abstractmethod
    def truncate(self, handle: int, size: int) -> None:
        """Cut a file to `size` bytes, its room too; durable with its next `sync`."""

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Give a file another name, at once in place of a file that has it; durable with the next `sync_directory`."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; durable with the next `sync_directory`."""

    @abstractmethod
    def sync_directory(self) -> None:
        """Make the names durable."""


@dataclass(slots=True)
class _Opened:
    """A handle's file. The numbers of handles are never used again, unlike those of descriptors."""

    descriptor: int
    file: str
    end: int
    is_resized: bool = False


class RealFiles(Files):
    """A directory of the file system. Nothing is touched before `lock`, `names` or `read` is called.

    A relative path is meant from where the process is now: wherever it goes later, as a service that becomes a daemon
    does, the files stay together.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with _reported("finding", str(path)):
            self._path = Path(path).absolute()
        self._lock: int | None = None
        self._directory: int | None = None
        self._table_lock = threading.Lock()
        self._table: dict[int, _Opened] = {}
        self._last_handle = 0
        self._spares = Spares()
        self._directory_lock = threading.Lock()
        self._directory_failure: StorageFailedError | None = None

    @property
    def location(self) -> str:
        return str(self._path)

    def lock(self) -> None:
        if self._lock is not None:
            raise DirectoryInUseError(f"{self._path} is in use by this process already")
        self._make_directory()
        target = str(self._path / LOCK_NAME)
        with _reported("opening", target):
            descriptor = _no_standard_stream(os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with _reported("locking", target):
                self._flock(descriptor)
            with _reported("opening", str(self._path)):
                directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._directory = _no_standard_stream(directory)
        except (StorageFailedError, DirectoryInUseError):
            os.close(descriptor)
            raise
        self._lock = descriptor
        self._spares.keep(self._directory)
        self._directory_failure = None
        _holders.add(self)

    def _flock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryInUseError(f"{self._path} is in use by another process") from None

    def _make_directory(self) -> None:
        """Make the directory durably: a member whose whole directory vanished in a power loss would look blank."""
        missing = [path for path in (self._path, *self._path.parents) if not _exists(path)]
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
        self._spares.release()
        for handle in list(self._table):
            self.close(handle)
        for descriptor in (self._directory, self._lock):
            if descriptor is not None:
                _close(descriptor)
        self._directory = self._lock = None

    def leave_to_parent(self) -> None:
        """In a child process that was forked: the lock is the parent's alone.

        It belongs to whoever has a copy of its descriptor. A pool of worker processes would hold the directory after
        the service that forked them has closed it, or was killed.
        """
        if self._lock is not None:
            _close(self._lock)
            self._lock = None

    def names(self) -> list[str]:
        if not _exists(self._path):
            return []
        with _reported("listing", str(self._path)):
            with self._spares.opening(lambda: os.scandir(self._path)) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            self._spares.refill()
            return names

    def size(self, name: str) -> int:
        with _reported("examining", self._full(name)):
            return os.stat(self._path / name).st_size

    def read(self, name: str) -> bytes:
        path = self._path / name
        with _reported("reading", str(path)), self._spares.opening(lambda: FileIO(path)) as file:
            # After a failed sync, in an earlier life, the cache can show data as clean that never reached the disk.
            # Dropping clean pages makes this read see what a power loss would leave.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.readall()

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        with _reported("reading", self._full(name)):
            descriptor = self._spares.opening(lambda: os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC))
            try:
                data = os.pread(descriptor, size, offset)
                while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
                    data += more
                return data
            finally:
                _close(descriptor)
                self._spares.refill()

    def create(self, name: str) -> int:
        return self._open(name, "creating", os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> int:
        return self._open(name, "opening", os.O_WRONLY | os.O_CLOEXEC)

    def _open(self, name: str, operation: str, flags: int) -> int:
        with _reported(operation, self._full(name)):
            descriptor = _no_standard_stream(self._spares.opening(lambda: os.open(self._path / name, flags, 0o600)))
            end = os.fstat(descriptor).st_size
        with self._table_lock:
            self._last_handle += 1
            self._table[self._last_handle] = _Opened(descriptor, self._full(name), end)
            return self._last_handle

    def _opened(self, handle: int) -> _Opened:
        opened = self._table.get(handle)
        if opened is None:  # a stale number must never be taken for the descriptor of another file, or of a socket
            raise storage_failed(str(self._path), "using a closed file of", errno.EBADF)
        return opened

    def close(self, handle: int) -> None:
        with self._table_lock:
            opened = self._table.pop(handle)
        _close(opened.descriptor)
        self._spares.refill()

    def append(self, handle: int, blob: bytes) -> None:
        opened = self._opened(handle)
        descriptor, end, total = opened.descriptor, opened.end, len(blob)
        try:
            written = os.pwrite(descriptor, blob, end)
            # A write may be short, near a full disk or a size limit, without an error.
            while written < total:
                more = os.pwrite(descriptor, memoryview(blob)[written:], end + written)
                if not more:
                    break
                written += more
        except OSError as error:
            raise storage_failed(opened.file, "writing to", error.errno) from error
        opened.end = end + written
        if written < total:
            raise storage_failed(opened.file, "writing to", errno.EIO)

    def sync(self, handle: int) -> None:
        opened = self._opened(handle)
        try:
            if opened.is_resized:
                os.fsync(opened.descriptor)  # a size that was set is metadata that fdatasync may leave out
                opened.is_resized = False
            else:
                os.fdatasync(opened.descriptor)
        except OSError as error:
            raise storage_failed(opened.file, "syncing", error.errno) from error

    def reserve(self, handle: int, size: int) -> None:
        # Zeros, written: into blocks that are only set aside, or not even that, each first write changes where the file
        # lies, and its sync waits for the file system's own journal too. That takes half as long again, and more.
        opened = self._opened(handle)
        try:
            before = os.fstat(opened.descriptor).st_size
            opened.is_resized = opened.is_resized or before < size
            _write_zeros(opened.descriptor, before, size)
        except OSError as error:
            raise storage_failed(opened.file, "extending", error.errno) from error

    def truncate(self, handle: int, size: int) -> None:
        opened = self._opened(handle)
        with _reported("cutting", opened.file):
            os.ftruncate(opened.descriptor, size)
        opened.end = min(opened.end, size)
        opened.is_resized = True

    def rename(self, source: str, target: str) -> None:
        with _reported("renaming", self._full(source)):
            os.rename(self._path / source, self._path / target)

    def remove(self, name: str) -> None:
        with _reported("removing", self._full(name)):
            os.unlink(self._path / name)

    def sync_directory(self) -> None:
        if self._directory is None:
            raise storage_failed(str(self._path), "syncing", errno.EBADF)
        # The system reports an error to one caller only: another thread must not take its own sync for a success.
        with self._directory_lock:
            failure = self._directory_failure
            if failure is not None:
                raise StorageFailedError(failure.file, failure.operation, failure.errno, failure.reason) from failure
            try:
                os.fsync(self._directory)
            except OSError as error:
                self._directory_failure = storage_failed(str(self._path), "syncing", error.errno)
                raise self._directory_failure from error

    def _full(self, name: str) -> str:
        return str(self._path / name)


@contextmanager
def _reported(operation: str, file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_failed(file, operation, error.errno) from error


def _exists(path: Path) -> bool:
    """Whether it does. That nobody can tell, as within a directory that may not be searched, is an error as others."""
    with _reported("looking for", str(path)):
        return path.exists()


def _write_zeros(descriptor: int, start: int, end: int) -> None:
    position = start
    try:
        while position < end and (written := os.pwrite(descriptor, bytes(end - position), position)):
            position += written
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        os.ftruncate(descriptor, start)  # What is to be written next may fit; if not, writing it will tell.


def _no_standard_stream(descriptor: int) -> int:
    """The same file under a number above 2. Where a service has closed its standard streams, a file that is opened gets
    the number of one: what is still printed or logged goes to its beginning, and who opens new ones closes it."""
    if descriptor > 2:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        _close(descriptor)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


_holders: WeakSet[RealFiles] = WeakSet()


def _leave_all_to_parent() -> None:
    for files in tuple(_holders):
        files.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
