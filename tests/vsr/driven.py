"""One replica of Viewstamped Replication, driven by hand."""

from __future__ import annotations

from tests.protocol import driven
from tests.protocol.driven import WALL, entries, entry, proposal
from viewstamp.protocol import Durable, Entry, Lost
from vsr import DurableState, ViewstampedReplication


class Driven(driven.Driven):
    """A replica and the test around it."""

    protocol = ViewstampedReplication


def restarted(me: int, view: int, last_normal_view: int, log: tuple[Entry, ...] = (), *, members: int = 3) -> Driven:
    """A replica that comes back with this on its disk."""
    state = DurableState(view, last_normal_view, (1,) * members)
    return Driven(me, members=members, origin=Durable(state, log))


def lost(me: int, *, members: int = 3, incarnation: int = 2) -> Driven:
    """A replica that comes back with nothing."""
    return Driven(me, members=members, origin=Lost(incarnation))


def superseding(vector: tuple[int, ...], position: int, incarnation: int) -> tuple[int, ...]:
    """The vector with another incarnation at `position`."""
    return (*vector[:position], incarnation, *vector[position + 1 :])


__all__ = ["WALL", "Driven", "entries", "entry", "lost", "proposal", "restarted", "superseding"]
