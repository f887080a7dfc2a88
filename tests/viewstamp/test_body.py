"""The body knows no protocol's words: what a member does around its protocol holds for any, a toy one included."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from statemachine import Command, Counter, NotExecutedReason, decode_outcome, unwrap
from statemachine.counter import NotAnIntegerError
from statemachine.errors import NotExecutedError
from tests.protocol.toy import SingleMemberLog
from tests.viewstamp.running import Account, unstarted
from transport.codec import MessageCodec
from viewstamp.protocol import MILLISECOND, SECOND, Core, Time
from viewstamp.registry import protocol_class
from viewstamp.replica import Replica, Turn
from viewstamp.simulation.inhabitants import Node, SimulatedClient
from viewstamp.simulation.world import World
from viewstamp.wire import BODY_MESSAGES, Hello, Reply, Request

ADD = Counter.add.bind(1)
GET = Counter.get.bind()
CODEC = MessageCodec(BODY_MESSAGES, {})

PROTOCOLS: dict[str, tuple[type[Core], int]] = {
    "vsr": (protocol_class("vsr"), 3),
    "vsr alone": (protocol_class("vsr"), 1),
    "toy": (SingleMemberLog, 1),
}


@pytest.fixture(params=PROTOCOLS)
def world(request: pytest.FixtureRequest) -> World:
    core_class, members = PROTOCOLS[request.param]
    world = World(7, members=members, core_class=core_class, machine=Counter)
    world.start_all()
    assert world.run_until(lambda: world.primary is not None, 5 * SECOND)
    return world


def leader(world: World) -> Replica:
    assert world.run_until(lambda: world.primary is not None, 5 * SECOND)
    replica = world.nodes[world.primary or 0].replica
    assert replica is not None
    return replica


def finish(world: World, client: SimulatedClient, handle: int) -> object:
    """The value that a call or read returned, which must not take long."""

    def found() -> list[object]:
        return [a.value for a in world.answers if (a.client, a.handle) == (client.number, handle)]

    assert world.run_until(lambda: bool(found()), 5 * SECOND), leader(world).status()
    return found()[0]


def applied_value(replica: Replica) -> int:
    machine = replica.executor.machine
    assert isinstance(machine, Counter)
    return machine.value


def send(world: World, client: SimulatedClient, message: object) -> None:
    """Something a client's session would not send by itself."""
    client.endpoint.send(world.primary or 0, CODEC.encode(message))
    for datagram, address in client.endpoint.flush(world.now):
        world._transmit(client.address, str(address), datagram)


def replies(world: World, client: SimulatedClient) -> list[Reply]:
    """Collects every reply that reaches this client from now on, before its session sees it."""
    seen: list[Reply] = []
    receive = client.session.receive

    def watch(sender: int, message: object, now: int) -> None:
        if isinstance(message, Reply):
            seen.append(message)
        receive(sender, message, now)  # type: ignore[arg-type]  # handed on as it came

    client.session.receive = watch  # type: ignore[method-assign]  # looking, not changing
    return seen


def test_a_call_and_a_read(world: World) -> None:
    client = world.add_client()
    assert finish(world, client, world.call(client, ADD)) == 1
    assert finish(world, client, world.call(client, ADD)) == 2
    assert finish(world, client, world.read(client, GET)) == 2


def test_requests_that_wait_for_the_window_go_as_soon_as_there_is_room(world: World) -> None:
    """A member's own callers: the reply to one lets the next go in the same turn, without waiting for a timer."""
    replica = leader(world)
    node = world.nodes[world.primary or 0]
    replica.session._window = 1
    for _ in range(20):
        replica.session.call(ADD, world.now)
    world._finish(node)
    began = world.now
    assert world.run_until(lambda: applied_value(replica) == 20, SECOND)
    assert world.now - began < 21 * 5 * MILLISECOND


