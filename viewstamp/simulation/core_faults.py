"""Faults: drawn one after another while the fault phase lasts, each from the kinds that the plan has."""

from __future__ import annotations

from viewstamp.protocol import Standing
from viewstamp.simulation.core_plan import Fault
from viewstamp.simulation.core_world import CoreWorld


class Faults:
    """What befalls a world."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world
        self._members = list(world.stations)
        self._newest_incarnation = 1 << 21
        self._story_until = 0  # a story of several faults is being told: no other interrupts it
        self.struck: dict[Fault, int] = {}
        world.on_doom = self.forget

    def begin(self) -> None:
        """Let the first fault come."""
        world = self._world
        if world.plan.faults:
            self._next()
        if Fault.CRASH in world.plan.faults and world.up_to(2):
            # A cluster whose members fail as they are founded: their disks may not know of it.
            for member in self._members:
                world.after(world.up_to(2 * world.configuration.timeouts.suspect), world.crash_somehow, member)

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
        if world.now < self._story_until:
            return
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
                self._crash_primary()
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
                if world.up_to(2):
                    # Long enough for others to depose it, and to answer clients, before it notices.
                    world.pause(self._primary(), until + world.configuration.timeouts.suspect)
                else:
                    world.pause(member, until)
            case Fault.STALL_DISK:
                world.stations[member].stalled_until = until
            case Fault.REPLAY:
                world.replay(1 + world.up_to(40))
            case Fault.RESIGN:
                self._resign(self._primary())
            case Fault.DEPOSE:
                self._depose()
            case Fault.STRAND_LOST_DISK:
                if self._lose_disk(member):
                    near = [member, self._anyone(), self._anyone()]
                    self._partition(near, until)
            case Fault.FORGET_PROMISE:
                self._doom(member)

    def _crash_primary(self) -> None:
        """It is back at once, and what made it primary is delivered to it a second time."""
        world = self._world
        primary = self._primary()
        world.crash_somehow(primary)
        if world.up_to(2):
            suspect = world.configuration.timeouts.suspect
            world.after(0, world.start, primary)
            for sender, incarnation, message in world.stations[primary].seldom:
                world.after(1 + world.up_to(suspect // 2), world.deliver, primary, sender, incarnation, message)

    def _doom(self, member: int) -> None:
        """What this member sends is slow, and a promise it makes now will be forgotten.

        Nobody else hears the primary, and in the end this member does not either: it goes along with those who want
        another, while the primary has not missed it long enough to give way.
        """
        world, suspect = self._world, self._world.configuration.timeouts.suspect
        primary = self._primary()
        standing = self._standing(primary)
        if primary == member or standing is None or not standing.leads or self._standing(member) is None:
            return
        self._story_until = world.now + 2 * suspect
        world.cuts.clear()
        world.stations[member].doomed = True
        for other in self._members:
            if other != member:
                world.cuts[primary, other] = self._story_until
        world.after(suspect // 4 + world.up_to(suspect // 2), self.cut, primary, member, self._story_until)

    def cut(self, sender: int, to: int, until: int) -> None:
        """Messages one way are lost, until then."""
        if self._world.faulty:
            self._world.cuts[sender, to] = until

    def forget(self, member: int) -> None:
        """A doomed member has made a promise, which is on its way for long: its disk is gone before it arrives.

        All goes on without it, as if it had not been made; then somebody misses what is committed meanwhile.
        """
        world, suspect = self._world, self._world.configuration.timeouts.suspect
        world.cuts.clear()
        if not self._lose_disk(member):
            world.crash_somehow(member)
            return
        world.after(world.up_to(suspect // 4), world.start, member)
        self._story_until = world.now + suspect + 4 * world.plan.tail
        world.after(suspect // 2 + world.up_to(suspect), self.isolate_another, member)

    def isolate_another(self, member: int) -> None:
        """Neither this member nor the primary, for as long as slow messages take."""
        world = self._world
        others = [other for other in self._members if other not in (member, self._primary())]
        if world.faulty and others:
            self._partition([others[world.up_to(len(others))]], self._story_until)

    def _depose(self) -> None:
        """Cut the primary off until it is deposed; what it has then, and tells then, is what must not count."""
        world = self._world
        primary = self._primary()
        standing = self._standing(primary)
        if standing is not None and standing.leads:
            suspect = world.configuration.timeouts.suspect
            self._story_until = world.now + 3 * suspect
            self._partition([primary], world.now + 4 * suspect)
            world.after(suspect // 8, self.watch_deposed, primary, standing.view, world.now + 4 * suspect)

    def watch_deposed(self, deposed: int, view: int, until: int) -> None:
        """Once another leads: reads at the deposed; soon after, it comes back, perhaps as the other is cut off."""
        world = self._world
        if not world.faulty or world.now > until:
            return
        if any(s.leads and s.view > view for s in map(self._standing, self._members) if s is not None):
            self.read_at(deposed, 8)
            world.after(world.up_to(world.plan.fault_length), self.reunite, bool(world.up_to(2)))
        else:
            world.after(world.configuration.timeouts.suspect // 16, self.watch_deposed, deposed, view, until)

    def read_at(self, deposed: int, times: int) -> None:
        """Reads at a deposed primary that may not know it yet, while others already answer clients."""
        world = self._world
        if world.faulty and times:
            world.on_resume(deposed)
            world.after(world.configuration.timeouts.suspect // 32, self.read_at, deposed, times - 1)

    def reunite(self, cut_off_another: bool) -> None:
        """All are in reach again, but perhaps the present primary."""
        world = self._world
        if world.faulty:
            world.cuts.clear()
            if cut_off_another:
                self._partition([self._primary()], world.now + world.plan.fault_length)

    def _standing(self, member: int) -> Standing | None:
        core = self._world.stations[member].node.core
        return core.standing if core is not None else None

    def _anyone(self) -> int:
        return self._members[self._world.up_to(len(self._members))]

    def _primary(self) -> int:
        """The member that leads the highest view; anyone if none does."""
        leading = [
            (s.view, member) for member in self._members if (s := self._standing(member)) is not None and s.leads
        ]
        return max(leading)[1] if leading else self._anyone()

    def _partition(self, side: list[int], until: int) -> None:
        for one in side:
            for other in self._members:
                if other not in side:
                    self._world.cuts[one, other] = until
                    self._world.cuts[other, one] = until

    def _lose_disk(self, member: int) -> bool:
        """Never so many that the data could not be recovered: a quorum must hold its disks at all times."""
        world = self._world
        quorum = world.configuration.quorum
        lost = [other for other, station in world.stations.items() if station.node.disk.ghost is not None]
        if member not in lost and len(lost) >= len(self._members) - quorum:
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

    def _resign(self, member: int) -> None:
        world = self._world
        station = world.stations[member]
        if station.node.core is not None:
            station.node.core.resign(world.clock(station))
            world.turn(station)
            if world.up_to(2):
                world.after(world.up_to(world.plan.fault_length), world.crash_somehow, member)
