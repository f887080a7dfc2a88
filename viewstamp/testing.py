"""Whole clusters in a service's own tests: members and clients in one process, on a network and disks in memory.

Nothing here needs sockets, files or threads, and all time is Trio's: under `trio.testing.MockClock` (the fixture
`autojump_clock` of pytest-trio) a time-out of ten seconds takes none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import permutations
from random import Random
from types import MappingProxyType
from typing import Any, Generic, TypeVar, TypeVarTuple, Unpack

import trio

from statemachine import StateMachine
from transport.fabric import Fabric, open_fabric
from transport.network import LinkFaults, Network
from viewstamp.cluster import Cluster, ClusterOptions
from viewstamp.journal.simulated import Crash, DeadProcessError, Operation, SimulatedCrashError, SimulatedDisk
from viewstamp.protocol import SECOND
from viewstamp.shell.callers import ClosedError
from viewstamp.shell.client import Client, open_client
from viewstamp.shell.opening import open_replica
from viewstamp.shell.parts import Parts
from viewstamp.shell.replica import RunningReplica
from viewstamp.shell.scope import background, leaves

__all__ = [
    "Crash",
    "LinkFaults",
    "Network",
    "Operation",
    "SimulatedCrashError",
    "SimulatedDisk",
    "TestCluster",
    "open_test_cluster",
]

M = TypeVar("M", bound=StateMachine)
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_HOST = "127.0.0.1"
_FIRST_PORT = 7401
_FIRST_CLIENT_PORT = 20_001
_EPOCH_NS = 1_700_000_000 * SECOND
_POLL_S = 0.01


@asynccontextmanager
async def open_test_cluster(
    machine: Callable[[], M],
    *,
    members: int = 3,
    protocol: str = "vsr",
    seed: int = 0,
    faults: LinkFaults | None = None,
    **options: Unpack[ClusterOptions],
) -> AsyncGenerator[TestCluster[M], None]:
    """Run all members of a new cluster for as long as the block lasts; it begins when each of them is ready.

    `machine` makes the state machine (its class will do). Members have the ids 1, 2, ... `faults` is what the network
    does to every datagram, until `network.faults` is replaced. `options` are those of `Cluster.make`: sessions expire
    soon with `max_sessions=2`, a snapshot is taken soon with `snapshot_entries=10`.

    `seed` draws faults and time-outs. The order in which Trio runs tasks it does not, so runs of one seed can differ:
    what replays to the byte is `viewstamp fuzz --machine`.

    Raises:
      ClusterError: there cannot be such a cluster.
      StorageFailedError, DataLostError, ...: what ends a member, as itself; see `open_replica`. It ends the block.

    An exception from the block itself leaves as it is.
    """
    random = Random(seed)
    addresses = [(_HOST, _FIRST_PORT + number) for number in range(members)]
    cluster = Cluster.make("test", protocol, addresses, **options)
    async with open_fabric(random.getrandbits(64), faults) as fabric:
        processes = _Processes()
        test = TestCluster(machine, cluster, fabric, processes, random)
        async with background(processes.run):
            await processes.begun.wait()
            for member in cluster.members:
                await test.start(member.id)
            for replica in test.replicas.values():
                await replica.wait_ready()
            yield test


class _Processes:
    """Where members run: in one nursery, whose end, or whose failure, is that of all of them."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self._over = False

    async def run(self) -> None:
        """Until cancelled, or until one fails."""
        async with trio.open_nursery() as self._nursery:
            self.begun.set()
            try:
                await trio.sleep_forever()
            finally:
                self._over = True

    def check(self) -> None:
        """Raise trio.ClosedResourceError once nothing can run here any more."""
        if self._over:
            raise trio.ClosedResourceError("the block of this open_test_cluster has ended")

    async def start(self, run: Callable[..., Awaitable[object]], *args: object) -> Any:
        """As `nursery.start`."""
        return await self._nursery.start(run, *args)


