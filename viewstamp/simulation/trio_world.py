"""A simulated cluster whose members and clients run in the Trio shell: the real `open_replica`, `open_client`, tasks.

The network, the disks, the faults, the load and the checkers are those of the heap of events, and so is time: Trio is a
guest that is stepped, and its clock moves to whatever comes first, an event of the heap or a task's deadline. What a
process cannot tell apart is the same; what differs:

- A write in the loop is synced within its turn, and the clock jumps a little; writes of a slow disk, snapshots and
  releases of segments are handed to what stands for a thread, which takes the disk's latency.
- All members read one monotonic clock. Their wall clocks are their own.
- A member that stands still is held where its loop sleeps. A process that is killed has its tasks cancelled, after
  which its files and its transport are dead; some are stopped in order first, as a service would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from itertools import count
from random import Random

import trio

from statemachine import Executor, SnapshotError, StateMachine
from viewstamp.journal import DirectoryInUseError, JournalError, Recovered, StorageFailedError
from viewstamp.journal.simulated import DeadProcessError, SimulatedCrashError, SimulatedDisk
from viewstamp.protocol import NEVER, Time, split_entries
from viewstamp.replica import DataLostError, FileTask, Replica, Stored, Turn, record_of
from viewstamp.shell.opening import open_replica
from viewstamp.shell.parts import Parts
from viewstamp.shell.replica import RunningReplica
from viewstamp.simulation.decay import UNREADABLE, noticed_in_loading, withheld
from viewstamp.simulation.inhabitants import Answer, Node, SimulatedClient
from viewstamp.simulation.trio_clients import RemoteClient
from viewstamp.simulation.trio_parts import (
    Life,
    Line,
    MemberIdle,
    MemberLine,
    RunBeside,
    Surveyor,
    TimedFiles,
    WatchedReplica,
    leaves,
)
from viewstamp.simulation.trio_time import SteppedWorld
from viewstamp.simulation.verdict import ViolationError, require
from viewstamp.simulation.world import ROOM_BYTES

_STOPPED_OF_TEN = 3
_ORDERS: Mapping[str, Callable[[RunningReplica[StateMachine]], None]] = {
    "resign": RunningReplica.resign,
    "snapshot": RunningReplica.take_snapshot,
}


class TrioWorld(SteppedWorld, Surveyor):
    """A `World` to be closed in the end."""

    # Trio.

    def _opened(self) -> None:
        self._lives: dict[int, Life] = {}
        self._killed: list[Life] = []
        self._remotes: list[RemoteClient] = []
        self._handles = count(1)
        self._names = {member.address: f"member-{member.id}" for member in self.cluster.members}

    def _end_all(self) -> None:
        for member, life in self._lives.items():
            self.nodes[member].disk.kill()
            life.kill()
        for remote in self._remotes:
            remote.end()

    def _resume(self) -> None:
        for life in self._lives.values():
            if life.node.paused_until <= self.now:
                life.resume()

    def _next_resumption(self) -> int:
        return min([life.node.paused_until for life in self._lives.values() if life.held], default=NEVER)

    # Members: their processes.

    def start(self, member: int, minimum: int = 0) -> None:
        """Start a member's process on what its disk holds, unless it runs.

        Raises:
          JournalError: it cannot begin on what is there.
        """
        self._open()
        node, life = self.nodes[member], self._lives.get(member)
        if life is not None and not life.over:
            if not life.dead.is_set():
                return
            self._settle()  # What was killed a moment ago goes away first.
        node.life += 1
        node.waiting, node.dies_after = [], 0
        life = self._lives[member] = Life(node)
        self._nursery.start_soon(self._live, life)
        self._settle()
        if life.opening_failed is not None:
            raise life.opening_failed

    async def _live(self, life: Life) -> None:
        node, core_class = life.node, self._core_class
        line = MemberLine(self, life, self._fabric.open(node.address), self._name_of)
        files = life.files = node.disk.files(partial(TimedFiles, self, life))
        parts = Parts(
            RunBeside(self, life),
            partial(WatchedReplica, self, node),
            self._segment_bytes,
            ROOM_BYTES,
            partial(MemberIdle, self, life),
        )
        failure: Exception | None = None
        try:
            with life.scope:
                async with open_replica(
                    self.machine,
                    self.cluster,
                    node.member,
                    transport=line,
                    files=files,
                    protocol=core_class,
                    random=Random(node.random.getrandbits(64)),
                    wall_clock=lambda: self._time(node).wall,
                    parts=parts,
                ) as running:
                    life.running = running
                    await self._serve(running, life)
        except Exception as error:  # noqa: BLE001  # what it means is decided below
            failure = error
        finally:
            life.over = True
        if not life.dead.is_set():
            self._ended(life, failure)

    async def _serve(self, running: RunningReplica[StateMachine], life: Life) -> None:
        """A service around the replica: it reads what changes, and resigns when an operator wants it to."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, running)
            while True:
                await life.wanted.wait()
                life.wanted = trio.Event()
                orders, life.orders = life.orders, []
                for order in orders:
                    order(running)

    async def _follow(self, running: RunningReplica[StateMachine]) -> None:
        await running.wait_ready()
        async with aclosing(running.events()) as events:
            async for _ in events:
                self.watch.counts["events seen by a service"] += 1

    def _ended(self, life: Life, failure: Exception | None) -> None:
        """A process has ended by itself, or was stopped."""
        node, causes = life.node, leaves(failure) if failure is not None else ()
        crashed = [cause for cause in causes if isinstance(cause, SimulatedCrashError | DeadProcessError)]
        expected = [cause for cause in causes if isinstance(cause, StorageFailedError | DataLostError)]
        if not causes or len(crashed) == len(causes):
            if causes:
                self._end_process(node.member, "disk_crash")
        elif len(crashed) + len(expected) == len(causes):
            node.failures += expected
            why = "data_lost" if isinstance(expected[0], DataLostError) else "storage_failed"
            self._end_process(node.member, why).kill()
        elif isinstance(failure, JournalError | SnapshotError) and node.replica is None:
            life.opening_failed = failure
            node.disk.kill()
        elif isinstance(failure, UNREADABLE) and life.restoring is not None:
            try:
                noticed_in_loading(self.watch, node, life.restoring, failure)
            except UNREADABLE as sound:
                self._wronged(sound)
            self._fail(node, failure, "snapshot_damaged")
        else:
            wrong = [cause for cause in causes if isinstance(cause, ViolationError)]
            self._wronged(wrong[0] if wrong else failure)

    def _end_process(self, member: int, why: str) -> SimulatedDisk:
        node, life = self.nodes[member], self._lives.get(member)
        if life is not None and not life.dead.is_set():
            life.kill()
            self._killed.append(life)
        if node.replica is not None:
            self.watch.disks[member].tear(*[records for _, records in node.waiting])
            self.watch.ended(self.now, node, why)
        node.life += 1
        node.replica = None
        node.paused_until = 0
        return node.disk

    def crash(self, member: int, why: str = "crash") -> None:
        """The process is killed; some are stopped in order instead, as far as that takes no time."""
        life = self._lives.get(member)
        if (
            life is not None
            and life.running is not None
            and not life.over
            and life.node.random.randrange(10) < _STOPPED_OF_TEN
        ):
            self._stop(life)
        super().crash(member, why)

    def _stop(self, life: Life) -> None:
        node, waited_for = life.node, life.waited_for
        life.scope.cancel()
        node.paused_until = 0
        self._settle()
        if life.over:
            self.watch.counts["stopped in order"] += 1
            files = node.disk.files()
            try:
                files.lock()
            except DirectoryInUseError:
                raise ViolationError("closing", f"member {node.member} was stopped, and keeps its directory") from None
            files.unlock()
        else:
            require(waited_for > 0, "closing", "member {} was stopped, and does not end", node.member)

    def _bury(self) -> bool:
        """End the processes that died inside a call; whether there were any."""
        found = False
        for member, life in self._lives.items():
            if life.over or life.dead.is_set() or life.files is None:
                continue
            if life.files.is_dead:
                found = True
                self._end_process(member, "disk_crash")
            elif life.failed is not None:  # It waits for what it has under way beside its loop, as it should.
                require(life.waited_for > 0, "closing", "member {}'s disk failed, and it goes on", member)
                found = True
                life.node.failures.append(life.failed)
                self._end_process(member, "storage_failed").kill()
        return found

    def _look_at_the_dead(self) -> None:
        killed, self._killed = self._killed, []
        for life in killed:
            require(life.over, "closing", "member {}'s process was killed, and goes on", life.node.member)
        for number, remote in enumerate(self._remotes):
            waiting = len(remote.calls) - remote.calls_at_home
            require(
                not remote.over or not waiting, "closing", "client {} is closed, and {} calls wait", number, waiting
            )

    def tell(self, member: int, event: str, order: Callable[[Replica, Time], None]) -> None:
        """An operator wants something of the member, and asks the service around it, which asks the replica."""
        life = self._lives.get(member)
        if life is not None and life.running is not None and self.nodes[member].paused_until <= self.now:
            life.orders.append(_ORDERS[event])
            life.wanted.set()

    # Members: what their shells do.

    def overhear(self, source: str, destination: str, datagram: bytes) -> None:
        self._trace.update(b"%d %s %s;" % (self.now, source.encode(), destination.encode()))
        self._trace.update(datagram)

    def spoke_dead(self, node: Node) -> None:
        self._wronged(ViolationError("closing", f"member {node.member}'s process was killed, and has sent something"))

    def died_midway(self, node: Node) -> None:
        node.disk.kill()

    def latency(self, node: Node) -> int:
        return self.disk_latency.draw(node.random) + node.hang

    def made(self, node: Node, replica: Replica, stored: Stored) -> None:
        if node.replica is not None:  # Its incarnation was too old: it is blank, and has promised nothing.
            self.watch.ended(self.now, node, "superseded")
            node.life += 1
            node.waiting = []
        entries = split_entries(stored.entries)
        snapshot = record_of(stored.snapshot) if stored.snapshot is not None else None
        last = entries[-1].op if entries else snapshot.op if snapshot is not None else 0
        first = entries[0].op if entries else last + 1
        recovered = Recovered(stored.founding, stored.state, stored.entries, last, 0, snapshot, first)
        self.watch.opened(node, recovered)
        if stored.executor is not None:
            self.watch.jumped(node, stored.executor)
        node.replica = replica

    def turned(self, node: Node, replica: Replica, turn: Turn) -> None:
        if node.replica is replica:
            self.watch.turned(self.now, node, replica, turn.transitions)
            node.waiting.extend(turn.writes)
            life = self._lives[node.member]
            life.asked.extend(turn.files)
            life.restoring = turn.restore or life.restoring

    def reported(self, node: Node, number: int) -> None:
        asked = [write for write, _ in node.waiting]
        if number not in asked:
            raise ViolationError(
                "writes", f"member {node.member} was told that write {number} is durable; {asked} are under way"
            )
        self.events += 1
        position = asked.index(number) + 1
        done, node.waiting = node.waiting[:position], node.waiting[position:]
        self.watch.durable(node, [record for _, records in done for record in records])

    def file_reported(self, node: Node, task: FileTask, data: bytes | None) -> None:
        asked = self._lives[node.member].asked
        require(bool(asked) and asked[0] is task, "files", "member {} was told of a file out of turn", node.member)
        asked.popleft()
        if data is None:
            withheld(self.watch, node, task)

    def loaded(self, node: Node, executor: Executor) -> None:
        self.watch.jumped(node, executor)

    # The network and the clients.

    def _name_of(self, host: str, port: int) -> str:
        return self._names[host, port]

    def deliver(self, source: str, destination: str, datagram: bytes) -> None:
        """A datagram that was sent at some time arrives now."""
        self._fabric.arrive(source, destination, datagram)

    def add_client(self) -> SimulatedClient:
        """A new client with a session of its own, in the Trio shell; the session of what is returned is not used."""
        self._open()
        client = super().add_client()
        remote = RemoteClient(
            self.cluster,
            self.machine,
            Line(self, self._fabric.open(client.address), self._name_of),
            self._stream(f"session of client {client.number}"),
            self._services,
            partial(self._told, client),
            self._wronged,
        )
        self._remotes.append(remote)
        self._nursery.start_soon(remote.run)
        return client

    def _services(self) -> list[RunningReplica[StateMachine]]:
        lives = [life for life in self._lives.values() if not life.over and not life.dead.is_set()]
        return [life.running for life in lives if life.running is not None and life.node.paused_until <= self.now]

    def remove_client(self, client: SimulatedClient) -> None:
        """The client's process is stopped: whoever waits there learns that the outcome is not known."""
        super().remove_client(client)
        self._remotes[client.number].end()

    def call(self, client: SimulatedClient, body: bytes, *, is_list: bool = False, more: bool = False) -> int:
        """A client calls a command, or several as a list; its handle."""
        return self._begin(client, body, reads=False, member=0)

    def read(self, client: SimulatedClient, body: bytes, member: int = 0) -> int:
        """A client reads, at that member unless it is 0; its handle."""
        return self._begin(client, body, reads=True, member=member)

    def _begin(self, client: SimulatedClient, body: bytes, *, reads: bool, member: int) -> int:
        handle, remote = next(self._handles), self._remotes[client.number]
        client.started[handle] = self.now
        remote.expect(handle)
        self._nursery.start_soon(partial(remote.call, handle, body, reads=reads, member=member))
        return handle

    def _told(self, client: SimulatedClient, handle: int, value: object) -> None:
        answer = Answer(client.number, handle, client.started.pop(handle), self.now, value)
        self.answers.append(answer)
        if self.on_answer is not None:
            self.on_answer(answer)

    def abandon(self, client: SimulatedClient, handle: int) -> None:
        """Whoever made the call goes away; it may be executed all the same."""
        self._remotes[client.number].abandon(handle)

    def renew(self, client: SimulatedClient) -> None:
        """A client whose session has expired opens another; what it had under way stays unknown."""
        self._remotes[client.number].renew()
