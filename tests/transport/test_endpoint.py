"""The endpoint: packing, addressing, and what it makes of garbage."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.network_run import identity
from transport import DROP_REASONS, FIRST_CLIENT, NEVER, Endpoint, EndpointLimits, FragmentLimits, Framer

CLIENT = FIRST_CLIENT + 5
MILLISECOND = 1_000_000


def _members() -> tuple[Endpoint, Endpoint]:
    one, two = Endpoint(identity(1)), Endpoint(identity(2))
    one.set_peer(2, "two")
    two.set_peer(1, "one")
    return one, two


def test_messages_of_one_turn_share_datagrams() -> None:
    one, two = _members()
    messages = [bytes([number]) * 300 for number in range(10)]
    for message in messages:
        one.send(2, message)
    assert one.deadline == 0
    datagrams = one.flush(5)
    assert one.deadline == NEVER
    assert len(datagrams) == 4
    assert all(len(datagram) <= 1200 and address == "two" for datagram, address in datagrams)
    received = [message for datagram, _ in datagrams for message in two.receive(datagram, "one", 6)]
    assert received == [(1, 7, message) for message in messages]
    assert one.flush(6) == []
    assert two.flush(6) == []


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=1200) | st.integers(0, 3000).map(bytes), max_size=20), st.integers(400, 3000))
def test_every_message_arrives_whole_within_the_datagram_size(messages: list[bytes], datagram_bytes: int) -> None:
    one, two = Endpoint(identity(1), datagram_bytes=datagram_bytes), Endpoint(identity(2))
    one.set_peer(2, "two")
    two.set_peer(1, "one")
    for message in messages:
        one.send(2, message)
    datagrams = one.flush(5)
    assert all(len(datagram) <= datagram_bytes for datagram, _ in datagrams)
    received = [message for datagram, _ in datagrams for _, _, message in two.receive(datagram, "one", 6)]
    assert sorted(received) == sorted(messages)


def test_an_unknown_peer_is_counted() -> None:
    one, _ = _members()
    one.send(9, b"hello")
    one.send(CLIENT, b"hello")
    assert one.statistics().drops == {"unknown_peer": 2}
    assert one.flush(5) == []


def test_a_client_is_learnt_and_followed() -> None:
    server, client = Endpoint(identity(1)), Endpoint(identity(CLIENT))
    client.set_peer(1, "server")
    client.send(1, b"hello")
    ((datagram, _),) = client.flush(5)
    assert server.receive(datagram, "first", 6) == [(CLIENT, 7, b"hello")]
    assert server.receive(datagram, "second", 6) == [(CLIENT, 7, b"hello")]
    server.send(CLIENT, b"welcome")
    ((answer, address),) = server.flush(7)
    assert address == server.address_of(CLIENT) == "second"
    assert client.receive(answer, "server", 8) == [(1, 7, b"welcome")]
    assert server.statistics().learnt_peers == 1
    server.forget(CLIENT)
    assert server.address_of(CLIENT) is None


def test_a_member_is_not_followed_to_where_a_frame_in_its_name_came_from() -> None:
    """Anyone can write what is in a frame: one datagram would take a member's messages to somebody else, or nowhere."""
    one, two = _members()
    two.send(1, b"hello")
    ((datagram, _),) = two.flush(5)
    assert not one.speaks_from_elsewhere(2)
    assert one.receive(datagram, "elsewhere", 6) == [(2, 7, b"hello")]
    one.send(2, b"welcome")
    ((_, address),) = one.flush(7)
    assert address == one.address_of(2) == "two"
    assert one.speaks_from_elsewhere(2)
    one.receive(datagram, "two", 8)
    assert not one.speaks_from_elsewhere(2)


