"""A trace for people: what each step changed, and nothing that stayed as it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from viewstamp.simulation.trace_reader import TraceRecord

_MILLISECOND = 1_000_000
_STANDING = ("status", "role", "view", "primary", "op", "commit", "durable", "base", "waiting")
_BLANK = {"op": 0, "commit": 0, "durable": 0, "base": 0, "waiting": None}
_ENDS = {
    "crash": "killed",
    "power_lost": "power lost",
    "disk_lost": "disk lost",
    "disk_crash": "crashed inside a disk operation",
    "storage_failed": "its disk failed: stopped",
    "snapshot_damaged": "its snapshot is damaged: stopped",
    "data_lost": "stopped: its data is lost",
    "superseded": "restarts with a newer incarnation",
}
_FATES = {
    "lost": "lost on the way",
    "cut": "cut off",
    "damaged": "damaged on the way",
    "duplicated": "arrives twice",
    "replayed": "arrives again, late",
    "unheard": "not heard: nobody runs there",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show. `messages` are type names in lower case; empty means changes of standing instead of messages.

    Times are nanoseconds, both included.
    """

    members: Collection[int]
    messages: Collection[str] = ()
    from_ns: int = 0
    to_ns: int | None = None

    def is_over(self, time_ns: int) -> bool:
        """Whether nothing at or after this time is wanted."""
        return self.to_ns is not None and time_ns > self.to_ns


@dataclass(frozen=True, slots=True)
class Line:
    """One line: when, whose column (None: all of them), what, and whether it is good news, bad, or neither."""

    time_ns: int
    member: int | None
    text: str
    style: str = ""

    @property
    def time(self) -> str:
        """In milliseconds."""
        return f"{self.time_ns // _MILLISECOND}.{self.time_ns % _MILLISECOND // 1000:03}"


@dataclass(slots=True)
class Lines:
    """Turns records, in order, into lines. Those not wanted are followed too, so that later lines tell changes only."""

    wanted: Wanted
    _standing: dict[int, TraceRecord] = field(default_factory=dict)
    _types: dict[int, str] = field(default_factory=dict)  # message id -> type

    def line(self, record: TraceRecord) -> Line | None:
        """The line for a record, or None where nothing wanted happened."""
        for message in record.get("sent", ()):
            self._types[message["id"]] = message["type"]
        shown = self._shown(record)
        wanted = self.wanted
        if shown is None or record["t"] < wanted.from_ns or wanted.is_over(record["t"]):
            return None
        return shown if shown.member is None or shown.member in wanted.members else None

    def _shown(self, record: TraceRecord) -> Line | None:
        event, time_ns, member = record["event"], record["t"], record.get("member")
        if event == "note":
            return Line(time_ns, None, record["text"], "yellow")
        if event == "end":
            failure = record["failure"]
            if failure is not None:
                return Line(time_ns, None, f"failed: {failure}", "bold red")
            return Line(time_ns, None, f"the end, after {record['events']} events; digest {record['digest']}", "dim")
        if event == "network":
            return self._network(record)
        if member is None:
            return None
        if event in _ENDS:
            self._standing.pop(member, None)
            return Line(time_ns, member, _ENDS[event], "bold red")
        return self._step(record, member)

    def _step(self, record: TraceRecord, member: int) -> Line | None:
        if record.get("unfinished"):
            return Line(record["t"], member, f"{_cause(record)}: never finished", "red")
        before = self._standing.get(member)
        changes = _changes(record, before)
        self._standing[member] = record
        if self.wanted.messages:
            received = self._chosen(message["type"] for message in record.get("received", ()))
            sent = [message for message in record.get("sent", ()) if message["type"].lower() in self.wanted.messages]
            if not received and not sent:
                return None
            changes += [f"{message['type']} to {_short(message['to'])}{_numbers(message)}" for message in sent]
            changes += [f"ignored: {reason}" for reason in record.get("ignored", ())]
        elif not changes and before is not None:
            return None
        style = "bold" if before is None or before["role"] != record["role"] else ""
        if record["status"] not in ("normal", "founding"):
            style = "yellow"
        return Line(
            record["t"], member, ": ".join(part for part in (_cause(record), ", ".join(changes)) if part), style
        )

    def _network(self, record: TraceRecord) -> Line | None:
        chosen = self._chosen(self._types.get(number, "?") for number in record["messages"])
        place = record["to"] if record["fate"] == "unheard" else record["from"]
        kind, _, number = place.partition("-")
        if not chosen or kind != "member":
            return None
        ends = f"from {_short(record['from'])}" if place == record["to"] else f"to {_short(record['to'])}"
        return Line(record["t"], int(number), f"{'+'.join(chosen)} {ends}: {_FATES[record['fate']]}", "red")

    def _chosen(self, types: Iterable[str]) -> list[str]:
        return [name for name in types if name.lower() in self.wanted.messages]


def _changes(record: TraceRecord, before: TraceRecord | None) -> list[str]:
    changes: list[str] = []
    for name in _STANDING:
        now = record.get(name)
        if now != (_BLANK.get(name) if before is None else before.get(name)):
            changes.append(_change(name, now))
    for write in record.get("writes", ()):
        changes += [f"log cut after {part['after']}" for part in write["records"] if part["kind"] == "truncate"]
    changes += [f"({reason})" for reason in record.get("why", ())]
    return changes


def _change(name: str, now: object) -> str:
    match name:
        case "status" | "role":
            return str(now)
        case "primary":
            return "no primary" if now is None else f"primary {now}"
        case "waiting":
            return f"waits: {now}" if now else "waits no longer"
        case _:
            return f"{name} {now}"


def _cause(record: TraceRecord) -> str:
    match record["event"]:
        case "receive":
            types = "+".join(dict.fromkeys(message["type"] for message in record.get("received", ())))
            if not types:
                reasons = ", ".join(record.get("dropped", ()))
                types = f"dropped ({reasons})" if reasons else "part of a message"
            return f"{types} from {_short(record['from'])}"
        case "written":
            return f"write {record['write']}"
        case "restored":
            return f"snapshot {record['snapshot']} loaded"
        case "file":
            return "snapshot's file"
        case "start" | "restart":
            return f"{record['event']}, life {record['life']}"
        case event:
            return str(event)


def _numbers(message: TraceRecord) -> str:
    """A message's small numbers, and its entries."""
    parts: list[str] = []
    for name, value in message["fields"].items():
        if isinstance(value, dict) and "entries" in value:
            parts += [f"ops {first}..{last} of {view}" for view, first, last in value["entries"]]
        elif isinstance(value, int):
            parts.append(f"{name} {str(value).lower()}")
    return f" ({' '.join(parts)})" if parts else ""


def _short(name: str) -> str:
    """A member by its number, a client by its name."""
    return name.removeprefix("member-")
