"""Stories of what comes after: lost disks, second crashes, words that arrive when their time is over."""

from __future__ import annotations

from transport.network import LinkFaults
from viewstamp.journal.simulated import Crash
from viewstamp.protocol import MILLISECOND
from viewstamp.simulation.intrigues import Intrigues
from viewstamp.simulation.load import draw_client


class Aftermath(Intrigues):
    """More stories that wait for their moment."""

    def lost_promise(self) -> None:
        """A member gives its primary up, which is heard late, loses its disk, and is with the primary again."""
        world, draw = self.world, self.draw
        if not self._recovers or not self._settle():
            return
        if len(self.members) > 4 and draw.randrange(3):
            self._outlive_promise()
            return
        primary = self.someone()
        [loser] = self._not_next(primary, 1)
        rest = self._others(primary, loser)
        self._await_data()
        if not self.can_lose(loser):
            return
        late = LinkFaults(delay_base_ns=draw.randrange(2, 6) * self.patience // 2)
        for other in rest:
            self.network.set_link(self.names[loser], self.names[other], late)
        self._strand(primary)
        if not self._await_view([loser], self._view(primary)):
            return
        node = world.nodes[loser]
        world.run_until(lambda: not node.writing and not node.waiting, self.patience // 4)
        self.lose_disk_of(loser)
        for other in rest:
            self.network.set_link(self.names[loser], self.names[other], None)
        self.network.heal()
        self.separate([primary], rest)
        self._call_at(primary, 1 + draw.randrange(5))
        if draw.randrange(2):  # Those who answer its question forget that they did.
            for other in rest:
                world.nodes[other].hang = draw.choice((15, 30)) * MILLISECOND
            self._await_ready(loser)
            self.strike(rest, power=False)
            self.start_again(rest)
        world.run_for(draw.randrange(1, 5) * self.patience)

    def _outlive_promise(self) -> None:
        """Of five: who is to lead next has the promise of one that loses its disk then, and lacks one more.

        With its new disk that member is with the old primary, and helps it to commit. One that is not there for that
        knows of the new disk, and is the next to promise.
        """
        world, draw, primary = self.world, self.draw, self.someone()
        heir = self.members[(self.members.index(primary) + 1) % len(self.members)]
        loser, knowing, *rest = draw.sample(self._others(primary, heir), len(self.members) - 2)
        self._await_data()
        if not self.can_lose(loser):
            return
        view = self._view(primary)
        self.separate([heir, loser], [knowing, *rest], both_ways=False)
        self._strand(primary)
        if len(self._await_view([heir, loser], view, 2)) < 2:
            return
        world.run_for(draw.choice((5, 20)) * MILLISECOND)
        self._keep_apart(heir, self.members)
        self.lose_disk_of(loser)
        if not self._await_ready(loser):
            return
        self.separate([knowing], self._others(knowing))
        self._call_at(primary, 1 + draw.randrange(5))
        self._await_commit(self.patience // 2)
        for one, other in ((heir, knowing), (knowing, heir)):
            self.network.heal(self.names[one], self.names[other])
        if self._await_another(primary):
            self.network.heal()
        world.run_for(draw.randrange(1, 4) * self.patience)

    def _await_ready(self, member: int) -> bool:
        """Wait until a member takes part and knows a primary."""
        node = self.world.nodes[member]
        return self.world.run_until(lambda: node.replica is not None and node.replica.ready, 2 * self.patience)

    def lose_twice(self) -> None:
        """A member loses its disk and takes part again; then the primary changes, and it loses its disk once more.

        It meets nobody now but the primary that was deposed, and all that was answered the first time.
        """
        world, draw = self.world, self.draw
        if not self._recovers or not self._settle():
            return
        primary = self.someone()
        loser, *rest = draw.sample(self._others(primary), len(self.members) - 1)
        self._await_data()
        if not self.can_lose(loser):
            return
        me = self.names[loser]
        self.lose_disk_of(loser)
        if not self._await_ready(loser):
            return
        words = [(self.names[m], said) for m in (primary, *rest) for said in self._last_words(m, 60) if said[0] == me]
        self._await_data()
        self._strand(primary)
        self._call_at(primary, 3)
        if not self._await_another(primary) or not self._await_commit(self.patience):
            return
        world.run_for(self.patience // 8)
        self.lose_disk_of(loser)
        self.network.heal()
        self.separate([primary, loser], rest)
        for source, (destination, datagram) in words:
            self._deliver_at(world.now + draw.randrange(self.patience // 2), source, destination, datagram)
        world.run_for(draw.randrange(1, 4) * self.patience)

    def relapse(self) -> None:
        """Killed inside a disk operation, back at once, and without power a moment later: was all of it still there?"""
        world, draw = self.world, self.draw
        member = self.someone() if draw.randrange(2) else self.anyone()
        node = world.nodes[member]
        life = node.life
        self.plan_crash(member, 1 + draw.randrange(6), Crash.KILLED)
        if world.run_until(lambda: node.life != life, self.patience):
            self.start(member)
            world.run_for(draw.choice((0, 0, MILLISECOND, 20 * MILLISECOND)))
            self.strike([member], power=True)
            self.start(member)

    def overtaken(self) -> None:
        """What the primary says to one is under way for long, and what it says later, and its snapshot, come first."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary = self.someone()
        slow = draw.choice(self._others(primary))
        duration = draw.randrange(1, 4) * self.patience
        self.network.set_link(self.names[primary], self.names[slow], LinkFaults(delay_base_ns=duration))
        for _ in range(4):
            self._call_at(primary, 1 + draw.randrange(30))
            world.run_for(duration // 4 - MILLISECOND)
        world.nodes[slow].hang = draw.choice((0, 10, 30, 60)) * MILLISECOND
        self.network.set_link(self.names[primary], self.names[slow], None)
        self._call_at(primary, 1 + draw.randrange(30))
        world.run_for(draw.randrange(1, 3) * self.patience)

    def deaf_client(self) -> None:
        """A client is not told what became of its calls; then all members begin again, and it asks again."""
        world, draw = self.world, self.draw
        client = draw.choice(self.load.clients)
        for name in self.names.values():
            self.network.cut(name, client.address)
        self.load.burst(client, 1 + draw.randrange(10))
        for _ in range(2):
            self._call_at(self.someone(), 1 + draw.randrange(20))
            world.run_for(draw.randrange(1, 3) * self.patience // 2)
        members = self.members if draw.randrange(2) else [self.someone()]
        self.strike(members, power=bool(draw.randrange(2)))
        self.start_again(members)
        for name in self.names.values():
            self.network.heal(name, client.address)
        world.run_for(draw.randrange(1, 3) * self.patience)

    def gap(self) -> None:
        """A member has missed some of what the primary ordered, and holds what came after that, which is never agreed.

        It cannot ask for the rest, hears nothing of another that leads, and then of nobody else: what the new one
        orders in that place is something else. Of four or less the old primary is needed, and forgets it all.
        """
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary, needed = self.someone(), len(self.members) < 5
        behind, *rest = draw.sample(self._others(primary), len(self.members) - 1)
        if needed:
            world.nodes[primary].hang = 60 * MILLISECOND
        self.separate([behind], [primary, *rest], both_ways=False)
        self.separate([primary], [behind, *rest], both_ways=False)
        self._call_at(primary, draw.choice((1, 5, 20)))
        world.run_for(draw.choice((2, 5)) * MILLISECOND)
        self.network.heal(self.names[primary], self.names[behind])
        for _ in range(draw.randrange(1, 4)):
            self._call_at(primary, 1 + draw.randrange(3))
            world.run_for(draw.choice((1, 3)) * MILLISECOND)
        self.separate([behind], [primary, *rest])
        if needed:
            self.strike([primary], power=True)
            self._keep_apart(behind, self.members)
            self.start(primary)
        if self._await_another(0 if needed else primary):
            self.network.heal()
            if not needed:
                self.separate([primary], self._others(primary))
            for _ in range(3):
                self._call_at(self.someone(), 1 + draw.randrange(10))
                world.run_for(draw.randrange(1, 3) * self.patience // 2)

    def outlived(self) -> None:
        """A new primary and one other are alone with what it orders; another leads, and both drop it.

        Then the first leads again, as far as before, with the other behind: what that said the first time comes now.
        """
        world, draw = self.world, self.draw
        if len(self.members) < 5 or not self._settle():
            return
        self._resign(self.someone())
        primary = self._await_another(self.someone())
        if not primary:
            return
        friend, witness, *rest = draw.sample(self._others(primary), len(self.members) - 1)
        away = [witness, *rest]
        for client in self.load.clients:
            for other in away:
                self.network.cut(client.address, self.names[other])
        self.separate([primary, friend], away)
        self._call_at(primary, 5 + draw.randrange(30))
        world.run_for(draw.choice((5, 20)) * MILLISECOND)
        words = [said for said in self._last_words(friend, 12) if said[0] == self.names[primary]]
        if not self._await_another(primary):
            return
        for one in (primary, friend):
            for other in away:
                self.network.heal(self.names[one], self.names[other])
                self.network.heal(self.names[other], self.names[one])
        world.run_for(self.patience // 2)
        if not self._let_stand(primary):
            return
        world.run_until(lambda: world.primary == primary, 2 * self.patience)
        if world.primary != primary:
            return
        self.separate([primary], rest)
        world.nodes[friend].hang = draw.choice((60, 200)) * MILLISECOND
        self._call_at(primary, 20 + draw.randrange(40))
        for _ in range(draw.choice((5, 30))):  # Rounds begin.
            self.load.read_at(draw_client(draw, self.load), primary)
            world.run_for(MILLISECOND)
        for destination, datagram in words:
            self._deliver_at(world.now + draw.randrange(20 * MILLISECOND), self.names[friend], destination, datagram)
        world.run_for(draw.randrange(1, 3) * self.patience)

    def standstill(self) -> None:
        """The primary stands still with answers unheard. Others go on without it, and somebody reads there."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary = self.someone()
        self._call_at(primary, 1 + draw.randrange(3))
        world.run_for(draw.randrange(2 * MILLISECOND))
        world.pause(primary, 4 * self.patience)
        self.separate([primary], self._others(primary))
        if self._await_another(primary):
            self._await_commit(self.patience)
            for _ in range(3):
                self.load.read_at(draw.choice(self.load.clients), primary)
        world.run_for(4 * self.patience)

    def rerun(self) -> None:
        """A primary is away while each of the others leads once. What made it primary comes again with its turn."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        before = self.someone()
        self._resign(before)
        again = self._await_another(before)
        if not again:
            return
        me, others = self.names[again], self._others(again)
        words = [(self.names[m], *said) for m in others for said in self._last_words(m, 12) if said[0] == me]
        self.separate([again], others)
        leading = self._await_another(again)
        for _ in others[1:]:
            if leading:
                self._resign(leading)
                leading = self._await_another(leading)
        if not leading or not self._await_commit(self.patience):
            return
        for other in others:
            world.nodes[other].hang = draw.choice((30, 60)) * MILLISECOND
        self.network.heal()
        self._resign(leading)
        for source, destination, datagram in words:
            self._deliver_at(world.now + draw.randrange(60 * MILLISECOND), source, destination, datagram)
        world.run_for(draw.randrange(1, 3) * self.patience)

    def last_read(self) -> None:
        """A primary is cut off, and slow to notice. When another has answered, somebody asks it, for the first time."""
        world, load, draw = self.world, self.load, self.draw
        if not self._settle():
            return
        primary, surprised = self.someone(), list[int]()
        if draw.randrange(2):
            primary, surprised = self._succeed_unheard(primary)
            if not primary:
                return
        for client in load.clients:
            self.network.cut(client.address, self.names[primary])
        if surprised or draw.randrange(3) == 0:
            self._strand(primary, surprised)
        else:  # It stands still. Answers from before wait for it as it goes on, and whoever asked it meanwhile.
            world.pause(primary, draw.randrange(4, 10) * self.patience // 2)
            self.separate([primary], self._others(primary), both_ways=False)
            world.run_for(self.patience // 8)
            self.separate(self._others(primary), [primary], both_ways=False)
        before = load.acknowledged
        load.fresh()
        if not self._await_another(primary):
            return
        world.run_until(lambda: load.acknowledged > before, self.patience)
        for client in load.clients:
            self.network.heal(client.address, self.names[primary])
        if surprised:
            self._read_often(primary, 60, MILLISECOND // 10)
        for _ in range(3):
            self._read_often(primary, 1, draw.choice((0, MILLISECOND, self.patience // 4)))
        world.run_for(self.patience)

    def _succeed_unheard(self, primary: int) -> tuple[int, list[int]]:
        """Of two new primaries one is asked often, and some learn of the second only when it leads: both, or 0."""
        self._resign(primary)
        first = self._await_another(primary)
        if not first:
            return 0, []
        self.world.run_for(self.patience // 4)
        self._read_often(first, 30, MILLISECOND // 10)
        surprised = self._not_next(first, self.world.cluster.configuration.quorum - 1)
        self.separate(surprised, self._others(*surprised))
        self._resign(first)
        second = self._await_another(first)
        self.network.heal()
        self.world.run_for(self.patience // 4)
        return second, surprised

    def _read_often(self, member: int, times: int, pause: int) -> None:
        """Somebody reads at this member, so many nanoseconds after each other."""
        for _ in range(times):
            self.load.read_at(draw_client(self.draw, self.load), member)
            self.world.run_for(pause)

    def encore(self) -> None:
        """A member stands, and later once more. What it was told the first time it then hears again."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        star, patience = draw.choice(self._others(self.someone())), self.patience
        if not self._let_stand(star):
            return
        world.run_for(20 * MILLISECOND)
        me, others = self.names[star], self._others(star)
        words = [(self.names[m], *said) for m in others for said in self._last_words(m, 20) if said[0] == me]
        if not self._settle():
            return
        if world.primary == star:
            self._resign(star)
            self._await_another(star)
            world.run_for(patience // 2)
        if self._let_stand(star, hang=draw.choice((30, 60)) * MILLISECOND):
            for source, destination, datagram in words:
                self._deliver_at(world.now + draw.randrange(20 * MILLISECOND), source, destination, datagram)
        world.run_for(draw.randrange(1, 3) * patience)

    def _let_stand(self, star: int, hang: int = 0) -> bool:
        """All others are away until this one has nearly lost patience; whether it is in another view then.

        Their disks are late by `hang`: so are their answers.
        """
        before, others = self._view(star), self._others(star)
        self.strike(others, power=False)
        self.world.run_for(self.patience * 9 // 10)
        for other in others:
            self.world.nodes[other].hang = hang
        self.start_again(others)
        return bool(self._await_view([star], before))
