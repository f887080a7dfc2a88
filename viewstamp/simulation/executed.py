"""Which commands a body or some entries hold, for people: those that may be why two members differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from statemachine import ValueDecodingError, decode_command, decode_list
from statemachine.command import decode_body
from viewstamp.protocol import Kind, split_entries


def executed_between(entries: Mapping[int, bytes], agreed: int, last: int) -> str:
    """The commands of the encoded `entries` behind op `agreed`, up to op `last`, by name, the most frequent first."""
    names: Counter[str] = Counter()
    for op in range(agreed + 1, last + 1):
        for entry in split_entries(entries[op]):
            if entry.kind is Kind.COMMAND:
                names.update(_names(entry.body) or ["something malformed"])
    return f"since op {agreed}, where its replies were last found equal, it has executed {_told(names) or 'no command'}"


def called(body: bytes) -> str | None:
    """The command or query in a body, or the commands, by name likewise; None for what is neither."""
    return _told(Counter(_names(body))) or None


def _told(names: Counter[str]) -> str:
    return ", ".join(name if times == 1 else f"{name} ({times} times)" for name, times in names.most_common())


def _names(body: bytes) -> list[str]:
    try:
        name, *_ = decode_body(body)
        return [name] if isinstance(name, str) else [decode_command(each).name for each in decode_list(body)]
    except ValueDecodingError:
        return []
