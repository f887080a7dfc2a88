"""The fuzzer's network: it remembers what was said, delays some of it for very long, and strikes when one speaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from transport.interface import Address
from transport.network import LinkFaults, Network

_REMEMBERED = 2000
# Sixteenths of the tail's unit: most delays are short, few are very long (the quantiles of a Pareto distribution with
# index 1, cut at 32 units). Integers, so that every platform draws the same.
_HEAVY_TAIL = tuple(min(512, 16 * 64 // rank) for rank in range(64, 0, -1))


@dataclass(frozen=True, slots=True)
class Tail:
    """How many of a thousand datagrams are much later than others, and the unit of how much, in nanoseconds."""

    per_mille: int = 0
    unit_ns: int = 0


class FuzzNetwork(Network):
    """A `Network` with a heavy tail, a memory of what each address sent, and ambushes.

    `said` holds the last datagrams that each address sent, as (destination, datagram), across restarts. An ambush is
    (count, strike): `strike` is called as the count-th datagram from now leaves a member for another. Each link
    draws from a generator of its own: what befalls one does not change what befalls another.
    """

    def __init__(self, random: Random, faults: LinkFaults | None = None) -> None:
        super().__init__(random, faults)
        self.tail = Tail()
        self.said: dict[Address, deque[tuple[Address, bytes]]] = {}
        self.ambushes: dict[Address, tuple[int, Callable[[], None]]] = {}
        self.delayed = 0
        self._seed = random.getrandbits(64)
        self._streams: dict[tuple[Address, Address], Random] = {}

    def transmit(self, source: Address, destination: Address, datagram: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        said = self.said.get(source)
        if said is None:
            said = self.said[source] = deque(maxlen=_REMEMBERED)
        said.append((destination, datagram))
        if self.ambushes and str(destination).startswith("member"):
            self._spring(source)
        self._random = draw = self._stream(source, destination)
        arrivals = super().transmit(source, destination, datagram, now_ns)
        tail = self.tail
        if tail.per_mille and arrivals and draw.randrange(1000) < tail.per_mille:
            self.delayed += 1
            late = tail.unit_ns * _HEAVY_TAIL[draw.randrange(64)] // 16
            arrivals = [(arrival + late, data) for arrival, data in arrivals]
        return arrivals

    def _stream(self, source: Address, destination: Address) -> Random:
        stream = self._streams.get((source, destination))
        if stream is None:
            stream = self._streams[source, destination] = Random(f"{source} to {destination} {self._seed}")
        return stream

    def _spring(self, source: Address) -> None:
        ambush = self.ambushes.pop(source, None)
        if ambush is not None:
            count, strike = ambush
            if count > 1:
                self.ambushes[source] = (count - 1, strike)
            else:
                strike()
