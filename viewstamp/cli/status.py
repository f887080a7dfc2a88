"""`viewstamp status`: how the members of a cluster see themselves and each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import click
import trio
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from statemachine import StateMachine
from viewstamp.cli.errors import Failed
from viewstamp.cli.options import Span, cluster_option, json_option
from viewstamp.cli.poll import Sighting, poll, primary_of
from viewstamp.cluster import Cluster
from viewstamp.protocol import SECOND
from viewstamp.shell.client import open_client
from viewstamp.shell.reminder import refusals
from viewstamp.status import SnapshotStatus, Status, Transfer

_MILLISECOND = 1_000_000
_PLAIN_WIDTH = 160
_WIDEST = 1_000


@click.command("status", short_help="Show every member, and why there is no primary.")
@cluster_option
@json_option
@click.option(
    "--timeout",
    "timeout_s",
    type=Span(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for members that do not answer.",
)
def status_command(cluster: Cluster, as_json: bool, timeout_s: float) -> None:
    """Show every member of a cluster: its role, how far its log is, and whom it has not heard.

    Lag is in operations, behind the newest commit-number seen. Last heard is how long ago any other member heard this
    one. Clock skew is against this machine's clock. Without a primary it says why there is none, and exits with 1. So
    it does where members gave different replies to the same commands: then the state machine does not compute the same
    everywhere.

    \b
    Example:
      viewstamp status --cluster my-cluster/cluster.toml
    """
    seen = trio.run(_ask, cluster, timeout_s)
    primary = primary_of(sighting.status for sighting in seen.values())
    reasons = [] if primary else _why_no_primary(cluster, seen)
    different = differences({member: sighting.status for member, sighting in seen.items()})
    if as_json:
        members = [_row(member.id, seen) for member in cluster.members]
        name = {"cluster": cluster.name, "protocol": cluster.protocol}
        answer = {**name, "primary": primary.member if primary else None, "members": members, "waiting": reasons}
        click.echo(json.dumps(answer | {"different": different}))
    else:
        _print_table(cluster, seen)
    if primary is None:
        raise Failed("; ".join(["no primary: " + "; ".join(reasons), *different]))
    if different:
        raise Failed("; ".join(different))


async def _ask(cluster: Cluster, timeout_s: float) -> dict[int, Sighting]:
    async with open_client(cluster, StateMachine) as client:
        return await poll(client, (member.id for member in cluster.members), timeout_s)


def _why_no_primary(cluster: Cluster, seen: Mapping[int, Sighting]) -> list[str]:
    reasons = [f"member {m}: {sighting.status.waiting}" for m, sighting in seen.items() if sighting.status.waiting]
    silent = [str(member.id) for member in cluster.members if member.id not in seen]
    if silent:
        reasons.append(f"no answer from {_named(silent)}")
    return reasons or ["the members have not agreed on one yet"]


def _named(members: list[str]) -> str:
    return f"member{'s' if len(members) > 1 else ''} {', '.join(members)}"


def differences(seen: Mapping[int, Status]) -> list[str]:
    """Which members have executed up to the same op, and did not give the same replies; a sentence for each op."""
    told: dict[int, dict[bytes, list[str]]] = {}
    for member, status in seen.items():
        told.setdefault(status.applied, {}).setdefault(status.digest, []).append(f"{member}")
    return [
        f"up to op {applied} replies differ ({'; '.join(_named(alike) for alike in groups.values())}): the state "
        "machine does not compute the same everywhere"
        for applied, groups in told.items()
        if len(groups) > 1
    ]


def _last_heard_ns(member: int, seen: Mapping[int, Sighting]) -> int | None:
    ages = [sighting.status.silence_ns.get(str(member)) for other, sighting in seen.items() if other != member]
    return min((age for age in ages if age is not None), default=None)


def _row(member: int, seen: Mapping[int, Sighting]) -> dict[str, object]:
    """A member for programs; times in milliseconds, sizes in bytes."""
    heard_ns = _last_heard_ns(member, seen)
    row: dict[str, object] = {
        "member": member,
        "reachable": member in seen,
        "last_heard_ms": None if heard_ns is None else round(heard_ns / _MILLISECOND, 1),
    }
    if member in seen:
        sighting = seen[member]
        status = sighting.status
        row |= {
            "role": status.role,
            "status": status.status,
            "view": status.view,
            "primary": status.primary or None,
            "op": status.op,
            "commit": status.commit,
            "applied": status.applied,
            "lag": _lag(status.applied, seen),
            "clock_skew_ms": round(sighting.clock_skew_ns / _MILLISECOND, 1),
            "round_trip_ms": round(sighting.round_trip_ns / _MILLISECOND, 1),
            "journal_bytes": status.journal_bytes,
            "log_from_op": status.base + 1,
            "snapshot": asdict(status.snapshot),
            "waiting": status.waiting,
            "digest": status.digest.hex(),
            "drops": dict(status.drops),
        }
    return row


def _lag(applied: int, seen: Mapping[int, Sighting]) -> int:
    return max(sighting.status.commit for sighting in seen.values()) - applied


_LONG_PAUSE_NS = 10 * _MILLISECOND
_LONG_AGO_NS = 10 * SECOND
_NUMBERS = ("view", "op", "commit", "applied", "lag")
_STANDING = ("role", "status", *_NUMBERS)
_SURROUNDINGS = ("last heard", "clock skew", "journal", "snapshot")
_TEXTS = ("member", "role", "status")


def _print_table(cluster: Cluster, seen: Mapping[int, Sighting]) -> None:
    console = Console()
    width = console.width if console.is_terminal else _PLAIN_WIDTH
    rows = [_cells(member.id, seen) for member in cluster.members]
    title = escape(f"{cluster.name} ({cluster.protocol})")
    tables = [_table(title, (*_STANDING, *_SURROUNDINGS), rows)]
    if _width_of(tables[0], console) > width:  # Squeezed, it would lose who is primary first.
        tables = [_table(title, _STANDING, rows, padding=0), _table(None, _SURROUNDINGS, rows, padding=0)]
    console = Console(width=max(width, *(_width_of(table, console) for table in tables)))
    for table in tables:
        console.print(table)
    for number, sighting in seen.items():
        if sighting.status.waiting:
            console.print(f"member {number}: {sighting.status.waiting}", markup=False, highlight=False)
        for line in (*_snapshot_lines(sighting.status.snapshot), *refusals(sighting.status)):
            console.print(f"member {number}: {line}", markup=False, highlight=False)


def _cells(member: int, seen: Mapping[int, Sighting]) -> dict[str, str]:
    """A member for people, by the names of the columns."""
    row = _row(member, seen)
    cells = {"member": str(member), "last heard": _ago(_last_heard_ns(member, seen))}
    if member not in seen:
        return cells | {"role": "?", "status": "no answer"}
    cells |= {name: str(row[name]) for name in _STANDING}
    status = seen[member].status
    return cells | {
        "clock skew": f"{row['clock_skew_ms']} ms",
        "journal": _size(status.journal_bytes),
        "snapshot": _snapshot(status.snapshot),
    }


def _table(title: str | None, columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, padding: int = 1) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, padding))
    for name in ("member", *columns):
        table.add_column(name, justify="left" if name in _TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row.get(name, "") for name in ("member", *columns)))
    return table


def _width_of(table: Table, console: Console) -> int:
    """How many characters it takes when nothing is cut off."""
    return Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum


def _snapshot(snapshot: SnapshotStatus) -> str:
    return f"{_size(snapshot.size)} at {snapshot.op}" if snapshot.op else ""


def _snapshot_lines(snapshot: SnapshotStatus) -> Iterator[str]:
    """What is under way, or went wrong."""
    if snapshot.taking:
        yield f"writes a snapshot up to op {snapshot.taking}"
    if snapshot.loading:
        yield f"loads the snapshot up to op {snapshot.loading}"
    if snapshot.receiving is not None:
        yield f"receives a snapshot from {_transfer(snapshot.receiving)}"
    for transfer in snapshot.sending:
        yield f"sends a snapshot to {_transfer(transfer)}"
    if snapshot.pause_ns >= _LONG_PAUSE_NS:
        yield f"taking its last snapshot held the loop for {snapshot.pause_ns / _MILLISECOND:.0f} ms at a time"
    if snapshot.failure:
        yield f"could not take a snapshot: {snapshot.failure}"


def _transfer(transfer: Transfer) -> str:
    share = 100 * transfer.done // max(1, transfer.size)
    return f"member {transfer.member}, up to op {transfer.op}: {share} % of {_size(transfer.size)}"


def _ago(time_ns: int | None) -> str:
    if time_ns is None:
        return ""
    return f"{time_ns / SECOND:.0f} s" if time_ns >= _LONG_AGO_NS else f"{time_ns / _MILLISECOND:.1f} ms"


def _size(size_bytes: int) -> str:
    amount, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
