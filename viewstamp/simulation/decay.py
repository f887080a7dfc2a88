"""Snapshot files that a simulated disk has let decay: whoever reads one must notice."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from statemachine import SnapshotError
from viewstamp.journal import JournalCorruptError, SnapshotRecord
from viewstamp.journal.fold import DIGEST_BYTES
from viewstamp.journal.simulated import SimulatedDisk
from viewstamp.journal.snapshot_files import snapshot_name
from viewstamp.protocol import Snapshot
from viewstamp.replica import FileTask, record_of
from viewstamp.replica.file_tasks import ReadBlock
from viewstamp.simulation.inhabitants import Node
from viewstamp.simulation.verdict import require
from viewstamp.simulation.watch import Watch

UNREADABLE = (JournalCorruptError, SnapshotError)
"""What loading a damaged snapshot raises."""


def is_sound(disk: SimulatedDisk, snapshot: SnapshotRecord | None) -> bool:
    """Whether a disk holds this snapshot as it was written."""
    if snapshot is None:
        return False
    content = disk.contents().get(snapshot_name(snapshot), b"")
    digest = blake2b(content[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest()
    return len(content) == snapshot.size and content[-DIGEST_BYTES:] == digest == snapshot.digest


def decay(node: Node, snapshot: SnapshotRecord, draw: Random) -> bool:
    """Flip some bits of a snapshot, or cut its end off; False if nothing has come of it."""
    name = snapshot_name(snapshot)
    if draw.randrange(3):
        for _ in range(1 + draw.randrange(3)):
            node.disk.flip_bit(name, draw.randrange(8 * snapshot.size))
    else:
        node.disk.cut(name, draw.randrange(snapshot.size))
    if is_sound(node.disk, snapshot):
        return False  # The same bit twice.
    node.decayed.add(name)
    return True


def withheld(watch: Watch, node: Node, task: FileTask) -> None:
    """A file task came to nothing: the file is there no more, or its member gives nothing of a damaged one."""
    if isinstance(task, ReadBlock) and (name := snapshot_name(record_of(task.snapshot))) in node.disk.contents():
        require(name in node.decayed, "durability", "member {} takes its sound {} for damaged", node.member, name)
        watch.counts["damaged snapshot noticed by whoever gives it"] += 1


def noticed_in_loading(watch: Watch, node: Node, snapshot: Snapshot, error: Exception) -> None:
    """A snapshot cannot be loaded while its member runs. Raises the error, unless its file has decayed."""
    if snapshot_name(record_of(snapshot)) not in node.decayed:
        raise error
    watch.counts["damaged snapshot noticed by whoever loads it"] += 1
