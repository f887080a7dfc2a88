"""Cases about the length of the log: starting with a long journal, catching up, and whether commands get dearer."""

from __future__ import annotations

import time

from bench.cluster import RunningCluster, both_protocols
from bench.figures import Table
from bench.processes import ChildError, usage
from bench.runner import Bench, Case
from bench.system import Work

_ENTRIES = 100_000
_QUICK_ENTRIES = 20_000
_LENGTHS = (0, 50_000, 100_000, 200_000, 400_000)
_FILL_S = 120.0


def fill(running: RunningCluster, entries: int) -> int:
    """Make the log at least so long; how long it then is. Raises ChildError."""
    until = time.monotonic() + _FILL_S
    while True:
        primary = running.find_primary()
        applied = int(running.statistics(primary)["applied"])
        if applied >= entries:
            return applied
        if time.monotonic() > until:
            raise ChildError(f"only {applied} of {entries} entries were written within {_FILL_S:.0f} s")
        running.load(Work("increment", 256, 0.5, warm_s=0.0))  # Each an entry of its own: nothing travels together.


def restart(bench: Bench, table: Table) -> None:
    """A member that missed everything catches up; then it starts again with the whole journal."""
    entries = _ENTRIES if bench.options.full else _QUICK_ENTRIES
    systems = bench.wanted(both_protocols())
    bench.begin(len(systems) * bench.options.rounds)
    for round_number in range(1, bench.options.rounds + 1):
        for system in systems:
            if not bench.step(f"{system.name}: restart with {entries} entries, round {round_number}"):
                continue
            try:
                with bench.running(system, "counter") as running:
                    if isinstance(running, RunningCluster):
                        table.add(system.name, f"{entries} entries", _restart(running, entries))
            except ChildError as error:
                bench.failed(table, system.name, error)


def _restart(running: RunningCluster, entries: int) -> dict[str, float]:
    primary = running.find_primary()
    backup = next(member for member in running.children if member != primary)
    before = running.statistics(backup)["applied"]
    running.children.pop(backup).kill()
    applied = fill(running, entries)
    child = running.spawn(backup)
    ready_s = float(str(child.ask({"do": "wait_ready"})["ready_s"]))
    applied_s = float(str(child.ask({"do": "wait_applied", "op": applied}, 120.0)["applied_s"]))
    child.kill()
    again = running.spawn(backup)
    opened_s = float(str(again.ask({"do": "wait_ready"}, 120.0)["opened_s"]))
    all_s = float(str(again.ask({"do": "wait_applied", "op": applied}, 120.0)["applied_s"]))
    return {
        "caught_up_per_second": (applied - before) / max(applied_s - ready_s, 1e-9),
        "journal_read_s": opened_s,
        "all_applied_s": all_s,
        "member_mb": usage(again.pid).memory_bytes / 2**20,
        "journal_mb": running.statistics(backup)["journal_bytes"] / 2**20,
    }


def log_length(bench: Bench, table: Table) -> None:
    """The same load again and again on one cluster, whose log grows between."""
    systems = bench.wanted(both_protocols())
    bench.begin(len(systems) * len(_LENGTHS))
    for system in systems:
        try:
            with bench.running(system, "counter") as running:
                for length in _LENGTHS:
                    if isinstance(running, RunningCluster) and bench.step(
                        f"{system.name}: {length} entries in the log"
                    ):
                        fill(running, length)
                        for _ in range(bench.options.rounds):
                            work = Work("increment", 64, bench.options.seconds)
                            table.add(system.name, f"after {length} entries", running.load(work))
        except ChildError as error:
            bench.failed(table, system.name, error)


CASES = [
    Case("restart", "start-up with a long journal, and catch-up of a member that missed it", True, restart),
    Case("log-length", "64 clients as the log grows to 400,000 entries", False, log_length),
]
