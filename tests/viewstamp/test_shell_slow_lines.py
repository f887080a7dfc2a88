"""Answers and requests that take long to arrive, since the line is slow: they arrive once, and not their beginnings."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from statemachine import StateMachine, command, query
from tests.viewstamp.running import HOST, Running, running
from transport.fabric import Fabric, FabricTransport
from transport.interface import Address
from viewstamp.cluster import ClusterOptions
from viewstamp.protocol import Limits

MEGABIT = 125_000  # in bytes
BUFFER_S = 0.2


class Warehouse(StateMachine):
    """Large things go in and out."""

    def __init__(self) -> None:
        self.taken = 0

    @command
    def take(self, size: int) -> str:
        self.taken += 1
        return "x" * size

    @command
    def store(self, text: str) -> int:
        return len(text)

    @query
    def look(self, size: int) -> str:
        return "y" * size


class Shelf(StateMachine):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.held: list[str] = []

    @command
    def put(self, text: str) -> int:
        self.held.append(text)
        return len(self.held)


class SlowLine(FabricTransport):
    """What arrives shares one line with a buffer before it, and so does what is sent."""

    def __init__(self, fabric: Fabric, address: Address, nursery: trio.Nursery, bytes_per_s: float) -> None:
        super().__init__(fabric, address, 1000)
        self.carried = 0
        self._nursery = nursery
        self._bytes_per_s = bytes_per_s
        self._free_at = {"in": 0.0, "out": 0.0}

    def arrive(self, datagram: bytes, source: Address) -> None:
        self._carry("in", datagram, source)

    def send(self, datagram: bytes, address: Address) -> bool:
        return self._carry("out", datagram, address)

    def _carry(self, way: str, datagram: bytes, address: Address) -> bool:
        now = trio.current_time()
        begins = max(now, self._free_at[way])
        if begins - now > BUFFER_S:
            return False
        self.carried += len(datagram)
        self._free_at[way] = begins + len(datagram) / self._bytes_per_s
        self._nursery.start_soon(self._at, self._free_at[way], way, datagram, address)
        return True

    async def _at(self, when: float, way: str, datagram: bytes, address: Address) -> None:
        await trio.sleep_until(when)
        if self._closed:
            return
        if way == "in":
            super().arrive(datagram, address)
        else:
            super().send(datagram, address)


def open_line(cluster: Running, nursery: trio.Nursery, bytes_per_s: float, address: Address = (HOST, 8000)) -> SlowLine:
    """The only line to this address."""
    line = SlowLine(cluster.fabric, address, nursery, bytes_per_s)
    cluster.fabric._transports[address] = line
    return line


@pytest.mark.parametrize("operation", ["take", "look"])
async def test_an_answer_that_takes_seconds_is_sent_once(autojump_clock: MockClock, operation: str) -> None:
    """While it comes its client asks again and again, and nobody sends it a copy: each would drive out the others."""
    size = 1_900_000
    async with running(machine=Warehouse) as cluster, trio.open_nursery() as nursery:
        line = open_line(cluster, nursery, 8 * MEGABIT)
        async with cluster.open_client(Warehouse, line) as client:
            with trio.fail_after(3):
                if operation == "take":
                    answer = await client.call(Warehouse.take, size)
                else:
                    answer = await client.read(Warehouse.look, size)
            assert len(answer) == size
            assert line.carried < 1.5 * size
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("operation", ["take", "look", "store"])
async def test_what_takes_half_a_minute_arrives_too(autojump_clock: MockClock, operation: str) -> None:
    """It comes forward all the time. Given up for its age, after 20 s, it was begun anew, for ever."""
    size, options = 1_000_000, ClusterOptions(max_command_bytes=1 << 20, limits=Limits(page_bytes=1 << 20))
    async with running(machine=Warehouse, options=options) as cluster, trio.open_nursery() as nursery:
        line = open_line(cluster, nursery, size / 30)
        async with cluster.open_client(Warehouse, line) as client:
            with trio.fail_after(60):
                if operation == "take":
                    assert len(await client.call(Warehouse.take, size)) == size
                elif operation == "look":
                    assert len(await client.read(Warehouse.look, size)) == size
                else:
                    assert await client.call(Warehouse.store, "z" * size) == size
            assert line.carried < 2 * size
        nursery.cancel_scope.cancel()


async def test_many_large_answers_come_one_after_the_other(autojump_clock: MockClock) -> None:
    """More than is kept for a client: what finds no room drives nothing out, and is asked for again."""
    size, sizes = 1_500_000, list[int]()
    async with (
        running(machine=Warehouse, options={"datagram_bytes": 16_000}) as cluster,
        trio.open_nursery() as nursery,
    ):
        line = open_line(cluster, nursery, 40 * MEGABIT)
        async with cluster.open_client(Warehouse, line) as client:

            async def look() -> None:
                sizes.append(len(await client.read(Warehouse.look, size)))

            with trio.fail_after(5):
                async with trio.open_nursery() as readers:
                    for _ in range(10):
                        readers.start_soon(look)
            assert sizes == [size] * 10
            assert line.carried < 1.5 * 10 * size
        nursery.cancel_scope.cancel()


async def test_a_request_that_takes_seconds_is_sent_once(autojump_clock: MockClock) -> None:
    size = 250_000
    async with running(machine=Warehouse) as cluster, trio.open_nursery() as nursery:
        line = open_line(cluster, nursery, MEGABIT)
        async with cluster.open_client(Warehouse, line) as client:
            with trio.fail_after(4):
                assert await client.call(Warehouse.store, "z" * size) == size
            assert line.carried < 1.5 * size
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize(("count", "size"), [(1500, 1000), (15, 100_000)])
@pytest.mark.parametrize("by_snapshot", [False, True])
async def test_a_member_behind_a_slow_line_catches_up(
    autojump_clock: MockClock, protocol: str, count: int, size: int, by_snapshot: bool
) -> None:
    """It asks again for each page, or chunk, before that can have come; the primary sends it once all the same."""
    options: ClusterOptions = {"datagram_bytes": 8000, "snapshot_entries": count - 5 if by_snapshot else count + 100}
    async with running(machine=Shelf, protocol=protocol, options=options) as cluster, trio.open_nursery() as nursery:
        primary = await cluster.wait_primary()
        behind = next(member for member in cluster.ids if member != primary)
        await cluster.stop(behind)
        replica = cluster.replicas[primary]
        with trio.fail_after(60):
            for _ in range(count):
                await replica.call(Shelf.put, "x" * size)
        assert bool(replica.status().snapshot.op) is by_snapshot
        line = open_line(cluster, nursery, 10 * MEGABIT, cluster.address(behind))
        with trio.fail_after(10 * count * size / (10 * MEGABIT)):
            async with cluster.open_member(behind, Shelf, transport=line) as again:
                while again.status().applied < replica.status().applied:  # noqa: ASYNC110 - it has no event
                    await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def test_a_member_that_dies_amid_an_answer_is_noticed(autojump_clock: MockClock) -> None:
    """What the others send then shares the line: a second for the answer that was asked for, another for its copy."""
    async with running(machine=Warehouse) as cluster, trio.open_nursery() as nursery:
        line = open_line(cluster, nursery, 8 * MEGABIT)
        async with cluster.open_client(Warehouse, line) as client:
            assert await client.call(Warehouse.store, "") == 0
            primary = await cluster.wait_primary()
            with trio.fail_after(4):
                async with trio.open_nursery() as callers:
                    callers.start_soon(client.call, Warehouse.take, 1_000_000)
                    await trio.sleep(0.5)
                    await cluster.stop(primary)
                    assert await client.call(Warehouse.store, "") == 0
        nursery.cancel_scope.cancel()
