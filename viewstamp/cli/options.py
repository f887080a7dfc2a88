"""What several commands share: their options, and finding a state machine by name."""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from math import isnan
from pathlib import Path
from typing import Any

import click

from statemachine import Counter, KeyValueStore, StateMachine
from viewstamp.cluster import Cluster

MACHINES: dict[str, type[StateMachine]] = {"counter": Counter, "kv": KeyValueStore}


def load_cluster(ctx: click.Context, param: click.Parameter, value: str) -> Cluster:
    """Read the file. What is wrong with it is no misuse of the command line: ClusterFileError goes through."""
    return Cluster.load(value)


def find_machine(ctx: click.Context, param: click.Parameter, value: str) -> type[StateMachine]:
    """Import the class; what keeps it from being one is told in a line."""
    if value in MACHINES:
        return MACHINES[value]
    module, colon, name = value.partition(":")
    if not (module and colon and name):
        known = ", ".join(MACHINES)
        raise click.BadParameter(f"{value!r} is none of {known}, nor has it the form package.module:Class")
    if os.getcwd() not in sys.path:  # An installed command does not look here by itself, `python -m` does.
        sys.path.insert(0, os.getcwd())
    try:
        found: object = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(str(error)) from error
    except SyntaxError as error:
        raise click.BadParameter(f"{module} is not Python: {error}") from error
    if not (isinstance(found, type) and issubclass(found, StateMachine)):
        raise click.BadParameter(f"{value} is not a subclass of viewstamp.StateMachine")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise click.BadParameter(f"{value} must be made without arguments, as each member does: {error}") from error
    return found


def output_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """A file that is written at the end. That its folder cannot be written to is said before hours have passed."""
    if value is None or value.exists():
        return value
    if not value.parent.is_dir():
        raise click.BadParameter(f"{value} cannot be written: there is no directory {value.parent}")
    if not os.access(value.parent, os.W_OK):
        raise click.BadParameter(f"{value} cannot be written: no permission to write to {value.parent}")
    return value


class Directory(click.Path):
    """A directory that has a name: an empty one is a variable that nobody has set, and is not this very place."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if not os.fspath(value):
            self.fail("its name is empty", param, ctx)
        return super().convert(value, param, ctx)


class Span(click.FloatRange):
    """How long something may take, in seconds or minutes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. NaN is below no bound and above none, so every range would have it."""
        number = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


cluster_option = click.option(
    "--cluster",
    "cluster",
    callback=load_cluster,
    required=True,
    metavar="FILE",
    help="The cluster file, the same for all members and clients; 'viewstamp init' writes one.",
)
machine_option = click.option(
    "--machine",
    callback=find_machine,
    default="counter",
    show_default=True,
    metavar="counter|kv|package.module:Class",
    help="The state machine that the cluster replicates.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
directory_argument = Directory()
