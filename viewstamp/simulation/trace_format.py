"""The words of a trace: its name and version, and how values of the code become values of JSON. See docs/trace.md."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING, Any

from viewstamp.cluster import Cluster
from viewstamp.protocol import Entry

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TRACE_FORMAT = "viewstamp-trace"
TRACE_VERSION = 1
LARGEST_NUMBER = (1 << 53) - 1
"""What every JSON reader takes for a whole number without loss; larger ones are written as strings of digits."""
LOG_TAIL = 5

_LIBRARIES = ("viewstamp", "cbor2", "trio")
_LONGEST_TEXT = 200


def whole(number: int) -> int | str:
    """A whole number for JSON."""
    return number if -LARGEST_NUMBER <= number <= LARGEST_NUMBER else str(number)


def plain(value: object) -> object:
    """A result, or what a field holds, for JSON: short, and without anything that differs between two processes."""
    match value:
        case None | bool():
            return value
        case float():
            return value if isfinite(value) else str(value)
        case int():
            return whole(value)
        case str():
            return value[:_LONGEST_TEXT]
        case bytes():
            return {"bytes": len(value)}
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return type(value).__name__


def runs(viewstamps: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Consecutive (view, op) pairs as [view, first op, last op] for each run of one view."""
    result: list[list[int]] = []
    for view, group in groupby(viewstamps, key=lambda viewstamp: viewstamp[0]):
        ops = [op for _, op in group]
        result.append([view, ops[0], ops[-1]])
    return result


def summary(value: DataclassInstance) -> dict[str, object]:
    """A message or durable state by its fields: entries as `runs`, bytes as their number."""
    return {field.name: _field(getattr(value, field.name)) for field in fields(value)}


def _field(value: object) -> object:
    if isinstance(value, tuple) and value and isinstance(value[0], Entry):
        return {"entries": runs((entry.view, entry.op) for entry in value)}
    if is_dataclass(value) and not isinstance(value, type):
        return summary(value)
    return plain(value)


def header(cluster: Cluster, seed: int) -> dict[str, Any]:
    """The first line: what made the run."""
    return {
        "format": TRACE_FORMAT,
        "version": TRACE_VERSION,
        "protocol": cluster.protocol,
        "seed": whole(seed),
        "members": list(cluster.configuration.members),
        "quorum": cluster.configuration.quorum,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "configuration": {
            "timeouts_ns": asdict(cluster.timeouts),
            "limits": asdict(cluster.limits),
            "datagram_bytes": cluster.datagram_bytes,
            "max_sessions": cluster.max_sessions,
            "window": cluster.window,
            "max_command_bytes": cluster.max_command_bytes,
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
