"""A large state reaches a member that was down, through a network that loses one datagram in twenty.

python -m tests.simulation.test_large_state 200    # megabytes
"""

from __future__ import annotations

import sys
import time
from random import Random

import pytest

from statemachine import KeyValueStore, command
from transport.network import LinkFaults, Network
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.inhabitants import Answer
from viewstamp.simulation.world import World

_STEPS = 100
_LOSS = LinkFaults(loss=0.05)


class Bulk(KeyValueStore):
    """A store that a single command fills."""

    @command
    def fill(self, first: int, count: int) -> int:
        for number in range(first, first + count):
            KeyValueStore.put.function(self, f"bulk-{number}", number.to_bytes(4, "big") * 250)
        return count


def transfer(protocol: str, megabytes: int) -> tuple[int, int]:
    """How long the member took, and the longest call meanwhile, in nanoseconds of simulated time."""
    network = Network(Random(1))
    world = World(
        3, protocol=protocol, machine=Bulk, network=network, options={"snapshot_entries": 50, "datagram_bytes": 1200}
    )
    world.start_all()
    world.run_for(SECOND)
    client = world.add_client()
    world.crash(3)

    def call(body: bytes) -> int:
        answers: list[Answer] = []
        world.on_answer = answers.append
        began = world.now
        world.call(client, body)
        assert world.run_until(lambda: bool(answers), 5 * SECOND)
        return world.now - began

    each = megabytes * 1000 // _STEPS
    for step in range(_STEPS):
        call(Bulk.fill.bind(step * each, each))
    world.run_for(3 * SECOND)
    for other in ("member-1", "member-2"):
        network.set_link("member-3", other, _LOSS)
        network.set_link(other, "member-3", _LOSS)

    began, longest = world.now, 0
    world.start(3)
    while world.now - began < 60 * SECOND:
        longest = max(longest, call(Bulk.put.bind("small", world.now)))
        world.run_for(10 * MILLISECOND)
        late, newest = world.nodes[3].replica, world.nodes[1].replica
        assert late is not None
        assert newest is not None
        if late.executor.applied >= newest.executor.applied - 2:
            assert late.status().snapshot.op > 0
            return world.now - began, longest
    raise AssertionError("the member did not catch up")


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_large_state_is_fetched_under_loss_and_nobody_waits_for_it(protocol: str) -> None:
    took, longest = transfer(protocol, 5)
    assert took < 2 * SECOND
    assert longest < 100 * MILLISECOND


if __name__ == "__main__":
    for name in ("vsr", "raft"):
        started = time.perf_counter()
        lasted, slowest = transfer(name, int(sys.argv[1]))
        seconds, milliseconds = lasted / SECOND, slowest / MILLISECOND
        took_s = time.perf_counter() - started
        sys.stdout.write(f"{name}: {seconds:.1f} simulated s, longest call {milliseconds:.1f} ms, in {took_s:.0f} s\n")
