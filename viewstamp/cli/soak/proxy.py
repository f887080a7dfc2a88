"""A network that fails, between real processes: every datagram passes through here, and a `Network` decides on it.

It is an address translation. Each member and client has a public address, a socket of the proxy's, and a private one
that its own socket is bound to. All send to public addresses only. What A sends to B's public address goes on, if and
when the network lets it, from A's public address to B's private one. So B's answer comes back through the proxy too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import trio

from transport import Address, Fabric, FabricTransport, LinkFaults, UdpTransport, open_fabric

_HOST = "127.0.0.1"
_AT_ONCE = 256

CONTROL = "control"
"""The name of whoever watches the experiment: its datagrams are never harmed."""


class Proxy:
    """Made by `open_proxy`. Parties are named as `network` names addresses: members by number, clients by text."""

    def __init__(self, fabric: Fabric, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self.network = fabric.network
        self._fabric = fabric
        self._stack = stack
        self._nursery = nursery
        self._public: dict[Address, UdpTransport] = {}
        self._private: dict[Address, Address] = {}
        self._names: dict[Address, Address] = {}
        self.carried = 0
        """Datagrams that were handed over."""

    async def admit(self, name: Address) -> tuple[str, int]:
        """Give a party its public address; `locate` must follow before anything can be sent to or by it.

        Raises:
          TransportError: there is no free port.
        """
        public = await UdpTransport.open(_HOST, 0)
        self._stack.push_async_callback(public.aclose)
        self._public[name] = public
        inside = self._fabric.open(name)
        self._nursery.start_soon(self._take_in, name, public)
        self._nursery.start_soon(self._hand_over, name, inside)
        return cast("tuple[str, int]", public.address)

    def locate(self, name: Address, private: Address) -> None:
        """Say where a party's own socket is bound."""
        self._private[name] = private
        self._names[private] = name

    async def _take_in(self, destination: Address, public: UdpTransport) -> None:
        while True:
            await public.wait_readable()
            for datagram, private in public.receive(_AT_ONCE):
                source = self._names.get(private)
                if source is None:
                    continue  # A stranger: it would have no address for an answer.
                if CONTROL in (source, destination):
                    self._send(source, destination, datagram)
                else:
                    self._fabric.carry(source, destination, datagram)

    async def _hand_over(self, destination: Address, inside: FabricTransport) -> None:
        while True:
            await inside.wait_readable()
            for datagram, source in inside.receive(_AT_ONCE):
                self._send(source, destination, datagram)

    def _send(self, source: Address, destination: Address, datagram: bytes) -> None:
        private = self._private.get(destination)
        if private is not None:
            self.carried += 1
            self._public[source].send(datagram, private)


@asynccontextmanager
async def open_proxy(seed: int, faults: LinkFaults) -> AsyncGenerator[Proxy, None]:
    """A proxy for as long as the block lasts; its sockets are closed at the end."""
    async with AsyncExitStack() as stack, open_fabric(seed, faults) as fabric, trio.open_nursery() as nursery:
        yield Proxy(fabric, stack, nursery)
        nursery.cancel_scope.cancel()


class KeptTransport(UdpTransport):
    """A socket that outlives the clients that use it one after the other; only `give_up` closes it.

    So a client that crashed and came back has its old address, finds late answers to its former self there, and no
    port of a member that is down is taken by a new client.
    """

    @classmethod
    async def open_kept(cls) -> KeptTransport:
        """One on a free port of the loopback interface.

        Raises:
          TransportError: there is none.
        """
        opened = await cls.open(_HOST, 0)
        if not isinstance(opened, cls):
            raise TypeError(f"a {type(opened).__name__}, and not a {cls.__name__}")
        return opened

    def close(self) -> None:
        """A client is done with it: the next one goes on with this socket."""

    def give_up(self) -> None:
        """Close it."""
        super().close()
