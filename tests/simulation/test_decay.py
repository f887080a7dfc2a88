"""Snapshots that decay on a disk: found out by whoever reads them, as a member starts, loads one, or gives its own."""

from __future__ import annotations

from random import Random

import pytest

from viewstamp.journal import SnapshotRecord
from viewstamp.protocol import SECOND
from viewstamp.replica import Replica
from viewstamp.simulation.decay import UNREADABLE, decay, is_sound
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.world import World

# Bits flip in a journal whose older segments were released a moment before: by the sizes that it had with them, its
# last batch was taken for one that others follow. Damaged, that is one that a crash left unfinished.
FLIPPED_AFTER_A_RELEASE = 600098

both = pytest.mark.parametrize("protocol", ["vsr", "raft"])


def test_bits_flip_where_a_batch_follows() -> None:
    assert run_seed(FLIPPED_AFTER_A_RELEASE, "vsr").violation is None


def with_snapshots(protocol: str, away: int = 0, seed: int = 11) -> tuple[World, LedgerLoad]:
    """A cluster that is idle, all of whose members have a snapshot beyond the log of the one that is away."""
    world = World(seed, protocol=protocol, options={"snapshot_entries": 8})
    world.start_all()
    load = LedgerLoad(world)
    assert world.run_until(lambda: load.acknowledged >= 20, 5 * SECOND)
    if away:
        world.crash(away)
    assert world.run_until(lambda: load.acknowledged >= 100, 5 * SECOND)
    load.stopped = True
    load.serve(5 * SECOND)
    for member in world.nodes:
        world.tell(member, "snapshot", Replica.take_snapshot)
    world.run_for(SECOND)
    return world, load


def snapshot_of(world: World, member: int) -> SnapshotRecord:
    snapshot = world.watch.disks[member].snapshot
    assert snapshot is not None
    return snapshot


@both
@pytest.mark.parametrize("seed", range(4))
def test_a_member_refuses_to_start_on_a_damaged_snapshot(protocol: str, seed: int) -> None:
    world, load = with_snapshots(protocol)
    node = world.nodes[1]
    assert is_sound(node.disk, snapshot_of(world, 1))
    assert decay(node, snapshot_of(world, 1), Random(seed))
    assert not is_sound(node.disk, snapshot_of(world, 1))
    world.crash(1)
    with pytest.raises(UNREADABLE):
        world.start(1)
    if protocol == "vsr":
        world.lose_disk(1)
        world.start(1)
        load.settle()


@both
@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_gives_a_damaged_snapshot_notices_and_takes_it_again(protocol: str, seed: int) -> None:
    """Nothing else is asked for meanwhile: it must not wait for commands, nor must who needs it."""
    world, load = with_snapshots(protocol, away=3)
    for member in (1, 2):
        assert decay(world.nodes[member], snapshot_of(world, member), Random(seed))
    world.start(3)
    load.settle()
    assert world.watch.counts["damaged snapshot noticed by whoever gives it"] >= 1
    replaced = [member for member in (1, 2) if is_sound(world.nodes[member].disk, snapshot_of(world, member))]
    assert replaced
    for member in replaced:
        world.lose_power(member)
        world.start(member)
    load.settle()


@both
def test_a_member_whose_fetched_snapshot_decays_before_it_is_loaded_stops_and_refuses_to_start(protocol: str) -> None:
    for seed in range(20):
        world, _ = with_snapshots(protocol, away=3, seed=seed)
        world.start(3)
        disk, op = world.watch.disks[3], snapshot_of(world, 1).op
        assert world.run_until(lambda disk=disk, op=op: disk.snapshot is not None and disk.snapshot.op == op, SECOND)  # type: ignore[misc]  # bound now
        replica = world.nodes[3].replica
        if replica is not None and replica.status().snapshot.loading == op:
            break  # Its record is durable, and it is not loaded yet.
    node = world.nodes[3]
    assert decay(node, snapshot_of(world, 3), Random(1))
    assert world.run_until(lambda: bool(node.failures), 5 * SECOND)
    assert node.replica is None
    assert world.watch.counts["damaged snapshot noticed by whoever loads it"] == 1
    with pytest.raises(UNREADABLE):
        world.start(3)


def test_a_member_that_takes_a_sound_snapshot_for_damaged_is_told() -> None:
    world, _ = with_snapshots("vsr", away=3)
    for member in (1, 2):
        decay(world.nodes[member], snapshot_of(world, member), Random(1))
        world.nodes[member].decayed.clear()
    world.start(3)
    with pytest.raises(ViolationError, match=r"durability: member \d takes its sound snapshot-"):
        world.run_for(SECOND)
