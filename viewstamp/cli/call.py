"""`viewstamp call` and `viewstamp read`: one command, or one query, from a terminal or a script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from typing import Any

import click
import trio

from statemachine import (
    Command,
    CommandError,
    CommandFailedError,
    CommandTooLargeError,
    NotExecutedError,
    Operation,
    OutcomeUnknownError,
    Query,
    StateMachine,
    ValueEncodingError,
    commands_of,
    queries_of,
)
from viewstamp.cli.errors import Failed, Interrupted
from viewstamp.cli.options import Span, cluster_option, json_option, machine_option
from viewstamp.cluster import Cluster
from viewstamp.shell.client import open_client

_UNKNOWN = "outcome unknown, it may yet be executed"
_timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=Span(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)


class _Asking(click.Command):
    """A command whose arguments may look like options, as -5 does. What begins with two dashes is one, or a mistake:
    a mistyped --json would be written into a cluster as a value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line. Behind `--` stands nothing but arguments."""
        options = [name for parameter in self.get_params(ctx) for name in parameter.opts if name.startswith("--")]
        typed = args[: args.index("--")] if "--" in args else args
        for name in [argument.partition("=")[0] for argument in typed if argument.startswith("--")]:
            if name not in options:
                close = "".join(f" (did you mean {each}?)" for each in get_close_matches(name, options, n=1))
                behind = "an argument that begins with two dashes goes behind -- and all options"
                raise click.UsageError(f"No such option {name!r}{close}; {behind}", ctx)
        return super().parse_args(ctx, args)


@click.command(
    "call", cls=_Asking, short_help="Execute a command, once.", context_settings={"ignore_unknown_options": True}
)
@cluster_option
@machine_option
@_timeout_option
@json_option
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...")
def call_command(
    cluster: Cluster,
    machine: type[StateMachine],
    timeout_s: float,
    as_json: bool,
    method: str,
    arguments: tuple[str, ...],
) -> None:
    """Have the cluster execute the command METHOD, once, and print what it returned.

    Each of ARGS is read as JSON if it is JSON, else taken as text. One that begins with two dashes goes behind -- and
    all options. After a time-out, or Ctrl-C, the outcome is unknown: the command may be executed later, and calling
    again would execute it again.

    \b
    Examples:
      viewstamp call --cluster my-cluster/cluster.toml add 5
      viewstamp call --cluster my-cluster/cluster.toml --machine kv put colour blue
    """
    command = _named(machine, commands_of(machine), method, "command")
    try:
        result = _carried_out(_call, cluster, machine, command, _parsed(arguments), timeout_s)
    except KeyboardInterrupt as error:
        raise Interrupted(f"{method}: {_UNKNOWN}") from error
    _print(method, result, as_json)


@click.command(
    "read",
    cls=_Asking,
    short_help="Ask a query; the answer is linearizable.",
    context_settings={"ignore_unknown_options": True},
)
@cluster_option
@machine_option
@_timeout_option
@json_option
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...")
def read_command(
    cluster: Cluster,
    machine: type[StateMachine],
    timeout_s: float,
    as_json: bool,
    method: str,
    arguments: tuple[str, ...],
) -> None:
    """Ask the cluster for the query METHOD and print the answer, which reflects every command answered before.

    Each of ARGS is read as JSON if it is JSON, else taken as text. One that begins with two dashes goes behind -- and
    all options.

    \b
    Examples:
      viewstamp read --cluster my-cluster/cluster.toml get
      viewstamp read --cluster my-cluster/cluster.toml --machine kv get colour
    """
    query = _named(machine, queries_of(machine), method, "query")
    result = _carried_out(_read, cluster, machine, query, _parsed(arguments), timeout_s)
    _print(method, result, as_json)


async def _call(
    cluster: Cluster,
    machine: type[StateMachine],
    command: Command[..., Any],
    arguments: Sequence[object],
    timeout_s: float,
) -> object:
    with trio.move_on_after(timeout_s):  # looking up names included
        async with open_client(cluster, machine) as client:
            return await client.call(command, *arguments)
    raise Failed(f"{command.name}: no answer within {timeout_s:g} s: {_UNKNOWN}")


async def _read(
    cluster: Cluster,
    machine: type[StateMachine],
    query: Query[..., Any],
    arguments: Sequence[object],
    timeout_s: float,
) -> object:
    with trio.move_on_after(timeout_s):  # looking up names included
        async with open_client(cluster, machine) as client:
            return await client.read(query, *arguments)
    raise Failed(f"{query.name}: no answer within {timeout_s:g} s ('viewstamp status' tells why)")


def _carried_out(
    function: Any,
    cluster: Cluster,
    machine: type[StateMachine],
    operation: Operation[..., Any],
    arguments: Sequence[object],
    timeout_s: float,
) -> object:
    """Run it, and say in a line what went wrong, and whether it was executed."""
    method = operation.name
    try:
        operation.bind(*arguments)
    except TypeError as error:
        raise click.UsageError(str(error)) from error
    except (CommandTooLargeError, ValueEncodingError) as error:
        raise Failed(f"{error}; nothing was sent") from error
    try:
        return trio.run(function, cluster, machine, operation, arguments, timeout_s)
    except CommandError as error:
        details = str(error)
        raise Failed(f"{method}: {type(error).__name__}" + (f": {details}" if details else "")) from error
    except CommandFailedError as error:
        told = "it was executed up to there, and the members' logs tell where that is"
        raise Failed(f"{method}: raised {error.name} in the state machine; {told}") from error
    except NotExecutedError as error:
        raise Failed(f"{method}: not executed: {error}; does the cluster run another --machine?") from error
    except OutcomeUnknownError as error:
        raise Failed(f"{method}: {error}") from error
    except CommandTooLargeError as error:  # beyond the cluster's own limit, lower than the encoding's
        raise Failed(f"{error}; nothing was sent") from error


def _named(machine: type[StateMachine], known: Mapping[str, Any], method: str, kind: str) -> Any:
    if method in known:
        return known[method]
    commands = ", ".join(sorted(commands_of(machine))) or "none"
    queries = ", ".join(sorted(queries_of(machine))) or "none"
    raise click.UsageError(
        f"{machine.__name__} has no {kind} {method!r}; its commands: {commands}; its queries: {queries}"
    )


def _parsed(arguments: Sequence[str]) -> list[object]:
    return [_parse(argument) for argument in arguments]


def _parse(argument: str) -> object:
    try:
        return json.loads(argument)
    except ValueError:
        return argument


def _print(method: str, result: object, as_json: bool) -> None:
    plain = not as_json and isinstance(result, str)
    try:
        click.echo(result if plain else json.dumps(result, default=_plain, ensure_ascii=False))
    except BrokenPipeError:
        raise  # Nobody reads it any more, and nothing is to be said.
    except OSError as error:
        # Without a word of it, whoever sees that it failed may do it again.
        raise Failed(f"{method}: executed, but the result cannot be printed: {error.strerror}") from error


def _plain(value: object) -> object:
    """What JSON does not know."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return str(value)
