"""Stories of primaries that follow each other: deposed and not aware of it, cut off at once, back for a second time."""

from __future__ import annotations

from viewstamp.simulation.core_stories import Story


class Reigns(Story):
    """Whoever leads, and what becomes of it."""

    # A primary that does not know it is deposed.

    def depose(self) -> None:
        """Cut the primary off until it is deposed; what it has then, and tells then, is what must not count.

        Meanwhile it orders more than the others do, so that its log is the longest, and perhaps its disk stands still.
        """
        acts, world = self._acts, self._world
        view, primary = acts.leading()
        if view < 0:
            return
        self._until = world.now + 3 * self._suspect
        limit = world.now + 4 * self._suspect
        others = [member for member in acts.members if member != primary]
        along = acts.some(others, world.up_to(1 + len(acts.members) - world.configuration.quorum - 1))
        acts.partition([primary, *along], limit)
        world.no_reads = True
        if world.up_to(3) == 0:
            world.stations[primary].stalled_until = limit
        if world.up_to(3) == 0:
            # Whoever is with it misses what it orders first, and asks for it.
            for member in along:
                world.cuts[primary, member] = world.now + self._suspect // 4
        self.flood_soon(primary, world.up_to(8), self._suspect // 2)
        world.after(self._suspect // 8, self.watch_deposed, primary, view, limit)

    def watch_deposed(self, deposed: int, view: int, until: int) -> None:
        """Once another leads: reads at the deposed; soon after, it comes back, perhaps as the other is cut off."""
        world = self._world
        if not world.faulty or world.now > until:
            world.no_reads = False
        elif self._acts.leading()[0] > view:
            self.read_at(deposed, 8)
            if world.up_to(3):
                world.after(world.up_to(world.plan.fault_length), self.reunite, bool(world.up_to(2)))
            else:
                world.no_reads = False
                world.no_requests = True
                self.draw_level(deposed, until)
        else:
            world.after(self._suspect // 32, self.watch_deposed, deposed, view, until)

    def draw_level(self, deposed: int, until: int) -> None:
        """The deposed and the present primary meet when their logs, which are not equal, are of one length."""
        acts, world = self._acts, self._world
        one, primary = acts.standing(deposed), acts.leading()[1]
        other = acts.standing(primary) if primary else None
        if not world.faulty or world.now > until or one is None or other is None or other.op > one.op:
            world.no_requests = False
            self.reunite(cut_off_another=False)
        elif other.op < one.op:
            self.flood(primary, 1)
            world.after(1 + world.plan.delay, self.draw_level, deposed, until)
        else:
            world.no_requests = False
            world.cuts.clear()
            self.flood(primary, 1)

    def reunite(self, cut_off_another: bool) -> None:
        """All are in reach again, but perhaps the present primary: at once, or when it has brought them up to date."""
        world = self._world
        world.no_reads = False
        if world.faulty:
            world.cuts.clear()
            # Pages of the log that is to go come once more, as another is fetched.
            world.echo_chance = 1024 if world.up_to(2) else world.plan.echo_chance
            if cut_off_another:
                self._until = max(self._until, world.now + 2 * self._suspect)
                world.after(world.up_to(2) * world.up_to(self._suspect // 4), self.cut_off_primary)

    def cut_off_primary(self) -> None:
        """Whoever it is now, and long enough that another follows it."""
        if self._world.faulty:
            self._acts.partition([self._acts.primary()], self._world.now + 2 * self._suspect)

    # A primary that stands still.

    def pause_primary(self) -> None:
        """It stands still until another has answered clients; then a read comes first, before it hears of that."""
        world = self._world
        view, primary = self._acts.leading()
        if view >= 0:
            self._until = world.now + 5 * self._suspect
            # Of those before, perhaps all have been confirmed by then; else some answers are under way.
            world.no_reads = bool(world.up_to(2))
            told = len(world.checkers.history.told)
            world.after(world.up_to(self._suspect // 4), self.watch_paused, primary, view, told)

    def watch_paused(self, paused: int, view: int, told: int) -> None:
        """Until clients have been told something by a later primary."""
        world = self._world
        if not world.faulty:
            return
        leads = self._acts.leading()[0] > view
        now_told = len(world.checkers.history.told)
        if (leads and now_told > told) or world.now >= self._until:
            world.no_reads = False
            self._until = world.now
            world.pause(paused, world.now)
        else:
            world.stations[paused].paused_until = world.now + self._suspect // 16
            world.after(self._suspect // 16, self.watch_paused, paused, view, told if leads else now_told)

    # One primary after the other.

    def carousel(self) -> None:
        """Each primary is cut off as it begins, or soon after, with what it orders; those before it come back."""
        world = self._world
        self._until = world.now + 10 * self._suspect
        world.on_change = self.change
        view, primary = self._acts.leading()
        if view >= 0:
            self.change(primary, True)

    def change(self, member: int, begins: bool) -> None:
        """The member has come into another view, or begun to lead; what it then sends has not yet left."""
        world = self._world
        if not self.under_way:
            world.on_change = lambda member, begins: None
        elif not begins:
            if world.up_to(4) == 0:
                # It asks for the others' promises; some of these are lost, until it asks again.
                self._deafen(member)
        else:
            self.flood_soon(member, world.up_to(7), self._suspect // 64)
            match world.up_to(8):
                case 0 | 1 | 2 | 3:
                    self.turn_carousel([member])
                case 4 | 5:
                    # As it is bringing the others up to date, which takes it a few exchanges.
                    few = 4 * world.plan.delay + 2 * (world.plan.write_delay + world.plan.gather)
                    world.after(1 + world.up_to(few), self.mute, member)
                case 6:
                    world.after(world.up_to(self._suspect >> (2 * world.up_to(4))), self.turn_carousel, [member])
                case _:
                    self.watch_commit(member, len(world.checkers.history.committed), world.now + self._suspect)

    def _deafen(self, member: int) -> None:
        world = self._world
        for other in self._acts.members:
            if other != member and world.up_to(2):
                world.cuts[other, member] = world.now + self._suspect

    def mute(self, primary: int) -> None:
        """What it has just sent arrives, and is answered, and nothing after that: all others are together again."""
        if self._world.faulty and self.under_way:
            self._world.cuts.clear()
            for other in self._acts.members:
                if other != primary:
                    self._world.cuts[primary, other] = self._until

    def watch_commit(self, member: int, committed: int, until: int) -> None:
        """The primary goes as soon as anything is committed."""
        world = self._world
        if world.faulty and self.under_way:
            if len(world.checkers.history.committed) > committed or world.now > until:
                self.turn_carousel([member] if world.up_to(4) else [])
            else:
                world.after(1 + self._suspect // 256, self.watch_commit, member, committed, until)

    def turn_carousel(self, side: list[int]) -> None:
        """These go, perhaps with others, and the rest are together. If the primary stays, then for a while only."""
        world, acts = self._world, self._acts
        if not world.faulty or not self.under_way:
            return
        world.cuts.clear()
        primary, stays = acts.primary(), not side
        others = [member for member in acts.members if member not in side and member != primary]
        side = list(side)
        while others and len(side) < len(acts.members) - world.configuration.quorum and (not side or world.up_to(2)):
            side.append(others.pop(world.up_to(len(others))))
        acts.partition(side, self._until)
        if stays:
            world.after(world.up_to(self._suspect), self.turn_carousel, [primary])
        elif world.up_to(4) == 0:
            world.crash_somehow(side[0])
