"""Stories of members that have missed so much that only a snapshot brings it, and of the sources of those."""

from __future__ import annotations

from viewstamp.protocol import SECOND
from viewstamp.simulation.core_stories import Story


class Laggards(Story):
    """Whoever is behind, and whom it gets its snapshot from."""

    def outgrow(self) -> None:
        """A member, or as many as can be spared, miss what others order; these take snapshots of it."""
        acts, world = self._acts, self._world
        view, primary = acts.leading()
        if view < 0 or len(acts.members) < 2:
            return
        self._until = world.now + 8 * self._suspect
        world.cuts.clear()
        spare = len(acts.members) - world.configuration.quorum
        others = [member for member in acts.members if member != primary]
        grown = world.now + self._suspect // 2 + world.up_to(2 * self._suspect)
        plot = world.up_to(8)
        match plot:
            case 0 if spare:
                # The primary, with what it orders meanwhile, which is to go.
                behind = [primary, *acts.some(others, world.up_to(spare))]
                acts.partition(behind, self._until)
                self.flood_soon(primary, 1 + world.up_to(8), self._suspect)
            case 1 | 2 | 3 if spare:
                # Entries alone come late to them: they hear of the snapshot before those come that lie behind it.
                behind = acts.some(others, max(1, spare))
                extra = self._suspect + world.up_to(self._suspect)
                for member in behind:
                    world.snapshots.held[member] = grown + 3 * self._suspect
                    for other in acts.members:
                        world.links.heavy[other, member] = extra
            case 1 | 2 | 3 if others:
                # Of two, neither can go on without the other: all that it is sent comes late, and then at once.
                behind = acts.some(others, max(1, spare))
                for member in behind:
                    world.snapshots.held[member] = grown + 2 * self._suspect
                    for other in acts.members:
                        extra = grown - world.now + self._suspect // 2 + world.up_to(self._suspect)
                        world.links.slow[other, member] = world.now, 0, extra
            case _:
                behind = acts.some(others, 1 + world.up_to(spare)) if spare else []
                for member in behind:
                    acts.partition([member], self._until)
        self.grow(behind, grown, idle=plot in (0, 4, 5) and world.up_to(4) > 0)

    def grow(self, behind: list[int], until: int, *, idle: bool) -> None:
        """The others order more and more."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        primary = acts.leading()[1]
        if world.now < until:
            if primary and primary not in behind:
                self.flood(primary)
            world.after(1 + self._suspect // 8, lambda: self.grow(behind, until, idle=idle))
            return
        # If nothing more is ordered, logs are empty after a snapshot of all that was.
        world.no_requests = idle
        for station in world.stations.values():
            station.node.margin = 0
        if world.links.heavy:
            # Much at once, of which a part only is known to be committed as the snapshot is taken.
            for _ in range(6):
                self.flood(acts.primary())
            self.watch_burst(behind, len(world.checkers.history.committed), world.now + self._suspect // 4)
        else:
            world.after(2 * self._suspect // 3 if idle else 0, self.take_snapshots, behind)

    def watch_burst(self, behind: list[int], committed: int, until: int) -> None:
        """Until some of what was ordered at once is committed."""
        world = self._world
        if len(world.checkers.history.committed) > committed or world.now > until:
            self.take_snapshots(behind)
        else:
            world.after(1 + world.plan.delay // 4, self.watch_burst, behind, committed, until)

    def take_snapshots(self, behind: list[int]) -> None:
        """Those that are up to date, of all that has been ordered."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        for member in acts.members:
            if member not in behind or world.up_to(4) == 0:
                world.snapshots.take(member)
        soon = world.plan.snapshot_time + 2 * world.plan.write_delay + self._suspect // 8
        if not world.no_requests:
            self.flood_soon(acts.primary(), 3, soon)
        world.after(soon, self.rise if world.no_requests else self.come_back, behind)

    def rise(self, behind: list[int]) -> None:
        """Those whose whole history is a snapshot must choose a primary, perhaps all after a restart; or be chosen."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        world.cuts.clear()
        world.links.slow.clear()
        for station in world.stations.values():
            # What was agreed before lies ahead of every clock by now.
            station.wall_skew -= world.up_to(4 * SECOND)
        if world.up_to(2):
            for member in acts.members:
                world.crash_somehow(member)
            acts.partition(behind, world.now + 2 * self._suspect)
        else:
            gone = acts.leading()[1]
            acts.partition([gone], world.now + 2 * self._suspect)
            if behind and gone not in behind:
                acts.star(behind[0], world.now + 2 * self._suspect)
        world.after(2 * self._suspect, self.come_back, behind)

    def come_back(self, behind: list[int]) -> None:
        """They are in reach again; soon after, something happens to what they need."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        world.no_requests = False
        for station in world.stations.values():
            station.node.margin = world.plan.snapshot_margin
        world.cuts.clear()
        late = bool(world.links.slow or world.links.heavy)
        world.links.slow.clear()
        world.links.heavy.clear()
        gone = acts.leading()[1]
        if late:
            # What is on its way to them comes first.
            world.after(2 * self._suspect, self.disturb, behind, 2)
        elif behind and gone and gone not in behind and world.up_to(4):
            # One of them is needed for a majority, of which the source goes as soon as its snapshot has come.
            others = [member for member in acts.members if member not in (behind[0], gone)]
            spare = len(acts.members) - world.configuration.quorum
            self._until = world.now + 6 * self._suspect
            acts.partition([gone, *acts.some(others, spare - 1)], self._until)
            world.snapshots.on_arrival = self.arrived
        else:
            if world.up_to(8) == 0:
                acts.lose_disk(acts.anyone())
            self.disturb(behind, 1 + world.up_to(5))

    def arrived(self, member: int, source: int) -> None:
        """The source is gone, and those that were are back."""
        acts, world = self._acts, self._world
        world.snapshots.on_arrival = lambda member, source: None
        if self.under_way:
            world.cuts.clear()
            acts.partition([source], world.now + 2 * self._suspect)

    def disturb(self, behind: list[int], times: int) -> None:
        """Now and again, as they fetch what they need."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        if not times:
            self._until = world.now
            return
        member = behind[world.up_to(len(behind))] if behind else acts.anyone()
        wanted = world.stations[member].node.wanted
        source = wanted.source if wanted is not None else acts.primary()
        match world.up_to(12):
            case 0:
                world.crash_somehow(source)
            case 1:
                world.crash_somehow(member)
            case 2:
                acts.partition([source], world.now + self._suspect + world.up_to(self._suspect))
            case 3:
                # More is ordered, and the source has a newer one, and perhaps drops what is being fetched.
                self.flood_soon(source, 3, self._suspect // 8)
                world.after(self._suspect // 4, world.snapshots.take, source)
            case 4:
                # What was ordered meanwhile and is in the log of those that are up to date comes to this one too.
                world.relive(member, tuple(world.stations[member].latest), self._suspect // 2)
            case 5:
                world.relive(member, tuple(world.stations[member].rare), self._suspect)
            case 6:
                # Those that are up to date go but for as many as are needed with those that are not.
                others = [each for each in acts.members if each not in behind]
                acts.partition(acts.some(others, len(acts.members) - world.configuration.quorum), self._until)
            case 7:
                world.stations[member].stalled_until = world.now + world.up_to(self._suspect)
            case 8:
                acts.resign(acts.primary())
            case _:
                pass
        world.after(1 + world.up_to(self._suspect), self.disturb, behind, times - 1)
