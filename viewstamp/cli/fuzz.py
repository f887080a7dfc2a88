"""`viewstamp fuzz`: simulate whole clusters, seed after seed, and say how to see a failure again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click
from rich.console import Console

from viewstamp.cli.errors import CRASH, LIVENESS, SAFETY, Failed, Misused, sigterm_like_ctrl_c
from viewstamp.cli.fuzz_campaign import Campaign
from viewstamp.cli.fuzz_replay import Records, Teller
from viewstamp.cli.fuzz_result import Job, Outcome, machine_of, quiet_logging
from viewstamp.cli.fuzz_scenario import Keeper
from viewstamp.cli.options import Span, json_option, output_file
from viewstamp.registry import protocol_names
from viewstamp.simulation.run import WORLDS
from viewstamp.simulation.verdict import Kind


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
@click.option(
    "--shell",
    type=click.Choice((*WORLDS, "both")),
    default="heap",
    show_default=True,
    help="What carries it out: a heap of events, for volume, or the Trio shell that services use.",
)
@click.option("--seeds", callback=_seed_range, metavar="A:B", help="Play seeds A to B - 1.")
@click.option("--minutes", type=Span(min=0.01), metavar="M", help="Play new seeds for so long (default 2).")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Play this seed and no other: to see it again.")
@click.option("--jobs", type=click.IntRange(1, 256), default=2, show_default=True, help="Processes at the same time.")
@click.option(
    "--machine",
    default="",
    metavar="package.module:Class",
    help="Replicate this state machine; else each seed draws a ledger of tokens or a key-value store.",
)
@click.option(
    "--history",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="With --seed or --scenario: write every call and its outcome to FILE, a JSON object a line.",
)
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="With --seed or --scenario: write every step of every member to FILE, a JSON object a line.",
)
@click.option(
    "--scenario",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Play the run that FILE holds: protocol and machine are in it.",
)
@click.option(
    "--scenario-out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Keep a failing run in FILE, viewstamp-PROTOCOL-SEED.scenario.toml unless told. With --scenario: shrink that "
    "further, into FILE.",
)
@click.option(
    "--shrink-minutes",
    type=Span(min=0.01),
    default=2.0,
    show_default=True,
    metavar="M",
    help="Try for so long to make a failing run smaller.",
)
@click.option("--no-shrink", is_flag=True, help="Keep a failing run only if --scenario-out says where, and as it is.")
@json_option
@sigterm_like_ctrl_c()
def fuzz_command(
    protocol: str,
    shell: str,
    seeds: range | None,
    minutes: float | None,
    seed: int | None,
    jobs: int,
    machine: str,
    history: Path | None,
    trace: Path | None,
    scenario: Path | None,
    scenario_out: Path | None,
    shrink_minutes: float,
    no_shrink: bool,
    as_json: bool,
) -> None:
    """Simulate whole clusters in one process with no real time: real replicas, clients, sessions, journals and
    datagrams, on simulated networks, disks and clocks that fail as the seed says. With --shell trio the members and
    clients are those of open_replica and open_client, with their tasks.

    Each seed draws the cluster, its load and its faults, then heals a majority, which must serve everything, then looks
    whether each acknowledged effect is there exactly once and all members agree. The same seed gives the same run, to
    the byte, in any process.

    The first run that fails is made smaller: fewer faults, members and clients, shorter, with defaults where nothing
    else is needed, as long as it violates the same property. Ctrl-C ends that, and keeps what there is. The smallest is
    written to a file, in TOML, that --scenario plays again, to the byte.

    A machine's commands and queries get arguments of the annotated types; one that needs others has a static method
    fuzz_command(random) that returns an encoded call (Machine.add.bind(5)).

    \b
    Examples:
      viewstamp fuzz --minutes 10 --jobs 8
      viewstamp fuzz --protocol raft --seeds 0:1000 --json
      viewstamp fuzz --shell trio --seeds 0:50
      viewstamp fuzz --protocol vsr --seed 4711 --history history.jsonl
      viewstamp fuzz --scenario viewstamp-raft-1234.scenario.toml --trace trace.jsonl

    \b
    Exit codes: 0 nothing was wrong, 130 Ctrl-C or SIGTERM ended it (a campaign then says how many runs passed), and
      3 safety: something wrong was done, told or stored
      4 liveness: a healed majority did not serve, or did not agree, in time
      5 crash: an invariant inside, or an exception nobody expected
    """
    protocols = protocol_names() if protocol == "both" else (protocol,)
    shells = tuple(WORLDS) if shell == "both" else (shell,)
    _choose_one(seeds, minutes, seed, scenario)
    if scenario is None and (seed is None or len(protocols) + len(shells) > 2):
        _refuse_records(history, trace)
    if scenario is not None and (protocol != "both" or machine or shell != "heap"):
        raise Misused("--protocol, --shell and --machine are in the scenario's file")
    quiet_logging()
    console = Console(stderr=as_json, highlight=False)
    teller = Teller(console, Keeper(console, None if no_shrink else shrink_minutes, scenario_out), as_json=as_json)
    records = Records(history, trace)
    if scenario is not None:
        failed = teller.scenario(scenario, records, shrink=scenario_out is not None)
    else:
        machine_of(machine)  # Said here if there is no such machine, not in each process.
        if seed is not None:
            failed = teller.seeds(list(_jobs(range(seed, seed + 1), protocols, shells, machine)), records)
        else:
            campaign = Campaign(console, jobs)
            seconds = None if seeds is not None else 60 * (minutes or 2.0)
            total = None if seeds is None else len(seeds) * len(protocols) * len(shells)
            campaign.run(_jobs(seeds, protocols, shells, machine), seconds, total)
            failed = teller.campaign(campaign, machine)
    if failed is not None:
        _end_with(failed, f"seed {failed.seed} of {failed.protocol}" if scenario is None else str(scenario))


def _end_with(failed: Outcome, source: str) -> None:
    if failed.violation is not None:
        raise _FAILURES[failed.violation.kind](f"{source} violates the {failed.violation}")


def _refuse_records(*files: Path | None) -> None:
    if any(files):
        raise Misused(
            "--history and --trace are of one run: they need --scenario, or --seed, --protocol and one --shell"
        )


def _choose_one(*choices: object) -> None:
    if sum(choice is not None for choice in choices) > 1:
        raise Misused("--seeds, --minutes, --seed and --scenario exclude each other")


def _jobs(seeds: range | None, protocols: tuple[str, ...], shells: tuple[str, ...], machine: str) -> Iterator[Job]:
    """Each seed with each protocol and shell; without a range, seeds from the present time on."""
    for seed in seeds if seeds is not None else count(int(time.time())):
        for protocol in protocols:
            for shell in shells:
                yield Job(seed, protocol, machine, shell)
