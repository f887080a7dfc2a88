"""Whole clusters in simulation: real replicas, clients, journals, datagrams; crashes, power loss, lost disks."""

from __future__ import annotations

from random import Random

import pytest

from transport.network import LinkFaults
from viewstamp.journal.simulated import Crash, Operation
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import DataLostError
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.world import World

QUIET = LinkFaults()
UNEASY = LinkFaults(loss=0.02, duplicate=0.02, reorder=0.05)
HOSTILE = LinkFaults(loss=0.1, duplicate=0.05, reorder=0.1, corrupt=0.02, replay=0.05)

PROTOCOLS = ("vsr", "raft")
both = pytest.mark.parametrize("protocol", PROTOCOLS)


def loaded(seed: int, members: int = 3, clients: int = 3, *, protocol: str = "vsr") -> tuple[World, LedgerLoad]:
    world = World(seed, members=members, protocol=protocol)
    world.start_all()
    load = LedgerLoad(world, clients)
    assert world.run_until(lambda: load.acknowledged >= 20, 5 * SECOND), world.running[0].status()
    return world, load


@both
@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
def test_a_healthy_cluster_serves(members: int, protocol: str) -> None:
    world, load = loaded(1, members, protocol=protocol)
    world.run_for(SECOND // 2)
    load.settle()
    assert load.acknowledged > 100
    assert load.reads > 10


@both
def test_the_primary_is_killed_and_service_goes_on(protocol: str) -> None:
    world, load = loaded(2, protocol=protocol)
    first = world.primary
    assert first is not None
    world.crash(first)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 50, 5 * SECOND)
    assert world.primary != first
    assert load.longest_gap < 500 * MILLISECOND
    world.start(first)
    load.settle()


@both
def test_all_are_killed_at_once_and_restarted(protocol: str) -> None:
    world, load = loaded(3, protocol=protocol)
    for member in world.nodes:
        world.crash(member)
    world.run_for(SECOND)
    world.start_all()
    load.settle()


@both
@pytest.mark.parametrize("boundary", range(0, 24, 3))
def test_power_is_lost_everywhere_around_any_sync(boundary: int, protocol: str) -> None:
    """A majority loses power inside one of its next file operations, write or sync, and the rest a moment later."""
    world, load = loaded(100 + boundary, protocol=protocol)
    for offset, member in enumerate((1, 2)):
        world.nodes[member].disk.plan_crash(1 + boundary + offset, Crash.POWER_LOST)
    assert world.run_until(lambda: len(world.running) == 1, 5 * SECOND)
    world.lose_power(3)
    world.start_all()
    load.settle()


def test_a_lost_disk_is_recovered_from_the_others() -> None:
    world, load = loaded(5)
    for member in (2, 1, 3):
        world.lose_disk(member)
        before = load.acknowledged
        assert world.run_until(lambda before=before: load.acknowledged > before + 20, 5 * SECOND)  # type: ignore[misc]
        world.start(member)
        ready = world.nodes[member].replica
        assert ready is not None
        assert world.run_until(lambda ready=ready: ready.status().status == "normal", 5 * SECOND)  # type: ignore[misc]
        world.run_for(500 * MILLISECOND)
    load.settle()


def test_a_raft_member_whose_disk_is_lost_ends_and_says_so_and_the_others_go_on() -> None:
    world, load = loaded(5, protocol="raft")
    node = world.nodes[world.primary or 0]
    for _ in range(2):
        world.lose_disk(node.member)
        world.start(node.member)
        node.failures.clear()
        assert world.run_until(lambda: bool(node.failures), SECOND)
        [failure] = node.failures
        assert isinstance(failure, DataLostError)
        assert "restore its data directory" in str(failure)
        assert node.replica is None
        before = load.acknowledged
        assert world.run_until(lambda before=before: load.acknowledged > before + 50, 5 * SECOND)  # type: ignore[misc]


@both
def test_a_cluster_does_not_found_itself_beside_a_member_with_data(protocol: str) -> None:
    world, load = loaded(6, protocol=protocol)
    load.stopped = True
    world.run_for(SECOND)
    for member in (1, 2, 3):
        world.crash(member)
    for member in (1, 2):
        world.lose_disk(member)
        world.start(member)
    world.run_for(3 * SECOND)
    assert world.primary is None
    world.start(3)
    world.run_for(3 * SECOND)
    assert world.primary is None, "two of three disks are gone: the rest must not pretend"


@both
def test_five_members_serve_with_two_dead(protocol: str) -> None:
    world, load = loaded(7, members=5, protocol=protocol)
    for member in (1, 2):
        world.crash(member)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 50, 5 * SECOND)
    world.start_all()
    load.settle()


