"""One end of the network, without a network: messages and datagrams in, datagrams and messages out.

Members and clients use the same endpoint. It reads no clock and does no input or output; its owner hands over what
arrived, asks once per turn what to send, and comes back at the deadline.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from transport.endpoint_statistics import EndpointStatistics
from transport.fragment_format import (
    FRAGMENT,
    FRAGMENT_OVERHEAD_BYTES,
    LARGEST_CHUNK_BYTES,
    MEBIBYTE,
    NEVER,
    PART,
    PART_BYTES,
    PROBE,
    SMALLEST_CHUNK_BYTES,
    FragmentCounts,
    FragmentLimits,
)
from transport.fragments import FragmentSender
from transport.frame import FIRST_CLIENT, HEADER_BYTES, FrameIdentity, Framer
from transport.interface import Address
from transport.packing import WHOLE, pack, split
from transport.reassembly import FragmentReceiver

DEFAULT_DATAGRAM_BYTES: Final = 1200
SMALLEST_DATAGRAM_BYTES: Final = HEADER_BYTES + FRAGMENT_OVERHEAD_BYTES + SMALLEST_CHUNK_BYTES
LARGEST_DATAGRAM_BYTES: Final = 65_507
"""The most that one UDP datagram carries over IPv4."""

_pack_part = PART.pack
_unpack_part = PART.unpack_from


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """Bounds on what an endpoint holds, so that no peer and no number of clients can exhaust it.

    `queue_bytes`: whole messages waiting for one peer's next flush; beyond it the oldest are dropped.
    `learnt_peers`: clients whose addresses are remembered, the least recently heard forgotten first;
    `learnt_fragmenting`, `learnt_bytes`: how many of them may have large messages under way at a time, and how
    much those may hold together; beyond it the client longest without a part of one loses its own. `members` and
    `learnt` bound large messages per peer.
    """

    queue_bytes: int = 8 * MEBIBYTE
    learnt_peers: int = 20_000
    learnt_fragmenting: int = 1024
    learnt_bytes: int = 64 * MEBIBYTE
    members: FragmentLimits = field(default_factory=FragmentLimits)
    learnt: FragmentLimits = field(
        default_factory=lambda: FragmentLimits(
            message_bytes=4 * MEBIBYTE,
            retained_bytes=8 * MEBIBYTE,
            retained_messages=4096,
            reassembly_bytes=8 * MEBIBYTE,
            reassembly_messages=64,
        )
    )


class _Peer:
    """A peer's address, what waits for it, and its large messages if it ever had any."""

    __slots__ = ("address", "admitted", "learnt", "part_at", "queue", "queue_bytes", "receiver", "sender", "source")

    def __init__(self, address: Address, learnt: bool) -> None:
        self.address = address
        self.source = address  # where it spoke from last
        self.learnt = learnt
        self.queue: list[bytes] = []  # encoded parts
        self.queue_bytes = 0
        self.sender: FragmentSender | None = None
        self.receiver: FragmentReceiver | None = None
        self.part_at = 0  # when something about large messages came from it last
        self.admitted = 0  # its place among those with large messages

    def release(self) -> bool:
        """Drop the state for large messages; whether any was under way."""
        busy = False
        for side in (self.sender, self.receiver):
            if side is not None:
                busy = busy or not side.idle
                side.release()
        self.sender = self.receiver = None
        return busy


