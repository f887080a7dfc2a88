"""When nothing happens to a cluster, nothing happens in it: whoever leads goes on, however few are left to follow."""

from __future__ import annotations

import pytest

from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.inhabitants import DiskLatency
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.world import World

_SLOW = DiskLatency(base=120 * MILLISECOND, spread=60 * MILLISECOND)


@pytest.mark.parametrize(("members", "slow_disks"), [(2, False), (3, False), (3, True), (4, False), (5, False)])
@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_bare_majority_keeps_its_primary(protocol: str, members: int, slow_disks: bool) -> None:
    """Each change of view is a pause of the service, and one that wants one answer too many changes it for ever."""
    world = World(0, members=members, protocol=protocol, disk=_SLOW if slow_disks else None)
    world.start_all()
    load = LedgerLoad(world, clients=2)
    assert world.run_until(lambda: load.acknowledged >= 10, 10 * SECOND)
    primary = world.primary
    assert primary is not None
    for down in [member for member in world.nodes if member != primary][world.cluster.configuration.quorum - 1 :]:
        world.crash(down)
    views = len(world.watch.leaders)
    before = load.acknowledged
    world.run_for(3 * SECOND)
    assert load.acknowledged > before + 5
    load.stopped = True
    world.run_for(2 * SECOND)
    assert load.idle
    assert (world.primary, len(world.watch.leaders)) == (primary, views)
    world.start_all()
    world.run_for(SECOND)  # Nor does it make way for those that come back.
    load.settle()
    assert (world.primary, len(world.watch.leaders)) == (primary, views)


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_one_that_does_not_hear_the_primary_alone_deposes_nobody(protocol: str) -> None:
    """It proposes another again and again, and the primary itself must not go along: the two would be a majority."""
    world = World(0, members=3, protocol=protocol)
    world.start_all()
    load = LedgerLoad(world, clients=2)
    assert world.run_until(lambda: load.acknowledged >= 10, 10 * SECOND)
    primary = world.primary
    assert primary is not None
    views = len(world.watch.leaders)
    deaf = primary % 3 + 1
    world.network.cut(f"member-{primary}", f"member-{deaf}")
    world.run_for(3 * SECOND)
    assert (world.primary, len(world.watch.leaders)) == (primary, views)
    world.network.heal()
    load.settle()
    assert (world.primary, len(world.watch.leaders)) == (primary, views)
