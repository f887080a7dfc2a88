"""`open_replica` and `serve_replica`: one member of a cluster, from its data directory to its socket."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf
from random import Random, SystemRandom
from time import perf_counter_ns, time_ns
from typing import TypeVar

import trio

from statemachine import Executor, StateMachine
from transport.interface import Transport
from transport.udp import UdpTransport
from viewstamp.cluster import Cluster
from viewstamp.journal import Journal, MemoryFiles, SnapshotFiles
from viewstamp.journal.files import Files, RealFiles
from viewstamp.protocol import Core
from viewstamp.registry import protocol_class
from viewstamp.replica import snapshot_of
from viewstamp.shell.idle import WallClock
from viewstamp.shell.parts import REAL, Parts, RunSync
from viewstamp.shell.replica import RunningReplica
from viewstamp.shell.replica_loop import ReplicaLoop, new_incarnation
from viewstamp.shell.scope import background
from viewstamp.shell.snapshot_work import load_snapshot

M_co = TypeVar("M_co", bound=StateMachine, covariant=True)


@asynccontextmanager
async def open_replica(
    machine: Callable[[], M_co],
    cluster: Cluster,
    id: int,  # noqa: A002 - it is what a service calls its member
    data: str | os.PathLike[str] | None = None,
    *,
    transport: Transport | None = None,
    files: Files | None = None,
    protocol: type[Core] | None = None,
    random: Random | None = None,
    wall_clock: WallClock = time_ns,
    parts: Parts = REAL,
) -> AsyncGenerator[RunningReplica[M_co], None]:
    """Run one member of a cluster for as long as the block lasts.

    `machine` makes the state machine (its class will do); `data` is this member's own directory, made if it is not
    there; a cluster with `storage = "memory"` needs none, and touches none that is given. The other arguments replace
    parts of the world: a `Fabric`'s transport, simulated files, a protocol of your own, the `parts` that simulations
    need.

    Raises:
      UnknownMemberError: the cluster has no such member.
      ValueError: no directory, and the cluster keeps its data on disk.
      TransportError: the address cannot be bound.
      JournalError: the directory is in use, or another cluster's, member's or protocol's, or one's
        with other members, or damaged.
      SnapshotError: the state machine cannot read the snapshot in it.
      DataLostError, SupersededError, StorageFailedError, InvariantError: at any time; they end the block. So do
        SnapshotError and JournalCorruptError, of a snapshot that was fetched from another member.

    An exception from the block itself leaves as it is.
    """
    me = cluster.member(id)
    seeded = random if random is not None else Random(SystemRandom().getrandbits(256))
    core_class = protocol if protocol is not None else protocol_class(cluster.protocol)
    directory = files if files is not None else _files_of(cluster, data)
    opened = transport if transport is not None else await UdpTransport.open(*me.bind_address)
    try:
        journal = Journal.open(
            directory,
            cluster=cluster.cluster_id,
            replica=id,
            protocol=core_class.name,
            create_incarnation=lambda: new_incarnation(seeded, wall_clock),
            segment_bytes=parts.segment_bytes,
            room_bytes=parts.room_bytes,
            clock=perf_counter_ns,
        )
        try:
            executor = await _restore(journal, directory, machine, cluster, parts.run_sync)
            loop = ReplicaLoop(
                machine, cluster, id, core_class, journal, directory, executor, opened, seeded, wall_clock, parts
            )
            journal.release_recovered()
            await loop.addresses.resolve_all()
            async with background(loop.run, loop.close):
                yield RunningReplica(loop)
        finally:
            journal.close()
    finally:
        opened.close()  # At once: a checkpoint here would hide what a block that was cancelled raises.


def _files_of(cluster: Cluster, data: str | os.PathLike[str] | None) -> Files:
    if cluster.storage == "memory":
        return MemoryFiles()
    if data is None:
        raise ValueError("a cluster that keeps its data on disk needs a directory for each member: data=...")
    return RealFiles(data)


async def _restore(
    journal: Journal, files: Files, machine: Callable[[], StateMachine], cluster: Cluster, run_sync: RunSync
) -> Executor | None:
    """Remove what earlier lives left unfinished, and load the snapshot that the journal names, if there is one."""
    record = journal.recovered.snapshot
    SnapshotFiles(files).sweep(record)
    if record is None:
        return None
    return await load_snapshot(files, machine, cluster, snapshot_of(record), run_sync)


async def serve_replica(
    machine: Callable[[], M_co],
    cluster: Cluster,
    id: int,  # noqa: A002 - as in open_replica
    data: str | os.PathLike[str] | None = None,
    *,
    transport: Transport | None = None,
    files: Files | None = None,
    wall_clock: WallClock = time_ns,
    task_status: trio.TaskStatus[RunningReplica[M_co]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one member until cancelled; `nursery.start` gives the running replica. Arguments mean what they do in
    `open_replica`, and errors are those.
    """
    world = open_replica(machine, cluster, id, data, transport=transport, files=files, wall_clock=wall_clock)
    async with world as replica:
        task_status.started(replica)
        await trio.sleep(inf)
