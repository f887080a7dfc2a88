"""What a replica and its shell hand each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from transport.interface import Address
from viewstamp.client import Completion
from viewstamp.journal import JournalRecord
from viewstamp.protocol import Transition


@dataclass(slots=True)
class Turn:
    """What a shell carries out: datagrams now; then the writes, durably, each reported by `Replica.written`.

    `writes` are (number, records): atomic each, in order. `more` asks for another turn at once.
    """

    datagrams: list[tuple[bytes, Address]] = field(default_factory=list)
    writes: list[tuple[int, tuple[JournalRecord, ...]]] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    more: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What a journal gave back at start."""

    incarnation: int
    founding: bytes | None
    state: bytes | None
    entries: bytes
