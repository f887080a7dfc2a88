"""What can befall a simulated cluster at once: each method is one fault, drawn from the generator `draw`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from errno import EIO, ENOSPC
from random import Random

from statemachine import SnapshotError
from transport.interface import Address
from transport.network import LinkFaults
from viewstamp.journal import JournalError
from viewstamp.journal.simulated import Crash, Operation
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.registry import protocol_class
from viewstamp.replica import DataLostError, Replica
from viewstamp.simulation.decay import is_sound
from viewstamp.simulation.load import Load, draw_client
from viewstamp.simulation.network import FuzzNetwork
from viewstamp.simulation.world import World

_NEVER_REACHED = 1 << 40


class Faults:
    """A world and its load, and the means to trouble them.

    `without_data` are members whose disk was lost and that have not taken part since: never so many that the others
    could not make up for them. `gone` are those whose protocol cannot bring them back: they stay down. `damaged` are
    those whose journal has decayed, whether they have noticed or not, `decayed` those whose snapshot has, `replaced`
    those that were given another disk before they were founded. `draw` may be replaced between two faults.
    """

    def __init__(self, world: World, network: FuzzNetwork, load: Load, draw: Random) -> None:
        self.world = world
        self.network = network
        self.load = load
        self.draw = draw
        self.names = {member: node.address for member, node in world.nodes.items()}
        self.members = list(self.names)
        self.patience = world.cluster.timeouts.suspect
        self.without_data, self.gone = set[int](), set[int]()
        self.damaged, self.decayed, self.replaced = set[int](), set[int](), set[int]()
        self.over = False
        seed = draw.getrandbits(64)
        self._starts = {member: Random(f"starts of {member} {seed}") for member in self.members}
        self._recovers = protocol_class(world.cluster.protocol).recovers_lost_disk

    def heal(self) -> None:
        """End partitions, clogged links, hanging disks and pauses."""
        self.network.heal()
        for node in self.world.nodes.values():
            node.hang = 0
            node.paused_until = min(node.paused_until, self.world.now)
            for other in self.names.values():
                self.network.set_link(node.address, other, None)

    def end(self) -> None:
        """No fault any more, and none planned: right clocks, quiet links, disks that work. What is down stays down.

        But for a member that is down with a damaged disk: its operator finds that out, and gives it a blank one.
        """
        world = self.world
        self.over = True
        self.network.ambushes.clear()
        world.run_for(1)  # An ambush that was just sprung strikes now, not after the healing.
        self.heal()
        self.network.faults = LinkFaults()
        self.network.tail = type(self.network.tail)()
        world.disk_latency = replace(world.disk_latency, stall_percent=0)
        for node in world.nodes.values():
            node.disk.plan_crash(_NEVER_REACHED, Crash.KILLED)
            node.disk.on_operation = None
            node.dies_after = 0
            node.clock.set_rate(1_000_000, world.now)
        self.start_again(sorted(self.damaged | self.decayed))

    def remember_data(self) -> None:
        """A member that lost its disk has data again when it takes part, and nothing is on its way to the disk.

        One with a damaged snapshot has it when its disk holds a newer one, or the same one anew.
        """
        for member in sorted(self.decayed):
            if is_sound(self.world.nodes[member].disk, self.world.watch.disks[member].snapshot):
                self.world.watch.counts["damaged snapshot replaced"] += 1
                self.world.note(f"member {member} has another snapshot in the place of the damaged one")
                self.decayed.remove(member)
        for member in sorted(self.replaced - self.gone):  # Whoever else refused its disk would be wrong.
            if any(isinstance(failure, DataLostError) for failure in self.world.nodes[member].failures):
                self.gone.add(member)
                self.without_data.add(member)
        for member in sorted(self.without_data - self.gone - self.damaged - self.decayed):
            node = self.world.nodes[member]
            took_part = node.replica is not None and node.replica.status().status == "normal"
            if took_part and not node.writing and not node.waiting:
                self.without_data.remove(member)

    def start(self, member: int) -> None:
        """Start a member, unless it runs. What others said to it lately may arrive again: it may have forgotten."""
        world, me, draw = self.world, self.names[member], self._starts[member]  # Some come long after their fault.
        if world.nodes[member].replica is not None or member in self.gone:
            return
        world.watch.counts["restarts"] += 1
        world.note(f"member {member} is started")
        try:
            world.start(member)
        except (JournalError, SnapshotError) as noticed:
            if member not in self.damaged | self.decayed:
                raise
            world.note(f"member {member}'s disk is damaged: {noticed}")
            world.watch.counts["damage noticed"] += 1
            self._lose(member, draw)
        if draw.randrange(2):
            for other in self.names.values():
                said = [old for old in list(self.network.said.get(other, ()))[-60:] if old[0] == me]
                for destination, datagram in said[-12:]:
                    self.deliver_late(draw, other, destination, datagram)

    def start_again(self, members: Iterable[int]) -> None:
        """Start each of these that is down."""
        for member in members:
            self.start(member)

    def deliver_late(self, draw: Random, source: Address, destination: Address, datagram: bytes) -> None:
        """What was sent once arrives again, some time from now."""
        world = self.world
        when = world.now + draw.randrange(2 * self.patience)
        world.at(when, lambda: world.deliver(str(source), str(destination), datagram))

    def anyone(self) -> int:
        """Any member."""
        return self.draw.choice(self.members)

    def someone(self) -> int:
        """The primary, if there is one."""
        return self.world.primary or self.anyone()

    def victims(self) -> list[int]:
        """One, or a majority, or all: what one acknowledged to another is gone from both, or from neither."""
        size = len(self.members)
        return self.draw.sample(self.members, min(size, self.draw.choice((1, 1, 2, size // 2 + 1, size))))

    def strike(self, victims: Iterable[int], *, power: bool) -> None:
        """These end now."""
        for member in victims:
            if power:
                self.world.lose_power(member)
            else:
                self.world.crash(member)

    def separate(self, side: Iterable[int], others: Iterable[int], *, both_ways: bool = True) -> None:
        """Nothing passes from one side to the others, or between them."""
        others = list(others)
        for one in side:
            for other in others:
                self.network.cut(self.names[one], self.names[other])
                if both_ways:
                    self.network.cut(self.names[other], self.names[one])

    # The network.

    def cut(self) -> None:
        """One direction between two members."""
        if len(self.members) > 1:
            self.separate(*([member] for member in self.draw.sample(self.members, 2)), both_ways=False)

    def partition(self) -> None:
        """Two sides that do not hear each other. Clients reach all."""
        self._partition(both_ways=True)

    def one_way_partition(self) -> None:
        """Two sides of which only one hears the other."""
        self._partition(both_ways=False)

    def _partition(self, *, both_ways: bool) -> None:
        self.network.heal()
        side = {member for member in self.members if self.draw.randrange(2)}
        self.separate(sorted(side), sorted(set(self.members) - side), both_ways=both_ways)

    def ring(self) -> None:
        """Each member hears the next and the one before it, no other."""
        self.network.heal()
        order = self.draw.sample(self.members, len(self.members))
        for place, member in enumerate(order):
            near = {member, order[place - 1], order[(place + 1) % len(order)]}
            self.separate([member], sorted(set(order) - near))

    def isolate(self) -> None:
        """One member neither hears nor is heard, by clients either, or only one of both."""
        direction = self.draw.randrange(3)
        self.network.isolate(self.names[self.anyone()], inbound=direction != 1, outbound=direction != 0)

    def isolate_primary(self) -> None:
        """The primary hears no other member, or no other hears it, or all but one: its clients hear it still."""
        self.network.heal()
        primary, direction = self.someone(), self.draw.randrange(4)
        friend = self.anyone() if self.draw.randrange(2) else 0
        others = [member for member in self.members if member not in (primary, friend)]
        if direction != 0:
            self.separate([primary], others, both_ways=False)
        if direction != 1:
            self.separate(others, [primary], both_ways=False)

    def clog(self) -> None:
        """What one member says to another arrives long after, in a later view perhaps."""
        if len(self.members) > 1:
            source, destination = self.draw.sample(self.members, 2)
            delay = self.draw.randrange(1, 6) * self.patience
            self.network.set_link(self.names[source], self.names[destination], LinkFaults(delay_base_ns=delay))

    def replay(self) -> None:
        """Some of what a member ever said arrives again."""
        self._again(self.names[self.anyone()], 30)

    def late_requests(self) -> None:
        """Some of what a client ever asked arrives again."""
        self._again(draw_client(self.draw, self.load).address, 30)

    def _again(self, name: str, times: int) -> None:
        said = list(self.network.said.get(name, ()))
        for destination, datagram in self.draw.sample(said, min(len(said), times)):
            self.deliver_late(self.draw, name, destination, datagram)

    # Processes.

    def kill(self) -> None:
        """Some are killed."""
        self.strike(self.victims(), power=False)

    def power(self) -> None:
        """Some lose their power."""
        self.strike(self.victims(), power=True)

    def all_at_once(self) -> None:
        """All end, and most are back at once."""
        self.strike(self.members, power=bool(self.draw.randrange(2)))
        self.start_again([member for member in self.members if self.draw.randrange(4)])

    def restart(self) -> None:
        """The primary, or another, ends and is back at once."""
        member = self.someone() if self.draw.randrange(2) else self.anyone()
        self.strike([member], power=False)
        self.start(member)

    def midway(self) -> None:
        """A process ends in the middle of a turn: some of its datagrams are out, and its write was not begun."""
        for member in self.victims():
            self.world.nodes[member].dies_after = 1 + self.draw.randrange(10)

    def planned(self) -> None:
        """Processes end inside one of their next disk operations."""
        crash = self.draw.choice((Crash.KILLED, Crash.POWER_LOST))
        for member in self.victims():
            self.plan_crash(member, 1 + self.draw.randrange(8), crash)

    def plan_crash(self, member: int, nth: int, crash: Crash) -> None:
        """A process ends inside the nth of its next disk operations, which then does not fail as well.

        Were both planned for one operation, the crash would come first, and the failure after the faults have ended.
        """
        disk = self.world.nodes[member].disk
        disk.on_operation = None
        disk.plan_crash(nth, crash)

    def pause(self) -> None:
        """A process, the primary's more often than not, stands still, perhaps until others have replaced it."""
        member = self.someone() if self.draw.randrange(3) else self.anyone()
        self.world.pause(member, self.draw.randrange(1, 6) * self.patience // 2)

    def clock_jump(self) -> None:
        """A wall clock jumps, by hours at times, or a clock runs faster or slower from now on."""
        clock = self.world.nodes[self.anyone()].clock
        if self.draw.randrange(2):
            clock.set_rate(1_000_000 + self.draw.randint(-150_000, 150_000), self.world.now)
        else:
            clock.ahead += self.draw.choice((-3600 * SECOND, -SECOND, -5 * MILLISECOND, SECOND, 3600 * SECOND))

    def resign(self) -> None:
        """An operator asks the primary to let another lead."""
        self.world.tell(self.someone(), "resign", Replica.resign)

    # Disks.

    def hang(self) -> None:
        """A disk, the primary's more often than not, falls behind."""
        member = self.someone() if self.draw.randrange(3) else self.anyone()
        self.world.nodes[member].hang = self.draw.choice((1, 5, 20, 100)) * MILLISECOND

    def fail_write(self) -> None:
        """One of a disk's next writes fails."""
        self._fail(Operation.WRITE, EIO)

    def fail_sync(self) -> None:
        """One of a disk's next syncs fails."""
        self._fail(Operation.SYNC, EIO)

    def full_disk(self) -> None:
        """A disk has no room for one of its next writes."""
        self._fail(Operation.WRITE, ENOSPC)

    def _fail(self, operation: Operation, errno: int) -> None:
        disk, remaining = self.world.nodes[self.anyone()].disk, 1 + self.draw.randrange(4)
        disk.plan_crash(_NEVER_REACHED, Crash.KILLED)  # See plan_crash.

        def wait(asked: Operation, _: str) -> None:
            nonlocal remaining
            if asked is operation:
                remaining -= 1
                if remaining == 0:
                    disk.on_operation = None
                    disk.fail(operation, errno=errno)

        disk.on_operation = wait

    @property
    def founded(self) -> bool:
        """Whether all members have been seen once: until then no majority can do without the others."""
        return all(disk.state is not None or disk.ghost for disk in self.world.watch.disks.values())

    def can_lose(self, member: int) -> bool:
        """Whether the others have all that is needed without this disk, and none of them is about to lose its own."""
        return self.founded and self._spares(member)

    def _spares(self, member: int) -> bool:
        """Whether enough are left without this disk; a member that was replaced may yet find that its data is gone."""
        left = set(self.members) - self.without_data - self._unsure - {member}
        return len(left) >= self.world.cluster.configuration.quorum

    @property
    def _unsure(self) -> set[int]:
        return {member for member in self.replaced - self.gone if self.world.watch.disks[member].state is None}

    def await_founding(self) -> None:
        """Wait until those who were replaced before they were founded know whether their data is gone."""

        def known() -> bool:
            self.remember_data()
            return not self._unsure

        self.world.run_until(known, self.patience)

    def lose_disk(self) -> None:
        """A member comes back without its data; its last words are still under way."""
        self.lose_disk_of(self.anyone())

    def lose_disk_of(self, member: int) -> None:
        """Likewise, unless too many disks would be lost."""
        if self.can_lose(member):
            self._lose(member, self.draw)

    def _lose(self, member: int, draw: Random) -> None:
        world = self.world
        world.watch.counts["lost disks"] += 1
        self.damaged.discard(member)
        self.decayed.discard(member)
        self.without_data.add(member)
        node = world.nodes[member]
        node.decayed.clear()
        node.disk.plan_crash(_NEVER_REACHED, Crash.KILLED)
        node.disk.on_operation = None
        node.sizes.clear()
        if draw.randrange(4) == 0:  # The new machine's clock is not set yet.
            node.clock.ahead -= draw.choice((5 * MILLISECOND, SECOND, 3600 * SECOND))
        world.lose_disk(member)
        world.note(f"member {member} has lost its disk")
        if not self._recovers:
            self.gone.add(member)
        world.start(member)
        for destination, datagram in list(self.network.said.get(self.names[member], ()))[-40:]:
            if draw.randrange(2):
                self.deliver_late(draw, self.names[member], destination, datagram)

    def damage(self) -> None:
        """Bits flip in a journal, before what a crash could have left unfinished: it must notice, and is replaced."""
        node = self.world.nodes[member := self.anyone()]
        segments = {name: blob for name, blob in node.disk.contents().items() if name.startswith("journal-")}
        name, sound = next(iter(segments.items()), ("", b""))
        # A batch follows what is damaged, or it could be one that a crash left unfinished. Sizes are of all segments.
        size = len(sound) if len(segments) > 1 else min(node.sizes, default=0)
        followed = len(segments) > 1 or size < len(sound)  # else segments have been released since
        if not self.can_lose(member) or len(node.sizes) < 3 or member in self.gone or not followed:
            return
        self.strike([member], power=False)
        for _ in range(1 + self.draw.randrange(3)):
            node.disk.flip_bit(name, self.draw.randrange(8 * size))
        self.damaged.add(member)
        self.without_data.add(member)
        self.start(member)

    # Clients.

    def client_crash(self) -> None:
        """A client ends, and another takes its place."""
        self.load.replace(self.draw.randrange(len(self.load.clients)))

    def cancel(self) -> None:
        """Callers go away."""
        for client in self.draw.sample(self.load.clients, 1 + self.draw.randrange(len(self.load.clients))):
            self.load.cancel(client)
