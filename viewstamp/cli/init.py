"""`viewstamp init`: a cluster file to start from."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from viewstamp.cli.errors import Failed
from viewstamp.cli.options import directory_argument
from viewstamp.cluster import STORAGES, Cluster, Storage
from viewstamp.registry import protocol_names

_FILE = "cluster.toml"


@click.command("init", short_help="Write a cluster file to start from.")
@click.argument("directory", type=directory_argument, metavar="DIR")
@click.option("--replicas", type=click.IntRange(1, 15), default=3, show_default=True, help="How many members.")
@click.option(
    "--protocol", type=click.Choice(protocol_names()), default="vsr", show_default=True, help="What orders commands."
)
@click.option(
    "--storage",
    type=click.Choice(STORAGES),
    default="disk",
    show_default=True,
    help="Where members keep their data. In memory, one that restarts has lost it.",
)
@click.option("--name", help="The cluster's name, for people. By default the directory's.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the members are; edit the file to differ.")
@click.option(
    "--base-port", type=click.IntRange(1, 65535), default=7401, show_default=True, help="Member 1's UDP port."
)
def init_command(
    directory: Path, replicas: int, protocol: str, storage: Storage, name: str | None, host: str, base_port: int
) -> None:
    """Write DIR/cluster.toml, a cluster file to start from, and say what to type next.

    An existing file is never overwritten.

    \b
    Example:
      viewstamp init my-cluster --replicas 3
    """
    if base_port + replicas - 1 > 65535:
        raise click.UsageError(f"--base-port {base_port} leaves no room for {replicas} ports")
    addresses = [(host, base_port + position) for position in range(replicas)]
    known_as = name if name is not None else directory.resolve().name or "cluster"
    cluster = Cluster.make(known_as, protocol, addresses, storage=storage)
    path = directory / _FILE
    _write(path, cluster.to_toml())
    where = ", data in memory only" if storage == "memory" else ""
    click.echo(f"Wrote {path}: cluster {cluster.name!r}, {replicas} members, protocol {protocol}{where}.\n")
    click.echo("Start every member, each in a terminal of its own (or on the machine that the file names):")
    file = quote(str(path))
    for member in cluster.members:
        data = f" --data {quote(str(directory / f'data-{member.id}'))}" if storage == "disk" else ""
        click.echo(f"  viewstamp serve --cluster {file} --id {member.id}{data}")
    click.echo("\nThen use it:")
    click.echo(f"  viewstamp status --cluster {file}")
    click.echo(f"  viewstamp call --cluster {file} add 5")
    click.echo(f"  viewstamp read --cluster {file} get")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Failed(f"{path} exists already, and was left as it is") from error
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from error
