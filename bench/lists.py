"""Lists of commands: what one task hands over with each call, and how many commands a second that gives."""

from __future__ import annotations

from bench.callers import LoadError
from bench.cluster import both_protocols
from bench.etcd import Etcd
from bench.figures import Table
from bench.load import list_of
from bench.processes import ChildError
from bench.pysyncobj_peer import PySyncObj
from bench.runner import Bench, Case, Goal
from bench.system import MissingError, System, Work

_LENGTHS = (1, 100, 1000)
_ETCD_BEST = "256 clients"
_PYSYNCOBJ_BEST = "10000 callers in its process"
_KEPT = ("p50_us", "p99_us", "primary_cores", "backup_cores", "generator_cores")


def lists(bench: Bench, table: Table) -> None:
    """One task of a client, and one in the primary's own process: each awaits one list after the other."""
    systems = bench.wanted(both_protocols())
    works = [
        (
            f"{where}, lists of {length}",
            length,
            Work(list_of(length), 1, bench.options.seconds, shared=True, inside=own),
        )
        for own, where in ((False, "client"), (True, "primary"))
        for length in _LENGTHS
    ]
    peers = [peer for peer in _peers(bench.options.seconds) if peer[0] in bench.wanted([peer[0]])]
    bench.begin(bench.options.rounds * (len(systems) * len(works) + len(peers)))
    for _ in range(bench.options.rounds):
        for peer in peers:
            _measure_peer(bench, table, *peer)
        for system in systems:
            try:
                with bench.running(system, "counter") as running:
                    for setting, length, work in works:
                        if bench.step(f"{system.name}: {setting}"):
                            table.add(system.name, setting, per_command(running.load(work), length))
            except (ChildError, LoadError) as error:
                bench.failed(table, system.name, error)


def _peers(seconds: float) -> list[tuple[System, str, str, Work]]:
    """Peers where each is fastest, one command a call: system, machine, setting and load."""
    return [
        (Etcd(), "kv", _ETCD_BEST, Work("put", 256, seconds)),
        (PySyncObj(), "counter", _PYSYNCOBJ_BEST, Work("increment", 10_000, seconds, inside=True)),
    ]


def _measure_peer(bench: Bench, table: Table, system: System, machine: str, setting: str, work: Work) -> None:
    if system.name in table.missing or not bench.step(f"{system.name}: {setting}"):
        return
    try:
        with bench.running(system, machine) as running:
            table.add(system.name, setting, per_command(running.load(work), 1))
    except MissingError as error:
        table.missing[system.name] = str(error)
    except (ChildError, LoadError) as error:
        bench.failed(table, system.name, error)


def per_command(figures: dict[str, float], length: int) -> dict[str, float]:
    """Figures of calls with so many commands each: latencies are those of a list, cost and pace those of a command."""
    result = {name: figures[name] for name in _KEPT if name in figures}
    result["commands_per_second"] = figures["per_second"] * length
    if "cpu_us_per_command" in figures:
        result["cpu_us_per_command"] = figures["cpu_us_per_command"] / length
    return result


_LONGEST = f"lists of {_LENGTHS[-1]}"

CASES = [
    Case(
        "lists",
        "one task that hands over lists of increments, beside what etcd and PySyncObj do at their best",
        True,
        lists,
        [
            goal
            for protocol in ("vsr", "raft")
            for goal in (
                Goal("commands_per_second", protocol, "etcd", f"client, {_LONGEST}", 10.0, _ETCD_BEST),
                Goal("commands_per_second", protocol, "PySyncObj", f"primary, {_LONGEST}", 2.0, _PYSYNCOBJ_BEST),
            )
        ],
    )
]
