"""Stories of primaries that come back, or are deceived: what was said to them long ago must not count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from viewstamp.protocol import Message
from viewstamp.simulation.core_stories import Story


class Returns(Story):
    """Who led once leads again; who leads hears the past."""

    _at_once = False
    _letters: Mapping[int, Sequence[tuple[int, int, Message]]] = {}

    def _when_led(self, after: int, then: Callable[[int], None]) -> None:
        """As soon as a view beyond this one has a primary, before anything that it says has left: go on with it."""
        world = self._world

        def change(member: int, begins: bool) -> None:
            if not self.under_way:
                world.on_change = lambda member, begins: None
            elif begins and world.checkers.standings[member].view > after:
                world.on_change = lambda member, begins: None
                then(member)

        world.on_change = change

    # A primary that hears the past.

    def deceive(self) -> None:
        """All others hear it no more, and elect another; but for a while, what they said before goes on arriving."""
        acts, world = self._acts, self._world
        view, primary = acts.leading()
        if view < 0:
            return
        self._until = world.now + 8 * self._suspect
        world.cuts.clear()
        for other in acts.members:
            if other != primary:
                world.links.slow[other, primary] = world.now, 1 + world.up_to(2), 0
        world.after(self._suspect + world.up_to(self._suspect), self.cut_off_deceived, primary, view)

    def cut_off_deceived(self, primary: int, view: int) -> None:
        """From now on it hears nothing new."""
        if self._world.faulty:
            self._acts.partition([primary], self._until)
            self.watch_deceived(primary, view, len(self._world.checkers.history.told))

    def watch_deceived(self, primary: int, view: int, told: int) -> None:
        """Once clients have been told of what it does not know, it is asked."""
        world = self._world
        now_told = len(world.checkers.history.told)
        if not world.faulty or not self.under_way or world.now > self._until - 2 * self._suspect:
            world.links.slow.clear()
            world.no_reads = False
            self._until = min(self._until, world.now)
            return
        leads = self._acts.leading()[0] > view
        world.no_reads = not leads  # An answer under way is to a question from before all reads.
        if leads and now_told > told:
            world.on_resume(primary)
        world.after(self._suspect // 16, self.watch_deceived, primary, view, told if leads else now_told)

    # The first, another, the first, the other.

    def second_reign(self) -> None:
        """The primary orders what only a minority with it gets; another leads, and is cut off; the first leads again.

        (Raft's figure 8, if the second is cut off at once; else the first has lost by then what it ordered.) Perhaps it
        is one that has just begun: what it is told then soon fits, but for the view, what it says the next time.
        """
        acts, world = self._acts, self._world
        view, first = acts.leading()
        if view < 0 or len(acts.members) < 3:
            return
        self._until = world.now + 12 * self._suspect
        world.cuts.clear()
        if world.up_to(2):
            self.first_reign(first, view)
        else:
            self._when_led(view, lambda leader: self.first_reign(leader, acts.leading()[0]))
            acts.resign(first)

    def first_reign(self, first: int, view: int) -> None:
        """It is cut off, with few."""
        acts, world = self._acts, self._world
        spare = len(acts.members) - world.configuration.quorum
        others = [member for member in acts.members if member != first]
        # Of three or four nobody can be with it: what others are to have of it, it has to forget.
        plot = world.up_to(5) if spare > 1 else (0, 0, 1, 3)[world.up_to(4)]
        at_once = plot < 3
        if plot:
            along = acts.some(others, spare - 1)
        else:
            # Its own disk has nothing of it, and it forgets: that others have acknowledged it must not count later.
            along, at_once = acts.some(others, 1), False
            world.stations[first].stalled_until = world.now + self._suspect
            world.after(self._suspect // 4 + 1, self.forget_reign, first, along)
        world.after(self._suspect // 4, self.keep_letters, first)
        acts.partition([first, *along], self._until)
        self.flood_soon(first, 4 + world.up_to(8), self._suspect // 4)
        self._when_led(view, lambda second: self.between(first, along, second, at_once=at_once))

    def keep_letters(self, first: int) -> None:
        """All that it was told lately, and all that it told others."""
        self._letters = {
            member: [said for said in station.latest if first in (said[0], member)]
            for member, station in self._world.stations.items()
        }

    def forget_reign(self, first: int, along: list[int]) -> None:
        """It crashes before anything is on its disk; those who have it do not say so for a while."""
        acts, world = self._acts, self._world
        if world.faulty and self.under_way:
            world.crash(first, 0)
            world.cuts.clear()
            acts.partition(along, self._until)

    def between(self, first: int, along: list[int], second: int, *, at_once: bool) -> None:
        """Another leads: nobody hears of it, or all do, and then nobody hears it any more."""
        world = self._world
        world.cuts.clear()
        self._at_once = at_once
        if at_once:
            self.return_to(first, along, second)
        else:
            # Long enough to bring all up to date, and short enough that it has not ordered much.
            world.no_requests = True
            world.after(self._suspect // 2 + world.up_to(self._suspect // 2), self.return_to, first, along, second)

    def return_to(self, first: int, along: list[int], second: int) -> None:
        """The second is cut off, and for a while no other can lead than the first."""
        acts, world = self._acts, self._world
        world.no_requests = False
        if not world.faulty or not self.under_way:
            return
        world.cuts.clear()
        acts.partition([second], self._until)
        acts.star(first, min(self._until, world.now + 4 * self._suspect))
        self._until = max(self._until, world.now + 8 * self._suspect)
        self._when_led(acts.leading()[0], lambda leader: self.again(leader, first, along, second))

    def again(self, leader: int, first: int, along: list[int], second: int) -> None:
        """It hears what it was told the time before; soon after, it gives way to the second once more."""
        acts, world = self._acts, self._world
        if leader == second:
            return
        if leader != first and world.up_to(8):
            # Views go round where it is not an election that says who leads.
            self._when_led(acts.leading()[0], lambda leader: self.again(leader, first, along, second))
            world.after(1, acts.resign, leader)
            return
        world.cuts.clear()
        acts.partition([second], self._until)
        few = 4 * world.plan.delay + 2 * (world.plan.write_delay + world.plan.gather)
        if world.up_to(3) == 0:
            world.stations[first].stalled_until = world.now + 8 * few
        unheard: list[int] = []
        if leader == first and not self._at_once:
            rest = [member for member in acts.members if member not in (first, second, *along)]
            heard = acts.some(rest, world.configuration.quorum - 2)
            most = [member for member in acts.members if member not in heard]
            unheard = (most, most, along, [])[world.up_to(4)]
        if unheard:
            for other in unheard:
                if other != first:
                    world.cuts[first, other] = world.now + 8 * few
            self.flood_soon(first, 12 + world.up_to(8), few)
            for _ in range(world.up_to(48)):  # Each begins a round, as many as there were the time before.
                world.after(1 + world.up_to(few), world.on_resume, first)
            for _ in range(3):
                for member, letters in self._letters.items():
                    world.relive(member, letters, 4 * few)
            world.after(12 * few, self.last, second)
        elif world.up_to(2):
            world.after(world.up_to(8 * few), self.last, second)
        else:
            self.await_step(second, self._steps(), world.now + self._suspect, bool(world.up_to(2)))

    def _steps(self) -> tuple[int, int]:
        """Up to which op a quorum of disks hold anything, and how much is committed."""
        world = self._world
        ends = sorted((station.node.disk.last_op for station in world.stations.values()), reverse=True)
        return ends[world.configuration.quorum - 1], len(world.checkers.history.committed)

    def await_step(self, second: int, before: tuple[int, int], until: int, committed: bool) -> None:
        """As soon as anything is committed, or before that: as soon as it could be."""
        world = self._world
        if not world.faulty or not self.under_way:
            return
        now = self._steps()
        if now[committed] > before[committed] or world.now > until:
            world.after(0 if committed else world.up_to(3 * world.plan.delay), self.last, second)
        else:
            world.after(1 + self._suspect // 256, self.await_step, second, before, until, committed)

    def last(self, second: int) -> None:
        """The second comes back, and can lead, as the present primary is cut off."""
        acts, world = self._acts, self._world
        if not world.faulty or not self.under_way:
            return
        primary = acts.leading()[1]
        world.cuts.clear()
        if primary and primary != second:
            # It hears once more what it was told as long as it led, and from those that follow another by then.
            acts.partition([primary], world.now + 3 * self._suspect)
            world.after(self._suspect, world.relive, primary, tuple(world.stations[primary].latest), self._suspect)
        self._until = world.now + 3 * self._suspect
        acts.star(second, self._until)
