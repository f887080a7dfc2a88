"""What a replica in the Trio shell is given in a simulated world: a transport, files, a way to block, a watch."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar, TypeVarTuple

import trio

from statemachine import Executor, StateMachine
from transport.fabric import FabricTransport
from transport.interface import Address, Transport, TransportStatistics
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.journal import StorageFailedError
from viewstamp.journal.simulated import Crash, DeadProcessError, SimulatedCrashError, SimulatedFiles
from viewstamp.protocol import MILLISECOND, Core, Snapshot, Time
from viewstamp.replica import FileTask, Replica, Stored, Turn
from viewstamp.shell.idle import Idle
from viewstamp.shell.replica import RunningReplica
from viewstamp.simulation.inhabitants import Node

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

LONGEST_IN_LOOP_NS = 9 * MILLISECOND
"""Just longer than what makes the shell hand its syncs to a thread."""


class Surveyor:
    """What a simulated world is told by the lives of its members."""

    now: int
    events: int
    collect_bytes: int

    @abstractmethod
    def overhear(self, source: str, destination: str, datagram: bytes) -> None:
        """Somebody sends a datagram."""

    @abstractmethod
    def spoke_dead(self, node: Node) -> None:
        """A process that was killed has sent something."""

    @abstractmethod
    def died_midway(self, node: Node) -> None:
        """A process has just ended in the middle of a turn."""

    @abstractmethod
    def latency(self, node: Node) -> int:
        """Draw how long the next operation of this disk takes, in nanoseconds."""

    @abstractmethod
    def made(self, node: Node, replica: Replica, stored: Stored) -> None:
        """A process begins on what its journal gave back; or begins again, with a larger incarnation."""

    @abstractmethod
    def turned(self, node: Node, replica: Replica, turn: Turn) -> None:
        """A turn has ended; nothing that it asks for has been done."""

    @abstractmethod
    def reported(self, node: Node, number: int) -> None:
        """The shell says that this write and all before it are durable."""

    @abstractmethod
    def file_reported(self, node: Node, task: FileTask, data: bytes | None) -> None:
        """The shell says that this was done with a snapshot's file, and what was read."""

    @abstractmethod
    def loaded(self, node: Node, executor: Executor) -> None:
        """The shell has loaded a snapshot."""


class Life:
    """One process of a member, from start to end. Once it is `dead` nothing that it does has any effect."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.scope = trio.CancelScope()
        self.dead = trio.Event()
        self.resumed = trio.Event()
        self.over = False
        self.held = False
        self.beside_loop = False
        self.waited_for = 0  # calls made beside the loop that are under way
        self.failed: StorageFailedError | None = None
        self.files: SimulatedFiles | None = None
        self.running: RunningReplica[StateMachine] | None = None
        self.asked: deque[FileTask] = deque()
        self.restoring: Snapshot | None = None
        self.orders: list[Callable[[RunningReplica[StateMachine]], None]] = []
        self.wanted = trio.Event()
        self.transport: FabricTransport | None = None
        self.opening_failed: Exception | None = None

    def kill(self) -> None:
        """It does nothing any more; what is left of its tasks goes away without a trace."""
        self.scope.cancel()
        self.dead.set()
        self.resumed.set()
        if self.transport is not None:
            self.transport.close()

    async def stand_still(self, world: Surveyor) -> None:
        """While the process is paused. Both tasks of its loop are held, through deadlines and wake-ups."""
        while self.node.paused_until > world.now and not self.dead.is_set():
            if not self.held:
                self.held, self.resumed = True, trio.Event()
            with trio.CancelScope(shield=True):
                await self.resumed.wait()

    def resume(self) -> None:
        """A pause is over."""
        if self.held:
            self.held = False
            self.resumed.set()


class Line(Transport):
    """A transport of the Fabric with a name for an address, overheard by the world."""

    def __init__(self, world: Surveyor, inner: FabricTransport, names: Callable[[str, int], str]) -> None:
        self._world = world
        self._inner = inner
        self._names = names
        self._name = str(inner.address)

    @property
    def address(self) -> Address:
        return self._inner.address

    async def wait_readable(self) -> None:
        await self._inner.wait_readable()

    def receive(self, limit: int) -> list[tuple[bytes, Address]]:
        arrived = self._inner.receive(limit)
        self._world.events += len(arrived)
        return arrived

    def send(self, datagram: bytes, address: Address) -> bool:
        self._world.overhear(self._name, str(address), datagram)
        return self._inner.send(datagram, address)

    async def resolve(self, host: str, port: int) -> Address:
        await trio.lowlevel.checkpoint()
        return self._names(host, port)

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def statistics(self) -> TransportStatistics:
        return self._inner.statistics()


class MemberLine(Line):
    """A member's: it can stand still, as its whole process does then, and the process can end amid what it says."""

    def __init__(self, world: Surveyor, life: Life, inner: FabricTransport, names: Callable[[str, int], str]) -> None:
        super().__init__(world, inner, names)
        self._life = life
        life.transport = inner

    async def wait_readable(self) -> None:
        try:
            await self._inner.wait_readable()
        finally:
            await self._life.stand_still(self._world)

    def send(self, datagram: bytes, address: Address) -> bool:
        life, node = self._life, self._life.node
        if life.dead.is_set():
            self._world.spoke_dead(node)
        sent = super().send(datagram, address)
        if node.dies_after:
            node.dies_after -= 1
            if not node.dies_after:
                self._world.died_midway(node)
                raise SimulatedCrashError(Crash.KILLED)
        return sent


