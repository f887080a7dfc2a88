"""An in-memory network under Trio: transports without sockets, faults from a seed, time from Trio's clock.

Under `trio.testing.MockClock` a run takes no real time. Equal seeds and equal sends at equal times give equal
deliveries.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from random import Random
from types import MappingProxyType
from typing import Final

import trio

from transport.interface import Address, Transport, TransportError, TransportStatistics
from transport.network import LinkFaults, Network

_NANOSECONDS: Final = 1_000_000_000
DEFAULT_QUEUE_DATAGRAMS: Final = 4096


class Fabric:
    """A network in one process. Made by `open_fabric`. Faults, cuts and isolation are set on `network`."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._transports: dict[Address, FabricTransport] = {}
        # (arrival, number, source, destination, datagram); the number keeps equal arrivals in the order of sending.
        # Arrivals are Trio's seconds, so that one comparison decides both whether to wait and whether to deliver.
        self._under_way: list[tuple[float, int, Address, Address, bytes]] = []
        self._sent = 0
        self._earlier = trio.Event()

    def open(self, address: Address, *, queue_datagrams: int = DEFAULT_QUEUE_DATAGRAMS) -> FabricTransport:
        """A transport at an address that is free now; at most `queue_datagrams` wait in it, later ones are dropped.

        Raises:
          TransportError: the address is in use.
        """
        if address in self._transports:
            raise TransportError(f"cannot bind to {address}: the address is in use")
        transport = self._transports[address] = FabricTransport(self, address, queue_datagrams)
        return transport

    def carry(self, source: Address, destination: Address, datagram: bytes) -> None:
        """Let the network decide what becomes of a datagram that is sent now."""
        now_ns = int(trio.current_time() * _NANOSECONDS)
        for arrival_ns, arriving in self.network.transmit(source, destination, datagram, now_ns):
            self._sent += 1
            heappush(self._under_way, (arrival_ns / _NANOSECONDS, self._sent, source, destination, arriving))
            if self._under_way[0][1] == self._sent:
                self._earlier.set()

    def arrive(self, source: Address, destination: Address, datagram: bytes) -> None:
        """A datagram arrives now, however long ago it was sent."""
        transport = self._transports.get(destination)
        if transport is not None:
            transport.arrive(datagram, source)

    def release(self, address: Address) -> None:
        """Give an address free; what is under way to it finds whoever opens it next, as on a real network."""
        self._transports.pop(address, None)

    def close(self) -> None:
        """Close every transport that is open."""
        for transport in list(self._transports.values()):
            transport.close()

    async def deliver(self) -> None:
        """Hand over what arrives, for ever."""
        while True:
            self._earlier = trio.Event()
            deadline = self._under_way[0][0] if self._under_way else float("inf")
            with trio.move_on_at(deadline):
                await self._earlier.wait()
            now = trio.current_time()
            while self._under_way and self._under_way[0][0] <= now:
                _, _, source, destination, datagram = heappop(self._under_way)
                self.arrive(source, destination, datagram)


@asynccontextmanager
async def open_fabric(
    seed: int, faults: LinkFaults | None = None, *, network: Network | None = None
) -> AsyncGenerator[Fabric, None]:
    """A Fabric for the length of a block, with a `Network` of this seed and these faults, or the one given.

    One background task delivers. The transports opened in it are closed at the end.
    """
    fabric = Fabric(network or Network(Random(seed), faults))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fabric.deliver)
            try:
                yield fabric
            finally:
                fabric.close()
                nursery.cancel_scope.cancel()
        return
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        only = group.exceptions[0]
    raise only  # from the block itself, and so it leaves as it was raised there


class FabricTransport(Transport):
    """A transport of a Fabric. `resolve` gives (host, port), so that addresses can be those of a cluster file."""

    def __init__(self, fabric: Fabric, address: Address, queue_datagrams: int) -> None:
        self._fabric = fabric
        self._address = address
        self._queue_datagrams = queue_datagrams
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._arrived = trio.Event()
        self._waiting = False
        self._closed = False
        self._datagrams_in = self._datagrams_out = 0
        self._bytes_in = self._bytes_out = 0
        self._drops: Counter[str] = Counter()

    @property
    def address(self) -> Address:
        return self._address

    async def wait_readable(self) -> None:
        self._check_open()
        if self._waiting:
            raise trio.BusyResourceError("another task waits already")
        if self._queue:
            await trio.lowlevel.checkpoint()
            return
        self._arrived = trio.Event()
        self._waiting = True
        try:
            await self._arrived.wait()
        finally:
            self._waiting = False
        self._check_open()

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        self._check_open()
        arrived = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        self._datagrams_in += len(arrived)
        self._bytes_in += sum([len(datagram) for datagram, _ in arrived])
        return arrived

    def send(self, datagram: bytes, address: Address) -> bool:
        self._check_open()
        self._fabric.carry(self._address, address, datagram)
        self._datagrams_out += 1
        self._bytes_out += len(datagram)
        return True

    async def resolve(self, host: str, port: int) -> Address:
        self._check_open()
        await trio.lowlevel.checkpoint()
        return (host, port)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._fabric.release(self._address)
            self._queue.clear()
            self._arrived.set()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            datagrams_in=self._datagrams_in,
            datagrams_out=self._datagrams_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            drops=MappingProxyType(dict(self._drops)),
        )

    def arrive(self, datagram: bytes, source: Address) -> None:
        """The fabric delivers a datagram."""
        if len(self._queue) >= self._queue_datagrams:
            self._drops["receive_full"] += 1
            return
        self._queue.append((datagram, source))
        self._arrived.set()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the transport at {self._address} is closed")
