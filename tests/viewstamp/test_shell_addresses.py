"""Names of members, as real sockets meet them: of which family they are, and when they do not resolve."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from statemachine import Counter
from transport.endpoint import Endpoint
from transport.fabric import FabricTransport, open_fabric
from transport.frame import FrameIdentity
from transport.interface import Address, TransportError
from viewstamp.cli.demo.members import free_ports
from viewstamp.cluster import Cluster, Member
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.shell.addresses import Addresses, listen_on_ipv6
from viewstamp.shell.client import _own_host, open_client
from viewstamp.shell.opening import open_replica
from viewstamp.shell.replica import RunningReplica

FAMILY = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class Names(trio.abc.HostnameResolver):
    """Gives one name these addresses, in this order, as a system's own list of hosts does."""

    def __init__(self, addresses: Sequence[str], name: str = "localhost") -> None:
        self.addresses = addresses
        self.name = name

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - named so by Trio
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if host not in (self.name, self.name.encode()):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        found = [(FAMILY[each], each) for each in self.addresses if family in (0, FAMILY[each])]
        if not found and flags & socket.AI_V4MAPPED:
            found = [(socket.AF_INET6, "::ffff:" + each) for each in self.addresses]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (of, type, 17, "", (each, int(port)) if of == socket.AF_INET else (each, int(port), 0, 0))
            for of, each in found
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
async def test_a_client_reaches_members_at_localhost_whichever_address_that_has_first(addresses: list[str]) -> None:
    if not socket.has_ipv6:
        addresses = addresses[:1]
    trio.socket.set_custom_hostname_resolver(Names(addresses))
    (port,) = free_ports(1)
    await call_over(Cluster.make("named", "vsr", [("localhost", port)], storage="memory"))


@pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
async def test_members_at_localhost_that_listen_elsewhere_are_reached(addresses: list[str]) -> None:
    trio.socket.set_custom_hostname_resolver(Names(addresses))
    (port,) = free_ports(1)
    members = (Member(1, "localhost", port, bind_host="0.0.0.0"),)
    await call_over(Cluster("named", b"localhos", "vsr", members, storage="memory"))


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
async def test_a_client_reaches_a_member_whose_name_has_addresses_of_both_families(addresses: list[str]) -> None:
    """The member listens on the first of them. That another name does not resolve changes nothing."""
    trio.socket.set_custom_hostname_resolver(Names(addresses, "one.example"))
    (port,) = free_ports(1)
    await call_over(Cluster.make("named", "vsr", [("one.example", port)], storage="memory"))
    assert await _own_host(Cluster.make("named", "vsr", [("two.example", 7000), ("one.example", port)])) == (
        "::" if addresses[0] == "::1" else "0.0.0.0"
    )


@pytest.mark.parametrize("addresses", [["127.0.0.1", "::1"], ["::1", "127.0.0.1"]])
async def test_a_client_reaches_a_member_that_listens_on_all_addresses_of_one_family(addresses: list[str]) -> None:
    trio.socket.set_custom_hostname_resolver(Names(addresses, "one.example"))
    (port,) = free_ports(1)
    members = (Member(1, "one.example", port, bind_host="0.0.0.0"),)
    await call_over(Cluster("named", b"onefamil", "vsr", members, storage="memory"))


async def test_no_name_is_looked_up_for_a_client_whose_members_have_addresses() -> None:
    trio.socket.set_custom_hostname_resolver(Names([], "nothing.example"))
    assert await _own_host(Cluster.make("named", "vsr", [("192.0.2.1", 7000)])) == "0.0.0.0"
    assert await _own_host(Cluster.make("named", "vsr", [("2001:db8::1", 7000)])) == "::"


async def test_a_client_waits_a_while_to_learn_where_members_listen(autojump_clock: MockClock) -> None:
    class Silent(Names):
        async def getaddrinfo(self, *arguments: Any, **options: Any) -> list[Any]:
            await trio.sleep(20)
            return await super().getaddrinfo(*arguments, **options)

    trio.socket.set_custom_hostname_resolver(Silent(["::1"], "one.example"))
    began = trio.current_time()
    assert await _own_host(Cluster.make("named", "vsr", [("one.example", 7000)])) == "0.0.0.0"
    assert trio.current_time() - began == 2


async def test_names_that_no_thread_can_be_had_to_look_up_are_names_that_do_not_resolve() -> None:
    class NoThreads(Names):
        async def getaddrinfo(self, *arguments: Any, **options: Any) -> list[Any]:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("can't start new thread")

    trio.socket.set_custom_hostname_resolver(NoThreads(["::1"]))
    assert not await listen_on_ipv6(["localhost"])


