"""`open_client`: a client of a cluster under Trio, shared by as many tasks as like."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom

import trio

from statemachine import Query, StateMachine
from transport.codec import CodecError, MessageCodec
from transport.endpoint import Endpoint
from transport.endpoint_statistics import EndpointStatistics
from transport.frame import Identity
from transport.interface import Transport
from transport.udp import UdpTransport
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.shell.addresses import Addresses, listen_on_ipv6
from viewstamp.shell.callers import Callers, P, R
from viewstamp.shell.idle import Idle, monotonic_ns
from viewstamp.shell.scope import background
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


class Client(Callers):
    """A session with a cluster. Made by `open_client`; calls of many tasks share it, each executed once."""

    def __init__(
        self, machine_class: type[StateMachine], cluster: Cluster, transport: Transport, random: Random
    ) -> None:
        session = ClientSession.of(cluster, random=random)
        super().__init__(machine_class, cluster.max_command_bytes, session, Idle(transport))
        self._cluster = cluster
        self._codec = MessageCodec(BODY_MESSAGES, {})
        sender = FIRST_CLIENT_ID + random.getrandbits(62)
        identity = Identity(cluster.cluster_id, cluster.digest, 0, 0, sender, 1)
        self._endpoint = Endpoint(identity, datagram_bytes=cluster.datagram_bytes)
        self._transport = transport
        self._random = random
        self._heard: dict[int, int] = {}
        self._statuses: dict[int, tuple[trio.Event, list[Status]]] = {}
        self.addresses = Addresses(cluster, self._endpoint, transport, 0)

    @property
    def cluster(self) -> Cluster:
        """The cluster that it is a client of."""
        return self._cluster

    def statistics(self) -> EndpointStatistics:
        """Counts of this client's datagrams since it was opened."""
        return self._endpoint.statistics()

    async def read_from(self, member: int, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A linearizable read as `read`, but served by this member from its own state; waits until it answers.

        For comparing members: what this returns is what that member has applied.

        Raises:
          UnknownMemberError: the cluster has no such member; and what `read` does.
        """
        self._cluster.member(member)
        body = self._encoded(Query, query, args, kwargs)
        self._refuse_if_closed()
        parked = self._park(self._session.query(body, monotonic_ns(self._current_time), member))
        await trio.lowlevel.wait_task_rescheduled(parked)
        result: R = self._result(parked)
        return result

    async def status(self, member: int) -> Status:
        """Ask one member how it sees itself. Waits until it answers: bound it with `trio.move_on_after`.

        Raises:
          UnknownMemberError: the cluster has no such member.
          ClosedError: this client was closed first.
        """
        self._cluster.member(member)
        self._refuse_if_closed()
        nonce = self._random.getrandbits(62)
        arrived, statuses = trio.Event(), list[Status]()
        self._statuses[nonce] = (arrived, statuses)
        try:
            while not statuses:
                self._refuse_if_closed()
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
        self._deliver(session.take_completions())
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
            return {member.id: 0 for member in self._cluster.members}
        now = monotonic_ns(self._current_time)
        return {member: now - heard for member, heard in self._heard.items()}

    def close(self) -> None:
        """The loop has ended: release whoever waits."""
        self._close()


@asynccontextmanager
async def open_client(
    cluster: Cluster,
    machine: type[StateMachine] | Callable[[], StateMachine] = StateMachine,
    *,
    transport: Transport | None = None,
    random: Random | None = None,
) -> AsyncGenerator[Client, None]:
    """Open a client of a cluster for as long as the block lasts.

    `machine` is what the cluster replicates (its class will do): from it calls know the errors that commands raise;
    without it they come as RemoteCommandError. The other arguments replace parts of the world, for tests.

    It finds the primary and follows it, retries with back-off and the same request number, and shares one session among
    all tasks that use it. Opening waits for names to be looked up, two seconds at most each time, and for no member: a
    cluster that is down shows in the first call, which waits.

    Raises:
      TransportError: no socket could be opened.
    """
    machine_class = machine if isinstance(machine, type) else type(machine())
    opened = transport if transport is not None else await UdpTransport.open(await _own_host(cluster), 0)
    try:
        client = Client(
            machine_class, cluster, opened, random if random is not None else Random(SystemRandom().getrandbits(256))
        )
        await client.addresses.resolve_all()
        async with background(client.run, client.close):
            yield client
    finally:
        opened.close()  # At once: a checkpoint here would hide what a block that was cancelled raises.


async def _own_host(cluster: Cluster) -> str:
    """Where a client's socket is bound, so that it reaches all members."""
    hosts = {member.host for member in cluster.members}
    bound = {member.bind_address[0] for member in cluster.members}
    if hosts | bound == {"localhost"}:
        return "localhost"  # IPv4 or IPv6: what the members' own sockets, bound to that name, came to.
    has_ipv6 = any(":" in host for host in hosts)
    if hosts <= {"127.0.0.1", "localhost", "::1"}:
        return "::1" if has_ipv6 else "127.0.0.1"  # A cluster on this machine is reached by loopback alone.
    if has_ipv6 or await listen_on_ipv6(bound):
        return "::"
    return "0.0.0.0"  # noqa: S104 - a client has no address of its own to name
