"""The text of a cluster file: what each number in it means, and the file that `viewstamp init` writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

from viewstamp.protocol import MILLISECOND, Limits, Timeouts

if TYPE_CHECKING:
    from viewstamp.cluster import Cluster, Member


class Number(NamedTuple):
    """A whole number of a cluster file: its range, and what it means in the words of the generated file."""

    lowest: int
    highest: int
    about: str


TIMEOUTS = {
    "heartbeat": "between the heartbeats of an idle primary",
    "suspect": "silence after which a primary is suspected; at least twice heartbeat_ms",
    "jitter": "at most this is added to suspect_ms at random, so that members do not all act at once",
    "retry": "before an unanswered message is sent again",
}
OWN_LIMITS = {
    "datagram_bytes": Number(512, 65_000, "largest UDP payload sent; raise it on loopback or with jumbo frames only"),
    "max_command_bytes": Number(64, 1 << 20, "largest encoded command; the caller of a larger one gets an error"),
    "max_sessions": Number(1, 1_000_000, "client sessions kept; beyond it the least recently used one expires"),
    "snapshot_bytes": Number(1024, 1 << 27, "bytes of log between snapshots (more if the state is larger)"),
    "snapshot_entries": Number(1, 1 << 30, "log entries between snapshots (more if the state is larger)"),
    "window": Number(1, 1_000_000, "requests that one client session may have in flight"),
}
PROTOCOL_LIMITS = {
    # A log that is taken over whole is one batch of the journal, which holds 1 GiB at most.
    "log_bytes": Number(1 << 20, 1 << 29, "most bytes of log in memory; beyond it a primary takes no more commands"),
    "page_bytes": Number(1024, 8 << 20, "most bytes of log entries in one message; at least max_command_bytes"),
    "page_entries": Number(1, 1_000_000, "most log entries in one message"),
    "pipeline_bytes": Number(
        1024, 1 << 30, "most bytes that may be ordered but not yet committed; at least page_bytes"
    ),
    "pipeline_entries": Number(1, 1_000_000, "most entries that may be ordered but not yet committed"),
}
LOCAL_LIMITS = frozenset({"log_bytes", "snapshot_bytes", "snapshot_entries"})
"""What members need not agree on."""


def cluster_toml(cluster: Cluster, version: int, protocols: Iterable[str]) -> str:
    """The cluster as a file of format `version`, with every value explained; `protocols` are those there are."""
    return _TEMPLATE.format(
        format=version,
        name=json.dumps(cluster.name, ensure_ascii=False),
        cluster_id=cluster.cluster_id.hex(),
        protocol=cluster.protocol,
        protocols=" or ".join(protocols),
        storage=cluster.storage,
        members="\n".join(map(_member_toml, cluster.members)),
        timeouts="\n".join(_timeout_toml(cluster.timeouts)),
        limits="\n".join(_limits_toml(cluster)),
    )


def in_milliseconds(value_ns: int) -> str:
    """Nanoseconds as a decimal number of milliseconds, exactly."""
    sign, (whole, rest) = "-" if value_ns < 0 else "", divmod(abs(value_ns), MILLISECOND)
    return f"{sign}{whole}.{rest:06}".rstrip("0").rstrip(".")


def _member_toml(member: Member) -> str:
    lines = ["[[members]]", f"id = {member.id}", f'host = "{member.host}"', f"port = {member.port}"]
    if member.bind_host is not None:
        lines.append(f'bind_host = "{member.bind_host}"')
    if member.bind_port is not None:
        lines.append(f"bind_port = {member.bind_port}")
    return "\n".join(lines) + "\n"


def _timeout_toml(timeouts: Timeouts) -> list[str]:
    default = Timeouts()
    return [
        _explained(f"{key}_ms", in_milliseconds(getattr(timeouts, key)), in_milliseconds(getattr(default, key)), about)
        for key, about in TIMEOUTS.items()
    ]


def _limits_toml(cluster: Cluster) -> list[str]:
    default = Limits()
    own = {item.name: item.default for item in fields(cluster)}
    return [_explained(key, getattr(cluster, key), own[key], number.about) for key, number in OWN_LIMITS.items()] + [
        _explained(key, getattr(cluster.limits, key), getattr(default, key), number.about)
        for key, number in PROTOCOL_LIMITS.items()
    ]


def _explained(key: str, value: object, default: object, about: str) -> str:
    return f"# {about} (default {default})\n{key} = {value}"


_TEMPLATE = """\
# A Viewstamp cluster file. Every member and every client needs the same one: members whose files differ in anything
# but what concerns one of them alone (bind_host, bind_port, log_bytes, snapshot_bytes, snapshot_entries) refuse each
# other. Change it on all of them together, while the cluster is stopped; but never cluster_id, protocol, max_sessions
# or window, nor how many members there are or their ids: data written under one value is refused under another.

# The version of this file's format.
format = {format}

# For people: shown in logs and by `viewstamp status`.
name = {name}

# Drawn at random. Members and data of another cluster are told by it and refused; never reuse it for a new one.
cluster_id = "{cluster_id}"

# The protocol that orders commands: {protocols}. Data written under one is not read by another.
protocol = "{protocol}"

# Where members keep their data: disk, or memory, which is faster and keeps nothing: a member that restarts counts as
# having lost its disk (vsr: the others bring it back; raft: it cannot come back until all are started anew), and when
# all members have been down, all is lost and they begin again with nothing (default disk).
storage = "{storage}"

# The members. A cluster of 3 survives the loss of 1, of 5 the loss of 2.
#   id         1 to 65535, each its own; it names the member for ever
#   host       what the others and the clients send to: a name, an IPv4 or an IPv6 address
#   port       UDP, 1 to 65535
#   bind_host  optional, where the member itself listens if that is not host, such as "0.0.0.0" in a container
#   bind_port  optional, likewise, if that is not port

{members}
# All times are in milliseconds. A key that is left out has its default.
[timeouts]
{timeouts}

# A key that is left out has its default.
[limits]
{limits}
"""
