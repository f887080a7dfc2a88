"""A process that ends between a write and its sync: the next one reads what the power can still take."""

from __future__ import annotations

from viewstamp.journal import StorageFailedError
from viewstamp.journal.simulated import DeadProcessError, SimulatedCrashError
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.watch import Watch


def interrupt(watch: Watch, node: Node) -> None:
    """The process is about to end. Half of the batches that are under way then have been handed over already."""
    journal, under_way, node.under_way = node.journal, node.under_way, None
    if journal is None or under_way is None or node.random.randrange(2):
        return
    batch, records = under_way
    watch.disks[node.member].tear(records)
    try:
        journal.write(batch)
    except (SimulatedCrashError, DeadProcessError, StorageFailedError):
        watch.counts["ended in a write that failed"] += 1
    else:
        watch.counts["ended between write and sync"] += 1
