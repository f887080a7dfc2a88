"""Times at which all is well, or as well as it must be: whoever waits is to be served. Clients that are far."""

from __future__ import annotations

from collections.abc import Sequence

from viewstamp.protocol import SECOND
from viewstamp.simulation.faults import Faults

_CLIENT_PAUSE = SECOND


class Lulls(Faults):
    """What a cluster owes to its clients while nothing, or not too much, is in the way."""

    def _others(self, *members: int) -> list[int]:
        return [other for other in self.members if other not in members]

    def far_clients(self) -> None:
        """Some clients do not reach the primary, or are not reached by it, or neither. The members hear each other."""
        self._part_clients(self.someone())

    def _part_clients(self, member: int) -> None:
        for client in self.load.clients:
            way = self.draw.randrange(4)
            if way in (1, 3):
                self.network.cut(client.address, self.names[member])
            if way in (2, 3):
                self.network.cut(self.names[member], client.address)

    def lull(self, without: Sequence[int] = ()) -> None:
        """All is well for a while: whatever anybody waits for must be answered, whatever happened before.

        Nobody hears those that it is to be `without`, if the others are enough, and have their data. At times clients
        are cut off from one of the others, which may be the primary: the rest is to forward what they ask for.
        """
        world, network, patience = self.world, self.network, self.patience
        weather, tail, disks = network.faults, network.tail, world.disk_latency
        rates = {member: node.clock.rate for member, node in world.nodes.items()}
        self.end()
        self.remember_data()
        core = self._others(*without)
        able = set(core) - self.without_data - self.gone
        if len(able) < world.cluster.configuration.quorum or not self.founded:
            core = self.members
        absent = self._others(*core)
        self.separate(core, absent)
        if self.draw.randrange(2):  # Else clients go on hearing those who cannot serve.
            for member in absent:
                network.isolate(self.names[member])
        self.start_again(core)
        far = self.draw.choice(sorted(able)) if len(able) > 1 and self.draw.randrange(2) else 0
        if far:
            if self.draw.randrange(2):
                self.client_crash()  # Who begins now registers with those that it hears.
            self._part_clients(far)
        self.load.forget_reads_at({*self.gone, *absent, far})
        near = able - {far}
        # Answers to reads at one member are no sign of life of another, which calls are sent to.
        stop = self.load.read_on(min(near), patience // 5) if near and self.draw.randrange(2) else None
        self.load.catch_up(20 * patience + _CLIENT_PAUSE)
        if stop is not None:
            stop()
        network.heal()
        network.faults, network.tail, world.disk_latency = weather, tail, disks
        for member, node in world.nodes.items():
            node.clock.set_rate(rates[member], world.now)
        self.over = False

    def remnant(self) -> None:
        """All is well, but for some who are cut off: the others are enough, and must serve with what they have."""
        spare = len(self.members) - self.world.cluster.configuration.quorum
        if spare:
            self.lull(self.draw.sample(self.members, self.draw.randint(1, spare)))
