"""A simulated world with a guest: Trio, stepped so that its tasks and the events of the heap share one time."""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections.abc import Callable

import trio

from transport.fabric import Fabric, open_fabric
from viewstamp.protocol import NEVER
from viewstamp.simulation.trio_host import TrioHost
from viewstamp.simulation.verdict import Kind, ViolationError
from viewstamp.simulation.world import World


class SteppedWorld(World):
    """Events happen one by one, and before each of them every task has done what it can do."""

    _host: TrioHost | None = None
    _fabric: Fabric
    _nursery: trio.Nursery

    def _open(self) -> TrioHost:
        if self._host is None:
            self._wrong: Exception | None = None
            self._closing = trio.Event()
            self._opened()
            self._host = TrioHost(self._stream("trio").getrandbits(64), lambda: self.now, self._main)
            self._host.settle()
        return self._host

    @abstractmethod
    def _opened(self) -> None:
        """The run begins."""

    @abstractmethod
    def _end_all(self) -> None:
        """The run is over: stop every process."""

    @abstractmethod
    def _resume(self) -> None:
        """Let those go on whose pause is over."""

    @abstractmethod
    def _next_resumption(self) -> int:
        """When the next pause ends."""

    @abstractmethod
    def _bury(self) -> bool:
        """End what has died by itself; whether there was anything."""

    @abstractmethod
    def _look_at_the_dead(self) -> None:
        """What was ended must be gone."""

    async def _main(self) -> None:
        async with open_fabric(0, network=self.network) as fabric, trio.open_nursery() as nursery:
            self._fabric, self._nursery = fabric, nursery
            await self._closing.wait()
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Everything ends, whatever its state."""
        if self._host is not None:
            self._end_all()
            self._closing.set()
            self._host.finish()

    def run_until(self, condition: Callable[[], bool], within: int) -> bool:
        """Let time pass until the condition holds; False if it does not within so many nanoseconds."""
        host, end = self._open(), self.now + within
        while True:
            self._settle()
            if condition():
                return True
            when = min(host.next_deadline, self._heap[0][0] if self._heap else NEVER, self._next_resumption())
            if when > end:
                self.now = max(self.now, end)
                return condition()
            self.now = max(self.now, when)
            if self._heap and self._heap[0][0] <= self.now:
                self.events += 1
                heapq.heappop(self._heap)[2]()

    def _settle(self) -> None:
        """Let every task do what it can do now. Raises what was found wrong meanwhile."""
        host = self._open()
        while True:
            self._resume()
            host.settle()
            if self._wrong is not None:
                raise self._wrong
            if not self._bury():
                break
        self._look_at_the_dead()
        if self.events > self.most_events:
            raise ViolationError("bounds", f"more than {self.most_events} events", Kind.LIVENESS)

    def _wronged(self, error: Exception | None) -> None:
        """Something is wrong that a task has found: whoever steps the world is to learn the first such thing."""
        self._wrong = self._wrong or error
