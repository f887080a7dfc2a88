"""What surrounds the members of a simulated cluster: the network between them, and their clients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from hashlib import blake2b
from random import Random

from statemachine import (
    CommandError,
    CommandFailedError,
    NotExecutedError,
    OutcomeUnknownError,
    SessionExpiredError,
    StateMachine,
    decode_outcome,
    unwrap,
)
from statemachine.sessions import MAXIMUM_REPLIES_BYTES
from transport.codec import CodecError, MessageCodec
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from transport.network import Network
from viewstamp.client import Backlog, ClientSession, Completion
from viewstamp.cluster import Cluster
from viewstamp.protocol import NEVER
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.observer import Observer
from viewstamp.simulation.timeline import Timeline
from viewstamp.simulation.told import Places
from viewstamp.wire import BODY_MESSAGES, FIRST_CLIENT_ID, NotPrimary, QueryReply, Reply, post

_CLIENT_CODEC = MessageCodec(BODY_MESSAGES, {})


class Surroundings(Timeline):
    """The network and the clients of a cluster; `World` adds its members."""

    def __init__(self, seed: int, cluster: Cluster, machine: type[StateMachine], network: Network | None) -> None:
        super().__init__()
        self.random = Random(seed)
        self._seed = seed
        self.cluster = cluster
        self.machine = machine
        self.network = network if network is not None else Network(self._stream("network"))
        self.clients: list[SimulatedClient] = []
        self.answers: list[Answer] = []
        self.on_answer: Callable[[Answer], None] | None = None
        self.on_send: Callable[[str, str, bytes], None] | None = None
        self.observer: Observer | None = None
        self.max_reply_bytes = MAXIMUM_REPLIES_BYTES
        self.gathered = 1
        """Of a client's calls that wait together, how many may make one request."""
        self._places = Places(self._view_at)
        self._trace = blake2b(digest_size=16)

    def _stream(self, name: str) -> Random:
        """A generator for one purpose: how often others draw does not change what it gives."""
        return Random(f"{name} {self._seed}")

    @property
    def bounds(self) -> dict[str, int]:
        """Of the clients' sessions, the same at all members."""
        cluster = self.cluster
        window, most = cluster.window, cluster.max_sessions
        return {"max_sessions": most, "window": window, "max_reply_bytes": self.max_reply_bytes}

    @property
    def digest(self) -> str:
        """A digest of every datagram so far: equal for equal seeds, in any process."""
        return self._trace.hexdigest()

    # Network.

    def _transmit(self, source: str, destination: str, datagram: bytes) -> None:
        self._trace.update(b"%d %s %s;" % (self.now, source.encode(), destination.encode()))
        self._trace.update(datagram)
        if self.on_send is not None:
            self.on_send(source, destination, datagram)
        arrivals = self.network.transmit(source, destination, datagram, self.now)
        observer = self.observer
        number = observer.transmitted(source, destination, datagram, arrivals) if observer is not None else 0
        for arrival, data in arrivals:
            self.at(arrival, lambda data=data: self._arrive(source, destination, data, number))  # type: ignore[misc]  # bound now

    def deliver(self, source: str, destination: str, datagram: bytes) -> None:
        """A datagram that was sent at some time arrives now."""
        self._arrive(source, destination, datagram, 0)

    def _arrive(self, source: str, destination: str, datagram: bytes, number: int) -> None:
        kind, _, name = destination.partition("-")
        if kind == "client":
            self._client_datagram(self.clients[int(name)], datagram, source, number)
            return
        self._reach_member(int(name), source, datagram, number)

    @abstractmethod
    def _reach_member(self, member: int, source: str, datagram: bytes, number: int) -> None:
        """A datagram arrives at a member."""

    @abstractmethod
    def _view_at(self, op: int) -> int:
        """The view in which the entry that is committed at `op` was made; -1 if there is none yet, 0 for op 0."""

    # Clients.

    def add_client(self) -> SimulatedClient:
        """A new client with a session of its own."""
        random = self._stream(f"client {len(self.clients)}")
        sender = FIRST_CLIENT_ID + random.getrandbits(62)
        identity = FrameIdentity(self.cluster.cluster_id, self.cluster.digest, 0, 0, sender, 1)
        endpoint = Endpoint(identity, datagram_bytes=self.cluster.datagram_bytes)
        for member in self.cluster.members:
            endpoint.set_peer(member.id, f"member-{member.id}")
        backlog = Backlog(self.cluster.max_command_bytes, lasts_ns=NEVER, at_most=self.gathered)
        session = ClientSession.of(self.cluster, random=random, backlog=backlog)
        client = SimulatedClient(
            len(self.clients), session, endpoint, self._stream(f"calls of client {len(self.clients)}")
        )
        self.clients.append(client)
        if self.observer is not None:
            self.observer.joined(client)
        return client

    def remove_client(self, client: SimulatedClient) -> None:
        """The client's process ends: nobody waits for its answers any more. What it sent is still under way."""
        client.alive = False

    def call(self, client: SimulatedClient, body: bytes, *, is_list: bool = False, more: bool = False) -> int:
        """A client calls a command, or several as a list; its handle. With `more` it does nothing else before it calls
        again."""
        handle = client.session.call(body, self.now, is_list=is_list)
        client.started[handle] = self.now
        self._places.begun(client.number, handle)
        if self.observer is not None:
            self.observer.event(client, "call", handle)
        if not more:
            self._finish_client(client)
        elif self.observer is not None:
            self.observer.client_turned(client, ())
        return handle

    def read(self, client: SimulatedClient, body: bytes, member: int = 0) -> int:
        """A client reads, at that member unless it is 0; its handle."""
        handle = client.session.query(body, self.now, member)
        client.started[handle] = self.now
        self._places.begun(client.number, handle)
        if self.observer is not None:
            self.observer.event(client, "read", handle)
        self._finish_client(client)
        return handle

    def abandon(self, client: SimulatedClient, handle: int) -> None:
        """Whoever made the call or read goes away; a command may be executed all the same."""
        client.session.abandon(handle)

    def renew(self, client: SimulatedClient) -> None:
        """A client whose session has expired opens another; what it had under way stays unknown."""
        client.session.expire()
        client.session.renew()
        self.at(self.now, lambda: self._finish_client(client))

    def _client_datagram(self, client: SimulatedClient, datagram: bytes, source: str, number: int) -> None:
        if not client.alive:
            return
        if self.observer is not None:
            self.observer.receives(client, source, datagram, number)
        for sender, _, data in client.endpoint.receive(datagram, source, self.now):
            try:
                message = _CLIENT_CODEC.decode(data)
            except CodecError:
                continue
            if isinstance(message, Reply | QueryReply | NotPrimary):
                if isinstance(message, Reply):
                    client.told.hear(client.number, message)
                client.session.receive(sender, message, self.now)
        self._finish_client(client)

    def _finish_client(self, client: SimulatedClient) -> None:
        for to, message in client.session.take_messages():
            post(client.endpoint, _CLIENT_CODEC, to, message)
        for datagram, address in client.endpoint.flush(self.now):
            self._transmit(client.address, str(address), datagram)
        deadline = min(client.session.deadline, client.endpoint.deadline)
        if deadline < NEVER and (client.wake_at < 0 or deadline < client.wake_at):
            client.wake_at = wake_at = max(deadline, self.now)
            self.at(wake_at, lambda: self._client_tick(client, wake_at))
        answers = [self._answer(client, completion) for completion in client.session.take_completions()]
        if self.observer is not None:
            self.observer.client_turned(client, answers)
        self.answers += answers
        if self.on_answer is not None:
            for answer in answers:
                self.on_answer(answer)

    def _answer(self, client: SimulatedClient, completion: Completion) -> Answer:
        value: object
        self._places.answered(client.number, completion)
        try:
            if completion.failure is not None:
                raise SessionExpiredError
            value = unwrap(decode_outcome(completion.outcome), self.machine)
        except (CommandError, CommandFailedError, NotExecutedError, OutcomeUnknownError) as error:
            value = error
        return Answer(client.number, completion.handle, client.started.pop(completion.handle), self.now, value)

    def _client_tick(self, client: SimulatedClient, wake_at: int) -> None:
        if client.wake_at != wake_at:
            return  # An earlier one was planned since.
        client.wake_at = -1
        if client.alive:
            if self.observer is not None:
                self.observer.event(client, "tick")
            client.session.tick(self.now, client.endpoint.heard_part_at(client.session.target))
            self._finish_client(client)