class MemberIdle(Idle):
    """The loop of a member that can stand still."""

    def __init__(self, world: Surveyor, life: Life, transport: Transport) -> None:
        super().__init__(transport)
        self._world = world
        self._life = life

    async def sleep(self) -> None:
        try:
            await super().sleep()
        finally:
            await self._life.stand_still(self._world)


class TimedFiles(SimulatedFiles):
    """Files whose syncs take time. In the loop the clock jumps; beside it, `RunBeside` has waited."""

    in_memory = False

    def __init__(self, world: Surveyor, life: Life, platter: object) -> None:
        super().__init__(platter)  # type: ignore[arg-type]  # whatever `SimulatedDisk.files` gives
        self._world = world
        self._process = life

    def append(self, handle: int, blob: bytes) -> None:
        segments = [file.current for name, file in self._platter.names.items() if name.startswith("journal-")]
        size = sum(map(len, segments))
        if size:  # Else this is a new journal's beginning.
            self._process.node.sizes.append(size)
        try:
            super().append(handle, blob)
        except StorageFailedError as failure:
            self._process.failed = failure
            raise

    def sync(self, handle: int) -> None:
        life = self._process
        try:
            super().sync(handle)
        except StorageFailedError as failure:
            life.failed = failure
            raise
        if not life.beside_loop and life.node.replica is not None:
            # The loop stands still meanwhile. So does everybody else's here: a little is enough to be noticed.
            self._world.now += min(self._world.latency(life.node), LONGEST_IN_LOOP_NS)


class RunBeside:
    """In the place of a thread: takes its time, some of it before the work is done, then the rest."""

    def __init__(self, world: Surveyor, life: Life) -> None:
        self._world = world
        self._life = life

    async def __call__(self, sync_fn: Callable[[*Ts], R], *args: *Ts, abandon_on_cancel: bool = False) -> R:
        await trio.lowlevel.checkpoint_if_cancelled()
        node = self._life.node
        latency = self._world.latency(node) if node.replica is not None else 0  # What it starts on is there at once.
        before = node.random.randrange(latency + 1)
        self._life.waited_for += 1
        try:
            with trio.CancelScope(shield=not abandon_on_cancel):
                await self._sleep(before)
                result = self._work(sync_fn, *args)
                await self._sleep(latency - before)
        finally:
            self._life.waited_for -= 1
        return result

    def _work(self, sync_fn: Callable[[*Ts], R], *args: *Ts) -> R:
        life = self._life
        life.beside_loop = True
        try:
            return sync_fn(*args)
        except DeadProcessError:
            # The process died elsewhere, and its other tasks have not heard of it yet.
            raise SimulatedCrashError(Crash.KILLED) from None
        finally:
            life.beside_loop = False
            self._world.events += 1

    async def _sleep(self, duration_ns: int) -> None:
        with trio.move_on_after(duration_ns / 1e9):
            await self._life.dead.wait()
            raise SimulatedCrashError(Crash.KILLED)


class WatchedReplica(Replica):
    """A replica whose world sees what goes in and what comes out."""

    def __init__(
        self,
        world: Surveyor,
        node: Node,
        cluster: Cluster,
        me: int,
        core_class: type[Core],
        machine: StateMachine,
        stored: Stored,
        *,
        random: Random,
        now: Time,
        session: ClientSession | None = None,
        measure: Callable[[], int] = lambda: 0,
    ) -> None:
        self._world = world
        self._node = node
        world.made(node, self, stored)
        super().__init__(
            cluster,
            me,
            core_class,
            machine,
            stored,
            random=random,
            now=now,
            session=session,
            collect_bytes=world.collect_bytes,
        )

    def tick(self, now: Time) -> None:
        self._world.events += 1
        super().tick(now)

    def written(self, write: int, now: Time) -> None:
        self._world.reported(self._node, write)
        super().written(write, now)

    def file_done(self, task: FileTask, data: bytes | None, now: Time) -> None:
        self._world.file_reported(self._node, task, data)
        super().file_done(task, data, now)

    def restored(self, snapshot: Snapshot, executor: Executor, now: Time) -> None:
        super().restored(snapshot, executor, now)
        if self.executor is executor:
            self._world.loaded(self._node, executor)

    def finish(self, now: Time) -> Turn:
        turn = super().finish(now)
        self._world.turned(self._node, self, turn)
        return turn


def leaves(error: BaseException) -> Sequence[BaseException]:
    """The errors in a group, however deep; one that is no group, itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
