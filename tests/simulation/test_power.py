"""The checkers of what would survive a power loss, of whom disks support, and of snapshots and reads."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from statemachine import KeyValueStore
from tests.simulation.test_watch import VECTOR, Cast, disk_with, entry, violates
from transport.endpoint import Endpoint
from transport.frame import FrameIdentity
from viewstamp.journal import IncarnationRecord, Journal, SnapshotRecord, StorageFailedError
from viewstamp.journal.simulated import Operation, SimulatedDisk
from viewstamp.protocol import SECOND
from viewstamp.replica.taking import COLLECT_BYTES
from viewstamp.simulation.bulky import BulkyStore
from viewstamp.simulation.ledger import Ledger
from viewstamp.simulation.ledger_load import LedgerLoad
from viewstamp.simulation.load import Habits
from viewstamp.simulation.power import incarnation_on, unsafe_segment
from viewstamp.simulation.promises import PromiseWatch
from viewstamp.simulation.reference import Reference
from viewstamp.simulation.verdict import ViolationError
from viewstamp.simulation.world import World
from vsr import DurableState, ViewstampedReplication


def open_journal(disk: SimulatedDisk) -> Journal:
    return Journal.open(disk.files(), cluster=bytes(8), replica=1, protocol="vsr", create_incarnation=lambda: 7)


def test_what_was_written_and_not_synced_is_not_reported_durable() -> None:
    made_up = Cast()
    journal = open_journal(disk := made_up.nodes[1].disk)
    journal.write(journal.encode_batch([IncarnationRecord(9)]))
    assert unsafe_segment(disk) == unsafe_segment(disk, newest=2) == "journal-0000000001"
    with violates("durability", "reports journal-0000000001 durable"):
        made_up.store(1, entry(1))
    journal.sync()
    assert unsafe_segment(disk) == ""
    made_up.store(1, entry(1))


def test_a_sync_that_failed_makes_nothing_durable_by_succeeding_the_second_time() -> None:
    """The next life sees what is on the disk, and can trust that."""
    disk = SimulatedDisk(Random(1))
    files = disk.files()
    files.append(handle := files.create("journal-0000000001"), b"promised" * 1000)
    files.sync_directory()
    disk.fail(Operation.SYNC)
    with pytest.raises(StorageFailedError):
        files.sync(handle)
    files.sync(handle)
    assert unsafe_segment(disk) == "journal-0000000001"
    disk.kill()
    assert unsafe_segment(disk) == ""
    held = disk.files().read("journal-0000000001")
    assert held == disk.contents()["journal-0000000001"] != b"promised" * 1000
    disk.lose_power()
    assert disk.files().read("journal-0000000001") == held


def test_what_an_earlier_life_did_not_sync_is_not_believed() -> None:
    made_up = Cast()
    journal = open_journal(disk := made_up.nodes[1].disk)
    journal.write(journal.encode_batch([IncarnationRecord(9)]))
    disk.kill()
    with violates("durability", "believes journal-0000000001"):
        made_up.restart(1)
    open_journal(disk)
    made_up.restart(1)


def test_a_snapshot_that_is_named_and_not_durable() -> None:
    made_up = Cast()
    with violates("durability", "names snapshot-"):
        made_up.name_snapshot(1, SnapshotRecord(0, 1, 100, bytes(32)), synced=False)
    with violates("durability", "names snapshot-"):
        made_up.watch.durable(made_up.nodes[2], [SnapshotRecord(0, 1, 100, bytes(32))])


def test_a_primary_that_no_majority_has_chosen() -> None:
    made_up = Cast()
    made_up.save(2, DurableState(1, 0, VECTOR))
    with violates("majority", "leads view 1"):
        made_up.stand(2, 1, leads=True)
    made_up.save(3, DurableState(1, 0, VECTOR))
    made_up.stand(2, 1, leads=True)


def test_an_incarnation_that_its_disk_does_not_hold() -> None:
    disk = SimulatedDisk(Random(1))
    open_journal(disk)
    assert incarnation_on(disk) == 7
    made_up = Cast()
    made_up.nodes[1].disk, made_up.watch.disks[1] = disk, disk_with(DurableState(4, 4, VECTOR), 2)
    watch = PromiseWatch(ViewstampedReplication, made_up.watch, made_up.nodes)

    def speak(incarnation: int) -> None:
        endpoint = Endpoint(FrameIdentity(bytes(8), bytes(8), 0, 0, 1, incarnation), datagram_bytes=1200)
        endpoint.set_peer(2, "client-1")
        endpoint.send(2, b"hello")
        for datagram, address in endpoint.flush(0):
            watch.sent("member-1", str(address), datagram)

    speak(7)
    with violates("promises", "member 1 is 8 by its word, 7 by its disk"):
        speak(8)


def test_a_reference_goes_forward_only_and_as_far_as_entries_are_committed() -> None:
    bounds = {"max_sessions": 10, "window": 10}
    reference = Reference(cast("Any", SimpleNamespace(machine=Ledger, bounds=bounds)))
    entries = {op: entry(op).encoded for op in (1, 2, 3)}
    first = reference.digest_at(1, entries)
    assert first is not None
    assert reference.digest_at(3, entries) not in (None, first)
    assert reference.digest_at(2, entries) is None
    with violates("equal states", "up to op 5 is stored, and op 4 is not committed"):
        reference.digest_at(5, entries)


def test_a_bulky_store_is_not_written_down_at_once_and_counts_like_another() -> None:
    store = BulkyStore()
    assert sum(map(len, store.snapshot())) > 4 * COLLECT_BYTES
    assert KeyValueStore.put.function(store, "key", "value") == 1


def test_a_read_that_shows_less_than_a_member_had_applied() -> None:
    world = World(1)
    world.start_all()
    load = LedgerLoad(world, 1, Habits(reads=0))
    assert world.run_until(lambda: load.acknowledged > 3, SECOND)
    world.run_for(SECOND // 10)
    load.stopped = True
    assert world.run_until(lambda: load.idle, SECOND)
    machine = cast("Ledger", world.running[0].executor.machine)
    load.read_at(load.clients[0], 1)
    machine.tokens.pop()
    with pytest.raises(ViolationError, match="reads are linearizable"):
        world.run_until(lambda: load.idle, SECOND)
