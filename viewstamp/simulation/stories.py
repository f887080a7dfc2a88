"""Faults that take time: the states that protocol bugs need, made likely.

Members crash just after they have spoken, alone or together, while their disks lag behind. Partitions keep clients on
both sides, so that an old primary is still asked. Links clog and deliver long after, and what a member said before it
lost its disk arrives after it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from transport.network import LinkFaults
from viewstamp.journal.simulated import Crash
from viewstamp.protocol import MILLISECOND
from viewstamp.simulation.disk_stories import DiskStories
from viewstamp.simulation.load import draw_client
from viewstamp.simulation.misunderstandings import Misunderstandings
from viewstamp.simulation.plan import Fault


class Stories(DiskStories, Misunderstandings):
    """All that can befall a cluster: one method for each `Fault`, by its name."""

    def befall(self, fault: Fault) -> None:
        """Carry this out; it may take some simulated time."""
        self.world.watch.counts[f"fault: {fault}"] += 1
        self.world.note(f"fault: {fault}")
        method: Callable[[], None] = getattr(self, fault.name.lower())
        method()

    def ambush(self) -> None:
        """Some end at the moment at which one of them has just told another something."""
        world, draw = self.world, self.draw
        victims, power = self.victims(), bool(draw.randrange(2))
        for member in self.members:
            world.nodes[member].hang = draw.choice((0, 0, 2, 10, 30)) * MILLISECOND
        if draw.randrange(3) == 0:
            for member in sorted(set(victims) - self.without_data):
                crash = Crash.POWER_LOST if power else Crash.KILLED
                self.plan_crash(member, 1 + draw.randrange(8), crash)
            return
        speaker = draw.choice(victims)

        def strike() -> None:
            world.at(world.now, lambda: self.strike(victims, power=power))

        self.network.ambushes[self.names[speaker]] = (1 + draw.randrange(12), strike)
        if draw.randrange(2):  # Back at once: whoever has forgotten what it said says something else now.
            delay = draw.randrange(self.patience)
            world.at(world.now + delay, lambda: self.start_again(victims))

    def swizzle(self) -> None:
        """Some members are cut off one after the other, and healed one after the other in another order."""
        world, draw = self.world, self.draw
        chosen = draw.sample(self.members, 1 + draw.randrange(len(self.members)))
        for member in chosen:
            self.network.isolate(self.names[member])
            world.run_for(draw.randrange(self.patience // 2))
        for member in draw.sample(chosen, len(chosen)):
            self.network.heal(source=self.names[member])
            self.network.heal(destination=self.names[member])
            world.run_for(draw.randrange(self.patience // 2))

    def deceive_primary(self) -> None:
        """The primary goes on hearing what others said long ago, and nobody hears it: it stays primary for a while."""
        self.network.heal()
        primary, delay = self.someone(), self.draw.randrange(2, 8) * self.patience
        heard = self.draw.randrange(4) == 0
        for member in self.members:
            if member != primary:
                self.network.set_link(self.names[member], self.names[primary], LinkFaults(delay_base_ns=delay))
                if not heard:
                    self.network.cut(self.names[primary], self.names[member])
        self._ask_old_primary(primary, delay + self.patience)

    def depose(self) -> None:
        """No other member hears the primary, nor it them; clients reach all, and some go on reading there."""
        self.network.heal()
        primary = self.someone()
        self.separate([primary], [member for member in self.members if member != primary])
        self._ask_old_primary(primary, 3 * self.patience)

    def _ask_old_primary(self, primary: int, duration: int) -> None:
        """All the while, clients change something wherever they can, and read where the primary was."""
        for _ in range(16):
            self.world.run_for(duration // 16)
            self.load.read_at(draw_client(self.draw, self.load), primary)
            if self.draw.randrange(4) == 0:
                self.load.fresh()

    def contest(self) -> None:
        """The primary ends, disks lag, and those who choose another forget what they said, and choose again."""
        world, draw = self.world, self.draw
        self.network.heal()
        primary = self.someone()
        self.strike([primary], power=False)
        others = [member for member in self.members if member != primary]
        for member in others:
            world.nodes[member].hang = draw.choice((2, 10, 30)) * MILLISECOND
        for _ in range(draw.randrange(2, 8)):
            for member in others:
                if draw.randrange(2):
                    self._forget_last_words(member, draw)
            world.run_for(draw.randrange(self.patience))
        self.start(primary)

    def short_reigns(self) -> None:
        """One primary after the other is cut off, with its clients, almost as soon as it leads (Raft's figure 8)."""
        world, draw = self.world, self.draw
        reigning = 0
        for _ in range(draw.randrange(2, 6)):
            reigning = self._await_another(reigning)
            if not reigning:
                return
            if draw.randrange(2):
                self.load.burst(draw_client(draw, self.load), 1 + draw.randrange(3))
            world.run_for(draw.choice((0, 300_000, MILLISECOND, 4 * MILLISECOND, 20 * MILLISECOND)))
            self.network.heal()
            self.separate([reigning], [member for member in self.members if member != reigning])

    def bridge(self) -> None:
        """One member hears all, the others two camps; its disk lags, and it forgets what it has just said to one."""
        world, draw = self.world, self.draw
        self.network.heal()
        middle, *ends = draw.sample(self.members, len(self.members))
        self.separate(ends[: len(ends) // 2], ends[len(ends) // 2 :])
        if draw.randrange(2):
            self.strike(self.members, power=False)
            self.start_again(self.members)
        elif ends:
            late = LinkFaults(delay_base_ns=draw.randrange(1, 4) * self.patience)
            self.network.set_link(self.names[draw.choice(ends)], self.names[middle], late)
        world.nodes[middle].hang = draw.choice((5, 20, 60)) * MILLISECOND
        for moment in range(draw.randrange(1, 4)):
            delay = moment * self.patience + draw.randrange(self.patience)
            world.at(world.now + delay, lambda: self._forget_last_words(middle, draw))
        world.run_for(draw.randrange(2, 6) * self.patience)

    def forget_words(self) -> None:
        """A member whose disk lags forgets what it has just said, and is back soon after."""
        member = self.someone() if self.draw.randrange(2) else self.anyone()
        self.world.nodes[member].hang = self.draw.choice((5, 20, 60)) * MILLISECOND
        self._forget_last_words(member, self.draw)

    def _forget_last_words(self, member: int, draw: Random) -> None:
        world, back_after = self.world, draw.randrange(self.patience // 4)

        def strike() -> None:
            world.at(world.now, lambda: self.strike([member], power=False))
            world.at(world.now + back_after, lambda: self.start(member))

        if not self.over:
            self.network.ambushes[self.names[member]] = (1 + draw.randrange(2), strike)

    def lose_witness(self) -> None:
        """Whoever alone had acknowledged to the primary loses its disk, and only those that lag can answer it."""
        world, draw = self.world, self.draw
        primary = world.primary or 0
        witnesses = [member for member in self.members if member != primary and self.can_lose(member)]
        if not primary or not witnesses:
            return
        witness = draw.choice(witnesses)
        lagging = sorted(set(self.members) - {primary, witness})
        self.network.heal()
        self.separate([primary], draw.sample(lagging, len(lagging) - (len(self.members) - 2) // 2))
        world.run_for(draw.randrange(self.patience))
        self.lose_disk_of(witness)
        others = [member for member in self.members if member != primary]
        if draw.randrange(2):
            self.separate([primary], others, both_ways=False)
        else:
            self.strike([primary], power=False)
        world.run_for(draw.randrange(4 * self.patience))