@both
def test_a_failed_sync_stops_the_member_and_the_rest_carry_on(protocol: str) -> None:
    world, load = loaded(8, protocol=protocol)
    primary = world.primary
    assert primary is not None
    node = world.nodes[primary]
    node.disk.fail(Operation.SYNC)
    assert world.run_until(lambda: bool(node.failures), 5 * SECOND)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 50, 5 * SECOND)
    world.start(primary)
    load.settle()


@both
def test_a_disk_that_hangs_makes_a_primary_give_way(protocol: str) -> None:
    world, load = loaded(9, protocol=protocol)
    primary = world.primary
    assert primary is not None
    world.nodes[primary].hang = 10 * SECOND
    assert world.run_until(lambda: world.primary not in (None, primary), 2 * SECOND)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 50, SECOND)
    assert load.longest_gap < 500 * MILLISECOND
    world.nodes[primary].hang = 0
    load.settle()


@both
def test_a_primary_that_can_send_but_not_receive_gives_way(protocol: str) -> None:
    world, load = loaded(10, protocol=protocol)
    primary = world.primary
    assert primary is not None
    world.network.isolate(f"member-{primary}", inbound=True, outbound=False)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 50, 5 * SECOND)
    assert world.primary != primary
    world.network.heal()
    load.settle()


@both
def test_a_deaf_backup_deposes_nobody(protocol: str) -> None:
    world, load = loaded(11, protocol=protocol)
    primary = world.primary
    backup = next(member for member in world.nodes if member != primary)
    world.network.isolate(f"member-{backup}", inbound=True, outbound=False)
    view = world.running[0].status().view
    world.run_for(2 * SECOND)
    assert world.primary == primary
    assert {world.nodes[m].replica.status().view for m in world.nodes if m != backup} == {view}  # type: ignore[union-attr]  # all run
    assert load.longest_gap < 100 * MILLISECOND
    world.network.heal()
    load.settle()


@both
def test_across_a_bridge_there_is_a_primary_and_it_stays(protocol: str) -> None:
    """Two pairs that cannot hear each other, and a fifth member that both pairs hear."""
    world, load = loaded(13, members=5, clients=1, protocol=protocol)
    for one in (1, 2):
        for other in (4, 5):
            world.network.cut(f"member-{one}", f"member-{other}")
            world.network.cut(f"member-{other}", f"member-{one}")
    world.run_for(2 * SECOND)
    primary, before = world.primary, load.acknowledged
    views = [replica.status().view for replica in world.running]
    world.run_for(SECOND)
    assert world.primary == primary is not None
    assert [replica.status().view for replica in world.running] == views
    assert load.acknowledged > before + 20
    world.network.heal()
    load.settle()


@both
def test_an_idle_cluster_elects_nobody_and_a_long_one_neither(protocol: str) -> None:
    world, load = loaded(12, protocol=protocol)
    load.stopped = True
    world.run_for(SECOND)
    views = {replica.status().view for replica in world.running}
    world.run_for(30 * SECOND)
    assert {replica.status().view for replica in world.running} == views
    assert len(views) == 1
    load.settle()


def chaos(seed: int, protocol: str = "vsr") -> str:
    """One seed of everything at once, always leaving a majority with its disks; returns the trace digest."""
    members = (3, 3, 5, 4, 2)[seed % 5]
    world = World(seed, members=members, protocol=protocol)
    draw = Random(seed)
    world.start_all()
    load = LedgerLoad(world, clients=1 + draw.randrange(4))
    world.run_until(lambda: load.acknowledged >= 5, 5 * SECOND)
    world.network.faults = (QUIET, UNEASY, HOSTILE)[draw.randrange(3)]
    spare = members - world.cluster.configuration.quorum
    for _ in range(6):
        world.run_for(draw.randrange(400) * MILLISECOND)
        down = [member for member, node in world.nodes.items() if node.replica is None]
        lost = [m for m, n in world.nodes.items() if n.replica is not None and n.replica.status().status != "normal"]
        action = draw.randrange(6)
        victim = draw.choice(list(world.nodes))
        if action == 0 and victim not in down:
            world.crash(victim)
        elif action == 1 and victim not in down:
            world.lose_power(victim)
        elif action == 2 and protocol == "vsr" and len(set(down) | set(lost) | {victim}) <= spare:
            world.lose_disk(victim)
            world.start(victim)
        elif action == 3:
            for member in world.nodes:
                world.lose_power(member)
        elif action == 4:
            world.start_all()
        else:
            world.network.isolate(f"member-{victim}")
            world.run_for(draw.randrange(600) * MILLISECOND)
            world.network.heal()
    world.network.heal()
    world.network.faults = QUIET
    world.start_all()
    load.settle()
    return world.digest


@both
@pytest.mark.parametrize("seed", range(20))
def test_chaos(seed: int, protocol: str) -> None:
    assert chaos(seed, protocol)
