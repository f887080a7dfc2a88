"""What every transport must do. A test class inherits this and says how to open two that reach each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest
import trio

from transport import Address, Endpoint, FrameIdentity, Transport

CONFORMANCE_TIMEOUT_S = 10


async def receive_some(transport: Transport, count: int) -> list[tuple[bytes, Address]]:
    """Wait until `count` datagrams have arrived."""
    arrived: list[tuple[bytes, Address]] = []
    with trio.fail_after(CONFORMANCE_TIMEOUT_S):
        while len(arrived) < count:
            await transport.wait_readable()
            arrived += transport.receive(count - len(arrived))
    return arrived


class TransportConformance(ABC):
    """Tests by inheritance. The network between the two transports must lose nothing."""

    @abstractmethod
    def pair(self) -> AbstractAsyncContextManager[tuple[Transport, Transport]]:
        """Two open transports."""

    async def test_datagrams_arrive_whole_and_name_their_source(self) -> None:
        async with self.pair() as (one, two):
            for size in (0, 1, 1200, 8000):
                assert one.send(bytes(size), two.address) is True
                assert await receive_some(two, 1) == [(bytes(size), one.address)]
            assert two.send(b"answer", one.address) is True
            assert await receive_some(one, 1) == [(b"answer", two.address)]

    async def test_receive_never_blocks_and_keeps_to_its_limit(self) -> None:
        async with self.pair() as (one, two):
            assert two.receive(10) == []
            for number in range(5):
                one.send(b"%d" % number, two.address)
            with trio.fail_after(CONFORMANCE_TIMEOUT_S):
                await two.wait_readable()
            first = two.receive(2)
            assert 1 <= len(first) <= 2
            rest = await receive_some(two, 5 - len(first))
            assert {datagram for datagram, _ in first + rest} == {b"0", b"1", b"2", b"3", b"4"}
            assert two.receive(10) == []

    async def test_a_datagram_to_itself_arrives(self) -> None:
        async with self.pair() as (one, _):
            one.send(b"myself", one.address)
            assert await receive_some(one, 1) == [(b"myself", one.address)]

    async def test_sending_where_nobody_listens_harms_nobody(self) -> None:
        async with self.pair() as (one, two):
            gone = two.address
            two.close()
            for _ in range(5):
                one.send(b"lost", gone)
            assert one.receive(10) == []
            one.send(b"still here", one.address)
            assert await receive_some(one, 1) == [(b"still here", one.address)]

    async def test_waiting_ends_when_closed_and_nothing_works_afterwards(self) -> None:
        async with self.pair() as (one, two):
            ended = trio.Event()

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await two.wait_readable()
                ended.set()

            with trio.fail_after(CONFORMANCE_TIMEOUT_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
                    two.close()
                    await ended.wait()
            two.close()
            await two.aclose()
            for use in (lambda: two.receive(1), lambda: two.send(b"", one.address)):
                with pytest.raises(trio.ClosedResourceError):
                    use()
            with pytest.raises(trio.ClosedResourceError):
                await two.wait_readable()
            assert two.statistics().datagrams_in == 0

    async def test_waiting_can_be_cancelled_and_taken_up_again(self) -> None:
        async with self.pair() as (one, two):
            with trio.CancelScope() as scope:
                scope.cancel()
                await two.wait_readable()
            assert scope.cancelled_caught
            one.send(b"hello", two.address)
            assert await receive_some(two, 1) == [(b"hello", one.address)]

    async def test_only_one_task_may_wait(self) -> None:
        async with self.pair() as (_, two), trio.open_nursery() as nursery:
            nursery.start_soon(two.wait_readable)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await two.wait_readable()
            nursery.cancel_scope.cancel()

    async def test_statistics_count_both_ways(self) -> None:
        async with self.pair() as (one, two):
            for _ in range(3):
                one.send(b"12345", two.address)
            await receive_some(two, 3)
            sent, received = one.statistics(), two.statistics()
            assert (sent.datagrams_out, sent.bytes_out, sent.datagrams_in) == (3, 15, 0)
            assert (received.datagrams_in, received.bytes_in, received.datagrams_out) == (3, 15, 0)
            assert dict(sent.drops) == dict(received.drops) == {}

    async def test_endpoints_carry_large_messages_over_it(self) -> None:
        message = bytes(range(256)) * 4096
        async with self.pair() as (one, two):
            endpoints = {
                transport: Endpoint(FrameIdentity(b"cluster!", b"settings", 0, 0, number, 7))
                for number, transport in ((1, one), (2, two))
            }
            endpoints[one].set_peer(2, two.address)
            endpoints[two].set_peer(1, one.address)
            endpoints[one].send(2, message)
            received: list[bytes] = []
            with trio.fail_after(CONFORMANCE_TIMEOUT_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drive, one, endpoints[one], [])
                    await _drive(two, endpoints[two], received)
                    nursery.cancel_scope.cancel()
            assert received == [message]


async def _drive(transport: Transport, endpoint: Endpoint, received: list[bytes]) -> None:
    """Move datagrams between an endpoint and its transport until a message has come."""
    while not received:
        now = int(trio.current_time() * 1e9)
        for datagram, address in endpoint.flush(now):
            transport.send(datagram, address)
        with trio.move_on_at(endpoint.deadline / 1e9):
            await transport.wait_readable()
        now = int(trio.current_time() * 1e9)
        for datagram, address in transport.receive(64):
            received += [message for _, _, message in endpoint.receive(datagram, address, now)]
