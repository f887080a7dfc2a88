"""Which hand-made bug is found, by which property, after how many seeds: `python -m tests.simulation.mutants_table`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.simulation import core_hunt
from tests.simulation.core_hunt import CORES
from tests.simulation.stack_mutants import CATALOGUE, Mutant, from_outside
from viewstamp.simulation.run import run_seed
from viewstamp.simulation.verdict import Violation


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of a mutant: the seed that found it and what it violated, None if none did."""

    seed: int
    violation: Violation | None
    seconds: float


def hunt(mutant: Mutant, first: int, seeds: int) -> Hunt:
    """Look for a mutant with seeds from `first` on; the protocol's own invariants do not help."""
    started = time.monotonic()
    violation, seed = None, first
    with from_outside(), mutant.applied():
        for seed in range(first, first + seeds):
            report = run_seed(seed, mutant.protocol)
            violation = report.violation
            if "stack_mutants" in report.traceback.rsplit("File ", 1)[-1]:
                raise RuntimeError(f"{mutant.name} does not fit the code any more:\n{report.traceback}")
            if violation is not None:
                break
    return Hunt(seed, violation, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    level: str
    protocol: str
    mutant: str
    found_by: str
    seeds: int
    seconds: float


def hunt_stack(position: int, seeds: int) -> Row:
    """Hunt a mutant of whole clusters, by its position: what a process of its own can be asked by a number."""
    mutant = CATALOGUE[position]
    result = hunt(mutant, 0, seeds)
    found_by = result.violation.property if result.violation is not None else ""
    return Row("cluster", mutant.protocol, mutant.name, found_by, result.seed + 1, result.seconds)


def hunt_core(position: int, seeds: int) -> Row:
    """Hunt a mutant of protocol cores likewise."""
    mutant = CORES[position]
    started = time.monotonic()
    kill = core_hunt.hunt(mutant, range(seeds))
    found_by, seed = (kill.found_by, kill.seed) if kill is not None else ("", seeds - 1)
    return Row("core", mutant.protocol, mutant.name, found_by, seed + 1, time.monotonic() - started)


LEVELS = (
    ("core", hunt_core, [(mutant.protocol, mutant.name) for mutant in CORES]),
    ("cluster", hunt_stack, [(mutant.protocol, mutant.name) for mutant in CATALOGUE]),
)
"""What there is to hunt, and how; a mutant is found again by its position."""


def _table(rows: Sequence[Row]) -> Table:
    table = Table("level", "protocol", "mutant", "found by", "seeds", "seconds")
    for row in rows:
        found_by = row.found_by or "[red]SURVIVED[/]"
        table.add_row(row.level, row.protocol, row.mutant, found_by, str(row.seeds), f"{row.seconds:.1f}")
    return table


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| level | protocol | mutant | found by | seeds | seconds |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        found_by = row.found_by or "**survived**"
        yield f"| {row.level} | {row.protocol} | {row.mutant} | {found_by} | {row.seeds} | {row.seconds:.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a mutant survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants_table", description=__doc__)
    parser.add_argument("--seeds", type=int, default=450, help="give a mutant up after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--level", choices=("core", "cluster", "both"), default="both")
    parser.add_argument("--protocol", choices=("vsr", "raft", "both"), default="both")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these mutants, whole names")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/testing.md has it")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        hunts = [
            pool.submit(hunter, position, options.seeds)
            for level, hunter, names in LEVELS
            if options.level in (level, "both")
            for position, (protocol, name) in enumerate(names)
            if options.protocol in (protocol, "both") and (not options.only or name in options.only)
        ]
        done = track(as_completed(hunts), "hunting", len(hunts), console=Console(stderr=True))
        rows = [future.result() for future in done]
    rows.sort(key=lambda row: (row.level, row.protocol, row.mutant))
    if options.markdown:
        console.print("\n".join(_markdown(rows)), soft_wrap=True, markup=False)
    else:
        console.print(_table(rows))
    survivors = sum(not row.found_by for row in rows)
    console.print(f"{len(rows) - survivors} of {len(rows)} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
