"""What is done to a directory before its journal is used: made durable, begun if blank, freed of what is left over."""

from __future__ import annotations

from collections.abc import Callable

from viewstamp.journal import format as layout
from viewstamp.journal.errors import JournalCorruptError, WrongJournalError
from viewstamp.journal.files import Files
from viewstamp.journal.reading import Reader, segment_names
from viewstamp.journal.records import Checkpoint, Identity
from viewstamp.journal.snapshot_files import is_snapshot_name
from viewstamp.protocol import InvariantError


def prepare(files: Files, identity: Identity, create_incarnation: Callable[[], int]) -> None:
    """Make durable what an earlier life left, before it is read; and in a blank directory, begin.

    A killed process leaves data that was written and never synced. Reading it, acting on it, and then losing it
    with the power would be to go back on one's word.

    Raises:
      JournalCorruptError: there are snapshots and no journal. To begin anew would remove the last of what was there,
        and let all members that lack theirs found a cluster with nothing in it.
    """
    for name in files.names():
        stem = name.removesuffix(layout.UNFINISHED_SUFFIX)
        if stem != name and layout.segment_number(stem) is not None:
            files.remove(name)  # a segment that never got its name: nothing was ever written to it but its header
    names = segment_names(files)
    for name in names:
        handle = files.open(name)
        files.sync(handle)
        files.close(handle)
    files.sync_directory()
    if names:
        return
    for name in files.names():
        if is_snapshot_name(name):  # taken, or fetched, by a member that had a journal: this is no first start
            raise JournalCorruptError(name, 0, "the journal that names it is gone", files.location)
    incarnation = create_incarnation()
    chain = layout.first_chain(identity, incarnation)
    handle, _ = create_segment(files, layout.SegmentHeader(identity, 1, 1, chain, Checkpoint(incarnation)))
    files.close(handle)


def create_segment(files: Files, header: layout.SegmentHeader) -> tuple[int, int]:
    """A new segment, durable with its header and then its name; gives its handle and size."""
    name = layout.segment_name(header.number)
    unfinished = name + layout.UNFINISHED_SUFFIX
    blob = layout.encode_header(header)
    handle = files.create(unfinished)
    files.append(handle, blob)
    files.sync(handle)
    files.rename(unfinished, name)
    files.sync_directory()
    return handle, len(blob)


def verify_identity(files: Files, expected: Identity, found: Identity | None) -> None:
    """Refuse a journal that belongs to someone else.

    Raises:
      WrongJournalError: it does.
    """
    if found is None:
        raise InvariantError("a journal that was read has an identity")
    where = files.location
    if found.cluster != expected.cluster:
        raise WrongJournalError(
            f"{where} belongs to the cluster {found.cluster.hex()}, not to {expected.cluster.hex()}; "
            "was the cluster file, or the Cluster, made anew?"
        )
    if found.replica != expected.replica:
        raise WrongJournalError(f"{where} belongs to member {found.replica}, not to member {expected.replica}")
    if found.protocol != expected.protocol:
        raise WrongJournalError(f"{where} was written by the protocol {found.protocol}, not by {expected.protocol}")


def clean(files: Files, reader: Reader) -> None:
    """Cut off an unfinished batch and unused room, and remove the segments that an interrupted release left over.

    Durably: else the batch's end can come back behind the next batch after a crash.
    """
    if reader.torn_bytes or reader.spare_bytes:
        last = reader.segments[-1]
        handle = files.open(last.name)
        files.truncate(handle, last.valid_bytes)
        files.sync(handle)
        files.close(handle)
    if reader.left_over:
        for name in reader.left_over:
            files.remove(name)
        files.sync_directory()
