"""What moves datagrams: the whole of a transport that touches the world. Everything above it is synchronous."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = Hashable
"""Where datagrams go, opaque to all but the transport that made it: for UDP what its sockets use."""


class TransportError(OSError):
    """A transport cannot be opened, or a name cannot be resolved; the message names the address and says why."""


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """Counts since the transport was opened. `drops` counts what did not go out or come in, by reason."""

    datagrams_in: int
    datagrams_out: int
    bytes_in: int
    bytes_out: int
    drops: Mapping[str, int]


class Transport(ABC):
    """An open transport. Datagrams may be lost, doubled, reordered and damaged, and nothing is said about it.

    `receive` and `send` never block. Once closed, every method but `close`, `aclose`, `address` and `statistics`
    raises `trio.ClosedResourceError`, also in a task that is already waiting.
    """

    @property
    @abstractmethod
    def address(self) -> Address:
        """The local address this transport is bound to. What peers are told to use may be another."""

    @abstractmethod
    async def wait_readable(self) -> None:
        """Wait until `receive` is likely to give something. One task at a time (`trio.BusyResourceError`)."""

    @abstractmethod
    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        """What has arrived, at most `limit` (datagram, source) pairs, in order of arrival; empty if nothing has."""

    @abstractmethod
    def send(self, datagram: bytes, address: Address) -> bool:
        """Send one datagram now. False: it was dropped, and counted, since it would have had to wait or cannot go."""

    @abstractmethod
    async def resolve(self, host: str, port: int) -> Address:
        """The address that `send` takes for this host and port.

        Raises:
          TransportError: the name is unknown, or has no address of this transport's kind.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the address back, at once. Harmless when repeated."""

    @abstractmethod
    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""

    @abstractmethod
    def statistics(self) -> TransportStatistics:
        """Counts so far."""
