"""Clusters under Trio in one process: members on an in-memory network and simulated disks, time from a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

import trio

from statemachine import Command, CommandError, StateMachine, command, query
from transport.fabric import Fabric, FabricTransport, open_fabric
from transport.network import LinkFaults
from viewstamp.cluster import Cluster, ClusterOptions, Member
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.protocol import Core
from viewstamp.shell.client import Client, open_client
from viewstamp.shell.opening import open_replica
from viewstamp.shell.replica import RunningReplica

HOST = "127.0.0.1"
EPOCH_NS = 1_700_000_000_000_000_000


class InsufficientFunds(CommandError):  # noqa: N818 - named as services name theirs
    """The account does not hold that much."""

    balance: int


class Account(StateMachine):
    """Money, and the ways in which a command can fail. `fuse`: a withdrawal that this copy alone cannot survive."""

    def __init__(self, fuse: int | None = None) -> None:
        self.balance = 0
        self.executed = 0
        self._fuse = fuse

    @command
    def deposit(self, amount: int) -> int:
        self.executed += 1
        self.balance += amount
        return self.balance

    @command
    def withdraw(self, amount: int) -> int:
        if amount == self._fuse:
            raise RecursionError("out of stack")
        if amount > self.balance:
            raise InsufficientFunds(balance=self.balance)
        self.balance -= amount
        return self.balance

    @command
    def stumble(self) -> None:
        raise KeyError("a defect")

    @command
    def note(self, text: str) -> int:
        return len(text)

    @query
    def read_balance(self) -> int:
        return self.balance


class Stranger(StateMachine):
    """A machine that the cluster does not run."""

    @command
    def unheard_of(self) -> None:
        """Nobody knows it."""


def wall_clock() -> int:
    """The wall clock of a simulated world: it stands still unless Trio's does not."""
    return EPOCH_NS + round(trio.current_time() * 1e9)


class Running:
    """Members that run in a nursery, each in a scope of its own. Their disks outlive them, unless the cluster keeps its
    data in memory. `failures` holds what ended those that failed.
    """

    def __init__(self, fabric: Fabric, nursery: trio.Nursery, cluster: Cluster, random: Random) -> None:
        self.fabric = fabric
        self.cluster = cluster
        self.random = random
        self.ids = tuple(member.id for member in cluster.members)
        self.disks = {member: SimulatedDisk(Random(random.getrandbits(64))) for member in self.ids}
        self.replicas: dict[int, RunningReplica[Any]] = {}
        self.failures: dict[int, BaseException] = {}
        self.wall_clock: Callable[[], int] = wall_clock
        self._nursery = nursery
        self._scopes: dict[int, tuple[trio.CancelScope, trio.Event]] = {}
        self._clients = 0

    def open_member(
        self,
        member: int,
        machine: Callable[[], StateMachine] = Account,
        *,
        transport: FabricTransport | None = None,
        protocol: type[Core] | None = None,
    ) -> AbstractAsyncContextManager[RunningReplica[Any]]:
        """`open_replica` for this member."""
        return open_replica(
            machine,
            self.cluster,
            member,
            "unused",
            transport=transport if transport is not None else self.fabric.open(self.address(member)),
            files=self.disks[member].files() if self.cluster.storage == "disk" else None,
            protocol=protocol,
            random=Random(self.random.getrandbits(64)),
            wall_clock=self.wall_clock,
        )

    def open_client(
        self, machine: type[StateMachine] = Account, transport: FabricTransport | None = None
    ) -> AbstractAsyncContextManager[Client]:
        """`open_client`, at an address of its own."""
        self._clients += 1
        return open_client(
            self.cluster,
            machine,
            transport=transport if transport is not None else self.fabric.open((HOST, 9000 + self._clients)),
            random=Random(self.random.getrandbits(64)),
        )

    def address(self, member: int) -> tuple[str, int]:
        """Where a member is reached."""
        return self.cluster.member(member).address

    async def start(self, member: int, machine: Callable[[], StateMachine] = Account) -> RunningReplica[Any]:
        """Start a member on what its disk holds."""
        replica: RunningReplica[Any] = await self._nursery.start(self._run, member, machine)
        return replica

    async def _run(
        self,
        member: int,
        machine: Callable[[], StateMachine],
        *,
        task_status: trio.TaskStatus[RunningReplica[Any]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        ended = trio.Event()
        try:
            with trio.CancelScope() as scope:
                self._scopes[member] = scope, ended
                async with self.open_member(member, machine) as replica:
                    self.replicas[member] = replica
                    task_status.started(replica)
                    await trio.sleep_forever()
        except Exception as failure:  # noqa: BLE001 - what it was is the test's to look at
            self.failures[member] = failure
        finally:
            self.replicas.pop(member, None)
            ended.set()

    async def start_all(self, machine: Callable[[], StateMachine] = Account) -> None:
        """Start every member that is not running, and wait until all take part."""
        for member in self.ids:
            if member not in self.replicas:
                await self.start(member, machine)
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Wait until all that run take part."""
        with trio.fail_after(10):
            for replica in list(self.replicas.values()):
                await replica.wait_ready()

    async def stop(self, member: int) -> None:
        """Cancel a member's scope, as a service around it would."""
        scope, ended = self._scopes[member]
        scope.cancel()
        await ended.wait()

    async def wait_ended(self, member: int) -> BaseException:
        """Wait until a member has failed; returns what ended it."""
        with trio.fail_after(10):
            await self._scopes[member][1].wait()
        return self.failures[member]

    async def wait_primary(self, *, other_than: int = 0) -> int:
        """Wait until one of the running members leads."""
        with trio.fail_after(10):
            while True:
                for member, replica in self.replicas.items():
                    if replica.is_primary and member != other_than:
                        return member
                await trio.sleep(0.01)


@asynccontextmanager
async def running(
    seed: int = 1,
    *,
    members: int = 3,
    faults: LinkFaults | None = None,
    machine: Callable[[], StateMachine] = Account,
    protocol: str = "vsr",
    options: ClusterOptions | None = None,
) -> AsyncIterator[Running]:
    """A cluster whose members all run and take part; ended, whatever its state, with the block."""
    async with unstarted(seed, members=members, faults=faults, protocol=protocol, options=options) as cluster:
        await cluster.start_all(machine)
        yield cluster


@asynccontextmanager
async def unstarted(
    seed: int = 1,
    *,
    members: int = 3,
    faults: LinkFaults | None = None,
    protocol: str = "vsr",
    options: ClusterOptions | None = None,
) -> AsyncIterator[Running]:
    """A cluster of which no member runs yet."""
    random = Random(seed)
    cluster = Cluster(
        name="running",
        cluster_id=seed.to_bytes(8, "big"),
        protocol=protocol,
        members=tuple(Member(number, HOST, 7000 + number) for number in range(1, members + 1)),
        **(options or {}),
    )
    async with open_fabric(random.getrandbits(64), faults) as fabric, trio.open_nursery() as nursery:
        yield Running(fabric, nursery, cluster, random)
        nursery.cancel_scope.cancel()


async def call_for(client: Client, seconds: float, amount: int, command: Command[[int], int] = Account.deposit) -> bool:
    """A call that is given up after a while; whether it was answered."""
    with trio.move_on_after(seconds):
        await client.call(command, amount)
        return True
    return False
