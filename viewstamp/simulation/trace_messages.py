"""Which message is which: each one said gets an id, and keeps it through datagrams, copies and fragments."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from zlib import crc32

from transport.endpoint import Endpoint
from transport.fragment_format import FRAGMENT, PART, PART_BYTES
from transport.frame import HEADER_BYTES
from transport.interface import Address
from transport.packing import WHOLE

_REMEMBERED = 100_000
_FRAGMENT_KEY = Struct(">QII")  # number, checksum and length of the message: how FRAGMENT_HEAD begins


class ListeningEndpoint(Endpoint):
    """An endpoint that keeps what its owner says and hears, until someone takes it."""

    def __init__(self, plain: Endpoint, datagram_bytes: int, peers: Sequence[int]) -> None:
        super().__init__(plain.identity, datagram_bytes=datagram_bytes)
        for peer in peers:
            address = plain.address_of(peer)
            if address is not None:
                self.set_peer(peer, address)
        self.said: list[tuple[int, bytes]] = []
        self.heard: list[tuple[int, bytes]] = []

    def send(self, peer: int, message: bytes, label: Hashable = None) -> None:
        self.said.append((peer, message))
        super().send(peer, message, label)

    def receive(self, datagram: bytes, address: Address, now: int) -> list[tuple[int, int, bytes]]:
        messages = super().receive(datagram, address, now)
        self.heard.extend((sender, message) for sender, _, message in messages)
        return messages


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """A message that someone sent: its id in the trace, for whom, and its bytes."""

    id: int
    to: str
    message: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A datagram: its number, and the messages of which it carries the whole, or fragments, in order."""

    number: int
    wholes: tuple[Said, ...] = ()
    fragments: tuple[Said, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The ids of all messages in it, each once."""
        return list(dict.fromkeys(said.id for said in (*self.wholes, *self.fragments)))

    def find(self, message: bytes, taken: set[int]) -> Said | None:
        """Which of its messages this is; of equal ones the first whose place is not among those `taken`."""
        for place, said in enumerate((*self.wholes, *self.fragments)):
            if place not in taken and said.message == message:
                taken.add(place)
                return said
        return None


@dataclass(slots=True)
class Outbox:
    """What one sender has said that no datagram has carried yet, and its large messages by their fragments' key."""

    waiting: dict[str, deque[Said]] = field(default_factory=dict)
    fragmented: dict[tuple[str, bytes], Said] = field(default_factory=dict)

    def put(self, said: Said) -> None:
        """The sender has said something."""
        self.waiting.setdefault(said.to, deque()).append(said)

    def carried(self, number: int, destination: str, datagram: bytes) -> Carried:
        """The sender sends this datagram, its `number`th in the trace."""
        wholes: list[Said] = []
        fragments: list[Said] = []
        waiting = self.waiting.get(destination, deque())
        for kind, body in parts_of(datagram):
            if kind == WHOLE:
                found = _take(waiting, body)
                if found is not None:
                    wholes.append(found)
            elif kind == FRAGMENT:
                found = self._fragment(waiting, destination, body)
                if found is not None:
                    fragments.append(found)
        return Carried(number, tuple(wholes), tuple(fragments))

    def _fragment(self, waiting: deque[Said], destination: str, body: bytes) -> Said | None:
        key = (destination, body[: _FRAGMENT_KEY.size])
        found = self.fragmented.get(key)
        if found is None:
            _, checksum, length = _FRAGMENT_KEY.unpack_from(body)
            for said in waiting:
                if len(said.message) == length and crc32(said.message) == checksum:
                    waiting.remove(said)
                    self.fragmented[key] = said
                    return said
        return found


def _take(waiting: deque[Said], message: bytes) -> Said | None:
    """The first that waits with these bytes; those before it stay, for they are large, or were dropped unsent."""
    for said in waiting:
        if said.message == message:
            waiting.remove(said)
            return said
    return None


def parts_of(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a datagram that an endpoint made."""
    position = HEADER_BYTES
    while position + PART_BYTES <= len(datagram):
        kind, length = PART.unpack_from(datagram, position)
        position += PART_BYTES + length
        yield kind, datagram[position - length : position]


@dataclass(frozen=True, slots=True)
class Fate:
    """What the network makes of a datagram: when it arrives as it was, which older ones it brings along, and how many
    copies it damages."""

    arrives: tuple[int, ...]
    replayed: tuple[Carried, ...]
    damaged: int


class Post:
    """All datagrams under way, and those of late: what arrives is known again, late and repeated too."""

    def __init__(self) -> None:
        self._number = 0
        self._flights: dict[int, list[tuple[bytes, Carried | None]]] = {}  # number -> what of it is still to arrive
        self._recent: OrderedDict[tuple[str, str, bytes], Carried] = OrderedDict()

    def next_number(self) -> int:
        """A number for a datagram."""
        self._number += 1
        return self._number

    def sent(
        self, source: str, destination: str, datagram: bytes, carried: Carried, arrivals: Sequence[tuple[int, bytes]]
    ) -> Fate:
        """A datagram is under way, and of it will arrive this."""
        others = [(data, self._recent.get((source, destination, data))) for _, data in arrivals if data != datagram]
        arrives = tuple(when for when, data in arrivals if data == datagram)
        if arrivals:
            self._flights[carried.number] = [(datagram, carried)] * len(arrives) + others
        key = (source, destination, datagram)
        self._recent[key] = carried
        self._recent.move_to_end(key)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        replayed = tuple(old for _, old in others if old is not None)
        return Fate(arrives, replayed, len(others) - len(replayed))

    def arrived(self, source: str, destination: str, datagram: bytes, number: int) -> Carried | None:
        """Which datagram arrives, because the one of this number (0: none) was sent. None: it was damaged."""
        flight = self._flights.get(number, [])
        for place, (data, carried) in enumerate(flight):
            if data == datagram:
                del flight[place]
                if not flight:
                    del self._flights[number]
                return carried
        return self._recent.get((source, destination, datagram))
