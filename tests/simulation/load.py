"""A counter under load in a simulated cluster, and what must hold of every acknowledged increment."""

from __future__ import annotations

from statemachine import Counter
from viewstamp.protocol import MILLISECOND, SECOND
from viewstamp.simulation.inhabitants import Answer, SimulatedClient
from viewstamp.simulation.world import World

ADD = Counter.add.bind(1)
GET = Counter.get.bind()


class CounterLoad:
    """Clients that increment one counter by 1, each waiting for its answer; every fifth operation is a read.

    Increments are the only commands, so an answer is bounded by what was acknowledged before the operation began
    and by what had been begun when it ended.
    """

    def __init__(self, world: World, clients: int = 3, think: int = 2 * MILLISECOND) -> None:
        self.world = world
        self.begun = 0
        self.acknowledged = 0
        self.reads = 0
        self.stopped = False
        self._think = think
        self._floor: dict[tuple[int, int], int] = {}
        self._kind: dict[tuple[int, int], str] = {}
        self._results: set[int] = set()
        self.longest_gap = 0
        self._last_answer = world.now
        world.on_answer = self._answered
        self.clients = [world.add_client() for _ in range(clients)]
        for client in self.clients:
            self._next(client)

    def _next(self, client: SimulatedClient) -> None:
        if self.stopped:
            return
        if self.world.random.randrange(5) == 0:
            handle = self.world.read(client, GET)
            self._kind[client.number, handle] = "read"
        else:
            self.begun += 1
            handle = self.world.call(client, ADD)
            self._kind[client.number, handle] = "add"
        self._floor[client.number, handle] = self.acknowledged

    def _answered(self, answer: Answer) -> None:
        key = (answer.client, answer.handle)
        kind, floor = self._kind.pop(key), self._floor.pop(key)
        value = answer.value
        assert isinstance(value, int)
        assert value <= self.begun, f"{kind} returned {value}, but only {self.begun} increments were ever begun"
        if kind == "add":
            assert value > floor, f"an increment returned {value} after {floor} had been acknowledged before it began"
            assert value not in self._results, f"two increments returned {value}"
            self._results.add(value)
            self.acknowledged += 1
            self.longest_gap = max(self.longest_gap, self.world.now - self._last_answer)
            self._last_answer = self.world.now
        else:
            assert value >= floor, f"a read returned {value} after {floor} had been acknowledged before it began"
            self.reads += 1
        delay = self.world.random.randrange(self._think + 1)
        self.world.at(self.world.now + delay, lambda: self._next(self.clients[answer.client]))

    @property
    def idle(self) -> bool:
        """Whether every operation has been answered."""
        return not self._kind

    def settle(self, within: int = 20 * SECOND) -> None:
        """Stop the load: everything outstanding must be answered, and all members must hold the same, exact value."""
        self.stopped = True
        world = self.world
        answered = world.run_until(lambda: self.idle, within)
        standings = [f"{m}: {n.replica.status()}" for m, n in world.nodes.items() if n.replica is not None]
        assert answered, "not answered:\n" + "\n".join(standings)
        assert self.acknowledged == self.begun

        def converged() -> bool:
            return all(self._value(member) == self.begun for member in world.nodes)

        values = {member: self._value(member) for member in world.nodes}
        assert world.run_until(converged, within), f"{self.begun} increments, but members hold {values}"

    def _value(self, member: int) -> int:
        replica = self.world.nodes[member].replica
        machine = replica.executor.machine if replica is not None else None
        return machine.value if isinstance(machine, Counter) else -1
