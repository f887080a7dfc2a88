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
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import ClassVar
from weakref import WeakSet

from viewstamp.journal.errors import DirectoryInUseError, StorageFailedError, storage_failed
from viewstamp.journal.spares import Spares
from viewstamp.journal.system import close_quietly, exists, is_at, is_removed, no_standard_stream, reported, write_zeros

LOCK_NAME = "lock"
LOOK_AGAIN_S = 0.1


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
        with reported("finding", str(path)):
            self._path = Path(path).absolute()
        self._location = str(self._path)
        self._lock: int | None = None
        self._directory: int | None = None
        self._look_at = 0.0
        self._told: os.stat_result | None = None
        """Of the directory, when it was locked; None where the file system gives no numbers to know it by."""
        self._table_lock = threading.Lock()
        self._table: dict[int, _Opened] = {}
        self._last_handle = 0
        self._spares = Spares()
        self._directory_lock = threading.Lock()
        self._directory_failure: StorageFailedError | None = None

    @property
    def location(self) -> str:
        return self._location

    def lock(self) -> None:
        if self._lock is not None:
            raise DirectoryInUseError(f"{self._path} is in use by this process already")
        self._make_directory()
        target = str(self._path / LOCK_NAME)
        with reported("opening", target):
            descriptor = no_standard_stream(os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with reported("locking", target):
                self._flock(descriptor)
            with reported("opening", str(self._path)):
                directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._directory = no_standard_stream(directory)
                told = os.fstat(self._directory)
                self._told = told if is_at(self._location, told) and os.fstat(descriptor).st_nlink else None
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
        missing = [path for path in (self._path, *self._path.parents) if not exists(path)]
        for path in reversed(missing):
            with reported("making", str(path)):
                path.mkdir(mode=0o700, exist_ok=True)
            with reported("syncing", str(path.parent)):
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
                close_quietly(descriptor)
        self._directory = self._lock = None

    def leave_to_parent(self) -> None:
        """In a child process that was forked: the lock is the parent's alone.

        It belongs to whoever has a copy of its descriptor. A pool of worker processes would hold the directory after
        the service that forked them has closed it, or was killed.
        """
        if self._lock is not None:
            close_quietly(self._lock)
            self._lock = None

    def names(self) -> list[str]:
        if self._directory is None and not exists(self._path):
            return []
        with reported("listing", str(self._path)), self._directory_lock:
            with self._spares.opening(lambda: os.scandir(self._directory or self._path)) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            self._spares.refill()
            return names

    def size(self, name: str) -> int:
        with reported("examining", self._full(name)):
            return os.stat(self._name(name), dir_fd=self._directory).st_size

    def read(self, name: str) -> bytes:
        with reported("reading", self._full(name)), FileIO(self._open_at(name, os.O_RDONLY)) as file:
            # After a failed sync, in an earlier life, the cache can show data as clean that never reached the disk.
            # Dropping clean pages makes this read see what a power loss would leave.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.readall()

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        with reported("reading", self._full(name)):
            descriptor = self._open_at(name, os.O_RDONLY)
            try:
                data = os.pread(descriptor, size, offset)
                while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
                    data += more
                return data
            finally:
                close_quietly(descriptor)
                self._spares.refill()

    def create(self, name: str) -> int:
        return self._open(name, "creating", os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> int:
        return self._open(name, "opening", os.O_WRONLY)

    def _open(self, name: str, operation: str, flags: int) -> int:
        with reported(operation, self._full(name)):
            try:
                descriptor = no_standard_stream(self._open_at(name, flags))
            except FileNotFoundError:
                self._refuse_if_gone()
                raise
            end = os.fstat(descriptor).st_size
        with self._table_lock:
            self._last_handle += 1
            self._table[self._last_handle] = _Opened(descriptor, self._full(name), end)
            return self._last_handle

    def _open_at(self, name: str, flags: int) -> int:
        at, flags = self._name(name), flags | os.O_CLOEXEC
        return self._spares.opening(lambda: os.open(at, flags, 0o600, dir_fd=self._directory))

    def _name(self, name: str) -> str:
        """Within the directory that was locked, wherever that is now: another in its place is not to be touched."""
        return name if self._directory is not None else self._full(name)

    def _opened(self, handle: int) -> _Opened:
        opened = self._table.get(handle)
        if opened is None:  # a stale number must never be taken for the descriptor of another file, or of a socket
            raise storage_failed(str(self._path), "using a closed file of", errno.EBADF)
        return opened

    def close(self, handle: int) -> None:
        with self._table_lock:
            opened = self._table.pop(handle)
        close_quietly(opened.descriptor)
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
            # Not each time: to look takes a tenth of what a lone caller waits for, where caches are cold.
            if monotonic() >= self._look_at:
                self._look_at = monotonic() + LOOK_AGAIN_S
                self._refuse_if_gone(opened.descriptor)
        except OSError as error:
            raise storage_failed(opened.file, "syncing", error.errno) from error

    def _refuse_if_gone(self, descriptor: int | None = None) -> None:
        """What is synced is promised, and no restart would find it after somebody has moved or removed the directory,
        all that is in it, or this file. Found out within LOOK_AGAIN_S, it is a disk that was lost so much later."""
        if self._told is None:
            return
        gone = is_at(self._location, self._told) is False
        if gone or is_removed(self._lock) or is_removed(descriptor):
            reason = "it was moved, removed or replaced while this member ran"
            raise StorageFailedError(self._location, "writing to", errno.ENOENT, reason)

    def reserve(self, handle: int, size: int) -> None:
        # Zeros, written: into blocks that are only set aside, or not even that, each first write changes where the file
        # lies, and its sync waits for the file system's own journal too. That takes half as long again, and more.
        opened = self._opened(handle)
        try:
            before = os.fstat(opened.descriptor).st_size
            opened.is_resized = opened.is_resized or before < size
            write_zeros(opened.descriptor, before, size)
        except OSError as error:
            raise storage_failed(opened.file, "extending", error.errno) from error

    def truncate(self, handle: int, size: int) -> None:
        opened = self._opened(handle)
        with reported("cutting", opened.file):
            os.ftruncate(opened.descriptor, size)
        opened.end = min(opened.end, size)
        opened.is_resized = True

    def rename(self, source: str, target: str) -> None:
        with reported("renaming", self._full(source)):
            here = self._directory
            os.rename(self._name(source), self._name(target), src_dir_fd=here, dst_dir_fd=here)

    def remove(self, name: str) -> None:
        with reported("removing", self._full(name)):
            os.unlink(self._name(name), dir_fd=self._directory)

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
                self._refuse_if_gone()
            except OSError as error:
                self._directory_failure = storage_failed(str(self._path), "syncing", error.errno)
                raise self._directory_failure from error

    def _full(self, name: str) -> str:
        return str(self._path / name)


_holders: WeakSet[RealFiles] = WeakSet()


def _leave_all_to_parent() -> None:
    for files in tuple(_holders):
        files.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
