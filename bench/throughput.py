"""Cases of plain load: how many operations a second, with which latency, at which cost."""

from __future__ import annotations

from bench.cluster import Viewstamp, both_in_memory, both_protocols
from bench.etcd import Etcd
from bench.figures import Table
from bench.floor_system import BarePrimary, Floor
from bench.pysyncobj_peer import PySyncObj
from bench.runner import Bench, Case, Goal
from bench.system import Work

CLIENTS = (1, 16, 64, 256)
_SHARED = "1000 tasks, one client"
_ETCD_BEST = "256 clients"


def _clients(bench: Bench, operation: str) -> dict[str, Work]:
    return {_named(count): Work(operation, count, bench.options.seconds) for count in CLIENTS}


def _named(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"


def increments(bench: Bench, table: Table) -> None:
    """Independent clients that increment one counter, beside the floor, and beside a bare primary in Python."""
    bottom = [Floor(), Floor(batched=False), BarePrimary()]
    bench.compare(table, [*both_protocols(), *bottom], "counter", _clients(bench, "increment"))


def puts(bench: Bench, table: Table) -> None:
    """Independent clients that each write 16 bytes to a key, beside etcd."""
    bench.compare(table, [*both_protocols(), Etcd()], "kv", _clients(bench, "put"))


def reads(bench: Bench, table: Table) -> None:
    """Independent clients that each read a key, linearizably, beside etcd."""
    bench.compare(table, [*both_protocols(), Etcd()], "kv", _clients(bench, "get"))


def shared(bench: Bench, table: Table) -> None:
    """A thousand tasks of one process that share a client and its session; etcd with 256 clients, its best."""
    work = Work("put", 1000, bench.options.seconds, shared=True)
    best = Work("put", 256, bench.options.seconds)

    class OneOfTwo(Viewstamp):
        """Viewstamp takes the first setting only."""

        __slots__ = ()

        def takes(self, work: Work) -> bool:
            return work.shared

    bench.compare(table, [OneOfTwo("vsr"), OneOfTwo("raft"), Etcd()], "kv", {_SHARED: work, _ETCD_BEST: best})


def inside(bench: Bench, table: Table) -> None:
    """Tasks inside the primary's own process, with and without a disk, beside PySyncObj, which is fastest there and
    never syncs."""
    counts = (1, 64, 1000, 10_000)
    settings = {
        f"{n} caller{'s' if n > 1 else ''}": Work("increment", n, bench.options.seconds, inside=True) for n in counts
    }
    peers = [PySyncObj(), PySyncObj(batching=False)]
    if bench.options.full:
        peers += [PySyncObj(journal=True), PySyncObj(batching=False, journal=True), PySyncObj(period_ms=5)]
    bench.compare(table, [*both_protocols(), *both_in_memory(), *peers], "counter", settings)


def _each(*goals: Goal) -> list[Goal]:
    """The same goals for both protocols."""
    return [
        Goal(goal.figure, protocol, goal.other, goal.setting, goal.bound, goal.other_setting)
        for protocol in ("vsr", "raft")
        for goal in goals
    ]


def _in_memory() -> list[Goal]:
    """Without a disk, as PySyncObj is: ahead of its better configuration at every load, one caller included."""
    return [
        Goal("per_second", f"{protocol}, memory", peer, setting, 1.0)
        for protocol in ("vsr", "raft")
        for setting in ("1 caller", "64 callers", "1000 callers", "10000 callers")
        for peer in ("PySyncObj", "PySyncObj unbatched")
    ]


CASES = [
    Case(
        "increments",
        "counter increments with 1 to 256 independent clients, beside the floor and a bare primary",
        True,
        increments,
        _each(
            Goal("p50_us", "", "floor, unbatched", "1 client", -1.3),
            Goal("per_second", "", "floor", "256 clients", 0.5),
            Goal("p50_us", "", "bare primary", "1 client", -1.3),
            Goal("per_second", "", "bare primary", "256 clients", 0.5),
        ),
    ),
    Case(
        "puts",
        "16-byte key-value puts with 1 to 256 independent clients, beside etcd",
        True,
        puts,
        _each(
            Goal("p50_us", "", "etcd", "1 client", -0.7),
            Goal("per_second", "", "etcd", "64 clients", 2.0),
            Goal("per_second", "", "etcd", "256 clients", 1.7),
        ),
    ),
    Case(
        "reads",
        "linearizable reads with 1 to 256 independent clients, beside etcd",
        True,
        reads,
        _each(Goal("per_second", "", "etcd", "64 clients", 2.0)),
    ),
    Case(
        "shared",
        "puts of a thousand tasks that share one client, beside etcd's best",
        True,
        shared,
        _each(Goal("per_second", "", "etcd", _SHARED, 3.0, _ETCD_BEST)),
    ),
    Case(
        "inside",
        "increments by tasks inside the primary's process, beside PySyncObj",
        True,
        inside,
        _each(
            Goal("per_second", "", "PySyncObj unbatched", "1 caller", 1.0),
            Goal("per_second", "", "PySyncObj", "10000 callers", 1.0),
        )
        + _in_memory(),
    ),
]
