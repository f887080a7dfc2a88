"""`viewstamp fuzz`: simulate whole clusters, seed after seed, and say how to see a failure again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click
from rich.console import Console

from viewstamp.cli.errors import Failed, Misused
from viewstamp.cli.fuzz_campaign import Campaign, show_failure
from viewstamp.cli.fuzz_result import Job, Outcome, machine_of, quiet_logging, versions
from viewstamp.cli.options import json_option
from viewstamp.registry import protocol_names
from viewstamp.simulation.run import Report, run_seed
from viewstamp.simulation.trace import TraceRecorder
from viewstamp.simulation.verdict import Kind
from viewstamp.simulation.world import World

SAFETY = 3
LIVENESS = 4
CRASH = 5


class Unsafe(Failed):
    """A seed violated safety, and has been shown; the others likewise."""

    exit_code = SAFETY


class NotLive(Failed):
    """Something promised was not done in time."""

    exit_code = LIVENESS


class Crashed(Failed):
    """The code under test stopped by itself."""

    exit_code = CRASH


_FAILURES: dict[Kind, type[Failed]] = {Kind.SAFETY: Unsafe, Kind.LIVENESS: NotLive, Kind.CRASH: Crashed}


def _seed_range(ctx: click.Context, param: click.Parameter, value: str | None) -> range | None:
    """A:B, as Python's ranges have it."""
    if value is None:
        return None
    first, colon, last = value.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise click.BadParameter(f"{value!r} has not the form A:B with A < B, for seeds from A to B - 1")
    return range(int(first), int(last))


@click.command("fuzz", short_help="Simulate whole clusters under faults, seed after seed.")
@click.option(
    "--protocol",
    type=click.Choice((*protocol_names(), "both")),
    default="both",
    show_default=True,
    help="What to fuzz.",
)
@click.option("--seeds", callback=_seed_range, metavar="A:B", help="Play seeds A to B - 1.")
@click.option("--minutes", type=click.FloatRange(min=0.01), metavar="M", help="Play new seeds for so long (default 2).")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Play this seed and no other: to see it again.")
@click.option("--jobs", type=click.IntRange(1, 256), default=2, show_default=True, help="Processes at the same time.")
@click.option(
    "--machine",
    default="",
    metavar="package.module:Class",
    help="Replicate this state machine; a ledger of tokens that remembers who counted unless told.",
)
@click.option(
    "--history",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="With --seed: write every call and its outcome to FILE, a JSON object a line.",
)
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="With --seed: write every step of every member to FILE, a JSON object a line.",
)
@json_option
def fuzz_command(
    protocol: str,
    seeds: range | None,
    minutes: float | None,
    seed: int | None,
    jobs: int,
    machine: str,
    history: Path | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Simulate whole clusters in one process with no real time: real replicas, clients, sessions, journals and
    datagrams, on simulated networks, disks and clocks that fail as the seed says.

    Each seed draws the cluster, its load and its faults, then heals a majority, which must serve everything, then looks
    whether each acknowledged effect is there exactly once and all members agree. The same seed gives the same run, to
    the byte, in any process.

    A machine's commands and queries get arguments of the annotated types; one that needs others has a static method
    fuzz_command(random) that returns an encoded call (Machine.add.bind(5)).

    \b
    Examples:
      viewstamp fuzz --minutes 10 --jobs 8
      viewstamp fuzz --protocol raft --seeds 0:1000 --json
      viewstamp fuzz --protocol vsr --seed 4711 --history history.jsonl

    \b
    Exit codes: 0 nothing was wrong, and
      3 safety: something wrong was done, told or stored
      4 liveness: a healed majority did not serve, or did not agree, in time
      5 crash: an invariant inside, or an exception nobody expected
    """
    if sum(choice is not None for choice in (seeds, minutes, seed)) > 1:
        raise Misused("--seeds, --minutes and --seed exclude each other")
    if seed is None and (history is not None or trace is not None):
        raise Misused("--history and --trace need --seed: they are of one run")
    machine_of(machine)  # Said here if there is no such machine, not in each process.
    quiet_logging()
    protocols = protocol_names() if protocol == "both" else (protocol,)
    console = Console(stderr=as_json, highlight=False)
    if seed is not None:
        if len(protocols) > 1 and (history is not None or trace is not None):
            raise Misused("--history and --trace are of one run: name a --protocol, too")
        outcomes = [_replay(Job(seed, name, machine), history, trace) for name in protocols]
        for outcome in outcomes:
            _tell(console, outcome, as_json=as_json)
        failed = next((outcome for outcome in outcomes if outcome.violation is not None), None)
    else:
        campaign = Campaign(console, jobs)
        seconds = None if seeds is not None else 60 * (minutes if minutes is not None else 2.0)
        campaign.run(_jobs(seeds, protocols, machine), seconds, None if seeds is None else len(seeds) * len(protocols))
        failed = campaign.tally.failure
        if as_json:
            result = campaign.as_json()
            click.echo(json.dumps(result))
        else:
            campaign.show()
        if failed is not None:
            show_failure(console, failed, machine)
    if failed is not None and failed.violation is not None:
        summary = f"seed {failed.seed} of {failed.protocol} violates the {failed.violation}"
        raise _FAILURES[failed.violation.kind](summary)


def _jobs(seeds: range | None, protocols: tuple[str, ...], machine: str) -> Iterator[Job]:
    """Each seed with each protocol; without a range, seeds from the present time on."""
    for seed in seeds if seeds is not None else count(int(time.time())):
        for protocol in protocols:
            yield Job(seed, protocol, machine)


def _replay(job: Job, history: Path | None, trace: Path | None) -> Outcome:
    began = time.process_time()
    report = _record(job, trace) if trace is not None else run_seed(job.seed, job.protocol, machine_of(job.machine))
    if history is not None:
        lines = [json.dumps(operation.as_json(), default=repr) for operation in report.history]
        _write(history, "".join(f"{line}\n" for line in lines))
    return Outcome.of(report, time.process_time() - began)


def _record(job: Job, path: Path) -> Report:
    recorders: list[TraceRecorder] = []
    try:
        with path.open("w", encoding="utf-8") as file:

            def prepare(world: World) -> None:
                recorders.append(TraceRecorder(world, file, seed=job.seed))

            report = run_seed(job.seed, job.protocol, machine_of(job.machine), prepare)
            for recorder in recorders:
                recorder.close(failure=str(report.violation) if report.violation is not None else None)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    return report


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error


def _tell(console: Console, outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcome.as_json()))
        return
    console.print(f"seed {outcome.seed} of {outcome.protocol}: {outcome.plan}", markup=False, soft_wrap=True)
    console.print(
        f"  {outcome.commits} commits, {outcome.views} views, {outcome.restarts} restarts, {outcome.events} events in "
        f"{outcome.cpu_s:.2f} s, digest {outcome.digest}",
        markup=False,
        soft_wrap=True,
    )
    if outcome.violation is not None:
        show_failure(console, outcome, "")
    else:
        console.print("  passed, with " + ", ".join(f"{n} {v}" for n, v in versions().items()), markup=False)
