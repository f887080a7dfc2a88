"""What `viewstamp fuzz` does with a failing run: makes it small, and keeps it in a file that can be played again."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from statemachine import StateMachine
from viewstamp.cli.errors import Failed
from viewstamp.cli.fuzz_result import Job, machine_of, versions
from viewstamp.simulation.run import Report, run_script
from viewstamp.simulation.script import Script
from viewstamp.simulation.script_file import ScenarioFile, ScenarioFileError, parse_scenario, scenario_toml
from viewstamp.simulation.shrink import Shrinker, Shrunk, same_failure
from viewstamp.simulation.verdict import Violation


@dataclass(frozen=True, slots=True)
class Stored:
    """A scenario file that was written, and how far its run was made smaller."""

    path: Path
    script: Script
    report: Report
    original: str
    runs: int
    seconds: float
    end: str

    @property
    def replay(self) -> str:
        """The command that plays it again."""
        return shlex.join(["viewstamp", "fuzz", "--scenario", str(self.path)])

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "file": str(self.path),
            "replay": self.replay,
            "plan": self.report.plan,
            "violation": str(self.report.violation),
            "digest": self.report.digest,
            "events": self.report.events,
            "runs": self.runs,
            "seconds": round(self.seconds, 1),
            "end": self.end,
        }


def default_path(job: Job) -> Path:
    """Where a failing run is kept unless told."""
    return Path(f"viewstamp-{job.protocol}-{job.seed}.scenario.toml")


def load_scenario(path: Path) -> ScenarioFile:
    """Read a scenario file; what is wrong with it is told in a line."""
    try:
        return parse_scenario(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failed(f"{path}: not a scenario file: not UTF-8") from error
    except ScenarioFileError as error:
        raise Failed(str(error)) from error


class Keeper:
    """Keeps a failing run in a file; before that makes it smaller for at most `minutes`, not at all if that is None.

    Without `path` the file is `default_path`; without both no run is kept. Progress goes to standard error, what went
    wrong to `console`.
    """

    def __init__(self, console: Console, minutes: float | None, path: Path | None) -> None:
        self._console = console
        self._minutes = minutes
        self._path = path

    def keep(self, script: Script, job: Job, violation: Violation) -> Stored | None:
        """Keep a run that violated this; `job` tells by which seed and with which machine it was found.

        None if it is not to be kept, does not fail here as it did, or cannot be written.
        """
        if self._minutes is None and self._path is None:
            return None
        began, machine = time.monotonic(), machine_of(job.machine)
        first = run_script(script, machine)
        if not same_failure(violation, first.violation):
            self._say_lost(first)
            return None
        shrunk = _shrink(script, first, machine, self._minutes) if self._minutes is not None else None
        report = run_script(shrunk.script, machine) if shrunk is not None else first
        if not same_failure(violation, report.violation):
            self._say_lost(report)
            return None
        stored = Stored(
            path=self._path or default_path(job),
            script=shrunk.script if shrunk is not None else script,
            report=report,
            original=size_of(script, first),
            runs=shrunk.runs if shrunk is not None else 0,
            seconds=time.monotonic() - began,
            end=str(shrunk.end) if shrunk is not None else "it is kept as it is",
        )
        return self._write(stored, job)

    def _say_lost(self, report: Report) -> None:
        told = report.violation if report.violation is not None else "nothing is wrong"
        self._say(f"No scenario file: played again, the run ends otherwise ({told}). A state machine that is not")
        self._say("deterministic does that, or one that changes what is shared by all machines of a process.")

    def _write(self, stored: Stored, job: Job) -> Stored | None:
        report = stored.report
        if report.violation is None:
            return None
        scenario = ScenarioFile(
            stored.script, job.machine, job.seed, report.violation, report.digest, report.events, versions()
        )
        try:
            stored.path.write_text(scenario_toml(scenario, report, stored.path.name), encoding="utf-8")
        except OSError as error:
            self._say(f"No scenario file: {stored.path}: {error.strerror}")
            return None
        return stored

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


def _shrink(script: Script, first: Report, machine: type[StateMachine] | None, minutes: float) -> Shrunk:
    """Make it smaller, and show on standard error how that goes. Ctrl-C ends it."""
    began, seconds = time.monotonic(), 60 * minutes
    columns = TextColumn("shrinking: {task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(size_of(script, first), total=seconds)

        def show(shrinker: Shrinker) -> None:
            about = f"{size_of(shrinker.script, shrinker.report)} after {shrinker.runs} runs"
            progress.update(task, completed=time.monotonic() - began, description=about)

        shrinker = Shrinker(
            script,
            first,
            lambda script, most_events: run_script(script, machine, most_events=most_events),
            enough=lambda: time.monotonic() - began >= seconds,
            progress=show,
        )
        return shrinker.shrink()


def show_stored(console: Console, stored: Stored) -> None:
    """How small the run has become, what it does now, and the command that replays it."""
    small = size_of(stored.script, stored.report)
    lines = [
        "",
        f"Shrunk from {stored.original} to {small}, in {stored.runs} runs and {stored.seconds:.0f} s: {stored.end}.",
        f"  {stored.report.violation}",
        *(f"  {line}" for line in stored.report.story[-30:]),
        f"Replay what is left: {stored.replay}",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def compared(scenario: ScenarioFile, report: Report) -> str:
    """Whether a replay went as the file says, in a line."""
    if report.digest == scenario.digest and same_failure(scenario.violation, report.violation):
        return "as recorded: the same failure, the same digest"
    here = versions()
    others = [
        f"{name} {number}, here {here.get(name, 'none')}"
        for name, number in scenario.versions.items()
        if here.get(name) != number
    ]
    because = ", ".join(others) or "the code is another"
    if same_failure(scenario.violation, report.violation):
        return f"the same failure as recorded, but another digest ({because})"
    return f"not as recorded, which was the {scenario.violation} ({because})"


def size_of(script: Script, report: Report) -> str:
    """How large a run is, for people."""
    plan = script.plan
    return ", ".join(
        (
            _count(len(script.acts), "act"),
            _count(plan.members, "member"),
            _count(plan.clients, "client"),
            _count(report.events, "event"),
        )
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