def test_members_are_known_by_name_only_and_clients_learn_nobody() -> None:
    one, two = _members()
    one.set_peer(2, "two")
    stranger = Endpoint(identity(3))
    client = Endpoint(identity(CLIENT))
    for speaker in (stranger, client):
        speaker.set_peer(2, "two")
        speaker.send(2, b"hello")
    ((from_stranger, _),) = stranger.flush(5)
    ((from_client, _),) = client.flush(5)
    assert two.receive(from_stranger, "three", 6) == []
    assert two.statistics().drops == {"unknown_sender": 1}
    other_client = Endpoint(identity(CLIENT + 1))
    assert other_client.receive(from_client, "client", 6) == []
    assert other_client.statistics().drops == {"unknown_sender": 1}
    one.send(2, b"hello")
    ((own, _),) = one.flush(5)
    assert one.receive(own, "two", 6) == []  # reflected


def test_learnt_clients_are_bounded_and_the_quietest_go_first() -> None:
    server = Endpoint(identity(1), limits=EndpointLimits(learnt_peers=3))
    for number in (0, 1, 2, 0, 3):
        framer = Framer(identity(CLIENT + number))
        assert server.receive(framer.wrap(b""), f"client {number}", 5) == []
    assert [server.address_of(CLIENT + number) is not None for number in range(4)] == [True, False, True, True]


def test_a_full_queue_drops_the_oldest_messages() -> None:
    one = Endpoint(identity(1), limits=EndpointLimits(queue_bytes=1000))
    one.set_peer(2, "two")
    for number in range(10):
        one.send(2, bytes([number]) * 295)
    assert one.statistics().drops == {"queue_full": 7}
    two = Endpoint(identity(2))
    two.set_peer(1, "one")
    received = [message[0] for datagram, _ in one.flush(5) for _, _, message in two.receive(datagram, "one", 6)]
    assert received == [7, 8, 9]


def test_a_restarted_process_can_say_again_what_its_last_life_has_said() -> None:
    """A large message that was numbered alike would be taken for one that has come already, and thrown away."""
    two = Endpoint(identity(2))
    two.set_peer(1, "one")
    heard = []
    for began in (1_000, 2_000_000_000):
        one = Endpoint(identity(1))
        one.set_peer(2, "two")
        one.send(2, bytes(5000))
        for datagram, _ in one.flush(began):
            heard += [len(message) for _, _, message in two.receive(datagram, "one", began)]
    assert heard == [5000, 5000]


def test_what_has_left_makes_room_in_the_queue() -> None:
    """Were it counted for ever, each flush would drop all but one message from some day on."""
    one = Endpoint(identity(1), limits=EndpointLimits(queue_bytes=1000))
    one.set_peer(2, "two")
    for turn in range(20):
        for number in range(3):
            one.send(2, bytes([number]) * 295)
        assert one.flush(turn)
    assert one.statistics().drops == {}


def _first_fragments(sender: int, number: int) -> bytes:
    """A frame with a fragment of 1,000 of 4,000 bytes."""
    body = struct.pack(">QIIIII", number, 0, 4000, 1000, 1, 0) + bytes(1000)
    return Framer(identity(sender)).wrap(struct.pack(">BI", 2, len(body)) + body)


def test_what_all_clients_hold_together_is_bounded() -> None:
    small = FragmentLimits(message_bytes=5000, retained_bytes=5000, reassembly_bytes=10_000)
    server = Endpoint(identity(1), limits=EndpointLimits(learnt_fragmenting=100, learnt_bytes=20_000, learnt=small))
    for number in range(1000):
        server.receive(_first_fragments(CLIENT + number % 500, number), "somewhere", 5)
        assert server.statistics().held_bytes < 23_000
    assert server.statistics().drops["fragmenting_full"] > 900
    few = Endpoint(identity(1), limits=EndpointLimits(learnt_fragmenting=3))
    for number in range(10):
        few.receive(_first_fragments(CLIENT + number, number), "somewhere", 5)
    assert few.statistics().drops == {"fragmenting_full": 7}
    assert few.statistics().held_bytes < 4000


def test_clients_that_were_forgotten_with_something_large_under_way_leave_no_trace() -> None:
    """They are many where clients come and go behind one address. The next with large messages has room, and no part of
    what was theirs is looked for again: that would end the member."""
    server = Endpoint(identity(1), limits=EndpointLimits(learnt_peers=4, learnt_fragmenting=3))
    for number in range(40):
        assert server.receive(_first_fragments(CLIENT + number, number), "somewhere", 5) == []
        for other in range(1 + number % 4):
            assert server.receive(Framer(identity(CLIENT + 100 + other)).wrap(b""), "elsewhere", 5) == []
    assert server.statistics().learnt_peers == 4
    assert server.statistics().held_bytes < 4000


