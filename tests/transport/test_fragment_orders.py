"""Two endpoints between which anything may happen to a datagram: what arrives was sent, once; nothing stays behind."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from transport.endpoint import Endpoint, EndpointLimits
from transport.fragment_format import MILLISECOND, FragmentLimits
from transport.frame import FIRST_CLIENT, HEADER_BYTES, FrameIdentity
from transport.interface import Address

SMALL = FragmentLimits(
    message_bytes=40_000,
    retained_bytes=120_000,
    retained_messages=6,
    reassembly_bytes=90_000,
    reassembly_messages=3,
    window_bytes=4096,
    give_up_ns=400 * MILLISECOND,
)
LIMITS = EndpointLimits(learnt_fragmenting=2, learnt_bytes=100_000, members=SMALL, learnt=SMALL)
DATAGRAM_BYTES = 512


def make_endpoint(number: int, incarnation: int = 1) -> Endpoint:
    identity = FrameIdentity(b"orders!!", b"digest!!", 0, 0, number, incarnation)
    return Endpoint(identity, datagram_bytes=DATAGRAM_BYTES, limits=LIMITS)


def lengths() -> list[int]:
    """Around every border: what fits a datagram, whole fragments, the longest message."""
    whole = DATAGRAM_BYTES - HEADER_BYTES - 5
    chunk = make_endpoint(1)._chunk_bytes
    borders = [whole, chunk * 2, chunk * 16, SMALL.message_bytes]
    return [0, 1, *[border + delta for border in borders for delta in (-1, 0, 1)]]


class Pair:
    """A member, 1, and whoever is at the other end: another member, or a client that it has to learn."""

    def __init__(self, random: Random, other: int) -> None:
        self.random = random
        self.ids = (1, other)
        self.ends = {number: make_endpoint(number) for number in self.ids}
        self.meet(1)
        self.meet(other)
        self.now = 1
        self.flying: list[tuple[int, int, bytes]] = []  # when, to whom
        self.sent: Counter[tuple[int, bytes]] = Counter()
        self.received: Counter[tuple[int, bytes]] = Counter()

    def meet(self, number: int) -> None:
        for other in self.ids:
            if other != number and other < FIRST_CLIENT:
                self.ends[number].set_peer(other, other)

    def other(self, number: int) -> int:
        return self.ids[1] if number == self.ids[0] else self.ids[0]

    def send(self, number: int, message: bytes) -> None:
        self.ends[number].send(self.other(number), message)
        self.sent[number, message] += 1

    def flush(self, number: int, lost: float) -> None:
        for datagram, _ in self.ends[number].flush(self.now):
            assert len(datagram) <= DATAGRAM_BYTES
            for _ in range(2 if self.random.random() < lost else 1):
                if self.random.random() >= lost:
                    late = self.random.randrange(1, 30 if self.random.random() < lost else 2) * MILLISECOND
                    self.flying.append((self.now + late, self.other(number), datagram))

    def deliver(self) -> None:
        due = [each for each in self.flying if each[0] <= self.now]
        self.flying = [each for each in self.flying if each[0] > self.now]
        self.random.shuffle(due)
        for _, to, datagram in due:
            address: Address = self.other(to)
            for sender, _, message in self.ends[to].receive(datagram, address, self.now):
                self.received[sender, message] += 1

    def run(self, steps: int, lost: float) -> None:
        for _ in range(steps):
            self.now += self.random.randrange(2 * MILLISECOND)
            self.deliver()
            for number in self.ids:
                self.flush(number, lost)

    def restart(self, number: int) -> None:
        """Forgets everything; of the same incarnation."""
        self.ends[number] = make_endpoint(number)
        self.meet(number)


@pytest.mark.parametrize("other", [2, FIRST_CLIENT + 7])
@pytest.mark.parametrize("seed", range(12))
def test_what_arrives_was_sent_and_nothing_stays_behind(seed: int, other: int) -> None:
    random = Random(seed)
    pair = Pair(random, other)
    sizes = lengths()
    lost = random.choice((0.0, 0.1, 0.3))
    for number in range(60):
        sender = random.choice(pair.ids)
        size = random.choice(sizes)
        pair.send(sender, (b"%08d" % number + bytes(size))[:size] if size > 8 else bytes(size))
        pair.run(random.randrange(12), lost)
        if random.random() < 0.03:
            pair.restart(random.choice(pair.ids))
    pair.run(1500, 0.0)
    for (sender, message), count in pair.received.items():
        assert (sender, message) in pair.sent
        if len(message) > DATAGRAM_BYTES:
            assert count <= pair.sent[sender, message] + 1, "twice, but for a restart between"
    for number in pair.ids:
        end = pair.ends[number]
        assert end.statistics().held_bytes == 0
        assert end.deadline > pair.now
        for peer in end._fragmenting.values():
            assert peer.sender is None or (peer.sender.idle and not peer.sender._flying)
            assert peer.receiver is None or peer.receiver.idle
    # The pair is as good as new: everything gets through, in both directions, at once.
    before = pair.received.copy()
    for sender in pair.ids[::-1]:  # A client first, so that it is known.
        for size in sizes:
            if size <= SMALL.message_bytes and size > DATAGRAM_BYTES:
                pair.send(sender, b"\xff" * size)
                pair.run(200, 0.0)
    for sender in pair.ids:
        for size in sizes:
            if DATAGRAM_BYTES < size <= SMALL.message_bytes:
                assert pair.received[sender, b"\xff" * size] == before[sender, b"\xff" * size] + 1
