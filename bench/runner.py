"""What the cases share: starting systems, taking turns, rounds, progress on the screen, and an end to it all."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.callers import LoadError
from bench.figures import Table
from bench.processes import ChildError
from bench.system import MissingError, Running, System, Work


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that a case is to show: `figure` of `system` over that of `other`, under the same setting unless told.

    A positive `bound` is the least that is good enough, a negative one the most.
    """

    figure: str
    system: str
    other: str
    setting: str
    bound: float
    other_setting: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement; `quick` ones run unless told otherwise. `run` fills a table."""

    name: str
    about: str
    quick: bool
    run: Callable[[Bench, Table], None]
    goals: Sequence[Goal] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure. `systems` limits the columns; empty is all. `folder` holds the data: its disk is used."""

    rounds: int = 3
    seconds: float = 1.0
    full: bool = False
    minutes: float = 10.0
    systems: frozenset[str] = frozenset()
    folder: Path | None = None


class Bench:
    """One run of the suite."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self._console = console
        self._ends = time.monotonic() + options.minutes * 60
        self.skipped: list[str] = []
        self._progress = Progress(
            TextColumn("{task.description:<60}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, steps: int) -> None:
        """A case is about to take so many steps."""
        self._progress.reset(self._task, total=steps)

    def step(self, about: str) -> bool:
        """The next step is this; False if there is no time left for it."""
        self._progress.update(self._task, description=about)
        self._progress.advance(self._task)
        if time.monotonic() < self._ends:
            return True
        self.skipped.append(about)
        return False

    def wanted(self, systems: Sequence[System]) -> list[System]:
        """Those that were asked for."""
        chosen = self.options.systems
        return [system for system in systems if not chosen or system.name.split(",")[0].split()[0].lower() in chosen]

    @contextmanager
    def running(self, system: System, machine: str) -> Iterator[Running]:
        """The system, started with data in a folder of its own that is removed afterwards."""
        in_folder = tempfile.TemporaryDirectory(prefix="viewstamp-bench-", dir=self.options.folder)
        with in_folder as folder, system.start(Path(folder), machine) as running:
            time.sleep(0.1)
            yield running

    def compare(self, table: Table, systems: Sequence[System], machine: str, settings: dict[str, Work]) -> None:
        """Measure every system under all of these settings, round after round, taking turns."""
        systems = self.wanted(systems)
        taken = {
            system.name: {name: work for name, work in settings.items() if system.takes(work)} for system in systems
        }
        self.begin(self.options.rounds * sum(map(len, taken.values())))
        for round_number in range(1, self.options.rounds + 1):
            for system in systems:
                if system.name in table.missing or not taken[system.name]:
                    continue
                try:
                    with self.running(system, machine) as running:
                        for name, work in taken[system.name].items():
                            if self.step(f"{system.name}: {work.operation}, {name}, round {round_number}"):
                                table.add(system.name, name, running.load(work))
                except MissingError as error:
                    table.missing[system.name] = str(error)
                except (ChildError, LoadError) as error:
                    self.failed(table, system.name, error)

    def failed(self, table: Table, system: str, error: Exception) -> None:
        """A measurement broke; say so, and go on with the others."""
        table.missing[system] = f"failed: {error}"
        self._console.print(f"{system}: {error}", style="red", markup=False)
