"""What is printed and kept: a table per case with medians and ranges, ratios beside their goals; all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table as Grid

from bench.calibration import Calibration
from bench.figures import Json, Spread, Table, spread
from bench.runner import Case, Goal

_TITLES = {
    "gap_ms": "gap ms",
    "per_second": "per second",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "p999_us": "p99.9 us",
    "cpu_us_per_command": "CPU us/op",
    "primary_cores": "primary cores",
    "backup_cores": "backup cores",
    "generator_cores": "load cores",
    "primary_mb": "primary MB",
    "backup_mb": "backup MB",
    "datagrams_per_command": "datagrams/op",
    "bytes_per_command": "bytes/op",
    "syncs_per_command": "syncs/op",
}
_WITH_RANGE = {"per_second", "p50_us", "gap_ms", "caught_up_per_second", "journal_read_s", "all_applied_s"}


def print_calibration(console: Console, before: Calibration, after: Calibration | None = None) -> None:
    """The machine; and once more after the run, which shows whether it was quiet."""
    console.print(
        f"{before.system}, {before.cores} cores, Python {before.python}, load average {before.load_average:.2f}",
        highlight=False,
    )
    for when, each in (("before", before), ("after", after)):
        if each is not None:
            console.print(
                f"  {when}: 64-byte append with fdatasync {each.sync_us:.0f} us (p99 {each.sync_p99_us:.0f}), loopback "
                f"round trip {each.round_trip_us:.0f} us, empty loop {each.loop_ns:.1f} ns a turn",
                highlight=False,
            )


def print_case(console: Console, case: Case, table: Table) -> None:
    """One case."""
    grid = Grid(
        title=f"{case.name}: {case.about}", title_justify="left", min_width=len(case.about) + len(case.name) + 4
    )
    names = [name for name in _TITLES if any(name in row.figures for row in table.rows.values())]
    names += sorted({name for row in table.rows.values() for name in row.figures} - set(names))
    for title in ("system", "setting"):
        grid.add_column(title)
    for name in names:
        grid.add_column(_TITLES.get(name, name.replace("_", " ")), justify="right")
    settings = list(dict.fromkeys(setting for _, setting in table.rows))
    for setting in settings:
        for row in (row for row in table.rows.values() if row.setting == setting):
            cells = [_cell(name, row.figures.get(name)) for name in names]
            grid.add_row(row.system, row.setting, *cells)
        grid.add_section()
    if table.rows:
        console.print(grid)
    for system, why in table.missing.items():
        console.print(f"  {system} is missing: {why}", highlight=False, markup=False)
    for line in goal_lines(case.goals, table):
        console.print(f"  {line}", highlight=False)


def _cell(name: str, values: Sequence[float] | None) -> str:
    if not values:
        return ""
    median, lowest, highest = spread(values)
    if name in _WITH_RANGE and len(values) > 1:
        return f"{_number(median)} [{_number(lowest)}-{_number(highest)}]"
    return _number(median)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio_of(goal: Goal, table: Table) -> Spread | None:
    """The ratio that a goal is about, round by round; None if it was not measured."""
    return table.ratios(goal.figure, goal.system, goal.other, goal.setting, goal.other_setting or goal.setting)


def goal_lines(goals: Sequence[Goal], table: Table) -> list[str]:
    """Each ratio that was measured, beside its goal."""
    lines = []
    for goal in goals:
        ratio = ratio_of(goal, table)
        if ratio is None:
            continue
        wanted = f"at least {goal.bound:g}" if goal.bound > 0 else f"at most {-goal.bound:g}"
        met = ratio.median >= goal.bound if goal.bound > 0 else ratio.median <= -goal.bound
        lines.append(
            f"{'met    ' if met else 'not yet'} {goal.system} / {goal.other}, {_TITLES.get(goal.figure, goal.figure)}, "
            f"{goal.setting}: {ratio.median:.2f} [{ratio.lowest:.2f}-{ratio.highest:.2f}], {wanted}"
        )
    return lines


def as_json(case: Case, table: Table) -> Json:
    """All figures of every round, and the ratios."""
    ratios = []
    for goal in case.goals:
        ratio = ratio_of(goal, table)
        if ratio is not None:
            ratios.append({**asdict(goal), "ratio": ratio.median, "lowest": ratio.lowest, "highest": ratio.highest})
    return {
        "case": case.name,
        "about": case.about,
        "rows": [asdict(row) for row in table.rows.values()],
        "missing": table.missing,
        "ratios": ratios,
    }
