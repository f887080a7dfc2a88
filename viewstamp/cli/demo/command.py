"""`viewstamp demo`: from the command line to the processes and back to an exit code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic_ns

import click
import trio
from rich.console import Console

from statemachine import Counter
from viewstamp.cli.demo.display import Display, LiveDisplay, PlainDisplay
from viewstamp.cli.demo.load import Load
from viewstamp.cli.demo.members import MemberEndedError, Members
from viewstamp.cli.demo.result import Result, count_duplicated, count_lost, percentile_ms
from viewstamp.cli.demo.script import DemoFailedError, Pace, Script
from viewstamp.cli.errors import Failed, Interrupted
from viewstamp.cli.options import output_file
from viewstamp.registry import protocol_names
from viewstamp.shell.client import open_client

_LONGEST_S = 28.0
_LOAD_ENDS_S = 18.0
_ATTEMPTS = 3


@click.command("demo", short_help="See a replicated counter survive a killed and a frozen primary.")
@click.option(
    "--protocol", type=click.Choice(protocol_names()), default="vsr", show_default=True, help="What orders commands."
)
@click.option("--replicas", type=click.Choice(["3", "5"]), default="3", show_default=True, help="How many processes.")
@click.option(
    "--increments",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many increments, as far as 18 seconds allow. By default as many as fit in ten seconds.",
)
@click.option(
    "--clients", type=click.IntRange(1, 512), default=16, show_default=True, help="How many count at the same time."
)
@click.option(
    "--history",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Write every call and its outcome to FILE, a JSON object a line.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and the events on standard error.")
def demo_command(
    protocol: str, replicas: str, increments: int | None, clients: int, history: Path | None, as_json: bool
) -> None:
    """See a replicated counter survive a killed and a frozen primary, in less than 30 seconds.

    Real processes on UDP ports of this machine, with real journals in a temporary folder. While clients count, the
    primary is killed with SIGKILL and started again from its journal, then the new primary is frozen with SIGSTOP for
    two seconds. At the end every acknowledged increment must be there on every replica, none twice; else the exit code
    is 1.

    \b
    Examples:
      viewstamp demo
      viewstamp demo --replicas 5 --clients 64
      viewstamp demo --increments 20000 --json --history history.jsonl
    """
    console = Console(stderr=as_json)
    display = LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
    demo = Demo(protocol, int(replicas), increments, clients, history, display)
    result = trio.run(demo.run)
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        console.print()
        for line in result.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result.problems:
        raise Failed("; ".join(result.problems))


class Demo:
    """One run, and what it came to."""

    def __init__(
        self,
        protocol: str,
        replicas: int,
        increments: int | None,
        clients: int,
        history: Path | None,
        display: Display,
    ) -> None:
        self._protocol = protocol
        self._replicas = replicas
        self._increments = increments
        self._clients = clients
        self._history = history
        self._display = display
        self._problems: list[str] = []
        self._logs = ""
        self._interrupted = False
        self._load: Load | None = None
        self._gaps_ms: list[float] = []
        self._values: dict[int, int | None] = {}

    async def run(self) -> Result:
        """Run it, and clean up whatever happens.

        Raises:
          Interrupted: Ctrl-C, SIGTERM or SIGHUP.
          Failed: the members could not even be started, or the history file not be written.
        """
        with TemporaryDirectory(prefix="viewstamp-demo-") as folder, trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + _LONGEST_S
            async with trio.open_nursery() as nursery:
                await nursery.start(self._listen, scope)
                await self._attempts(Path(folder))
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught and not self._interrupted:
            self._problems.append(f"it took longer than {_LONGEST_S:g} s")
        self._write_history()
        if self._logs:
            click.echo(self._logs, err=True)
        if self._interrupted:
            raise Interrupted
        return self._result()

    async def _listen(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                self._interrupted = True
                scope.cancel()

    async def _attempts(self, folder: Path) -> None:
        """Another process may take a port between our choice and the member's start: then choose others."""
        for attempt in range(1, _ATTEMPTS + 1):
            members = Members(folder / f"attempt-{attempt}", self._protocol, self._replicas)
            try:
                for member in members.ids:
                    await members.start(member)
                await self._perform(members)
                return
            except MemberEndedError as error:
                if self._load is not None or attempt == _ATTEMPTS:
                    self._problems.append(str(error))
                    self._logs = f"--- the end of member {error.member}'s log\n{error.log}"
                    return
            finally:
                await members.stop_all()

    async def _perform(self, members: Members) -> None:
        """The whole script on started members. An error of any part ends it and is raised as itself."""
        failure: MemberEndedError | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal failure
                try:
                    await members.watch()
                except MemberEndedError as error:
                    failure = error
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            async with open_client(members.cluster, Counter) as control:
                load = Load(members.cluster, self._clients, self._increments)
                script = Script(members, load, control, self._display, self._increments)
                async with trio.open_nursery() as inner:
                    for member in members.ids:
                        inner.start_soon(script.watch, member)
                    inner.start_soon(self._display.run, members, load, script.seen)
                    try:
                        await self._follow(script, load, members)
                    except DemoFailedError as error:
                        self._problems.append(str(error))
                        self._logs = "\n".join(
                            f"--- the end of member {m}'s log\n{members.log(m)}" for m in members.ids
                        )
                    finally:
                        self._gaps_ms = script.gaps_ms
                    inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _follow(self, script: Script, load: Load, members: Members) -> None:
        self._display.say(f"{self._replicas} replicas started ({self._protocol}), founding a cluster")
        primary = await script.wait_ready()
        self._display.say(f"member {primary} is primary; {self._clients} clients begin to count")
        self._load = load
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await trio.lowlevel.checkpoint()
            spent_s = (monotonic_ns() - self._display.began_ns) / 1e9
            failed: DemoFailedError | None = None
            try:
                await script.play(Pace(), _LOAD_ENDS_S - spent_s)
            except DemoFailedError as error:
                failed = error
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        self._display.say(f"{load.acknowledged:,} increments acknowledged; comparing the replicas")
        await script.agree()
        self._values = await script.values()

    def _write_history(self) -> None:
        if self._history is None or self._load is None:
            return
        try:
            self._load.write_history(self._history)
        except OSError as error:
            raise Failed(f"{self._history} cannot be written: {error.strerror}") from error

    def _result(self) -> Result:
        load = self._load
        if load is None:
            raise Failed("; ".join(self._problems) or "the replicas were not started")
        values = [value for value in self._values.values() if value is not None]
        lost = count_lost(load.values, min(values)) if values else 0
        duplicated = count_duplicated(load.values, load.unknown, max(values)) if values else 0
        problems = [*self._problems]
        if lost:
            problems.append(f"{lost} acknowledged increments were lost")
        if duplicated:
            problems.append(f"{duplicated} increments were done twice")
        if len(set(self._values.values())) > 1 or None in self._values.values():
            problems.append("the replicas' values differ")
        if load.unknown:
            problems.append(f"{load.unknown} increments were never answered")
        took_s = (load.acknowledged_ns[-1] - load.began_ns) / 1e9 if load.acknowledged else 0.0
        return Result(
            protocol=self._protocol,
            replicas=self._replicas,
            clients=self._clients,
            acknowledged=load.acknowledged,
            unknown=load.unknown,
            values=self._values,
            lost=lost,
            duplicated=duplicated,
            gaps_ms=tuple(self._gaps_ms),
            per_second=round(load.acknowledged / took_s, 1) if took_s else 0.0,
            p50_ms=percentile_ms(load.latencies_ns, 0.5),
            p99_ms=percentile_ms(load.latencies_ns, 0.99),
            problems=tuple(problems),
        )
