"""`viewstamp inspect`: what a journal holds, offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from statemachine import ValueDecodingError, decode_command, decode_list
from transport.codec import CodecError
from viewstamp.cli.errors import Failed
from viewstamp.cli.options import directory_argument
from viewstamp.journal import JournalReport, inspect_journal
from viewstamp.protocol import Kind, MalformedEntryError, split_entries
from viewstamp.registry import protocol_class, protocol_names
from viewstamp.replica.founding import FoundingState
from viewstamp.wire import make_codec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@click.command("inspect", short_help="Verify a journal, offline, and print what it holds.")
@click.argument("directory", type=directory_argument, metavar="DIR")
@click.option("--entries", "with_entries", is_flag=True, help="Print the entries of the log too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line: with --entries one more for each entry.")
def inspect_command(directory: Path, with_entries: bool, as_json: bool) -> None:
    """Read and verify the journal in DIR, changing nothing, and print its state.

    Beside a running member it shows a moment ago. A damaged journal is shown up to the damage, with exit code 1.

    \b
    Example:
      viewstamp inspect my-cluster/data-1 --entries
    """
    report = inspect_journal(directory)
    summary = _summary(report)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        for name, value in summary.items():
            click.echo(f"{name.replace('_', ' '):12} {_shown(value)}")
    if with_entries:
        try:
            for entry in _entries(report):
                click.echo(json.dumps(entry, ensure_ascii=False) if as_json else _line(entry))
        except MalformedEntryError as error:
            raise Failed(f"{directory}: {error}") from error
    if not report.is_sound:
        raise Failed(report.verdict)


def _summary(report: JournalReport) -> dict[str, object]:
    identity = report.identity
    return {
        "verdict": report.verdict,
        "cluster_id": identity.cluster.hex() if identity else None,
        "member": identity.replica if identity else None,
        "protocol": identity.protocol if identity else None,
        "incarnation": report.incarnation,
        "founding": _founding(report.founding),
        "state": _state(report),
        "snapshot": _snapshot(report),
        "first_op": report.first_op,
        "last_op": report.last_op,
        "batches": report.batches,
        "torn_bytes": report.torn_bytes,
        "segments": {segment.name: segment.bytes for segment in report.segments},
    }


def _founding(data: bytes | None) -> dict[str, object] | None:
    if data is None:
        return None
    record = FoundingState.decode(data)
    return {"complete": record.complete, "incarnations": list(record.vector)}


def _snapshot(report: JournalReport) -> dict[str, object] | None:
    snapshot = report.snapshot
    if snapshot is None:
        return None
    return {
        "op": snapshot.op,
        "view": snapshot.view,
        "bytes": snapshot.size,
        "digest": snapshot.digest.hex(),
        "sound": report.snapshot_sound,
    }


def _state(report: JournalReport) -> dict[str, object] | None:
    if report.state is None or report.identity is None:
        return None
    protocol = report.identity.protocol
    if protocol not in protocol_names():
        return {"bytes": report.state.hex()}
    try:
        state: DataclassInstance = make_codec(protocol_class(protocol)).decode(report.state)
    except CodecError as error:
        return {"undecodable": str(error)}
    return asdict(state)


def _entries(report: JournalReport) -> Iterator[dict[str, object]]:
    for op, encoded in report.entries():
        (entry,) = split_entries(encoded)
        shown: dict[str, object] = {
            "op": op,
            "view": entry.view,
            "kind": entry.kind.name.lower(),
            "session": entry.session,
            "request": entry.request,
            "stamp_ns": entry.stamp,
        }
        if entry.kind is Kind.COMMAND:
            shown |= _command(entry.body)
        yield shown


def _command(body: bytes) -> dict[str, object]:
    try:
        bodies = decode_list(body)
    except ValueDecodingError:
        return _one_command(body)
    return {"commands": [_one_command(each) for each in bodies]}


def _one_command(body: bytes) -> dict[str, object]:
    try:
        call = decode_command(body)
    except ValueDecodingError as error:
        return {"undecodable": str(error)}
    return {"command": call.name, "arguments": [_plain(argument) for argument in call.arguments]}


def _plain(value: object) -> object:
    """Bytes, and maps with keys that JSON lacks, as Python writes them."""
    try:
        json.dumps(value)
    except TypeError:
        return repr(value)
    return value


def _line(entry: dict[str, object]) -> str:
    start = "op {op} view {view} {kind}".format_map(entry)
    if entry["request"]:
        start += " session {session} request {request}".format_map(entry)
    commands = entry.get("commands")
    told = "; ".join(map(_told, commands)) if isinstance(commands, list) else _told(entry)
    return f"{start} {told}" if told else start


def _told(command: dict[str, object]) -> str:
    """One command with its arguments; nothing of an entry that has none."""
    arguments = command.get("arguments")
    if isinstance(arguments, list):
        return f"{command['command']}({', '.join(json.dumps(item, ensure_ascii=False) for item in arguments)})"
    return f"undecodable: {command['undecodable']}" if "undecodable" in command else ""


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {_shown(item)}" for name, item in value.items())
        case list():
            return " ".join(map(str, value))
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
