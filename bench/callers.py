"""Many independent clients in one process, without a task for each: a loop over sockets that wait for answers.

Each caller has its own socket and has one operation under way at a time. The generator shares the machine with what it
measures, so it is lean: one system call to send, one to receive, and Viewstamp's own synchronous session and endpoint.
"""

from __future__ import annotations

import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from random import Random, SystemRandom

from bench.figures import Load, load_of
from transport.codec import CodecError, MessageCodec
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.wire import BODY_MESSAGES, FIRST_CLIENT_ID, NotPrimary, QueryReply, Reply

_BUFFER_BYTES = 1 << 20
_TICK_NS = 10_000_000
_GAP_NS = 20_000_000
_PATIENCE_NS = 10_000_000_000


class LoadError(Exception):
    """Some callers got no answer for ten seconds."""


class Caller(ABC):
    """One client; `began_at` is when its operation under way began, in monotonic nanoseconds."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self.socket.bind(("127.0.0.1", 0))
        self.began_at = 0

    @abstractmethod
    def begin(self, now: int) -> None:
        """Send the next operation."""

    @abstractmethod
    def receive(self, now: int) -> bool:
        """Read one datagram; whether the operation is over."""

    @abstractmethod
    def tick(self, now: int) -> None:
        """Send again what has no answer, if it is time."""

    def sent(self) -> tuple[int, int]:
        """Datagrams and bytes sent so far, where they are counted."""
        return 0, 0


class SessionCaller(Caller):
    """A Viewstamp client with a session of its own that repeats one command, or one query."""

    def __init__(self, cluster: Cluster, body: bytes, reads: bool, random: Random) -> None:
        super().__init__()
        self._body = body
        self._session = ClientSession.of(cluster, random=random)
        self._codec = MessageCodec(BODY_MESSAGES, {})
        sender = FIRST_CLIENT_ID + random.getrandbits(62)
        identity = FrameIdentity(cluster.cluster_id, cluster.digest, 0, 0, sender, 1)
        self._endpoint = Endpoint(identity, datagram_bytes=cluster.datagram_bytes)
        for member in cluster.members:
            self._endpoint.set_peer(member.id, member.address)
        self._ask = self._session.query if reads else self._session.call

    def begin(self, now: int) -> None:
        self.began_at = now
        self._ask(self._body, now)
        self._flush(now)

    def receive(self, now: int) -> bool:
        datagram, address = self.socket.recvfrom(65_536)
        for sender, _, data in self._endpoint.receive(datagram, address, now):
            try:
                message = self._codec.decode(data)
            except CodecError:
                continue
            if isinstance(message, Reply | QueryReply | NotPrimary):
                self._session.receive(sender, message, now)
        if self._session.take_completions():
            return True
        self._flush(now)
        return False

    def tick(self, now: int) -> None:
        if now >= min(self._session.deadline, self._endpoint.deadline):
            self._session.tick(now)
            self._flush(now)

    def sent(self) -> tuple[int, int]:
        statistics = self._endpoint.statistics()
        return statistics.datagrams_out, statistics.bytes_out

    def _flush(self, now: int) -> None:
        for to, message in self._session.take_messages():
            self._endpoint.send(to, self._codec.encode(message))
        for datagram, address in self._endpoint.flush(now):
            try:
                self.socket.sendto(datagram, address)  # type: ignore[call-overload]  # an address of IPv4
            except OSError:
                continue  # as lost as on the way: the tick sends it again, elsewhere if need be


def clients_of(
    kind: Callable[[Cluster, bytes, bool, Random], Caller], cluster: Cluster, bodies: Sequence[bytes], reads: bool
) -> list[Caller]:
    """One client of this kind for each of these bodies."""
    seed = Random(SystemRandom().getrandbits(128))
    return [kind(cluster, body, reads, Random(seed.getrandbits(64))) for body in bodies]


class Drive:
    """Callers in closed loops: each begins its next operation as soon as the one before is over."""

    def __init__(self, callers: Sequence[Caller]) -> None:
        self._callers = callers
        self._selector = selectors.DefaultSelector()
        for caller in callers:
            self._selector.register(caller.socket, selectors.EVENT_READ, caller)
        self._latencies: list[int] = []
        self._gaps: list[tuple[int, int]] = []

    def warm_up(self, seconds: float) -> None:
        """Open the sessions: every caller completes one operation at least. Then some more, unmeasured."""
        clock = time.monotonic_ns
        waiting = set(self._callers)
        for caller in self._callers:
            caller.begin(clock())
        patience = clock() + _PATIENCE_NS
        while waiting:
            for key, _ in self._selector.select(0.01):
                if key.data.receive(clock()):
                    waiting.discard(key.data)
                    key.data.began_at = 0
            now = clock()
            for caller in waiting:
                caller.tick(now)
            if now > patience:
                raise LoadError(f"{len(waiting)} of {len(self._callers)} callers got no answer for 10 s")
        if seconds:
            self.measure(seconds)

    def measure(self, seconds: float) -> Load:
        """Load for so long, and wait for what is under way."""
        self._latencies = []
        before = self._sent()
        began, processor = time.monotonic_ns(), time.process_time()
        until = began + int(seconds * 1e9)
        for caller in self._callers:
            caller.begin(time.monotonic_ns())
        under_way = self._loop(until)
        took, cost = (time.monotonic_ns() - began) / 1e9, time.process_time() - processor
        load = load_of(self._latencies, took, cost)
        after = self._sent()
        self._drain(under_way)
        return Load(
            load.completed,
            load.seconds,
            load.p50_us,
            load.p99_us,
            load.p999_us,
            load.generator_cores,
            datagrams_out=after[0] - before[0],
            bytes_out=after[1] - before[1],
        )

    def _loop(self, until: int) -> set[Caller]:
        clock, select, done = time.monotonic_ns, self._selector.select, self._latencies.append
        next_tick = clock() + _TICK_NS
        while True:
            for key, _ in select(0.01):
                caller = key.data
                now = clock()
                if caller.receive(now):
                    done(now - caller.began_at)
                    caller.begin(clock())
            now = clock()
            if now >= next_tick:
                next_tick = now + _TICK_NS
                for caller in self._callers:
                    caller.tick(now)
            if now >= until:
                return set(self._callers)

    def _drain(self, under_way: set[Caller]) -> None:
        """Wait for the last answers, so that the next measurement begins with nothing under way."""
        patience = time.monotonic_ns() + _PATIENCE_NS
        while under_way and time.monotonic_ns() < patience:
            for key, _ in self._selector.select(0.01):
                if key.data.receive(time.monotonic_ns()):
                    under_way.discard(key.data)
            for caller in under_way:
                caller.tick(time.monotonic_ns())

    def gaps_until(self, ends: socket.socket | int) -> Load:
        """Load until `ends` is readable; keeps each interval of 20 ms or more without a completion, in wall time."""
        self._latencies = []
        began, processor = time.monotonic_ns(), time.process_time()
        wall = time.time_ns() - began
        self._selector.register(ends, selectors.EVENT_READ, None)
        for caller in self._callers:
            caller.begin(time.monotonic_ns())
        last, over, next_tick = began, False, 0
        while not over:
            for key, _ in self._selector.select(0.002):
                now = time.monotonic_ns()
                caller = key.data
                if caller is None:
                    over = True
                elif caller.receive(now):
                    if now - last >= _GAP_NS:
                        self._gaps.append((last + wall, now + wall))
                    last = now
                    self._latencies.append(now - caller.began_at)
                    caller.begin(now)
            now = time.monotonic_ns()
            if now >= next_tick:
                next_tick = now + _TICK_NS // 5
                for caller in self._callers:
                    caller.tick(now)
        took, cost = (time.monotonic_ns() - began) / 1e9, time.process_time() - processor
        load = load_of(self._latencies, took, cost)
        return Load(load.completed, took, load.p50_us, load.p99_us, load.p999_us, load.generator_cores, gaps=self._gaps)

    def _sent(self) -> tuple[int, int]:
        each = [caller.sent() for caller in self._callers]
        return sum(datagrams for datagrams, _ in each), sum(size for _, size in each)
