"""Whole clusters brought to moments that hardly any seed comes to: without its rule each ends as its test says.

Hand-made bugs that hundreds of runs of both fuzzers did not find were real all the same: these are the ways there.
"""

from __future__ import annotations

from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.replica import Replica
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.trace_messages import parts_of
from viewstamp.simulation.world import World
from vsr import GetState, ViewstampedReplication

_HARDLY_GOES = 50_000
"""The rate of a clock by which no time-out ends: its member goes on leading, whoever leads by now."""


def prepared(members: int, protocol: str) -> tuple[World, LedgerLoad, int]:
    """A cluster with clients, and who leads it."""
    world = World(0, members=members, protocol=protocol)
    world.start_all()
    load = LedgerLoad(world, clients=3)
    assert world.run_until(lambda: load.acknowledged >= 20, 5 * SECOND)
    assert world.primary is not None
    return world, load, world.primary


def separate(world: World, one: int, other: int) -> None:
    """Neither hears the other."""
    world.network.cut(f"member-{one}", f"member-{other}")
    world.network.cut(f"member-{other}", f"member-{one}")


def reconcile(world: World, one: int, other: int) -> None:
    """They hear each other again."""
    world.network.heal(f"member-{one}", f"member-{other}")
    world.network.heal(f"member-{other}", f"member-{one}")


def test_a_lost_disk_is_not_recovered_from_a_deposed_primary_alone() -> None:
    """Answers of n - quorum others were one too few: "takes part again with op 354, though op 355 was committed"."""
    world, load, deposed = prepared(3, "vsr")
    primary = deposed % 3 + 1
    loser = 6 - deposed - primary
    world.nodes[deposed].clock.set_rate(_HARDLY_GOES, world.now)
    for other in (primary, loser):
        separate(world, deposed, other)
    assert world.run_until(lambda: world.nodes[primary].replica in world.running and world.primary == primary, SECOND)
    before = world.watch.committed
    assert world.run_until(lambda: world.watch.committed > before + 3, SECOND)
    separate(world, primary, loser)
    world.lose_disk(loser)
    world.start(loser)
    reconcile(world, deposed, loser)
    world.nodes[deposed].clock.set_rate(300_000, world.now)
    world.run_for(500 * MILLISECOND)
    found = world.nodes[loser].replica
    assert found is not None
    assert found.status().status == "recovering"
    world.nodes[deposed].clock.set_rate(1_000_000, world.now)
    world.network.heal()
    load.settle()


def test_who_alone_has_entered_a_view_is_not_left_behind() -> None:
    """It can come back to no earlier view: were nobody to join it, it would wait there for ever while others serve."""
    world, load, primary = prepared(5, "vsr")
    alone = primary % 5 + 1
    world.nodes[primary].clock.set_rate(_HARDLY_GOES, world.now)
    for one in world.nodes:
        for other in world.nodes:
            if one != other and (other != alone or one == primary):
                world.network.cut(f"member-{one}", f"member-{other}")
    view = world.watch.view_of(primary)
    assert world.run_until(lambda: world.watch.view_of(alone) > view, 3 * SECOND)
    assert [member for member in world.nodes if world.watch.view_of(member) > view] == [alone]
    world.nodes[primary].clock.set_rate(1_000_000, world.now)
    for other in world.nodes:
        if other not in (primary, alone):
            world.network.heal(f"member-{primary}", f"member-{other}")
    world.run_for(200 * MILLISECOND)  # The others hear it again, and want no other any more.
    world.network.heal()
    world.run_for(SECOND)
    load.settle()


