"""Endpoints joined by a modelled network and a heap of events: hours of traffic without waiting."""

from __future__ import annotations

from heapq import heappop, heappush

from transport import NEVER, Endpoint, EndpointLimits, FrameIdentity, Network

SECOND = 1_000_000_000


def identity(sender: int, incarnation: int = 7, cluster: bytes = b"cluster!") -> FrameIdentity:
    return FrameIdentity(cluster, b"settings", 0, 0, sender, incarnation)


class NetworkRun:
    """Endpoints by member id; the address of each is its id."""

    def __init__(self, network: Network, *members: int, datagram_bytes: int = 1200) -> None:
        self.network = network
        self.now = 0
        self.endpoints = {
            member: Endpoint(identity(member), datagram_bytes=datagram_bytes, limits=EndpointLimits())
            for member in members
        }
        for member, endpoint in self.endpoints.items():
            for other in members:
                if other != member:
                    endpoint.set_peer(other, other)
        self.delivered: list[tuple[int, int, bytes]] = []  # to, from, message
        self._heap: list[tuple[int, int, int, int, bytes]] = []
        self._sent = 0

    def flush(self, member: int) -> None:
        for datagram, address in self.endpoints[member].flush(self.now):
            assert isinstance(address, int)
            for arrival, arriving in self.network.transmit(member, address, datagram, self.now):
                self._sent += 1
                heappush(self._heap, (arrival, self._sent, member, address, arriving))

    def run(self, until: int) -> None:
        """Go on until `until`, or until nothing is under way and nobody wants anything."""
        while True:
            for member in self.endpoints:
                self.flush(member)
            next_at = min(endpoint.deadline for endpoint in self.endpoints.values())
            if self._heap:
                next_at = min(next_at, self._heap[0][0])
            if next_at > until or next_at == NEVER:
                return
            self.now = max(self.now, next_at)
            while self._heap and self._heap[0][0] <= self.now:
                _, _, source, destination, datagram = heappop(self._heap)
                for sender, _, message in self.endpoints[destination].receive(datagram, source, self.now):
                    self.delivered.append((destination, sender, message))
