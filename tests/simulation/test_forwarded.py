"""A client that is cut off from the primary alone: all members hear each other, so no view change would help it."""

from __future__ import annotations

import pytest

from statemachine import Counter
from viewstamp.protocol import SECOND
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.world import World

ADD = Counter.add.bind(1)
BOTH = pytest.mark.parametrize("protocol", ["vsr", "raft"])
WAYS = pytest.mark.parametrize("ways", ["both", "to the primary", "from the primary"])


def started(protocol: str, seed: int, members: int = 3) -> tuple[World, int]:
    """A cluster and its primary."""
    world = World(seed, protocol=protocol, machine=Counter, members=members)
    world.start_all()
    return world, led(world)


def led(world: World) -> int:
    assert world.run_until(lambda: world.primary is not None, 5 * SECOND)
    return world.primary or 0


def cut(world: World, client: SimulatedClient, member: int, ways: str = "both") -> None:
    name = f"member-{member}"
    if ways != "from the primary":
        world.network.cut(client.address, name)
    if ways != "to the primary":
        world.network.cut(name, client.address)


def answered(world: World, client: SimulatedClient, within: int, *, reads: bool = False) -> tuple[object, int]:
    """What it was answered, and after how many nanoseconds."""
    began, answers = world.now, list[Answer]()
    world.on_answer = answers.append
    handle = world.read(client, Counter.get.bind()) if reads else world.call(client, ADD)
    assert world.run_until(lambda: any(answer.handle == handle for answer in answers), within), "not served"
    [value] = [answer.value for answer in answers if answer.handle == handle]
    return value, world.now - began


@BOTH
@WAYS
@pytest.mark.parametrize("seed", range(5))
def test_it_is_served_and_what_it_asked_for_is_executed_once(protocol: str, ways: str, seed: int) -> None:
    world, primary = started(protocol, seed)
    client = world.add_client()
    cut(world, client, primary, ways)
    suspect = world.cluster.timeouts.suspect
    for count in range(1, 41):
        value, _ = answered(world, client, 4 * suspect)
        assert value == count
    assert answered(world, client, 4 * suspect, reads=True)[0] == 40
    assert world.primary == primary


@BOTH
@pytest.mark.parametrize("seed", range(5))
def test_it_waits_only_now_and_then_for_the_silent_primary(protocol: str, seed: int) -> None:
    """A wait before each call would be a client that is served, and of no use."""
    world, primary = started(protocol, seed)
    client = world.add_client()
    answered(world, client, SECOND)
    cut(world, client, primary)
    began, waits = world.now, 0
    suspect = world.cluster.timeouts.suspect
    while world.now - began < 20 * SECOND:
        _, took = answered(world, client, 4 * suspect)
        waits += took > suspect // 4
        world.run_for(SECOND // 20)
    assert 1 <= waits <= 6  # at first, and after 1, 2, 4, 8 seconds


@BOTH
def test_it_goes_straight_to_the_primary_again_when_that_is_heard(protocol: str) -> None:
    world, primary = started(protocol, 1)
    client = world.add_client()
    cut(world, client, primary)
    for _ in range(10):
        answered(world, client, SECOND)
    assert client.session.target != primary
    world.network.heal()
    world.run_for(SECOND)
    answered(world, client, SECOND)
    assert client.session.target == primary
    assert [replica.statistics().forwarded for replica in world.running if not replica.leads] != [0, 0]


@BOTH
def test_it_follows_a_change_of_primary(protocol: str) -> None:
    """Whoever forwarded for it names the new one, or is the new one."""
    world, primary = started(protocol, 1)
    client = world.add_client()
    cut(world, client, primary)
    answered(world, client, SECOND)
    for _ in range(3):
        world.crash(primary)
        assert world.run_until(lambda: world.primary not in (None, primary), 10 * SECOND)  # noqa: B023  # asked at once
        world.start(primary)
        primary = led(world)
        world.network.heal()
        answered(world, client, 4 * SECOND)
        for _ in range(3):
            answered(world, client, SECOND)
        cut(world, client, primary)
        answered(world, client, SECOND)
        forwarder = client.session.target
        assert forwarder != primary
        # That one is gone, too: the third is left to ask.
        cut(world, client, forwarder)
        answered(world, client, 2 * SECOND)
        world.network.heal()


def slow(protocol: str, clients: int) -> tuple[World, int, list[SimulatedClient]]:
    """A cluster, its primary, and clients that were served before each of its disks took two thirds of a time-out."""
    world, primary = started(protocol, 1)
    served = [world.add_client() for _ in range(clients)]
    for client in served:
        answered(world, client, SECOND)
    for node in world.nodes.values():
        node.hang = world.cluster.timeouts.suspect * 2 // 3
    return world, primary, served


@BOTH
def test_who_is_only_slow_is_not_taken_for_cut_off(protocol: str) -> None:
    """Answers take longer than a client's patience. Were everything forwarded then, there would be yet more to do."""
    world, primary, clients = slow(protocol, 4)
    for client in clients:
        for _ in range(5):
            answered(world, client, 5 * SECOND)
            world.run_for(SECOND // 100)  # Answers by way of the others may overtake the primary's own.
            assert client.session.target == primary == world.primary


@BOTH
def test_a_slow_primary_is_hardly_asked_by_others_for_what_it_was_asked_for_already(protocol: str) -> None:
    """Each answer takes longer than a suspect time-out: with both backups asking, again and again, it were five times
    as many requests as there are answers, at a primary that has too much to do."""
    world, primary, clients = slow(protocol, 8)
    world.on_answer = lambda answer: world.at(world.now, lambda: _call(world, clients[answer.client]))
    before = len(world.answers)
    for client in clients:
        world.call(client, ADD)
    world.run_for(20 * SECOND)
    assert world.primary == primary
    forwarded = sum(replica.statistics().forwarded for replica in world.running)
    assert 0 < forwarded < 1.5 * (len(world.answers) - before)


def _call(world: World, client: SimulatedClient) -> None:
    world.call(client, ADD)


@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_names_a_primary_of_long_ago_does_not_keep_it_from_one_that_forwards(seed: int) -> None:
    """VSR: member 3 hears no other, and still names 1. That one has resigned to 2, which the client does not hear."""
    world, first = started("vsr", seed)
    client = world.add_client()
    answered(world, client, SECOND)
    second, alone = (member for member in world.nodes if member != first)
    for member in (first, second):
        world.network.cut(f"member-{member}", f"member-{alone}")
        world.network.cut(f"member-{alone}", f"member-{member}")
    world.run_for(SECOND // 10)
    world.tell(first, "resign", lambda replica, now: replica.resign(now))
    assert world.run_until(lambda: world.primary == second, 5 * SECOND)
    world.run_for(2 * SECOND)
    cut(world, client, second)
    answered(world, client, 2 * SECOND)
