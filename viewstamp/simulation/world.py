"""A whole cluster in one process with no real time: a heap of events around the real replicas, clients and journals.

Everything is drawn from the seed: delays, losses, disk latencies, crashes. The code under test is the code that runs in
production, down to the journal's files (on a simulated disk) and the datagrams (through a simulated network).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from statemachine import Executor, StateMachine
from transport.network import Network
from viewstamp.cluster import Cluster, ClusterOptions, Member
from viewstamp.journal import SEGMENT_BYTES, Batch, Journal, JournalRecord, SnapshotFiles, StorageFailedError
from viewstamp.journal.simulated import SimulatedCrashError, SimulatedDisk
from viewstamp.protocol import MILLISECOND, NEVER, Core, Snapshot, Time
from viewstamp.registry import protocol_class
from viewstamp.replica import (
    DataLostError,
    FileTask,
    IncarnationTooOldError,
    Replica,
    Stored,
    load,
    perform,
    record_of,
    snapshot_of,
)
from viewstamp.replica.taking import COLLECT_BYTES
from viewstamp.replica.turn import Turn
from viewstamp.simulation.decay import UNREADABLE, noticed_in_loading, withheld
from viewstamp.simulation.hearing import Hearing
from viewstamp.simulation.inhabitants import DiskLatency, Failure, Node
from viewstamp.simulation.interrupted import interrupt
from viewstamp.simulation.ledger import Ledger
from viewstamp.simulation.promises import PromiseWatch
from viewstamp.simulation.reference import Reference
from viewstamp.simulation.watch import Watch
from viewstamp.wire import make_codec

_EPOCH = 1_700_000_000_000_000_000
ROOM_BYTES = 8_000  # Small: a disk that loses its power draws the fate of each sector.
LONGEST_TURN = 2 * MILLISECOND  # So long after a turn comes the next one that it wants: something can arrive.


class World(Hearing):
    """The cluster and its surroundings. Drive it with `run_for` and `run_until` and the fault methods.

    `watch` is what looks for violations, and raises ViolationError; `observer`, if there is one, is told every step.
    `cluster` may be replaced before the first member or client starts.
    """

    def __init__(
        self,
        seed: int,
        *,
        members: int = 3,
        protocol: str = "vsr",
        machine: type[StateMachine] = Ledger,
        core_class: type[Core] | None = None,
        options: ClusterOptions | None = None,
        network: Network | None = None,
        disk: DiskLatency | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        room_bytes: int = ROOM_BYTES,
        collect_bytes: int = COLLECT_BYTES,
    ) -> None:
        cluster = Cluster(
            name="simulation",
            cluster_id=seed.to_bytes(8, "big"),
            protocol=protocol,
            members=tuple(Member(id=number, host="127.0.0.1", port=7000 + number) for number in range(1, members + 1)),
            **(options or {}),
        )
        super().__init__(seed, cluster, machine, network)
        self.collect_bytes = collect_bytes
        self.clock_error = 0  # nanoseconds by which all wall clocks are ahead
        self.nodes = {member.id: self._make_node(member.id) for member in cluster.members}
        self._core_class = core_class if core_class is not None else protocol_class(protocol)
        self._segment_bytes, self._room_bytes, self.disk_latency = segment_bytes, room_bytes, disk or DiskLatency()
        self.watch = Watch(cluster, make_codec(self._core_class), self._core_class.name)
        self.watch.reference = Reference(self)
        self.on_send = PromiseWatch(self._core_class, self.watch, self.nodes).sent

    def _make_node(self, member: int) -> Node:
        return Node(member, SimulatedDisk(self._stream(f"disk {member}")), self._stream(f"member {member}"))

    @property
    def time(self) -> Time:
        """The present, as members with a right clock see it."""
        return Time(self.now, _EPOCH + self.now + self.clock_error)

    def _time(self, node: Node) -> Time:
        """The present, as this member sees it."""
        clock = node.clock
        return Time(clock.monotonic(self.now), _EPOCH + self.now + self.clock_error + clock.ahead)

    def _view_at(self, op: int) -> int:
        return self.watch.view_at(op)

    def note(self, text: str) -> None:
        """Remember what happens now, for whoever reads a failure."""
        self.watch.note(self.now, text)
        if self.observer is not None:
            self.observer.note(text)

    # Members.

    def start(self, member: int, minimum: int = 0) -> None:
        """Start a member's process on what its disk holds; a crash planned for its disk can end it again.

        `minimum`, unless 0, is the least incarnation that its directory is given first.
        """
        node = self.nodes[member]
        node.life += 1
        node.waiting, node.writing, node.wake_at, node.dies_after = [], False, -1, 0
        node.under_way, node.release, node.files_free_at = None, 0, 0
        files = node.disk.files()
        try:
            node.journal = Journal.open(
                files,
                cluster=self.cluster.cluster_id,
                replica=member,
                protocol=self._core_class.name,
                create_incarnation=lambda: self._incarnation(node),
                segment_bytes=self._segment_bytes,
                room_bytes=self._room_bytes,
            )
            if minimum:
                node.journal.set_incarnation(max(minimum, self._incarnation(node)))
            node.files = SnapshotFiles(files)
            node.files.sweep(node.journal.recovered.snapshot)
        except SimulatedCrashError:
            self._end_process(member, "disk_crash")
            return
        except StorageFailedError as failure:
            self._fail(node, failure, "storage_failed")
            return
        node.replica = self._make_replica(node, node.journal, node.files)
        if self.observer is not None:
            self.observer.started(node)
            self.observer.event(node, "start")
        self._finish(node)

    def start_all(self) -> None:
        """Start every member that is not running."""
        for member, node in self.nodes.items():
            if node.replica is None:
                self.start(member)

    def _incarnation(self, node: Node) -> int:
        return (max(0, self._time(node).wall) // MILLISECOND << 20) | node.random.getrandbits(20)

    def _make_replica(self, node: Node, journal: Journal, files: SnapshotFiles) -> Replica:
        recovered = journal.recovered
        self.watch.opened(node, recovered)
        snapshot = snapshot_of(recovered.snapshot) if recovered.snapshot is not None else None
        executor = self._load(node, files, snapshot) if snapshot is not None else None
        stored = Stored(journal.incarnation, recovered.founding, recovered.state, recovered.entries, snapshot, executor)
        parts = (self.cluster, node.member, self._core_class, self.machine(), stored)
        own, now = Random(node.random.getrandbits(64)), self._time(node)
        replica = Replica(*parts, random=own, now=now, collect_bytes=self.collect_bytes)
        replica.executor.sessions.max_reply_bytes = self.max_reply_bytes
        for other in self.nodes.values():
            if other is not node:
                replica.endpoint.set_peer(other.member, other.address)
        return replica

    def _load(self, node: Node, files: SnapshotFiles, snapshot: Snapshot) -> Executor:
        executor = load(self.machine, snapshot, files.pieces(record_of(snapshot)), **self.bounds)
        self.watch.jumped(node, executor)
        return executor

    def _end_process(self, member: int, why: str) -> SimulatedDisk:
        node = self.nodes[member]
        interrupt(self.watch, node)
        if node.replica is not None:
            self.watch.ended(self.now, node, why)
        if self.observer is not None:
            self.observer.ended(node, why)
        node.life += 1
        node.backlog = []
        node.replica = None
        node.journal = None
        node.paused_until = 0
        return node.disk

    def _fail(self, node: Node, error: Failure, why: str) -> None:
        node.failures.append(error)
        self.crash(node.member, why)

    def crash(self, member: int, why: str = "crash") -> None:
        """The process is killed: what was written survives, what was only asked for does not."""
        self._end_process(member, why).kill()

    def lose_power(self, member: int) -> None:
        """The machine loses power: of what was not synced, any part may be gone."""
        self._end_process(member, "power_lost").lose_power()

    def lose_disk(self, member: int) -> None:
        """The machine is replaced by one with a blank disk."""
        self._end_process(member, "disk_lost").wipe()
        self.watch.disks[member].wipe(self.watch.committed)

    def pause(self, member: int, duration: int) -> None:
        """The process stands still for so many nanoseconds; what arrives meanwhile waits."""
        self.nodes[member].paused_until = self.now + duration

    def tell(self, member: int, event: str, order: Callable[[Replica, Time], None]) -> None:
        """An operator wants something of the member: that another leads ("resign"), or a snapshot ("snapshot")."""
        node = self.nodes[member]
        if node.replica is not None and node.paused_until <= self.now:
            if self.observer is not None:
                self.observer.event(node, event)
            order(node.replica, self._time(node))
            self._finish(node)

    @property
    def running(self) -> list[Replica]:
        """The replicas of all running members."""
        return [node.replica for node in self.nodes.values() if node.replica is not None]

    @property
    def primary(self) -> int | None:
        """The member that leads, if one does; of several, the one in the latest view."""
        leading = [(r.status().view, m) for m, n in self.nodes.items() if (r := n.replica) is not None and r.leads]
        return max(leading)[1] if leading else None

    def _finish(self, node: Node) -> None:
        """End a member's turn, and carry out what it asks for."""
        replica = node.replica
        if replica is None:
            return
        try:
            turn = replica.finish(self._time(node))
        except IncarnationTooOldError as too_old:
            # What it had under way is forgotten: it is blank, and has promised nothing.
            self.crash(node.member, "superseded")
            self.start(node.member, too_old.minimum)
            return
        except DataLostError as lost:
            self._fail(node, lost, "data_lost")
            return
        if node.dies_after and self._dies_midway(node, turn):
            return
        for datagram, address in turn.datagrams:
            self._transmit(node.address, str(address), datagram)
        self.watch.turned(self.now, node, replica, turn.transitions)
        if self.observer is not None:
            self.observer.turned(node, turn)
        if turn.writes:
            node.waiting.extend(turn.writes)
            self._write(node)
        if turn.files or turn.restore is not None:
            self._use_files(node, turn.files, turn.restore)
        if turn.release:
            node.release = turn.release
            self._release(node)
        if turn.more:
            self.at(self.now + node.random.randrange(LONGEST_TURN), self._in_life(node, self._finish))
        self._schedule(node)

    def _dies_midway(self, node: Node, turn: Turn) -> bool:
        """Whether this is the turn in which the process ends, some of its datagrams out and its write not begun."""
        if len(turn.datagrams) < node.dies_after:
            node.dies_after -= len(turn.datagrams)
            return False
        for datagram, address in turn.datagrams[: node.dies_after]:
            self._transmit(node.address, str(address), datagram)
        if self.observer is not None:
            self.observer.turned(node, turn)
        self.crash(node.member, "crash")
        return True

    def _in_life(self, node: Node, action: Callable[[Node], None]) -> Callable[[], None]:
        """Something this life of a process does later; the next life does not."""
        life = node.life

        def act() -> None:
            if node.life == life:
                if node.paused_until > self.now:
                    self.at(node.paused_until, act)
                else:
                    action(node)

        return act

    def _schedule(self, node: Node) -> None:
        replica = node.replica
        if replica is None:
            return
        deadline = node.clock.when(replica.deadline)
        if deadline < NEVER and (node.wake_at < 0 or deadline < node.wake_at):
            node.wake_at = wake_at = max(deadline, self.now)
            self.at(wake_at, self._in_life(node, lambda node: self._tick(node, wake_at)))

    def _tick(self, node: Node, wake_at: int) -> None:
        if node.wake_at != wake_at:
            return  # An earlier one was planned since.
        node.wake_at = -1
        now = self._time(node)
        if node.replica is not None and node.replica.deadline <= now.monotonic:
            if self.observer is not None:
                self.observer.event(node, "tick")
            node.replica.tick(now)
            self._finish(node)
        else:
            self._schedule(node)

    def _write(self, node: Node) -> None:
        """Write all that waits as one batch, and report it when the disk has it."""
        if node.writing or not node.waiting or node.journal is None:
            return
        writes, node.waiting, node.writing = node.waiting, [], True
        records = [record for _, records in writes for record in records]
        batch, last = node.journal.encode_batch(records), writes[-1][0]
        node.under_way = batch, records
        delay = self.disk_latency.draw(node.random) + node.hang
        self.at(self.now + delay, self._in_life(node, lambda node: self._written(node, batch, records, last)))

    def _written(self, node: Node, batch: Batch, records: list[JournalRecord], number: int) -> None:
        journal, replica, node.under_way = node.journal, node.replica, None
        if journal is None or replica is None:
            return
        node.sizes.append(journal.statistics().bytes)
        try:
            journal.write(batch)
            journal.sync()
        except SimulatedCrashError:
            self.watch.disks[node.member].tear(records)
            self._end_process(node.member, "disk_crash")
            return
        except StorageFailedError as failure:
            self.watch.disks[node.member].tear(records)
            self._fail(node, failure, "storage_failed")
            return
        node.writing = False
        self.watch.durable(node, records)
        self._release(node)
        if node.replica is not replica:
            return
        if self.observer is not None:
            self.observer.event(node, "written", number)
        replica.written(number, self._time(node))
        self._finish(node)
        self._write(node)

    def _use_files(self, node: Node, tasks: Sequence[FileTask], restore: Snapshot | None) -> None:
        """Each task takes its time, one after the other; so does loading, which is done when all before it is."""
        for task in tasks:
            node.files_free_at = max(node.files_free_at, self.now) + self.disk_latency.draw(node.random) + node.hang
            self.at(node.files_free_at, self._in_life(node, lambda node, task=task: self._file_task(node, task)))  # type: ignore[misc]  # bound now
        if restore is not None:
            node.files_free_at = max(node.files_free_at, self.now) + self.disk_latency.draw(node.random) + node.hang
            self.at(node.files_free_at, self._in_life(node, lambda node: self._restore(node, restore)))

    def _file_task(self, node: Node, task: FileTask) -> None:
        if node.replica is None or node.files is None:
            return
        try:
            data = perform(task, node.files)
        except SimulatedCrashError:
            self._end_process(node.member, "disk_crash")
            return
        except StorageFailedError as failure:
            self._fail(node, failure, "storage_failed")
            return
        if data is None:
            withheld(self.watch, node, task)
        if self.observer is not None:
            self.observer.event(node, "file")
        node.replica.file_done(task, data, self._time(node))
        self._finish(node)

    def _restore(self, node: Node, snapshot: Snapshot) -> None:
        if node.replica is None or node.files is None:
            return
        if self.observer is not None:
            self.observer.event(node, "restored", snapshot.op)
        try:
            executor = self._load(node, node.files, snapshot)
        except UNREADABLE as damaged:
            noticed_in_loading(self.watch, node, snapshot, damaged)
            self._fail(node, damaged, "snapshot_damaged")
            return
        node.replica.restored(snapshot, executor, self._time(node))
        self._finish(node)

    def _release(self, node: Node) -> None:
        """Let the journal drop what it needs no more, unless a write is under way: then after that."""
        if node.writing or not node.release or node.journal is None:
            return
        op, node.release = node.release, 0
        try:
            node.journal.release(op)
        except SimulatedCrashError:
            self._end_process(node.member, "disk_crash")
        except StorageFailedError as failure:
            self._fail(node, failure, "storage_failed")
