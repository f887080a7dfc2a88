"""Stories that follow what members say of themselves: who leads, which view somebody is in, what is committed.

A rare bug needs several things in a certain order, each within moments of the one before: drawn one by one they hardly
ever meet. These stories wait for the moment. They look at nothing but what any operator can see, and they
know no protocol: where one has no such moment, they are partitions and crashes like others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transport.network import LinkFaults
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import Replica
from viewstamp.simulation.faults import Faults

_CLIENT_PAUSE = SECOND
_SLOW = 850_000


class Intrigues(Faults):
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

    def _others(self, *members: int) -> list[int]:
        return [other for other in self.members if other not in members]

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

    def _strand(self, primary: int) -> None:
        """The primary is cut off, and is slow to notice: what others have said last is under way for long."""
        others = self._others(primary)
        self._slow_down(primary)
        late = LinkFaults(delay_base_ns=self.patience // 2)
        for other in others:
            self.network.set_link(self.names[other], self.names[primary], late)
        self.world.run_for(self.patience // 2)
        self.separate([primary], others, both_ways=False)
        self.world.run_for(self.patience // 8)
        self.separate(others, [primary], both_ways=False)
        for other in others:
            self.network.set_link(self.names[other], self.names[primary], None)

    def _keep_apart(self, one: int, others: Iterable[int]) -> None:
        """Everything is healed, but for this member, which no other hears, and which hears no other."""
        self.network.heal()
        self.separate([one], [other for other in others if other != one])

    # Stories.

    def turncoat(self) -> None:
        """The primary is cut off. Who gives it up forgets that as soon as it is said, and is alone with it again."""
        world, draw = self.world, self.draw
        if not self._settle():
            return
        primary = self.someone()
        others = self._others(primary)
        turncoats = draw.sample(others, world.cluster.configuration.quorum - 1)
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
        if draw.randrange(2):  # The rivals hold what the others lack.
            self.separate(asked, rivals)
            self._call_at(self.someone(), 1 + draw.randrange(20))
            world.run_for(self.patience // 4)
            self.network.heal()
        self.strike(self.members if draw.randrange(4) else asked, power=False)
        self.start_again(rivals)
        before = max(self._view(member) for member in self.members)
        for rival in rivals:
            world.pause(rival, 2 * self.patience)
        world.nodes[rivals[0]].hang = draw.choice((0, 0, 5, 20, 60)) * MILLISECOND
        self.separate(rivals[:1], rivals[1:])
        world.run_for(2 * self.patience - 1)
        self.start_again(asked)
        if draw.randrange(2):
            forgetful = self._await_view(asked, before)
            self.strike(forgetful, power=False)
            self.start_again(forgetful)
        first = self._await_another(0)
        if first and draw.randrange(4):
            self.separate([first], self._others(first))
        world.run_for(draw.randrange(1, 4) * self.patience)

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
        """A primary loses what it took in, and leads again, with its only client still waiting."""
        world = self.world
        first, client = self._reign_alone(1 + self.draw.randrange(3))
        leading = self._await_another(first) if first else 0
        if not leading:
            return
        self.network.heal()
        self._bind_client(client, first)
        view = self._view(leading)
        world.run_until(lambda: self._view(first) >= view, 4 * self.patience)
        for _ in self.members * 2:
            world.run_for(self.patience // 2)
            if world.primary == first:
                break
            if world.primary is not None:
                leading = world.primary
                world.tell(leading, "resign", Replica.resign)
            self._await_another(leading)
        self.lull()

    def lost_promise(self) -> None:
        """A member gives its primary up, which is heard late, loses its disk, and is with the primary again."""
        world, draw = self.world, self.draw
        if not self._recovers or not self._settle():
            return
        primary = self.someone()
        others = self._others(primary)
        loser, *rest = draw.sample(others, len(others))
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
        world.run_for(draw.randrange(1, 5) * self.patience)

    def lull(self) -> None:
        """All is well for a while: whatever anybody waits for must be answered, whatever happened before."""
        world, network, patience = self.world, self.network, self.patience
        weather, tail = network.faults, network.tail
        rates = {member: node.clock.rate for member, node in world.nodes.items()}
        self.end()
        self.start_again(self.members)
        self.load.forget_reads_at(self.gone)
        self.load.catch_up(20 * patience + _CLIENT_PAUSE)
        network.faults, network.tail = weather, tail
        for member, node in world.nodes.items():
            node.clock.set_rate(rates[member], world.now)
        self.over = False
