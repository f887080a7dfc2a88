"""A member's snapshot files hang while its journal works: bad sectors that are read again and again, say."""

from __future__ import annotations

import pytest

from statemachine import KeyValueStore
from viewstamp.protocol import SECOND
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.world import World

_NEVER = 1 << 60


def call(world: World, client: SimulatedClient, within: int = SECOND) -> None:
    """It is answered within so many nanoseconds."""
    answers: list[Answer] = []
    world.on_answer = answers.append
    world.call(client, KeyValueStore.put.bind("key", b"value"))
    assert world.run_until(lambda: bool(answers), within), "not served"


def lead(world: World) -> int:
    """Who leads now."""
    assert world.run_until(lambda: world.primary is not None, 5 * SECOND)
    return world.primary or 0


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize("seed", range(4))
def test_a_primary_that_cannot_give_its_snapshot_lets_another_lead(protocol: str, seed: int) -> None:
    """One that was away needs its snapshot, and the third does not hear it, but for that one. These two are well.

    It led for ever, and committed nothing: who fetches a snapshot shows that it is there, and acknowledges nothing.
    """
    world = World(seed, protocol=protocol, machine=KeyValueStore, options={"snapshot_entries": 10})
    world.start_all()
    client = world.add_client()
    call(world, client, 5 * SECOND)
    primary = lead(world)
    away, third = (member for member in world.nodes if member != primary)
    world.crash(away)
    for _ in range(60):
        call(world, client)
    world.run_for(SECOND)
    world.nodes[primary].files_free_at = _NEVER
    world.network.cut(f"member-{primary}", f"member-{third}")
    world.start(away)
    call(world, client, 10 * world.cluster.timeouts.suspect)
    assert world.primary == third


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_primary_that_waits_for_files_and_executes_all_the_same_stays(protocol: str) -> None:
    """Its other backup acknowledges: whoever waits for the snapshot is no reason to change the primary."""
    world = World(1, protocol=protocol, machine=KeyValueStore, options={"snapshot_entries": 10})
    world.start_all()
    client = world.add_client()
    call(world, client, 5 * SECOND)
    primary = lead(world)
    away = next(member for member in world.nodes if member != primary)
    world.crash(away)
    for _ in range(60):
        call(world, client)
    world.nodes[primary].files_free_at = _NEVER
    world.start(away)
    for _ in range(40):
        world.run_for(world.cluster.timeouts.suspect // 4)
        call(world, client)
    world.run_for(10 * world.cluster.timeouts.suspect)
    call(world, client)
    assert world.primary == primary
