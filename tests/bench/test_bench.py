"""The measurements still run. Nothing here looks at how fast anything is."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
import trio
import trio.testing
from rich.console import Console

from bench import __main__ as command_line
from bench.calibration import calibrate
from bench.cluster import Viewstamp, both_in_memory
from bench.failover import gaps_ms
from bench.figures import Table, load_of, spread
from bench.floor_system import BarePrimary, Floor
from bench.report import as_json, goal_lines, print_calibration, print_case
from bench.round_trips import measure
from bench.runner import Bench, Case, Goal, Options
from bench.system import MissingError, Running, System, Work
from bench.turn_cost import World

TINY = Work("increment", 2, 0.1, warm_s=0.0)


class Absent(System):
    """A peer that nobody installed."""

    name = "absent"

    def start(self, folder: Path, machine: str) -> Running:
        raise MissingError("not installed: pip install 'all[it]'")


def tiny_bench(folder: Path) -> tuple[Bench, StringIO]:
    screen = StringIO()
    options = Options(rounds=1, seconds=0.1, folder=folder)
    return Bench(options, Console(file=screen, width=250)), screen


@pytest.mark.slow
def test_a_tiny_comparison_from_processes_to_json(tmp_path: Path) -> None:
    bench, screen = tiny_bench(tmp_path)
    table = Table()
    case = Case("tiny", "two clients", True, lambda *_: None, [Goal("per_second", "vsr", "floor", "2 clients", 0.5)])
    with bench:
        systems = [Viewstamp("vsr"), Floor(), BarePrimary(), Absent()]
        bench.compare(table, systems, "counter", {"2 clients": TINY})
    assert set(table.rows) == {(system, "2 clients") for system in ("vsr", "floor", "bare primary")}
    assert table.missing == {"absent": "not installed: pip install 'all[it]'"}
    figures = table.rows["vsr", "2 clients"].figures
    assert figures["datagrams_per_command"][0] > 1
    assert {"p50_us", "p999_us", "primary_mb", "generator_cores", "syncs_per_command"} <= set(figures)
    print_case(Console(file=screen, width=250), case, table)
    assert "absent is missing: not installed: pip install 'all[it]'" in screen.getvalue()
    assert "vsr / floor, per second" in screen.getvalue()
    kept = json.loads(json.dumps(as_json(case, table)))
    assert kept["ratios"][0]["ratio"] > 0
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.slow
def test_tasks_that_share_a_client_and_tasks_inside_the_primary(tmp_path: Path) -> None:
    in_memory, *_ = both_in_memory(["raft"])
    with in_memory.start(tmp_path, "counter") as running:
        assert running.load(Work("increment", 3, 0.1, 0.0, inside=True))["per_second"] > 0
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    with Viewstamp("raft", members=1).start(tmp_path, "kv") as running:
        for work in (Work("put", 3, 0.1, 0.0, shared=True), Work("get", 3, 0.1, 0.0, inside=True)):
            assert running.load(work)["per_second"] > 0


@pytest.mark.slow
def test_the_gap_of_a_killed_primary_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.failover._AFTER_S", 1.0)
    with Viewstamp("vsr").start(tmp_path, "counter") as running:
        [gap_ms] = gaps_ms(running, 1)
    assert gap_ms >= 20


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
@pytest.mark.parametrize("operation", ["increment", "put", "get"])
def test_processor_time_of_the_synchronous_replica(protocol: str, operation: str, tmp_path: Path) -> None:
    figures = World(protocol, operation, 4, 1, tmp_path).run(40)
    assert figures["primary_us_per_command"] > 0
    assert figures["backup_us_per_command"] > 0


@pytest.mark.parametrize("protocol", ["vsr", "raft"])
def test_a_write_takes_two_round_trips_from_a_client_and_one_from_the_primary(protocol: str, tmp_path: Path) -> None:
    figures = trio.run(measure, protocol, tmp_path, clock=trio.testing.MockClock(autojump_threshold=0.0))
    assert figures["write_from_client"] == pytest.approx(2, abs=0.01)
    assert figures["write_from_primary"] == pytest.approx(1, abs=0.01)


def test_the_machine_is_measured_and_shown(tmp_path: Path) -> None:
    machine = calibrate(tmp_path)
    screen = StringIO()
    print_calibration(Console(file=screen, width=250), machine, machine)
    assert "fdatasync" in screen.getvalue()
    assert not list(tmp_path.iterdir())


def test_figures() -> None:
    load = load_of([3000, 1000, 2000], 0.5, 0.25)
    assert (load.per_second, load.p50_us, load.p999_us, load.generator_cores) == (6.0, 2.0, 3.0, 0.5)
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_ratios_are_taken_round_by_round() -> None:
    table = Table()
    for one, other in ((10.0, 5.0), (30.0, 10.0), (8.0, 8.0)):
        table.add("vsr", "64 clients", {"per_second": one})
        table.add("etcd", "64 clients", {"per_second": other})
    goals = [
        Goal("per_second", "vsr", "etcd", "64 clients", 2.0),
        Goal("per_second", "vsr", "etcd", "64 clients", -1.5),
        Goal("p50_us", "vsr", "etcd", "64 clients", -0.7),
    ]
    least, most = goal_lines(goals, table)
    assert least == "met     vsr / etcd, per second, 64 clients: 2.00 [1.00-3.00], at least 2"
    assert most.startswith("not yet vsr / etcd")


def test_cases_can_be_listed_and_chosen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--list"])
    command_line.main()
    listed = capsys.readouterr().out
    assert all(case.name in listed for case in command_line.CASES)
    assert [case.name for case in command_line.choose(["reads"], full=False)] == ["reads"]
    assert len(command_line.choose(None, full=True)) == len(command_line.CASES)


def test_a_run_that_is_out_of_time_begins_nothing_more(tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=250)
    case = next(case for case in command_line.CASES if case.name == "turn-cost")
    results = command_line.run([case], Options(rounds=1, minutes=0.0, folder=tmp_path), console)
    assert len(str(results["skipped"]).split("processor time")) == 13
