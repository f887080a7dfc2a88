"""Whole-cluster scenarios that once went wrong, or were suspected to: each says what would happen without its rule."""

from __future__ import annotations

from random import Random

from tests.simulation.load import ADD, CounterLoad
from viewstamp.client import ClientSession
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.world import World
from viewstamp.wire import Query, QueryReply


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
    load = CounterLoad(world, clients=1)
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
