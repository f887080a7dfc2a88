"""What may look at a simulated world while it runs, without changing anything of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from viewstamp.replica.turn import Turn
from viewstamp.simulation.inhabitants import Answer, Node, SimulatedClient


class Observer(Protocol):
    """Told by a `World` what its inhabitants do, step by step. Set `World.observer` before the first start.

    A step of a member begins with `receives` or `event` and ends with `turned`; one that nothing announced is the
    continuation of the one before. A client's ends with `client_turned`. A member that ends amid a step has no end
    of that step, only `ended`.
    """

    def started(self, node: Node) -> None:
        """A member's replica was made and has done nothing yet: its endpoint may be replaced by one that listens."""

    def joined(self, client: SimulatedClient) -> None:
        """A client was made and has done nothing yet: its endpoint may be replaced by one that listens."""

    def event(self, who: Node | SimulatedClient, name: str, number: int = 0) -> None:
        """A step begins.

        It is "start", "tick", "resign", "snapshot" (one is wanted), "written" (a write's number), "file" (a task with a
        snapshot's file is done), "restored" (the op of the snapshot that was loaded), "call" or "read" (a client's
        handle).
        """

    def receives(self, who: Node | SimulatedClient, source: str, datagram: bytes, number: int) -> None:
        """A step begins: a datagram arrives. `number` is from `transmitted`, or 0 if it came another way."""

    def unheard(self, node: Node, source: str, datagram: bytes, number: int) -> None:
        """A datagram arrives where no process runs."""

    def transmitted(self, source: str, destination: str, datagram: bytes, arrivals: Sequence[tuple[int, bytes]]) -> int:
        """A datagram was sent, and this is when what of it will arrive. Returns a number for the datagram."""

    def turned(self, node: Node, turn: Turn) -> None:
        """A member's step is over; its datagrams are on their way, its writes are not yet asked for."""

    def client_turned(self, client: SimulatedClient, answers: Sequence[Answer]) -> None:
        """A client's step is over, and brought these answers; nobody has been told of them yet."""

    def ended(self, node: Node, why: str) -> None:
        """A member's process is about to end, or its disk is lost while none runs.

        `why` is "crash" (killed), "power_lost", "disk_lost", "disk_crash" (inside an operation of its disk),
        "storage_failed", "snapshot_damaged" (it cannot load a snapshot that has decayed), "data_lost" (it cannot go on
        without its data), or "superseded" (it starts again at once).
        """

    def note(self, text: str) -> None:
        """Something is done to the world, in words for people."""
