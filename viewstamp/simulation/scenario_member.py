"""One member of a scenario: a protocol over a disk of records, which completes writes at once unless it is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from viewstamp.protocol import (
    Configuration,
    Core,
    Effects,
    Founded,
    Lost,
    Message,
    Origin,
    SendAfter,
    Snapshot,
    Time,
    Wanted,
    Write,
    check,
)
from viewstamp.simulation.stored import StoredRecords

Send = Callable[[int, int, int, Message], None]
"""Called with the sender, its incarnation, the addressee and the message."""


class ScenarioMember:
    """A protocol core, what its disk holds, and what is on its way there.

    `act` is one turn: an event and the effects that follow. Each effect that others can see is handed to `send`
    or `observe`.
    """

    def __init__(
        self,
        protocol: type[Core],
        configuration: Configuration,
        member: int,
        send: Send,
        observe: Callable[[int, Effects], None],
    ) -> None:
        self.member = member
        self.core: Core | None = None
        self.life = 0
        self.incarnation = 1
        self.disk_held = False
        self.wanted: Wanted | None = None
        self._protocol = protocol
        self._configuration = configuration
        self._send = send
        self._observe = observe
        self._disk = StoredRecords()
        self._lost = False
        self._pending: deque[Write] = deque()
        self._promises: deque[SendAfter] = deque()
        self._done = 0

    # Lives.

    def start(self, now: Time) -> None:
        """Start on what the disk holds: what was found there, the founding if it never got further, or nothing.

        Raises:
          RefusesLostDiskError: the disk is blank, and the protocol cannot bring such a member back.
        """
        check(self.core is None, "member {} runs already", self.member)
        origin: Origin
        durable = self._disk.durable
        if durable is not None:
            origin = durable
        elif self._lost:
            origin = Lost(self.incarnation)
        else:
            origin = Founded((1,) * len(self._configuration.members))
        self.life += 1
        self._done = 0
        random = Random(1000 * self.member + self.life)
        self.core = self._protocol(self._configuration, self.member, origin, random, now)
        self._finish(self.core, now)

    def crash(self, keeping: int = 0) -> int:
        """The process ends. Of the writes under way the first `keeping` reached the disk; returns how many did not."""
        self.core = None
        self.wanted = None
        for _ in range(min(keeping, len(self._pending))):
            self._disk.store(self._pending.popleft().records)
        gone = len(self._pending)
        self._pending.clear()
        self._promises.clear()
        return gone

    def lose_disk(self) -> None:
        """The process ends and the disk is blank; the next life has a new incarnation."""
        self.crash()
        self._disk = StoredRecords()
        self._lost = True
        self.incarnation += 1

    # Snapshots.

    @property
    def snapshot(self) -> Snapshot | None:
        """The latest one on its disk."""
        return self._disk.snapshot

    def compact(self, snapshot: Snapshot, keep_after: int, now: Time) -> None:
        """It has taken this snapshot, and keeps the entries after `keep_after`."""
        self._disk.compact(snapshot, keep_after)
        self.act(lambda core: core.compact(snapshot, keep_after, now), now)

    # Turns.

    def act(self, event: Callable[[Core], object], now: Time) -> None:
        """One turn."""
        if self.core is not None:
            event(self.core)
            self._finish(self.core, now)

    def release_disk(self, now: Time) -> None:
        """The disk completes what is under way, and from now on everything at once."""
        self.disk_held = False
        if self.core is not None:
            self._complete(self.core, now)

    @property
    def pending(self) -> int:
        """How many writes are under way."""
        return len(self._pending)

    def _finish(self, core: Core, now: Time) -> None:
        effects = core.drain()
        if effects.supersede:
            self.crash()
            self.incarnation = effects.supersede + 1
            self.start(now)
            return
        self.wanted = effects.wanted
        for send in effects.sends:
            self._send(self.member, self.incarnation, send.to, send.message)
        if effects.write is not None:
            self._pending.append(effects.write)
        self._promises.extend(effects.promises)
        self._observe(self.member, effects)
        self._keep_promises()
        if not self.disk_held:
            self._complete(core, now)

    def _complete(self, core: Core, now: Time) -> None:
        while self._pending and self.core is core:
            write = self._pending.popleft()
            self._disk.store(write.records)
            self._done = write.number
            self._keep_promises()
            core.written(write.number, now)
            self._finish(core, now)

    def _keep_promises(self) -> None:
        while self._promises and self._promises[0].write <= self._done:
            promise = self._promises.popleft()
            self._send(self.member, self.incarnation, promise.to, promise.message)
