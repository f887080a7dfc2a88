"""Lists of commands: what one task hands over with each call, and how many commands a second that gives."""

from __future__ import annotations

from bench.callers import LoadError
from bench.cluster import both_protocols
from bench.figures import Table
from bench.load import list_of
from bench.processes import ChildError
from bench.runner import Bench, Case
from bench.system import Work

_LENGTHS = (1, 100, 1000)
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
    bench.begin(bench.options.rounds * len(systems) * len(works))
    for _ in range(bench.options.rounds):
        for system in systems:
            try:
                with bench.running(system, "counter") as running:
                    for setting, length, work in works:
                        if bench.step(f"{system.name}: {setting}"):
                            table.add(system.name, setting, per_command(running.load(work), length))
            except (ChildError, LoadError) as error:
                bench.failed(table, system.name, error)


def per_command(figures: dict[str, float], length: int) -> dict[str, float]:
    """Figures of calls with so many commands each: latencies are those of a list, cost and pace those of a command."""
    result = {name: figures[name] for name in _KEPT if name in figures}
    result["commands_per_second"] = figures["per_second"] * length
    if "cpu_us_per_command" in figures:
        result["cpu_us_per_command"] = figures["cpu_us_per_command"] / length
    return result


CASES = [Case("lists", "one task that hands over lists of increments", True, lists)]
