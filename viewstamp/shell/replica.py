"""One member of a cluster under Trio: what a service has of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Generic, TypeVar, cast

import trio

from statemachine import StateMachine
from viewstamp.cluster import Cluster
from viewstamp.protocol import Transition
from viewstamp.replica.status import ReplicaStatistics
from viewstamp.shell.callers import Callers
from viewstamp.shell.reminder import Reminder
from viewstamp.shell.replica_loop import ReplicaLoop
from viewstamp.status import Status

M_co = TypeVar("M_co", bound=StateMachine, covariant=True)


class RunningReplica(Callers, Generic[M_co]):
    """One member, running, with a state machine of this class. Made by `open_replica`."""

    def __init__(self, loop: ReplicaLoop) -> None:
        super().__init__(type(loop.replica.executor.machine), loop.cluster.max_command_bytes, loop.parking)
        self._loop = loop

    @property
    def id(self) -> int:
        """Which member of the cluster it is."""
        return self._loop.member

    @property
    def cluster(self) -> Cluster:
        """The cluster as this member was told of it."""
        return self._loop.cluster

    @property
    def machine(self) -> M_co:
        """The state machine itself, as far as this member has applied; for looking, never for changing.

        Look it up anew each time: where a snapshot is installed, another takes its place.
        """
        return cast("M_co", self._loop.replica.executor.machine)

    @property
    def is_primary(self) -> bool:
        """Whether this member orders commands right now, as far as it knows; false once it is closed.

        It is no lease: another may have replaced it already. What two must not do at once belongs in a command.
        """
        return not self._parking.closed and self._loop.replica.leads

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
        while not self._loop.replica.ready:
            with reminder.interrupting():
                await self._loop.announcer.changed.wait()
            self._refuse_if_closed()

    def status(self) -> Status:
        """How this member sees itself."""
        return self._loop.replica.status()

    def statistics(self) -> ReplicaStatistics:
        """Counts since the start of the process."""
        return replace(self._loop.replica.statistics(), journal=self._loop.journal.statistics())

    def events(self) -> AsyncGenerator[Transition, None]:
        """What changes at this member and why, from this call on: views, roles, faults.

        Keeps up to 1,024 events for a slow reader and drops the newest beyond. Ends when the replica is closed. Close
        it (`aclosing`) when done.
        """
        return self._loop.announcer.events()

    def take_snapshot(self) -> None:
        """Take a snapshot now rather than when the log is long enough; it is written beside the commands."""
        self._loop.take_snapshot()

    def resign(self) -> None:
        """Give way to another primary, if this member is one and not closed. `hand_over` waits for it, too."""
        if self.is_primary:
            self._loop.resign()

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
        if not self.is_primary or len(self.cluster.members) == 1:
            return
        while self.status().primary in (0, self.id):
            if self.is_primary:
                self.resign()  # Once more, if need be: a Raft leader that found nobody to hand over to goes on leading.
            with trio.move_on_after(self.cluster.timeouts.suspect / 1e9):
                await self._loop.announcer.changed.wait()
            self._refuse_if_closed()
