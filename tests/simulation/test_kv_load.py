"""The key-value store under load in simulated clusters: linearizable through every fault, and found out if not."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from statemachine import KeyValueStore, Value
from statemachine.command import command, query
from statemachine.key_value import Versioned
from tests.simulation.other_processes import outputs_of
from transport.network import LinkFaults
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.history import encode_operation
from viewstamp.simulation.kv_load import KeyValueLoad
from viewstamp.simulation.load import Habits
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.world import World

QUIET = LinkFaults()
HABITS = Habits(think=10 * MILLISECOND, reads=32)
WEATHER = (
    QUIET,
    LinkFaults(loss=0.02, duplicate=0.05, reorder=0.1),
    LinkFaults(loss=0.1, duplicate=0.05, reorder=0.1, corrupt=0.02, replay=0.05),
)

both = pytest.mark.parametrize("protocol", ["vsr", "raft"])


def loaded(seed: int, protocol: str, machine: type[KeyValueStore] = KeyValueStore) -> tuple[World, KeyValueLoad]:
    world = World(seed, protocol=protocol, machine=machine)
    world.start_all()
    load = KeyValueLoad(world, 4, HABITS)
    assert world.run_until(lambda: load.acknowledged >= 20, 5 * SECOND)
    return world, load


def storm(seed: int, protocol: str) -> KeyValueLoad:
    """Kills, power losses and cuts, drawn from the seed; then a healthy cluster."""
    draw = Random(f"storm {seed}")
    world, load = loaded(seed, protocol)
    world.network.faults = draw.choice(WEATHER)
    for _ in range(5):
        victim = draw.choice(list(world.nodes))
        match draw.randrange(4):
            case 0:
                world.crash(victim)
            case 1:
                world.lose_power(victim)
            case 2:
                for member in world.nodes:
                    world.lose_power(member)
            case _:
                world.network.isolate(f"member-{world.primary or victim}")
        world.run_for(draw.randrange(300) * MILLISECOND)
        world.network.heal()
        world.start_all()
        world.run_for(draw.randrange(300) * MILLISECOND)
    world.network.faults = QUIET
    before = load.acknowledged
    world.run_until(lambda: load.acknowledged > before + 100, SECOND)
    load.settle()
    return load


@both
def test_a_healthy_cluster_serves_and_every_kind_of_operation_happens(protocol: str) -> None:
    world, load = loaded(1, protocol)
    world.run_until(lambda: load.acknowledged >= 400, SECOND)
    load.settle()
    history = load.told()
    assert load.unknown == 0
    assert load.acknowledged >= 400
    assert all(operation.ok for operation in history)
    assert {operation.op for operation in history} == {"get", "put", "append", "cas", "delete"}
    swaps = [operation.out for operation in history if operation.op == "cas"]
    swapped = sum(isinstance(out, dict) and out["swapped"] is True for out in swaps)
    assert 10 < swapped < len(swaps) - 10, "both outcomes are common"


@both
@pytest.mark.parametrize("seed", range(6))
def test_a_storm_leaves_the_history_linearizable(seed: int, protocol: str) -> None:
    load = storm(seed, protocol)
    assert load.acknowledged > 120


def test_equal_seeds_give_equal_histories_in_other_processes() -> None:
    program = (
        "from tests.simulation.test_kv_load import storm, encode_operation\n"
        "for operation in storm(3, 'vsr').told(): print(encode_operation(operation))"
    )
    histories = outputs_of(program)
    assert len(histories) == 1
    assert encode_operation(storm(3, "vsr").told()[-1]) in histories.pop()


class ForgetfulStore(KeyValueStore):
    """It says that it has appended, and one time in eight has not: a bug that all members share."""

    @command
    def append(self, key: str, suffix: Value) -> int:
        """Append, or pretend to."""
        if self.context.random.randrange(8) == 0:
            return self._revision + 1
        return super().append(key, suffix)


class StaleStore(KeyValueStore):
    """Its reads are of the value before the last change."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Versioned | None] = {}

    @command
    def put(self, key: str, value: Value) -> int:
        """Put."""
        self._before[key] = super().get(key)
        return super().put(key, value)

    @query
    def get(self, key: str) -> Versioned | None:
        """Get what was."""
        return self._before.get(key)


@pytest.mark.parametrize(
    ("machine", "found"),
    [
        (ForgetfulStore, "linearizability: not linearizable"),
        (StaleStore, "reads are linearizable: a read gave version"),
    ],
)
def test_a_store_that_lies_is_found_out(machine: type[KeyValueStore], found: str) -> None:
    def lie() -> None:
        world, load = loaded(2, "vsr", machine)
        world.run_for(200 * MILLISECOND)
        load.settle()

    with pytest.raises(ViolationError, match=found):
        lie()


def test_what_is_not_answered_is_told() -> None:
    world, load = loaded(3, "raft")
    for member in (1, 2):
        world.crash(member)
    load.fresh()
    with pytest.raises(ViolationError, match=r"service: \d+ calls are not answered"):
        load.settle(SECOND)
    waiting = [operation for operation in load.told() if operation.ok is None]
    assert waiting
    assert all(operation.ret is None for operation in waiting)


def test_a_member_that_stays_behind_is_told() -> None:
    world, load = loaded(4, "vsr")
    world.crash(1 if world.primary != 1 else 2)
    with pytest.raises(ViolationError, match=r"convergence: .* members have not all applied"):
        load.settle(2 * SECOND)


def test_an_expired_session_leaves_an_unknown_outcome_and_the_client_goes_on() -> None:
    world, load = loaded(5, "vsr")
    client = load.clients[0]
    assert world.run_until(lambda: bool(client.session._outstanding), SECOND), "a command is under way"
    world.cluster = replace(world.cluster, max_sessions=1)  # As if it had had to make room.
    client.session.expire()
    before = load.acknowledged
    assert world.run_until(lambda: load.unknown > 0 and load.acknowledged > before + 50, SECOND)
    assert any(operation.ok is None for operation in load.told())
    load.settle()


@both
def test_more_clients_than_sessions_leave_many_unknown_outcomes_and_a_linearizable_history(protocol: str) -> None:
    world = World(6, protocol=protocol, machine=KeyValueStore)
    world.cluster = replace(world.cluster, max_sessions=4)
    world.start_all()
    load = KeyValueLoad(world, 6, HABITS)
    assert world.run_until(lambda: load.acknowledged >= 200, 10 * SECOND)
    load.settle()
    assert load.unknown > 20