def test_an_heir_that_stood_still_is_not_elected_beside_another() -> None:
    """It stands in the term that another has won meanwhile, and the voter of that one has not heard of its victory.

    Were a request that says transfer granted beside the vote that was given, both would lead that term.
    """
    world, load, leader = prepared(3, "raft")
    load.stopped = True
    world.run_for(SECOND)
    words: list[tuple[str, str, bytes]] = []
    listen = world.on_send

    def keep(source: str, destination: str, datagram: bytes) -> None:
        if listen is not None:
            listen(source, destination, datagram)
        words.append((source, destination, datagram))

    world.on_send = keep
    world.tell(leader, "resign", Replica.resign)
    world.on_send = listen
    [(source, destination, word)] = words  # TIMEOUTNOW
    heir = int(destination.removeprefix("member-"))
    voter = 6 - leader - heir
    world.pause(heir, 20 * SECOND)  # It is under way to a member that stands still.
    separate(world, heir, leader)
    separate(world, heir, voter)
    term = world.watch.view_of(leader)
    world.crash(leader)
    world.start(leader)
    both = (leader, voter)
    assert world.run_until(lambda: all(world.watch.view_of(member) > term for member in both), 3 * SECOND)
    separate(world, leader, voter)  # One has just voted for the other.
    reconcile(world, heir, voter)
    world.pause(heir, 0)
    world.deliver(source, destination, word)
    assert world.watch.view_of(heir) == term + 1 == world.watch.view_of(voter)
    world.run_for(20 * MILLISECOND)
    assert world.watch.view_of(heir) == term + 1
    world.network.heal()
    load.settle()


def test_who_is_in_an_earlier_term_with_the_longer_log_learns_of_the_later_one() -> None:
    """Of two that are left one has a later term, the other the longer log: neither would ever vote for the other."""
    world, load, leader = prepared(3, "raft")
    load.stopped = True
    world.run_for(SECOND)
    others = [member for member in world.nodes if member != leader]
    term = world.watch.view_of(leader)
    world.nodes[leader].clock.set_rate(_HARDLY_GOES, world.now)
    for other in others:
        separate(world, leader, other)
    assert world.run_until(lambda: any(world.watch.view_of(other) > term for other in others), 3 * SECOND)
    [later] = [other for other in others if world.watch.view_of(other) > term]
    [friend] = [other for other in others if other != later]
    separate(world, later, friend)  # It stands, and nobody hears of it.
    reconcile(world, leader, friend)
    world.nodes[leader].clock.set_rate(1_000_000, world.now)
    before = load.acknowledged
    load.burst(load.clients[0], 5)
    assert world.run_until(lambda: load.acknowledged >= before + 5, 3 * SECOND)
    world.crash(friend)
    world.crash(leader)
    world.start(leader)
    world.run_for(SECOND)  # By now that one only asks whether it would be elected.
    reconcile(world, leader, later)
    assert world.run_until(lambda: world.primary == leader, 5 * SECOND)
    world.start(friend)
    world.network.heal()
    load.settle()


def test_a_primary_whose_backups_ask_for_what_never_reaches_them_gives_way() -> None:
    """Two of five hear nothing of it and ask again and again; one is down, and one hears it, and so wants no other.

    Were each question a sign that they follow, it would lead for ever while nothing is committed.
    """
    world, load, primary = prepared(5, "vsr")
    deaf = [primary % 5 + 1, (primary + 1) % 5 + 1]
    down = (primary + 2) % 5 + 1
    for member in deaf:
        world.network.cut(f"member-{primary}", f"member-{member}")
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 5, SECOND)  # What these two have missed.
    listen, asked = world.on_send, set[int]()
    [tag] = [tag for tag, kind in ViewstampedReplication.messages.items() if kind is GetState]

    def leave_unanswered(source: str, destination: str, datagram: bytes) -> None:
        if listen is not None:
            listen(source, destination, datagram)
        for member in deaf:
            if source == f"member-{member}" and any(body[0] == tag for _, body in parts_of(datagram)):
                world.network.cut(f"member-{primary}", source)
                asked.add(member)

    world.on_send = leave_unanswered
    for member in deaf:
        world.network.heal(f"member-{primary}", f"member-{member}")
    assert world.run_until(lambda: len(asked) == len(deaf), SECOND)
    world.crash(down)
    before = load.acknowledged
    assert world.run_until(lambda: load.acknowledged > before + 20, 5 * SECOND)
    assert world.primary != primary
    world.on_send = listen
    world.start(down)
    world.network.heal()
    load.settle()
