"""A whole cluster in one process with no real time: a heap of events around the real replicas, clients and journals.

Everything is drawn from the seed: delays, losses, disk latencies, crashes. The code under test is the code that runs in
production, down to the journal's files (on a simulated disk) and the datagrams (through a simulated network).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import blake2b
from random import Random

from statemachine import (
    Counter,
    Executor,
    OutcomeUnknownError,
    SessionExpiredError,
    StateMachine,
    decode_outcome,
    unwrap,
)
from transport.codec import MessageCodec
from transport.endpoint import Endpoint
from transport.frame import Identity
from transport.network import Network
from viewstamp.client import ClientSession, Completion
from viewstamp.cluster import Cluster, ClusterOptions, Member
from viewstamp.journal import Batch, Journal, SnapshotFiles, StorageFailedError
from viewstamp.journal.simulated import SimulatedCrashError, SimulatedDisk
from viewstamp.protocol import MILLISECOND, Core, Snapshot, Time
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
from viewstamp.simulation.inhabitants import AgreementError, Answer, DiskLatency, Node, SimulatedClient
from viewstamp.simulation.observer import Observer
from viewstamp.wire import BODY_MESSAGES, FIRST_CLIENT_ID, NotPrimary, QueryReply, Reply

_EPOCH = 1_700_000_000_000_000_000
_BOOT = 1_000_000_000
_CLIENT_CODEC = MessageCodec(BODY_MESSAGES, {})


class World:
    """The cluster and its surroundings. Drive it with `run_for` and `run_until` and the fault methods."""

    def __init__(
        self,
        seed: int,
        *,
        members: int = 3,
        protocol: str = "vsr",
        machine: type[StateMachine] = Counter,
        core_class: type[Core] | None = None,
        options: ClusterOptions | None = None,
        network: Network | None = None,
        disk: DiskLatency | None = None,
    ) -> None:
        self.random = Random(seed)
        self.now = _BOOT
        self.clock_error = 0  # nanoseconds by which wall clocks are ahead
        self.events = 0
        self.cluster = Cluster(
            name="simulation",
            cluster_id=seed.to_bytes(8, "big"),
            protocol=protocol,
            members=tuple(Member(id=number, host="127.0.0.1", port=7000 + number) for number in range(1, members + 1)),
            **(options or {}),
        )
        self.network = network if network is not None else Network(self._fork())
        self.nodes = {m.id: Node(m.id, SimulatedDisk(self._fork())) for m in self.cluster.members}
        self.clients: list[SimulatedClient] = []
        self.answers: list[Answer] = []
        self.on_answer: Callable[[Answer], None] | None = None
        self.observer: Observer | None = None
        self._machine = machine
        self._core_class = core_class if core_class is not None else protocol_class(protocol)
        self._disk_latency = disk if disk is not None else DiskLatency()
        self._sequence = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._agreed: dict[int, bytes] = {}
        self._digests: dict[int, bytes] = {}
        self._trace = blake2b(digest_size=16)

    def _fork(self) -> Random:
        return Random(self.random.getrandbits(64))

    # Time and events.

    @property
    def digest(self) -> str:
        """A digest of every datagram so far: equal for equal seeds, in any process."""
        return self._trace.hexdigest()

    @property
    def time(self) -> Time:
        """The present, as members see it."""
        return Time(self.now, _EPOCH + self.now + self.clock_error)

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Do this at a time, in nanoseconds of simulated time."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(when, self.now), self._sequence, action))

    def run_for(self, duration: int) -> None:
        """Let this many nanoseconds pass."""
        self.run_until(lambda: False, duration)

    def run_until(self, condition: Callable[[], bool], within: int) -> bool:
        """Let time pass until the condition holds; False if it does not within so many nanoseconds."""
        end = self.now + within
        while not condition():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return condition()
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
        return True

    # Members.

    def start(self, member: int, minimum: int = 0) -> None:
        """Start a member's process on what its disk holds; a crash planned for its disk can end it again.

        `minimum`, unless 0, is the least incarnation that its directory is given first.
        """
        node = self.nodes[member]
        node.life += 1
        node.waiting, node.writing, node.wake_at, node.observed = [], False, -1, 0
        node.release, node.files_free_at = 0, 0
        files = node.disk.files()
        try:
            node.journal = Journal.open(
                files,
                cluster=self.cluster.cluster_id,
                replica=member,
                protocol=self._core_class.name,
                create_incarnation=self._incarnation,
            )
            if minimum:
                node.journal.set_incarnation(max(minimum, self._incarnation()))
            node.files = SnapshotFiles(files)
            node.files.sweep(node.journal.recovered.snapshot)
        except SimulatedCrashError:
            self._end_process(member, "disk_crash")
            return
        node.replica = self._make_replica(node.journal, node.files, member)
        if self.observer is not None:
            self.observer.started(node)
            self.observer.event(node, "start")
        self._finish(node)

    def start_all(self) -> None:
        """Start every member that is not running."""
        for member, node in self.nodes.items():
            if node.replica is None:
                self.start(member)

    def _incarnation(self) -> int:
        return (self.time.wall // MILLISECOND << 20) | self.random.getrandbits(20)

    def _make_replica(self, journal: Journal, files: SnapshotFiles, member: int) -> Replica:
        recovered = journal.recovered
        snapshot = snapshot_of(recovered.snapshot) if recovered.snapshot is not None else None
        executor = self._load(files, snapshot) if snapshot is not None else None
        stored = Stored(journal.incarnation, recovered.founding, recovered.state, recovered.entries, snapshot, executor)
        replica = Replica(
            self.cluster, member, self._core_class, self._machine(), stored, random=self._fork(), now=self.time
        )
        for other, node in self.nodes.items():
            if other != member:
                replica.endpoint.set_peer(other, node.address)
        return replica

    def _load(self, files: SnapshotFiles, snapshot: Snapshot) -> Executor:
        pieces = files.pieces(record_of(snapshot))
        limits = self.cluster
        return load(self._machine, snapshot, pieces, max_sessions=limits.max_sessions, window=limits.window)

    def _end_process(self, member: int, why: str) -> SimulatedDisk:
        node = self.nodes[member]
        if self.observer is not None:
            self.observer.ended(node, why)
        node.life += 1
        node.replica = None
        node.journal = None
        return node.disk

    def crash(self, member: int, why: str = "crash") -> None:
        """The process is killed: what was written survives, what was only asked for does not."""
        self._end_process(member, why).kill()

    def lose_power(self, member: int) -> None:
        """The machine loses power: of what was not synced, any part may be gone."""
        self._end_process(member, "power_lost").lose_power()

    def lose_disk(self, member: int) -> None:
        """The machine is replaced by one with a blank disk."""
        self._end_process(member, "disk_lost").wipe()

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
            turn = replica.finish(self.time)
        except IncarnationTooOldError as too_old:
            self.crash(
                node.member, "superseded"
            )  # What it had under way is forgotten: it is blank, and has promised nothing.
            self.start(node.member, too_old.minimum)
            return
        except DataLostError as lost:
            node.failures.append(lost)
            self.crash(node.member, "data_lost")
            return
        for datagram, address in turn.datagrams:
            self._transmit(node.address, str(address), datagram)
        if self.observer is not None:
            self.observer.turned(node, turn)
        self._observe(node, replica)
        if turn.writes:
            node.waiting.extend(turn.writes)
            self._write(node)
        if turn.files or turn.restore is not None:
            self._use_files(node, turn.files, turn.restore)
        if turn.release:
            node.release = turn.release
            self._release(node)
        if turn.more:
            self.at(self.now, self._in_life(node, self._finish))
        self._schedule(node)

    def _in_life(self, node: Node, action: Callable[[Node], None]) -> Callable[[], None]:
        """Something this life of a process does later; the next life does not."""
        life = node.life

        def act() -> None:
            if node.life == life:
                action(node)

        return act

    def _schedule(self, node: Node) -> None:
        replica = node.replica
        if replica is not None and (node.wake_at < 0 or replica.deadline < node.wake_at):
            node.wake_at = max(replica.deadline, self.now)
            self.at(node.wake_at, self._in_life(node, self._tick))

    def _tick(self, node: Node) -> None:
        node.wake_at = -1
        if node.replica is not None and node.replica.deadline <= self.now:
            if self.observer is not None:
                self.observer.event(node, "tick")
            node.replica.tick(self.time)
            self._finish(node)
        else:
            self._schedule(node)

    def _write(self, node: Node) -> None:
        """Write all that waits as one batch, and report it when the disk has it."""
        if node.writing or not node.waiting or node.journal is None:
            return
        writes, node.waiting = node.waiting, []
        batch = node.journal.encode_batch([record for _, records in writes for record in records])
        node.writing = True
        last = writes[-1][0]
        delay = self._disk_latency.draw(self.random) + node.hang
        self.at(self.now + delay, self._in_life(node, lambda node: self._written(node, batch, last)))

    def _written(self, node: Node, batch: Batch, number: int) -> None:
        journal, replica = node.journal, node.replica
        if journal is None or replica is None:
            return
        try:
            journal.write(batch)
            journal.sync()
        except SimulatedCrashError:
            self._end_process(node.member, "disk_crash")
            return
        except StorageFailedError as failure:
            node.failures.append(failure)
            self.crash(node.member, "storage_failed")
            return
        node.writing = False
        self._release(node)
        if node.replica is not replica:
            return
        if self.observer is not None:
            self.observer.event(node, "written", number)
        replica.written(number, self.time)
        self._finish(node)
        self._write(node)

    def _use_files(self, node: Node, tasks: list[FileTask], restore: Snapshot | None) -> None:
        """Each task takes its time, one after the other; so does loading, which is done when all before it is."""
        for task in tasks:
            node.files_free_at = max(node.files_free_at, self.now) + self._disk_latency.draw(self.random) + node.hang
            self.at(node.files_free_at, self._in_life(node, lambda node, task=task: self._file_task(node, task)))  # type: ignore[misc]  # bound now
        if restore is not None:
            node.files_free_at = max(node.files_free_at, self.now) + self._disk_latency.draw(self.random) + node.hang
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
            node.failures.append(failure)
            self.crash(node.member, "storage_failed")
            return
        if self.observer is not None:
            self.observer.event(node, "file")
        node.replica.file_done(task, data, self.time)
        self._finish(node)

    def _restore(self, node: Node, snapshot: Snapshot) -> None:
        if node.replica is not None and node.files is not None:
            if self.observer is not None:
                self.observer.event(node, "restored", snapshot.op)
            node.replica.restored(snapshot, self._load(node.files, snapshot), self.time)
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
            node.failures.append(failure)
            self.crash(node.member, "storage_failed")

    def _observe(self, node: Node, replica: Replica) -> None:
        """Look at what a member applied, from outside."""
        applied = replica.executor.applied
        # What came in a snapshot was not applied here: only the state that it brings is compared.
        for op in range(max(node.observed, replica.status().base) + 1, applied + 1):
            encoded = replica.entry(op).encoded
            if self._agreed.setdefault(op, encoded) != encoded:
                raise AgreementError(f"member {node.member} applied another entry at op {op}")
        if applied > node.observed:
            digest = replica.executor.digest
            if self._digests.setdefault(applied, digest) != digest:
                raise AgreementError(f"member {node.member} holds another state at op {applied}")
            node.observed = applied

    # Network.

    def _transmit(self, source: str, destination: str, datagram: bytes) -> None:
        self._trace.update(b"%d %s %s;" % (self.now, source.encode(), destination.encode()))
        self._trace.update(datagram)
        arrivals = self.network.transmit(source, destination, datagram, self.now)
        sent = 0 if self.observer is None else self.observer.transmitted(source, destination, datagram, arrivals)
        for arrival, data in arrivals:
            self.at(arrival, lambda data=data: self._arrive(source, destination, data, sent))  # type: ignore[misc]  # bound now

    def _arrive(self, source: str, destination: str, datagram: bytes, sent: int = 0) -> None:
        kind, _, number = destination.partition("-")
        if kind == "client":
            client = self.clients[int(number)]
            if self.observer is not None:
                self.observer.receives(client, source, datagram, sent)
            self._client_datagram(client, datagram, source)
            return
        node = self.nodes[int(number)]
        if node.replica is not None:
            if self.observer is not None:
                self.observer.receives(node, source, datagram, sent)
            node.replica.receive(datagram, source, self.time)
            self._finish(node)
        elif self.observer is not None:
            self.observer.unheard(node, source, datagram, sent)

    # Clients.

    def add_client(self) -> SimulatedClient:
        """A new client with a session of its own."""
        random = self._fork()
        sender = FIRST_CLIENT_ID + random.getrandbits(62)
        identity = Identity(self.cluster.cluster_id, self.cluster.digest, 0, 0, sender, 1)
        endpoint = Endpoint(identity, datagram_bytes=self.cluster.datagram_bytes)
        for member, node in self.nodes.items():
            endpoint.set_peer(member, node.address)
        session = ClientSession.of(self.cluster, random=random)
        client = SimulatedClient(len(self.clients), session, endpoint)
        self.clients.append(client)
        if self.observer is not None:
            self.observer.joined(client)
        return client

    def call(self, client: SimulatedClient, body: bytes) -> int:
        """A client calls a command; its handle."""
        handle = client.session.call(body, self.now)
        client.started[handle] = self.now
        if self.observer is not None:
            self.observer.event(client, "call", handle)
        self._finish_client(client)
        return handle

    def read(self, client: SimulatedClient, body: bytes) -> int:
        """A client reads; its handle."""
        handle = client.session.query(body, self.now)
        client.started[handle] = self.now
        if self.observer is not None:
            self.observer.event(client, "read", handle)
        self._finish_client(client)
        return handle

    def _client_datagram(self, client: SimulatedClient, datagram: bytes, source: str) -> None:
        for sender, _, data in client.endpoint.receive(datagram, source, self.now):
            message = _CLIENT_CODEC.decode(data)
            if isinstance(message, Reply | QueryReply | NotPrimary):
                client.session.receive(sender, message, self.now)
        self._finish_client(client)

    def _finish_client(self, client: SimulatedClient) -> None:
        for to, message in client.session.take_messages():
            client.endpoint.send(to, _CLIENT_CODEC.encode(message))
        for datagram, address in client.endpoint.flush(self.now):
            self._transmit(client.address, str(address), datagram)
        answers = [
            Answer(client.number, done.handle, client.started.pop(done.handle), self.now, self._value(done))
            for done in client.session.take_completions()
        ]
        if self.observer is not None:
            self.observer.client_turned(client, answers)
        for answer in answers:
            self.answers.append(answer)
            if self.on_answer is not None:
                self.on_answer(answer)
        deadline = min(client.session.deadline, client.endpoint.deadline)
        if client.wake_at < 0 or deadline < client.wake_at:
            client.wake_at = max(deadline, self.now)
            self.at(client.wake_at, lambda: self._client_tick(client))

    def _value(self, completion: Completion) -> object:
        """What a call returned, or the error by which its outcome is not known."""
        if completion.failure is not None:
            return SessionExpiredError()
        try:
            return unwrap(decode_outcome(completion.outcome), self._machine)
        except OutcomeUnknownError as unknown:
            return unknown

    def _client_tick(self, client: SimulatedClient) -> None:
        client.wake_at = -1
        if self.observer is not None:
            self.observer.event(client, "tick")
        client.session.tick(self.now)
        self._finish_client(client)
