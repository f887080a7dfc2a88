"""The loop of one member: turn after turn, what has arrived goes in and what comes out is carried out."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import perf_counter_ns, time_ns

import trio

from statemachine import Executor, StateMachine
from transport.interface import Transport
from viewstamp.client import ClientSession
from viewstamp.cluster import Cluster
from viewstamp.journal import Journal
from viewstamp.journal.files import Files
from viewstamp.protocol import MILLISECOND, NEVER, Core, Time
from viewstamp.replica import IncarnationTooOldError, Replica, Stored, snapshot_of
from viewstamp.shell.addresses import Addresses
from viewstamp.shell.announcer import Announcer
from viewstamp.shell.idle import WallClock, read_clock
from viewstamp.shell.journal_writer import JournalWriter
from viewstamp.shell.parking import Parking
from viewstamp.shell.parts import Parts
from viewstamp.shell.reminder import tell_late
from viewstamp.shell.scope import leaves
from viewstamp.shell.snapshot_work import SnapshotWork

_TURN_DATAGRAMS = 256
_TURN_S = 0.002
_FULL_TURNS_AT_MOST = 64
_FULL_NS_AT_MOST = 50 * MILLISECOND
_LATEST_MS = (1 << 42) - 1  # in the year 2109


def new_incarnation(random: Random, wall_clock: WallClock = time_ns) -> int:
    """A number for a data directory: milliseconds since the epoch, and 20 random bits below.

    Whatever the clock says, it is positive and leaves room for larger ones.
    """
    milliseconds = min(max(1, wall_clock() // MILLISECOND), _LATEST_MS)
    return (milliseconds << 20) | random.getrandbits(20)


class ReplicaLoop:
    """One member, for `open_replica`, which runs and closes it. Services have a `RunningReplica` of it."""

    def __init__(
        self,
        machine: Callable[[], StateMachine],
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
        self.cluster = cluster
        self.member = member
        self._core_class = core_class
        self.journal = journal
        self._transport = transport
        self._random = random
        self._wall_clock = wall_clock
        self._parts = parts
        self._current_time = trio.lowlevel.current_clock().current_time
        self._idle = parts.make_idle(transport)
        self._storage = JournalWriter(journal, self._idle.wake, parts.run_sync)
        self._snapshots = SnapshotWork(files, machine, cluster, self._idle.wake, parts.run_sync)
        recovered = journal.recovered
        snapshot = snapshot_of(recovered.snapshot) if recovered.snapshot is not None else None
        self._founding = recovered.founding
        self.replica = self._make_replica(
            Stored(journal.incarnation, recovered.founding, recovered.state, recovered.entries, snapshot, executor)
        )
        self.parking = Parking(self.replica.session, self._idle)
        self.announcer = Announcer()
        self._full_turns = 0
        self._full_since = 0
        self._deadline = 0
        self._turned_at = NEVER
        self.addresses = Addresses(cluster, self.replica.endpoint, transport, member)

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

    def take_snapshot(self) -> None:
        """Take a snapshot now."""
        self.replica.take_snapshot(read_clock(self._wall_clock))
        self._idle.wake()

    def resign(self) -> None:
        """Give way to another primary, if this member is one."""
        now = self._now()
        self.replica.resign(now)
        self._carry_out(now)
        self._idle.wake()  # It may be due earlier now than the loop is to wake.

    def close(self) -> None:
        """It has ended: release whoever waits."""
        self.parking.close()
        self.announcer.close()

    def _make_replica(self, stored: Stored, session: ClientSession | None = None) -> Replica:
        replica = self._parts.make_replica(
            self.cluster,
            self.member,
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

    async def _start_again(self, minimum: int) -> None:
        """Begin anew, with a larger incarnation and all that the old one had under way forgotten. It is blank."""
        await self._storage.settle()
        self._storage.take_finished()  # These numbers are the old replica's; the new one counts from 1 again.
        await self._snapshots.settle()
        self._snapshots.take_done()  # Blocks of a snapshot that the old one was fetching: the new one begins anew.
        self.journal.set_incarnation(max(minimum, new_incarnation(self._random, self._wall_clock)))
        blank = Stored(self.journal.incarnation, self._founding, None, b"")
        self.replica = self._make_replica(blank, self.replica.session)
        self.addresses.follow(self.replica.endpoint)

    def _now(self) -> Time:
        return read_clock(self._wall_clock, self._current_time)

    def _turn(self) -> int | None:
        """One turn: gather, decide, carry out. When the next is due; None if there is more to do at once."""
        replica = self.replica
        now = self._now()
        arrived = 0
        while arrived < _TURN_DATAGRAMS:
            datagrams = self._transport.receive(_TURN_DATAGRAMS - arrived)
            for datagram, address in datagrams:
                replica.receive(datagram, address, now)
            arrived += len(datagrams)
            if len(datagrams) <= 1:
                break  # While several were taken in others have come, to share this turn's messages and its sync.
        finished = self._storage.take_finished()
        if finished:
            replica.written(finished, now)
        for task, data in self._snapshots.take_done():
            replica.file_done(task, data, now)
        for snapshot, executor in self._snapshots.take_loaded():
            replica.restored(snapshot, executor, now)
        # Only after everything that has arrived: a loop that was held up must not take its own delay for silence.
        # But a flood that never ends must not stop the timers, or a primary under one would send no heartbeats.
        drained = arrived < _TURN_DATAGRAMS
        self._full_turns = 0 if drained else self._full_turns + 1
        if self._full_turns <= 1:
            self._full_since = now.monotonic
        endless = self._full_turns >= _FULL_TURNS_AT_MOST or now.monotonic - self._full_since >= _FULL_NS_AT_MOST
        if now.monotonic >= self._deadline and (drained or endless):
            late_ns = now.monotonic - max(self._deadline, self._turned_at)
            if late_ns >= self.cluster.timeouts.suspect:
                tell_late(self.member, late_ns, replica.executor.applied)
            replica.tick(now)
        more = self._carry_out(now)
        # What changes it before the next turn is looked at again when the turn that does so ends.
        self._deadline, self._turned_at = replica.deadline, now.monotonic
        return self._deadline if drained and not more else None

    def _carry_out(self, now: Time) -> bool:
        """What the turn that began at `now` asks for. Whether it asks for more than is good for one."""
        replica = self.replica
        ends_at = self._current_time() + _TURN_S
        while True:
            turn = replica.finish(now)
            for datagram, address in turn.datagrams:
                self._transport.send(datagram, address)
            if turn.completions:
                self.parking.deliver(turn.completions)
            if turn.transitions:
                self.announcer.announce(turn.transitions)
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

    def _replica_silence(self) -> dict[int, int]:
        return self.replica.silence()
