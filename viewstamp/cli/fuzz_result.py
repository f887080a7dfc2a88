"""What `viewstamp fuzz` carries between its processes, adds up, and prints."""

from __future__ import annotations

import logging
import platform
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import click

from statemachine import StateMachine
from statemachine.machine import commands_of
from viewstamp.cli.options import find_machine
from viewstamp.simulation.run import Report, known_faults, run_seed
from viewstamp.simulation.verdict import Violation

_LIBRARIES = ("viewstamp", "cbor2", "trio")


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be played by a process of its own; `machine` "" is what the seed draws."""

    seed: int
    protocol: str
    machine: str
    shell: str = "heap"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report without its history; `cpu_s` is the processor time that it took."""

    seed: int
    protocol: str
    shell: str
    plan: str
    violation: Violation | None
    digest: str
    events: int
    simulated_ns: int
    commits: int
    views: int
    restarts: int
    served_after_ns: int
    counts: dict[str, int]
    story: tuple[str, ...]
    traceback: str
    cpu_s: float

    @classmethod
    def of(cls, report: Report, cpu_s: float) -> Outcome:
        """What is worth sending home."""
        return cls(
            report.seed,
            report.protocol,
            report.shell,
            report.plan,
            report.violation,
            report.digest,
            report.events,
            report.simulated_ns,
            report.commits,
            report.views,
            report.restarts,
            report.served_after_ns,
            dict(report.counts),
            report.story if report.violation is not None else (),
            report.traceback,
            cpu_s,
        )

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return asdict(self) | {"versions": versions()}


def machine_of(name: str) -> type[StateMachine] | None:
    """The class that --machine names, if it names one."""
    if not name:
        return None
    machine = find_machine(click.Context(click.Command("fuzz")), click.Argument(["machine"]), name)
    if not commands_of(machine):
        raise click.BadParameter(f"{name} has no @command, so that there is nothing to call")
    return machine


def play(job: Job) -> Outcome:
    """Play one seed."""
    quiet_logging()
    began = time.process_time()
    report = run_seed(job.seed, job.protocol, machine_of(job.machine), shell=job.shell)
    return Outcome.of(report, time.process_time() - began)


def quiet_logging() -> None:
    """Print nothing of what members log: thousands of them fail, as they should; a failure's story tells."""
    logging.getLogger().addHandler(logging.NullHandler())


def versions() -> dict[str, str]:
    """What else a run depends on, beside its seed."""
    return {"python": platform.python_version()} | {name: _version_of(name) for name in _LIBRARIES}


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # Run from a source tree that nobody has installed.
        return "not installed"


class Tally:
    """What many runs came to."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.reached: Counter[str] = Counter()  # in how many runs

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.outcomes.append(outcome)
        self.reached.update(outcome.counts.keys())

    @property
    def failure(self) -> Outcome | None:
        """The failed run with the lowest seed."""
        failed = [outcome for outcome in self.outcomes if outcome.violation is not None]
        return min(failed, key=lambda outcome: (outcome.seed, outcome.protocol, outcome.shell), default=None)

    def summary(self, seconds: float) -> dict[str, object]:
        """Numbers over all runs, which took `seconds` of real time."""
        runs = self.outcomes
        cpu_s = sum(outcome.cpu_s for outcome in runs)
        return {
            "runs": len(runs),
            "passed": sum(outcome.violation is None for outcome in runs),
            "seconds": round(seconds, 1),
            "runs_per_minute": round(60 * len(runs) / max(seconds, 0.001)),
            "events": sum(outcome.events for outcome in runs),
            "events_per_cpu_second": round(sum(outcome.events for outcome in runs) / max(cpu_s, 0.001)),
            "median_commits": median([outcome.commits for outcome in runs]) if runs else 0,
            "median_views": median([outcome.views for outcome in runs]) if runs else 0,
            "median_restarts": median([outcome.restarts for outcome in runs]) if runs else 0,
            "longest_service_gap_after_healing_ms": max([run.served_after_ns // 1_000_000 for run in runs], default=0),
        }

    def coverage(self) -> dict[str, int]:
        """In how many runs each fault befell the cluster, and each rule or branch was reached; faults never, too."""
        names = sorted({*known_faults(), *self.reached})
        return {name: self.reached[name] for name in names}
