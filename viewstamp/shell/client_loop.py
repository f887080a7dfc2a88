"""The loop of a client: its session, its socket, and whoever asks members how they see themselves."""

from __future__ import annotations

from random import Random

import trio

from transport.codec import CodecError, MessageCodec
from transport.endpoint import Endpoint
from transport.endpoint_statistics import EndpointStatistics
from transport.frame import FrameIdentity
from transport.interface import Transport
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.shell.addresses import Addresses
from viewstamp.shell.idle import Idle, monotonic_ns
from viewstamp.shell.parking import Parking
from viewstamp.status import Status, decode_status
from viewstamp.wire import (
    BODY_MESSAGES,
    FIRST_CLIENT_ID,
    NotPrimary,
    QueryReply,
    Reply,
    StatusReply,
    StatusRequest,
    post,
)

_TURN_DATAGRAMS = 256
_STATUS_RETRY_S = 0.2


class ClientLoop:
    """One client, for `open_client`, which runs and closes it. Services have a `Client` of it."""

    def __init__(self, cluster: Cluster, transport: Transport, random: Random) -> None:
        self.cluster = cluster
        self.parking = Parking(ClientSession.of(cluster, random=random), Idle(transport))
        self._session = self.parking.session
        self._idle = self.parking.idle
        self._current_time = trio.lowlevel.current_clock().current_time
        self._codec = MessageCodec(BODY_MESSAGES, {})
        sender = FIRST_CLIENT_ID + random.getrandbits(62)
        identity = FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, sender, 1)
        self._endpoint = Endpoint(identity, datagram_bytes=cluster.datagram_bytes)
        self._transport = transport
        self._random = random
        self._heard: dict[int, int] = {}
        self._statuses: dict[int, tuple[trio.Event, list[Status]]] = {}
        self.addresses = Addresses(cluster, self._endpoint, transport, 0)

    def statistics(self) -> EndpointStatistics:
        """Counts of this client's datagrams since it was opened."""
        return self._endpoint.statistics()

    async def status(self, member: int) -> Status | None:
        """Ask a member how it sees itself, again and again until it answers; None if this is closed first."""
        nonce = self._random.getrandbits(62)
        arrived, statuses = trio.Event(), list[Status]()
        self._statuses[nonce] = (arrived, statuses)
        try:
            while not statuses:
                if self.parking.closed:
                    return None
                self._endpoint.send(member, self._codec.encode(StatusRequest(nonce)))
                self._idle.wake()
                with trio.move_on_after(_STATUS_RETRY_S):
                    await arrived.wait()
        finally:
            del self._statuses[nonce]
        return statuses[0]

    async def run(self) -> None:
        """Turn after turn. Ends only by cancellation."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.addresses.keep_fresh, self._silence)
            await self._idle.between(self._turn)

    def _turn(self) -> int | None:
        now = monotonic_ns(self._current_time)
        arrived = self._transport.receive(_TURN_DATAGRAMS)
        for datagram, address in arrived:
            for sender, _, data in self._endpoint.receive(datagram, address, now):
                self._dispatch(sender, data, now)
        session = self._session
        if now >= session.deadline and len(arrived) < _TURN_DATAGRAMS:
            session.tick(now, self._endpoint.heard_part_at(session.target))
        for to, message in session.take_messages():
            post(self._endpoint, self._codec, to, message)
        for datagram, address in self._endpoint.flush(now):
            self._transport.send(datagram, address)
        self.parking.deliver(session.take_completions())
        return min(session.deadline, self._endpoint.deadline) if len(arrived) < _TURN_DATAGRAMS else None

    def _dispatch(self, sender: int, data: bytes, now: int) -> None:
        try:
            message = self._codec.decode(data)
        except CodecError:
            return
        self._heard[sender] = now
        if isinstance(message, Reply | QueryReply | NotPrimary):
            self._session.receive(sender, message, now)
        elif isinstance(message, StatusReply) and message.nonce in self._statuses:
            arrived, statuses = self._statuses[message.nonce]
            try:
                statuses.append(decode_status(message.body))
            except CodecError:
                return
            arrived.set()

    def _silence(self) -> dict[int, int]:
        if not self._session.in_flight and not self._statuses:
            # Who is asked nothing says nothing. A thousand clients that wait for work are not to ask a name server.
            return {member.id: 0 for member in self.cluster.members}
        now = monotonic_ns(self._current_time)
        return {member: now - heard for member, heard in self._heard.items()}

    def close(self) -> None:
        """The loop has ended: release whoever waits."""
        self.parking.close()
