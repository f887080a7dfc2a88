"""Run new seeds of chaos and hostility for a while, on several processes; say how to replay one that fails.

python -m tests.simulation.fuzz --protocol both --minutes 2 --jobs 2
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import count
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.verdict import SCENARIOS, Violation, command_for, examine
from viewstamp.registry import protocol_names

_AT_ONCE_PER_JOB = 4
Run = tuple[str, int, str]
"""Scenario, seed, protocol."""


def runs(scenarios: Sequence[str], first: int, protocols: Sequence[str]) -> Iterator[Run]:
    """Every scenario and protocol with one seed, then with the next."""
    for seed in count(first):
        for scenario in scenarios:
            for protocol in protocols:
                yield scenario, seed, protocol


def fuzz(pending: Iterator[Run], seconds: float, jobs: int, progress: Progress) -> tuple[int, Run | None, str]:
    """Run until the time is over or something fails: how many passed, what failed, and how."""
    task = progress.add_task("fuzz", total=seconds)
    started, passed = time.monotonic(), 0
    under_way: dict[Future[Violation | None], Run] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while (elapsed := time.monotonic() - started) < seconds or under_way:
            while elapsed < seconds and len(under_way) < _AT_ONCE_PER_JOB * jobs:
                run = next(pending)
                under_way[pool.submit(examine, *run)] = run
            done, _ = wait(under_way, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                run, violation = under_way.pop(future), future.result()
                if violation is not None:
                    pool.shutdown(cancel_futures=True)
                    return passed, run, f"{violation.property}\n{violation.detail}"
                passed += 1
            progress.update(task, completed=min(elapsed, seconds), description=f"{passed} runs")
    return passed, None, ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or replay one seed; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fuzz", description=__doc__)
    parser.add_argument("--protocol", choices=(*protocol_names(), "both"), default="both")
    parser.add_argument("--scenario", choices=(*SCENARIOS, "all"), default="all")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=None, help="the first seed; by the clock unless told")
    parser.add_argument("--seed", type=int, default=None, help="replay this seed and no other")
    options = parser.parse_args(arguments)
    protocols = protocol_names() if options.protocol == "both" else (options.protocol,)
    scenarios = tuple(SCENARIOS) if options.scenario == "all" else (options.scenario,)
    console = Console(highlight=False)
    if options.seed is not None:
        return _replay(console, scenarios, options.seed, protocols)
    first = options.first if options.first is not None else int(time.time())
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        passed, failed, why = fuzz(runs(scenarios, first, protocols), 60 * options.minutes, options.jobs, progress)
    if failed is None:
        console.print(f"{passed} runs passed, seeds from {first} on")
        return 0
    console.print(f"[red]{failed[0]} of {failed[2]}, seed {failed[1]}[/]: {why}\nReplay: {command_for(*failed)}")
    return 1


def _replay(console: Console, scenarios: Sequence[str], seed: int, protocols: Sequence[str]) -> int:
    code = 0
    for scenario in scenarios:
        for protocol in protocols:
            violation = examine(scenario, seed, protocol)
            said = "passed" if violation is None else f"[red]{violation.property}[/]\n{violation.detail}"
            console.print(f"{scenario} of {protocol}, seed {seed}: {said}")
            code = code if violation is None else 1
    return code


if __name__ == "__main__":
    sys.exit(main())
