"""Large messages get through a network that loses, doubles, reorders and damages, within bounds."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.network_run import SECOND, NetworkRun
from transport import NEVER, FragmentLimits, LinkFaults, Network
from transport.fragment_format import FRAGMENT, FRAGMENT_HEAD, PART_BYTES, REPORT, FragmentCounts
from transport.fragments import FragmentSender
from transport.reassembly import FragmentReceiver

MILLISECOND = 1_000_000
CHUNK = 1000


def _send_over(faults: LinkFaults, size: int, seed: int, datagram_bytes: int = 1200) -> tuple[NetworkRun, bytes]:
    run = NetworkRun(Network(Random(seed), faults), 1, 2, datagram_bytes=datagram_bytes)
    message = Random(seed).randbytes(size)
    run.endpoints[1].send(2, message)
    run.run(10 * SECOND)
    return run, message


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("size", [2000, 64 * 1024, 3 << 20])
def test_a_large_message_survives_loss_quickly(loss: float, size: int) -> None:
    for seed in range(3):
        run, message = _send_over(LinkFaults(loss=loss), size, seed)
        assert run.delivered == [(2, 1, message)]
        assert run.now < SECOND
        for endpoint in run.endpoints.values():
            assert endpoint.deadline == NEVER  # both sides are done with it
            assert endpoint.statistics().held_bytes == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 100_000), st.sampled_from([400, 1200, 9000, 65_507]))
def test_a_large_message_survives_every_fault_at_once(seed: int, excess: int, datagram_bytes: int) -> None:
    faults = LinkFaults(loss=0.1, duplicate=0.1, corrupt=0.05, replay=0.1, reorder=0.1)
    run, message = _send_over(faults, datagram_bytes + excess, seed, datagram_bytes)
    assert (2, 1, message) in run.delivered
    assert all(delivered == (2, 1, message) for delivered in run.delivered)


def test_many_messages_both_ways_share_the_window() -> None:
    run = NetworkRun(Network(Random(4), LinkFaults(loss=0.05)), 1, 2)
    messages = [Random(number).randbytes(40_000) for number in range(40)]
    for message in messages:
        run.endpoints[1].send(2, message)
        run.endpoints[2].send(1, message)
    run.run(10 * SECOND)
    assert sorted(run.delivered) == sorted((to, 3 - to, message) for to in (1, 2) for message in messages)


def test_two_fragments_over_a_bad_line_take_no_longer_than_some_probes() -> None:
    times = []
    for seed in range(100):
        run = NetworkRun(Network(Random(seed), LinkFaults(loss=0.2)), 1, 2)
        run.endpoints[1].send(2, bytes(2000))
        while not run.delivered and run.now < SECOND:
            run.now += MILLISECOND
            run.run(run.now)
        times.append(run.now)
    assert sorted(times)[90] < 30 * MILLISECOND
    assert max(times) < 200 * MILLISECOND


def test_a_silent_peer_is_given_up_and_costs_nothing_afterwards() -> None:
    network = Network(Random(1))
    run = NetworkRun(network, 1, 2)
    network.isolate(2)
    for _ in range(5):
        run.endpoints[1].send(2, bytes(1 << 20))
    run.run(60 * SECOND)
    statistics = run.endpoints[1].statistics()
    assert statistics.drops["gave_up"] == 5
    assert statistics.held_bytes == 0
    assert statistics.datagrams_out < 200  # a window of fragments and some probes
    assert run.now < 3 * SECOND
    network.heal()
    run.endpoints[1].send(2, b"again" * 1000)
    run.run(run.now + SECOND)
    assert run.delivered == [(2, 1, b"again" * 1000)]


def test_a_receiver_that_loses_its_memory_is_sent_everything_again() -> None:
    run = NetworkRun(Network(Random(1), LinkFaults()), 1, 2)
    message = Random(1).randbytes(2 << 20)
    run.endpoints[1].send(2, message)
    run.run(2 * MILLISECOND)
    assert run.endpoints[2].statistics().held_bytes > 0
    run.endpoints[2].forget(1)
    run.endpoints[2].set_peer(1, 1)
    run.run(SECOND)
    assert run.delivered == [(2, 1, message)]


def _pair(limits: FragmentLimits | None = None) -> tuple[FragmentSender, FragmentReceiver, FragmentCounts]:
    limits = limits or FragmentLimits()
    counts = FragmentCounts()
    return FragmentSender(CHUNK, limits, counts), FragmentReceiver(limits, counts), counts


def _body(part: bytes, kind: int) -> bytes:
    assert part[0] == kind
    return part[PART_BYTES:]


def test_of_two_messages_with_one_label_the_second_is_not_sent_while_the_first_is_under_way() -> None:
    sender, receiver, counts = _pair()
    sender.queue(bytes(2 * CHUNK), "answer")
    sender.queue(bytes(3 * CHUNK), "answer")
    first, second = sender.parts(5)
    sender.queue(bytes(3 * CHUNK), "answer")
    assert counts.drops == {"under_way": 2}
    assert counts.held_bytes == 2 * CHUNK
    for part in (first, second):
        receiver.fragment(_body(part, FRAGMENT), 7, 6)
    (report,) = receiver.parts(6)
    sender.report(_body(report, REPORT), 7)
    sender.queue(bytes(2 * CHUNK), "answer")  # asked for again: what arrived was not what was wanted, or is lost
    assert len(sender.parts(7)) == 2
    sender.parts(7 + FragmentLimits().give_up_ns)
    assert counts.drops["gave_up"] == 1
    sender.queue(bytes(2 * CHUNK), "answer")
    sender.release()
    sender.queue(bytes(2 * CHUNK), "answer")
    assert not sender.idle


def test_a_message_is_given_up_for_want_of_progress_and_never_for_its_age() -> None:
    """Two share a window of one fragment, and one fragment a second arrives, of the first alone."""
    sender, receiver, counts = _pair(FragmentLimits(window_bytes=2 * CHUNK))
    sender.queue(bytes(40 * CHUNK))
    sender.queue(bytes(2 * CHUNK))
    for second in range(35):
        now = (second + 1) * SECOND
        of_the_first = [part for part in sender.parts(now) if part[0] == FRAGMENT and _length(part) == 40 * CHUNK]
        receiver.fragment(_body(of_the_first[0], FRAGMENT), 7, now)
        (report,) = receiver.parts(now + 2 * MILLISECOND)
        sender.report(_body(report, REPORT), now + 2 * MILLISECOND)
        assert counts.drops["gave_up"] == int(second >= 20)  # the one that waited behind it
    assert counts.held_bytes > 40 * CHUNK  # at both ends


def _length(fragment: bytes) -> int:
    return int(FRAGMENT_HEAD.unpack_from(fragment, PART_BYTES)[2])


def test_a_message_with_a_label_drives_out_no_other_and_others_drive_it_out() -> None:
    limits = FragmentLimits(
        message_bytes=10 * CHUNK, retained_bytes=20 * CHUNK, retained_messages=3, reassembly_bytes=20 * CHUNK
    )
    sender, _, counts = _pair(limits)
    sender.queue(bytes(10 * CHUNK), "first")
    sender.queue(bytes(9 * CHUNK), "second")
    sender.queue(bytes(2 * CHUNK), "third")
    assert (counts.drops, counts.held_bytes) == ({"retained_full": 1}, 19 * CHUNK)
    sender.queue(bytes(2 * CHUNK))
    assert (counts.drops, counts.held_bytes) == ({"retained_full": 2}, 11 * CHUNK)
    sender.queue(bytes(2 * CHUNK), "first")  # driven out, and asked for again
    sender.queue(bytes(2 * CHUNK), "fourth")  # three are kept at most
    assert (counts.drops, counts.held_bytes) == ({"retained_full": 3}, 13 * CHUNK)


def test_only_the_missing_fragment_is_sent_again() -> None:
    sender, receiver, counts = _pair()
    message = Random(1).randbytes(10 * CHUNK)
    sender.queue(message)
    fragments = sender.parts(5)
    assert len(fragments) == 10
    for part in fragments[:4] + fragments[5:]:
        assert receiver.fragment(_body(part, FRAGMENT), 7, 6) is None
    assert receiver.parts(6) == []
    (report,) = receiver.parts(receiver.deadline)  # after a short delay
    sender.report(_body(report, REPORT), 7)
    (again,) = sender.parts(7)
    assert again[-CHUNK:] == message[4 * CHUNK : 5 * CHUNK]
    assert receiver.fragment(_body(again, FRAGMENT), 7, 8) == message
    (report,) = receiver.parts(8)
    sender.report(_body(report, REPORT), 9)
    assert sender.idle
    assert receiver.idle
    assert counts.resent == 1
    assert counts.held_bytes == 0


def test_the_last_fragment_lost_is_found_by_a_probe() -> None:
    sender, receiver, _ = _pair()
    message = Random(1).randbytes(3 * CHUNK)
    sender.queue(message)
    for part in sender.parts(5)[:-1]:
        receiver.fragment(part[PART_BYTES:], 7, 6)
    (report,) = receiver.parts(receiver.deadline)
    sender.report(report[PART_BYTES:], 7)
    assert sender.parts(7) == []  # nothing sent later has arrived: it may be under way
    again, probe = sender.parts(sender.deadline)  # suppose that the fragment is lost once more
    assert again[-CHUNK:] == message[2 * CHUNK :]
    receiver.probe(probe[PART_BYTES:], 7)
    (report,) = receiver.parts(8)
    sender.report(report[PART_BYTES:], 9)
    (again,) = sender.parts(9)
    assert receiver.fragment(again[PART_BYTES:], 7, 10) == message


def test_a_repeated_message_is_delivered_once_and_reported_again() -> None:
    sender, receiver, _ = _pair()
    sender.queue(bytes(2 * CHUNK))
    fragments = sender.parts(5)
    assert [receiver.fragment(part[PART_BYTES:], 7, 6) is not None for part in fragments] == [False, True]
    assert len(receiver.parts(6)) == 1  # suppose that this report is lost
    assert receiver.fragment(fragments[0][PART_BYTES:], 7, 7) is None
    (report,) = receiver.parts(7)
    sender.report(report[PART_BYTES:], 8)
    assert sender.idle


def test_fragments_of_two_lives_of_a_sender_are_not_mixed() -> None:
    _, receiver, _ = _pair()
    first, _, _ = _pair()
    second, _, _ = _pair()
    first.queue(b"a" * 2 * CHUNK)
    second.queue(b"b" * 2 * CHUNK)
    first_parts, second_parts = first.parts(5), second.parts(5)  # both at the same time of their clocks
    assert receiver.fragment(first_parts[0][PART_BYTES:], 7, 6) is None
    assert receiver.fragment(second_parts[1][PART_BYTES:], 7, 6) is None
    assert receiver.fragment(second_parts[0][PART_BYTES:], 7, 6) == b"b" * 2 * CHUNK


def test_both_sides_hold_no_more_than_their_limits() -> None:
    limits = FragmentLimits(
        message_bytes=10 * CHUNK,
        retained_bytes=20 * CHUNK,
        retained_messages=8,
        reassembly_bytes=25 * CHUNK,
        reassembly_messages=4,
    )
    sender, receiver, counts = _pair(limits)
    sender.queue(bytes(10 * CHUNK + 1))
    assert counts.drops == {"message_too_large": 1}
    for _ in range(3):
        sender.queue(bytes(10 * CHUNK))
    assert counts.drops["retained_full"] == 1
    assert counts.held_bytes == 20 * CHUNK
    sender.release()
    assert counts.held_bytes == 0
    for number in range(1, 20):
        for index in range(9):
            head = struct.pack(">QIIIII", number, 0, 10 * CHUNK, CHUNK, index + 1, index)
            receiver.fragment(head + bytes(CHUNK), 7, 5)
            assert counts.held_bytes <= 25 * CHUNK
    assert counts.drops["reassembly_full"] >= 15
    receiver.parts(5 + limits.give_up_ns)
    assert counts.held_bytes == 0
    assert counts.drops["reassembly_expired"] > 0


@pytest.mark.parametrize(
    ("length", "chunk", "index", "size"),
    [
        (CHUNK, CHUNK, 0, CHUNK),  # would be whole
        (1 << 31, CHUNK, 0, CHUNK),  # too large
        (2 * CHUNK, 1, 0, 1),  # fragments too small
        (2 * CHUNK, 0, 0, 0),
        (200_000, 1 << 17, 0, CHUNK),  # fragments too large
        (2 * CHUNK, CHUNK, 2, CHUNK),  # beyond the end
        (2 * CHUNK, CHUNK, 1, CHUNK - 1),  # cut short
        (2 * CHUNK, CHUNK, 1, CHUNK + 1),  # too long
        (5000 * CHUNK, CHUNK, 1024, CHUNK),  # too far ahead
    ],
)
def test_fragments_that_contradict_themselves_are_refused(length: int, chunk: int, index: int, size: int) -> None:
    _, receiver, counts = _pair()
    with pytest.raises(ValueError, match="fragment"):
        receiver.fragment(struct.pack(">QIIIII", 1, 0, length, chunk, 1, index) + bytes(size), 7, 5)
    assert receiver.idle
    assert counts.held_bytes == 0


@pytest.mark.parametrize(("seen", "base"), [(99, 0), (1, 99)])
def test_reports_of_more_than_was_sent_are_refused(seen: int, base: int) -> None:
    sender, _, _ = _pair()
    sender.queue(bytes(2 * CHUNK))
    number, checksum = struct.unpack_from(">QI", sender.parts(5)[0], PART_BYTES)
    with pytest.raises(ValueError, match="report"):
        sender.report(struct.pack(">QIII", number, checksum, seen, base), 6)
    sender.report(struct.pack(">QIII", number, checksum ^ 1, seen, base), 6)  # of another message: ignored
    with pytest.raises(ValueError, match="report"):
        sender.report(b"short", 6)
    assert not sender.idle


def test_a_message_whose_checksum_is_wrong_is_dropped() -> None:
    _, receiver, counts = _pair()
    for index in range(2):
        head = struct.pack(">QIIIII", 1, 12345, 2 * CHUNK, CHUNK, index + 1, index)
        assert receiver.fragment(head + bytes(CHUNK), 7, 5) is None
    assert counts.drops == {"message_checksum": 1}
    assert counts.held_bytes == 0
