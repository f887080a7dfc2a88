"""Faults, drawn one after another while the fault phase lasts from the kinds that the plan has; then the healing."""

from __future__ import annotations

from viewstamp.protocol import NEVER
from viewstamp.simulation.core_acts import Acts
from viewstamp.simulation.core_laggards import Laggards
from viewstamp.simulation.core_plan import Ailment, Fault
from viewstamp.simulation.core_reigns import Reigns
from viewstamp.simulation.core_returns import Returns
from viewstamp.simulation.core_stories import Losses
from viewstamp.simulation.core_world import CoreWorld


class Faults:
    """What befalls a world."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world
        self._members = list(world.stations)
        self._acts = Acts(world)
        self._losses = Losses(self._acts)
        self._reigns = Reigns(self._acts)
        self._returns = Returns(self._acts)
        self._laggards = Laggards(self._acts)
        self._ailing: dict[int, Ailment] = {}
        self.struck: dict[Fault, int] = {}

    def begin(self) -> None:
        """Let the first fault come."""
        world = self._world
        if world.plan.faults:
            self._next()
        if Fault.CRASH in world.plan.faults and world.up_to(2):
            # A cluster whose members fail as they are founded: their disks may not know of it.
            for member in self._members:
                world.after(world.up_to(2 * world.configuration.timeouts.suspect), world.crash_somehow, member)

    def _next(self) -> None:
        world = self._world
        world.after(world.plan.fault_gap // 4 + world.up_to(2 * world.plan.fault_gap), self.strike)

    def strike(self) -> None:
        """One fault, and the time of the next."""
        world = self._world
        if not world.faulty:
            return
        self._next()
        if self._losses.under_way:
            return
        self._end_stories()
        faults = world.plan.faults
        fault = faults[world.up_to(len(faults))]
        self.struck[fault] = self.struck.get(fault, 0) + 1
        self._strike(fault, world.now + world.plan.fault_length // 8 + world.up_to(world.plan.fault_length))

    def _strike(self, fault: Fault, until: int) -> None:
        world, acts = self._world, self._acts
        member = acts.anyone()
        match fault:
            case Fault.CRASH:
                world.crash_somehow(member)
            case Fault.CRASH_PRIMARY:
                self._crash_primary()
            case Fault.CRASH_ALL:
                for each in self._members:
                    world.crash_somehow(each)
            case Fault.LOSE_DISK:
                if not acts.lose_disk(member):
                    world.crash_somehow(member)
            case Fault.CUT:
                world.cuts[member, acts.anyone()] = until
            case Fault.PARTITION:
                acts.partition([each for each in self._members if world.up_to(2)], until)
            case Fault.ISOLATE:
                acts.partition([member], until)
            case Fault.ISOLATE_PRIMARY:
                acts.partition([acts.primary()], until)
            case Fault.PAUSE:
                if world.up_to(4):
                    self._reigns.pause_primary()
                else:
                    world.pause(member, until)
            case Fault.STALL_DISK:
                world.stations[member].stalled_until = until
            case Fault.REPLAY:
                world.replay(1 + world.up_to(40))
            case Fault.RESIGN:
                self._resign()
            case Fault.DEPOSE:
                self._reigns.depose()
            case Fault.CAROUSEL:
                self._reigns.carousel()
            case Fault.STRAND_LOST_DISK:
                self._losses.strand(member, until)
            case Fault.FORGET_PROMISE:
                self._losses.doom(member)
            case Fault.SLOW_PROMISES:
                self._losses.slow_promises()
            case Fault.IGNORANCE:
                self._losses.ignorance()
            case Fault.DECEIVE:
                self._returns.deceive()
            case Fault.SECOND_REIGN:
                self._returns.second_reign()
            case Fault.SNAPSHOT:
                for each in self._members if world.up_to(2) else [member]:
                    world.snapshots.take(each)
            case Fault.OUTGROW:
                self._laggards.outgrow()

    def _resign(self) -> None:
        """The primary gives way, and is gone soon after; or what was said for that is said again, when it is over."""
        world = self._world
        primary = self._acts.primary()
        self._acts.resign(primary)
        if world.up_to(2):
            world.after(world.up_to(world.plan.fault_length), world.crash_somehow, primary)
        else:
            for member in self._members:
                world.after(self._acts.suspect, self._acts.remind, member)

    def _crash_primary(self) -> None:
        """It is back at once, and what made it primary is delivered to it a second time."""
        world = self._world
        primary = self._acts.primary()
        world.crash_somehow(primary)
        if world.up_to(2):
            suspect = self._acts.suspect
            world.after(0, world.start, primary)
            for sender, incarnation, message in world.stations[primary].seldom:
                world.after(1 + world.up_to(suspect // 2), world.deliver, primary, sender, incarnation, message)

    # The healing.

    def begin_parting(self) -> tuple[int, int]:
        """As the last fault, the primary is cut off, and what it then orders is longer than what others have.

        The highest view that has a primary, and that primary.
        """
        world, acts = self._world, self._acts
        acts.story_until = world.now + 8 * acts.suspect
        self._end_stories()
        world.cuts.clear()
        primary = acts.primary()
        acts.partition([primary], acts.story_until)
        self._losses.flood_soon(primary, 6, acts.suspect // 2)
        return acts.leading()[0], primary

    def end_parting(self, view: int) -> int:
        """The successor, with all that it has asked of its disk, comes back from a restart as the first one is healed.

        0 as long as there is none.
        """
        world = self._world
        now, successor = self._acts.leading()
        if now <= view:
            return 0
        world.crash(successor, len(world.stations[successor].node.queue))
        return successor

    def heal_most(self, but: tuple[int, ...] = ()) -> dict[int, Ailment]:
        """All faults end but what the plan has as ailments: the members that have them, never one in `but`."""
        world, acts = self._world, self._acts
        lost = acts.without_disk()
        # One that has lost its disk may need all the others that there can be.
        rest = [member for member in self._members if member not in lost and member not in but]
        spare = min(len(self._members) - world.configuration.quorum - len(lost), len(rest))
        ailing = {}
        primary = acts.leading()[1]
        for ailment in world.plan.ailments[: max(0, spare)]:
            member = primary if primary in rest and world.up_to(2) else rest[world.up_to(len(rest))]
            rest.remove(member)
            ailing[member] = ailment
        world.kept_down = frozenset(member for member, ailment in ailing.items() if ailment is Ailment.DOWN)
        for member in world.kept_down:
            world.crash(member, 0)
        self._heal()
        self._ailing = ailing
        for member, ailment in ailing.items():
            self._ail(member, ailment)
        if ailing and world.plan.parting_resign:
            acts.resign(acts.primary())
        return ailing

    def _ail(self, member: int, ailment: Ailment) -> None:
        world = self._world
        others = [other for other in self._members if other != member]
        match ailment:
            case Ailment.DOWN:
                pass
            case Ailment.BRIDGED:
                primary = self._acts.primary()
                self._sever(member, primary if primary != member else others[world.up_to(len(others))])
            case Ailment.TORN:
                for other in others:
                    if world.up_to(2):
                        world.cuts[other, member] = NEVER
                    if world.up_to(2):
                        world.cuts[member, other] = NEVER
            case Ailment.FLAPPING:
                self.flap(member, True)
            case Ailment.ISOLATED:
                for other in others:
                    self._sever(member, other)
            case Ailment.DEAF:
                for other in others:
                    world.cuts[other, member] = NEVER
            case Ailment.MUTE:
                for other in others:
                    world.cuts[member, other] = NEVER

    def _sever(self, one: int, other: int) -> None:
        self._world.cuts[one, other] = self._world.cuts[other, one] = NEVER

    def flap(self, member: int, deaf: bool) -> None:
        """Deaf for long enough to suspect the primary, then not for a moment, and so on."""
        world, suspect = self._world, self._acts.suspect
        if self._ailing.get(member) is not Ailment.FLAPPING:
            return
        for other in self._members:
            world.cuts[other, member] = NEVER if deaf else 0
        world.after(2 * suspect if deaf else suspect // 2, self.flap, member, not deaf)

    def heal(self) -> None:
        """All faults and ailments end: every member runs, every message arrives in time, disks are quick."""
        self._world.kept_down = frozenset()
        self._ailing = {}
        self._heal()

    def _heal(self) -> None:
        world = self._world
        world.faulty = False
        self._acts.story_until = 0
        self._end_stories()
        world.cuts.clear()
        for member, station in world.stations.items():
            if station.paused_until > world.now:
                world.pause(member, world.now)
            station.stalled_until = min(station.stalled_until, world.now)
            world.restart(member)

    def _end_stories(self) -> None:
        """What a story has changed of the world for as long as it is told."""
        world = self._world
        world.no_reads = world.no_requests = False
        for station in world.stations.values():
            station.node.margin = world.plan.snapshot_margin
        world.on_change = lambda member, begins: None
        world.snapshots.on_arrival = lambda member, source: None
        world.snapshots.held.clear()
        world.links.end()
        world.echo_chance = world.plan.echo_chance
