"""Cluster files: who the members of a cluster are and what they must agree on before they talk.

A cluster file is TOML, the same on every member and client. Whatever two members could disagree on is part of
`Cluster.digest`, which every frame carries: members started with different files would count different quorums,
so they refuse each other instead.
"""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from hashlib import blake2b
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack, get_args

from viewstamp.cluster_checks import (
    ClusterError,
    ClusterFileError,
    UnknownMemberError,
    check_choice,
    check_host,
    check_keys,
    check_name,
    check_table,
    check_whole,
    describe,
    syntax_error,
)
from viewstamp.cluster_text import LOCAL_LIMITS, OWN_LIMITS, PROTOCOL_LIMITS, TIMEOUTS, cluster_toml, in_milliseconds
from viewstamp.protocol import MILLISECOND, Configuration, Limits, Timeouts
from viewstamp.registry import protocol_names

__all__ = ["Cluster", "ClusterError", "ClusterFileError", "ClusterOptions", "Member", "Storage", "UnknownMemberError"]

Storage = Literal["disk", "memory"]
"""Where members keep their data. In memory, one that restarts has lost it; when all have been down, all is lost."""
STORAGES: tuple[Storage, ...] = get_args(Storage)

FORMAT = 1
CLUSTER_ID_BYTES = 8
LOOPBACK_DATAGRAM_BYTES = 32_768
DIGEST_BYTES = 8
MAXIMUM_MEMBERS = 15
MAXIMUM_MEMBER_ID = 65_535
MAXIMUM_PORT = 65_535
MAXIMUM_TIMEOUT_MS = 600_000


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a cluster.

    `host` and `port` are advertised: where peers and clients send to. `bind_host` and `bind_port` are what the
    member's own socket binds to where that differs (a container, an address translation); None means the same.
    """

    id: int
    host: str
    port: int
    bind_host: str | None = None
    bind_port: int | None = None

    def __post_init__(self) -> None:
        check_whole("id", self.id, 1, MAXIMUM_MEMBER_ID)
        check_host("host", self.host, wildcard=False)
        check_whole("port", self.port, 1, MAXIMUM_PORT)
        if self.bind_host is not None:
            check_host("bind_host", self.bind_host, wildcard=True)
        if self.bind_port is not None:
            check_whole("bind_port", self.bind_port, 1, MAXIMUM_PORT)

    @property
    def address(self) -> tuple[str, int]:
        """Where others send to: (host, port)."""
        return self.host, self.port

    @property
    def bind_address(self) -> tuple[str, int]:
        """Where this member's own socket is bound: (host, port)."""
        return self.bind_host or self.host, self.bind_port or self.port


