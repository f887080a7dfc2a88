"""One file of the simulated disk: what a process sees of it, and what a power loss leaves."""

from __future__ import annotations

from random import Random

SECTOR_BYTES = 512


class SimulatedFile:
    """`current` is what the operating system shows, `durable` what is on the disk; equal up to `clean`, unless a sync
    failed. Zeros follow up to `room`, and up to `durable_room` once the power was lost."""

    def __init__(self) -> None:
        self.current = bytearray()
        self.durable = bytearray()
        self.clean = 0
        self.sync_failed = False  # in this life: what was written before is not on the disk, and counts as clean
        self.room = self.durable_room = 0

    @property
    def size(self) -> int:
        return max(len(self.current), self.room)

    @property
    def is_durable(self) -> bool:
        """Whether a power loss would take nothing of what was written, and bring back nothing of what was cut off."""
        return self.clean == len(self.current) == len(self.durable) and not self.sync_failed

    def on_disk(self, offset: int = 0, size: int | None = None) -> bytes:
        """What is read back when clean pages come from the disk and dirty ones from memory."""
        end = self.size if size is None else min(offset + size, self.size)
        data = bytes(self.durable[offset : min(end, self.clean)] + self.current[max(offset, self.clean) : end])
        return data.ljust(end - offset, b"\x00")

    def fill_room(self) -> None:
        """Who opens the file anew sees no difference between its room and its contents."""
        self.current += bytes(self.size - len(self.current))

    def truncate(self, size: int) -> None:
        del self.current[size:]
        self.clean = min(self.clean, size)
        self.room = 0

    def sync(self) -> None:
        del self.durable[self.clean :]
        self.durable += self.current[self.clean :]
        self.clean = len(self.current)
        self.durable_room = self.room

    def lose_dirty(self, random: Random) -> None:
        """A sync failed: the disk has whatever it has, and what was dirty counts as clean from now on."""
        mixed = self._mixed(random, len(self.current))
        self.durable = mixed
        self.clean = len(self.current)
        self.sync_failed = True

    def reread(self) -> None:
        """Whoever comes next knows only what can be read, and not what was written."""
        self.current[: self.clean] = self.durable[: self.clean]
        self.sync_failed = False

    def lose_power(self, random: Random) -> None:
        if self.clean < max(len(self.current), len(self.durable)):
            match random.randrange(4):
                case 0:
                    survivor = self.durable
                case 1:
                    kept = random.randint(self.clean, len(self.current))
                    survivor = self.durable[: self.clean] + self.current[self.clean : kept]
                case _:
                    end = random.randint(self.clean, max(len(self.current), len(self.durable)))
                    survivor = self._mixed(random, end)
            self.durable = survivor
        if self.room != self.durable_room:
            self.room = self.durable_room = random.choice((self.room, self.durable_room))
        self.current = bytearray(self.durable)
        self.clean = len(self.durable)
        self.sync_failed = False

    def _mixed(self, random: Random, end: int) -> bytearray:
        """The first `end` bytes, with each sector beyond `clean` new, old, zero or rubbish."""
        image = self.durable[: self.clean]
        while len(image) < end:
            start = len(image)
            stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
            match random.randrange(4):
                case 0:
                    sector = bytes(self.durable[start:stop])
                case 1:
                    sector = b""
                case 2:
                    sector = random.randbytes(stop - start)
                case _:
                    sector = bytes(self.current[start:stop])
            image += sector.ljust(stop - start, b"\x00")
        return image
