"""`viewstamp soak`: from the command line to the processes and back to an exit code."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
from pathlib import Path
from tempfile import mkdtemp

import click
import trio
from rich.console import Console
from rich.status import Status

from viewstamp.cli.errors import Failed, Interrupted
from viewstamp.cli.options import Span, json_option, output_file
from viewstamp.cli.soak.result import Result, table_of
from viewstamp.cli.soak.soak import Plan, Soak
from viewstamp.registry import protocol_names

_BOTH = "both"
_LINE_EVERY_S = 5.0
_FRAME_S = 0.2
_PLAIN_WIDTH = 120


@click.command("soak", short_help="Run real processes for a while behind a network that fails, and check everything.")
@click.option(
    "--minutes",
    type=Span(min=0, min_open=True, max=24 * 60),
    default=1.0,
    show_default=True,
    metavar="M",
    help="How long faults go on, for all protocols together.",
)
@click.option(
    "--protocol", type=click.Choice([*protocol_names(), _BOTH]), default=_BOTH, show_default=True, help="What to soak."
)
@click.option("--members", type=click.IntRange(1, 7), default=3, show_default=True, help="How many processes.")
@click.option("--clients", type=click.IntRange(1, 64), default=6, show_default=True, help="How many clients.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw the same faults as a run that printed it.")
@click.option(
    "--history",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Write every call and its outcome to FILE, a JSON object a line; with two protocols, to FILE-vsr and so on.",
)
@json_option
def soak_command(
    minutes: float, protocol: str, members: int, clients: int, seed: int | None, history: Path | None, as_json: bool
) -> None:
    """Run real processes for a while behind a network that fails, and check everything.

    Members are processes with journals in a temporary folder. All their datagrams, and their clients', pass through a
    proxy that loses, delays, duplicates, reorders, corrupts and replays them and cuts links, one way or both. Members
    are killed, frozen, stopped as planned and started again; with vsr they also lose their disks. Clients use keys and
    counters, and crash. Nothing acknowledged may be missing or there twice, no history may be other than linearizable,
    and all must be served again soon after each healing.

    The seed fixes which faults come, and when; how processes interleave differs from run to run.

    Unless all is well, the folder with histories and logs is kept, and named.

    \b
    Examples:
      viewstamp soak --minutes 10
      viewstamp soak --minutes 2 --protocol raft --members 5 --history history.jsonl

    \b
    Exit codes: 0 nothing was wrong, 130 interrupted, and, as those of viewstamp fuzz,
      3 safety: something was lost, done twice, or different at two members
      4 liveness: something was not served in time
      5 crash: a member ended by itself, or its log holds a traceback
    """
    chosen = list(protocol_names()) if protocol == _BOTH else [protocol]
    first_seed = seed if seed is not None else secrets.randbelow(1 << 32)
    console = Console(stderr=True)
    results: list[Result] = []
    for name in chosen:
        plan = Plan(name, members, clients, minutes * 60 / len(chosen), first_seed)
        file = history.with_name(f"{history.name}-{name}") if history is not None and len(chosen) > 1 else history
        results.append(_soak(plan, file, console))
    if as_json:
        click.echo(json.dumps({"seed": first_seed, "results": [result.as_json() for result in results]}))
    else:
        output = Console()
        (output if output.is_terminal else Console(width=_PLAIN_WIDTH)).print(table_of(results))
        click.echo(f"seed {first_seed}")
    bad = [result for result in results if result.exit_code]
    if bad:
        told = "; ".join(f"{result.protocol}: {result.verdict}: {result.explanation}" for result in bad)
        kept = ", ".join(f"{result.kept}" for result in bad)
        click.echo(f"viewstamp: error: {told} (history, events and logs are in {kept})", err=True)
        click.get_current_context().exit(min(result.exit_code for result in bad))


def _soak(plan: Plan, history: Path | None, console: Console) -> Result:
    """One protocol. Its folder stays behind only if something was found.

    Raises:
      Interrupted: Ctrl-C, SIGTERM or SIGHUP.
      Failed: the history cannot be written.
    """
    folder = Path(mkdtemp(prefix=f"viewstamp-soak-{plan.protocol}-"))
    soak = Soak(plan, folder)
    keep = False
    try:
        if trio.run(_run, soak, console):
            raise Interrupted
        keep = soak.problem is not None
        if keep:
            soak.write_history(folder / "history.jsonl")
        if history is not None:
            try:
                soak.write_history(history)
            except OSError as error:
                raise Failed(f"{history} cannot be written: {error.strerror}") from error
        return soak.result(folder if keep else None)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(soak: Soak, console: Console) -> bool:
    """Run it with its progress on the console; whether a signal ended it."""
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal interrupted
                await anext(signals)
                interrupted = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            nursery.start_soon(_show, soak, console)
            await soak.run()
            nursery.cancel_scope.cancel()
    return interrupted


async def _show(soak: Soak, console: Console) -> None:
    """At a terminal a line that changes, elsewhere a line now and then; until cancelled."""
    if not console.is_terminal:
        while True:
            console.print(soak.progress(), markup=False, highlight=False, soft_wrap=True)
            await trio.sleep(_LINE_EVERY_S)
    with Status("", console=console) as line:
        while True:
            line.update(soak.progress())
            await trio.sleep(_FRAME_S)
