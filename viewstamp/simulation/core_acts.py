"""What can be done to members of a world: the words in which faults and stories are told."""

from __future__ import annotations

from viewstamp.protocol import Standing
from viewstamp.simulation.core_world import CoreWorld


class Acts:
    """Single acts, none of which goes on by itself."""

    def __init__(self, world: CoreWorld) -> None:
        self.world = world
        self.members = list(world.stations)
        self.suspect = world.configuration.timeouts.suspect
        self._newest_incarnation = 1 << 21
        self.story_until = 0  # one story is told at a time, and no other fault interrupts it

    def standing(self, member: int) -> Standing | None:
        """How a member sees itself, None when it is down."""
        core = self.world.stations[member].node.core
        return core.standing if core is not None else None

    def anyone(self) -> int:
        """Any member."""
        return self.members[self.world.up_to(len(self.members))]

    def another(self, than: int) -> int:
        """Any other member; this one if it is alone."""
        others = [member for member in self.members if member != than] or [than]
        return others[self.world.up_to(len(others))]

    def leading(self) -> tuple[int, int]:
        """The highest view that has a primary now, and that primary; (-1, 0) if there is none."""
        return max(
            ((s.view, member) for member in self.members if (s := self.standing(member)) is not None and s.leads),
            default=(-1, 0),
        )

    def primary(self) -> int:
        """The member that leads the highest view; anyone if none does."""
        return self.leading()[1] or self.anyone()

    def partition(self, side: list[int], until: int) -> None:
        """These members neither hear nor are heard by the others."""
        for one in side:
            for other in self.members:
                if other not in side:
                    self.world.cuts[one, other] = until
                    self.world.cuts[other, one] = until

    def star(self, middle: int, until: int) -> None:
        """All others hear this member, and are heard by it, alone: no other can have a majority."""
        for one in self.members:
            for other in self.members:
                if one != other and middle not in (one, other):
                    self.world.cuts[one, other] = until

    def some(self, of: list[int], count: int) -> list[int]:
        """So many of these, or all."""
        rest = list(of)
        chosen: list[int] = []
        while rest and len(chosen) < count:
            chosen.append(rest.pop(self.world.up_to(len(rest))))
        return chosen

    def lose_disk(self, member: int) -> bool:
        """Never so many that the data could not be recovered: a quorum must hold its disks at all times."""
        world = self.world
        if not world.recovers_lost_disk:
            return False
        quorum = world.configuration.quorum
        lost = self.without_disk()
        if member not in lost and len(lost) >= len(self.members) - quorum:
            return False
        world.counts.lost_disks += 1
        node = world.stations[member].node
        self._newest_incarnation += 1 + world.up_to(1000)
        incarnation = self._newest_incarnation
        if world.up_to(8) == 0:
            # The clock went back before the new directory got its incarnation: peers know a newer one.
            incarnation = 1 + world.up_to(1000)
        if node.core is not None:
            world.crash(member, 0)
        else:
            world.after(world.up_to(world.plan.restart_after), world.start, member)
        node.lose_disk(incarnation)
        return True

    def without_disk(self) -> list[int]:
        """Members that have lost their disks, and have nothing durable again yet."""
        return [member for member, station in self.world.stations.items() if station.node.disk.ghost is not None]

    def resign(self, member: int) -> None:
        """The member gives way on purpose."""
        station = self.world.stations[member]
        if station.node.core is not None:
            station.node.core.resign(self.world.clock(station))
            self.world.turn(station)

    def remind(self, member: int) -> None:
        """Of what is seldom said: all of it comes once more, at some time before it would suspect anybody twice."""
        if self.world.faulty:
            self.world.relive(member, tuple(self.world.stations[member].rare), 2 * self.suspect)
