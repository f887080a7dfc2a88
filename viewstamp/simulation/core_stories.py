"""Stories: faults that follow each other so that a rare state comes about, one in which a certain kind of bug shows."""

from __future__ import annotations

from viewstamp.simulation.core_acts import Acts


class Stories:
    """One story is told at a time, and no other fault interrupts it. Each method begins one, or goes on with it."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts
        self._world = acts.world
        self._suspect = acts.suspect
        self._until = 0
        acts.world.on_doom = self.forget

    @property
    def under_way(self) -> bool:
        """Whether a story is being told."""
        return self._world.now < self._until

    def end(self) -> None:
        """The faults are over, and all stories with them."""
        self._until = 0
        self._world.no_reads = False
        self._world.on_change = lambda member, begins: None

    # A promise that is forgotten.

    def doom(self, member: int) -> None:
        """What this member sends is slow, and a promise it makes now will be forgotten.

        Nobody else hears the primary, and in the end this member does not either: it goes along with those who want
        another, while the primary has not missed it long enough to give way.
        """
        acts, world = self._acts, self._world
        primary = acts.primary()
        standing = acts.standing(primary)
        if primary == member or standing is None or not standing.leads or acts.standing(member) is None:
            return
        self._until = world.now + 2 * self._suspect
        world.cuts.clear()
        world.stations[member].doomed = True
        for other in acts.members:
            if other != member:
                world.cuts[primary, other] = self._until
        world.after(self._suspect // 4 + world.up_to(self._suspect // 2), self.cut, primary, member, self._until)

    def cut(self, sender: int, to: int, until: int) -> None:
        """Messages one way are lost, until then."""
        if self._world.faulty:
            self._world.cuts[sender, to] = until

    def forget(self, member: int) -> None:
        """A doomed member has made a promise, which is on its way for long: its disk is gone before it arrives.

        All goes on without it, as if it had not been made; then somebody misses what is committed meanwhile.
        """
        world = self._world
        world.cuts.clear()
        if not self._acts.lose_disk(member):
            world.crash_somehow(member)
            return
        world.after(world.up_to(self._suspect // 4), world.start, member)
        self._until = world.now + self._suspect + 4 * world.plan.tail
        world.after(self._suspect // 2 + world.up_to(self._suspect), self.isolate_another, member)

    def isolate_another(self, member: int) -> None:
        """Neither this member nor the primary, for as long as slow messages take."""
        world, acts = self._world, self._acts
        others = [other for other in acts.members if other not in (member, acts.primary())]
        if world.faulty and others:
            acts.partition([others[world.up_to(len(others))]], self._until)

    # A lost disk, and nobody in reach who knows what was on it.

    def strand(self, member: int, until: int) -> None:
        """Its disk is lost, and few are in reach afterwards; perhaps one alone, who has missed the latest."""
        acts, world = self._acts, self._world
        near = [member, acts.anyone(), acts.anyone()]
        primary = acts.leading()[1]
        others = [other for other in acts.members if other not in (member, primary)]
        if others and member != primary and world.up_to(2):
            behind = others[world.up_to(len(others))]
            near = [member, behind]
            world.cuts.clear()
            self._until = until = world.now + 4 * self._suspect
            acts.partition([behind], until)
            world.after(world.up_to(self._suspect), self.strand_now, member, near, until)
        else:
            self.strand_now(member, near, until)

    def strand_now(self, member: int, near: list[int], until: int) -> None:
        """The disk goes, or its writes under way where a protocol does not get over that."""
        world = self._world
        if world.faulty:
            if not self._acts.lose_disk(member):
                world.crash_somehow(member)
            if len(near) == 2:
                world.cuts.clear()
            self._acts.partition(near, until)

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
        acts.partition([primary], limit)
        world.no_reads = True
        if world.up_to(3) == 0:
            world.stations[primary].stalled_until = limit
        for _ in range(world.up_to(8)):
            world.after(world.up_to(self._suspect // 2), self.flood, primary)
        world.after(self._suspect // 8, self.watch_deposed, primary, view, limit)

    def flood(self, member: int) -> None:
        """Let it order what nobody waits for."""
        if self._world.faulty:
            self._world.on_flood(member)

    def watch_deposed(self, deposed: int, view: int, until: int) -> None:
        """Once another leads: reads at the deposed; soon after, it comes back, perhaps as the other is cut off."""
        world = self._world
        if not world.faulty or world.now > until:
            world.no_reads = False
        elif self._acts.leading()[0] > view:
            self.read_at(deposed, 8)
            world.after(world.up_to(world.plan.fault_length), self.reunite, bool(world.up_to(2)))
        else:
            world.after(self._suspect // 32, self.watch_deposed, deposed, view, until)

    def read_at(self, deposed: int, times: int) -> None:
        """Reads at a deposed primary that may not know it yet, while others already answer clients."""
        world = self._world
        if world.faulty and times:
            world.on_resume(deposed)
            world.after(self._suspect // 32, self.read_at, deposed, times - 1)

    def reunite(self, cut_off_another: bool) -> None:
        """All are in reach again, but perhaps the present primary: at once, or when it has brought them up to date."""
        world = self._world
        world.no_reads = False
        if world.faulty:
            world.cuts.clear()
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
            for _ in range(world.up_to(7)):
                world.after(world.up_to(self._suspect // 64), self.flood, member)
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
