"""Reading a trace: whole, or as it grows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viewstamp.simulation.trace_format import TRACE_FORMAT, TRACE_VERSION

_LONGEST_HEADER_BYTES = 1 << 20

TraceRecord = dict[str, Any]
"""One line, as JSON has it: always with `n`, `t` and `event`; docs/trace.md has the rest."""


class TraceError(Exception):
    """This is no trace, or one that this version cannot read; the message says which, and where."""


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What made the run; `configuration` and `libraries` as in docs/trace.md."""

    version: int
    protocol: str
    seed: int
    members: tuple[int, ...]
    quorum: int
    python: str
    libraries: dict[str, str | None]
    configuration: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole trace. `cut` says that its last line was cut off, and left out."""

    header: TraceHeader
    records: tuple[TraceRecord, ...]
    cut: bool


class TraceParser:
    """Takes the bytes of a trace as they come. `header` is None until its line is complete."""

    def __init__(self) -> None:
        self.header: TraceHeader | None = None
        self.ended = False
        self._rest = b""
        self._lines = 0

    def feed(self, data: bytes) -> list[TraceRecord]:
        """The records that these bytes complete.

        Raises:
          TraceError: a line is none of a trace's, or the format is a later version's.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        records: list[TraceRecord] = []
        for line in lines:
            self._lines += 1
            if self.header is None:
                self.header = _header(line)
            else:
                records.append(self._record(line))
        if self.header is None and len(self._rest) > _LONGEST_HEADER_BYTES:
            raise TraceError("this is no trace: its first line does not end")
        return records

    def finish(self) -> bool:
        """There will be no more bytes. Whether the last line was cut off, which loses that line only.

        Raises:
          TraceError: there was not even a whole header.
        """
        if self.header is None:
            raise TraceError("this is no trace: " + ("its first line does not end" if self._rest else "it is empty"))
        return bool(self._rest)

    def _record(self, line: bytes) -> TraceRecord:
        record = _object(line)
        if record is None:
            raise TraceError(f"line {self._lines} is no JSON object")
        for name, kind in (("n", int), ("t", int), ("event", str)):
            if not isinstance(record.get(name), kind):
                raise TraceError(f"line {self._lines} is no record of a trace: it has no {name!r}")
        self.ended = self.ended or record["event"] == "end"
        return record


def read_trace(path: str | Path) -> Trace:
    """Read a file whole.

    Raises:
      TraceError: it is no trace, or a later version's.
      OSError: it cannot be read.
    """
    parser = TraceParser()
    records = parser.feed(Path(path).read_bytes())
    cut = parser.finish()
    if parser.header is None:
        raise TraceError("this is no trace: it has no header")
    return Trace(parser.header, tuple(records), cut)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _header(line: bytes) -> TraceHeader:
    found = _object(line)
    if found is None or found.get("format") != TRACE_FORMAT:
        raise TraceError(f"this is no trace: its first line does not say that its format is {TRACE_FORMAT!r}")
    version = found.get("version")
    if not isinstance(version, int) or version < 1:
        raise TraceError(f"this trace has no version: {version!r}")
    if version > TRACE_VERSION:
        raise TraceError(f"this trace has format version {version}; this program reads versions up to {TRACE_VERSION}")
    try:
        return TraceHeader(
            version,
            str(found["protocol"]),
            int(found["seed"]),
            tuple(int(member) for member in found["members"]),
            int(found["quorum"]),
            str(found["python"]),
            dict(found["libraries"]),
            dict(found["configuration"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"the header of this trace is damaged: {type(error).__name__} {error}") from error
