"""`open_client`: a client of a cluster under Trio, shared by as many tasks as like."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom

import trio

from statemachine import Query, StateMachine
from transport.endpoint_statistics import EndpointStatistics
from transport.interface import Transport
from transport.udp import UdpTransport
from viewstamp.cluster import Cluster
from viewstamp.shell.addresses import listen_on_ipv6
from viewstamp.shell.callers import Callers, ClosedError, P, R
from viewstamp.shell.client_loop import ClientLoop
from viewstamp.shell.idle import monotonic_ns
from viewstamp.shell.scope import background
from viewstamp.status import Status


class Client(Callers):
    """A session with a cluster. Made by `open_client`; calls of many tasks share it, each executed once."""

    def __init__(self, machine_class: type[StateMachine], loop: ClientLoop) -> None:
        super().__init__(machine_class, loop.cluster.max_command_bytes, loop.parking)
        self._loop = loop

    @property
    def cluster(self) -> Cluster:
        """The cluster that it is a client of."""
        return self._loop.cluster

    def statistics(self) -> EndpointStatistics:
        """Counts of this client's datagrams since it was opened."""
        return self._loop.statistics()

    async def read_from(self, member: int, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A linearizable read as `read`, but served by this member from its own state; waits until it answers.

        For comparing members: what this returns is what that member has applied.

        Raises:
          UnknownMemberError: the cluster has no such member; and what `read` does.
        """
        self.cluster.member(member)
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
        self.cluster.member(member)
        self._refuse_if_closed()
        status = await self._loop.status(member)
        if status is None:
            raise ClosedError(sent=False)
        return status


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
        seeded = random if random is not None else Random(SystemRandom().getrandbits(256))
        loop = ClientLoop(cluster, opened, seeded)
        await loop.addresses.resolve_all()
        async with background(loop.run, loop.close):
            yield Client(machine_class, loop)
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
