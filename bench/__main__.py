"""`python -m bench`: what a replicated command costs here, beside etcd, PySyncObj and a bare chain of syncs.

Without options: a selection that takes less than ten minutes. Everything that is compared is measured in the same run,
in turns, and printed as a median with its range. Results go to bench/results/ as JSON and as a chart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from bench import failover, lists, logs, round_trips, scaling, throughput, turn_cost
from bench.calibration import Calibration, calibrate
from bench.figures import Json, Table
from bench.processes import ROOT
from bench.report import as_json, print_calibration, print_case
from bench.runner import Bench, Case, Options

CASES: list[Case] = [
    *throughput.CASES,
    *lists.CASES,
    *failover.CASES,
    *logs.CASES,
    *scaling.CASES,
    *round_trips.CASES,
    *turn_cost.CASES,
]
RESULTS = ROOT / "bench" / "results"
_QUICK_MINUTES, _FULL_MINUTES = 10.0, 90.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--list", action="store_true", help="list the cases and leave")
    result.add_argument("--only", metavar="CASE", action="append", choices=[case.name for case in CASES], help="a case")
    result.add_argument("--full", action="store_true", help="all cases, more of each")
    result.add_argument("--rounds", type=int, default=None, help="of which the median is taken; 3 unless --full: 5")
    result.add_argument("--seconds", type=float, default=None, help="of each load; 1 unless --full: 3")
    result.add_argument("--minutes", type=float, default=None, help="after which nothing more begins")
    result.add_argument("--systems", nargs="+", default=[], help="such as: vsr raft etcd pysyncobj floor")
    result.add_argument("--folder", type=Path, default=None, help="for data: its disk is what is measured")
    result.add_argument("--results", type=Path, default=RESULTS, help="where JSON and chart go")
    return result


def choose(only: list[str] | None, full: bool) -> list[Case]:
    """The cases that were asked for."""
    if only:
        return [case for case in CASES if case.name in only]
    return [case for case in CASES if case.quick or full]


def run(cases: list[Case], options: Options, console: Console) -> Json:
    """Run these cases, print each, and give all of it back."""
    with tempfile.TemporaryDirectory(prefix="viewstamp-bench-", dir=options.folder) as folder:
        before = calibrate(Path(folder))
        print_calibration(console, before)
        done: list[Json] = []
        with Bench(options, console) as bench:
            for case in cases:
                table = Table()
                case.run(bench, table)
                print_case(console, case, table)
                done.append(as_json(case, table))
        after = calibrate(Path(folder))
    print_calibration(console, before, after)
    if bench.skipped:
        console.print(f"{len(bench.skipped)} measurements were left out: --minutes {options.minutes:g} were over")
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "calibration": {"before": _plain(before), "after": _plain(after)},
        "cases": done,
        "skipped": bench.skipped,
    }


def _plain(calibration: Calibration) -> Json:
    return asdict(calibration)


def main() -> None:
    """Measure, print, and keep the results."""
    chosen = parser().parse_args()
    console = Console(width=None if Console().is_terminal else 220)
    if chosen.list:
        for case in CASES:
            console.print(f"{case.name:<12} {'quick' if case.quick else 'full '}  {case.about}", highlight=False)
        return
    options = Options(
        rounds=chosen.rounds or (5 if chosen.full else 3),
        seconds=chosen.seconds or (3.0 if chosen.full else 1.0),
        full=chosen.full,
        minutes=chosen.minutes or (_FULL_MINUTES if chosen.full else _QUICK_MINUTES),
        systems=frozenset(name.lower() for name in chosen.systems),
        folder=chosen.folder,
    )
    results = run(choose(chosen.only, chosen.full), options, console)
    chosen.results.mkdir(parents=True, exist_ok=True)
    stem: Path = chosen.results / time.strftime("%Y%m%d-%H%M%S")
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    written = [stem.with_suffix(".json")]
    if find_spec("matplotlib") is None:
        console.print("no chart: matplotlib is missing; pip install 'viewstamp[bench]'", markup=False)
    else:
        from bench.chart import draw  # an optional extra

        written += draw(results, stem)
    console.print("written: " + ", ".join(map(str, written)), highlight=False)


if __name__ == "__main__":
    main()
