"""The processor time of a command in the synchronous replica: three members in one process, no sockets, no disk.

What a busy machine does to every other figure it hardly does to this one, so it tells whether a change made the program
lighter. System calls, Trio and the disk are not in it; frames, codec, protocol, sessions, state machine and the
journal's encoding are.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from random import Random

from bench.callers import LoadError
from bench.figures import Table
from bench.load import bodies, machine_of
from bench.runner import Bench, Case
from transport.codec import MessageCodec
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from transport.interface import Address
from viewstamp.cli.options import MACHINES
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.journal import Journal
from viewstamp.journal.files import RealFiles
from viewstamp.protocol import MILLISECOND, Time
from viewstamp.registry import protocol_class
from viewstamp.replica import Replica, Stored
from viewstamp.wire import BODY_MESSAGES, FIRST_CLIENT_ID, NotPrimary, QueryReply, Reply

_TURN_DATAGRAMS = 256
_COMMANDS = 10_000
_SHARED = 1000
_PATIENCE = 20_000

Datagrams = list[tuple[bytes, Address]]


class _Nowhere(RealFiles):
    """A disk that, once the journal is open, takes no time and keeps nothing."""

    gone = False

    def append(self, handle: int, blob: bytes) -> None:
        if not self.gone:
            super().append(handle, blob)

    def sync(self, handle: int) -> None:
        if not self.gone:
            super().sync(handle)


class _Member:
    """A replica with its journal; `processor_s` is what its `turns` have cost."""

    def __init__(self, cluster: Cluster, number: int, machine: str, folder: Path, now: Time) -> None:
        core = protocol_class(cluster.protocol)
        self.address = cluster.member(number).address
        self.inbox: Datagrams = []
        self.processor_s = 0.0
        self.turns = self.writes = 0
        files = _Nowhere(folder / str(number))
        self._journal = Journal.open(
            files,
            cluster=cluster.cluster_id,
            replica=number,
            protocol=core.name,
            create_incarnation=lambda: number,
        )
        files.gone = True
        stored = Stored(self._journal.incarnation, None, None, b"")
        self.replica = Replica(cluster, number, core, MACHINES[machine](), stored, random=Random(number), now=now)
        for member in cluster.members:
            if member.id != number:
                self.replica.endpoint.set_peer(member.id, member.address)

    def turn(self, now: Time) -> Datagrams:
        """As in the Trio shell: what has arrived, the deadline, and all that follows; gives what is to be sent."""
        replica, sent = self.replica, Datagrams()
        arrived, self.inbox = self.inbox[:_TURN_DATAGRAMS], self.inbox[_TURN_DATAGRAMS:]
        if not arrived and now.monotonic < replica.deadline:
            return sent
        began = time.thread_time()
        for datagram, address in arrived:
            replica.receive(datagram, address, now)
        if now.monotonic >= replica.deadline:
            replica.tick(now)
        more = True
        while more:
            turn = replica.finish(now)
            sent += turn.datagrams
            more = turn.more
            if turn.writes:
                self._journal.commit([record for _, records in turn.writes for record in records])
                replica.written(turn.writes[-1][0], now)
                self.writes += 1
                more = True
        self.processor_s += time.thread_time() - began
        self.turns += 1
        return sent


class _Client:
    """A client with so many requests in flight."""

    def __init__(self, cluster: Cluster, number: int, body: bytes, reads: bool, in_flight: int, now: int) -> None:
        self.address = ("127.0.0.1", 10_000 + number)
        self.completed = 0
        self._session = ClientSession.of(cluster, random=Random(number))
        self._codec = MessageCodec(BODY_MESSAGES, {})
        identity = FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, FIRST_CLIENT_ID + number, 1)
        self._endpoint = Endpoint(identity, datagram_bytes=cluster.datagram_bytes)
        for member in cluster.members:
            self._endpoint.set_peer(member.id, member.address)
        self._ask = self._session.query if reads else self._session.call
        self._body = body
        for _ in range(in_flight):
            self._ask(body, now)

    def turn(self, arrived: Datagrams, now: int) -> Datagrams:
        """Take what arrived, and ask again for each that is over."""
        for datagram, address in arrived:
            for sender, _, data in self._endpoint.receive(datagram, address, now):
                message = self._codec.decode(data)
                if isinstance(message, Reply | QueryReply | NotPrimary):
                    self._session.receive(sender, message, now)
        self._session.tick(now)
        for _ in self._session.take_completions():
            self.completed += 1
            self._ask(self._body, now)
        for to, message in self._session.take_messages():
            self._endpoint.send(to, self._codec.encode(message))
        return self._endpoint.flush(now)


class World:
    """Three members and their clients; every datagram arrives one step, 50 microseconds of its own time, later."""

    def __init__(self, protocol: str, operation: str, clients: int, in_flight: int, folder: Path) -> None:
        self._now = Time(1_000 * MILLISECOND, 1_700_000_000_000 * MILLISECOND)
        addresses = [("127.0.0.1", 1000 + number) for number in range(3)]
        self._cluster = Cluster.make("bench", protocol, addresses)
        machine = machine_of(operation)
        self._members = [_Member(self._cluster, number, machine, folder, self._now) for number in (1, 2, 3)]
        until_ready = _PATIENCE
        while not all(member.replica.ready for member in self._members):
            self._step([])
            until_ready -= 1
            if not until_ready:
                raise LoadError("the members found no primary")
        prepared = bodies(operation, clients, 16)
        now = self._now.monotonic
        self._clients = [
            _Client(self._cluster, number, body, operation == "get", in_flight, now)
            for number, body in enumerate(prepared)
        ]
        self._inboxes: dict[Address, Datagrams] = {client.address: [] for client in self._clients}

    def _step(self, clients: list[_Client]) -> None:
        self._now = Time(self._now.monotonic + 50_000, self._now.wall + 50_000)
        members = {member.address: member for member in self._members}
        sent: list[tuple[Address, bytes, Address]] = []
        for client in clients:
            arrived, self._inboxes[client.address] = self._inboxes[client.address], []
            sent += [(to, data, client.address) for data, to in client.turn(arrived, self._now.monotonic)]
        for member in self._members:
            sent += [(to, data, member.address) for data, to in member.turn(self._now)]
        for to, data, source in sent:
            inbox = members[to].inbox if to in members else self._inboxes[to]
            inbox.append((data, source))

    def run(self, commands: int) -> dict[str, float]:
        """Until so many are completed; what each cost, in microseconds of processor time."""
        self._until(commands // 10)
        done = self._completed
        before = [(member.processor_s, member.turns, member.writes) for member in self._members]
        self._until(done + commands)
        count = self._completed - done
        costs = [member.processor_s - old[0] for member, old in zip(self._members, before, strict=True)]
        lead = next(index for index, member in enumerate(self._members) if member.replica.leads)
        primary, (_, turns, writes) = self._members[lead], before[lead]
        return {
            "primary_us_per_command": costs[lead] / count * 1e6,
            "backup_us_per_command": max(cost for index, cost in enumerate(costs) if index != lead) / count * 1e6,
            "commands_per_turn": count / max(1, primary.turns - turns),
            "commands_per_write": count / max(1, primary.writes - writes),
        }

    @property
    def _completed(self) -> int:
        return sum(client.completed for client in self._clients)

    def _until(self, completed: int) -> None:
        steps = 0
        while self._completed < completed:
            self._step(self._clients)
            steps += 1
            if steps > 10 * completed + _PATIENCE:
                raise LoadError(f"{self._completed} of {completed} commands completed")


def turn_cost(bench: Bench, table: Table) -> None:
    """Both protocols in turns, with few and many clients, and with a client that has a thousand requests in flight."""
    settings = {
        "increment, 1 client": ("increment", 1, 1),
        "increment, 64 clients": ("increment", 64, 1),
        "increment, 256 clients": ("increment", 256, 1),
        "put, 256 clients": ("put", 256, 1),
        "read, 64 clients": ("get", 64, 1),
        f"increment, {_SHARED} in flight": ("increment", 1, _SHARED),
    }
    bench.begin(2 * len(settings) * bench.options.rounds)
    commands = int(_COMMANDS * min(1.0, bench.options.seconds))
    for _ in range(bench.options.rounds):
        for name, (operation, clients, in_flight) in settings.items():
            for protocol in ("vsr", "raft"):
                if not bench.step(f"{protocol}: processor time, {name}"):
                    continue
                with tempfile.TemporaryDirectory(prefix="viewstamp-bench-", dir=bench.options.folder) as folder:
                    world = World(protocol, operation, clients, in_flight, Path(folder))
                    table.add(protocol, name, world.run(commands if clients + in_flight > 2 else commands // 10))


CASES = [
    Case("turn-cost", "processor time of a command in the synchronous replica, no sockets or disk", True, turn_cost)
]
