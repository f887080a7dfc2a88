"""`viewstamp serve`: one member, until it is told to stop."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path

import click
import trio

from statemachine import StateMachine
from viewstamp.cli.options import cluster_option, directory_argument, machine_option
from viewstamp.cluster import Cluster
from viewstamp.once_a_minute import OnceAMinute
from viewstamp.protocol import Transition
from viewstamp.shell.callers import ClosedError
from viewstamp.shell.opening import open_replica
from viewstamp.shell.reminder import refusals
from viewstamp.shell.replica import RunningReplica

_log = logging.getLogger("viewstamp")
_GRACE_S = 0.3
_STATISTICS_S = 10.0
_REFUSALS_S = 5.0
_REFUSALS_AGAIN_S = 600.0


@click.command("serve", short_help="Run one member of a cluster.")
@cluster_option
@click.option("--id", "member", type=int, required=True, metavar="N", help="Which member of the cluster this is.")
@click.option(
    "--data",
    type=directory_argument,
    metavar="DIR",
    help='This member\'s own directory; not needed with storage = "memory".',
)
@machine_option
@click.option("--quiet", is_flag=True, help="Log warnings and errors only.")
@click.option("--verbose", is_flag=True, help="Log details too, and statistics every ten seconds.")
def serve_command(
    cluster: Cluster, member: int, data: Path | None, machine: type[StateMachine], quiet: bool, verbose: bool
) -> None:
    """Run one member of a cluster until SIGTERM or Ctrl-C, which end it cleanly.

    A member that is stopped gives way to another primary first. Its directory is made if it is not there. One that was
    emptied, or that keeps its data in memory, is recovered from the other members where the protocol can do that.

    \b
    Example:
      viewstamp serve --cluster my-cluster/cluster.toml --id 1 --data my-cluster/data-1
      viewstamp serve --cluster my-cluster/cluster.toml --id 1 --data /srv/bank-1 --machine bank.machine:Bank
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if data is None and cluster.storage == "disk":
        raise click.UsageError("Missing option '--data'")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(member))
    logging.basicConfig(level=level, handlers=[handler])
    trio.run(_serve, cluster, member, data, machine)


class Lines(logging.Formatter):
    """Lines of a log that name their member, once: what a service's own log must tell apart begins with its name."""

    def __init__(self, member: int) -> None:
        super().__init__(f"%(asctime)s %(levelname)s member {member}: %(message)s")
        self._named = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        self._names = (f"member {member} ", f"member {member}: ")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and behind it the traceback, if there is one."""
        if record.getMessage().startswith(self._names):
            return self._named.format(record)
        return super().format(record)


async def _serve(cluster: Cluster, member: int, data: Path | None, machine: type[StateMachine]) -> None:
    # Before anything is opened: a signal that comes while the journal is read must not find the default action.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_replica(machine, cluster, member, data) as replica,
            aclosing(replica.events()) as events,
            trio.open_nursery() as nursery,
        ):
            host, port = cluster.member(member).bind_address
            kept = data if cluster.storage == "disk" else "memory"
            _log.info(
                "serving cluster %s (%s) on %s port %d, data in %s", cluster.name, cluster.protocol, host, port, kept
            )
            nursery.start_soon(_log_transitions, events)
            nursery.start_soon(_log_statistics, replica)
            nursery.start_soon(_log_wait, replica)
            nursery.start_soon(_log_refusals, replica)
            settle_memory()
            received = await anext(signals)
            _log.info("%s: stopping", signal.Signals(received).name)
            with trio.move_on_after(_GRACE_S):  # Clients then wait for no time-out.
                await replica.hand_over()
            nursery.cancel_scope.cancel()


def settle_memory() -> None:
    """Let the garbage collector look seldom, and never again at what is there for good: modules, classes, the log.

    Replication makes no cycles; by default the collector would look at the whole log every few seconds, and stop the
    process for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _log_transitions(events: AsyncGenerator[Transition, None]) -> None:
    """What repeats itself is said once a minute: a Raft member that hears nobody gives up an election a few times a
    second, for as long as that lasts."""
    last, repeated = "", OnceAMinute(trio.current_time)
    async for event in events:
        who = f"primary {event.primary}" if event.primary else "no primary"
        line = f"{event.status}, {event.role}, view {event.view}, {who}: {event.reason}"
        if line != last:
            last, repeated = line, OnceAMinute(trio.current_time)
        if repeated.due():
            _log.info("%s", line)


async def _log_refusals(replica: RunningReplica[StateMachine]) -> None:
    """Nobody else tells whoever changed the cluster file of one member, or client, alone."""
    told: tuple[str, ...] = ()
    while True:
        await trio.sleep(_REFUSALS_AGAIN_S if told else _REFUSALS_S)
        refused = refusals(replica.status())
        if refused != told:
            told = refused
            _log.warning("%s", "; ".join(refused))


async def _log_wait(replica: RunningReplica[StateMachine]) -> None:
    with suppress(ClosedError):  # Why it was closed is told elsewhere.
        await replica.wait_ready()


async def _log_statistics(replica: RunningReplica[StateMachine]) -> None:
    while _log.isEnabledFor(logging.DEBUG):
        await trio.sleep(_STATISTICS_S)
        _log.debug("%s", replica.statistics())
