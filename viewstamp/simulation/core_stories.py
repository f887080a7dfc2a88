"""Stories: faults that follow each other so that a rare state comes about, one in which a certain kind of bug shows."""

from __future__ import annotations

from viewstamp.simulation.core_acts import Acts


class Story:
    """One story is told at a time, and no other fault interrupts it. A method begins one, or goes on with it."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts
        self._world = acts.world
        self._suspect = acts.suspect

    @property
    def _until(self) -> int:
        return self._acts.story_until

    @_until.setter
    def _until(self, until: int) -> None:
        self._acts.story_until = until

    @property
    def under_way(self) -> bool:
        """Whether a story is being told."""
        return self._world.now < self._until

    def flood(self, member: int, at_most: int = 6) -> None:
        """Let it order what nobody waits for."""
        if self._world.faulty:
            self._world.on_flood(member, at_most)

    def flood_soon(self, member: int, times: int, spread: int) -> None:
        """So often, within this time."""
        for _ in range(times):
            self._world.after(self._world.up_to(spread), self.flood, member)

    def read_at(self, deposed: int, times: int) -> None:
        """Reads at a deposed primary that may not know it yet, while others already answer clients."""
        world = self._world
        if world.faulty and times:
            world.on_resume(deposed)
            world.after(self._suspect // 32, self.read_at, deposed, times - 1)


class Losses(Story):
    """What was promised is forgotten, or comes when nobody waits for it any more."""

    def __init__(self, acts: Acts) -> None:
        super().__init__(acts)
        acts.world.on_doom = self.forget

    # A promise that is forgotten.

    def doom(self, member: int) -> None:
        """What this member says is slow, but for its acknowledgements, and a promise it makes now will be forgotten.

        Nobody else hears the primary, and in the end this member does not either: it goes along with those who want
        another, while the primary has not missed it long enough to give way.
        """
        acts, world = self._acts, self._world
        primary = acts.leading()[1]
        if primary == member:
            member = acts.another(primary)
        if not primary or primary == member or acts.standing(member) is None:
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
        self._until = world.now + 4 * self._suspect
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

    # Votes that arrive in later views.

    def slow_promises(self) -> None:
        """The primary is gone, or begins anew; what is said to elect one takes long, and is asked for again and again.

        Whoever leads in the end is not heard at first, and others go on.
        """
        acts, world = self._acts, self._world
        primary = acts.primary()
        world.cuts.clear()
        self._until = world.now + 6 * self._suspect
        world.links.slow_promises = dict.fromkeys(acts.members, self._until)
        world.on_change = self.mute_some
        match world.up_to(4):
            case 0:
                world.crash_somehow(primary)
                world.after(world.up_to(self._suspect // 4), world.start, primary)
            case 1:
                acts.partition([primary], world.now + 2 * self._suspect)
            case _:
                self._until = world.now + 8 * self._suspect
                self.stand_together(acts.anyone() if world.up_to(4) else 0, 3)

    def stand_together(self, but: int, times: int) -> None:
        """All but one stand still until nobody waits for a primary any more, and go on in the same moment."""
        world = self._world
        if world.faulty and self.under_way and times:
            for member in self._acts.members:
                if member != but:
                    world.pause(member, world.now + 2 * self._suspect)
            world.after(2 * self._suspect + self._suspect // 2, self.stand_together, but, times - 1)

    def mute_some(self, member: int, begins: bool) -> None:
        """One that has come into another view hears old promises; one that leads is perhaps not heard."""
        world = self._world
        if not self.under_way:
            world.on_change = lambda member, begins: None
            return
        world.relive(member, tuple(world.stations[member].seldom), self._suspect >> (2 * world.up_to(4)))
        if begins and world.up_to(4):
            for other in self._acts.members:
                if other != member:
                    world.cuts[member, other] = world.now + 2 * self._suspect

    # A minority that has missed the latest.

    def ignorance(self) -> None:
        """As many as can be spared hear the primary late; it is gone as soon as what they do not know is committed.

        What the others say of it takes long, what these say comes twice, and one that knows it may forget it.
        """
        acts, world = self._acts, self._world
        view, primary = acts.leading()
        if view < 0 or len(acts.members) < 3:
            return
        self._until = world.now + 5 * self._suspect
        world.cuts.clear()
        others = [member for member in acts.members if member != primary]
        ignorant = acts.some(others, len(acts.members) - world.configuration.quorum)
        for member in ignorant:
            world.links.slow[primary, member] = world.now, 0, 4 * self._suspect
        knowing = [member for member in others if member not in ignorant]
        world.links.slow_promises = dict.fromkeys([primary, *knowing], world.now + 4 * self._suspect)
        world.links.twice = frozenset(ignorant)
        self.flood_soon(primary, 2, self._suspect // 8)
        forgets = knowing[world.up_to(len(knowing))] if world.up_to(4 if world.recovers_lost_disk else 2) else 0
        committed = len(world.checkers.history.committed)
        world.after(self._suspect // 8, self.watch_known, primary, forgets, committed, world.now + self._suspect // 2)

    def watch_known(self, primary: int, forgets: int, committed: int, until: int) -> None:
        """Until something has been committed."""
        world = self._world
        if not world.faulty or not self.under_way:
            return
        if len(world.checkers.history.committed) == committed and world.now < until:
            world.after(1 + self._suspect // 64, self.watch_known, primary, forgets, committed, until)
            return
        if forgets and self._acts.lose_disk(forgets):
            world.after(world.up_to(self._suspect // 8), world.start, forgets)
            world.after(self._suspect // 4 + world.up_to(self._suspect // 2), self.part, primary)
        else:
            self.part(primary)

    def part(self, primary: int) -> None:
        """The primary is gone, with what it has not yet told."""
        if self._world.faulty and self.under_way:
            self._acts.partition([primary], self._until)