class ClusterOptions(TypedDict, total=False):
    """What `Cluster.make` takes by keyword; each has the default of the field of that name."""

    storage: Storage
    timeouts: Timeouts
    limits: Limits
    datagram_bytes: int
    max_sessions: int
    window: int
    max_command_bytes: int
    snapshot_entries: int
    snapshot_bytes: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """What all members of one cluster, and its clients, agree on.

    `cluster_id` is 8 random bytes that tell this cluster from any other. `members` are kept in ascending order of
    their ids. `storage` is where each keeps its data: in memory, one that restarts has lost it, and when all have been
    down all is lost. `datagram_bytes` bounds one UDP payload, `max_command_bytes` one encoded command. `max_sessions`
    client sessions are kept, each with at most `window` requests in flight. A replica takes a snapshot after
    `snapshot_entries` log entries or `snapshot_bytes` of them, less often where the state itself is larger. `digest` is
    8 bytes over all of it but what concerns one member only: the bind addresses, and how much log it holds.

    Raises:
      ClusterError: a value is out of its range, or two of them do not fit together.
    """

    name: str
    cluster_id: bytes
    protocol: str
    members: tuple[Member, ...]
    storage: Storage = "disk"
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    datagram_bytes: int = 1200
    max_sessions: int = 1024
    window: int = 4096
    max_command_bytes: int = 256 * 1024
    snapshot_entries: int = 16_384
    snapshot_bytes: int = 8 * 1024 * 1024
    digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if len(self.cluster_id) != CLUSTER_ID_BYTES:
            raise ClusterError("cluster_id", f"{CLUSTER_ID_BYTES} bytes", f"{len(self.cluster_id)} bytes")
        check_choice("protocol", self.protocol, protocol_names())
        check_choice("storage", self.storage, STORAGES)
        _check_members(self.members)
        _check_numbers(self)
        object.__setattr__(self, "members", tuple(sorted(self.members, key=lambda member: member.id)))
        object.__setattr__(self, "digest", _digest(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a cluster file.

        Raises:
          ClusterFileError: it cannot be read or is no UTF-8, and all that `parse` raises.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            trouble = error.strerror or type(error).__name__
            raise ClusterFileError(os.fspath(path), "", "a readable cluster file", trouble) from error
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            source = f"{os.fspath(path)}:{data.count(10, 0, error.start) + 1}"
            raise ClusterFileError(source, "", "UTF-8 text", f"byte 0x{data[error.start]:02x}") from error
        return cls.parse(text, os.fspath(path))

    @classmethod
    def parse(cls, text: str, source: str = "<text>") -> Self:
        """Read a cluster from the text of a cluster file; `source` is what errors call it.

        Raises:
          ClusterFileError: the text is not TOML, a key is missing or unknown, or a value is wrong.
        """
        try:
            document = tomllib.loads(text, parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise syntax_error(source, text, error) from error
        except (ValueError, RecursionError) as error:  # impossible dates, huge integers, bottomless nesting
            raise ClusterFileError(source, "", "a TOML document", str(error) or type(error).__name__) from error
        try:
            return cls._from_document(document)
        except ClusterError as error:
            raise ClusterFileError(source, error.key, error.expected, error.found, error.hint) from error

    @classmethod
    def _from_document(cls, document: Mapping[str, Any]) -> Self:
        required = ("format", "name", "cluster_id", "protocol", "members")
        check_keys("", document, required, ("storage", "timeouts", "limits"))
        check_whole("format", document["format"], FORMAT, FORMAT)
        check_name("name", document["name"])
        numbers = _parse_limits(document.get("limits", {}))
        return cls(
            name=document["name"],
            cluster_id=_parse_cluster_id(document["cluster_id"]),
            protocol=document["protocol"],
            storage=document.get("storage", "disk"),
            members=_parse_members(document["members"]),
            timeouts=_parse_timeouts(document.get("timeouts", {})),
            limits=Limits(**{key: value for key, value in numbers.items() if key in PROTOCOL_LIMITS}),
            datagram_bytes=numbers["datagram_bytes"],
            max_sessions=numbers["max_sessions"],
            window=numbers["window"],
            max_command_bytes=numbers["max_command_bytes"],
            snapshot_entries=numbers["snapshot_entries"],
            snapshot_bytes=numbers["snapshot_bytes"],
        )

    @classmethod
    def make(
        cls, name: str, protocol: str, addresses: Sequence[tuple[str, int]], **options: Unpack[ClusterOptions]
    ) -> Self:
        """A new cluster with a random id, whose members 1, 2, ... are at these (host, port) addresses.

        Made again, it is another one, and refuses the data of the first: keep what `to_toml` gives, and `load` that.

        Where all of them are on this machine, datagrams are large unless told otherwise: loopback carries them whole.
        """
        if all(host in ("localhost", "::1") or host.startswith("127.") for host, _ in addresses):
            options.setdefault("datagram_bytes", LOOPBACK_DATAGRAM_BYTES)
        members = tuple(Member(number, host, port) for number, (host, port) in enumerate(addresses, 1))
        return cls(name, secrets.token_bytes(CLUSTER_ID_BYTES), protocol, members, **options)

    @property
    def configuration(self) -> Configuration:
        """What the protocol is told; a new, equal object at each access."""
        return Configuration(tuple(member.id for member in self.members), self.timeouts, self.limits)

    def member(self, id: int) -> Member:  # noqa: A002 - callers write `member(id=1)`, as in the file
        """The member with this id.

        Raises:
          UnknownMemberError: there is none; the error lists those there are.
        """
        for member in self.members:
            if member.id == id:
                return member
        raise UnknownMemberError(id, tuple(member.id for member in self.members))

    def to_toml(self) -> str:
        """The text of a cluster file that `parse` reads back as an equal cluster, with every value explained."""
        return cluster_toml(self, FORMAT, protocol_names())


def _check_members(members: Sequence[Member]) -> None:
    if not 1 <= len(members) <= MAXIMUM_MEMBERS:
        raise ClusterError("members", f"1 to {MAXIMUM_MEMBERS} of them", str(len(members)))
    ids: dict[int, int] = {}
    addresses: dict[tuple[str, int], int] = {}
    for number, member in enumerate(members, 1):
        first = ids.setdefault(member.id, number)
        if first != number:
            raise ClusterError(f"members[#{number}].id", "an id of its own", f"{member.id}, as in members[#{first}]")
        address = _canonical_host(member.host), member.port
        first = addresses.setdefault(address, number)
        if first != number:
            found = f"{member.host} port {member.port}, as in members[#{first}]"
            raise ClusterError(f"members[#{number}]", "an address of its own", found)


def _check_limit(key: str, value: object) -> None:
    lowest, highest, _ = (OWN_LIMITS | PROTOCOL_LIMITS)[key]
    check_whole(f"limits.{key}", value, lowest, highest)


def _check_numbers(cluster: Cluster) -> None:
    for key in OWN_LIMITS:
        _check_limit(key, getattr(cluster, key))
    for key in PROTOCOL_LIMITS:
        _check_limit(key, getattr(cluster.limits, key))
    for key in TIMEOUTS:
        _check_timeout(key, getattr(cluster.timeouts, key))
    limits = cluster.limits
    # A page holds at least one entry however large: were a command larger than a page, messages would not be bounded.
    if limits.page_bytes < cluster.max_command_bytes:
        expected = f"at least max_command_bytes ({cluster.max_command_bytes})"
        raise ClusterError("limits.page_bytes", expected, str(limits.page_bytes))
    if limits.log_bytes < 4 * cluster.snapshot_bytes:
        # A primary takes no more commands when its log is full: the snapshots that shorten it must come long before.
        expected = f"at least 4 times snapshot_bytes ({cluster.snapshot_bytes})"
        raise ClusterError("limits.log_bytes", expected, str(limits.log_bytes))
    if limits.log_bytes < 2 * cluster.max_command_bytes:
        # What lies before a snapshot stays up to an entry beyond its share: one must not fill the log by itself.
        expected = f"at least twice max_command_bytes ({cluster.max_command_bytes})"
        raise ClusterError("limits.log_bytes", expected, str(limits.log_bytes))
    if limits.pipeline_bytes < limits.page_bytes:
        expected = f"at least page_bytes ({limits.page_bytes})"
        raise ClusterError("limits.pipeline_bytes", expected, str(limits.pipeline_bytes))


def _check_timeout(key: str, value_ns: int) -> None:
    lowest = 0 if key == "jitter" else 1
    if not lowest <= value_ns <= MAXIMUM_TIMEOUT_MS * MILLISECOND:
        least = "0" if key == "jitter" else "more than 0"
        expected = f"milliseconds, {least} and at most {MAXIMUM_TIMEOUT_MS}"
        raise ClusterError(f"timeouts.{key}_ms", expected, in_milliseconds(value_ns))


def _canonical_host(host: str) -> str:
    """One spelling for each host, so that `::1` and `0:0:0:0:0:0:0:1`, or two letter cases, are one address."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _digest(cluster: Cluster) -> bytes:
    agreed = [
        FORMAT,
        cluster.name,
        cluster.cluster_id.hex(),
        cluster.protocol,
        [[member.id, _canonical_host(member.host), member.port] for member in cluster.members],
        [[key, getattr(cluster.timeouts, key)] for key in sorted(TIMEOUTS)],
        [[key, getattr(cluster, key)] for key in sorted(OWN_LIMITS.keys() - LOCAL_LIMITS)],
        [[key, getattr(cluster.limits, key)] for key in sorted(PROTOCOL_LIMITS.keys() - LOCAL_LIMITS)],
    ]
    if cluster.storage != "disk":  # From before there was a choice, a cluster on disk keeps its digest.
        agreed.append(cluster.storage)
    return blake2b(json.dumps(agreed).encode(), digest_size=DIGEST_BYTES, person=b"viewstamp").digest()


def _parse_cluster_id(value: object) -> bytes:
    if isinstance(value, str) and len(value) == 2 * CLUSTER_ID_BYTES and set(value.lower()) <= set("0123456789abcdef"):
        return bytes.fromhex(value)
    raise ClusterError("cluster_id", f"{2 * CLUSTER_ID_BYTES} hexadecimal digits as text", describe(value))


def _parse_members(value: object) -> tuple[Member, ...]:
    if not isinstance(value, list):
        raise ClusterError("members", "one [[members]] table for each member", describe(value))
    members: list[Member] = []
    for number, item in enumerate(value, 1):
        key = f"members[#{number}]"
        table = check_table(key, item)
        check_keys(key, table, ("id", "host", "port"), ("bind_host", "bind_port"))
        try:
            members.append(Member(**table))
        except ClusterError as error:
            raise ClusterError(f"{key}.{error.key}", error.expected, error.found, error.hint) from error
    return tuple(members)


def _parse_limits(value: object) -> dict[str, int]:
    """Every limit by its key: the file's, or the default."""
    table = check_table("limits", value)
    check_keys("limits", table, (), (*OWN_LIMITS, *PROTOCOL_LIMITS))
    for key, item in table.items():
        _check_limit(key, item)
    own = {item.name: item.default for item in fields(Cluster) if item.name in OWN_LIMITS}
    return {**own, **asdict(Limits()), **table}


def _parse_timeouts(value: object) -> Timeouts:
    table = check_table("timeouts", value)
    check_keys("timeouts", table, (), [f"{name}_ms" for name in TIMEOUTS])
    chosen: dict[str, int] = {}
    for key, item in table.items():
        name = key.removesuffix("_ms")
        if isinstance(item, bool) or not isinstance(item, int | Decimal) or not Decimal(item).is_finite():
            raise ClusterError(f"timeouts.{key}", "a number of milliseconds", describe(item))
        if not -MAXIMUM_TIMEOUT_MS <= item <= MAXIMUM_TIMEOUT_MS:
            raise ClusterError(f"timeouts.{key}", f"milliseconds, at most {MAXIMUM_TIMEOUT_MS}", describe(item))
        chosen[name] = int(item * MILLISECOND)
        _check_timeout(name, chosen[name])
    heartbeat = chosen.get("heartbeat", Timeouts().heartbeat)
    suspect = chosen.get("suspect", Timeouts().suspect)
    if suspect < 2 * heartbeat:
        expected = f"at least twice heartbeat_ms ({in_milliseconds(heartbeat)})"
        hint = "else one lost heartbeat deposes a working primary"
        raise ClusterError("timeouts.suspect_ms", expected, in_milliseconds(suspect), hint)
    return Timeouts(**chosen)
