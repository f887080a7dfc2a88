"""A disk in memory that fails the way disks fail, decided by a seeded random number generator.

What a process asks for passes three levels. *Asked*: the call is under way, and a crash inside it leaves any part of it
done. *Written*: the call returned, the operating system has it, and it survives the process. *Synced*: it survives the
power. Losing the power keeps, of what was not synced, whatever the generator says: a prefix, single sectors,
zeros or rubbish in their place, old contents that were cut off, and of the names any of the changes.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF, EEXIST, EIO, ENOENT
from random import Random

from viewstamp.journal.errors import DirectoryInUseError, storage_failed
from viewstamp.journal.files import Files
from viewstamp.journal.simulated_faults import Crash, DeadProcessError, Operation, SimulatedCrashError
from viewstamp.journal.simulated_file import SECTOR_BYTES, SimulatedFile

__all__ = [
    "SECTOR_BYTES",
    "Crash",
    "DeadProcessError",
    "Operation",
    "SimulatedCrashError",
    "SimulatedDisk",
    "SimulatedFiles",
]


class SimulatedFiles(Files):
    """One process's view of a `SimulatedDisk`, from `SimulatedDisk.files`; dead after a crash."""

    in_memory = True

    def __init__(self, platter: _Platter) -> None:
        """Not to be called but by `SimulatedDisk.files`."""
        self._platter = platter
        self._life = platter.life
        self._handles: dict[int, tuple[SimulatedFile, str]] = {}
        self._next_handle = 1

    @property
    def is_dead(self) -> bool:
        """Whether the process that these belong to has ended."""
        return self._life != self._platter.life

    @property
    def location(self) -> str:
        return self._platter.location

    def lock(self) -> None:
        self._require_life()
        if self._platter.owner is not None:
            raise DirectoryInUseError(f"{self.location} is in use by another process")
        self._platter.owner = self

    def unlock(self) -> None:
        self._handles.clear()
        if self._platter.owner is self:
            self._platter.owner = None

    def names(self) -> list[str]:
        self._require_life()
        return sorted(self._platter.names)

    def size(self, name: str) -> int:
        self._require_life()
        return self._file(name, "examining").size

    def read(self, name: str) -> bytes:
        self._require_life()
        return self._file(name, "reading").on_disk()

    def read_at(self, name: str, offset: int, size: int) -> bytes:
        self._require_life()
        return self._file(name, "reading").on_disk(offset, size)

    def create(self, name: str) -> int:
        platter = self._begin()
        if name in platter.names:
            raise storage_failed(self._label(name), Operation.CREATE.value, EEXIST)
        file = SimulatedFile()
        self._change_names(Operation.CREATE, name, [(name, file)])
        return self._opened(name, file)

    def open(self, name: str) -> int:
        self._require_life()
        file = self._file(name, "opening")
        file.fill_room()
        return self._opened(name, file)

    def _opened(self, name: str, file: SimulatedFile) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = file, self._label(name)
        return handle

    def close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    def append(self, handle: int, blob: bytes) -> None:
        platter = self._begin()
        file, label = self._behind(handle)
        fate = platter.fate(Operation.WRITE, label)
        if fate is None:
            file.current += blob
            return
        file.current += blob[: platter.random.randrange(len(blob) + 1)]
        platter.suffer(fate, Operation.WRITE, label)

    def sync(self, handle: int) -> None:
        platter = self._begin()
        file, label = self._behind(handle)
        fate = platter.fate(Operation.SYNC, label)
        if fate is None:
            file.sync()
            return
        if isinstance(fate, Crash):
            if platter.random.random() < 0.5:
                file.sync()
        else:
            file.lose_dirty(platter.random)
        platter.suffer(fate, Operation.SYNC, label)

    def reserve(self, handle: int, size: int) -> None:
        platter = self._begin()
        file, label = self._behind(handle)
        fate = platter.fate(Operation.RESERVE, label)
        if fate is None or (isinstance(fate, Crash) and platter.random.random() < 0.5):
            file.room = max(file.room, size)
        if fate is not None:
            platter.suffer(fate, Operation.RESERVE, label)

    def truncate(self, handle: int, size: int) -> None:
        platter = self._begin()
        file, label = self._behind(handle)
        fate = platter.fate(Operation.TRUNCATE, label)
        if fate is None or (isinstance(fate, Crash) and platter.random.random() < 0.5):
            file.truncate(size)
        if fate is not None:
            platter.suffer(fate, Operation.TRUNCATE, label)

    def rename(self, source: str, target: str) -> None:
        self._begin()
        file = self._file(source, Operation.RENAME.value)
        self._change_names(Operation.RENAME, source, [(source, None), (target, file)])

    def remove(self, name: str) -> None:
        self._begin()
        self._file(name, Operation.REMOVE.value)
        self._change_names(Operation.REMOVE, name, [(name, None)])

    def _change_names(self, operation: Operation, name: str, change: _Change) -> None:
        platter, label = self._platter, self._label(name)
        fate = platter.fate(operation, label)
        if fate is None or (isinstance(fate, Crash) and platter.random.random() < 0.5):
            _apply(platter.names, change)
            platter.unsynced.append(change)
        if fate is not None:
            platter.suffer(fate, operation, label)

    def sync_directory(self) -> None:
        platter = self._begin()
        fate = platter.fate(Operation.SYNC_DIRECTORY, self.location)
        if fate is None or (isinstance(fate, Crash) and platter.random.random() < 0.5):
            platter.sync_names()
        elif not isinstance(fate, Crash):
            platter.lose_names()
        if fate is not None:
            platter.suffer(fate, Operation.SYNC_DIRECTORY, self.location)

    def _begin(self) -> _Platter:
        self._require_life()
        self._platter.operations += 1
        return self._platter

    def _require_life(self) -> None:
        if self.is_dead:
            raise DeadProcessError(f"a process that has crashed used its files in {self.location}")

    def _file(self, name: str, operation: str) -> SimulatedFile:
        file = self._platter.names.get(name)
        if file is None:
            raise storage_failed(self._label(name), operation, ENOENT)
        return file

    def _behind(self, handle: int) -> tuple[SimulatedFile, str]:
        if handle not in self._handles:
            raise storage_failed(self.location, "using a closed file of", EBADF)
        return self._handles[handle]

    def _label(self, name: str) -> str:
        return f"{self.location}/{name}"


