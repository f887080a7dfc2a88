"""Whole-cluster scenarios that once went wrong, or were suspected to: each says what would happen without its rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from statemachine.outcome import MAXIMUM_REPLY_BYTES
from transport.endpoint import EndpointLimits
from transport.network import LinkFaults
from viewstamp.client import ClientSession
from viewstamp.cluster_text import OWN_LIMITS, PROTOCOL_LIMITS
from viewstamp.protocol import LARGEST_INCARNATION, SECOND, AgreedClock, Limits, Time
from viewstamp.shell.replica_loop import new_incarnation
from viewstamp.simulation.ledger_load import ADD, LedgerLoad
from viewstamp.simulation.world import World
from viewstamp.wire import Hello, Query, QueryReply
from vsr.messages import (
    Commit,
    CommitPoint,
    DoViewChange,
    GetCommit,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    RecoveryResponse,
    StartView,
    StartViewChange,
)


def test_an_answer_from_an_earlier_life_of_a_member_is_not_taken_for_a_new_read() -> None:
    """A member asks another for a read and is killed; the answer, delayed, meets a read of its next life.

    Were both read number 1, the second would return what was true before it was asked.
    """
    earlier = ClientSession((1, 2, 3), random=Random(1), window=8, home=1)
    later = ClientSession((1, 2, 3), random=Random(2), window=8, home=1)
    number = earlier.query(b"get", 0, member=2)
    asked = later.query(b"get", 0, member=2)
    assert [message for _, message in later.take_messages()] == [Query(asked, b"get")]
    later.receive(2, QueryReply(number, 0, 7, b"old"), 1)
    assert later.take_completions() == []
    later.receive(2, QueryReply(asked, 0, 9, b"new"), 1)
    assert [completion.outcome for completion in later.take_completions()] == [b"new"]


def test_the_agreed_time_is_right_at_a_new_primary_after_idle_hours() -> None:
    """The newest stamp is old when the primary fails. Time measured from it would lag by all that idle time."""
    world = World(1)
    world.start_all()
    load = LedgerLoad(world, clients=1)
    assert world.run_until(lambda: load.acknowledged >= 5, 5 * SECOND)
    load.stopped = True
    world.run_for(30 * SECOND)
    first = world.primary
    assert first is not None
    world.crash(first)
    assert world.run_until(lambda: world.primary not in (None, first), 5 * SECOND)
    client = world.add_client()
    before = len(world.answers)
    world.on_answer = None
    world.call(client, ADD)
    assert world.run_until(lambda: len(world.answers) > before, 5 * SECOND)
    replica = world.nodes[world.primary or 0].replica
    assert replica is not None
    entry = replica.entry(replica.status().op)
    assert world.time.wall - entry.stamp < SECOND


def test_more_requests_in_one_turn_than_the_pipeline_has_room_for() -> None:
    """They are retried in one turn, too: refused as one batch each time, they would get in one by one, if at all, as
    others are asked for one of them."""
    world = World(2)
    world.cluster = replace(world.cluster, limits=Limits(pipeline_entries=3))
    world.start_all()
    world.run_for(SECOND)
    client = world.add_client()
    for _ in range(20):
        world.call(client, ADD)  # All wait for the session, and leave together.
    assert world.run_until(lambda: len(world.answers) == 20, SECOND)


def test_numbers_that_no_member_sends_stop_nobody() -> None:
    """A damaged message that passes its checksum: a view with no next one, an incarnation with no larger one."""
    world = World(3)
    world.start_all()
    load = LedgerLoad(world)
    assert world.run_until(lambda: load.acknowledged >= 5, 5 * SECOND)
    world.network.faults = LinkFaults(loss=0.05)
    for number in ((1 << 63) + 1, (1 << 64) - 3):
        vector = (number, number, number)
        known = {member: node.replica.incarnation for member, node in world.nodes.items() if node.replica}
        for member, sender in permutations(world.nodes, 2):
            replica = world.nodes[member].replica
            assert replica is not None
            mine = tuple(known.values())
            view = number - number % 3 + sender - 1  # one that `sender` leads; the others are the receiver's
            for message in (
                Prepare(view, (), 0, 1),
                PrepareOk(0, 1, number, number, mine),
                PrepareOk(0, 1, 1, 1, vector),
                Commit(view, 1, 1, 1),
                StartViewChange(view, 0, mine),
                StartViewChange(1, view, mine),
                StartViewChange(1, 0, vector),
                DoViewChange(view + member - sender, 0, 1, 1, mine),
                StartView(view, 1, 1),
                GetState(view, number, number, number, number),
                NewState(view, number, number, (), number, 1),
                RecoveryResponse(view, number, 1, 1, vector),
                GetCommit(view, number),
                CommitPoint(view, number, number),
                Hello(blank=True, vector=vector),
                Hello(blank=False, vector=vector),
            ):
                replica._dispatch(sender, known[sender], message)
            world._finish(world.nodes[member])
        world.run_for(SECOND)
    load.settle()
    assert max(replica.status().view for replica in world.running) < 1 << 32


def test_a_replaced_member_with_a_clock_in_the_past_takes_a_newer_incarnation() -> None:
    """Its clock is behind that of the machine it replaces: the others would drop all it says as superseded."""
    world = World(4)
    world.start_all()
    load = LedgerLoad(world, clients=1)
    assert world.run_until(lambda: load.acknowledged >= 5, 5 * SECOND)
    for member in (3, 1):
        world.lose_disk(member)
        world.clock_error = -10_000 * SECOND
        world.start(member)
        world.run_for(SECOND)
        world.clock_error = 0
    load.settle()


@pytest.mark.parametrize("wall", [-1, 0, 1 << 63, 1 << 80])
def test_a_clock_that_is_wrong_by_centuries(wall: int) -> None:
    """Entries and incarnations still have an encoding, and there is room for larger ones."""
    clock = AgreedClock(0)
    stamps = [clock.stamp(Time(now, wall)) for now in (0, SECOND, 2 * SECOND)]
    assert 0 <= stamps[0] <= stamps[-1] < 1 << 63
    assert 0 < new_incarnation(Random(1), lambda: wall) < LARGEST_INCARNATION // 2 + 1


def test_the_largest_page_and_command_that_a_cluster_file_allows_can_be_sent() -> None:
    """A message longer than its endpoint takes is dropped, again and again: nothing behind it would follow."""
    header = 1024
    limits = EndpointLimits()
    assert PROTOCOL_LIMITS["page_bytes"].highest + header <= limits.members.message_bytes
    assert OWN_LIMITS["max_command_bytes"].highest + header <= limits.learnt.message_bytes
    assert MAXIMUM_REPLY_BYTES + header <= limits.learnt.message_bytes