def test_a_duplicate_request_gets_the_recorded_reply(world: World) -> None:
    client = world.add_client()
    seen = replies(world, client)
    assert finish(world, client, world.call(client, ADD)) == 1
    first = seen[-1]
    for _ in range(3):
        send(world, client, Request(first.session, first.request, 0, ADD))
        world.run_for(SECOND // 10)
    again = [reply for reply in seen if reply.session == first.session]
    assert len(again) == 4
    assert {reply.outcome for reply in again} == {first.outcome}
    assert applied_value(leader(world)) == 1


def test_a_duplicate_of_a_request_under_way_is_ordered_once(world: World) -> None:
    client = world.add_client()
    finish(world, client, world.call(client, ADD))
    session = client.session.session
    before = leader(world).status().op
    for _ in range(5):
        send(world, client, Request(session, 2, 1, ADD))
    world.run_for(SECOND // 10)
    assert leader(world).status().op == before + 1
    assert applied_value(leader(world)) == 2


def test_a_lost_reply_is_asked_for_again_and_the_command_executed_once(world: World) -> None:
    client = world.add_client()
    assert finish(world, client, world.call(client, ADD)) == 1
    world.network.isolate(client.address, inbound=True, outbound=False)
    handle = world.call(client, ADD)
    world.run_for(SECOND)
    assert applied_value(leader(world)) == 2
    assert len(world.answers) == 1
    world.network.heal()
    assert finish(world, client, handle) == 2
    assert applied_value(leader(world)) == 2


@pytest.mark.parametrize("power", ["kept", "lost"])
def test_a_restart_keeps_state_and_sessions(world: World, power: str) -> None:
    client = world.add_client()
    seen = replies(world, client)
    for total in range(1, 11):
        assert finish(world, client, world.call(client, ADD)) == total
    last = seen[-1]
    for member in world.nodes:
        (world.crash if power == "kept" else world.lose_power)(member)
    world.start_all()
    leader(world)
    send(world, client, Request(last.session, last.request, last.request - 1, ADD))
    assert world.run_until(lambda: len(seen) > 11, 5 * SECOND)
    assert seen[-1].outcome == last.outcome
    assert finish(world, client, world.read(client, GET)) == 10
    assert finish(world, client, world.call(client, ADD)) == 11


def test_a_command_that_raises_is_answered_with_its_error(world: World) -> None:
    client = world.add_client()
    world.on_answer = None
    seen = replies(world, client)
    finish(world, client, world.call(client, ADD))
    session = client.session.session
    send(world, client, Request(session, 2, 1, Counter.add.bind("one")))  # type: ignore[arg-type]  # what is tested
    send(world, client, Request(session, 3, 1, Account.deposit.bind(1)))
    send(world, client, Request(session, 4, 1, b"no command"))
    world.run_for(SECOND // 10)
    outcomes = {reply.request: decode_outcome(reply.outcome) for reply in seen if reply.session == session}
    with pytest.raises(NotAnIntegerError) as refused:
        unwrap(outcomes[2], Counter)
    assert refused.value.given == "str"
    for request, reason in ((3, NotExecutedReason.UNKNOWN_COMMAND), (4, NotExecutedReason.MALFORMED)):
        with pytest.raises(NotExecutedError) as unknown:
            unwrap(outcomes[request], Counter)
        assert unknown.value.reason is reason
    assert applied_value(leader(world)) == 1


def test_an_oversized_command_is_refused_and_counted(world: World) -> None:
    client = world.add_client()
    seen = replies(world, client)
    finish(world, client, world.call(client, ADD))
    before = leader(world).status().op
    send(world, client, Request(client.session.session, 2, 1, bytes(world.cluster.max_command_bytes + 1)))
    world.run_for(SECOND)
    assert leader(world).statistics().oversized == 1
    assert leader(world).status().op == before
    assert len(seen) == 2
    assert finish(world, client, world.call(client, ADD)) == 2


def test_garbage_is_counted_and_changes_nothing(world: World) -> None:
    client = world.add_client()
    finish(world, client, world.call(client, ADD))
    captured: list[bytes] = []
    transmit = world.network.transmit

    def capture(source: object, destination: object, datagram: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        captured.append(datagram)
        return transmit(source, destination, datagram, now_ns)

    world.network.transmit = capture  # type: ignore[method-assign]  # looking, not changing
    finish(world, client, world.call(client, ADD))
    world.network.transmit = transmit  # type: ignore[method-assign]  # back to what it was
    draw = Random(1)
    address = world.nodes[world.primary or 0].address
    before = sum(leader(world).status().drops.values())
    for _ in range(300):
        real = bytearray(draw.choice(captured))
        real[draw.randrange(len(real))] ^= 1 << draw.randrange(8)
        for datagram in (draw.randbytes(draw.randrange(200)), bytes(real), bytes(real[: draw.randrange(len(real))])):
            world._transmit("stranger-1", address, datagram)
    world.run_for(SECOND)
    assert sum(leader(world).status().drops.values()) == before + 900
    assert finish(world, client, world.call(client, ADD)) == 3


def test_a_message_that_is_no_message_is_counted(world: World) -> None:
    client = world.add_client()
    client.endpoint.send(world.primary or 0, b"\x00")
    for datagram, address in client.endpoint.flush(world.now):
        world._transmit(client.address, str(address), datagram)
    send(world, client, Reply(1, 1, 1, 1, b""))
    world.run_for(SECOND)
    assert leader(world).statistics().undecodable == 1


@pytest.mark.parametrize(("core_class", "members"), PROTOCOLS.values(), ids=PROTOCOLS)
async def test_under_trio(autojump_clock: MockClock, core_class: type[Core], members: int) -> None:
    """The same through `open_replica`, with the protocol handed in."""
    add: Command[[int], int] = Account.deposit
    async with unstarted(members=members) as cluster:
        for expected in (1, 2):
            async with trio.open_nursery() as nursery:
                ready = [trio.Event() for _ in cluster.ids]
                over = trio.Event()

                async def serve(member: int, ready: trio.Event, over: trio.Event) -> None:
                    async with cluster.open_member(member, protocol=core_class) as replica:
                        await replica.wait_ready()
                        ready.set()
                        await over.wait()

                for member, event in zip(cluster.ids, ready, strict=True):
                    nursery.start_soon(serve, member, event, over)
                for event in ready:
                    await event.wait()
                async with cluster.open_client() as client:
                    assert await client.call(add, 1) == expected
                    assert await client.read(Account.read_balance) == expected
                over.set()


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_backup_that_always_has_something_to_write_executes_all_the_same(protocol: str) -> None:
    """Its disk needs most of a turn and the primary's does not: each of its turns has a write and a promise."""
    world = World(7, members=3, core_class=protocol_class(protocol), machine=Counter)
    world.start_all()
    assert world.run_until(lambda: world.primary is not None and all(r.ready for r in world.running), 5 * SECOND)
    lead = world.nodes[world.primary or 0]
    slow = world.nodes[lead.member % 3 + 1]
    primary, backup = leader(world), slow.replica
    assert backup is not None
    primary.session.call(ADD, world.now)
    world._finish(lead)
    assert world.run_until(lambda: applied_value(backup) == 1, SECOND)
    now = world.time

    def deliver(turn: Turn, source: Node, to: Node) -> None:
        for datagram, address in turn.datagrams:
            if address == to.address and to.replica is not None:
                to.replica.receive(datagram, source.address, now)

    for _ in range(20):
        now = Time(now.monotonic + 3 * MILLISECOND, now.wall + 3 * MILLISECOND)
        primary.session.call(ADD, now.monotonic)
        for _ in range(3):
            turn = primary.finish(now)
            deliver(turn, lead, slow)
            if turn.writes:
                primary.written(turn.writes[-1][0], now)
        turn = backup.finish(now)
        assert turn.writes
        deliver(turn, slow, lead)
        backup.written(turn.writes[-1][0], now)
    assert applied_value(backup) > 10


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_what_a_primary_orders_leaves_before_it_executes(protocol: str) -> None:
    """Backups and its own disk are at work on that meanwhile. What is committed does not wait for one sync after the
    other, where those take milliseconds and there is more to order each time."""
    world = World(7, members=3, core_class=protocol_class(protocol), machine=Counter)
    world.start_all()
    primary = leader(world)
    primary.session.call(ADD, world.now)
    world._finish(world.nodes[world.primary or 0])
    assert world.run_until(lambda: applied_value(primary) == 1, SECOND)
    now = world.time
    backups = [node for number, node in world.nodes.items() if number != world.primary]

    def finish(after_ns: int = 0) -> Turn:
        turn = primary.finish(Time(now.monotonic + after_ns, now.wall))
        if turn.writes:
            primary.written(turn.writes[-1][0], now)
        return turn

    def order_and_commit() -> None:
        primary.session.call(ADD, world.now)
        ordered = finish()
        for node in backups:
            assert node.replica is not None
            for datagram, address in ordered.datagrams:
                if address == node.address:
                    node.replica.receive(datagram, world.nodes[world.primary or 0].address, now)
            for write, _ in node.replica.finish(now).writes:
                node.replica.written(write, now)
            for datagram, _ in node.replica.finish(now).datagrams:
                primary.receive(datagram, node.address, now)

    order_and_commit()
    primary.session.call(ADD, world.now)
    ordered = finish()
    assert {address for _, address in ordered.datagrams} == {node.address for node in backups}
    assert ordered.writes
    assert ordered.more
    assert applied_value(primary) == 1
    primary.session.call(ADD, world.now)
    assert finish(3 * MILLISECOND).writes
    assert applied_value(primary) == 2


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_founded_member_answers_those_who_are_blank_and_nobody_else(protocol: str) -> None:
    """What it tells them comes twice, or late, and finds them founded: two that answered that, too, would do so for
    ever, as fast as datagrams travel."""
    world = World(7, members=3, protocol=protocol, machine=Counter)
    world.start_all()
    replica = leader(world)
    other = next(node.replica for number, node in world.nodes.items() if number != world.primary)
    assert other is not None
    now = Time(world.now, world.now)
    for blank in (True, False):
        other.endpoint.send(world.primary or 0, CODEC.encode(Hello(blank, (1, 1, 1))))
        sent = replica.statistics().transport.messages_out
        for datagram, _ in other.endpoint.flush(world.now):
            replica.receive(datagram, "the other", now)
        assert replica.statistics().transport.messages_out - sent == blank