class SimulatedDisk:
    """One directory's disk. It outlives the processes that use it, one after the other.

    The same calls with an equally seeded `random` give the same disk, to the byte.
    """

    def __init__(self, random: Random, location: str = "simulated-disk") -> None:
        self._platter = _Platter(random, location)

    @property
    def operations(self) -> int:
        """How many changes and syncs were asked for so far, by all processes."""
        return self._platter.operations

    @property
    def on_operation(self) -> Callable[[Operation, str], None] | None:
        """Called before each change and sync with what it is and the file: to count, to stall, to take time."""
        return self._platter.on_operation

    @on_operation.setter
    def on_operation(self, hook: Callable[[Operation, str], None] | None) -> None:
        self._platter.on_operation = hook

    def files(self, make: Callable[[_Platter], SimulatedFiles] = SimulatedFiles) -> SimulatedFiles:
        """What a process that starts now gets to use."""
        return make(self._platter)

    def kill(self) -> None:
        """The process is killed: what was written stays, synced or not; its handles die and its lock goes."""
        self._platter.kill()

    def lose_power(self) -> None:
        """The power goes: the process dies, and any of what was not synced may be gone."""
        self._platter.lose_power()

    def wipe(self) -> None:
        """The disk is replaced by a blank one; the process dies."""
        self._platter.kill()
        self._platter.forget_everything()

    def fail(self, operation: Operation, *, nth: int = 1, errno: int = EIO) -> None:
        """Let the `nth` such operation from now fail with `errno`, once.

        A failing write leaves a prefix written. A failing sync loses what it should have synced, though a process
        still reads it and a second sync succeeds, as on Linux.
        """
        self._platter.faults.append(_Fault(operation, nth, errno))

    def plan_crash(self, nth: int, crash: Crash) -> None:
        """Let the process die inside the `nth` change or sync from now, which raises `SimulatedCrashError`."""
        self._platter.planned_crash = (self._platter.operations + nth, crash)

    def flip_bit(self, name: str, offset: int) -> None:
        """Flip the bit at `offset`, in bits from the beginning of a file: a disk that decays."""
        file = self._platter.names[name]
        for image in (file.current, file.durable):
            if offset // 8 < len(image):
                image[offset // 8] ^= 1 << (offset % 8)

    def cut(self, name: str, size: int) -> None:
        """Lose the end of a file, all after its first `size` bytes: another way to decay."""
        file = self._platter.names[name]
        file.truncate(size)
        del file.durable[size:]

    def names(self) -> list[str]:
        """Every file as a process would see it now, in no order."""
        return list(self._platter.names)

    def is_durable(self, name: str) -> bool:
        """Whether a power loss would leave this file as it is, and under this name; False if there is none."""
        file = self._platter.names.get(name)
        return file is not None and self._platter.durable_names.get(name) is file and file.is_durable

    def contents(self) -> dict[str, bytes]:
        """Every file as a process would see it now, without the room behind what was appended."""
        return {name: bytes(file.current) for name, file in sorted(self._platter.names.items())}


_Change = list[tuple[str, SimulatedFile | None]]


class _Fault:
    def __init__(self, operation: Operation, remaining: int, errno: int) -> None:
        self.operation = operation
        self.remaining = remaining
        self.errno = errno


class _Platter:
    """The state that a disk and the processes using it share."""

    def __init__(self, random: Random, location: str) -> None:
        self.random = random
        self.location = location
        self.life = 1
        self.owner: SimulatedFiles | None = None
        self.operations = 0
        self.on_operation: Callable[[Operation, str], None] | None = None
        self.faults: list[_Fault] = []
        self.planned_crash: tuple[int, Crash] | None = None
        self.forget_everything()

    def forget_everything(self) -> None:
        self.names: dict[str, SimulatedFile] = {}
        self.durable_names: dict[str, SimulatedFile] = {}
        self.unsynced: list[_Change] = []

    def fate(self, operation: Operation, label: str) -> Crash | int | None:
        """What happens to the operation that begins: a crash, an error number, or None for success."""
        if self.on_operation is not None:
            self.on_operation(operation, label)
        if self.planned_crash is not None and self.operations >= self.planned_crash[0]:
            crash = self.planned_crash[1]
            self.planned_crash = None
            return crash
        for fault in self.faults:
            if fault.operation is operation:
                fault.remaining -= 1
                if fault.remaining == 0:
                    self.faults.remove(fault)
                    return fault.errno
        return None

    def suffer(self, fate: Crash | int, operation: Operation, label: str) -> None:
        """Raise what `fate` said."""
        match fate:
            case Crash.KILLED:
                self.kill()
                raise SimulatedCrashError(fate)
            case Crash.POWER_LOST:
                self.lose_power()
                raise SimulatedCrashError(fate)
            case _:
                raise storage_failed(label, operation.value, fate)

    def kill(self) -> None:
        self.life += 1
        self.owner = None
        for file in self.names.values():
            if file.sync_failed:
                file.reread()

    def lose_power(self) -> None:
        self.kill()
        self.lose_names()
        self.names = dict(self.durable_names)
        for _, file in sorted(self.names.items()):
            file.lose_power(self.random)

    def sync_names(self) -> None:
        for change in self.unsynced:
            _apply(self.durable_names, change)
        self.unsynced.clear()

    def lose_names(self) -> None:
        """Any of the unsynced changes may have reached the disk, and no later sync brings the others there."""
        for change in self.unsynced:
            if self.random.random() < 0.5:
                _apply(self.durable_names, change)
        self.unsynced.clear()


def _apply(names: dict[str, SimulatedFile], change: _Change) -> None:
    for name, file in change:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
