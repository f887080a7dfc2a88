"""A model of the network: what becomes of each datagram, drawn from a seeded generator. No clock, no waiting.

The simulator's heap of events and the in-memory Fabric both carry out what this decides.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from types import MappingProxyType
from typing import Final

from transport.interface import Address

_DELAYS: Final = 256
_UNIT: Final = 1 << 20
# The expected order statistics of 256 draws from an exponential distribution of mean 1, in units of 2**-20, ascending:
# partial sums of 1/256 + 1/255 + ... + 1/1. A table of integers, so that every platform computes the same delays,
# which logarithms do not promise.
_EXPONENTIAL: Final = tuple(accumulate(_UNIT // remaining for remaining in range(_DELAYS, 0, -1)))
_REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """What a link does to datagrams. Probabilities lie within 0 to 1, times are nanoseconds.

    Each datagram may be lost; else it, and a possible duplicate, arrives after `delay_base_ns` and an exponentially
    distributed time of mean `delay_mean_ns` (at most about six times that), so that it can overtake others. With
    probability `reorder` up to `reorder_ns` is added; with `corrupt` one bit is flipped; with `replay` an
    earlier datagram of the link arrives again, too.

    Raises:
      ValueError: a value is out of its range.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0
    reorder: float = 0.0
    delay_base_ns: int = 100_000
    delay_mean_ns: int = 100_000
    reorder_ns: int = 5_000_000

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "replay", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, within 0 to 1, not {getattr(self, name)}")
        for name in ("delay_base_ns", "delay_mean_ns", "reorder_ns"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


_Link = tuple[Address, Address]


class Network:
    """Decides the fate of datagrams. Equal seeds and equal calls give equal results.

    `faults` holds for every link without faults of its own, and may be replaced at any time. Cuts concern datagrams
    sent from then on; what is under way arrives.
    """

    def __init__(self, random: Random, faults: LinkFaults | None = None) -> None:
        self.faults = faults or LinkFaults()
        self._random = random
        self._links: dict[_Link, LinkFaults] = {}
        self._cuts: set[_Link] = set()
        self._deaf: set[Address] = set()
        self._mute: set[Address] = set()
        self._recent: dict[_Link, deque[bytes]] = {}
        self._counts: Counter[str] = Counter()

    def set_link(self, source: Address, destination: Address, faults: LinkFaults | None) -> None:
        """Give one direction between two addresses faults of its own; None takes them away again."""
        if faults is None:
            self._links.pop((source, destination), None)
        else:
            self._links[source, destination] = faults

    def cut(self, source: Address, destination: Address) -> None:
        """Let nothing pass from one address to another; the other direction is a cut of its own."""
        self._cuts.add((source, destination))

    def isolate(self, address: Address, *, inbound: bool = True, outbound: bool = True) -> None:
        """Cut an address off from all others: what is sent to it (`inbound`), what it sends (`outbound`), or both."""
        if inbound:
            self._deaf.add(address)
        if outbound:
            self._mute.add(address)

    def heal(self, source: Address | None = None, destination: Address | None = None) -> None:
        """End cuts: without arguments all, isolation included; those from `source`; to `destination`; or of that link.

        The isolation of an address ends for what it sends when it is the `source`, and for what is sent to it when
        it is the `destination`.
        """
        if source is None and destination is None:
            self._cuts.clear()
            self._deaf.clear()
            self._mute.clear()
            return
        self._cuts = {
            link
            for link in self._cuts
            if (source is not None and link[0] != source) or (destination is not None and link[1] != destination)
        }
        self._mute.discard(source)
        self._deaf.discard(destination)

    def is_cut(self, source: Address, destination: Address) -> bool:
        """Whether nothing that is sent now passes from one address to another."""
        return (source, destination) in self._cuts or source in self._mute or destination in self._deaf

    def transmit(self, source: Address, destination: Address, datagram: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        """What arrives at `destination`, and when, since this datagram is sent now: none, one or several."""
        link = (source, destination)
        if self.is_cut(source, destination):
            self._counts["cut"] += 1
            return []
        faults = self._links.get(link, self.faults)
        chance = self._random.random
        arrivals: list[tuple[int, bytes]] = []
        if faults.replay:
            arrivals += self._replay(link, datagram, faults, now_ns)
        if faults.loss and chance() < faults.loss:
            self._counts["lost"] += 1
            return arrivals
        copies = 1
        if faults.duplicate and chance() < faults.duplicate:
            self._counts["duplicated"] += 1
            copies = 2
        for _ in range(copies):
            arriving = datagram
            if faults.corrupt and datagram and chance() < faults.corrupt:
                self._counts["corrupted"] += 1
                arriving = self._corrupt(datagram)
            arrivals.append((now_ns + self._delay(faults), arriving))
        return arrivals

    def statistics(self) -> Mapping[str, int]:
        """How many datagrams were cut, lost, duplicated, corrupted, reordered and replayed."""
        return MappingProxyType(dict(self._counts))

    def _delay(self, faults: LinkFaults) -> int:
        delay = faults.delay_base_ns
        if faults.delay_mean_ns:
            delay += faults.delay_mean_ns * _EXPONENTIAL[self._random.getrandbits(8)] // _UNIT
        if faults.reorder and self._random.random() < faults.reorder:
            self._counts["reordered"] += 1
            delay += self._random.randrange(faults.reorder_ns + 1)
        return delay

    def _corrupt(self, datagram: bytes) -> bytes:
        position, bit = divmod(self._random.randrange(8 * len(datagram)), 8)
        damaged = bytearray(datagram)
        damaged[position] ^= 1 << bit
        return bytes(damaged)

    def _replay(self, link: _Link, datagram: bytes, faults: LinkFaults, now_ns: int) -> list[tuple[int, bytes]]:
        recent = self._recent.setdefault(link, deque(maxlen=_REMEMBERED))
        arrivals: list[tuple[int, bytes]] = []
        if recent and self._random.random() < faults.replay:
            self._counts["replayed"] += 1
            arrivals.append((now_ns + self._delay(faults), recent[self._random.randrange(len(recent))]))
        # The memory reaches back at random, not only to the last few: an old datagram is the harder test.
        if len(recent) < _REMEMBERED or self._random.getrandbits(3) == 0:
            recent.append(datagram)
        return arrivals
