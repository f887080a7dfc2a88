"""One member of a cluster under Trio: what a service has of it, and its loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from random import Random
from time import perf_counter_ns, time_ns
from typing import Generic, TypeVar, cast
from weakref import WeakSet

import trio

from statemachine import Executor, StateMachine
from transport.interface import Transport
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.journal import Journal
from viewstamp.journal.files import Files
from viewstamp.protocol import MILLISECOND, NEVER, Core, Time, Transition
from viewstamp.replica import IncarnationTooOldError, Replica, Stored, snapshot_of
from viewstamp.replica.status import ReplicaStatistics
from viewstamp.shell.addresses import Addresses
from viewstamp.shell.callers import Callers
from viewstamp.shell.idle import WallClock, read_clock
from viewstamp.shell.parts import Parts
from viewstamp.shell.reminder import Reminder, tell_late
from viewstamp.shell.scope import leaves
from viewstamp.shell.snapshot_work import SnapshotWork
from viewstamp.shell.storage import Storage
from viewstamp.status import Status

M_co = TypeVar("M_co", bound=StateMachine, covariant=True)

_TURN_DATAGRAMS = 256
_TURN_S = 0.002
_FULL_TURNS_AT_MOST = 64
_FULL_NS_AT_MOST = 50 * MILLISECOND
_EVENTS_KEPT = 1024
_LATEST_MS = (1 << 42) - 1  # in the year 2109


def new_incarnation(random: Random, wall_clock: WallClock = time_ns) -> int:
    """A number for a data directory: milliseconds since the epoch, and 20 random bits below.

    Whatever the clock says, it is positive and leaves room for larger ones.
    """
    milliseconds = min(max(1, wall_clock() // MILLISECOND), _LATEST_MS)
    return (milliseconds << 20) | random.getrandbits(20)


class RunningReplica(Callers, Generic[M_co]):
    """One member, running, with a state machine of this class. Made by `open_replica`."""

    def __init__(
        self,
        machine: Callable[[], M_co],
        cluster: Cluster,
        member: int,
        core_class: type[Core],
        journal: Journal,
        files: Files,
        executor: Executor | None,
        transport: Transport,
        random: Random,
        wall_clock: WallClock,
        parts: Parts,
    ) -> None:
        self._make_machine = machine
        self._cluster = cluster
        self._member = member
        self._core_class = core_class
        self._journal = journal
        self._transport = transport
        self._random = random
        self._wall_clock = wall_clock
        self._parts = parts
        idle = parts.make_idle(transport)
        self._storage = Storage(journal, idle.wake, parts.run_sync)
        self._snapshots = SnapshotWork(files, machine, cluster, idle.wake, parts.run_sync)
        recovered = journal.recovered
        snapshot = snapshot_of(recovered.snapshot) if recovered.snapshot is not None else None
        self._founding = recovered.founding
        self._replica = self._make_replica(
            Stored(journal.incarnation, recovered.founding, recovered.state, recovered.entries, snapshot, executor)
        )
        machine_class = type(self._replica.executor.machine)
        super().__init__(machine_class, cluster.max_command_bytes, self._replica.session, idle)
        self._changed = trio.Event()
        self._full_turns = 0
        self._full_since = 0
        self._deadline = 0
        self._turned_at = NEVER
        # Weak: a generator that is closed, or dropped, before its first step runs none of its code.
        self._watchers: WeakSet[trio.MemorySendChannel[Transition]] = WeakSet()
        self.addresses = Addresses(cluster, self._replica.endpoint, transport, member)

    def _make_replica(self, stored: Stored, session: ClientSession | None = None) -> Replica:
        replica = self._parts.make_replica(
            self._cluster,
            self._member,
            self._core_class,
            self._make_machine(),
            stored,
            random=self._random,
            now=read_clock(self._wall_clock),
            session=session,
            measure=perf_counter_ns,
        )
        replica.journal_bytes = self._storage.journal_bytes
        return replica

    # For the service.

    @property
    def id(self) -> int:
        """Which member of the cluster it is."""
        return self._member

    @property
    def cluster(self) -> Cluster:
        """The cluster as this member was told of it."""
        return self._cluster

    @property
    def machine(self) -> M_co:
        """The state machine itself, as far as this member has applied; for looking, never for changing.

        Look it up anew each time: where a snapshot is installed, another takes its place.
        """
        return cast("M_co", self._replica.executor.machine)

    @property
    def is_primary(self) -> bool:
        """Whether this member orders commands right now, as far as it knows; false once it is closed.

        It is no lease: another may have replaced it already. What two must not do at once belongs in a command.
        """
        return not self._closed and self._replica.leads

    async def wait_ready(self) -> None:
        """Wait until this member takes part in the cluster and knows a primary. While it lasts, the log says why.

        A VSR backup that starts again takes the primary of its view for granted until that has been silent for a while:
        this returns at once then, and calls wait until others are heard.

        Raises:
          ClosedError: the replica was closed first.
        """
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        reminder = Reminder(self.status)
        while not self._replica.ready:
            with reminder.interrupting():
                await self._changed.wait()
            self._refuse_if_closed()

    def status(self) -> Status:
        """How this member sees itself."""
        return self._replica.status()

    def statistics(self) -> ReplicaStatistics:
        """Counts since the start of the process."""
        return replace(self._replica.statistics(), journal=self._journal.statistics())

    def events(self) -> AsyncGenerator[Transition, None]:
        """What changes at this member and why, from this call on: views, roles, faults.

        Keeps up to 1,024 events for a slow reader and drops the newest beyond. Ends when the replica is closed. Close
        it (`aclosing`) when done.
        """
        send, receive = trio.open_memory_channel[Transition](_EVENTS_KEPT)
        if self._closed:
            send.close()
        else:
            self._watchers.add(send)  # Now: what happens before a reader's first step is not lost.
        return self._events(send, receive)

    async def _events(
        self, send: trio.MemorySendChannel[Transition], receive: trio.MemoryReceiveChannel[Transition]
    ) -> AsyncGenerator[Transition, None]:
        try:
            async for event in receive:
                yield event
        finally:
            self._watchers.discard(send)
            send.close()
            receive.close()

    def resign(self) -> None:
        """Give way to another primary, if this member is one and not closed. `hand_over` waits for it, too."""
        if not self._closed:
            now = self._now()
            self._replica.resign(now)
            self._carry_out(now)
            self._idle.wake()  # It may be due earlier now than the loop is to wake.

    async def hand_over(self) -> None:
        """Let another member become primary, and wait until one has: what a planned stop does before its block ends.

        Clients then wait for no time-out. Returns at once at a member that is no primary, or is alone. Without a
        majority nobody can take over and there is no end: bound it with `trio.move_on_after`. Cancelled, it may have
        given way or not.

        Raises:
          ClosedError: the replica was closed first.
        """
        await trio.lowlevel.checkpoint()
        self._refuse_if_closed()
        if not self.is_primary or len(self._cluster.members) == 1:
            return
        while self.status().primary in (0, self._member):
            if self.is_primary:
                self.resign()  # Once more, if need be: a Raft leader that found nobody to hand over to goes on leading.
            with trio.move_on_after(self._cluster.timeouts.suspect / 1e9):
                await self._changed.wait()
            self._refuse_if_closed()

    # The loop.

    async def run(self) -> None:
        """Turn after turn. Ends only by cancellation or an error."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._storage.run)
            nursery.start_soon(self._snapshots.run)
            nursery.start_soon(self.addresses.keep_fresh, self._replica_silence)
            while True:
                try:
                    await self._idle.between(self._turn)
                except* IncarnationTooOldError as too_old:
                    minimum = max(
                        error.minimum for error in leaves(too_old) if isinstance(error, IncarnationTooOldError)
                    )
                    await self._start_again(minimum)

    async def _start_again(self, minimum: int) -> None:
        """Begin anew, with a larger incarnation and all that the old one had under way forgotten. It is blank."""
        await self._storage.settle()
        self._storage.take_finished()  # These numbers are the old replica's; the new one counts from 1 again.
        self._journal.set_incarnation(max(minimum, new_incarnation(self._random, self._wall_clock)))
        blank = Stored(self._journal.incarnation, self._founding, None, b"")
        self._replica = self._make_replica(blank, self._replica.session)
        self.addresses.follow(self._replica.endpoint)

    def _now(self) -> Time:
        return read_clock(self._wall_clock, self._current_time)

    def _turn(self) -> int | None:
        """One turn: gather, decide, carry out. When the next is due; None if there is more to do at once."""
        replica = self._replica
        now = self._now()
        arrived = self._transport.receive(_TURN_DATAGRAMS)
        for datagram, address in arrived:
            replica.receive(datagram, address, now)
        finished = self._storage.take_finished()
        if finished:
            replica.written(finished, now)
        for task, data in self._snapshots.take_done():
            replica.file_done(task, data, now)
        for snapshot, executor in self._snapshots.take_loaded():
            replica.restored(snapshot, executor, now)
        # Only after everything that has arrived: a loop that was held up must not take its own delay for silence.
        # But a flood that never ends must not stop the timers, or a primary under one would send no heartbeats.
        drained = len(arrived) < _TURN_DATAGRAMS
        self._full_turns = 0 if drained else self._full_turns + 1
        if self._full_turns <= 1:
            self._full_since = now.monotonic
        endless = self._full_turns >= _FULL_TURNS_AT_MOST or now.monotonic - self._full_since >= _FULL_NS_AT_MOST
        if now.monotonic >= self._deadline and (drained or endless):
            late_ns = now.monotonic - max(self._deadline, self._turned_at)
            if late_ns >= self._cluster.timeouts.suspect:
                tell_late(self._member, late_ns, replica.executor.applied)
            replica.tick(now)
        more = self._carry_out(now)
        # What changes it before the next turn is looked at again when the turn that does so ends.
        self._deadline, self._turned_at = replica.deadline, now.monotonic
        return self._deadline if drained and not more else None

    def _carry_out(self, now: Time) -> bool:
        """What the turn that began at `now` asks for. Whether it asks for more than is good for one."""
        replica = self._replica
        ends_at = self._current_time() + _TURN_S
        while True:
            turn = replica.finish(now)
            for datagram, address in turn.datagrams:
                self._transport.send(datagram, address)
            if turn.completions:
                self._deliver(turn.completions)
            if turn.transitions:
                self._announce(turn.transitions)
            if turn.files or turn.restore is not None:
                self._snapshots.begin(turn.files, turn.restore)
            durable = self._storage.write(turn.writes) if turn.writes else 0
            if turn.release:
                self._storage.release(turn.release)
            if not durable and not turn.more:
                return False
            now = self._now()
            if durable:
                replica.written(durable, now)
            if self._current_time() > ends_at:
                return True

    def take_snapshot(self) -> None:
        """Take a snapshot now rather than when the log is long enough; it is written beside the commands."""
        self._replica.take_snapshot(read_clock(self._wall_clock))
        self._idle.wake()

    def _announce(self, transitions: Sequence[Transition]) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for transition in transitions:
            for watcher in tuple(self._watchers):
                try:
                    watcher.send_nowait(transition)
                except trio.WouldBlock:
                    continue  # A reader that does not keep up misses the newest; the replica waits for nobody.

    def _replica_silence(self) -> dict[int, int]:
        return self._replica.silence()

    def close(self) -> None:
        """The loop has ended: release whoever waits."""
        self._close()
        self._changed.set()
        for watcher in self._watchers:
            watcher.close()
