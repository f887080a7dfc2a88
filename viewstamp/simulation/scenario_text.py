"""How messages and members look in a scenario's transcript: from the fields of the classes, for any protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from viewstamp.protocol import Core, Entry, Message, Snapshot, Transition

_LARGE = 1 << 32
_LEFT_OUT = ("wall", "stamp")


class Names:
    """Short names for large random numbers, such as nonces, in the order in which they appear: #1, #2, ..."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def of(self, number: int) -> str:
        """A small number is itself."""
        return str(number) if number < _LARGE else self._names.setdefault(number, f"#{len(self._names) + 1}")


def kind_of(message: Message) -> str:
    """A message's class in capitals, as the papers write it."""
    return type(message).__name__.upper()


def message_line(message: Message, names: Names) -> str:
    """A message on one line: its kind, and each field by name. Clocks are left out, and digests are short."""
    words = [kind_of(message)]
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name in _LEFT_OUT:
            continue
        if isinstance(value, bytes):
            words.append(f"{field.name} {value.hex()[:8]}")
        elif isinstance(value, bool) or not isinstance(value, int | tuple):
            words.append(f"{field.name} {value!r}")
        elif isinstance(value, int):
            words.append(f"{field.name} {names.of(value)}")
        elif all(isinstance(item, Entry) for item in value):
            words.append(f"[{log_words(value)}]")
        else:
            words.append(f"{field.name} {','.join(names.of(item) for item in value)}")
    return " ".join(words)


def log_words(entries: Iterable[Entry]) -> str:
    """Entries as `view.op:name`."""
    return " ".join(f"{entry.view}.{entry.op}:{entry_name(entry)}" for entry in entries)


def entry_name(entry: Entry) -> str:
    """The name that the scenario gave a request; the kind of an entry that no client asked for."""
    return entry.body.decode() or entry.kind.name.lower()


def snapshot_name(snapshot: Snapshot) -> str:
    """A snapshot by the place of the last operation that it holds."""
    return f"the snapshot at [{snapshot.view}.{snapshot.op}]"


def member_line(member: int, core: Core | None) -> str:
    """A member on one line: status, role, view, op, commit and the log, of which a snapshot may hold the beginning."""
    if core is None:
        return f"{member} down"
    standing = core.standing
    role = f"{standing.role}{'' if standing.leads or standing.role != 'primary' else ' (quiet)'}"
    entries = log_words(core.entry(op) for op in range(standing.base + 1, standing.op + 1))
    after = f" after {standing.base}" if standing.base else ""
    waiting = f" ({standing.waiting})" if standing.waiting else ""
    numbers = f"view {standing.view} op {standing.op} commit {standing.commit}"
    return f"{member} {standing.status} {role} {numbers} log{after} [{entries}]{waiting}"


def transition_line(member: int, transition: Transition) -> str:
    """Why a member changed its status, role or view."""
    return f"{member} is {transition.status} {transition.role} in view {transition.view}: {transition.reason}"
