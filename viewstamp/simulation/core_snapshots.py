"""Snapshots in the protocol fuzzer's world: members take them of what they have applied, and fetch those they need.

A file comes chunk by chunk. Its source can be cut off, be slow, crash, or have dropped it for a newer one; what has
come stays good for as long as the same snapshot is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from viewstamp.protocol import Snapshot
from viewstamp.simulation.core_station import Station

if TYPE_CHECKING:
    from viewstamp.simulation.core_world import CoreWorld


@dataclass(slots=True)
class _Transfer:
    """A file on its way to a member. `waiting`: the next chunk has been asked for."""

    snapshot: Snapshot
    life: int
    missing: int
    source: int
    progressed_at: int
    waiting: bool = False


class Snapshots:
    """Which member has which file, and what is on its way."""

    def __init__(self, world: CoreWorld) -> None:
        self._world = world
        self._plan = world.plan
        self.transfers: dict[int, _Transfer] = {}
        self.held: dict[int, int] = {}  # until when nothing more comes to a member
        self.on_arrival: Callable[[int, int], None] = lambda member, source: None

    def turned(self, station: Station) -> None:
        """A turn is over in which a snapshot was wanted, or one is due."""
        node = station.node
        if node.wanted is not None:
            self._want(station)
        transfer = self.transfers.get(node.member)
        if transfer is not None:
            self._hurry(station, transfer)
        if len(node.applied) >= station.snapshot_due:
            if station.snapshot_due:
                self.take(node.member)
            entries = self._plan.snapshot_entries
            station.snapshot_due = len(node.applied) + entries + self._world.up_to(1 + entries) if entries else 1 << 62

    def stepped(self, station: Station) -> bool:
        """A step was asked of the disk, or is durable: the process may end just then. True if it does."""
        world = self._world
        station.snapshot_steps = station.node.snapshot_steps
        if world.faulty and world.chance(self._plan.snapshot_crash_chance):
            world.counts.snapshot_crashes += 1
            world.crash_somehow(station.node.member)
            return True
        return False

    # Taking.

    def take(self, member: int) -> None:
        """The member writes a snapshot of what it has applied, if it has no newer one."""
        world = self._world
        station = world.stations[member]
        node = station.node
        op = len(node.applied)
        busy = node.taking is not None or (node.wanted is not None and world.up_to(4))
        if node.core is None or busy or op <= max((file.op for file in node.files), default=0):
            return
        node.taking = world.checkers.history.snapshot(op)
        world.after(world.up_to(self._plan.snapshot_time), self._taken, member, node.life, node.taking)

    def _taken(self, member: int, life: int, snapshot: Snapshot) -> None:
        world = self._world
        station = world.stations[member]
        node = station.node
        if node.core is None or node.life != life or node.taking != snapshot:
            return
        until = max(station.paused_until, station.stalled_until)
        if until > world.now:
            world.at(until + 1, self._taken, member, life, snapshot)
            return
        world.counts.snapshots += 1
        node.take_snapshot(snapshot)
        world.turned(station)

    # Fetching.

    def _want(self, station: Station) -> None:
        """Ask for the next chunk, unless that is done; whole already from an attempt that came to nothing: say so."""
        world, node = self._world, station.node
        wanted = node.wanted
        if wanted is None:
            return
        transfer = self.transfers.get(node.member)
        if transfer is None or transfer.snapshot != wanted.snapshot or transfer.life != node.life:
            world.counts.transfers += 1
            missing = 0 if node.fetched == wanted.snapshot else self._plan.snapshot_chunks
            transfer = _Transfer(wanted.snapshot, node.life, missing, wanted.source, world.now)
            self.transfers[node.member] = transfer
        if transfer.source != wanted.source:
            transfer.source, transfer.progressed_at = wanted.source, world.now
        if not transfer.waiting:
            transfer.waiting = True
            delay = world.up_to(2 * self._plan.chunk_time) if transfer.missing else 0
            world.after(delay, self._chunk, node.member, transfer)

    def _hurry(self, station: Station, transfer: _Transfer) -> None:
        """Entries have reached beyond what is being fetched, and are not known to be committed: it comes just then."""
        world, node = self._world, station.node
        standing = world.checkers.standings[node.member]
        overtaken = standing.commit < transfer.snapshot.op < standing.op
        if overtaken and transfer.life == node.life and world.up_to(4):
            world.after(0, self._overtaken, node.member, transfer)

    def _overtaken(self, member: int, transfer: _Transfer) -> None:
        station = self._world.stations[member]
        node = station.node
        if node.core is not None and node.life == transfer.life and self.transfers.get(member) is transfer:
            self._arrived(station, transfer.snapshot)

    def _chunk(self, member: int, transfer: _Transfer) -> None:
        """A chunk comes, or news that the file is gone, or nothing."""
        world = self._world
        station = world.stations[member]
        node = station.node
        if node.core is None or node.life != transfer.life or self.transfers.get(member) is not transfer:
            return
        transfer.waiting = False
        wanted, snapshot = node.wanted, transfer.snapshot
        if wanted is None or wanted.snapshot != snapshot:
            return  # It rests, and goes on if this one is wanted again.
        until = max(station.paused_until, station.stalled_until, self.held.get(member, 0))
        if until > world.now and (world.faulty or station.paused_until > world.now):
            transfer.waiting = True
            world.at(until + 1, self._chunk, member, transfer)
        elif not transfer.missing:
            self._arrived(station, snapshot)
        elif not self._reaches(member, wanted.source):
            if world.now - transfer.progressed_at > self._plan.chunk_patience:
                self._give_up(station, snapshot)
            else:
                transfer.waiting = True
                world.after(1 + world.configuration.timeouts.retry, self._chunk, member, transfer)
        elif snapshot not in world.stations[wanted.source].node.files:
            world.counts.snapshots_dropped += 1
            self._give_up(station, snapshot)
        else:
            transfer.missing -= 1
            transfer.progressed_at = world.now
            if self._plan.pins:
                world.stations[wanted.source].node.pins[member] = snapshot
            if transfer.missing:
                node.tell(lambda core: core.fetching(snapshot, world.clock(station)), world.clock(station))
                world.turned(station)
            else:
                self._arrived(station, snapshot)

    def _reaches(self, member: int, source: int) -> bool:
        world = self._world
        station = world.stations[source]
        cut = max(world.cuts.get((member, source), 0), world.cuts.get((source, member), 0)) > world.now
        return not cut and station.node.core is not None and station.paused_until <= world.now

    def _arrived(self, station: Station, snapshot: Snapshot) -> None:
        world, node = self._world, station.node
        node.fetched = snapshot
        source = self.transfers.pop(node.member).source
        self._unpin(node.member, snapshot)
        installs = node.snapshot_steps
        node.tell(lambda core: core.fetched(snapshot, world.clock(station)), world.clock(station))
        world.counts.installs += node.snapshot_steps > installs
        world.turned(station)
        if world.faulty:
            self.on_arrival(node.member, source)

    def _give_up(self, station: Station, snapshot: Snapshot) -> None:
        world, node = self._world, station.node
        world.counts.transfers_failed += 1
        del self.transfers[node.member]
        self._unpin(node.member, snapshot)
        node.tell(lambda core: core.fetch_failed(snapshot, world.clock(station)), world.clock(station))
        world.turned(station)

    def _unpin(self, member: int, snapshot: Snapshot) -> None:
        for station in self._world.stations.values():
            if station.node.pins.get(member) == snapshot:
                del station.node.pins[member]