def test_a_turn_looks_only_at_those_whose_large_messages_are_under_way() -> None:
    server = Endpoint(identity(1))
    large = bytes(5000)
    for turn in (0, 1):
        for number in range(50):
            client = Endpoint(identity(CLIENT + number))
            client.set_peer(1, "server")
            client.send(1, large)
            arrived = []
            for now in range(turn * 1000 * MILLISECOND, (turn * 1000 + 30) * MILLISECOND, MILLISECOND):
                for datagram, _ in client.flush(now):
                    arrived += server.receive(datagram, number, now)
                for datagram, to in server.flush(now):
                    assert to == number
                    client.receive(datagram, "server", now)
            assert [message for _, _, message in arrived] == [large]
            assert server.deadline == client.deadline == NEVER
    assert len(server._fragmenting) == 50
    assert not server._busy


def test_a_new_address_of_a_member_takes_effect_at_once() -> None:
    one, _ = _members()
    one.send(2, b"hello")
    one.set_peer(2, "elsewhere")
    assert [address for _, address in one.flush(5)] == ["elsewhere"]
    one.send(2, b"hello")
    one.forget(2)
    assert one.flush(5) == []


@pytest.mark.parametrize("datagram_bytes", [0, 344, 65_508])
def test_a_datagram_size_that_cannot_work_is_refused(datagram_bytes: int) -> None:
    with pytest.raises(ValueError, match="datagram_bytes"):
        Endpoint(identity(1), datagram_bytes=datagram_bytes)


@given(st.binary(max_size=300))
def test_random_bytes_are_counted_and_nothing_else(datagram: bytes) -> None:
    _, two = _members()
    assert two.receive(datagram, "anyone", 5) == []
    (reason,) = two.statistics().drops
    assert reason in DROP_REASONS


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 6), st.binary(max_size=60)), max_size=6))
def test_random_payloads_in_good_frames_never_raise(payload: bytes, parts: list[tuple[int, bytes]]) -> None:
    _, two = _members()
    framer = Framer(identity(1))
    two.send(1, bytes(5000))
    two.flush(4)
    for hostile in (payload, b"".join([struct.pack(">BI", kind, len(body)) + body for kind, body in parts])):
        two.receive(framer.wrap(hostile), "one", 5)
        two.flush(two.deadline)


def test_damaged_and_truncated_real_datagrams_never_raise() -> None:
    random = Random(3)
    one, two = _members()
    for size in (0, 10, 500, 5000, 50_000):
        one.send(2, bytes(size))
    datagrams = [datagram for datagram, _ in one.flush(5)]
    for datagram in datagrams:
        for _ in range(20):
            damaged = bytearray(datagram)
            bit = random.randrange(8 * len(damaged))
            damaged[bit // 8] ^= 1 << bit % 8
            assert two.receive(bytes(damaged), "one", 6) == []
            assert two.receive(datagram[: random.randrange(len(datagram))], "one", 6) == []
    assert set(two.statistics().drops) <= set(DROP_REASONS)
    assert two.statistics().datagrams_in == 40 * len(datagrams)
    received = [message for datagram in datagrams for _, _, message in two.receive(datagram, "one", 7)]
    assert sorted(map(len, received)) == [0, 10, 500, 5000, 50_000]


def test_statistics_count_what_passed() -> None:
    one, two = _members()
    one.send(2, b"hello")
    one.send(2, bytes(3000))
    datagrams = one.flush(5)
    for datagram, _ in datagrams:
        two.receive(datagram, "one", 6)
    sent, received = one.statistics(), two.statistics()
    assert (sent.messages_out, sent.fragments_out, sent.datagrams_out) == (2, 3, len(datagrams))
    assert (received.messages_in, received.datagrams_in) == (2, len(datagrams))
    assert sent.bytes_out == received.bytes_in == sum(len(datagram) for datagram, _ in datagrams)
    assert received.drops == {}
