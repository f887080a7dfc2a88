"""The group of all commands."""

from __future__ import annotations

from typing import Any

import click

from viewstamp.cli.call import call_command, read_command
from viewstamp.cli.demo.command import demo_command
from viewstamp.cli.errors import one_line_errors
from viewstamp.cli.fuzz import fuzz_command
from viewstamp.cli.init import init_command
from viewstamp.cli.inspect import inspect_command
from viewstamp.cli.serve import serve_command
from viewstamp.cli.soak.command import soak_command
from viewstamp.cli.status import status_command
from viewstamp.cli.trace import trace_command


class CommandLine(click.Group):
    """A group whose commands fail in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command asked for."""
        with one_line_errors():
            return super().invoke(ctx)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read what stands before the command's name."""
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)


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


for _command in (
    demo_command,
    init_command,
    serve_command,
    call_command,
    read_command,
    status_command,
    inspect_command,
    fuzz_command,
    trace_command,
    soak_command,
):
    main.add_command(_command)
