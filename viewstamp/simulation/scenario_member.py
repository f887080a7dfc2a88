"""One member of a scenario: a protocol over a disk of records, which completes writes at once unless it is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from viewstamp.protocol import (
    Append,
    Configuration,
    Core,
    Durable,
    Effects,
    Entry,
    Founded,
    Lost,
    Message,
    Origin,
    SaveState,
    SendAfter,
    State,
    Time,
    Truncate,
    Write,
    check,
)

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
        self._protocol = protocol
        self._configuration = configuration
        self._send = send
        self._observe = observe
        self._state: State | None = None
        self._log: list[Entry] = []
        self._lost = False
        self._pending: deque[Write] = deque()
        self._promises: deque[SendAfter] = deque()
        self._done = 0

    # Lives.

    def start(self, now: Time) -> None:
        """Start on what the disk holds: what was found there, the founding if it never got further, or nothing."""
        check(self.core is None, "member {} runs already", self.member)
        origin: Origin
        if self._lost and self._state is None:
            origin = Lost(self.incarnation)
        elif self._state is None:
            origin = Founded((1,) * len(self._configuration.members))
        else:
            origin = Durable(self._state, tuple(self._log))
        self.life += 1
        self._done = 0
        random = Random(1000 * self.member + self.life)
        self.core = self._protocol(self._configuration, self.member, origin, random, now)
        self._finish(self.core, now)

    def crash(self, keeping: int = 0) -> int:
        """The process ends. Of the writes under way the first `keeping` reached the disk; returns how many did not."""
        self.core = None
        for _ in range(min(keeping, len(self._pending))):
            self._store(self._pending.popleft())
        gone = len(self._pending)
        self._pending.clear()
        self._promises.clear()
        return gone

    def lose_disk(self) -> None:
        """The process ends and the disk is blank; the next life has a new incarnation."""
        self.crash()
        self._state = None
        self._log = []
        self._lost = True
        self.incarnation += 1

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
            self._store(write)
            self._done = write.number
            self._keep_promises()
            core.written(write.number, now)
            self._finish(core, now)

    def _keep_promises(self) -> None:
        while self._promises and self._promises[0].write <= self._done:
            promise = self._promises.popleft()
            self._send(self.member, self.incarnation, promise.to, promise.message)

    def _store(self, write: Write) -> None:
        for record in write.records:
            match record:
                case Append(entries):
                    self._log.extend(entries)
                case Truncate(after):
                    del self._log[after:]
                case SaveState(state):
                    self._state = state
