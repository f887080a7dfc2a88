"""Rougher and more crowded than `test_world`: slow disks, one-way cuts, up to seven members, sessions that expire."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from statemachine import OutcomeUnknownError, StateMachine, command
from transport.network import LinkFaults
from viewstamp.protocol import MILLISECOND, SECOND, Limits
from viewstamp.simulation.inhabitants import Answer, DiskLatency, SimulatedClient
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.world import World

DISKS = (
    DiskLatency(),
    DiskLatency(stall=60 * MILLISECOND, stall_percent=5),
    DiskLatency(stall=400 * MILLISECOND, stall_percent=2),
    DiskLatency(base=5 * MILLISECOND, spread=10 * MILLISECOND),
)
LINKS = (
    LinkFaults(loss=0.1, duplicate=0.05, reorder=0.1, corrupt=0.02, replay=0.05),
    LinkFaults(loss=0.25, duplicate=0.1, reorder=0.2, replay=0.1),
    LinkFaults(duplicate=0.2, reorder=0.3, replay=0.2, reorder_ns=400 * MILLISECOND),
    LinkFaults(delay_base_ns=30 * MILLISECOND, delay_mean_ns=30 * MILLISECOND),
)


def trouble(world: World, draw: Random, steps: int) -> None:
    """Crashes, power loss, lost disks, one-way cuts and hangs, always leaving a majority with its disks; then peace."""
    spare = len(world.nodes) - world.cluster.configuration.quorum
    names = [node.address for node in world.nodes.values()]
    world.network.faults = draw.choice(LINKS)
    for _ in range(steps):
        world.run_for(draw.randrange(500) * MILLISECOND)
        victim = draw.choice(list(world.nodes))
        node = world.nodes[victim]
        weak = {m for m, n in world.nodes.items() if n.replica is None or n.replica.status().status != "normal"}
        match draw.randrange(9):
            case 0 if node.replica is not None:
                world.crash(victim)
            case 1 | 2 if len(weak | {victim}) <= spare:
                world.lose_disk(victim)
                world.start(victim)
            case 3:
                for member in world.nodes:
                    world.lose_power(member)
            case 4:
                world.start_all()
            case 5:
                leader = world.nodes[world.primary or victim]
                inbound = draw.random() < 0.5
                world.network.isolate(leader.address, inbound=inbound, outbound=not inbound)
            case 6:
                for _ in range(draw.randrange(1, 2 * len(names))):
                    world.network.cut(draw.choice(names), draw.choice(names))
            case 7:
                world.network.heal()
            case _:
                node.hang = draw.choice((0, 50, 400)) * MILLISECOND
    for node in world.nodes.values():
        node.hang = 0
    world.network.heal()
    world.network.faults = LinkFaults()
    world.start_all()


@pytest.mark.parametrize("seed", range(12))
def test_rough_times(seed: int) -> None:
    draw = Random(seed)
    world = World(seed, members=3 + seed % 5, disk=draw.choice(DISKS))
    world.start_all()
    load = LedgerLoad(world, clients=draw.choice((1, 3, 8)))
    assert world.run_until(lambda: load.acknowledged >= 5, 10 * SECOND)
    trouble(world, draw, 8)
    load.settle(30 * SECOND)


@pytest.mark.parametrize("seed", range(6))
def test_disks_are_lost_again_and_again_while_old_messages_arrive(seed: int) -> None:
    """What a member promised before it lost its disk is under way for more than a second, and must not be counted."""
    draw = Random(seed)
    world = World(seed, members=3 + seed % 5)
    world.start_all()
    load = LedgerLoad(world)
    assert world.run_until(lambda: load.acknowledged >= 5, 10 * SECOND)
    late = draw.choice((300, 1500)) * MILLISECOND
    world.network.faults = LinkFaults(
        loss=draw.choice((0.0, 0.1)), reorder=0.3, reorder_ns=late, duplicate=0.2, replay=0.2
    )
    spare = len(world.nodes) - world.cluster.configuration.quorum
    for _ in range(14):
        world.run_for(draw.randrange(350) * MILLISECOND)
        weak = {m for m, n in world.nodes.items() if n.replica is None or n.replica.status().status != "normal"}
        victim = draw.choice((world.primary or 1, draw.choice(list(world.nodes))))
        if len(weak | {victim}) <= spare:
            world.lose_disk(victim)
            world.start(victim)
    world.network.faults = LinkFaults()
    load.settle(30 * SECOND)


class Padded(StateMachine):
    """A counter whose increments can be as large as commands may be."""

    def __init__(self) -> None:
        self.value = 0
        self.padding = 0

    @command
    def add(self, padding: bytes) -> int:
        """Count, and carry some weight."""
        self.value += 1
        self.padding += len(padding)
        return self.value


class Crowd:
    """More clients than there may be sessions, each with more calls than its window; an expired session is renewed."""

    def __init__(self, world: World, draw: Random, clients: int, calls: int) -> None:
        self._world = world
        self._draw = draw
        self.begun = self.unknown = 0
        self.waiting = 0
        self.stopped = False
        self.acknowledged: set[int] = set()
        world.on_answer = self._answered
        for _ in range(clients):
            client = world.add_client()
            for _ in range(calls):
                self._next(client)

    def _next(self, client: SimulatedClient) -> None:
        if not self.stopped:
            self.begun += 1
            self.waiting += 1
            self._world.call(client, Padded.add.bind(bytes(self._draw.choice((0, 10, 3_000, 30_000, 60_000)))))

    def _answered(self, answer: Answer) -> None:
        client = self._world.clients[answer.client]
        self.waiting -= 1
        if isinstance(answer.value, OutcomeUnknownError):
            self.unknown += 1
            client.session.expire()
            client.session.renew()
        else:
            assert isinstance(answer.value, int)
            assert answer.value not in self.acknowledged
            self.acknowledged.add(answer.value)
        self._world.at(self._world.now + self._draw.randrange(5) * MILLISECOND, lambda: self._next(client))

    def settle(self) -> None:
        """Every call ends; what was acknowledged is there, and nothing that was not begun."""
        self.stopped = True
        assert self._world.run_until(lambda: self.waiting == 0, 60 * SECOND), self.waiting
        assert self._world.run_until(lambda: len(self._states()) == 1, 30 * SECOND), self._states()
        ((value, _),) = self._states()
        assert len(self.acknowledged) <= value <= len(self.acknowledged) + self.unknown
        assert max(self.acknowledged) <= value

    def _states(self) -> set[tuple[int, int]]:
        machines = [replica.executor.machine for replica in self._world.running]
        return {(machine.value, machine.padding) for machine in machines if isinstance(machine, Padded)}


@pytest.mark.parametrize("seed", range(4))
def test_more_sessions_and_requests_than_there_is_room_for(seed: int) -> None:
    """Sessions expire all the time, pipelines and windows are full, commands travel in fragments; members fail."""
    draw = Random(seed)
    world = World(seed, members=draw.choice((3, 5)), disk=draw.choice(DISKS), machine=Padded)
    limits = Limits(
        page_bytes=64 * 1024,
        page_entries=draw.choice((1, 7, 1000)),
        pipeline_entries=draw.choice((1, 5, 1000)),
        pipeline_bytes=64 * 1024,
    )
    window, sessions = draw.choice((1, 3, 64)), draw.choice((2, 4, 100))
    world.cluster = replace(
        world.cluster, max_sessions=sessions, window=window, max_command_bytes=64 * 1024, limits=limits
    )
    world.start_all()
    crowd = Crowd(world, draw, clients=draw.choice((2, 6)), calls=draw.choice((1, 4)))
    assert world.run_until(lambda: len(crowd.acknowledged) >= 5, 20 * SECOND)
    trouble(world, draw, 3)
    crowd.settle()