class Endpoint:
    """Frames, packs, fragments and repairs for one identity, and checks all that arrives.

    Messages may be lost, doubled and reordered; a large one that is lost in part is repaired, a message that fits
    one datagram is sent once. The protocol above repeats what matters.

    `datagram_bytes` is the most that one datagram takes, frame included; peers may have other values.

    Raises:
      ValueError: `datagram_bytes` is too small for a fragment, or more than UDP carries.
    """

    def __init__(
        self,
        identity: FrameIdentity,
        *,
        datagram_bytes: int = DEFAULT_DATAGRAM_BYTES,
        limits: EndpointLimits | None = None,
    ) -> None:
        if not SMALLEST_DATAGRAM_BYTES <= datagram_bytes <= LARGEST_DATAGRAM_BYTES:
            raise ValueError(
                f"datagram_bytes must lie within {SMALLEST_DATAGRAM_BYTES} to {LARGEST_DATAGRAM_BYTES}, "
                f"not {datagram_bytes}"
            )
        self._identity = identity
        self._framer = Framer(identity)
        self._limits = limits = limits or EndpointLimits()
        self._queue_limit = limits.queue_bytes
        self._roomy_peers = limits.learnt_peers // 2
        self._capacity = datagram_bytes - HEADER_BYTES
        self._longest_whole = self._capacity - PART_BYTES
        self._chunk_bytes = min(self._capacity - FRAGMENT_OVERHEAD_BYTES, LARGEST_CHUNK_BYTES)
        self._known: dict[int, _Peer] = {}
        self._learnt: OrderedDict[int, _Peer] = OrderedDict()
        self._waiting: dict[int, _Peer] = {}  # with whole messages for the next flush
        self._fragmenting: dict[int, _Peer] = {}  # with state for large messages
        self._busy: dict[int, _Peer] = {}  # of those, with large messages under way: a few, where a thousand had some
        self._admitted = 0
        self._learnt_fragmenting: OrderedDict[int, None] = OrderedDict()
        self._drops: Counter[str] = Counter()
        self._member_counts = FragmentCounts()
        self._learnt_counts = FragmentCounts()
        self._datagrams_in = self._datagrams_out = 0
        self._bytes_in = self._bytes_out = 0
        self._messages_in = self._messages_out = 0

    @property
    def identity(self) -> FrameIdentity:
        """Who this endpoint speaks as."""
        return self._identity

    def set_peer(self, peer: int, address: Address) -> None:
        """Make a peer known, or give it a new address. Without this only clients are known, from their frames."""
        known = self._known.get(peer)
        if known is not None:
            known.address = address
            return
        self.forget(peer)
        self._known[peer] = _Peer(address, learnt=False)

    def forget(self, peer: int) -> None:
        """Drop a peer and everything that is under way to it or from it. Harmless if it is not known."""
        self._known.pop(peer, None)
        self._learnt.pop(peer, None)
        self._waiting.pop(peer, None)
        self._busy.pop(peer, None)
        fragmenting = self._fragmenting.pop(peer, None)
        if fragmenting is not None:
            fragmenting.release()
        self._learnt_fragmenting.pop(peer, None)

    def address_of(self, peer: int) -> Address | None:
        """Where messages to this peer go; None if it is not known."""
        found = self._known.get(peer) or self._learnt.get(peer)
        return found.address if found else None

    def speaks_from_elsewhere(self, peer: int) -> bool:
        """Whether what came from the peer last came from another address than messages to it go to.

        It may have moved, and be waiting for answers there. Or it has several addresses: anyone can write what is in a
        frame, so that none is followed to where it came from.
        """
        found = self._known.get(peer)
        return found is not None and found.source != found.address

    def heard_part_at(self, peer: int) -> int:
        """When the peer last sent a part of a large message, or told of one that is sent to it; 0 if never.

        It is alive then, though nothing whole may come from it for long.
        """
        found = self._known.get(peer)
        return found.part_at if found else 0

    def is_large(self, message: bytes) -> bool:
        """Whether it does not fit one datagram."""
        return len(message) > self._longest_whole

    def send(self, peer: int, message: bytes, label: Hashable = None) -> None:
        """Queue a message for the next flush; to an unknown peer it is dropped and counted.

        `label` is for what its receiver asks for until it is there: a large message is then not sent again while one of
        the same label is under way to that peer, nor when there is no room for it.
        """
        found = self._known.get(peer) or self._learnt.get(peer)
        if found is None:
            self._drops["unknown_peer"] += 1
            return
        self._messages_out += 1
        size = len(message)
        if size > self._longest_whole:
            self._sender(peer, found).queue(message, label)
            return
        queue = found.queue
        queue.append(_pack_part(WHOLE, size) + message)
        self._waiting[peer] = found
        found.queue_bytes = held = found.queue_bytes + size + PART_BYTES
        if held > self._queue_limit:
            while found.queue_bytes > self._queue_limit and len(queue) > 1:
                found.queue_bytes -= len(queue.pop(0))
                self._drops["queue_full"] += 1

    def receive(self, datagram: bytes, address: Address, now: int) -> list[tuple[int, int, bytes]]:
        """The messages that a datagram brings or completes, as (sender, incarnation, message). Never raises.

        `address` is where the datagram came from; `now` is monotonic, in nanoseconds.
        """
        self._datagrams_in += 1
        self._bytes_in += len(datagram)
        frame = self._framer.parse(datagram)
        if isinstance(frame, str):
            self._drops[frame] += 1
            return []
        sender, incarnation, payload = frame
        peer = self._known.get(sender) or self._learnt.get(sender) or self._learn(sender, address)
        if peer is None:
            self._drops["unknown_sender"] += 1
            return []
        if peer.learnt:
            peer.address = address  # followed, since a client's may change at any time behind a NAT
            # Who is forgotten first matters only when there is little room left: until that is gone, as many others
            # must have been learnt as are known now, and whoever is still there has been heard meanwhile.
            if len(self._learnt) > self._roomy_peers:
                self._learnt.move_to_end(sender)
        else:
            peer.source = address
        size = len(payload)
        if size >= PART_BYTES:  # by far most datagrams carry one whole message
            kind, length = _unpack_part(payload)
            if kind == WHOLE and PART_BYTES + length == size:
                self._messages_in += 1
                return [(sender, incarnation, payload[PART_BYTES:])]
        parts = split(payload)
        if parts is None:
            self._drops["malformed"] += 1
            return []
        wholes, controls = parts
        messages = [(sender, incarnation, message) for message in wholes]
        for kind, body in controls:
            completed = self._control(kind, body, sender, peer, incarnation, now)
            if completed is not None:
                messages.append((sender, incarnation, completed))
        self._messages_in += len(messages)
        return messages

    def flush(self, now: int) -> list[tuple[bytes, Address]]:
        """All that is to be sent now, as (datagram, address): once per turn, and when the deadline has passed.

        Messages for one peer share datagrams. `now` is monotonic, in nanoseconds.
        """
        datagrams: list[tuple[bytes, Address]] = []
        if self._busy:
            self._collect_parts(now)
        if not self._waiting:
            return datagrams
        wrap = self._framer.wrap
        for peer in self._waiting.values():
            queue = peer.queue
            if len(queue) == 1:
                datagrams.append((wrap(queue[0]), peer.address))
            else:
                datagrams += [(wrap(payload), peer.address) for payload in pack(queue, self._capacity)]
            queue.clear()
            peer.queue_bytes = 0
        self._waiting.clear()
        self._datagrams_out += len(datagrams)
        for datagram, _ in datagrams:
            self._bytes_out += len(datagram)
        return datagrams

    @property
    def deadline(self) -> int:
        """When `flush` is wanted next, in monotonic nanoseconds: 0 if something waits, NEVER if nothing will."""
        if self._waiting:
            return 0
        deadline = NEVER
        for peer in self._busy.values():
            if peer.sender is not None:
                deadline = min(deadline, peer.sender.deadline)
            if peer.receiver is not None:
                deadline = min(deadline, peer.receiver.deadline)
        return deadline

    def statistics(self) -> EndpointStatistics:
        """Counts so far, and how many clients are remembered."""
        member, learnt = self._member_counts, self._learnt_counts
        return EndpointStatistics(
            datagrams_in=self._datagrams_in,
            datagrams_out=self._datagrams_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            messages_in=self._messages_in,
            messages_out=self._messages_out,
            fragments_out=member.sent + learnt.sent,
            fragments_repaired=member.resent + learnt.resent,
            probes_out=member.probes + learnt.probes,
            reports_out=member.reports + learnt.reports,
            held_bytes=member.held_bytes + learnt.held_bytes,
            learnt_peers=len(self._learnt),
            drops=MappingProxyType(dict(self._drops + member.drops + learnt.drops)),
        )

    def _learn(self, sender: int, address: Address) -> _Peer | None:
        """The client that a frame claims to be from, remembered now; None if it is none. Clients learn nobody."""
        if sender < FIRST_CLIENT or self._identity.sender >= FIRST_CLIENT:
            return None
        peer = self._learnt[sender] = _Peer(address, learnt=True)
        if len(self._learnt) > self._limits.learnt_peers:
            self.forget(next(iter(self._learnt)))
        return peer

    def _control(self, kind: int, body: bytes, sender: int, peer: _Peer, incarnation: int, now: int) -> bytes | None:
        """Take in a part about a large message; that message if the part completes it."""
        peer.part_at = now
        try:
            if kind == FRAGMENT:
                return self._receiver(sender, peer).fragment(body, incarnation, now)
            if kind == PROBE:
                self._receiver(sender, peer).probe(body, incarnation)
            elif peer.sender is not None:  # a report, of no use once nothing is under way
                self._busy[sender] = peer
                peer.sender.report(body, now)
        except ValueError:
            self._drops["fragment"] += 1
        return None

    def _sender(self, number: int, peer: _Peer) -> FragmentSender:
        self._admit(number, peer)
        if peer.sender is None:
            peer.sender = FragmentSender(self._chunk_bytes, *self._bounds(peer))
        return peer.sender

    def _receiver(self, number: int, peer: _Peer) -> FragmentReceiver:
        self._admit(number, peer)
        if peer.receiver is None:
            peer.receiver = FragmentReceiver(*self._bounds(peer))
        return peer.receiver

    def _bounds(self, peer: _Peer) -> tuple[FragmentLimits, FragmentCounts]:
        if peer.learnt:
            return self._limits.learnt, self._learnt_counts
        return self._limits.members, self._member_counts

    def _admit(self, number: int, peer: _Peer) -> None:
        """Count a peer among those with large messages; of clients, those longest without any make room."""
        if number not in self._fragmenting:
            self._admitted += 1
            peer.admitted = self._admitted
            self._fragmenting[number] = peer
        self._busy[number] = peer
        if not peer.learnt:
            return
        order, limits = self._learnt_fragmenting, self._limits
        order[number] = None
        order.move_to_end(number)
        while len(order) > limits.learnt_fragmenting or (
            self._learnt_counts.held_bytes > limits.learnt_bytes and len(order) > 1
        ):
            oldest, _ = order.popitem(last=False)
            self._busy.pop(oldest, None)
            if self._fragmenting.pop(oldest).release():
                self._drops["fragmenting_full"] += 1

    def _collect_parts(self, now: int) -> None:
        """Put the reports, fragments and probes that are due beside the whole messages."""
        for number, peer in sorted(self._busy.items(), key=_by_admission):
            deadline = NEVER
            for side in (peer.receiver, peer.sender):
                if side is not None:
                    if now >= side.deadline:
                        peer.queue += side.parts(now)
                    deadline = min(deadline, side.deadline)
            if peer.queue:
                self._waiting[number] = peer
            if deadline == NEVER:
                del self._busy[number]


def _by_admission(item: tuple[int, _Peer]) -> int:
    return item[1].admitted
