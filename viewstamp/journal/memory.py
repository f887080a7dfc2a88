"""Files that nothing is left of when the process ends: what a cluster with `storage = "memory"` keeps its data in."""

from __future__ import annotations

from errno import EBADF, EEXIST, ENOENT

from viewstamp.journal.errors import DirectoryInUseError, storage_failed
from viewstamp.journal.files import Files
from viewstamp.journal.format import segment_number


class _File:
    """`size` is what was appended; `data` is all of it, or what there was when the file became a segment."""

    __slots__ = ("data", "is_segment", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.is_segment = False


class MemoryFiles(Files):
    """A directory in memory that begins empty at every `lock`, and is empty again after `unlock`.

    Snapshots are kept, as on a disk: other members fetch them, and this one loads those that it fetched. The segments
    of a journal are kept up to where they get their name, which is their header; of what is appended after that nothing
    is kept but its size, since only the next start would read it, and the next start finds nothing.

    One thread may read while another one writes.
    """

    in_memory = True
    is_volatile = True

    def __init__(self, location: str = "memory") -> None:
        self._location = location
        self._names: dict[str, _File] = {}
        self._handles: dict[int, _File] = {}
        self._last_handle = 0
        self._locked = False

    @property
    def location(self) -> str:
        return self._location

    def lock(self) -> None:
        if self._locked:
            raise DirectoryInUseError(f"{self._location} is in use by this process already")
        self._locked = True

    def unlock(self) -> None:
        self._handles.clear()
        self._names.clear()
        self._locked = False

    def names(self) -> list[str]:
        return sorted(self._names)

    def size(self, name: str) -> int:
        return self._file(name, "examining").size

    def read(self, name: str) -> bytes:
        return bytes(self._file(name, "reading").data)

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        return bytes(self._file(name, "reading").data[offset : offset + size])

    def create(self, name: str) -> int:
        if name in self._names:
            raise storage_failed(self._full(name), "creating", EEXIST)
        self._names[name] = _File()
        return self.open(name)

    def open(self, name: str) -> int:
        file = self._file(name, "opening")
        self._last_handle += 1
        self._handles[self._last_handle] = file
        return self._last_handle

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def append(self, handle: int, blob: bytes) -> None:
        file = self._behind(handle)
        file.size += len(blob)
        if not file.is_segment:
            file.data += blob

    def sync(self, handle: int) -> None:
        self._behind(handle)

    def reserve(self, handle: int, size: int) -> None:
        """Nothing: no sync takes any time."""

    def truncate(self, handle: int, size: int) -> None:
        file = self._behind(handle)
        file.size = min(file.size, size)
        del file.data[size:]

    def rename(self, source: str, target: str) -> None:
        file = self._file(source, "renaming")
        file.is_segment = segment_number(target) is not None
        self._names[target] = file
        if source != target:
            del self._names[source]

    def remove(self, name: str) -> None:
        self._file(name, "removing")
        del self._names[name]

    def sync_directory(self) -> None:
        """Nothing: no name outlives the process, and none needs to."""

    def _file(self, name: str, operation: str) -> _File:
        file = self._names.get(name)
        if file is None:
            raise storage_failed(self._full(name), operation, ENOENT)
        return file

    def _behind(self, handle: int) -> _File:
        file = self._handles.get(handle)
        if file is None:
            raise storage_failed(self._location, "using a closed file of", EBADF)
        return file

    def _full(self, name: str) -> str:
        return f"{self._location}/{name}"