class _Life:
    """One process of a member, from its start to its end."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


class TestCluster(Generic[M]):
    """Members that run, and what may happen to them. Made by `open_test_cluster`."""

    __test__ = False  # A name that pytest would take for a class of tests.

    def __init__(
        self, machine: Callable[[], M], cluster: Cluster, fabric: Fabric, processes: _Processes, random: Random
    ) -> None:
        self._machine = machine
        self._cluster = cluster
        self._fabric = fabric
        self._processes = processes
        self._random = random
        self._disks = {member.id: SimulatedDisk(self._stream(), f"disk-{member.id}") for member in cluster.members}
        self._replicas: dict[int, RunningReplica[M]] = {}
        self._lives: dict[int, _Life] = {}
        self._clients = 0

    def _stream(self) -> Random:
        return Random(self._random.getrandbits(64))

    @property
    def cluster(self) -> Cluster:
        """What its members and clients agree on.

        Not for `viewstamp.open_client`: that uses a socket, and hears none of these members. A service that opens a
        client of its own is given this object's `open_client` in the place of that.
        """
        return self._cluster

    @property
    def network(self) -> Network:
        """Between members and clients, for what `isolate` and `partition` cannot say; members are known by address."""
        return self._fabric.network

    @property
    def disks(self) -> Mapping[int, SimulatedDisk]:
        """Each member's, to make it fail or crash. In a cluster with `storage = "memory"` nobody uses them."""
        return MappingProxyType(self._disks)

    @property
    def replicas(self) -> Mapping[int, RunningReplica[M]]:
        """Those that run now."""
        return MappingProxyType(self._replicas)

    def open_client(
        self, machine: type[StateMachine] | Callable[[], StateMachine] | None = None
    ) -> AbstractAsyncContextManager[Client]:
        """`open_client` for this cluster, at an address of its own; of its state machine, unless told of another."""
        self._processes.check()
        self._clients += 1
        transport = self._fabric.open((_HOST, _FIRST_CLIENT_PORT + self._clients))
        return open_client(
            self._cluster,
            machine if machine is not None else self._machine,
            transport=transport,
            random=self._stream(),
        )

    async def wait_primary(self, *, other_than: int = 0) -> RunningReplica[M]:
        """Wait until a member leads that is linked to a majority, itself included, and return its replica.

        It is the one that will go on leading, if nothing happens: a primary that was just cut off is not waited for to
        learn of it. Without a majority there is no end: bound it with `trio.fail_after`.
        """
        self._processes.check()
        while True:
            for member, replica in self._replicas.items():
                if member != other_than and replica.is_primary and self._has_majority(member):
                    return replica
            await trio.sleep(_POLL_S)

    def _has_majority(self, member: int) -> bool:
        linked = sum(self._linked(member, other) and self._linked(other, member) for other in self._replicas)
        return linked > len(self._cluster.members) // 2

    def _linked(self, source: int, destination: int) -> bool:
        return source == destination or not self.network.is_cut(self._address(source), self._address(destination))

    # Processes.

    async def start(self, member: int) -> RunningReplica[M]:
        """Start a member that does not run, on what its disk holds. Returns at once, not when it is ready.

        Raises:
          UnknownMemberError: the cluster has no such member.
          ValueError: it runs already.
          JournalError, SnapshotError: it cannot start on what its disk holds.
          SimulatedCrashError: before it ran, a crash came that was planned on its disk, or another task ended it.
        """
        self._cluster.member(member)
        self._processes.check()
        if member in self._lives:
            raise ValueError(f"member {member} runs already")
        self._lives[member] = life = _Life()  # At once, so that what ends the member from now on does end this start.
        replica: RunningReplica[M] = await self._processes.start(self._live, member, life)
        return replica

    async def _live(self, member: int, life: _Life, *, task_status: trio.TaskStatus[RunningReplica[M]]) -> None:
        crash: BaseException | None = None
        begun = False
        try:
            with life.scope:
                async with open_replica(
                    self._machine,
                    self._cluster,
                    member,
                    transport=self._fabric.open(self._address(member)),
                    files=self._disks[member].files() if self._cluster.storage == "disk" else None,
                    random=self._stream(),
                    wall_clock=_wall_clock,
                    parts=Parts(run_sync=_run_sync),
                ) as replica:
                    self._replicas[member] = replica
                    task_status.started(replica)
                    begun = True
                    await trio.sleep_forever()
        except* (SimulatedCrashError, DeadProcessError) as crashes:
            crash = next(leaves(crashes))
        finally:
            self._replicas.pop(member, None)
            del self._lives[member]
            life.ended.set()
        if not begun and (crash is not None or life.scope.cancelled_caught):  # Whoever starts it is to know.
            raise crash if isinstance(crash, SimulatedCrashError) else SimulatedCrashError(Crash.KILLED)

    async def stop(self, member: int) -> None:
        """A planned stop: it hands over, if it leads and another can, and ends. No matter if it does not run."""
        life, replica = self._life(member), self._replicas.get(member)
        if replica is not None:
            # It may end before it has handed over: by a crash that was planned, or because another task kills it.
            with trio.move_on_after(self._cluster.timeouts.suspect / SECOND), suppress(ClosedError):
                await replica.hand_over()
        await self._end(life)

    async def kill(self, member: int) -> None:
        """As SIGKILL does: it ends at once, and what it had written stays. No matter if it does not run."""
        life = self._life(member)
        self._disks[member].kill()
        await self._end(life)

    async def lose_power(self, member: int) -> None:
        """Its machine loses power: it ends at once, and any of what it had not synced may be gone."""
        life = self._life(member)
        self._disks[member].lose_power()
        await self._end(life)

    async def lose_disk(self, member: int) -> None:
        """Its machine breaks: it ends at once, and starts with an empty disk."""
        life = self._life(member)
        self._disks[member].wipe()
        await self._end(life)

    def _life(self, member: int) -> _Life | None:
        self._cluster.member(member)
        return self._lives.get(member)

    async def _end(self, life: _Life | None) -> None:
        if life is not None:
            life.scope.cancel()
            await life.ended.wait()
        await trio.lowlevel.checkpoint()

    # Links.

    def isolate(self, member: int) -> None:
        """Cut a member off from all others and from clients, until `heal`."""
        self.network.isolate(self._address(member))

    def partition(self, *groups: Iterable[int]) -> None:
        """Let members hear those of their own group only, until `heal`. Those that are not named are a group, too.

        Clients hear all of them: `isolate` and `network` cut those off.

        Raises:
          UnknownMemberError: the cluster has no such member.
          ValueError: a member is in two groups.
        """
        group_of: dict[int, int] = {}
        for number, group in enumerate(groups, 1):
            for member in group:
                self._cluster.member(member)
                if group_of.setdefault(member, number) != number:
                    raise ValueError(f"member {member} is in two groups")
        for source, destination in permutations(self._disks, 2):
            if group_of.get(source) != group_of.get(destination):
                self.network.cut(self._address(source), self._address(destination))

    def heal(self) -> None:
        """End every isolation, partition and cut. Faults stay."""
        self.network.heal()

    def _address(self, member: int) -> tuple[str, int]:
        return self._cluster.member(member).address


def _wall_clock() -> int:
    """The wall clock of this world: it goes as Trio's goes, so that `context.time_ns` does, too."""
    return _EPOCH_NS + round(trio.current_time() * SECOND)


async def _run_sync(sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
    """In the place of a thread, during which a mock clock would jump ahead and views change without end."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)
