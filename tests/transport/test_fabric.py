"""The in-memory network under Trio: no real time, and equal runs for equal seeds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.transport.conformance import TransportConformance, receive_some
from transport import FabricTransport, LinkFaults, Transport, TransportError, open_fabric

FAULTS = LinkFaults(loss=0.1, duplicate=0.1, corrupt=0.1, replay=0.1, reorder=0.1)


@pytest.mark.usefixtures("autojump_clock")
class TestFabricConformance(TransportConformance):
    @asynccontextmanager
    async def pair(self) -> AsyncGenerator[tuple[Transport, Transport], None]:
        async with open_fabric(1) as fabric:
            yield fabric.open(("one", 1)), fabric.open(("two", 2))


async def _record(seed: int) -> list[tuple[float, bytes]]:
    """When what arrives, of 200 datagrams sent at fixed times."""
    arrivals: list[tuple[float, bytes]] = []

    async def listen(transport: FabricTransport) -> None:
        while True:
            await transport.wait_readable()
            arrivals.extend((trio.current_time(), datagram) for datagram, _ in transport.receive(64))

    async with open_fabric(seed, FAULTS) as fabric, trio.open_nursery() as nursery:
        one, two = fabric.open("one"), fabric.open("two")
        nursery.start_soon(listen, two)
        for number in range(200):
            one.send(b"%d" % number, "two")
            await trio.sleep(0.0001)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return arrivals


def test_equal_seeds_give_equal_deliveries() -> None:
    first, again, other = (trio.run(_record, seed, clock=MockClock(autojump_threshold=0)) for seed in (1, 1, 2))
    assert first == again
    assert len(first) > 150
    assert first != other


async def test_a_datagram_takes_its_delay_and_no_real_time(autojump_clock: MockClock) -> None:
    async with open_fabric(1, LinkFaults(delay_base_ns=60_000_000_000, delay_mean_ns=0)) as fabric:
        one, two = fabric.open("one"), fabric.open("two")
        one.send(b"slow", "two")
        with trio.move_on_after(120):
            await two.wait_readable()
        assert trio.current_time() == pytest.approx(60)
        assert two.receive(5) == [(b"slow", "one")]


async def test_an_earlier_arrival_is_not_kept_waiting(autojump_clock: MockClock) -> None:
    async with open_fabric(1) as fabric:
        one, two, three = (fabric.open(name) for name in ("one", "two", "three"))
        fabric.network.set_link("one", "three", LinkFaults(delay_base_ns=10_000_000_000, delay_mean_ns=0))
        fabric.network.set_link("two", "three", LinkFaults(delay_base_ns=1_000_000_000, delay_mean_ns=0))
        one.send(b"late", "three")
        await trio.sleep(0.5)
        two.send(b"early", "three")
        assert await receive_some(three, 1) == [(b"early", "two")]
        assert trio.current_time() == pytest.approx(1.5)
        with trio.fail_after(20):
            await three.wait_readable()
        assert three.receive(1) == [(b"late", "one")]


async def test_cuts_hold_until_healed(autojump_clock: MockClock) -> None:
    async with open_fabric(1) as fabric:
        one, two = fabric.open("one"), fabric.open("two")
        fabric.network.cut("one", "two")
        one.send(b"cut", "two")
        two.send(b"back", "one")
        assert await receive_some(one, 1) == [(b"back", "two")]
        fabric.network.heal()
        one.send(b"healed", "two")
        assert await receive_some(two, 1) == [(b"healed", "one")]


async def test_an_address_is_free_again_once_closed(autojump_clock: MockClock) -> None:
    async with open_fabric(1) as fabric:
        one = fabric.open("one")
        with pytest.raises(TransportError, match="cannot bind to one: the address is in use"):
            fabric.open("one")
        one.close()
        again = fabric.open("one")
        again.send(b"hello", "one")
        assert await receive_some(again, 1) == [(b"hello", "one")]
        assert await again.resolve("host", 5) == ("host", 5)


async def test_a_full_queue_drops_what_comes(autojump_clock: MockClock) -> None:
    async with open_fabric(1) as fabric:
        one, two = fabric.open("one"), fabric.open("two", queue_datagrams=3)
        for _ in range(5):
            one.send(b"x", "two")
        await trio.sleep(1)
        assert len(two.receive(10)) == 3
        assert two.statistics().drops == {"receive_full": 2}


async def test_the_end_of_the_fabric_closes_its_transports(autojump_clock: MockClock) -> None:
    async with open_fabric(1) as fabric:
        one = fabric.open("one")
    with pytest.raises(trio.ClosedResourceError):
        one.send(b"x", "one")


async def test_an_exception_of_the_block_leaves_as_itself() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with open_fabric(1):
            raise ValueError("mine")
    with pytest.raises(ExceptionGroup, match="my own group"):
        async with open_fabric(1):
            raise ExceptionGroup("my own group", [ValueError("mine"), KeyError("mine")])
    with trio.move_on_after(0) as scope:
        async with open_fabric(1):
            await trio.sleep_forever()
    assert scope.cancelled_caught
