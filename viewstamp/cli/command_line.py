"""The group of all commands."""

from __future__ import annotations

import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from viewstamp.cli.errors import USAGE, Failed, one_line_errors

_COMMANDS = {
    "call": "viewstamp.cli.call:call_command",
    "demo": "viewstamp.cli.demo.command:demo_command",
    "fuzz": "viewstamp.cli.fuzz:fuzz_command",
    "init": "viewstamp.cli.init:init_command",
    "inspect": "viewstamp.cli.inspect:inspect_command",
    "read": "viewstamp.cli.call:read_command",
    "serve": "viewstamp.cli.serve:serve_command",
    "soak": "viewstamp.cli.soak.command:soak_command",
    "status": "viewstamp.cli.status:status_command",
    "trace": "viewstamp.cli.trace:trace_command",
}


class CommandLine(click.Group):
    """A group whose commands fail in one line, and are imported when asked for.

    `viewstamp serve` runs for months: it holds no simulator in its memory, ten megabytes of it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        try:
            command = getattr(import_module(module), name)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] != "rich":
                raise
            raise Failed("the command line needs its extra: pip install 'viewstamp[cli]'") from missing
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[cmd_name]} is not a command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Nothing at all is answered with the help; it is misuse still, for scripts."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(USAGE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command asked for."""
        with one_line_errors():
            return super().invoke(ctx)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read what stands before the command's name."""
        print_what_there_is(sys.stdout)
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)


def print_what_there_is(stream: object) -> None:
    """A character that the terminal's encoding lacks, in a cluster's name or a path, is shown as an escape: printing a
    table would end in a UnicodeEncodeError."""
    if isinstance(stream, TextIOWrapper) and (stream.errors == "strict" or stream.encoding.lower() != "utf-8"):
        stream.reconfigure(errors="backslashreplace")


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="viewstamp", prog_name="viewstamp")
def main() -> None:
    """Replicate a plain Python class on 3 or 5 machines: nothing acknowledged is ever lost or done twice.

    \b
    See it survive failures:
      viewstamp demo

    \b
    A cluster of three on this machine, each in a terminal of its own:
      viewstamp init my-cluster --replicas 3
      viewstamp serve --cluster my-cluster/cluster.toml --id 1 --data my-cluster/data-1
      ... and the same with 2 and 3, then:
      viewstamp call --cluster my-cluster/cluster.toml add 5
      viewstamp read --cluster my-cluster/cluster.toml get
      viewstamp status --cluster my-cluster/cluster.toml

    Exit codes: 0 all went well, 1 the thing asked for failed, 2 it was typed wrongly, 130 it was interrupted.
    """
