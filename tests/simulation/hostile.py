"""The state that protocol bugs need, made likely: a scenario drawn from a seed, harder than plain chaos.

Members crash just after they have spoken, alone or together, while their disks lag behind. Partitions keep clients on
both sides, so that an old primary is still asked. Links clog and deliver long after, and what a member said before it
lost its disk arrives after it. Time-outs are short, so that view changes overlap; pages are small, so that a log takes
several messages. Every run ends healed: everything must then be answered, exact, and equal on all members.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.simulation.load import ADD, GET, CounterLoad
from transport.interface import Address
from transport.network import LinkFaults, Network
from viewstamp.journal.simulated import Crash
from viewstamp.protocol import MILLISECOND, SECOND, Limits, Timeouts
from viewstamp.simulation.inhabitants import Answer, DiskLatency, SimulatedClient
from viewstamp.simulation.world import World

_REMEMBERED = 2000
_ROUNDS = 16
_NEVER_REACHED = 1 << 40
_HASTY = Timeouts(heartbeat=20 * MILLISECOND, suspect=70 * MILLISECOND, jitter=20 * MILLISECOND, retry=15 * MILLISECOND)
_WEATHER = (
    LinkFaults(),
    LinkFaults(loss=0.02, duplicate=0.05, reorder=0.1),
    LinkFaults(loss=0.05, duplicate=0.1, reorder=0.2, replay=0.05, reorder_ns=30 * MILLISECOND),
    LinkFaults(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.02, replay=0.1),
    LinkFaults(duplicate=0.1, replay=0.1, delay_base_ns=2 * MILLISECOND, delay_mean_ns=8 * MILLISECOND),
    LinkFaults(loss=0.02, delay_base_ns=8 * MILLISECOND, delay_mean_ns=16 * MILLISECOND),
)


class HostileNetwork(Network):
    """A network that remembers what members say to each other, and strikes when one has just said something."""

    def __init__(self, random: Random, faults: LinkFaults) -> None:
        super().__init__(random, faults)
        self.said: dict[Address, deque[tuple[Address, bytes]]] = {}
        self.ambushes: dict[Address, tuple[int, Callable[[], None]]] = {}

    def transmit(self, source: Address, destination: Address, datagram: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        if str(source).startswith("member") and str(destination).startswith("member"):
            self.said.setdefault(source, deque(maxlen=_REMEMBERED)).append((destination, datagram))
            ambush = self.ambushes.pop(source, None)
            if ambush is not None:
                count, strike = ambush
                if count > 1:
                    self.ambushes[source] = (count - 1, strike)
                else:
                    strike()
        return super().transmit(source, destination, datagram, now_ns)


class HostileLoad(CounterLoad):
    """Increments, and reads at any member, the one that believes itself primary among them.

    What any answer has shown, every operation that begins later must show too.
    """

    def __init__(self, world: World, clients: int, think: int) -> None:
        self._highest = 0
        self._surplus = 0
        super().__init__(world, clients, think)

    def _next(self, client: SimulatedClient) -> None:
        if self._surplus:
            self._surplus -= 1  # One of a burst: the client had others under way.
        elif not self.stopped:
            self._begin(client, reads=self.world.random.randrange(3) == 0)

    def burst(self, client: SimulatedClient, calls: int) -> None:
        """A client calls several times at once."""
        self._surplus += calls
        for _ in range(calls):
            self._begin(client, reads=False)

    def _begin(self, client: SimulatedClient, *, reads: bool) -> None:
        world = self.world
        if not reads:
            self.begun += 1
            handle, kind = world.call(client, ADD), "add"
        else:
            members = world.cluster.configuration.members
            handle, kind = client.session.query(GET, world.now, world.random.choice((0, *members))), "read"
            client.started[handle] = world.now
            world._finish_client(client)
        self._kind[client.number, handle] = kind
        self._floor[client.number, handle] = max(self.acknowledged, self._highest)

    def _answered(self, answer: Answer) -> None:
        super()._answered(answer)
        if isinstance(answer.value, int):
            self._highest = max(self._highest, answer.value)


class Hostility:
    """One scenario: a world, its load, and what is done to it. Everything is drawn from the seed."""

    def __init__(self, seed: int, protocol: str) -> None:
        self.draw = draw = Random(f"hostile {seed}")
        self.members = (3, 3, 5, 3, 4)[seed % 5]
        self.network = HostileNetwork(Random(draw.getrandbits(64)), LinkFaults())
        latency = DiskLatency(spread=draw.choice((200_000, 2 * MILLISECOND, 10 * MILLISECOND)))
        self.world = World(seed, members=self.members, protocol=protocol, network=self.network, disk=latency)
        limits = Limits(page_entries=draw.choice((1, 3, 1024)))
        self.world.cluster = replace(
            self.world.cluster, timeouts=draw.choice((_HASTY, _HASTY, Timeouts())), limits=limits
        )
        self.patience = self.world.cluster.timeouts.suspect
        self.names = {member: node.address for member, node in self.world.nodes.items()}
        self.without_data: set[int] = set()
        self.load = HostileLoad(self.world, 2 + draw.randrange(6), draw.choice((2, 10, 30)) * MILLISECOND)
        self.may_lose_disks = protocol == "vsr"

    def run(self) -> World:
        """Play it to its end, which is a healthy cluster. Raises what the checkers of world and load find wrong."""
        world, draw, load = self.world, self.draw, self.load
        world.start_all()
        world.run_until(lambda: load.acknowledged >= 5, 5 * SECOND)
        self.network.faults = draw.choice(_WEATHER)
        actions = [self.ambush, self.ambush, self.ambush, self.partition, self.hang, self.clog, self.repeat]
        actions += [self.kill_some, self.lose_a_disk, self.isolate_primary, self.isolate_primary, self.deceive_primary]
        actions += [self.bridge, self.bridge, self.short_reigns, self.short_reigns, self.lose_a_witness]
        for _ in range(_ROUNDS):
            self._remember_data()
            draw.choice(actions)()
            if draw.randrange(2):
                load.burst(draw.choice(load.clients), 1 + draw.randrange(8))
            world.run_for(draw.randrange(2 * self.patience))
            if draw.randrange(3) == 0:
                self.heal()
            for member, node in world.nodes.items():
                if node.replica is None and draw.randrange(3):
                    self._start(member)
        self.network.ambushes.clear()
        world.run_for(1)  # An ambush that was just sprung strikes now, not after the healing.
        self.heal()
        self.network.faults = LinkFaults()
        for node in world.nodes.values():
            node.disk.plan_crash(_NEVER_REACHED, Crash.KILLED)
        world.start_all()
        load.settle(10 * SECOND)
        return world

    def heal(self) -> None:
        """End partitions, clogged links and hanging disks."""
        self.network.heal()
        for node in self.world.nodes.values():
            node.hang = 0
            for other in self.names.values():
                self.network.set_link(node.address, other, None)

    def _remember_data(self) -> None:
        """A member that lost its disk has data again when it takes part, and nothing is on its way to the disk."""
        for member in list(self.without_data):
            node = self.world.nodes[member]
            took_part = node.replica is not None and node.replica.status().status == "normal"
            if took_part and not node.writing and not node.waiting:
                self.without_data.remove(member)

    def _start(self, member: int) -> None:
        """Start a member, unless it runs. What others said to it lately may arrive again: it may have forgotten."""
        world, me = self.world, self.names[member]
        if world.nodes[member].replica is not None:
            return
        world.start(member)
        if self.draw.randrange(2):
            for other in self.names:
                said = [old for old in list(self.network.said.get(self.names[other], ()))[-60:] if old[0] == me]
                for destination, datagram in said[-12:]:
                    self._deliver_late(other, destination, datagram)

    def _victims(self) -> list[int]:
        """One, or a majority, or all: what one acknowledged to another is gone from both, or from neither."""
        count = self.draw.choice((1, 1, 2, self.members // 2 + 1, self.members))
        return self.draw.sample(list(self.names), min(count, self.members))

    def _someone(self) -> int:
        return self.world.primary or self.draw.choice(list(self.names))

    def _strike(self, victims: list[int], *, power: bool) -> None:
        for member in victims:
            if power:
                self.world.lose_power(member)
            else:
                self.world.crash(member)

    def ambush(self) -> None:
        """Some end at the moment at which one of them has just told another something."""
        world, draw = self.world, self.draw
        victims, power = self._victims(), bool(draw.randrange(2))
        for member in self.names:
            world.nodes[member].hang = draw.choice((0, 0, 2, 10, 30)) * MILLISECOND
        if draw.randrange(3) == 0:
            for member in set(victims) - self.without_data:
                crash = Crash.POWER_LOST if power else Crash.KILLED
                world.nodes[member].disk.plan_crash(1 + draw.randrange(8), crash)
            return
        speaker = draw.choice(victims)

        def strike() -> None:
            world.at(world.now, lambda: self._strike(victims, power=power))

        self.network.ambushes[self.names[speaker]] = (1 + draw.randrange(12), strike)
        if draw.randrange(2):  # Back at once: whoever has forgotten what it said says something else now.
            delay = draw.randrange(self.patience)
            world.at(world.now + delay, lambda: self._start_again(victims))

    def _start_again(self, members: list[int]) -> None:
        for member in members:
            self._start(member)

    def kill_some(self) -> None:
        """Some end, now."""
        self._strike(self._victims(), power=bool(self.draw.randrange(2)))

    def hang(self) -> None:
        """A disk, the primary's more often than not, falls behind."""
        member = self._someone() if self.draw.randrange(3) else self.draw.choice(list(self.names))
        self.world.nodes[member].hang = self.draw.choice((1, 5, 20, 100)) * MILLISECOND

    def partition(self) -> None:
        """Two sides that do not hear each other, or of which only one hears the other. Clients reach all."""
        self.network.heal()
        one_way = self.draw.randrange(4) == 0
        side = {member for member in self.names if self.draw.randrange(2)}
        for inside in side:
            for outside in set(self.names) - side:
                self.network.cut(self.names[inside], self.names[outside])
                if not one_way:
                    self.network.cut(self.names[outside], self.names[inside])

    def isolate_primary(self) -> None:
        """The primary hears no other member, or no other hears it, or all but one: its clients hear it still."""
        self.network.heal()
        primary, direction = self._someone(), self.draw.randrange(4)
        friend = self.draw.choice(list(self.names)) if self.draw.randrange(2) else 0
        for member in set(self.names) - {primary, friend}:
            if direction != 0:
                self.network.cut(self.names[primary], self.names[member])
            if direction != 1:
                self.network.cut(self.names[member], self.names[primary])

    def deceive_primary(self) -> None:
        """The primary goes on hearing what others said long ago, and nobody hears it: it stays primary for a while."""
        self.network.heal()
        primary, delay = self._someone(), self.draw.randrange(2, 8) * self.patience
        heard = self.draw.randrange(4) == 0
        for member in set(self.names) - {primary}:
            faults = LinkFaults(delay_base_ns=delay)
            self.network.set_link(self.names[member], self.names[primary], faults)
            if not heard:
                self.network.cut(self.names[primary], self.names[member])
        for client in self.load.clients:
            self.load.burst(client, 1)
        self.world.run_for(delay + self.patience)

    def short_reigns(self) -> None:
        """One primary after the other is cut off, with its clients, almost as soon as it leads (Raft's figure 8)."""
        world, draw, names = self.world, self.draw, self.names
        reigning = 0
        for _ in range(draw.randrange(2, 6)):
            reigning = self._await_another(reigning)
            if not reigning:
                return
            if draw.randrange(2):
                self.load.burst(draw.choice(self.load.clients), 1 + draw.randrange(3))
            world.run_for(draw.choice((0, 300_000, MILLISECOND, 4 * MILLISECOND, 20 * MILLISECOND)))
            self.network.heal()
            for member in set(names) - {reigning}:
                self.network.cut(names[reigning], names[member])
                self.network.cut(names[member], names[reigning])

    def _await_another(self, reigning: int) -> int:
        """Wait for another member to lead; which it is, 0 if none does in time."""
        nodes = [node for member, node in self.world.nodes.items() if member != reigning]

        def leading() -> int:
            return next((node.member for node in nodes if node.replica is not None and node.replica.leads), 0)

        self.world.run_until(lambda: leading() > 0, 8 * self.patience)
        return leading()

    def bridge(self) -> None:
        """One member hears all, the others two camps; its disk lags, and it forgets what it has just said to one."""
        world, draw = self.world, self.draw
        self.network.heal()
        middle, *ends = draw.sample(list(self.names), self.members)
        camps = ends[: len(ends) // 2], ends[len(ends) // 2 :]
        for one in camps[0]:
            for other in camps[1]:
                self.network.cut(self.names[one], self.names[other])
                self.network.cut(self.names[other], self.names[one])
        if draw.randrange(2):
            self._strike(list(self.names), power=False)
            self._start_again(list(self.names))
        else:
            late = LinkFaults(delay_base_ns=draw.randrange(1, 4) * self.patience)
            self.network.set_link(self.names[draw.choice(ends)], self.names[middle], late)
        world.nodes[middle].hang = draw.choice((5, 20, 60)) * MILLISECOND
        for moment in range(draw.randrange(1, 4)):
            delay = moment * self.patience + draw.randrange(self.patience)
            world.at(world.now + delay, lambda: self._forget_last_words(middle))
        world.run_for(draw.randrange(2, 6) * self.patience)

    def _forget_last_words(self, member: int) -> None:
        world, back_after = self.world, self.draw.randrange(self.patience // 4)

        def strike() -> None:
            world.at(world.now, lambda: self._strike([member], power=False))
            world.at(world.now + back_after, lambda: self._start(member))

        self.network.ambushes[self.names[member]] = (1 + self.draw.randrange(2), strike)

    def clog(self) -> None:
        """What one member says to another arrives long after, in a later view perhaps."""
        source, destination = self.draw.sample(list(self.names), 2)
        delay = self.draw.randrange(1, 6) * self.patience
        self.network.set_link(self.names[source], self.names[destination], LinkFaults(delay_base_ns=delay))

    def repeat(self) -> None:
        """Some of what a member ever said arrives again."""
        member = self.draw.choice(list(self.names))
        said = list(self.network.said.get(self.names[member], ()))
        for destination, datagram in self.draw.sample(said, min(len(said), 30)):
            self._deliver_late(member, destination, datagram)

    def _deliver_late(self, member: int, destination: Address, datagram: bytes) -> None:
        world = self.world
        when = world.now + self.draw.randrange(2 * self.patience)
        world.at(when, lambda: world._arrive(self.names[member], str(destination), datagram))

    def lose_a_disk(self) -> None:
        """A member comes back without its data, never too many of them; its last words are still under way."""
        member = self.draw.choice(list(self.names))
        if self._can_lose(member):
            self._lose_disk(member)

    def _can_lose(self, member: int) -> bool:
        spare = self.members - self.world.cluster.configuration.quorum
        return self.may_lose_disks and len(self.without_data | {member}) <= spare

    def _lose_disk(self, member: int) -> None:
        self.without_data.add(member)
        self.world.nodes[member].disk.plan_crash(_NEVER_REACHED, Crash.KILLED)
        self.world.lose_disk(member)
        self.world.start(member)
        for destination, datagram in list(self.network.said.get(self.names[member], ()))[-40:]:
            if self.draw.randrange(2):
                self._deliver_late(member, destination, datagram)

    def lose_a_witness(self) -> None:
        """Whoever alone had acknowledged to the primary loses its disk, and only those that lag can answer it."""
        world, draw, names = self.world, self.draw, self.names
        primary = world.primary or 0
        witnesses = [member for member in names if member != primary and self._can_lose(member)]
        if not primary or not witnesses:
            return
        witness = draw.choice(witnesses)
        lagging = set(names) - {primary, witness}
        self.network.heal()
        for member in draw.sample(sorted(lagging), len(lagging) - (self.members - 2) // 2):
            self.network.cut(names[primary], names[member])
            self.network.cut(names[member], names[primary])
        world.run_for(draw.randrange(self.patience))
        self._lose_disk(witness)
        if draw.randrange(2):
            for member in set(names) - {primary}:
                self.network.cut(names[primary], names[member])
        else:
            self._strike([primary], power=False)
        world.run_for(draw.randrange(4 * self.patience))


def hostile(seed: int, protocol: str = "vsr") -> str:
    """One seed of hostility; returns the digest of everything that was sent."""
    return Hostility(seed, protocol).run().digest
