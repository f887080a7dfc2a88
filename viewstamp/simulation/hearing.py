"""How what arrives reaches a member's process: in a turn of its own, or all at once after it stood still."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from viewstamp.protocol import Time
from viewstamp.replica import Replica
from viewstamp.replica.turn import Turn
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.surroundings import Surroundings


class Hearing(Surroundings):
    """Members that take datagrams; `World` gives them disks and lives."""

    nodes: dict[int, Node]

    @abstractmethod
    def _time(self, node: Node) -> Time:
        """The present, as this member sees it."""

    @abstractmethod
    def _finish(self, node: Node) -> None:
        """End a member's turn."""

    @abstractmethod
    def _in_life(self, node: Node, action: Callable[[Node], None]) -> Callable[[], None]:
        """Something this life of a process does later; the next life does not."""

    def _reach_member(self, member: int, source: str, datagram: bytes, number: int) -> None:
        node = self.nodes[member]
        if node.replica is None:
            if self.observer is not None:
                self.observer.unheard(node, source, datagram, number)
        elif node.paused_until > self.now:
            if not node.backlog:
                self.at(node.paused_until, self._in_life(node, self._take_backlog))
            node.backlog.append((source, datagram, number))
        else:
            self._take(node, node.replica, source, datagram, number)
            self._finish(node)

    def _take(self, node: Node, replica: Replica, source: str, datagram: bytes, number: int) -> None:
        if self.observer is not None:
            self.observer.receives(node, source, datagram, number)
        replica.receive(datagram, source, self._time(node))

    def _take_backlog(self, node: Node) -> None:
        """A process that stood still takes all that has arrived in one turn, and looks at its clock in the same.

        An observer is told of a step for each; what all of them bring about together is in the last.
        """
        backlog, node.backlog = node.backlog, []
        if node.replica is None:
            return
        late = node.replica.deadline <= self._time(node).monotonic
        for place, (source, datagram, number) in enumerate(backlog, 1):
            self._take(node, node.replica, source, datagram, number)
            if self.observer is not None and (late or place < len(backlog)):
                self.observer.turned(node, Turn())
        if late:
            if self.observer is not None:
                self.observer.event(node, "tick")
            node.replica.tick(self._time(node))
        self._finish(node)
