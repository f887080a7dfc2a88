"""Faults: drawn one after another while the fault phase lasts, each from the kinds that the plan has."""

from __future__ import annotations

from viewstamp.simulation.core_plan import Fault
from viewstamp.simulation.core_world import CoreWorld


class Faults:
    """What befalls a world."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world
        self._members = list(world.stations)
        self._newest_incarnation = 1 << 21
        self.struck: dict[Fault, int] = {}

    def begin(self) -> None:
        """Let the first fault come."""
        if self._world.plan.faults:
            self._next()

    def heal(self) -> None:
        """All faults end: every member runs, every message arrives in time, disks are quick."""
        world = self._world
        world.faulty = False
        world.cuts.clear()
        for member, station in world.stations.items():
            station.paused_until = min(station.paused_until, world.now)
            station.stalled_until = min(station.stalled_until, world.now)
            world.start(member)

    def _next(self) -> None:
        world = self._world
        world.after(world.plan.fault_gap // 4 + world.up_to(2 * world.plan.fault_gap), self.strike)

    def strike(self) -> None:
        """One fault, and the time of the next."""
        world = self._world
        if not world.faulty:
            return
        self._next()
        faults = world.plan.faults
        fault = faults[world.up_to(len(faults))]
        self.struck[fault] = self.struck.get(fault, 0) + 1
        self._strike(fault, world.now + world.plan.fault_length // 8 + world.up_to(world.plan.fault_length))

    def _strike(self, fault: Fault, until: int) -> None:
        world = self._world
        member = self._anyone()
        match fault:
            case Fault.CRASH:
                world.crash_somehow(member)
            case Fault.CRASH_PRIMARY:
                world.crash_somehow(self._primary())
            case Fault.CRASH_ALL:
                for each in self._members:
                    world.crash_somehow(each)
            case Fault.LOSE_DISK:
                self._lose_disk(member)
            case Fault.CUT:
                world.cuts[member, self._anyone()] = until
            case Fault.PARTITION:
                self._partition([each for each in self._members if world.up_to(2)], until)
            case Fault.ISOLATE:
                self._partition([member], until)
            case Fault.ISOLATE_PRIMARY:
                self._partition([self._primary()], until)
            case Fault.PAUSE:
                world.stations[member].paused_until = until
            case Fault.STALL_DISK:
                world.stations[member].stalled_until = until
            case Fault.REPLAY:
                world.replay(1 + world.up_to(40))
            case Fault.RESIGN:
                self._resign(self._primary())

    def _anyone(self) -> int:
        return self._members[self._world.up_to(len(self._members))]

    def _primary(self) -> int:
        """A member that leads, if there is one: of two, the deposed one is the likelier to be wrong."""
        for member, station in self._world.stations.items():
            if station.node.core is not None and station.node.core.standing.leads:
                return member
        return self._anyone()

    def _partition(self, side: list[int], until: int) -> None:
        for one in side:
            for other in self._members:
                if other not in side:
                    self._world.cuts[one, other] = until
                    self._world.cuts[other, one] = until

    def _lose_disk(self, member: int) -> None:
        """Never so many that the data could not be recovered: a quorum must hold its disks at all times."""
        world = self._world
        quorum = world.configuration.quorum
        lost = [other for other, station in world.stations.items() if station.node.disk.ghost is not None]
        if member not in lost and len(lost) >= len(self._members) - quorum:
            return
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

    def _resign(self, member: int) -> None:
        world = self._world
        station = world.stations[member]
        if station.node.core is not None:
            station.node.core.resign(world.clock(station))
            world.turn(station)
            if world.up_to(2):
                world.after(world.up_to(world.plan.fault_length), world.crash_somehow, member)
