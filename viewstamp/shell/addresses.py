"""Where the members of a cluster are reached: names are resolved at start, and again when a member falls silent."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

import trio

from transport.endpoint import Endpoint
from transport.interface import Transport
from transport.udp import look_up
from viewstamp.cluster import Cluster
from viewstamp.protocol import SECOND

_log = logging.getLogger("viewstamp")
_SILENT_NS = 2 * SECOND
_CHECK_S = 2.0
_LOOK_UP_S = 2.0


class Addresses:
    """Keeps an endpoint's addresses of all members but `me` (0 for a client) right."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint, transport: Transport, me: int) -> None:
        self._members = {member.id: member for member in cluster.members if member.id != me}
        self._endpoint = endpoint
        self._transport = transport
        self._is_member = me != 0
        self._unresolved: set[int] = set()

    def follow(self, endpoint: Endpoint) -> None:
        """The replica was made anew, and with it its endpoint: give it what is known."""
        for member in self._members:
            address = self._endpoint.address_of(member)
            if address is not None:
                endpoint.set_peer(member, address)
        self._endpoint = endpoint

    async def resolve_all(self) -> None:
        """Resolve every member once, for a while at most. What is not known then is tried again in the background."""
        with trio.move_on_after(_LOOK_UP_S):
            await self._resolve_all()
        for member, where in self._members.items():
            if self._endpoint.address_of(member) is None and member not in self._unresolved:
                why = f"{where.host} has not resolved in {_LOOK_UP_S:g} s"
                _log.warning("member %d is not reached: %s; trying again", member, why)
                self._unresolved.add(member)

    async def _resolve_all(self) -> None:
        """Beside each other: one name whose server does not answer must not hold up the others."""
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(self._resolve, member)

    async def _resolve(self, member: int) -> None:
        host, port = self._members[member].address
        try:
            address = await self._transport.resolve(host, port)
        except OSError as error:
            if member not in self._unresolved:
                _log.warning("member %d is not reached: %s; trying again", member, error.strerror or error)
            self._unresolved.add(member)
            return
        self._unresolved.discard(member)
        self._endpoint.set_peer(member, address)

    async def keep_fresh(self, silence: Callable[[], Mapping[int, int]]) -> None:
        """Again and again: resolve the names of members that have been silent, or never resolved, or may have moved.

        Each by itself: a system's resolver takes half a minute to give up a name, and another member's, which has moved
        meanwhile, is not to wait for that.
        """
        async with trio.open_nursery() as nursery:
            for member, where in self._members.items():
                if not _is_literal(where.host):
                    nursery.start_soon(self._keep_fresh, member, silence)

    async def _keep_fresh(self, member: int, silence: Callable[[], Mapping[int, int]]) -> None:
        while True:
            await trio.sleep(_CHECK_S)
            silent = silence().get(member, _SILENT_NS) >= _SILENT_NS
            # Who came back at another address is not silent: it asks for what it missed, and goes on asking.
            moved = self._is_member and self._endpoint.speaks_from_elsewhere(member)
            if silent or moved or member in self._unresolved:
                await self._resolve(member)


async def listen_on_ipv6(hosts: Iterable[str]) -> bool:
    """Whether members that bind their sockets to these names came to IPv6: each takes the first address of its name.

    The first name to resolve tells, for all: members of different families could not reach each other either. False if
    none does for a while.
    """
    families: list[int] = []

    async def ask(host: str) -> None:
        try:
            family, _ = await look_up(host, 0, socket.AF_UNSPEC, socket.AI_PASSIVE)
        except (OSError, ValueError):
            return  # Told when it is resolved to be sent to.
        families.append(family)
        nursery.cancel_scope.cancel()

    with trio.move_on_after(_LOOK_UP_S):
        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(ask, host)
    return socket.AF_INET6 in families[:1]


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
