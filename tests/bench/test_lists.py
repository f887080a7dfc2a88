"""Lists can be measured, at a client and inside the primary. Nothing here looks at how fast anything is."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.figures import Table
from bench.lists import lists, per_command
from bench.runner import Bench, Options


@pytest.mark.slow
def test_lists_from_a_client_and_from_the_primary(tmp_path: Path) -> None:
    options = Options(rounds=1, seconds=0.1, systems=frozenset({"vsr"}), folder=tmp_path)
    table = Table()
    with Bench(options, Console(file=StringIO())) as bench:
        lists(bench, table)
    assert table.missing == {}
    assert len(table.rows) == 6
    for row in table.rows.values():
        assert row.figures["commands_per_second"][0] > 0


def test_cost_and_pace_are_those_of_a_command() -> None:
    figures = per_command({"per_second": 10.0, "p50_us": 7.0, "cpu_us_per_command": 500.0, "syncs_per_command": 1}, 100)
    assert figures == {"p50_us": 7.0, "commands_per_second": 1000.0, "cpu_us_per_command": 5.0}
