"""Stories that follow what members say of themselves: who leads, which view somebody is in, what is committed.

A rare bug needs several things in a certain order, each within moments of the one before: drawn one by one they hardly
ever meet. These stories wait for the moment. They look at nothing but what any operator can see, and they
know no protocol: where one has no such moment, they are partitions and crashes like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transport.interface import Address
from transport.network import LinkFaults
from viewstamp.protocol import MILLISECOND
from viewstamp.replica import Replica
from viewstamp.simulation.lulls import Lulls

_SLOW = 700_000


class Intrigues(Lulls):
    """Stories that wait for their moment; each begins with a cluster in order, or does not take place."""

    # Means.

    def _settle(self) -> bool:
        """Everybody is up and in the primary's view; False if that does not come about, or there are only two."""
        world = self.world
        if len(self.members) < 3:
            return False
        self.heal()
        self.start_again(self.members)

        def settled() -> bool:
            leading = world.primary
            if leading is None:
                return False
            view = self._view(leading)
            return all(world.nodes[m].replica is not None and self._view(m) == view for m in self.members)

        return not self.gone and world.run_until(settled, 8 * self.patience)

    def _view(self, member: int) -> int:
        return self.world.watch.view_of(member)

    def _await_view(self, members: Sequence[int], above: int, count: int = 1) -> list[int]:
        """Wait until `count` of these are in a view above that one: which, in their order; empty if not in time."""
        risen: list[int] = []

        def look() -> bool:
            risen.extend(member for member in members if member not in risen and self._view(member) > above)
            return len(risen) >= count

        return risen if self.world.run_until(look, 4 * self.patience) else []

    def _await_commit(self, within: int) -> bool:
        """Wait until something more is committed."""
        watch = self.world.watch
        committed = watch.committed
        return self.world.run_until(lambda: watch.committed > committed, within)

    def _await_another(self, reigning: int) -> int:
        """Wait for another member to lead; which it is, 0 if none does in time."""
        nodes = [node for member, node in self.world.nodes.items() if member != reigning]

        def leading() -> int:
            return next((node.member for node in nodes if node.replica is not None and node.replica.leads), 0)

        self.world.run_until(lambda: leading() > 0, 8 * self.patience)
        return leading()

    def _call_at(self, member: int, calls: int) -> None:
        """A client that asks this member, if there is one, calls several times at once."""
        clients = [client for client in self.load.clients if client.session.target == member]
        self.load.burst(self.draw.choice(clients or self.load.clients), calls)

    def _slow_down(self, member: int) -> None:
        """A member's clock is slow for a while: it finds out later than others that time has passed."""
        world, clock = self.world, self.world.nodes[member].clock
        rate = clock.rate
        clock.set_rate(min(rate, _SLOW), world.now)

        def restore() -> None:
            if not self.over:
                clock.set_rate(rate, world.now)

        world.at(world.now + 6 * self.patience, restore)

    def _strand(self, primary: int, slowest: Sequence[int] = ()) -> None:
        """The primary is cut off, and is slow to notice: what others have said last is under way for long.

        What the `slowest` have said arrives when another may lead already.
        """
        others = self._others(primary)
        self._slow_down(primary)
        for other in others:
            delay = self.patience // 2
            if other in slowest:
                delay += self.patience + self.draw.randrange(self.patience // 2)
            self.network.set_link(self.names[other], self.names[primary], LinkFaults(delay_base_ns=delay))
        self.world.run_for(self.patience // 2)
        self.separate([primary], others, both_ways=False)
        self.world.run_for(self.patience // 8)
        self.separate(others, [primary], both_ways=False)
        for other in others:
            self.network.set_link(self.names[other], self.names[primary], None)

    def _not_next(self, primary: int, count: int) -> list[int]:
        """Some others, of which none is the next in order more often than not: that one may be whom they turn to."""
        others = self._others(primary)
        following = self.members[(self.members.index(primary) + 1) % len(self.members)]
        chosen = self.draw.sample(others, len(others))
        if self.draw.randrange(4):
            chosen.sort(key=lambda other: other == following)
        return chosen[:count]

    def _await_data(self) -> None:
        """Wait until all have data again, or not for long."""

        def remembered() -> bool:
            self.remember_data()
            return not self.without_data

        self.world.run_until(remembered, self.patience)

    def _resign(self, member: int) -> None:
        """An operator asks a member to let another lead."""
        self.world.tell(member, "resign", Replica.resign)

    def _keep_apart(self, one: int, others: Iterable[int]) -> None:
        """Everything is healed, but for this member, which no other hears, and which hears no other."""
        self.network.heal()
        self.separate([one], [other for other in others if other != one])

    def _last_words(self, member: int, count: int) -> list[tuple[Address, bytes]]:
        """What a member has said last, heard or not, as (destination, datagram)."""
        return list(self.network.said.get(self.names[member], ()))[-count:]

    def _deliver_at(self, when: int, source: Address, destination: Address, datagram: bytes) -> None:
        world = self.world
        world.at(when, lambda: world.deliver(str(source), str(destination), datagram))

    # Stories.

    def turncoat(self) -> None:
        """The primary is cut off. Who gives it up forgets that as soon as it is said, and is alone with it again."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary = self.someone()
        others = self._others(primary)
        turncoats = self._not_next(primary, world.cluster.configuration.quorum - 1)
        self._strand(primary)
        self._call_at(primary, 1 + draw.randrange(3))
        if not self._await_view(turncoats, self._view(primary)):
            return
        self.strike(turncoats, power=bool(draw.randrange(2)))
        self.network.heal()
        self.separate([primary, *turncoats], [other for other in others if other not in turncoats])
        self.start_again(turncoats)
        self._await_commit(3 * self.patience)
        if draw.randrange(4):
            self.network.heal()
        world.run_for(draw.randrange(1, 4) * self.patience)

    def rivals(self) -> None:
        """Two stand still and wake up together, to lead. Neither hears the other, and those whom they ask forget."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        rivals = draw.sample(self.members, 2)
        asked = self._others(*rivals)
        if draw.randrange(3):  # The rivals hold what the others lack.
            self.separate(asked, rivals)
            self._call_at(self.someone(), 1 + draw.randrange(20))
            world.run_for(self.patience // 4)
            self.network.heal()
        self.strike(self.members, power=False)
        self.start_again(rivals)
        if draw.randrange(3) == 0:
            self._answer_late(rivals, asked)
        before = self._wake_together(rivals, asked)
        if draw.randrange(3) == 0:
            forgetful = self._await_view(asked, before)
            self.strike(forgetful, power=False)
            self.start_again(forgetful)
        first = self._await_another(0)
        if first and draw.randrange(4):
            self.separate([first], self._others(first))
        world.run_for(draw.randrange(1, 4) * self.patience)

    def _wake_together(self, rivals: Sequence[int], asked: Sequence[int]) -> int:
        """Two stand still and deaf until they lose patience, the others are down. Gives the highest view so far."""
        before = max(self._view(member) for member in self.members)
        self.strike(asked, power=False)
        for rival in rivals:
            self.world.pause(rival, 2 * self.patience)
        self.world.nodes[rivals[0]].hang = self.draw.choice((0, 10, 20, 60)) * MILLISECOND
        self.separate(rivals[:1], rivals[1:])
        self.world.run_for(2 * self.patience - 1)
        for rival in rivals:
            self.world.nodes[rival].backlog.clear()  # Old words of whoever led would keep it quiet.
        self.start_again(asked)
        return before

    def _answer_late(self, rivals: Sequence[int], asked: Sequence[int]) -> None:
        """The rivals stand once more: what the others answered the first time arrives as they stand the second."""
        world, draw = self.world, self.draw
        if not self._await_view(asked, self._wake_together(rivals, asked)):
            return
        self.separate(asked, rivals, both_ways=False)
        world.run_for(draw.choice((5, 30)) * MILLISECOND)
        names = [self.names[rival] for rival in rivals]
        late = [(self.names[m], *said) for m in asked for said in self._last_words(m, 40) if said[0] in names]
        wake = world.now + 2 * self.patience
        for source, destination, datagram in late[-12:]:
            self._deliver_at(wake + draw.randrange(self.patience // 4), source, destination, datagram)
        self.network.heal()

    def _reign_alone(self, calls: int) -> tuple[int, str]:
        """The primary is cut off with a client that hears no other, and many calls. Which both are; 0 for none."""
        if not self._settle():
            return 0, ""
        primary = self.someone()
        clients = [client for client in self.load.clients if client.session.target == primary]
        client = self.draw.choice(clients or self.load.clients)
        self.network.heal()
        self.separate([primary], self._others(primary))
        self._bind_client(client.address, primary)
        self.load.burst(client, calls)
        return primary, client.address

    def _bind_client(self, address: str, member: int) -> None:
        for other in self._others(member):
            self.network.cut(address, self.names[other])
            self.network.cut(self.names[other], address)

    def lone_reign(self) -> None:
        """A primary alone takes many calls. Another reigns, commits a little, and is cut off as the first returns."""
        first, _ = self._reign_alone(self.draw.choice((3, 20, 40)))
        second = self._await_another(first) if first else 0
        if second:
            self._await_commit(self.patience)
            self._keep_apart(second, self.members)
            self.world.run_for(self.draw.randrange(1, 5) * self.patience)
            if self.draw.randrange(2):
                self.lull([second])

    def overwrite(self) -> None:
        """What one primary ordered alone is spread by it after another one has ordered something there (figure 8).

        The other is mute from when it is elected. The first comes back, spreads what it has, and crashes, with all who
        heard it, as soon as anything is committed; then the other meets those who are back without the first.
        """
        world, draw = self.world, self.draw
        first, _ = self._reign_alone(draw.choice((3, 20, 40)))
        if not first:
            return
        risen = self._await_view(self._others(first), self._view(first), 2)
        if not risen:
            return
        second, rest = risen[0], self._others(first, risen[0])
        self.separate([second], rest, both_ways=False)
        self._await_another(first)
        world.run_for(draw.choice((1, 12)) * MILLISECOND)
        self._keep_apart(second, self.members)
        self._await_commit(6 * self.patience)
        self.strike(self._others(second), power=bool(draw.randrange(2)))
        world.run_for(self.patience // 2)
        self.start_again(rest)
        self._keep_apart(first, self.members)
        world.run_for(draw.randrange(2, 6) * self.patience)

    def comeback(self) -> None:
        """A primary loses what it took in, and leads again, with its only client still waiting.

        Of five members one was with it. What that one answered then arrives in the second reign, when it is away.
        """
        world, draw = self.world, self.draw
        accompanied = len(self.members) > 4 and draw.randrange(4) > 0
        # What it takes in must reach beyond what others will have put in its place.
        first, client = self._reign_alone(40 if accompanied else draw.choice((1, 3, 40)))
        if not first:
            return
        companion, *rest = draw.sample(self._others(first), len(self.members) - 1)
        if accompanied:
            self._hush(client)
            self.network.heal(self.names[first], self.names[companion])
            self.network.heal(self.names[companion], self.names[first])
            self.separate([companion], rest)
        leading = self._await_another(first)
        if not leading:
            return
        words = [said for said in self._last_words(companion, 40) if said[0] == self.names[first]]
        self.network.heal()
        self._bind_client(client, first)
        if accompanied:
            self._hush(client)
        self._lead_again(first, leading)
        if accompanied:
            self.separate([companion, *rest[1:]], [first, rest[0]])
            for destination, datagram in words:
                when = world.now + draw.randrange(self.patience // 2)
                self._deliver_at(when, self.names[companion], destination, datagram)
            world.run_for(self.patience // 2)
        self.lull()

    def _hush(self, but: str) -> None:
        """No client is heard but this one."""
        for client in self.load.clients:
            if client.address != but:
                self.network.isolate(client.address)

    def _lead_again(self, member: int, leading: int) -> None:
        """Whoever leads resigns, until this member does, which first follows the one that leads now."""
        world, view = self.world, self._view(leading)
        world.run_until(lambda: self._view(member) >= view, 4 * self.patience)
        world.run_for(self.patience // 4)
        for _ in self.members * 2:
            leading = world.primary or leading
            if leading == member:
                return
            self._resign(leading)
            if self._await_another(leading) != member:
                world.run_for(self.patience // 4)

    def deserter(self) -> None:
        """Of five: who has just helped a second primary to commit forgets, and is with the first, who knows of none."""
        world, draw = self.world, self.draw
        if len(self.members) < 5 or not self._settle():
            return
        first = self.someone()
        deserter, *rest = draw.sample(self._others(first), len(self.members) - 1)
        self._strand(first)
        self.separate([deserter], rest)
        self._call_at(first, draw.choice((1, 10, 30)))
        second = self._await_another(first)
        if not second:
            return
        absent = draw.choice([member for member in rest if member != second])
        self.network.heal()
        self.separate([first, absent], self._others(first, absent))
        self._call_at(second, 1 + draw.randrange(3))
        self._await_commit(self.patience)
        self.strike([deserter], power=bool(draw.randrange(2)))
        self.network.heal()
        self.separate([first, deserter], rest)
        self.start(deserter)
        world.run_for(self.patience // 2)
        self.network.heal()
        self.separate([first, deserter, absent], [member for member in rest if member != absent])
        world.run_for(draw.randrange(2, 6) * self.patience)
