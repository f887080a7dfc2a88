"""Whole seeds of the fuzzer: the code as it is holds everything, equal seeds are equal runs, faults are carried out."""

from __future__ import annotations

from random import Random

import pytest

from statemachine import Counter, OutcomeUnknownError, SessionExpiredError, StateMachine, command
from statemachine.errors import UnknownReason
from tests.simulation.other_processes import outputs_of
from viewstamp.journal import SnapshotRecord, TruncateRecord
from viewstamp.protocol import MILLISECOND
from viewstamp.simulation.disk_image import DiskImage
from viewstamp.simulation.inhabitants import Answer, DiskLatency
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.network import FuzzNetwork
from viewstamp.simulation.plan import Fault, draw_plan
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.stories import Stories
from viewstamp.simulation.verdict import Kind, ViolationError
from viewstamp.simulation.world import World

SPREAD = (1, 3, 11, 12)


def test_a_seed_replays_to_the_byte_in_another_process() -> None:
    program = f"""
from viewstamp.simulation.run import run_seed
for protocol in ("vsr", "raft"):
    for seed in {SPREAD}:
        report = run_seed(seed, protocol)
        print(report.digest, report.events, report.violation, report.story, sorted(report.counts.items()))
"""
    outputs = outputs_of(program)
    assert len(outputs) == 1
    assert outputs.pop().count("None") >= 2 * len(SPREAD)


def test_plans_are_drawn_swarm_style() -> None:
    plans = [draw_plan(seed) for seed in range(300)]
    assert {plan.members for plan in plans} == {1, 2, 3, 4, 5, 6, 7}
    assert any(not plan.faults for plan in plans)
    assert any(len(plan.faults) == len(Fault) for plan in plans)
    assert any(plan.clients > plan.max_sessions for plan in plans)
    assert {plan.store for plan in plans} == {True, False}
    assert {fault for plan in plans for fault in plan.faults} == set(Fault)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_each_fault_can_be_carried_out_and_recovered_from(fault: Fault, protocol: str) -> None:
    network = FuzzNetwork(Random(1))
    world = World(7, members=3, protocol=protocol, network=network)
    world.start_all()
    load = LedgerLoad(world)
    faults = Stories(world, network, load, Random(2))
    world.run_for(2 * faults.patience)
    for _ in range(3):
        faults.befall(fault)
        world.run_for(faults.patience)
        faults.remember_data()
    faults.end()
    faults.start_again(faults.members)
    load.stopped = True
    load.serve(40 * faults.patience)
    load.agree([member for member in faults.members if member not in faults.gone], 20 * faults.patience)
    assert load.acknowledged > 10


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_some_seeds_draw_a_key_value_store_and_everything_clients_can_ask_of_it(protocol: str) -> None:
    seeds = [seed for seed in range(40) if draw_plan(seed).store][:3]
    reports = [run_seed(seed, protocol) for seed in seeds]
    assert [report.violation for report in reports] == [None] * len(seeds)
    assert {operation.op for report in reports for operation in report.history} == {
        "get",
        "put",
        "append",
        "cas",
        "delete",
    }
    reached = {name for report in reports for name in report.counts if name.startswith("key-value")}
    assert {"key-value: cas: swapped", "key-value: cas: not swapped"} <= reached


class Any(Counter):
    """A machine that the fuzzer has no model of."""


class Own(StateMachine):
    """A machine of a user, with a defect: what it holds depends on the process, not on its commands."""

    def __init__(self) -> None:
        self.values: list[int] = []

    @command
    def put(self, value: int) -> int:
        self.values.append(id(self))
        return value


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_machine_of_a_user_is_fuzzed(protocol: str) -> None:
    assert run_seed(4, protocol, Any).violation is None
    found = [run_seed(seed, protocol, Own).violation for seed in range(3)]
    assert {violation.property for violation in found if violation is not None} == {"equal states"}


def test_a_cluster_that_does_not_serve_is_told_with_its_reason() -> None:
    world = World(1)
    world.start_all()
    load = LedgerLoad(world)
    world.run_for(10**9)
    for member in (1, 2):
        world.crash(member)
    load.stopped = True
    load.fresh()
    with pytest.raises(ViolationError, match="1: down; 2: down; 3: ") as failure:
        load.serve(10**9)
    assert failure.value.violation.kind is Kind.LIVENESS


def test_a_disk_that_forgets_what_it_reported_is_noticed() -> None:
    world = World(1)
    world.start_all()
    world.run_for(10**9)
    world.crash(1)
    world.nodes[1].disk.wipe()
    with pytest.raises(ViolationError, match="durability"):
        world.start(1)


def test_a_lost_disk_counts_until_its_member_takes_part_again() -> None:
    image = DiskImage()
    image.entries, image.last_op = {1: b"entry"}, 1
    image.wipe()
    assert image.holds(1, b"entry")
    assert not image.holds(1, b"other")


def served() -> tuple[World, LedgerLoad]:
    """A cluster that has committed something, and its clients."""
    world = World(1)
    world.start_all()
    load = LedgerLoad(world)
    assert world.run_until(lambda: load.answered > 20, 10**10)
    return world, load


def test_a_disk_that_cuts_off_what_is_committed_is_noticed() -> None:
    world, _ = served()
    node, watch = world.nodes[2], world.watch
    last = watch.disks[2].last_op
    watch.durable(node, [TruncateRecord(last)])  # nothing
    covering = SnapshotRecord(0, watch.disks[3].last_op, 1, bytes(32))
    watch.disks[3].add([TruncateRecord(1), covering])  # a snapshot in its place
    with pytest.raises(ViolationError, match="member 2 cut off committed op 2"):
        watch.durable(node, [TruncateRecord(1)])


@pytest.mark.parametrize("error", [SessionExpiredError(), OutcomeUnknownError(UnknownReason.STALE)])
def test_a_caller_may_not_be_left_without_an_answer(error: OutcomeUnknownError) -> None:
    world, load = served()
    load.burst(load.clients[0], 1)
    answer = Answer(0, max(load.clients[0].started), world.now, world.now, error)
    assert world.on_answer is not None
    with pytest.raises(ViolationError, match="answers: client 0 was told that"):
        world.on_answer(answer)


def test_what_is_not_answered_although_all_is_well_is_told() -> None:
    world, load = served()
    for member in (1, 2):
        world.crash(member)
    load.fresh()
    with pytest.raises(ViolationError, match="is not answered 1000000000 ns after all was well"):
        load.catch_up(10**9)
    world.start_all()
    load.catch_up(10**9)


def test_a_process_that_stood_still_takes_all_that_waited_in_one_turn() -> None:
    world, load = served()
    primary = world.primary
    assert primary is not None
    world.pause(primary, 20 * MILLISECOND)
    world.run_for(19 * MILLISECOND)
    backlog = world.nodes[primary].backlog
    assert len(backlog) > 1
    world.run_for(2 * MILLISECOND)
    assert world.nodes[primary].backlog is not backlog
    load.settle()


def test_no_disk_stalls_when_faults_are_over() -> None:
    """Two stalls longer than a suspect time-out, and the views of two members that are down: no service in time."""
    network = FuzzNetwork(Random(1))
    world = World(1, network=network, disk=DiskLatency(stall=200 * MILLISECOND, stall_percent=50))
    Stories(world, network, LedgerLoad(world, clients=1), Random(1)).end()
    node = world.nodes[1]
    assert max(world.disk_latency.draw(node.random) for _ in range(100)) < MILLISECOND
