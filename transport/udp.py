"""UDP over IPv4 and IPv6, under Trio. Only moves datagrams."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import trio

from transport.interface import Address, Transport, TransportError, TransportStatistics

DEFAULT_BUFFER_BYTES: Final = 4 << 20
_LARGEST_DATAGRAM_BYTES: Final = 65_535
_SEND_DROPS: Final = {
    errno.EAGAIN: "full",
    errno.EWOULDBLOCK: "full",
    errno.ENOBUFS: "full",
    errno.ENOMEM: "full",
    errno.EMSGSIZE: "too_large",
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.EAFNOSUPPORT: "wrong_family",
}


class UdpTransport(Transport):
    """One bound UDP socket. Made by `open`; addresses are those of the socket module, of the socket's family.

    Errors that the network reports about single datagrams (an ICMP message that nobody listens there, a full buffer,
    a datagram too large for the path) are counted and otherwise ignored: UDP promises nothing, and one dead peer
    must not end the service of the others.
    """

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        self._family = bound.family
        self._send_to: Callable[[bytes, Any], int] = bound.sendto
        self._address: Address = bound.getsockname()
        self._closed = False
        self._buffer = memoryview(bytearray(_LARGEST_DATAGRAM_BYTES))
        self._datagrams_in = self._datagrams_out = 0
        self._bytes_in = self._bytes_out = 0
        self._drops: Counter[str] = Counter()

    @classmethod
    async def open(cls, host: str, port: int, *, buffer_bytes: int = DEFAULT_BUFFER_BYTES) -> UdpTransport:
        """Bind to a host (a name, an IPv4 or IPv6 address; "0.0.0.0" or "::" for all) and port (0: a free one).

        "::" takes IPv4, too. `buffer_bytes` is asked of the system for each direction; it may give less.

        Raises:
          TransportError: the name is unknown or the address cannot be bound; the message says which, and why.
        """
        try:
            family, address = await look_up(host, port, socket.AF_UNSPEC, socket.AI_PASSIVE)
            bound = socket.socket(family, socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:
            raise _error("cannot bind to", host, port, error) from error
        try:
            bound.setblocking(False)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                bound.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
            bound.bind(address)
        except (OSError, OverflowError) as error:
            bound.close()
            raise _error("cannot bind to", host, port, error) from error
        return cls(bound)

    @property
    def address(self) -> Address:
        """The local address: (host, port) for IPv4, (host, port, flow, scope) for IPv6."""
        return self._address

    async def wait_readable(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_readable(self._socket)

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        self._check_open()
        arrived: list[tuple[bytes, Address]] = []
        buffer = self._buffer
        receive_into = self._socket.recvfrom_into
        for _ in range(limit):
            try:
                size, source = receive_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # An ICMP answer to something sent earlier surfaces here; the next call gives the next datagram.
                self._drops[f"receive_{_reason(error)}"] += 1
                continue
            arrived.append((bytes(buffer[:size]), source))
            self._bytes_in += size
        self._datagrams_in += len(arrived)
        return arrived

    def send(self, datagram: bytes, address: Address) -> bool:
        self._check_open()
        try:
            self._send_to(datagram, address)
        except OSError as error:
            self._drops[_reason(error)] += 1
            return False
        self._datagrams_out += 1
        self._bytes_out += len(datagram)
        return True

    async def resolve(self, host: str, port: int) -> Address:
        self._check_open()
        # An IPv6 socket reaches an IPv4 host, where it may, by an address that maps it.
        flags = socket.AI_V4MAPPED if self._family == socket.AF_INET6 else 0
        try:
            _, address = await look_up(host, port, self._family, flags)
        except (OSError, ValueError) as error:
            raise _error("cannot resolve", host, port, error) from error
        return address

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TransportStatistics:
        """Counts so far. Drops when receiving begin with `receive_`; they name an error, never a datagram lost."""
        return TransportStatistics(
            datagrams_in=self._datagrams_in,
            datagrams_out=self._datagrams_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            drops=MappingProxyType(dict(self._drops)),
        )

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the transport at {self._address} is closed")


async def look_up(host: str, port: int, family: int, flags: int) -> tuple[int, tuple[Any, ...]]:
    """The first family and address of this name.

    Raises:
      OSError: it is not known, or nobody can be asked now.
      ValueError: it cannot be one.
    """
    if not 0 <= port <= 65_535:  # the system's own look-up takes the lower 16 bits of a larger one
        raise ValueError("a port must lie within 0 to 65535")
    flags |= socket.AI_NUMERICSERV
    try:
        found = await trio.socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, flags=flags)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise
        # No thread can be started to ask in. It passes, as when a name server does not answer.
        raise OSError(errno.EAGAIN, str(error)) from error
    return found[0][0], found[0][4]


def _reason(error: OSError) -> str:
    return _SEND_DROPS.get(error.errno or 0, "other")


def _error(what: str, host: str, port: int, error: Exception) -> TransportError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    message = f"{what} {f'[{host}]' if ':' in host else host}:{port}: {reason}"
    if isinstance(error, OSError) and error.errno is not None:
        return TransportError(error.errno, message)
    return TransportError(message)
