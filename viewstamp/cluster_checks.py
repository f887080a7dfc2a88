"""What may be wrong with a cluster file, and how that is said: where, what was expected, what was found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any

MAXIMUM_NAME_CHARACTERS = 64
MAXIMUM_HOST_CHARACTERS = 253
_SHOWN_CHARACTERS = 60
_NAME_OF_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_LOOKS_LIKE_IPV4 = re.compile(r"[0-9.]+")
_HAS_A_PORT = re.compile(r"(\[.*\]|[^:]*):[0-9]+")
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


class ClusterError(ValueError):
    """A cluster does not hang together.

    `key` is the path of the value in a cluster file ("" for the whole), such as "limits.window" or
    "members[#2].port" (members are counted from 1, in the order of the file); `expected` and `found` are for
    people, as is `hint`, which may be empty.
    """

    def __init__(self, key: str, expected: str, found: str, hint: str = "") -> None:
        super().__init__(key, expected, found, hint)
        self.key = key
        self.expected = expected
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}expected {self.expected}, found {self.found}{hint}"


class ClusterFileError(ClusterError):
    """A cluster file is wrong. `source` is the file, with a line number where the text is not even TOML."""

    def __init__(self, source: str, key: str, expected: str, found: str, hint: str = "") -> None:
        super().__init__(key, expected, found, hint)
        self.args = (source, key, expected, found, hint)
        self.source = source

    def __str__(self) -> str:
        return f"{self.source}: {super().__str__()}"


class UnknownMemberError(ClusterError):
    """No member of the cluster has this id. `id` is the one asked for, `known` lists those there are."""

    def __init__(self, id: int, known: tuple[int, ...]) -> None:  # noqa: A002 - the name it has in the file
        super().__init__("id", f"the id of a member ({', '.join(map(str, known))})", describe(id))
        self.args = (id, known)
        self.id = id
        self.known = known


def describe(value: object) -> str:
    """A value of a TOML document in few words."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 64:  # Python refuses to print one of more than 4300 digits
            return f"a whole number of {value.bit_length()} bits"
        case Mapping():
            return "a table"
        case list():
            return f"an array of {len(value)}"
        case str():
            shown = repr(value)
        case _:
            shown = str(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 3] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the known word that was probably meant, or nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def syntax_error(source: str, text: str, error: ValueError) -> ClusterFileError:
    """Say file, line and column of what `tomllib` could not read."""
    place = _PLACE.search(str(error))
    message = _PLACE.sub("", str(error))
    if place is None:
        return ClusterFileError(source, "", "a TOML document", message)
    if place[1] is None:
        return ClusterFileError(f"{source}:{len(text.splitlines()) or 1}", "", "more of a TOML document", message)
    return ClusterFileError(f"{source}:{place[1]}", "", "a TOML document", f"at column {place[2]}: {message}")


def check_table(key: str, value: object) -> dict[str, Any]:
    """A table, as `tomllib` returns it."""
    if not isinstance(value, dict):
        raise ClusterError(key, "a table", describe(value))
    return value


def check_keys(key: str, table: Mapping[str, object], required: Iterable[str], optional: Iterable[str]) -> None:
    """Every key of the table is known, and none is missing."""
    prefix = f"{key}." if key else ""
    known = (*required, *optional)
    for name in table:
        if name not in known:
            missing = [other for other in known if other not in table]
            expected = f"one of the keys {', '.join(known)}"
            raise ClusterError(f"{prefix}{describe_key(name)}", expected, "an unknown key", nearest(name, missing))
    for name in required:
        if name not in table:
            raise ClusterError(f"{prefix}{name}", "a value", "nothing")


def describe_key(name: str) -> str:
    """A key as TOML would have it: bare if it can be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name) else describe(name)


def check_whole(key: str, value: object, lowest: int, highest: int) -> None:
    """A whole number from `lowest` to `highest`; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        expected = str(lowest) if lowest == highest else f"a whole number from {lowest} to {highest}"
        raise ClusterError(key, expected, describe(value))


def check_choice(key: str, value: object, known: Sequence[str]) -> None:
    """One of a few words."""
    if not isinstance(value, str):
        raise ClusterError(key, "text", describe(value))
    if value not in known:
        expected = f"one of {', '.join(map(repr, known))}" if len(known) > 1 else repr(known[0])
        raise ClusterError(key, expected, describe(value), nearest(value, known))


def check_name(key: str, value: object) -> None:
    """Text that can stand in a line of a log."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ClusterError(key, "a line of printable text", describe(value))
    if len(value) > MAXIMUM_NAME_CHARACTERS:
        raise ClusterError(key, f"at most {MAXIMUM_NAME_CHARACTERS} characters", str(len(value)))


def check_host(key: str, value: object, *, wildcard: bool) -> None:
    """A host name, or an IPv4 or IPv6 address without brackets; one like 0.0.0.0 only where `wildcard` is true."""
    expected = "a host name, or an IPv4 or IPv6 address without brackets"
    if not isinstance(value, str) or not 0 < len(value) <= MAXIMUM_HOST_CHARACTERS:
        raise ClusterError(key, expected, describe(value))
    try:
        address = ip_address(value)
    except ValueError:
        if _NAME_OF_HOST.fullmatch(value) and not _LOOKS_LIKE_IPV4.fullmatch(value) and ".." not in value:
            return
        hint = "the port has a key of its own" if _HAS_A_PORT.fullmatch(value) else ""
        raise ClusterError(key, expected, describe(value), hint) from None
    if address.is_multicast:
        raise ClusterError(key, "the address of one machine", f"the multicast address {value!r}")
    if address.is_unspecified and not wildcard:
        hint = "nobody can send there; to listen on all addresses, use bind_host"
        raise ClusterError(key, "an address that others can reach", describe(value), hint)
