"""The lean load generator is a client as a cluster expects one: it registers, numbers, asks again and elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random

import pytest

from bench.callers import clients_of
from bench.lean_callers import LeanCaller
from statemachine import Counter, session_number
from transport.codec import MessageCodec
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from viewstamp.cluster import Cluster
from viewstamp.wire import BODY_MESSAGES, NotPrimary, Query, QueryReply, Register, Reply, Request

BODY = Counter.add.bind(1)
CODEC = MessageCodec(BODY_MESSAGES, {})


class Member:
    """One member's place, where the test answers."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5.0)
        self.endpoint: Endpoint | None = None
        self.client = 0

    def join(self, cluster: Cluster, member: int) -> None:
        self.endpoint = Endpoint(FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, member, 7))

    def hears(self) -> object:
        assert self.endpoint is not None
        datagram, address = self.socket.recvfrom(65_536)
        [(self.client, _, data)] = self.endpoint.receive(datagram, address, 0)
        return CODEC.decode(data)

    def says(self, *messages: object) -> None:
        assert self.endpoint is not None
        for message in messages:
            self.endpoint.send(self.client, CODEC.encode(message))
        for datagram, address in self.endpoint.flush(0):
            self.socket.sendto(datagram, address)  # type: ignore[call-overload]  # an address of IPv4


@pytest.fixture
def members() -> Iterator[list[Member]]:
    places = [Member(), Member()]
    yield places
    for place in places:
        place.socket.close()


def caller_of(members: list[Member], *, reads: bool = False) -> LeanCaller:
    """A caller that asks the first member first."""
    cluster = Cluster.make("bench", "vsr", [place.socket.getsockname() for place in members])
    for number, place in enumerate(members, 1):
        place.join(cluster, number)
    seed = next(seed for seed in range(100) if Random(seed).randrange(2) == 0)
    caller = LeanCaller(cluster, BODY, reads, Random(seed))
    caller.socket.settimeout(5.0)
    return caller


def registered(caller: LeanCaller, member: Member) -> int:
    """Let it open a session, and have its first request answered; the session's number."""
    caller.begin(1)
    register = member.hears()
    assert isinstance(register, Register)
    member.says(Reply(0, register.nonce, 0, 9, b""))
    assert not caller.receive(2)
    session = session_number(9, register.nonce)
    assert member.hears() == Request(session, 1, 0, BODY)
    member.says(Reply(session, 1, 0, 10, b""))
    assert caller.receive(3)
    return session


def test_it_registers_once_and_marks_what_was_answered(members: list[Member]) -> None:
    caller = caller_of(members)
    session = registered(caller, members[0])
    caller.begin(4)
    assert caller.began_at == 4
    assert members[0].hears() == Request(session, 2, 1, BODY)
    assert caller.sent()[0] == 3
    caller.socket.close()


def test_only_the_answer_to_the_call_under_way_ends_it(members: list[Member]) -> None:
    caller = caller_of(members)
    session = registered(caller, members[0])
    caller.begin(4)
    members[0].hears()
    members[0].says(Reply(session, 1, 0, 10, b""))
    assert not caller.receive(5)
    members[0].says(Reply(session + 1, 2, 0, 11, b""))
    assert not caller.receive(5)
    members[0].socket.sendto(b"no frame", caller.socket.getsockname())
    assert not caller.receive(5)
    members[0].says(Reply(session, 1, 0, 10, b""), Reply(session, 2, 0, 11, b""))
    assert caller.receive(6)
    caller.socket.close()


def test_it_goes_where_it_is_sent(members: list[Member]) -> None:
    caller = caller_of(members)
    session = registered(caller, members[0])
    caller.begin(4)
    members[0].hears()
    members[0].says(NotPrimary(2))
    assert not caller.receive(5)
    assert members[1].hears() == Request(session, 2, 1, BODY)
    caller.socket.close()


def test_silence_turns_it_to_the_next_member_with_the_same_request(members: list[Member]) -> None:
    caller = caller_of(members)
    session = registered(caller, members[0])
    caller.begin(4)
    assert members[0].hears() == Request(session, 2, 1, BODY)
    caller.tick(100_000_000)
    assert caller.sent()[0] == 3
    caller.tick(300_000_000)
    assert members[1].hears() == Request(session, 2, 1, BODY)
    caller.tick(400_000_000)
    assert caller.sent()[0] == 4
    caller.socket.close()


def test_a_reader_opens_no_session(members: list[Member]) -> None:
    caller = caller_of(members, reads=True)
    caller.begin(1)
    assert members[0].hears() == Query(1, BODY)
    members[0].says(QueryReply(1, 0, 5, b""))
    assert caller.receive(2)
    caller.begin(3)
    assert members[0].hears() == Query(2, BODY)
    members[0].says(QueryReply(1, 0, 5, b""))
    assert not caller.receive(4)
    caller.socket.close()


def test_there_is_one_for_each_body(members: list[Member]) -> None:
    cluster = Cluster.make("bench", "vsr", [place.socket.getsockname() for place in members])
    callers = clients_of(LeanCaller, cluster, [BODY, BODY, BODY], reads=False)
    assert len({caller.socket.getsockname() for caller in callers}) == 3
    for caller in callers:
        caller.socket.close()
