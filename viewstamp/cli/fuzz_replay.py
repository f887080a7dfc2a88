"""Single runs of `viewstamp fuzz`: played from a seed or a scenario file, recorded, and told of."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from viewstamp.cli.errors import Failed, Misused
from viewstamp.cli.fuzz_campaign import Campaign, replay_command, show_failure
from viewstamp.cli.fuzz_result import Job, Outcome, machine_of, versions
from viewstamp.cli.fuzz_scenario import Keeper, Stored, compared, load_scenario, show_stored
from viewstamp.simulation.run import Report, run_script
from viewstamp.simulation.script import Script, draw_script
from viewstamp.simulation.trace import TraceRecorder
from viewstamp.simulation.world import World


@dataclass(frozen=True, slots=True)
class Records:
    """What is to be written of a run, and where."""

    history: Path | None
    trace: Path | None

    def play(self, script: Script, machine: str) -> tuple[Report, Outcome]:
        """Play a run, and write down what is asked for."""
        if self.trace is not None and script.shell != "heap":
            raise Misused("--trace records runs on the heap of events, not those through the Trio shell")
        began = time.process_time()
        report = self._traced(script, machine, self.trace) if self.trace is not None else _play(script, machine)
        if self.history is not None:
            lines = [json.dumps(operation.as_json(), default=repr) for operation in report.history]
            try:
                self.history.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            except OSError as error:
                raise Failed(f"{self.history}: {error.strerror}") from error
        return report, Outcome.of(report, time.process_time() - began)

    def _traced(self, script: Script, machine: str, path: Path) -> Report:
        recorders: list[TraceRecorder] = []
        try:
            with path.open("w", encoding="utf-8") as file:

                def prepare(world: World) -> None:
                    recorders.append(TraceRecorder(world, file, seed=script.seed))

                report = run_script(script, machine_of(machine), prepare)
                for recorder in recorders:
                    recorder.close(failure=str(report.violation) if report.violation is not None else None)
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}") from error
        return report


def _play(script: Script, machine: str) -> Report:
    return run_script(script, machine_of(machine))


def coverage_lines(counts: Mapping[str, int]) -> list[str]:
    """What one run reached and how often, a line for each kind."""
    kinds: dict[str, list[str]] = {}
    for name, times in sorted(counts.items()):
        kind, colon, rest = name.partition(": ")
        kinds.setdefault(f"{kind}: " if colon else "reached: ", []).append(f"{rest or kind} ({times})")
    return [kind + "; ".join(names) for kind, names in sorted(kinds.items())]


class Teller:
    """Plays and tells: as lines on `console`, or as JSON on standard output. A failing run is given to `keeper`.

    What plays returns the outcome that failed, if one did.
    """

    def __init__(self, console: Console, keeper: Keeper, *, as_json: bool) -> None:
        self._console = console
        self._keeper = keeper
        self._as_json = as_json

    def seeds(self, jobs: list[Job], records: Records) -> Outcome | None:
        """Play each of these; keep the first that fails."""
        outcomes = [(job, records.play(draw_script(job.seed, job.protocol, job.shell), job.machine)[1]) for job in jobs]
        failed = next(((job, outcome) for job, outcome in outcomes if outcome.violation is not None), None)
        if not self._as_json:
            for job, outcome in outcomes:
                self._tell(outcome, f"seed {outcome.seed} of {outcome.protocol}")
                show_failure(self._console, outcome, replay_command(outcome, job.machine))
        stored = self._keep(*failed) if failed is not None else None
        if self._as_json:
            for pair in outcomes:
                self._tell_json(pair[1], stored if pair is failed else None)
        return failed[1] if failed is not None else None

    def scenario(self, path: Path, records: Records, *, shrink: bool) -> Outcome | None:
        """Play the run of a file, and compare it with what the file says; make it smaller still if asked."""
        scenario = load_scenario(path)
        job = Job(scenario.found_with_seed, scenario.script.protocol, scenario.machine, scenario.script.shell)
        try:
            machine_of(scenario.machine)
        except click.BadParameter as error:
            raise Failed(f"{path}: machine: {error.message}") from error
        report, outcome = records.play(scenario.script, scenario.machine)
        comparison = compared(scenario, report)
        if not self._as_json:
            self._tell(outcome, str(path))
            show_failure(self._console, outcome, f"viewstamp fuzz --scenario {path}")
            self._say(f"Compared with the file: {comparison}.")
        stored = None
        if shrink and outcome.violation is not None:
            stored = self._stored(self._keeper.keep(scenario.script, job, outcome.violation))
        if self._as_json:
            self._tell_json(outcome, stored, compared=comparison)
        return outcome if outcome.violation is not None else None

    def campaign(self, campaign: Campaign, machine: str) -> Outcome | None:
        """Tell what a campaign came to; keep its first failure."""
        failed = campaign.tally.failure
        if not self._as_json:
            campaign.show()
            if failed is not None:
                show_failure(self._console, failed, replay_command(failed, machine))
        stored = (
            self._keep(Job(failed.seed, failed.protocol, machine, failed.shell), failed) if failed is not None else None
        )
        if self._as_json:
            click.echo(json.dumps(campaign.as_json() | {"scenario": stored.as_json() if stored is not None else None}))
        return failed

    def _keep(self, job: Job, outcome: Outcome) -> Stored | None:
        if outcome.violation is None:
            return None
        return self._stored(self._keeper.keep(draw_script(job.seed, job.protocol, job.shell), job, outcome.violation))

    def _stored(self, stored: Stored | None) -> Stored | None:
        if stored is not None and not self._as_json:
            show_stored(self._console, stored)
        return stored

    def _tell_json(self, outcome: Outcome, stored: Stored | None, **more: object) -> None:
        click.echo(
            json.dumps(outcome.as_json() | {"scenario": stored.as_json() if stored is not None else None} | more)
        )

    def _tell(self, outcome: Outcome, name: str) -> None:
        self._say(f"{name}: {outcome.plan}")
        self._say(
            f"  {outcome.commits} commits, {outcome.views} views, {outcome.restarts} restarts, {outcome.events} events "
            f"in {outcome.cpu_s:.2f} s, digest {outcome.digest}"
        )
        for line in coverage_lines(outcome.counts):
            self._say(f"  {line}")
        if outcome.violation is None:
            self._say("  passed, with " + ", ".join(f"{name} {number}" for name, number in versions().items()))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)
