"""What a soak comes to, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from viewstamp.cli.soak.findings import EXIT_CODES

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Result:
    """One protocol's soak. `verdict` is good, safety, liveness or crash, and `explanation` says what was wrong.

    `faults` are those that were inflicted, by kind, and `datagrams` what became of those that were harmed.
    `longest_gap_s` is the longest time without any acknowledgement, faults included; `longest_recovery_s` the longest
    from the end of a round of faults until everything was served again. `kept` is the folder with the history and
    the logs, when they are needed.
    """

    protocol: str
    members: int
    clients: int
    seed: int
    seconds: float
    acknowledged: int
    unknown: int
    view_changes: int
    snapshots: int
    snapshots_received: int
    faults: Mapping[str, int]
    datagrams: Mapping[str, int]
    longest_gap_s: float
    longest_recovery_s: float
    verdict: str
    explanation: str = ""
    kept: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 for good."""
        return EXIT_CODES.get(self.verdict, 0)

    def as_json(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {**asdict(self), "kept": None if self.kept is None else str(self.kept)}


def table_of(results: list[Result]) -> Table:
    """A column for each protocol."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for result in results:
        table.add_column(result.protocol, justify="right")

    def row(name: str, values: list[str], style: str = "") -> None:
        table.add_row(name, *values, style=style)

    row("seconds", [f"{result.seconds:,.0f}" for result in results])
    row("acknowledged operations", [f"{result.acknowledged:,}" for result in results])
    row("operations of unknown outcome", [f"{result.unknown:,}" for result in results])
    row("view changes or elections", [f"{result.view_changes:,}" for result in results])
    row("snapshots seen", [f"{result.snapshots:,}" for result in results])
    row("snapshots seen on their way", [f"{result.snapshots_received:,}" for result in results])
    row("longest time without an answer", [f"{result.longest_gap_s:.2f} s" for result in results])
    row("longest recovery after healing", [f"{result.longest_recovery_s:.2f} s" for result in results])
    for name in sorted({name for result in results for name in result.faults}):
        row(name, [f"{result.faults.get(name, 0):,}" for result in results], "dim")
    for name in sorted({name for result in results for name in result.datagrams}):
        row(f"datagrams {name}", [f"{result.datagrams.get(name, 0):,}" for result in results], "dim")
    row("verdict", [result.verdict for result in results], "bold")
    return table