async def call_over(cluster: Cluster) -> None:
    with trio.fail_after(5):
        async with open_replica(Counter, cluster, 1) as replica:
            await replica.wait_ready()
            async with open_client(cluster, Counter) as client:
                assert await client.call(Counter.add, 2) == 2


async def test_a_name_whose_server_does_not_answer_holds_up_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of five names are looked up for 20 seconds each, in vain: a start waits for them a little, and once."""
    hosts = ("one.example", "two.example", "three.example", "four.example", "five.example")
    cluster = Cluster.make("named", "vsr", [(host, 7000) for host in hosts])
    resolved: list[tuple[float, str]] = []

    class Resolving(FabricTransport):
        async def resolve(self, host: str, port: int) -> Address:
            if host in ("two.example", "three.example"):
                await trio.sleep(20)
                raise TransportError("the server does not answer")
            resolved.append((trio.current_time() - began, host))
            return (host, port)

    async with open_fabric(1) as fabric:
        transport = Resolving(fabric, ("client", 1), 10)
        endpoint = Endpoint(FrameIdentity(b"cluster!", b"digest!!", 0, 0, 1 << 32, 1))
        addresses = Addresses(cluster, endpoint, transport, 1)
        began = trio.current_time()
        await addresses.resolve_all()
        assert trio.current_time() - began == 2
        assert sorted(resolved) == [(0, "five.example"), (0, "four.example")]
        assert caplog.messages == [
            "member 2 is not reached: two.example has not resolved in 2 s; trying again",
            "member 3 is not reached: three.example has not resolved in 2 s; trying again",
        ]
        resolved.clear()
        with trio.move_on_after(10):
            await addresses.keep_fresh(lambda: {4: 0})
        assert resolved == [(seconds, "five.example") for seconds in (4, 6, 8, 10)]


async def test_a_client_looks_for_new_addresses_while_it_waits_for_an_answer_and_not_when_it_is_idle(
    autojump_clock: MockClock,
) -> None:
    cluster = Cluster.make("named", "vsr", [("one.example", 7000), ("two.example", 7000)])
    resolved: list[str] = []

    class Resolving(FabricTransport):
        async def resolve(self, host: str, port: int) -> Address:
            resolved.append(host)
            return await super().resolve(host, port)

    async with open_fabric(1) as fabric:
        transport = Resolving(fabric, ("client", 1), 10)
        async with open_client(cluster, Counter, transport=transport) as client:
            await trio.sleep(60)
            assert sorted(resolved) == ["one.example", "two.example"]
            with trio.move_on_after(9):
                await client.call(Counter.add, 1)
            assert resolved.count("one.example") >= 4
            assert resolved.count("two.example") >= 4


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize(("away_s", "late_s"), [(0.5, 0), (10, 0), (10, 30)])
async def test_a_member_that_comes_back_at_another_address_is_found(
    autojump_clock: MockClock, protocol: str, away_s: float, late_s: float
) -> None:
    """Its name is changed when it starts, or later. It asks for what it missed, so that the others hear it all the
    time; but their answers go to where it was.
    """
    hosts = {number: f"{number}.example" for number in (1, 2, 3)}
    cluster = Cluster.make("moving", protocol, [(host, 7000) for host in hosts.values()])
    places = {host: f"first {host}" for host in hosts.values()}
    disks = {number: SimulatedDisk(Random(number)) for number in hosts}
    replicas: dict[int, RunningReplica[Any]] = {}

    class Named(FabricTransport):
        async def resolve(self, host: str, port: int) -> Address:
            await trio.lowlevel.checkpoint()
            return places[host], port

    async with open_fabric(1) as fabric, trio.open_nursery() as nursery:

        async def run(
            member: int, place: str, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
        ) -> None:
            transport = Named(fabric, (place, 7000), 4096)
            fabric._transports[place, 7000] = transport
            files = disks[member].files()
            with trio.CancelScope() as scope:
                async with open_replica(
                    Counter, cluster, member, transport=transport, files=files, random=Random(member)
                ) as replica:
                    replicas[member] = replica
                    task_status.started(scope)
                    await trio.sleep_forever()

        scopes = {number: await nursery.start(run, number, places[host]) for number, host in hosts.items()}
        with trio.fail_after(120):
            assert await replicas[1].call(Counter.add, 1) == 1
            scopes[3].cancel()
            await trio.sleep(away_s)
            await nursery.start(run, 3, "another place")
            await trio.sleep(late_s)
            places[hosts[3]] = "another place"
            assert await replicas[1].call(Counter.add, 1) == 2
            with trio.fail_after(5):
                assert await replicas[3].read(Counter.get) == 2
        nursery.cancel_scope.cancel()
